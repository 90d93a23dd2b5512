# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Memory keys of the emulated card: what CREATE_MKEY refuses, what an address means, and where a
range ends."""
import struct

import pytest
from emulator.driver.commands import CommandFailed
from emulator.driver.guest import PAGE, REG_UMR, Guest, GuestQp, connected, raddr, sge
from mlx5emu.memory.mkey import (
    ATOMIC,
    KLM,
    KSM,
    LOCAL_READ,
    LOCAL_WRITE,
    MEMIC,
    NULL_KEY,
    REMOTE_READ,
    REMOTE_WRITE,
    RESERVED_LKEY,
    STRIDED,
    SW_ICM,
    AccessError,
    resolve,
)
from mlx5emu.prm.wqe import Op, Syndrome

TOP = 1 << 64
ANY = 0xffffff


def runs(g: Guest, key: int, addr: int, n: int, right: int = REMOTE_READ, pd: int | None = None,
         qpn: int = 1) -> list[tuple[int, int]]:
    """(bus address, length) of a translation into guest memory."""
    out = resolve(g.card, key, addr, n, right, g.pd if pd is None else pd, qpn)
    assert all(memory is g.card.dma for memory, _, _ in out)
    return [(a, k) for _, a, k in out]


@pytest.mark.parametrize(('addr', 'n', 'ok'), [(0x10010, 0x3000, True), (0x10010, 1, True),
                                               (0x1300f, 1, True), (0x10010, 0x3001, False),
                                               (0x1000f, 1, False), (0x1000f, 2, False),
                                               (0x13010, 1, False), (TOP - 1, 1, False),
                                               (TOP - 1, 0x20000, False),
                                               (0x10010, TOP - 0x10010, False),
                                               (0, 0x20000, False)])
def test_bounds(guest: Guest, addr: int, n: int, ok: bool) -> None:
    """Inside to the last byte; one byte before, one after, and both wraps are outside."""
    base = guest.alloc(4 * PAGE)
    key = guest.mkey(base + 0x10, 0x3000, va=0x10010)
    if ok:
        assert runs(guest, key, addr, n) == [(base + addr - 0x10000, n)]
    else:
        with pytest.raises(AccessError):
            runs(guest, key, addr, n)


def test_key_at_the_top_of_the_address_space(guest: Guest) -> None:
    """A range that ends with the last address is good to its end and not beyond."""
    base = guest.alloc(PAGE)
    key = guest.mkey(base, PAGE, va=TOP - PAGE)
    assert runs(guest, key, TOP - 1, 1) == [(base + PAGE - 1, 1)]
    with pytest.raises(AccessError):
        runs(guest, key, TOP - 1, 2)
    with pytest.raises(CommandFailed) as e:
        guest.mkey(base, PAGE + 1, va=TOP - PAGE)
    assert e.value.status == 'BAD_PARAM'


def test_pages_in_any_order(guest: Guest) -> None:
    """Contiguous pages make one run, others their own; large pages keep their offset."""
    base = guest.alloc(8 * PAGE)
    pages = [base + k * PAGE for k in (3, 4, 1, 6)]
    key = guest.mkey(base, 4 * PAGE, va=0x40000, pages=pages)
    assert runs(guest, key, 0x40ff0, 0x2020) == [(base + 3 * PAGE + 0xff0, 0x1010),
                                                 (base + PAGE, 0x1000), (base + 6 * PAGE, 0x10)]
    big = guest.mkey(base + 0x123, 0x10000, va=0x7000123, log_page=16, pages=[
        base & ~0xffff, (base & ~0xffff) + 0x10000])
    assert runs(guest, big, 0x7000124, 4) == [((base & ~0xffff) + 0x124, 4)]


@pytest.mark.parametrize('right', [LOCAL_READ, LOCAL_WRITE, REMOTE_READ, REMOTE_WRITE, ATOMIC])
def test_each_right_alone(guest: Guest, right: int) -> None:
    """A right that is not given is refused, one that is given is enough."""
    base = guest.alloc(PAGE)
    names = {
        LOCAL_READ: 'lr', LOCAL_WRITE: 'lw', REMOTE_READ: 'rr', REMOTE_WRITE: 'rw', ATOMIC: 'a'}
    key = guest.mkey(base, PAGE, **{names[right]: 1})
    for r in names:
        if r == right:
            assert runs(guest, key, base, 8, r) == [(base, 8)]
        else:
            with pytest.raises(AccessError, match='right'):
                runs(guest, key, base, 8, r)


def test_who_may_use_a_key(guest: Guest) -> None:
    """Key byte, protection domain, QP binding and the free bit."""
    base = guest.alloc(PAGE)
    key = guest.mkey(base, PAGE)
    other = guest.cmd('ALLOC_PD')['pd']
    for args, why in (((key ^ 1, guest.pd), 'byte'), ((key, other), 'domain'),
                      ((key + 0x100, guest.pd), 'no such')):
        with pytest.raises(AccessError, match=why):
            runs(guest, args[0], base, 8, pd=args[1])
    bound = guest.mkey(base, PAGE, lr=1, rr=1, qpn=0x55)
    assert runs(guest, bound, base, 8, qpn=0x55) == [(base, 8)]
    with pytest.raises(AccessError, match='QP'):
        runs(guest, bound, base, 8, qpn=0x56)
    free = guest.mkey(base, PAGE, lr=1, rr=1, free=1)
    with pytest.raises(AccessError, match='free'):
        runs(guest, free, base, 8)
    guest.cmd('DESTROY_MKEY', mkey_index=key >> 8)
    with pytest.raises(AccessError, match='no such'):
        runs(guest, key, base, 8)
    assert guest.fails('DESTROY_MKEY', mkey_index=key >> 8) == 'BAD_RES'


def test_present_bits(guest: Guest) -> None:
    """With pg_access the low bits of an MTT grant reading and writing, page by page."""
    base = guest.alloc(4 * PAGE)
    tail = struct.pack('>4Q', base | 3, (base + PAGE) | 1, (base + 2 * PAGE) | 2, base + 3 * PAGE)
    key = guest.create_mkey(tail, 2, command={'pg_access': 1}, access_mode_1_0=1, pd=guest.pd,
                            start_addr=0, len=4 * PAGE, log_page_size=12, qpn=ANY, lr=1, lw=1)
    granted = {(page, right) for page in range(4) for right in (LOCAL_READ, LOCAL_WRITE)
               if not _refused(guest, key, page * PAGE, right)}
    assert granted == {(0, LOCAL_READ), (0, LOCAL_WRITE), (1, LOCAL_READ), (2, LOCAL_WRITE)}


def _refused(g: Guest, key: int, addr: int, right: int) -> bool:
    try:
        runs(g, key, addr, 8, right)
    except AccessError:
        return True
    return False


def _klm(g: Guest, entries: list[tuple[int, int, int]], mode: int = KLM, **entry) -> int:
    tail = b''.join(struct.pack('>IIQ', *e) for e in entries)
    return g.create_mkey(
        tail, len(entries), **{
            'access_mode_1_0': mode & 3, 'access_mode_4_2': mode >> 2, 'pd': g.pd, 'start_addr':
            0x1000, 'qpn': ANY, 'lr': 1, 'lw': 1, 'rr': 1, 'rw': 1, 'len': sum(
                e[0] for e in entries), **entry})


def test_klm(guest: Guest) -> None:
    """Pieces of other keys, one after the other; the null key where there is nothing."""
    base = guest.alloc(PAGE)
    key = guest.mkey(base, PAGE)
    k = _klm(guest, [(10, key, base + 100), (20, key, base + 7), (5, NULL_KEY, 0), (1, key, base)])
    out = resolve(guest.card, k, 0x1000 + 5, 31, REMOTE_READ, guest.pd, 1)
    assert [(a, n) for m, a, n in out if m is guest.card.dma] == [(base + 105, 5), (base + 7, 20),
                                                                  (base, 1)]
    assert b''.join(m.read(a, n) for m, a, n in out)[25:30] == bytes(5)
    for addr, n in ((0xfff, 1), (0x1000, 37), (0x1000 + 36, 1)):
        with pytest.raises(AccessError):
            resolve(guest.card, k, addr, n, REMOTE_READ, guest.pd, 1)


def test_klm_checks_its_pieces(guest: Guest) -> None:
    """A piece outside its key, without the right, of another domain, or nested too deep is
    refused."""
    base = guest.alloc(PAGE)
    key, read_only = guest.mkey(base, PAGE), guest.mkey(base, PAGE, lr=1)
    foreign = guest.mkey(base, PAGE, pd=guest.cmd('ALLOC_PD')['pd'])
    assert runs(guest, _klm(guest, [(8, read_only, base)]), 0x1000, 8) == [(base, 8)]
    for entry, right in (((8, read_only, base), REMOTE_WRITE), ((8, foreign, base), REMOTE_READ),
                         ((8, key, base + PAGE - 7), REMOTE_READ),
                         ((8, key, base - 1), REMOTE_READ), ((8, 0x123400, base), REMOTE_READ)):
        with pytest.raises(AccessError):
            runs(guest, _klm(guest, [entry]), 0x1000, 8, right)
    nested = _klm(guest, [(8, key, base)])
    for _ in range(2):
        nested = _klm(guest, [(8, nested, 0x1000)])
    assert runs(guest, nested, 0x1000, 8) == [(base, 8)]
    for _ in range(2):
        nested = _klm(guest, [(8, nested, 0x1000)])
    with pytest.raises(AccessError, match='deep'):
        runs(guest, nested, 0x1000, 8)


def test_key_that_names_itself(guest: Guest) -> None:
    """A KLM that names its own key ends, and does not grow."""
    k = _klm(guest, [(8, 0, 0x1000)] * 64)
    mkey = guest.card.mkeys.find(k >> 8)
    for i in range(0, 128, 2):
        mkey.entries[i] = 512 << 32 | k
    mkey.decode()
    with pytest.raises(AccessError, match='deep'):
        runs(guest, k, 0x1000, 8)


@pytest.mark.parametrize('start', [0x5000, 0x5800, 0x56a8, TOP - 0x1800])
def test_ksm(guest: Guest, start: int) -> None:
    """Pieces of one size, the first of which begins where the key begins: an entity is counted from
    the start address, which need not be a multiple of its size."""
    base = guest.alloc(4 * PAGE)
    key = guest.mkey(base, 4 * PAGE)
    k = _klm(guest, [(0, key, base + PAGE + 8), (0, key, base)], KSM, start_addr=start, len=0x1800,
             log_page_size=12)
    assert runs(guest, k, start, 0x1800) == [(base + PAGE + 8, 0x1000), (base, 0x800)]
    assert runs(guest, k, start + 0xfff, 2) == [(base + 2 * PAGE + 7, 1), (base, 1)]
    with pytest.raises(AccessError):
        runs(guest, k, start + 0x17ff, 2)


def test_interleaved(guest: Guest) -> None:
    """A repeat block takes bytes of each entry in turn, cycle after cycle."""
    base = guest.alloc(PAGE)
    key = guest.mkey(base, PAGE)
    block = struct.pack('>IIIHH', 6, STRIDED, 3, 0, 2)
    block += struct.pack('>HHIQ', 16, 4, key, base) + struct.pack('>HHIQ', 8, 2, key, base + 0x800)
    k = guest.create_mkey(block.ljust(64, b'\0'), 4, access_mode_1_0=2, pd=guest.pd, start_addr=0,
                          len=18, qpn=ANY, lr=1, rr=1)
    assert runs(guest, k, 0, 18) == [(base, 4), (base + 0x800, 2), (base + 16, 4),
                                     (base + 0x808, 2), (base + 32, 4), (base + 0x810, 2)]
    assert runs(guest, k, 5, 3) == [(base + 0x801, 1), (base + 16, 2)]


def test_memic_and_icm(guest: Guest) -> None:
    """Keys over MEMIC and SW ICM reach those memories, hold them, and end where they were told
    to."""
    low = guest.card.caps.page('device_memory')['memic_bar_start_addr']
    start = guest.cmd('ALLOC_MEMIC', range_start_addr=low, range_size=1 << 16,
                      memic_size=4096)['memic_start_addr']
    key = guest.create_mkey(b'', 0, access_mode_1_0=MEMIC & 3, access_mode_4_2=MEMIC >> 2,
                            pd=guest.pd, start_addr=start, len=4096, qpn=ANY, lr=1, lw=1, rr=1,
                            rw=1, a=1)
    src = guest.alloc(PAGE)
    guest.write(src, b'memic!')
    lkey = guest.mkey(src, PAGE)
    a, _ = connected(guest)
    a.post_send(Op.WRITE, raddr(4090, key), sge(src, 6, lkey))
    assert a.scq.poll()[0]['opcode'] == 0
    assert guest.card.memic.read(start + 4090, 6) == b'memic!'
    assert guest.fails('DEALLOC_MEMIC', memic_start_addr=start, memic_size=4096) == 'BAD_RES_STATE'
    with pytest.raises(AccessError):
        resolve(guest.card, key, 4091, 6, REMOTE_READ, guest.pd, 1)
    guest.cmd('DESTROY_MKEY', mkey_index=key >> 8)
    guest.cmd('DEALLOC_MEMIC', memic_start_addr=start, memic_size=4096)
    with pytest.raises(CommandFailed) as e:
        guest.create_mkey(b'', 0, access_mode_1_0=SW_ICM & 3, access_mode_4_2=SW_ICM >> 2,
                          pd=guest.pd, start_addr=0x100000, len=4096)
    assert e.value.status == 'BAD_PARAM'


def test_umem(guest: Guest) -> None:
    """A key over a umem: the umem is held, its MTTs' write enable counts, its end is the end."""
    base = guest.alloc(2 * PAGE)
    mtts = struct.pack('>2Q', base | 3, (base + PAGE) | 1)
    umem = guest.cmd('CREATE_UMEM', mtts, **{'umem.num_of_mtt': 2, 'umem.page_offset':
                                             0x100})['umem_id']
    entry = {
        'access_mode_1_0': 1, 'pd': guest.pd, 'start_addr': 0x9000, 'qpn': ANY, 'lr': 1, 'lw': 1,
        'log_page_size': 12}
    where = {'mkey_umem_valid': 1, 'mkey_umem_id': umem, 'mkey_umem_offset': 0x10}
    key = guest.create_mkey(b'', 0, command=where, len=2 * PAGE - 0x110, **entry)
    assert runs(guest, key, 0x9000, 2 * PAGE - 0x110,
                LOCAL_READ) == [(base + 0x110, 2 * PAGE - 0x110)]
    with pytest.raises(AccessError):
        runs(guest, key, 0x9000, 2 * PAGE - 0x110, LOCAL_WRITE)
    with pytest.raises(CommandFailed) as e:
        guest.create_mkey(b'', 0, command=where, len=2 * PAGE - 0x10f, **entry)
    assert e.value.status == 'BAD_PARAM'
    assert guest.fails('DESTROY_UMEM', umem_id=umem) == 'BAD_RES_STATE'
    guest.cmd('DESTROY_MKEY', mkey_index=key >> 8)
    guest.cmd('DESTROY_UMEM', umem_id=umem)


