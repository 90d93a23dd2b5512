# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Queue pairs: CREATE_QP, the state machine, QUERY_QP, DESTROY_QP, and multicast attachment."""
from typing import TYPE_CHECKING

from .. import prm
from ..dma import DmaError
from ..firmware.dispatch import Command, command
from ..firmware.domains import check_counter
from ..firmware.eq import queue_event
from ..firmware.lag import check_affinity
from ..firmware.status import Status
from ..firmware.tables import declare
from ..firmware.vport import check_addresses
from ..memory.mkey import ANY_PD
from . import mmo, scheduling
from .dci_stream import reset_stream, streams_of
from .dp_ordering import FIELDS as ORDERING
from .dp_ordering import check_ordering
from .queue import (
    DCI,
    INIT,
    QP0,
    QP1,
    RC,
    REG_UMR,
    RST,
    RTR,
    RTS,
    SQD,
    SQER,
    STATES,
    UC,
    UD,
    XRC,
    Target,
    watch,
)
from .queue_buffer import QueueBuffer, doorbell_record, in_pages, in_umem, page_list
from .rings import ReceiveRing, SendRing

if TYPE_CHECKING:
    from ..card import Card

TRANSPORTS = {
    RC: 'RC', UC: 'UC', UD: 'UD', XRC: 'XRC', DCI: 'DCI', QP0: 'QP0', QP1: 'QP1', REG_UMR:
    'REG_UMR'}

#: rq_type of the context.
RQ_RING, RQ_SHARED, RQ_CROSS, RQ_NONE = 0, 1, 2, 3

#: offload_type: the send side is the rendezvous of an XRQ's.
OFFLOAD_RNDV = 1
#: send_dbr_mode: the doorbell record tells what is posted, or the doorbell does.
DBR_VALID, NO_DBR_EXT = 0, 1

#: Command: (states it leaves, state it enters, fields that it always takes).
TRANSITIONS: dict[str, tuple[tuple[int, ...], int, tuple[str, ...]]] = {
    'RST2INIT_QP': ((RST, ), INIT, ('pm_state', 'counter_set_id', 'q_key', 'rre', 'rwe', 'rae',
                                    'atomic_mode', 'deth_sqpn', 'primary_address_path.pkey_index',
                                    'primary_address_path.vhca_port_num', 'lag_tx_port_affinity')),
    'INIT2INIT_QP': ((INIT, ), INIT, ()),
    'INIT2RTR_QP': ((INIT, ), RTR, ('mtu', 'log_msg_max', 'remote_qpn', 'next_rcv_psn',
                                    'log_rra_max', 'min_rnr_nak', *ORDERING)),
    'RTR2RTS_QP': ((RTR, ), RTS, ('next_send_psn', 'retry_count', 'rnr_retry', 'log_sra_max',
                                  'log_ack_req_freq', 'primary_address_path.ack_timeout')),
    'RTS2RTS_QP': ((RTS, ), RTS, ()),
    'SQERR2RTS_QP': ((SQER, ), RTS, ()),
    'SQD_RTS_QP': ((SQD, ), RTS, ()), }
#: Bit of opt_param_mask: fields that it selects.
OPTIONAL = {
    1 << 1: ('rre', ),
    1 << 2: ('rae', 'atomic_mode'),
    1 << 3: ('rwe', ),
    1 << 4: ('primary_address_path.pkey_index', ),
    1 << 5: ('q_key', ),
    1 << 6: ('min_rnr_nak', ),
    1 << 8: ('log_sra_max', ),
    1 << 9: ('log_rra_max', ),
    1 << 10: ('pm_state', ),
    1 << 11: ('drain_sigerr', ),
    1 << 12: ('retry_count', ),
    1 << 13: ('rnr_retry', ),
    1 << 14: ('primary_address_path.ack_timeout', ),
    1 << 15: ('lag_tx_port_affinity', ),
    1 << 16: ('primary_address_path.vhca_port_num', ),
    1 << 25: ('counter_set_id', ), }
