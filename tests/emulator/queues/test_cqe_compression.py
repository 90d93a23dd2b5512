# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""CQE compression: sessions as the driver takes them apart, what ends one, and what a CQ may ask
for."""
import pytest
from emulator.driver.commands import CommandFailed
from emulator.driver.guest import PAGE, Guest, GuestCq, GuestQp, GuestRmp, connected, inline, sge
from mlx5emu import prm
from mlx5emu.firmware.caps import CQE_COMPRESSION_MAX
from mlx5emu.prm.wqe import ETH_CQE, Op
from mlx5emu.queues.cqe_compression import (
    CHECKSUM,
    CHECKSUM_STRIDE_INDEX,
    HASH,
    mini,
)

EMPTY = 0xf1


class CompressedCq(GuestCq):
    """A CQ that asks for compression, and its reader: it learns from title and arrays alone."""

    def __init__(self, g: Guest, form: int = CHECKSUM, log_size: int = 6, **context) -> None:
        super().__init__(g, log_size, cqe_comp_en=1, mini_cqe_res_format=form, **context)
        self.form = form
        #: Completions of each session or CQE that was read.
        self.sessions: list[int] = []

    def slot(self, index: int) -> bytes:
        """The 64 bytes of a slot."""
        at = self.buf + (index & ((1 << self.log_size) - 1)) * self.stride
        return self.g.read(at + self.stride - 64, 64)

    def poll(self, free: bool = True) -> list[prm.View]:
        """CQEs, of sessions as if each had been written by itself."""
        out = []
        while True:
            title = self.slot(self.consumer)
            if title[63] >> 4 == 15 or title[63] & 1 != self.consumer >> self.log_size & 1:
                break
            n = 1
            if title[63] >> 2 & 3 == 3:
                n = int.from_bytes(title[44:48], 'big')
                out += self._session(title, n)
            else:
                out.append(prm.view('error_cqe' if title[63] >> 4 in (13, 14) else 'cqe64', title))
            self.sessions.append(n)
            # As the driver does, since the card writes title and arrays only.
            for k in range(n):
                at = self.buf + ((self.consumer + k) &
                                 ((1 << self.log_size) - 1)) * self.stride + self.stride - 1
                self.g.write(at, bytes([EMPTY & 0xf0 | (self.consumer + k) >> self.log_size & 1]))
            self.consumer += n
        if free:
            self.g.write(self.dbr, (self.consumer & 0xffffff).to_bytes(4, 'big'))
        return out

    def _session(self, title: bytes, n: int) -> list[prm.View]:
        out, counter = [], int.from_bytes(title[60:62], 'big')
        for k in range(n):
            if k & 7 == 0:
                array = self.slot(self.consumer + (k or 1))
            small = array[(k & 7) * 8:(k & 7) * 8 + 8]
            body = bytearray(title)
            body[44:48], body[63] = small[4:], title[63] & 0xf1
            if title[63] >> 4 == 0:
                body[60:62], body[56] = small[:2], small[2]
            else:
                body[60:62] = (counter + k & 0xffff).to_bytes(2, 'big')
                if self.form == CHECKSUM_STRIDE_INDEX:
                    assert small[2:4] == body[60:62]
            out.append(prm.view('cqe64', bytes(body)))
        return out


def burst(a: GuestQp, n: int, size: int = 16, op: int = Op.SEND, **kw) -> None:
    """Post ``n`` messages of growing size and ring once."""
    for k in range(n):
        a.post_send(op, inline(bytes(size + k)), ring=k == n - 1, **kw)


def receives(b: GuestQp, n: int) -> None:
    """Post ``n`` buffers."""
    base = b.g.alloc(PAGE)
    key = b.g.mkey(base, PAGE)
    for _ in range(n):
        b.post_recv((base, 512, key))


@pytest.mark.parametrize('form', [HASH, CHECKSUM, CHECKSUM_STRIDE_INDEX])
@pytest.mark.parametrize('n', [2, 8, 9, 16, 25])
def test_burst(guest: Guest, form: int, n: int) -> None:
    """Sends and receives of one doorbell are one session on each side, whatever the number of
    arrays."""
    scq, rcq = CompressedCq(guest, form), CompressedCq(guest, form)
    a, b = connected(guest, scq=scq, rcq=rcq)
    receives(b, n)
    burst(a, n)
    sent, received = scq.poll(), rcq.poll()
    assert scq.sessions == rcq.sessions == [n]
    assert [(c['wqe_counter'], c['send_wqe_opcode'], c['qpn'], c['byte_cnt']) for c in sent] == [
        (i, Op.SEND, a.number, 16 + k) for k, i in enumerate(wqe_indices(n))]
    assert [(c['opcode'], c['wqe_counter'], c['byte_cnt'], c['qpn']) for c in received] == [
        (2, k, 16 + k, b.number) for k in range(n)]


def wqe_indices(n: int, size: int = 16) -> list[int]:
    """Basic block at which each WQE of :func:`burst` begins."""
    out, at = [], 0
    for k in range(n):
        out.append(at)
        at += -(-(16 + (size + k + 4 + 15) // 16 * 16) // 64)
    return out


def test_one_by_one(guest: Guest) -> None:
    """A completion that comes alone is an ordinary CQE."""
    scq, rcq = CompressedCq(guest), CompressedCq(guest)
    a, b = connected(guest, scq=scq, rcq=rcq)
    receives(b, 3)
    for _ in range(3):
        burst(a, 1)
        assert rcq.slot(rcq.consumer)[63] >> 2 & 3 == 0
        assert len(scq.poll()) == len(rcq.poll()) == 1
    assert scq.sessions == rcq.sessions == [1, 1, 1]


def test_nobody_asked(guest: Guest) -> None:
    """A CQ without cqe_comp_en gets whole CQEs."""
    a, b = connected(guest, rcq=GuestCq(guest))
    receives(b, 4)
    burst(a, 4)
    assert [c['byte_cnt'] for c in b.rcq.poll()] == [16, 17, 18, 19]


def test_immediates_break_a_session(guest: Guest) -> None:
    """What the arrays cannot tell must be the same; a solicited completion is written by itself,
    and in its place."""
    rcq = CompressedCq(guest)
    a, b = connected(guest, rcq=rcq)
    receives(b, 12)
    for k, (imm, solicited) in enumerate([(7, 0), (7, 0), (8, 0), (8, 0), (8, 2), (8, 0), (8, 0)]):
        a.post_send(Op.SEND_IMM, inline(b'x' * 16), flags=8 | solicited, imm=imm, ring=k == 6)
    got = rcq.poll()
    assert [c['imm_inval_pkey']
            for c in got] == [7, 7, 8, 8, 8, 8, 8] and [c['wqe_counter']
                                                        for c in got] == list(range(7))
    assert rcq.sessions == [2, 2, 1, 2]


def test_error_comes_after_what_was_before(guest: Guest) -> None:
    """Good completions, then the error of the same doorbell, then the flushed."""
    scq = CompressedCq(guest)
    a, b = connected(guest, scq=scq, rcq=GuestCq(guest))
    receives(b, 4)
    for k in range(5):
        a.post_send(Op.SEND, sge(0, 16, 0x99900) if k == 3 else inline(bytes(16)), ring=k == 4)
    assert [c['opcode'] for c in scq.poll()] == [0, 0, 0, 13, 13]
    assert scq.sessions == [3, 1, 1]


def test_two_queues(guest: Guest) -> None:
    """Completions of two QPs on one CQ are not one session."""
    scq = CompressedCq(guest)
    a, b = connected(guest, scq=scq, rcq=GuestCq(guest))
    c, d = connected(guest, scq=scq, rcq=GuestCq(guest))
    receives(b, 4)
    receives(d, 4)
    burst(a, 3)
    burst(c, 3)
    assert [x['qpn'] for x in scq.poll()] == [a.number] * 3 + [c.number] * 3
    assert scq.sessions == [3, 3]


def test_shared_queue_out_of_order(guest: Guest) -> None:
    """Receive completions of a session are of one WQE after the other: where a shared queue's are
    not, it ends."""
    rmp, rcq = GuestRmp(guest), CompressedCq(guest)
    for at, following in ((0, 1), (1, 4), (4, 5), (5, 2)):
        guest.write(rmp.buf + at * rmp.stride + 2, following.to_bytes(2, 'big'))
    base = guest.alloc(PAGE)
    key = guest.mkey(base, PAGE)
    for at in (0, 1, 4, 5, 2):
        rmp.post((base, 512, key), index=at)
    a, b = connected(guest, scq=GuestCq(guest), rcq=rcq, srqn=rmp.number)
    burst(a, 5)
    assert [c['wqe_counter'] for c in rcq.poll()] == [0, 1, 4, 5, 2] and rcq.sessions == [2, 2, 1]


def test_round_and_round(guest: Guest) -> None:
    """Sessions that pass the end of the ring, with the owner bit of the title's round."""
    scq = CompressedCq(guest, log_size=4)
    a, b = connected(guest, scq=scq, rcq=GuestCq(guest, 6, oi=1))
    total = 0
    for n in (11, 12, 3, 16, 9, 14):
        receives(b, n)
        burst(a, n, 16, flags=8)
        assert len(scq.poll()) == n
        total += n
    assert scq.sessions == [11, 12, 3, 16, 9, 14] and scq.consumer == total


