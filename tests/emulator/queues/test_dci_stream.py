# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Streams of DC initiators: errors that stop one stream, the limit that stops the QP, and the reset
of a stream."""

import pytest
from emulator.driver.commands import CommandFailed
from emulator.driver.guest import DCI, RC, Guest, GuestCq, GuestQp, GuestRmp, av, raddr, sge
from mlx5emu.prm.wqe import CTRL, Op, Syndrome
from mlx5emu.queues.queue import ERR, RTS

KEY = 0x1122334455667788


class Streams:
    """A DCI with eight streams at most and two that may be in error, and a target for its
    writes."""

    def __init__(self, g: Guest, channels: int = 3, errored: int = 1) -> None:
        self.g = g
        self.qp = GuestQp(g, DCI, log_num_dci_stream_channels=channels,
                          log_num_dci_errored_streams=errored)
        self.qp.connect(0)
        self.cq, self.rmp = GuestCq(g), GuestRmp(g)
        self.dctn = g.cmd(
            'CREATE_DCT', **{
                f'dct_context_entry.{k}': v for k, v in {
                    'pd': g.pd, 'cqn': self.cq.number, 'srqn_xrqn': self.rmp.number,
                    'dc_access_key': KEY, 'rwe': 1, 'mtu': 5, 'min_rnr_nak': 1}.items()})['dctn']
        self.memory = g.alloc(4096)
        self.key = g.mkey(self.memory, 4096)

    def write(self, stream: int, key: int | None = None, ring: bool = True,
              op: int = Op.WRITE) -> int:
        """Post a write on a stream, by default a good one."""
        vector = bytearray(av(self.dctn))
        vector[0:8] = KEY.to_bytes(8, 'big')
        data = sge(self.memory + 64, 8, self.key if key is None else key)
        index = self.qp.post_send(op, bytes(vector), raddr(self.memory, self.key), data, ring=False)
        at = self.qp.buf + index * 64 % (64 << self.qp.log_sq)
        control = bytearray(self.g.read(at, CTRL.size))
        control[9:11] = stream.to_bytes(2, 'big')
        self.g.write(at, bytes(control))
        if ring:
            self.qp.ring()
        return index

    def syndromes(self) -> list[int]:
        """Of the CQEs that came; 0 for a good one."""
        return [c['syndrome'] if c['opcode'] == 13 else 0 for c in self.qp.scq.poll()]

    def reset(self, stream: int, **header: int) -> str:
        """Reset a stream; the name of the status."""
        return self.g.fails(
            'RTS2RTS_QP',
            stream.to_bytes(4, 'big').ljust(192, b'\0'), **{
                'qpn': self.qp.number, 'qpc_ext': 1, 'opt_param_mask_95_32': 1, **header})


def test_an_error_stops_its_stream_only(guest: Guest) -> None:
    """The stream is flushed from the error on, the others go on, until it is reset."""
    s = Streams(guest)
    for stream, key in ((5, None), (5, 0x666), (5, None), (900, None), (5, None)):
        s.write(stream, key, ring=False)
    s.qp.ring()
    assert s.syndromes() == [0, Syndrome.LOCAL_PROT, Syndrome.FLUSH, 0, Syndrome.FLUSH]
    assert s.qp.model.state == RTS
    assert s.reset(5) == 'OK'
    s.write(5)
    assert s.syndromes() == [0]


def test_the_limit_of_streams_in_error(guest: Guest) -> None:
    """As many different streams in error as the context says: the QP is; 2RST forgets them all."""
    s = Streams(guest)
    s.write(1, 0x666)
    s.write(1, 0x666)
    assert s.qp.model.state == RTS
    s.write(2, 0x666)
    s.write(3)
    assert s.syndromes() == [
        Syndrome.LOCAL_PROT, Syndrome.FLUSH, Syndrome.LOCAL_PROT, Syndrome.FLUSH]
    assert s.qp.model.state == ERR
    assert s.reset(1) == 'BAD_RES_STATE', 'not in a QP in error'
    guest.cmd('2RST_QP', qpn=s.qp.number)
    s.qp.posted = 0
    guest.write(s.qp.dbr + 4, bytes(4))
    s.qp.connect(0)
    s.write(1)
    assert s.syndromes() == [0]


def test_one_errored_stream_is_the_qp(guest: Guest) -> None:
    """With log 0 the first error is the QP's; without streams the id in the WQE means nothing."""
    for channels in (3, 0):
        s = Streams(guest, channels, 0)
        s.write(4, 0x666)
        s.write(5)
        assert s.syndromes() == [Syndrome.LOCAL_PROT, Syndrome.FLUSH] and s.qp.model.state == ERR


def test_errors_of_the_peer_are_the_streams(guest: Guest) -> None:
    """Retries that are used up stop the stream, and the next message starts with all of its own."""
    s = Streams(guest, errored=3)
    dctn, s.dctn = s.dctn, 0x4444
    s.write(1, ring=False)
    s.write(2)
    done: list[int] = []
    while not done:
        guest.run(1)
        done = s.syndromes()
    assert done == [Syndrome.RETRY_EXCEEDED] and s.qp.model.sq.tries == [1, 0]
    s.dctn = dctn
    s.write(3)
    guest.run(500)
    assert s.syndromes() == [Syndrome.RETRY_EXCEEDED, 0] and s.qp.model.state == RTS
    s.write(4, op=0x3f)
    assert s.syndromes() == [Syndrome.LOCAL_QP_OP
                             ] and s.qp.model.state == ERR, 'a WQE that is none stops the queue'


def test_reset_refused(guest: Guest) -> None:
    """A stream that is well, a QP without streams, no extension in the command, a command that ends
    before it."""
    s = Streams(guest)
    s.write(7, 0x666)
    assert s.reset(8) == 'BAD_RES_STATE'
    assert s.reset(7, qpc_ext=0) == 'BAD_PARAM'
    assert guest.fails('RTS2RTS_QP', qpn=s.qp.number, qpc_ext=1,
                       opt_param_mask_95_32=1) == 'BAD_INP_LEN'
    assert s.reset(7, qpn=Streams(guest, 0, 0).qp.number) == 'BAD_PARAM'
    rc = GuestQp(guest, RC)
    rc.connect(rc.number)
    assert s.reset(7, qpn=rc.number) == 'BAD_PARAM'
    assert s.reset(7) == 'OK' and s.reset(7) == 'BAD_RES_STATE'


@pytest.mark.parametrize(('profile', 'st', 'channels', 'errored'), [('connectx6dx', DCI, 7, 0),
                                                                    ('connectx6dx', DCI, 3, 7),
                                                                    ('connectx6dx', RC, 1, 0),
                                                                    ('connectx5', DCI, 1, 0)])
def test_streams_that_cannot_be(profile: str, st: int, channels: int, errored: int) -> None:
    """More than the card has, another transport, a card without them."""
    with pytest.raises(CommandFailed, match='BAD_PARAM'):
        GuestQp(Guest(profile=profile), st, log_num_dci_stream_channels=channels,
                log_num_dci_errored_streams=errored)