_ALTERNATE_PATH, _PRIMARY_PATH = 1 << 0, 1 << 7
#: All that opt_param_mask may name.
_OPTIONS = sum(OPTIONAL) | _ALTERNATE_PATH | _PRIMARY_PATH
#: Bits of opt_param_mask_95_32, and the commands that have it.
_DCI_STREAM, _QUEUE_GROUP, _UDP_SPORT = 1 << 0, 1 << 1, 1 << 2
_MORE_OPTIONS = ('INIT2INIT_QP', 'RTS2RTS_QP')
#: Where the rest of the context is in a command whose qpc_ext is set, in bytes.
_QPC_EXT = 0x110
#: Out-of-order placement of a transport.
_ORDERING_CAPABILITY = {
    RC: 'dp_ordering_ooo_all_rc', XRC: 'dp_ordering_ooo_all_xrc', DCI: 'dp_ordering_ooo_all_dc'}
#: Fields of the primary path that INIT2RTR leaves as they were.
_KEPT_PATH = ('pkey_index', 'vhca_port_num', 'ack_timeout')


class Qp(Target):
    """A queue pair: its context and its rings."""

    kind = declare('qp', 'qps', space='queue_numbers', destroy=('DESTROY_QP', 'qpn'))

    def __init__(self, card: 'Card', qpc: bytes) -> None:
        super().__init__(card)
        self.qpc = bytearray(qpc)
        self.buf: QueueBuffer | None = None
        self.multicast: set[bytes] = set()
        #: Memory to memory operations are enabled.
        self.mmo = False
        self.decode()

    def decode(self) -> None:
        """Read the context into attributes, after it was made or changed."""
        c = prm.view('qpc', self.qpc)
        path = c.sub('primary_address_path')
        self.st, self.uar = c['st'], c['uar_page']
        self.pd = c['pd'] if self.st != REG_UMR else ANY_PD
        self.rlky = bool(c['rlky'])
        self.remote_qpn = c['remote_qpn']
        self.mtu = 128 << c['mtu']
        self.max_message = 1 << c['log_msg_max']
        self.user_index = c['user_index']
        self.rre, self.rwe, self.rae = bool(c['rre']), bool(c['rwe']), bool(c['rae'])
        self.qkey, self.xrcd = c['q_key'], c['xrcd']
        self.retry_count, self.rnr_retry, self.min_rnr_nak = c['retry_count'], c['rnr_retry'], c[
            'min_rnr_nak']
        self.ack_timeout = path['ack_timeout']
        self.send_psn, self.recv_psn = c['next_send_psn'], c['next_rcv_psn']
        self.sl, self.rlid, self.grh = path['sl'], path['rlid'], bool(path['grh'])
        infiniband = self.card.link_layer == 'ib'
        self.peer_lid = self.rlid if infiniband else 0
        self.peer_flags = (self.sl << 24 if infiniband else 0) | self.remote_qpn
        self.udp_sport = path['udp_sport']
        self.force_loopback = bool(path['fl'])
        self.rgid, self.sgid_index, self.pkey_index = path['rgid_rip'], path[
            'src_addr_index'], path['pkey_index']
        self.port = path['vhca_port_num'] or 1
        self.block_lb_mc = bool(c['block_lb_mc'])
        self.offload_type = c['offload_type']
        self.cs_res, self.cs_req = c['cs_res'], c['cs_req']
        self.q_counter = c['counter_set_id']
        self.drain_sigerr = bool(c['drain_sigerr'])

    def signature_error(self) -> None:
        """Stop sending where the context asks for it, and tell the driver."""
        if self.drain_sigerr and self.state == RTS:
            self.enter(SQD)
            queue_event(self.card, self.number, 'SQ_DRAINED')

    def destroyed(self) -> None:
        """Leave multicast groups."""
        for gid in self.multicast:
            self.card.datapath.port.leave(gid, self)
        self.multicast.clear()
        super().destroyed()

    def failed(self) -> None:
        """Who waits for the last WQE of an SRQ is told; what is posted from now on is flushed."""
        if self.srq is not None and self.st != XRC:
            queue_event(self.card, self.number, 'SRQ_LAST_WQE')
        if self.rq is not None:
            watch(self)

    def store_psn(self) -> None:
        """Write the packet sequence numbers back to the context."""
        c = prm.view('qpc', self.qpc)
        c['next_send_psn'], c['next_rcv_psn'] = self.send_psn, self.recv_psn