@pytest.mark.parametrize(('entry', 'uid', 'status'),
                         [({'pd': 0x7777}, 0, 'BAD_RES'),
                          ({'access_mode_4_2': 1, 'access_mode_1_0': 3}, 0, 'BAD_PARAM'),
                          ({'log_page_size': 11}, 0, 'BAD_PARAM'),
                          ({'log_page_size': 60}, 0, 'BAD_PARAM'), ({'bsf_en': 1}, 0, 'BAD_PARAM')])
def test_a_key_that_cannot_be_is_refused(guest: Guest, entry: dict, uid: int, status: str) -> None:
    """Bad contexts, each with its status; no key is left."""
    before = guest.card.memory.used
    with pytest.raises(CommandFailed) as e:
        guest.create_mkey(struct.pack('>2Q', 0x1000, 0x2000), 1, uid=uid, **{
            'access_mode_1_0': 1, 'pd': guest.pd, 'len': 0x2000, 'log_page_size': 12, **entry})
    assert e.value.status == status
    assert not len(guest.card.mkeys) and guest.card.memory.used == before


def test_short_translation_list(guest: Guest) -> None:
    """Fewer entries than announced."""
    with pytest.raises(CommandFailed) as e:
        guest.create_mkey(struct.pack('>2Q', 0x1000, 0x2000), 2, access_mode_1_0=1, pd=guest.pd,
                          len=0x2000, log_page_size=12)
    assert e.value.status == 'BAD_INP_LEN'


