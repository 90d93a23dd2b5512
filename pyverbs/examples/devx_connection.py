# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A reliable queue pair made by firmware commands, connected to itself, and what it stands on."""
from typing import Dict

from devx_object import create
from mlx5_ifc import Value, answer_size, command
from port_address import PORT, gid_and_mac
from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5_enums import _MLX5DV_UAR_ALLOC_TYPE_NC, mlx5dv_obj_type
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5UAR
from pyverbs.providers.mlx5.mlx5dv_objects import Mlx5DvObj

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

BLOCK, CQE = 64, 64
LOG_BLOCKS, LOG_CQES = 4, 6
#: pm_state, rq_type, ts_format and mtu of a QP's context; an entry of a CQ that is the card's.
MIGRATED, NO_RECEIVE_QUEUE, DEFAULT_TIME, MTU_1024, INVALID = 3, 3, 1, 3, 0xf1


class Connection:
    """The QP, its CQ, its UAR and three umems: send queue, completions, doorbell records."""

    CQ_RECORD, QP_RECORD = 0, 64

    def __init__(self, ctx: Mlx5Context, pd: PD) -> None:
        write = ibv_access_flags.IBV_ACCESS_LOCAL_WRITE
        self.send_queue = Mlx5DevxUmem(ctx, BLOCK << LOG_BLOCKS, access=write)
        self.cqes = Mlx5DevxUmem(ctx, CQE << LOG_CQES, access=write)
        # Offsets into a umem are only allowed if it was told the page size.
        self.records = Mlx5DevxUmem(ctx, 4096, access=write, pgsz_bitmap=[4096])
        memoryview(self.cqes)[CQE - 1::CQE] = bytes([INVALID]) * (1 << LOG_CQES)
        self.uar = Mlx5UAR(ctx, _MLX5DV_UAR_ALLOC_TYPE_NC)
        shared = {'dbr_umem_valid': 1, 'dbr_umem_id': self.records.umem_id,
                  'uar_page': self.uar.page_id}
        self.cq, told = create(ctx, 'CREATE_CQ', {
            'cq_umem_valid': 1, 'cq_umem_id': self.cqes.umem_id, **{
                f'cq_context.{field}': value for field, value in {
                    **shared, 'log_cq_size': LOG_CQES, 'dbr_addr': self.CQ_RECORD,
                    'c_eqn_or_apu_element': ctx.devx_query_eqn(0)}.items()}})
        cqn = told['cqn']
        pdn = Mlx5DvObj(mlx5dv_obj_type.MLX5DV_OBJ_PD, pd=pd).dvpd.pdn
        self.qp, told = create(ctx, 'CREATE_QP', {
            'wq_umem_valid': 1, 'wq_umem_id': self.send_queue.umem_id, **{
                f'qpc.{field}': value for field, value in {
                    **shared, 'pd': pdn, 'pm_state': MIGRATED, 'log_sq_size': LOG_BLOCKS,
                    'ts_format': DEFAULT_TIME, 'cqn_snd': cqn, 'cqn_rcv': cqn,
                    'rq_type': NO_RECEIVE_QUEUE, 'dbr_addr': self.QP_RECORD}.items()}})
        self.number = told['qpn']
        self.connect(ctx)

    def modify(self, name: str, **values: Value) -> None:
        """A step of the QP's states; fields are those of its context."""
        box = command(name, {'qpn': self.number, **{f'qpc.{f}': v for f, v in values.items()}})
        self.qp.modify(box, answer_size(name))

    def connect(self, ctx: Mlx5Context) -> None:
        """Reset to init, to ready to receive, to ready to send: by LID, or by GID and MAC."""
        lid, path = ctx.query_port(PORT).lid, 'primary_address_path.'
        way: Dict[str, Value] = {path + 'rlid': lid}
        if not lid:
            gid, mac = gid_and_mac(ctx)
            way = {path + 'rgid_rip': gid, path + 'rmac_47_32': mac[:2], path + 'rmac_31_0':
                   mac[2:], path + 'hop_limit': 64, path + 'udp_sport': 0xc000}
        port: Dict[str, Value] = {path + 'vhca_port_num': PORT}
        self.modify('RST2INIT_QP', pm_state=MIGRATED, rre=1, rwe=1, **port)
        self.modify('INIT2RTR_QP', mtu=MTU_1024, log_msg_max=30, remote_qpn=self.number,
                    min_rnr_nak=12, **port, **way)
        self.modify('RTR2RTS_QP', retry_count=7, rnr_retry=7, **{path + 'ack_timeout': 14})

    def close(self) -> None:
        """What uses a thing goes first."""
        for obj in (self.qp, self.cq, self.uar, self.send_queue, self.cqes, self.records):
            obj.close()