# ---- commands

@command('CREATE_QP')
def create_qp(card: 'Card', cmd: Command) -> None:
    """Check the context against its PD, CQs, SRQ, UAR, buffer and doorbell record."""
    inp = cmd.inp
    c = inp.sub('qpc')
    st, rq_type = c['st'], c['rq_type']
    if st not in TRANSPORTS:
        raise Status('BAD_PARAM', 'service type')
    if c['rlky'] and cmd.uid:
        raise Status('BAD_PARAM', "the reserved key is the kernel's")
    _check_places(card, c, cmd.uid)
    at = inp.offset('qpc')
    qp = Qp(card, cmd.raw[at:at + c.size])
    if st == REG_UMR and cmd.uid:
        raise Status('BAD_PARAM', "a UMR QP is the kernel's")
    pd = card.pds.get(c['pd'], cmd.uid) if st != REG_UMR else None
    has_sq = not c['no_sq']
    has_rq = rq_type != RQ_NONE and st not in (XRC, REG_UMR, DCI)
    sq_log, rq_log, rq_stride = c['log_sq_size'], c['log_rq_size'], c['log_rq_stride'] + 4
    if sq_log > card.caps.get('log_max_qp_sz') or rq_log > card.caps.get('log_max_qp_sz'):
        raise Status('BAD_PARAM', 'queue size')
    if c['send_dbr_mode'] not in (DBR_VALID, *(
        (NO_DBR_EXT, ) if card.caps.page('general_2')['send_dbr_mode_no_dbr_ext'] else ())):
        raise Status('BAD_PARAM', 'send_dbr_mode')
    streams = streams_of(card, c, st == DCI)
    if rq_type == RQ_CROSS:
        raise Status('BAD_PARAM', 'cross-channel receive queue is not supported')
    qp.scq = card.cqs.get(c['cqn_snd'], cmd.uid) if has_sq else None
    qp.rcq = card.cqs.get(c['cqn_rcv'], cmd.uid) if has_rq else None
    xrcd = card.xrcds.get(c['xrcd'], cmd.uid) if st == XRC and not has_sq else None
    if has_rq and rq_type == RQ_SHARED:
        srq = card.srq_numbers.lookup(c['srqn_rmpn_xrqn'])
        if srq is None or (cmd.uid and srq.uid not in (cmd.uid, 0xffff)):
            raise Status('BAD_RES', 'no such srq')
        if srq.tag_list is not None and st != RC:
            raise Status('BAD_PARAM', 'tag matching is for RC')
        qp.srq = srq
    if c['offload_type'] and (c['offload_type'] != OFFLOAD_RNDV or has_sq or qp.srq is None or
                              qp.srq.tag_list is None or not qp.srq.tag_list.rendezvous):
        raise Status('BAD_PARAM', 'offload_type')
    if has_sq:
        card.uars.get(c['uar_page'], cmd.uid)
    rq_bytes = 1 << (rq_log + rq_stride) if has_rq and rq_type == RQ_RING else 0
    sq_bytes = 64 << sq_log if has_sq else 0
    umem = dbr_umem = None
    dbr = 0
    if rq_bytes or sq_bytes:
        dbr_umem = card.umems.get(c['dbr_umem_id'], cmd.uid) if c['dbr_umem_valid'] else None
        dbr = doorbell_record(dbr_umem, c['dbr_addr'])
        if inp['wq_umem_valid']:
            umem = card.umems.get(inp['wq_umem_id'], cmd.uid)
            qp.buf = in_umem(card, umem, inp['wq_umem_offset'], rq_bytes + sq_bytes, write=False)
        else:
            log_page = c['log_page_size'] + 12
            qp.buf = in_pages(card, page_list(cmd.raw, inp.offset('pas')), log_page,
                              c['page_offset'] << log_page >> 6, rq_bytes + sq_bytes)
        if rq_bytes:
            qp.rq = ReceiveRing(qp.buf, 0, rq_log, rq_stride, dbr, qp.pd,
                                segment=bool(c['wq_signature']))
        if sq_bytes:
            qp.sq = SendRing(qp, qp.buf, rq_bytes, sq_log, dbr, qp.scq, qp.user_index)
            qp.sq.streams = streams
            qp.sq.recordless = c['send_dbr_mode'] == NO_DBR_EXT
    cmd.out['qpn'] = card.qps.alloc(qp, cmd.uid, cost=qp.buf.cost if qp.buf else 0)
    qp.use(pd, qp.scq, qp.rcq, qp.srq, xrcd, umem, dbr_umem)