def test_physical_key_is_the_kernels(guest: Guest) -> None:
    """No user context gets a key to all memory; the reserved key serves only queues that the kernel
    made so."""
    uid = guest.cmd('CREATE_UCTX')['uid']
    pd = guest.cmd('ALLOC_PD', uid=uid)['pd']
    with pytest.raises(CommandFailed) as e:
        guest.create_mkey(b'', 0, uid=uid, pd=pd, length64=1, lr=1, lw=1)
    assert e.value.status == 'BAD_PARAM'
    src = guest.alloc(PAGE)
    a, b = connected(guest)
    a.post_send(Op.WRITE, raddr(src, 0), sge(src, 8, RESERVED_LKEY))
    assert a.scq.poll()[0]['syndrome'] == Syndrome.LOCAL_PROT
    assert guest.fails('CREATE_QP', uid=uid, **{'qpc.rlky': 1, 'qpc.pd': pd}) == 'BAD_PARAM'
    assert guest.fails('CREATE_QP', uid=uid, **{'qpc.st': REG_UMR, 'qpc.pd': pd}) == 'BAD_PARAM'
    k = GuestQp(guest, rlky=1)
    k.connect(k.number)
    dst = guest.mkey(src + 64, 64)
    guest.write(src, b'physical')
    k.post_send(Op.WRITE, raddr(src + 64, dst), sge(src, 8, RESERVED_LKEY))
    assert k.scq.poll()[0]['opcode'] == 0
    assert guest.read(src + 64, 8) == b'physical'


def test_pd_is_held_by_its_keys(guest: Guest) -> None:
    """A protection domain with keys cannot go."""
    pd = guest.cmd('ALLOC_PD')['pd']
    key = guest.mkey(guest.alloc(PAGE), PAGE, pd=pd)
    assert guest.fails('DEALLOC_PD', pd=pd) == 'BAD_RES_STATE'
    guest.cmd('DESTROY_MKEY', mkey_index=key >> 8)
    guest.cmd('DEALLOC_PD', pd=pd)


def test_query(guest: Guest) -> None:
    """The context comes back as created, with the first entries when asked for."""
    base = guest.alloc(2 * PAGE)
    key = guest.mkey(base, 2 * PAGE, va=0x123000)
    out = guest.cmd('QUERY_MKEY', mkey_index=key >> 8, pg_access=1)
    m = out.sub('memory_key_mkey_entry')
    assert (m['start_addr'], m['len'], m['mkey_7_0'], m['pd']) == (0x123000, 2 * PAGE, 0x5a,
                                                                   guest.pd)
    assert out['bsf0_klm0_pas_mtt0_1'] == struct.pack(
        '>2Q', base | 3, base + PAGE | 3), 'pages of a key made without pg_access are present'
