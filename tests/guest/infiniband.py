# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Two InfiniBand functions on one subnet: LIDs, partitions, and what the driver is told. Run in a
guest by tests/vm/test_vm_guests.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from guest.ports import DEVICES, port
from guest.server_and_client import PERFTEST, PERFTEST_PORT, between
from mlx5emu.vm import control
from patience import until
from pyverbs.addr import AHAttr
from pyverbs.cq import CQ
from pyverbs.device import Context
from pyverbs.libibverbs_enums import (
    ibv_access_flags,
    ibv_mtu,
    ibv_qp_type,
    ibv_wc_status,
    ibv_wr_opcode,
)
from pyverbs.mr import MR
from pyverbs.pd import PD
from pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyverbs.wr import SGE, RecvWR, SendWR

#: Indexes of the P_Key table: default, partition 1, partition 2, of which the second function is a
#: limited member.
EVERYONE, ONE, TWO = 0, 1, 2


def number(path: Path) -> int:
    """Return a number that sysfs prints in hexadecimal."""
    return int(path.read_text(), 16)


def until_reads(device: int, name: str, value: int) -> None:
    """Wait until the driver tells this of a port, in a file of sysfs."""
    until(lambda: number(port(DEVICES[device]) / name) == value, f'{name} is {value:#x}')


class Side:
    """A device with a queue pair and a page of memory."""

    def __init__(self, device: str, pkey_index: int) -> None:
        self.ctx, self.pkey_index = Context(name=device), pkey_index
        self.pd, self.cq = PD(self.ctx), CQ(self.ctx, 16)
        self.mr = MR(self.pd, 4096, ibv_access_flags.IBV_ACCESS_LOCAL_WRITE)
        init = QPInitAttr(qp_type=ibv_qp_type.IBV_QPT_RC, scq=self.cq, rcq=self.cq, cap=QPCap(
            4, 4, 1, 1))
        self.qp = QP(self.pd, init)
        self.lid = self.ctx.query_port(1).lid

    def connect(self, other: Side) -> None:
        """To the state that sends, by LID."""
        attr = QPAttr(port_num=1)
        attr.pkey_index = self.pkey_index
        attr.qp_access_flags = ibv_access_flags.IBV_ACCESS_LOCAL_WRITE
        self.qp.to_init(attr)
        attr.path_mtu, attr.dest_qp_num = ibv_mtu.IBV_MTU_1024, other.qp.qp_num
        attr.ah_attr = AHAttr(dlid=other.lid, port_num=1)
        attr.timeout, attr.retry_cnt, attr.rnr_retry = 8, 2, 2
        self.qp.to_rts(attr)

    def sge(self) -> SGE:
        """The memory."""
        return SGE(self.mr.buf, 16, self.mr.lkey)

    def completion(self) -> int:
        """Wait for a completion; return its status."""
        found: list[int] = []

        def poll() -> bool:
            found.extend(wc.status for wc in self.cq.poll(1)[1])
            return bool(found)
        until(poll, 'a completion')
        return found[0]

    def violations(self) -> int:
        """Packets that the port dropped for their P_Key, as the verbs tell."""
        counted: int = self.ctx.query_port(1).bad_pkey_cntr
        return counted


def send(mine: int, other: int) -> tuple[int, bool, list[int]]:
    """Send from the first function to the second, each with a P_Key of its table; return the
    status, whether the data came, and how many packets each port dropped."""
    a, b = Side(DEVICES[0], mine), Side(DEVICES[1], other)
    before = [a.violations(), b.violations()]
    for x, y in ((a, b), (b, a)):
        x.connect(y)
    a.mr.write('across the wire.', 16)
    b.qp.post_recv(RecvWR(num_sge=1, sg=[b.sge()]))
    a.qp.post_send(SendWR(opcode=ibv_wr_opcode.IBV_WR_SEND, num_sge=1, sg=[a.sge()]))
    status = a.completion()
    came = status == ibv_wc_status.IBV_WC_SUCCESS and b.completion() == ibv_wc_status.IBV_WC_SUCCESS
    return status, came and b.mr.read(16, 0) == b'across the wire.', [
        x.violations() - n for x, n in zip((a, b), before, strict=True)]


def test_lids() -> None:
    """Each port has a LID of its own, and knows the manager's."""
    assert [number(port(d) / 'lid') for d in DEVICES] == [1, 2]
    assert [number(port(d) / 'sm_lid') for d in DEVICES] == [1, 1]
    assert ['ACTIVE' in (port(d) / 'state').read_text() for d in DEVICES] == [True, True]


def test_tables() -> None:
    """Several P_Keys, in the order that the manager gave."""
    assert [[number(port(d) / f'pkeys/{k}') for k in range(4)] for d in DEVICES] == [[
        0xffff, 0x8001, 0x8002, 0], [0xffff, 0x8001, 2, 0]]


@pytest.mark.parametrize('index', [EVERYONE, ONE, TWO])
def test_partition(index: int) -> None:
    """Traffic between members of a partition, whichever it is."""
    assert send(index, index) == (ibv_wc_status.IBV_WC_SUCCESS, True, [0, 0])


@pytest.mark.parametrize(('mine', 'other'), [(ONE, EVERYONE), (EVERYONE, ONE), (ONE, TWO)])
def test_wrong_partition(mine: int, other: int) -> None:
    """Packets with another P_Key are dropped and counted by the port that gets them, and the
    sender's retries run out."""
    assert send(mine, other) == (ibv_wc_status.IBV_WC_RETRY_EXC_ERR, False, [0, 3])


@pytest.mark.parametrize('kind', ['RC', 'UD', 'UC'])
def test_perftest_in_a_partition(kind: str) -> None:
    """perftest by LID, with a P_Key that is not the default."""
    words = [
        str(PERFTEST / 'ib_send_bw'), '-c', kind, '-n', '10', '-s', '512', '-F', '-p',
        str(PERFTEST_PORT), '--pkey_index',
        str(ONE)]
    said = between([*words, '-d', DEVICES[0]], [*words, '-d', DEVICES[1], 'localhost'],
                   PERFTEST_PORT)
    assert [line.split()[:2] for line in said.splitlines() if line.split()[:1] == ['512']] == [[
        '512', '10']]


def test_another_table() -> None:
    """The manager changes a port's table: the driver hears of it, and traffic goes by the new
    one."""
    try:
        control.call('subnet', function=1, pkeys=[0xffff, 0x8005])
        until_reads(1, 'pkeys/1', 0x8005)
        assert send(ONE, ONE)[0] == ibv_wc_status.IBV_WC_RETRY_EXC_ERR
        control.call('subnet', function=0, pkeys=[0xffff, 0x8005])
        until_reads(0, 'pkeys/1', 0x8005)
        assert send(ONE, ONE)[:2] == (ibv_wc_status.IBV_WC_SUCCESS, True)
    finally:
        for k, third in enumerate((0x8002, 2)):
            control.call('subnet', function=k, pkeys=[0xffff, 0x8001, third])
            until_reads(k, 'pkeys/1', 0x8001)


def test_another_lid() -> None:
    """The manager gives a port another LID: the driver hears of it, and packets find the port
    there."""
    try:
        control.call('subnet', function=1, lid=0x123)
        until_reads(1, 'lid', 0x123)
        assert send(EVERYONE, EVERYONE) == (ibv_wc_status.IBV_WC_SUCCESS, True, [0, 0])
    finally:
        control.call('subnet', function=1, lid=2)
        until_reads(1, 'lid', 2)