@command(*TRANSITIONS)
def modify_qp(card: 'Card', cmd: Command) -> None:
    """One step of the state machine, with the fields that it brings."""
    qp = card.qps.get(cmd.inp['qpn'], cmd.uid)
    leaves, enters, required = TRANSITIONS[cmd.name]
    if qp.state not in leaves:
        raise Status('BAD_RES_STATE', f'{cmd.name} in state {STATES[qp.state]}')
    new = cmd.inp.sub('qpc')
    mask = cmd.inp['opt_param_mask']
    if mask & ~_OPTIONS:
        raise Status('BAD_PARAM', 'opt_param_mask')
    if new['primary_address_path.vhca_port_num'] > card.caps.get('num_ports'):
        raise Status('BAD_PARAM', 'vhca_port_num')
    if enters == RTR and qp.st in (RC, UC, XRC, DCI) and not 1 <= new['mtu'] <= 5:
        raise Status('BAD_PARAM', 'mtu')
    more = cmd.inp['opt_param_mask_95_32'] if cmd.name in _MORE_OPTIONS and len(
        cmd.raw) >= _QPC_EXT else 0
    if more & _UDP_SPORT and (cmd.name != 'RTS2RTS_QP' or qp.st not in (RC, UC)):
        raise Status('BAD_PARAM', 'UDP source port is for RC and UC')
    groups = _queue_groups(card, cmd, qp) if more & _QUEUE_GROUP else None
    engine = mmo.asked_for(card, cmd, qp.st in (RC, DCI)) if more & mmo.ENABLE else None
    check_affinity(card, new['lag_tx_port_affinity'])
    if enters == RTR:
        check_ordering(card, new, _ORDERING_CAPABILITY.get(qp.st))
    qp.store_psn()
    old = prm.view('qpc', bytearray(qp.qpc))
    for path in required:
        old[path] = new[path]
    if cmd.name == 'INIT2RTR_QP' or mask & _PRIMARY_PATH:
        kept = {f: old[f'primary_address_path.{f}'] for f in _KEPT_PATH}
        old['primary_address_path'] = new['primary_address_path']
        for f, value in kept.items():
            old[f'primary_address_path.{f}'] = value
    if mask & _ALTERNATE_PATH:
        old['secondary_address_path'] = new['secondary_address_path']
    for bit, paths in OPTIONAL.items():
        if mask & bit:
            for path in paths:
                old[path] = new[path]
    if more & _UDP_SPORT:
        old['primary_address_path.udp_sport'] = new['primary_address_path.udp_sport']
    if new['rlky'] and not cmd.uid:
        old['rlky'] = 1
    _check_places(card, old, cmd.uid)
    if more & _DCI_STREAM:
        reset_stream(cmd, qp)
    qp.qpc[:] = old.buf
    if engine is not None:
        qp.mmo = engine
    if groups is not None:
        scheduling.join(qp, 'queue_group', groups[0])
        scheduling.join(qp, 'responder_group', groups[1])
    qp.decode()
    if qp.state != enters:
        qp.enter(enters)
    if cmd.name == 'RST2INIT_QP':
        card.datapath.started(qp)
    elif enters == RTS:
        card.datapath.resume(qp)


def _check_places(card: 'Card', c: prm.View, uid: int) -> None:
    """Refuse a context that names a place in another table that is not there."""
    for path in ('primary_address_path', 'secondary_address_path'):
        check_addresses(card, c[f'{path}.pkey_index'], c[f'{path}.src_addr_index'])
    check_counter(card, c['counter_set_id'], uid)