def test_longest_session(guest: Guest) -> None:
    """As the capabilities say."""
    scq = CompressedCq(guest, log_size=8)
    a, b = connected(guest, scq=scq, rcq=GuestCq(guest, 8), log_rq=7, log_sq=8)
    receives(b, 100)
    for k in range(100):
        a.post_send(Op.SEND, inline(bytes(16)), ring=k == 99)
    assert len(scq.poll()) == 100
    assert scq.sessions == [CQE_COMPRESSION_MAX, 100 - CQE_COMPRESSION_MAX]
    assert guest.card.caps.get('cqe_compression_max_num') == CQE_COMPRESSION_MAX


def test_full(guest: Guest) -> None:
    """A session does not write over what was not read: the CQ is in error, as without
    compression."""
    scq = CompressedCq(guest, log_size=3)
    a, b = connected(guest, scq=scq, rcq=GuestCq(guest))
    receives(b, 12)
    burst(a, 5)
    burst(a, 5)
    assert [
        c['wqe_counter'] for c in scq.poll()] == wqe_indices(5) + [5 + i for i in wqe_indices(3)]
    assert guest.card.cqs.find(scq.number).status
    assert prm.EVENTS['CQ_ERROR'] in [e[0] for e in guest.events()]


def test_wide_cqes(guest: Guest) -> None:
    """In 128-byte slots titles and arrays are in the second half."""
    scq = CompressedCq(guest, cqe_sz=1)
    a, b = connected(guest, scq=scq, rcq=GuestCq(guest))
    receives(b, 9)
    burst(a, 9)
    assert [c['byte_cnt'] for c in scq.poll()] == list(range(16, 25)) and scq.sessions == [9]


