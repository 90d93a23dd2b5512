# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A function on Ethernet: a raw send queue, flow tables, and receive queues behind TIRs."""
import struct
from typing import Any

from emulator.driver.guest import PAGE, Guest, GuestCq, sge
from mlx5emu import prm
from mlx5emu.bus.bar0 import doorbell
from mlx5emu.firmware.flow_namespace import NIC_RX
from mlx5emu.prm.wqe import CTRL, DATA, Op
from mlx5emu.steering import flow

RESET, READY = 0, 1


class EthernetBench:
    """A function on Ethernet with a raw send queue and receive queues behind TIRs."""

    def __init__(self, index: int = 0) -> None:
        self.g = Guest(link_layer='eth', index=index)
        self.card = self.g.card
        self.buf = self.g.alloc(16 * PAGE)
        self.key = self.g.mkey(self.buf, 16 * PAGE)
        self.tables: dict[int, int] = {}
        self.domain = self.g.cmd('ALLOC_TRANSPORT_DOMAIN')['transport_domain']
        tis = self.g.cmd('CREATE_TIS', **{'ctx.transport_domain': self.domain})['tisn']
        self.scq = GuestCq(self.g)
        self.sq_buf, self.sq_dbr, self.posted = self.g.alloc(PAGE), self.g.alloc(8, 64), 0
        fields = {
            'cqn': self.scq.number, 'wq.wq_type': 1, 'wq.pd': self.g.pd, 'wq.uar_page': self.g.uar,
            'wq.dbr_addr': self.sq_dbr, 'wq.log_wq_stride': 6, 'wq.log_wq_sz': 6, 'tis_lst_sz': 1,
            'tis_num_0': tis}
        self.sq = self.g.cmd('CREATE_SQ', struct.pack('>Q', self.sq_buf), **{
            f'ctx.{k}': v for k, v in fields.items()})['sqn']
        self.g.cmd('MODIFY_SQ', sqn=self.sq, sq_state=RESET, **{'ctx.state': READY})

    def send(self, frame: bytes, op: int = Op.SEND, flags: int = 0, mss: int = 0,
             head: int = 0) -> None:
        """Post a frame in one data segment (behind ``head`` inline bytes) and ring."""
        inline = frame[:head]
        eth = struct.pack('>4xBxHIH', flags, mss, 0, head) + inline
        eth = eth.ljust(max(16, -(-len(eth) // 16) * 16), b'\0')
        self.g.write(self.buf, frame[head:])
        body = eth + sge(self.buf, len(frame) - head, self.key)
        wqe = CTRL.pack(self.posted << 8 | op, self.sq << 8 | (1 + len(body) // 16), 8, 0) + body
        for k in range(0, len(wqe), 16):
            self.g.write(self.sq_buf + (self.posted * 64 + k) % PAGE, wqe[k:k + 16])
        self.posted += -(-len(wqe) // 64)
        self.g.write(self.sq_dbr + 4, self.posted.to_bytes(4, 'big'))
        doorbell(self.card, 0x800, self.g.uar, wqe[:8])

    def table(self, kind: int = NIC_RX, root: bool = True, **context: int) -> int:
        """A table of 16 entries."""
        t = self.g.cmd(
            'CREATE_FLOW_TABLE', table_type=kind, **{
                f'flow_table_context.{k}': v
                for k, v in {'log_size': 4, 'level': 10, **context}.items()})['table_id']
        self.tables[t] = kind
        if root:
            self.g.cmd('SET_FLOW_TABLE_ROOT', table_type=kind, table_id=t)
        return t

    def group(self, t: int, start: int = 0, end: int = 15, enable: int = 1, **criteria: Any) -> int:
        """A range of a table."""
        return self.g.cmd('CREATE_FLOW_GROUP', table_type=self.tables[t], table_id=t,
                          start_flow_index=start, end_flow_index=end, match_criteria_enable=enable,
                          **{f'match_criteria.{k}': v for k, v in criteria.items()})['group_id']

    def entry(self, t: int, g: int, index: int, action: int, *destinations: tuple[int, int],
              counter: int = 0, match: dict[str, Any] | None = None, **context: int) -> None:
        """A rule."""
        tail = b''.join(bytes([k]) + n.to_bytes(3, 'big') + bytes(4) for k, n in destinations)
        tail += counter.to_bytes(4, 'big') + bytes(4) if counter else b''
        fields = {
            'group_id': g, 'action': action, 'destination_list_size': len(destinations),
            'flow_counter_list_size': int(bool(counter)), **context, **{
                f'match_value.{k}': v for k, v in (match or {}).items()}}
        self.g.cmd('SET_FLOW_TABLE_ENTRY', tail, table_type=self.tables[t], table_id=t,
                   flow_index=index, **{f'flow_context.{k}': v for k, v in fields.items()})

    def all_to(self, receiver: 'Receiver', **context: int) -> None:
        """One root rule that takes everything."""
        t = self.table()
        self.entry(t, self.group(t, enable=0), 0, flow.FORWARD, (flow.TO_TIR, receiver.tir),
                   **context)

    def count(self, counter: int) -> tuple[int, int]:
        """(packets, octets) of a flow counter."""
        out = self.g.cmd('QUERY_FLOW_COUNTER', flow_counter_id=counter, out_len=32)
        return out['flow_statistics[0].packets'], out['flow_statistics[0].octets']


class Receiver:
    """A receive queue with eight buffers of 2 KiB, and a TIR."""

    def __init__(self, b: EthernetBench, size: int = 2048, post: int = 8, domain: int = 0,
                 block: int = 0,
                 **context: int) -> None:
        self.b, self.cq = b, GuestCq(b.g)
        self.buf, self.size = b.g.alloc(8 * 2048), size
        self.key = b.g.mkey(self.buf, 8 * 2048)
        ring, dbr = b.g.alloc(PAGE), b.g.alloc(8, 64)
        fields = {
            'cqn': self.cq.number, 'wq.wq_type': 1, 'wq.pd': b.g.pd, 'wq.log_wq_stride': 4,
            'wq.log_wq_sz': 3, 'wq.dbr_addr': dbr, 'user_index': 0x55, 'vsd': 1, **context}
        self.number = b.g.cmd('CREATE_RQ', struct.pack('>Q', ring), **{
            f'ctx.{k}': v for k, v in fields.items()})['rqn']
        for k in range(post):
            b.g.write(ring + 16 * k, DATA.pack(size, self.key, self.buf + 2048 * k))
        b.g.write(dbr, post.to_bytes(4, 'big'))
        b.g.cmd('MODIFY_RQ', rqn=self.number, rq_state=RESET, **{'ctx.state': READY})
        self.tir = b.g.cmd(
            'CREATE_TIR', **{
                'ctx.inline_rqn': self.number, 'ctx.transport_domain': domain, 'ctx.self_lb_block':
                block})['tirn']

    def frames(self) -> list[tuple[prm.View, bytes]]:
        """CQEs and frames that came."""
        return [(c, self.b.g.read(self.buf + 2048 * c['wqe_counter'], c['byte_cnt']))
                for c in self.cq.poll()]