def _queue_groups(
        card: 'Card', cmd: Command,
        qp: Qp) -> tuple[scheduling.SchedulingElement | None, scheduling.SchedulingElement | None]:
    """The queue groups that a command wants the QP to belong to: of its requester and of its
    responder."""
    if not cmd.inp['qpc_ext'] or not card.caps.page('qos')['nic_qp_scheduling']:
        raise Status('BAD_PARAM', 'queue groups are in the extended context')
    more = prm.View('qpc_ext', cmd.raw, _QPC_EXT)
    requester, responder = more['qos_queue_group_id_requester'], more[
        'qos_queue_group_id_responder']
    if qp.st not in (RC, UC, UD) or (responder and qp.st != RC):
        raise Status('BAD_PARAM', 'queue group of that transport')
    return scheduling.group(card, requester, cmd.uid), scheduling.group(card, responder, cmd.uid)


@command('2ERR_QP')
def qp_2err(card: 'Card', cmd: Command) -> None:
    """Put a QP into the error state: everything outstanding is flushed."""
    card.qps.get(cmd.inp['qpn'], cmd.uid).fail()


@command('2RST_QP')
def qp_2rst(card: 'Card', cmd: Command) -> None:
    """To the reset state: everything outstanding is forgotten, and so are the counters."""
    qp = card.qps.get(cmd.inp['qpn'], cmd.uid)
    card.datapath.stopped(qp)
    qp.enter(RST)
    for ring in (qp.sq, qp.rq):
        if ring is not None:
            ring.reset()
    qp.mmo = False
    scheduling.join(qp, 'queue_group', None)
    scheduling.join(qp, 'responder_group', None)


@command('QUERY_QP', min_out=_QPC_EXT)
def query_qp(card: 'Card', cmd: Command) -> None:
    """Tell the context, with state and counters as they are now."""
    qp = card.qps.get(cmd.inp['qpn'], cmd.uid)
    qp.store_psn()
    at = cmd.out.offset('qpc')
    cmd.out.buf[at:at + len(qp.qpc)] = qp.qpc
    c = cmd.out.sub('qpc')
    c['state'] = qp.state
    if qp.sq is not None:
        try:
            qp.sq.look()
        except DmaError:
            pass
        c.set(hw_sq_wqebb_counter=qp.sq.consumer, sw_sq_wqebb_counter=qp.sq.producer)
    if qp.rq is not None:
        try:
            qp.rq.posted()
        except DmaError:
            pass
        c.set(hw_rq_counter=qp.rq.consumer, sw_rq_counter=qp.rq.producer)
    if cmd.inp['qpc_ext']:
        if cmd.out_len < _QPC_EXT + (prm.layout_bits('qpc_ext') >> 3):
            raise Status('BAD_OUTP_LEN', 'no room for the extended context')
        prm.View('qpc_ext', cmd.out.buf, _QPC_EXT).set(
            mmo=int(qp.mmo),
            qos_queue_group_id_requester=qp.queue_group.number if qp.queue_group else 0,
            qos_queue_group_id_responder=qp.responder_group.number if qp.responder_group else 0)


@command('DESTROY_QP')
def destroy_qp(card: 'Card', cmd: Command) -> None:
    """In any state; refused while it is attached to a multicast group."""
    qp = card.qps.free(cmd.inp['qpn'], cmd.uid)
    card.datapath.stopped(qp)


@command('ATTACH_TO_MCG')
def attach_to_mcg(card: 'Card', cmd: Command) -> None:
    """A datagram QP takes part in a multicast group; twice is once."""
    qp = card.qps.get(cmd.inp['qpn'], cmd.uid)
    gid = cmd.inp['multicast_gid']
    if qp.st != UD:
        raise Status('BAD_PARAM', 'multicast is for UD')
    if gid in qp.multicast:
        return
    if len(qp.multicast) >= 256:
        raise Status('EXCEED_LIM', 'multicast groups of one QP')
    qp.multicast.add(gid)
    qp.hold()
    card.datapath.port.groups.setdefault(gid, []).append(qp)


@command('DETACH_FROM_MCG')
def detach_from_mcg(card: 'Card', cmd: Command) -> None:
    """Leave a multicast group. Refused when the QP is not in it."""
    qp = card.qps.get(cmd.inp['qpn'], cmd.uid)
    gid = cmd.inp['multicast_gid']
    if gid not in qp.multicast:
        raise Status('BAD_RES', 'QP is not in the group')
    qp.multicast.remove(gid)
    qp.drop()
    card.datapath.port.leave(gid, qp)
