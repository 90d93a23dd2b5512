# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The driver's side of a virtqueue."""
import struct
from typing import Any

from emulator.driver.ethernet import EthernetBench
from emulator.driver.guest import PAGE, connected
from mlx5emu import prm
from mlx5emu.bus.pci import Function
from mlx5emu.firmware import caps
from mlx5emu.firmware.flow_namespace import NIC_RX
from mlx5emu.steering import flow

SIZE = 8
INIT, READY, SUSPENDED, ERROR = 0, 1, 2, 3
NEXT, WRITE = 1, 2


class Virtqueue:
    """The driver's side of a split virtqueue of eight entries."""

    def __init__(self, b: EthernetBench, index: int, **changes: Any) -> None:
        self.b, self.g, self.index = b, b.g, index
        g = b.g
        self.mem = g.alloc(2 * PAGE)
        self.desc, self.avail, self.used = self.mem, self.mem + 0x100, self.mem + 0x200
        self.events, self.firmware = connected(g)
        self.obj = prm.new('virtio_net_q_object')
        umem = g.cmd('CREATE_UMEM', struct.pack('>Q',
                                                g.alloc(PAGE) | 3), **{'umem.num_of_mtt':
                                                                       1})['umem_id']
        fields = {
            'virtio_version_1_0': 1, 'event_mode': 1, 'queue_index': index, 'event_qpn_or_msix':
            self.firmware.number, 'queue_size': SIZE, 'desc_addr': self.desc, 'available_addr':
            self.avail, 'used_addr': self.used, 'pd': g.pd, 'virtio_q_mkey': g.mkey(
                self.mem, 2 * PAGE), 'doorbell_stride_index': 3}
        for k in (1, 2, 3):
            fields |= {f'umem_{k}_id': umem, f'umem_{k}_size': 64 * SIZE}
        for k, v in (fields | {
                k: v for k, v in changes.items()
                if k not in ('tisn_or_qpn', 'queue_feature_bit_mask_2_0')}).items():
            self.obj[f'virtio_q_context.{k}'] = v
        self.obj['tisn_or_qpn'] = changes.get('tisn_or_qpn', g.cmd('CREATE_TIS')['tisn'])
        self.obj['queue_feature_bit_mask_2_0'] = changes.get('queue_feature_bit_mask_2_0', 0)

    def create(self) -> str:
        """Status of CREATE_GENERAL_OBJECT."""
        status = self.g.fails('CREATE_GENERAL_OBJECT', bytes(self.obj.buf), obj_type=0xd)
        if status == 'OK':
            self.number = max(o.number for o in self.g.card.general_objects)
        return status

    def modify(self, state: int, select: int = 1) -> str:
        """Status of a change of state."""
        self.obj.set(modify_field_select=select, state=state)
        return self.g.fails('MODIFY_GENERAL_OBJECT', bytes(self.obj.buf), obj_type=0xd,
                            obj_id=self.number)

    def shown(self) -> tuple[int, int, int]:
        """State and both indices of a query."""
        out = self.g.cmd('QUERY_GENERAL_OBJECT', obj_type=0xd, obj_id=self.number,
                         out_len=16 + len(self.obj.buf))
        view = prm.View('virtio_net_q_object', out.buf, 16)
        return view['state'], view['hw_available_index'], view['hw_used_index']

    def describe(self, k: int, addr: int, n: int, flags: int = 0, following: int = 0) -> None:
        """Write a descriptor."""
        self.g.write(self.desc + 16 * k, struct.pack('<QIHH', addr, n, flags, following))

    def offer(self, *heads: int, count: int | None = None) -> None:
        """Make chains available, the first ones of the ring."""
        for k, head in enumerate(heads):
            self.g.write(self.avail + 4 + 2 * k, struct.pack('<H', head))
        self.g.write(self.avail + 2, struct.pack('<H', len(heads) if count is None else count))

    def taken(self) -> tuple[int, list[tuple[int, int]]]:
        """The used index and its entries."""
        n = struct.unpack('<H', self.g.read(self.used + 2, 2))[0]
        return n, [struct.unpack('<II', self.g.read(self.used + 4 + 8 * k, 8)) for k in range(n)]

    def kick(self, function: Function, index: int | None = None, page: int = 3) -> None:
        """Write the doorbell."""
        function.write(0, caps.VIRTIO_START + page * PAGE,
                       struct.pack('<H', self.index if index is None else index))


def everything_to(b: EthernetBench, queue: Virtqueue) -> int:
    """A root rule that sends all frames to a table of one virtqueue; the TIR."""
    rqt = b.g.cmd(
        'CREATE_RQT', struct.pack('>I', queue.number), **{
            'rqt_context.rqt_max_size': 1, 'rqt_context.rqt_actual_size': 1,
            'rqt_context.list_q_type': 1})['rqtn']
    tir = b.g.cmd('CREATE_TIR', **{
        'ctx.disp_type': 1, 'ctx.indirect_table': rqt, 'ctx.self_lb_block': 3})['tirn']
    t = b.table(NIC_RX)
    b.entry(t, b.group(t, enable=0), 0, flow.FORWARD, (flow.TO_TIR, tir))
    return tir
