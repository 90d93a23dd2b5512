# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""UMR on the emulated card: enabling and revoking keys, memory windows, invalidation."""
import struct

import pytest
from emulator.driver.guest import PAGE, REG_UMR, Guest, GuestCq, GuestQp, connected, raddr, sge
from mlx5emu import prm
from mlx5emu.prm.wqe import (
    UMR_CHECK_FREE,
    UMR_CHECK_NOT_FREE,
    UMR_CHECK_QPN,
    UMR_INLINE,
    UMR_OFFSET,
    Op,
    Syndrome,
)
from mlx5emu.queues.queue import ERR

MASK_LEN, MASK_PAGE, MASK_START, MASK_PD = 1, 1 << 1, 1 << 6, 1 << 7
MASK_KEY, MASK_QPN, MASK_FREE = 1 << 13, 1 << 14, 1 << 29
MASK_RIGHTS = sum(1 << b for b in (17, 18, 19, 20, 21))
RIGHTS = {'lr': 1, 'lw': 1, 'rr': 1, 'rw': 1, 'a': 1}


def umr(flags: int = 0, octowords: int = 0, offset: int = 0, mask: int = 0, data: bytes = b'',
        **mkc) -> tuple[bytes, ...]:
    """UMR control, context and data segments."""
    c = prm.new('wqe_umr_ctrl')
    c.buf[0] = flags
    c.set(xlt_octowords=octowords, xlt_offset=offset & 0xffff, xlt_offset_47_16=offset >> 16,
          mkey_mask=mask)
    m = prm.new('mkc')
    m.set(**mkc)
    return bytes(c.buf), bytes(m.buf), data


def driver_qp(g: Guest) -> GuestQp:
    """The driver's own UMR QP, which may use the reserved key."""
    q = GuestQp(g, REG_UMR, pd=0, rlky=1)
    q.connect(0)
    return q


def window(g: Guest, **entry) -> int:
    """A free key with room for four KLMs, as ALLOC_MW makes it."""
    return g.create_mkey(
        b'', 0, **{
            'access_mode_1_0': 2, 'pd': g.pd, 'umr_en': 1, 'free': 1, 'lr': 1, 'qpn': 0xffffff,
            'en_rinval': 1, 'translations_octword_size': 4, **entry})


def test_driver_enables_and_revokes(guest: Guest) -> None:
    """A cached key gets range, rights, domain and pages in one WQE, works, and is free again after
    another."""
    base = guest.alloc(3 * PAGE)
    guest.write(base, b'A' * PAGE + b'B' * PAGE + b'C' * PAGE)
    key = guest.create_mkey(b'', 0, access_mode_1_0=1, umr_en=1, free=1, pd=guest.pd,
                            log_page_size=12, mkey_7_0=3, translations_octword_size=4)
    pd = guest.cmd('ALLOC_PD')['pd']
    q = driver_qp(guest)
    table = guest.alloc(PAGE)
    guest.write(table, struct.pack('>8Q', base | 3, (base + 2 * PAGE) | 3, 0, 0, 0, 0, 0, 0))
    everything = (MASK_LEN | MASK_PAGE | MASK_START | MASK_PD | MASK_KEY | MASK_QPN | MASK_FREE |
                  MASK_RIGHTS)
    q.post_send(
        Op.UMR,
        *umr(UMR_CHECK_NOT_FREE, 4, 0, everything, sge(table, 64, 0x200), pd=pd, qpn=0xffffff,
             mkey_7_0=3, start_addr=0x7000, len=2 * PAGE, log_page_size=12, **RIGHTS), imm=key)
    assert q.scq.poll()[0]['opcode'] == 0
    assert guest.fails('DEALLOC_PD', pd=pd) == 'BAD_RES_STATE'
    a, _ = connected(guest, pd=pd)
    out = guest.alloc(PAGE)
    a.post_send(Op.READ, raddr(0x7ffe, key), sge(out, 4, guest.mkey(out, PAGE, pd=pd)))
    assert a.scq.poll()[0]['opcode'] == 0
    assert guest.read(out, 4) == b'AACC'
    m = guest.cmd('QUERY_MKEY', mkey_index=key >> 8).sub('memory_key_mkey_entry')
    assert (m['free'], m['pd'], m['start_addr'], m['len']) == (0, pd, 0x7000, 2 * PAGE)
    q.post_send(Op.UMR, *umr(UMR_INLINE, 0, 0, MASK_PD | MASK_FREE, free=1, pd=guest.pd), imm=key)
    assert q.scq.poll()[0]['opcode'] == 0
    a.post_send(Op.READ, raddr(0x7000, key), sge(out, 4, guest.mkey(out, PAGE, pd=pd)))
    assert a.scq.poll()[0]['syndrome'] == Syndrome.REMOTE_ACCESS


def test_list_in_parts(guest: Guest) -> None:
    """A second WQE goes on where the first ended, by its offset; padding of the last 64 bytes may
    pass the end, entries may not."""
    base = guest.alloc(16 * PAGE)
    key = guest.create_mkey(b'', 0, access_mode_1_0=1, umr_en=1, free=1, pd=guest.pd,
                            log_page_size=12, translations_octword_size=5)
    q = driver_qp(guest)
    first = struct.pack('>8Q', *(base + k * PAGE for k in range(8)))
    second = struct.pack('>8Q', base + 8 * PAGE, base + 9 * PAGE, 0, 0, 0, 0, 0, 0)
    q.post_send(Op.UMR, *umr(UMR_INLINE, 4, data=first), imm=key)
    q.post_send(Op.UMR, *umr(UMR_INLINE | UMR_OFFSET, 4, 4, data=second), imm=key)
    assert [c['opcode'] for c in q.scq.poll()] == [0, 0]
    mkey = guest.card.mkeys.find(key >> 8)
    assert list(mkey.entries) == [base + k * PAGE for k in range(10)]
    q.post_send(Op.UMR, *umr(UMR_INLINE | UMR_OFFSET, 4, 4, data=first), imm=key)
    assert q.scq.poll()[0]['syndrome'] == Syndrome.MW_BIND
    assert list(mkey.entries) == [base + k * PAGE for k in range(10)]