def test_one_event(guest: Guest) -> None:
    """A session that comes to an armed CQ is one event, after the CQEs are there."""
    rcq = CompressedCq(guest)
    a, b = connected(guest, rcq=rcq)
    rcq.arm()
    receives(b, 5)
    burst(a, 5)
    assert len([e for e in guest.events() if e[0] == 0]) == 1
    assert len(rcq.poll()) == 5


def test_frames() -> None:
    """Mini CQEs of frames have hash, or checksum and counter; their place in the CQE is that of the
    driver's structure."""
    body = ETH_CQE.pack(0, 0x11223344, 0, 0xabcd, 0, 0, 0, 0, 0, 60, 0, 0, 7)
    assert mini(body, 2, HASH) == bytes.fromhex('112233440000003c')
    assert mini(body, 2, CHECKSUM) == bytes.fromhex('abcd00000000003c')
    assert mini(body, 2, CHECKSUM_STRIDE_INDEX) == bytes.fromhex('abcd00070000003c')


@pytest.mark.parametrize(('context', 'good'), [({'mini_cqe_res_format': 2}, False),
                                               ({'cqe_compression_layout': 1}, False),
                                               ({'mini_cqe_res_format': 3}, True),
                                               ({'cqe_sz': 1}, True), ({'cqe_sz': 2}, True)])
def test_asked_for(guest: Guest, context: dict, good: bool) -> None:
    """Formats that there are."""
    used = guest.card.memory.used
    if good:
        GuestCq(guest, cqe_comp_en=1, **context)
    else:
        with pytest.raises(CommandFailed) as refused:
            GuestCq(guest, cqe_comp_en=1, **context)
        assert refused.value.status == 'BAD_PARAM' and guest.card.memory.used == used


def test_card_without() -> None:
    """Where the capabilities lack it, it is refused."""
    for caps, context in (('cqe_compression', {}), ('cqe_compression_128', {'cqe_sz': 1}),
                          ('mini_cqe_resp_stride_index', {'mini_cqe_res_format': 3})):
        g = Guest(cap_overrides=(f'general.{caps}=0',))
        with pytest.raises(CommandFailed):
            GuestCq(g, cqe_comp_en=1, **context)
