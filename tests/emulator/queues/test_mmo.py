# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Memory to memory operations: who may, what is copied, what is refused."""
import functools
import struct

import pytest
from emulator.driver.commands import CommandFailed
from emulator.driver.guest import DCI, PAGE, RC, UC, Guest, GuestQp, sge
from mlx5emu import prm
from mlx5emu.prm.wqe import Op, Syndrome
from mlx5emu.queues.queue import RTS

ENGINE = {'cap_overrides': ('general.dma_mmo_qp=1', 'general.log_dma_mmo_max_size=12')}


GUEST = functools.partial(Guest, **ENGINE)


def enable(q: GuestQp, mmo: int = 1, ext: int = 1, command: str = 'INIT2INIT_QP') -> None:
    """The command that libmlx5 sends after a QP came to INIT."""
    more = prm.new('qpc_ext')
    more['mmo'] = mmo
    q.g.cmd(command, bytes(more.buf), qpn=q.number, qpc_ext=ext, opt_param_mask_95_32=1 << 3)


class Copier:
    """A queue with the engine, two buffers and one for results."""

    def __init__(self, g: Guest, st: int = RC, on: bool = True) -> None:
        self.g, self.q = g, GuestQp(g, st)
        self.q.to_init()
        if on:
            enable(self.q)
        self.q.modify('INIT2RTR_QP', mtu=3, log_msg_max=30)
        self.q.modify('RTR2RTS_QP')
        self.result, self.source, self.sink = (g.alloc(2 * PAGE) for _ in range(3))
        self.result_key, self.source_key, self.sink_key = (g.mkey(
            a, 2 * PAGE) for a in (self.result, self.source, self.sink))
        g.write(self.source, bytes(range(256)) * 32)

    def copy(self, n: int, room: int | None = None, *, kind: int = 1, control: int = 0,
             source_key: int | None = None, sink_key: int | None = None,
             result_key: int | None = None, more: bytes = b'') -> prm.View:
        """Post a copy; its CQE."""
        q = self.q
        body = [
            struct.pack('>IIQ', control, self.result_key if result_key is None else result_key,
                        self.result),
            sge(self.source, n, self.source_key if source_key is None else source_key),
            sge(self.sink, n if room is None else room,
                self.sink_key if sink_key is None else sink_key), more]
        at = q.buf + q.rq_bytes + q.posted * 64
        q.post_send(Op.MMO, *body, ring=False)
        self.g.write(at, bytes([kind]))
        q.ring()
        return q.scq.poll()[0]


@pytest.mark.parametrize('st', [RC, DCI])
def test_copy(guest: Guest, st: int) -> None:
    """Without a peer; the result tells no syndrome and the bytes."""
    c = Copier(guest, st)
    cqe = c.copy(1000)
    assert (cqe['opcode'], cqe['send_wqe_opcode'], cqe['byte_cnt']) == (0, Op.MMO, 1000)
    assert guest.read(c.sink, 1001) == guest.read(c.source, 1000) + b'\0'
    assert guest.read(c.result, 16) == struct.pack('>IIII', 0, 0, 1000, 1000)


def test_longest(guest: Guest) -> None:
    """As the capabilities say, and not a byte more; 0 stands for 2 GiB."""
    assert Copier(guest).copy(PAGE)['opcode'] == 0
    for n in (PAGE + 1, 0):
        c = Copier(guest)
        assert c.copy(n)['syndrome'] == Syndrome.LOCAL_LENGTH
        assert guest.read(c.sink, PAGE) == bytes(PAGE)


@pytest.mark.parametrize(('kw', 'syndrome'), [({'room': 99}, Syndrome.LOCAL_LENGTH),
                                              ({'kind': 2}, Syndrome.LOCAL_QP_OP),
                                              ({'kind': 0}, Syndrome.LOCAL_QP_OP),
                                              ({'control': 1}, Syndrome.LOCAL_QP_OP),
                                              ({'more': bytes(16)}, Syndrome.LOCAL_QP_OP),
                                              ({'source_key': 0x99900}, Syndrome.LOCAL_PROT),
                                              ({'sink_key': 0x99900}, Syndrome.LOCAL_PROT),
                                              ({'result_key': 0x99900}, Syndrome.LOCAL_PROT)])
def test_a_copy_that_cannot_be_stops_the_queue(guest: Guest, kw: dict, syndrome: int) -> None:
    """An error, and nothing is written."""
    c = Copier(guest)
    assert c.copy(100, **kw)['syndrome'] == syndrome
    assert guest.read(c.sink, 100) == bytes(100) and guest.read(c.result, 16) == bytes(16)


def test_rights(guest: Guest) -> None:
    """The source must be readable, the sink writable, both of the queue's domain."""
    other = guest.cmd('ALLOC_PD')['pd']
    for kw in ({'lw': 1}, {'lr': 1, 'lw': 1, 'pd': other}):
        c = Copier(guest)
        assert c.copy(16, source_key=guest.mkey(c.source, PAGE,
                                                **kw))['syndrome'] == Syndrome.LOCAL_PROT
    for kw in ({'lr': 1, 'rr': 1}, {'lr': 1, 'lw': 1, 'pd': other}):
        c = Copier(guest)
        assert c.copy(16, sink_key=guest.mkey(c.sink, PAGE,
                                              **kw))['syndrome'] == Syndrome.LOCAL_PROT


def test_not_enabled(guest: Guest) -> None:
    """A QP that did not ask for the engine has none; neither has one that was reset."""
    assert Copier(guest, on=False).copy(16)['syndrome'] == Syndrome.LOCAL_QP_OP
    c = Copier(guest)
    assert c.q.model.mmo
    guest.cmd('2RST_QP', qpn=c.q.number)
    assert not c.q.model.mmo


@pytest.mark.parametrize(('st', 'kw'), [(UC, {}), (RC, {'ext': 0}),
                                        (RC, {'command': 'RTS2RTS_QP'})])
def test_asked_for_wrongly(guest: Guest, st: int, kw: dict) -> None:
    """Reliable transports, in INIT, with the extended context."""
    q = GuestQp(guest, st)
    q.to_init()
    if kw.get('command'):
        q.modify('INIT2RTR_QP', mtu=3, log_msg_max=30)
        q.modify('RTR2RTS_QP')
    with pytest.raises(CommandFailed) as refused:
        enable(q, **kw)
    assert refused.value.status == 'BAD_PARAM' and not q.model.mmo


def test_switched_off_again(guest: Guest) -> None:
    """The field may be 0."""
    q = GuestQp(guest)
    q.to_init()
    enable(q)
    enable(q, mmo=0)
    assert not q.model.mmo


@pytest.mark.parametrize('profile', ['connectx5', 'connectx6dx', 'connectx7'])
def test_cards_without(profile: str) -> None:
    """The engine is that of BlueField: no ConnectX offers it."""
    g = Guest(profile=profile)
    q = GuestQp(g)
    q.to_init()
    with pytest.raises(CommandFailed):
        enable(q)
    assert Copier(g, on=False).copy(16)['syndrome'] == Syndrome.LOCAL_QP_OP


def test_engine_of_every_queue() -> None:
    """dma_mmo_sq: a queue need not ask."""
    g = Guest(cap_overrides=('general.dma_mmo_sq=1',))
    c = Copier(g, on=False)
    assert c.copy(64)['opcode'] == 0 and c.q.model.state == RTS