@pytest.mark.parametrize(('what', 'kw', 'segments'), [
    ('not free', {'free': 0}, umr(UMR_CHECK_NOT_FREE, mask=MASK_FREE)),
    ('free', {}, umr(UMR_CHECK_FREE, mask=MASK_RIGHTS)),
    ('no UMR', {'umr_en': 0}, umr(0, mask=MASK_FREE)), ('unknown field', {}, umr(0, mask=1 << 60)),
    ('no such PD', {}, umr(0, mask=MASK_PD, pd=0x999)),
    ('another QP', {'qpn': 0x999}, umr(UMR_CHECK_QPN, mask=MASK_FREE, free=1)),
    ('no room for formats', {}, umr(UMR_INLINE, offset=4, mask=MASK_FREE, data=bytes(64))),
    ('list missing', {}, umr(UMR_INLINE, 4, mask=MASK_FREE))])
def test_a_umr_that_cannot_be_is_refused(guest: Guest, what: str, kw: dict,
                                         segments: tuple) -> None:
    """A bind error; the key is as it was."""
    key = window(guest, **kw)
    before = bytes(guest.card.mkeys.find(key >> 8).mkc)
    q = driver_qp(guest)
    q.post_send(Op.UMR, *segments, imm=key)
    failed = q.scq.poll()[0]
    assert (failed['opcode'], failed['syndrome']) == (13, Syndrome.MW_BIND), what
    assert q.model.state == ERR
    assert bytes(guest.card.mkeys.find(key >> 8).mkc) == before


def bind(q: GuestQp, key: int, new_byte: int, mr: int, addr: int, n: int, **rights) -> None:
    """Bind a type 2 window as libmlx5 does."""
    mask = MASK_FREE | MASK_KEY | MASK_QPN | MASK_LEN | MASK_START | MASK_RIGHTS & ~(1 << 17)
    klm = struct.pack('>IIQ', n, mr, addr).ljust(64, b'\0')
    q.post_send(
        Op.UMR,
        *umr(UMR_INLINE | UMR_OFFSET | UMR_CHECK_NOT_FREE, 4, 0, mask, klm, qpn=q.number,
             mkey_7_0=new_byte, start_addr=addr, len=n, **rights), imm=key)


def test_memory_window(guest: Guest) -> None:
    """Bound, used by the peer, invalidated locally, and bound again."""
    base = guest.alloc(PAGE)
    mr = guest.mkey(base, PAGE, lr=1, lw=1)
    src = guest.alloc(PAGE)
    guest.write(src, b'through the window')
    lkey = guest.mkey(src, PAGE)
    a, b = connected(guest, rcq=GuestCq(guest))
    mw = window(guest)
    bind(b, mw, 0x42, mr, base + 16, 32, rw=1)
    assert b.scq.poll()[0]['send_wqe_opcode'] == Op.UMR
    rkey = mw | 0x42
    a.post_send(Op.WRITE, raddr(base + 16, rkey), sge(src, 18, lkey))
    assert a.scq.poll()[0]['opcode'] == 0
    assert guest.read(base + 16, 18) == b'through the window'
    mask = MASK_FREE | MASK_KEY | MASK_QPN
    b.post_send(Op.UMR,
                *umr(UMR_INLINE | UMR_OFFSET | UMR_CHECK_QPN, 0, 0, mask, free=1, qpn=0xffffff),
                imm=rkey)
    assert b.scq.poll()[0]['opcode'] == 0
    a.post_send(Op.WRITE, raddr(base + 16, rkey), sge(src, 18, lkey))
    assert a.scq.poll()[0]['syndrome'] == Syndrome.REMOTE_ACCESS


@pytest.mark.parametrize('wrong', [0, 1])
def test_send_with_invalidate(guest: Guest, wrong: int) -> None:
    """The receiver's key is free afterwards and its CQE names it; a key byte that is wrong is a
    remote access error."""
    base = guest.alloc(PAGE)
    key = guest.mkey(base, PAGE)
    a, b = connected(guest, rcq=GuestCq(guest))
    mw = window(guest)
    bind(b, mw, 0x42, key, base, 32, rr=1)
    b.post_recv((base, 64, key))
    a.post_send(Op.SEND_INVAL, sge(base + 64, 8, key), imm=(mw | 0x42) ^ wrong)
    mkey = guest.card.mkeys.find(mw >> 8)
    if wrong:
        assert a.scq.poll()[0]['syndrome'] == Syndrome.REMOTE_ACCESS
        assert not mkey.free
    else:
        got = b.rcq.poll()[0]
        assert (got['opcode'], got['imm_inval_pkey']) == (4, mw | 0x42)
        assert mkey.free


def test_user_may_not_change_a_foreign_key(guest: Guest) -> None:
    """An ordinary QP changes only keys of its own domain, and cannot give them away."""
    other = guest.cmd('ALLOC_PD')['pd']
    a, _ = connected(guest)
    a.post_send(Op.UMR, *umr(0, mask=MASK_FREE), imm=window(guest, pd=other))
    assert a.scq.poll()[0]['syndrome'] == Syndrome.MW_BIND
    a, _ = connected(guest)
    a.post_send(Op.UMR, *umr(0, mask=MASK_PD, pd=other), imm=window(guest))
    assert a.scq.poll()[0]['syndrome'] == Syndrome.MW_BIND
