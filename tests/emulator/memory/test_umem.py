# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""User memory objects and software-managed ICM."""
import pytest
from emulator.driver.commands import run, status
from emulator.driver.memory import GUEST_BASE, GuestMemory
from mlx5emu import prm
from mlx5emu.card import Card
from mlx5emu.dma import DmaError
from mlx5emu.firmware import caps
from mlx5emu.firmware.status import Status
from mlx5emu.memory.umem import UmemError


@pytest.fixture
def card():
    card = Card('connectx6dx', 'ib')
    card.boot()
    card.guest = GuestMemory(card)
    card.user = run(card, 'CREATE_UCTX', {'uctx.cap': 3})['uid']
    yield card
    assert card.internal_errors == 0


def mtts(*values: int) -> bytes:
    return b''.join(v.to_bytes(8, 'big') for v in values)


def create(card, pages, *, log_page=12, offset=0, bits=3, uid=None) -> int:
    """CREATE_UMEM over pages; its id."""
    return run(card, 'CREATE_UMEM', {
        'umem.log_page_size': log_page - 12, 'umem.page_offset': offset, 'umem.num_of_mtt':
        len(pages)}, extra=mtts(*(p | bits for p in pages)),
               uid=card.user if uid is None else uid)['umem_id']


def test_memory_by_offset(card) -> None:
    """Pages in any order, an offset in the first; reads and writes cross pages."""
    base = card.guest.alloc(4 * 4096)
    u = card.umems.get(create(card, [base + 0x3000, base, base + 0x2000], offset=0xff0))
    assert u.size == 3 * 4096 - 0xff0
    u.write(0, bytes(range(64)))
    assert card.guest.read(base + 0x3ff0, 16) == bytes(range(16)) and card.guest.read(
        base, 48) == bytes(range(16, 64))
    assert u.read(0, 64) == bytes(range(64)) and u.read(u.size, 0) == b''
    assert u.pieces(0, 0x20) == [(base + 0x3ff0, 0x10), (base, 0x10)]
    assert u.address(16, 4) == base
    assert u.layout() == {
        'size': u.size, 'page_size': 4096, 'page_offset': 0xff0, 'uid': card.user, 'refs': 0,
        'mtts': [base + 0x3000 | 3, base | 3, base + 0x2000 | 3]}


def test_contiguous_pages_are_one_run(card) -> None:
    base = card.guest.alloc(4 * 4096)
    u = card.umems.get(create(card, [base, base + 4096, base + 8192]))
    assert u.pieces(0x800, 0x1800) == [(base + 0x800, 0x1800)]
    assert u.address(0xffc, 8) == base + 0xffc


@pytest.mark.parametrize(('offset', 'n'), [(8192, 1), (8191, 2), (0, 8193), (-1, 1), (0, -1),
                                           ((1 << 64) - 4, 8), (1 << 64, 0)])
def test_bounds(card, offset, n) -> None:
    u = card.umems.get(create(card, [GUEST_BASE, GUEST_BASE + 4096]))
    with pytest.raises(UmemError):
        u.read(offset, n)
    if 0 <= n < 1 << 16:
        with pytest.raises(UmemError):
            u.write(offset, bytes(n) if n else b'x')


def test_access_bits(card) -> None:
    base = card.guest.alloc(3 * 4096)
    u = card.umems.get(
        run(card, 'CREATE_UMEM', {'umem.num_of_mtt': 3},
            extra=mtts(base | 1, base + 4096 | 2, base + 8192), uid=card.user)['umem_id'])
    assert u.read(0, 4) == bytes(4)
    for offset in (0, 4094, 8192):
        with pytest.raises(UmemError):
            u.write(offset, b'abcd')
    u.write(4096, b'abcd')
    for offset in (4094, 4096, 8192):
        with pytest.raises(UmemError):
            u.read(offset, 4)
    assert card.guest.read(base + 4094,
                           2) == b'\0\0', 'the part before the refused page is not written'
    with pytest.raises(UmemError):
        u.address(0, 4, write=True)


def test_a_page_that_is_not_mapped(card) -> None:
    u = card.umems.get(create(card, [0x10000]))
    with pytest.raises(DmaError):
        u.read(0, 4)


def test_large_pages(card) -> None:
    u = card.umems.get(create(card, [GUEST_BASE], log_page=21, offset=0x1000))
    assert u.size == (2 << 20) - 0x1000
    u.write(0x100000, b'far')
    assert card.guest.read(GUEST_BASE + 0x101000, 3) == b'far'


@pytest.mark.parametrize(('fields', 'extra', 'want'), [
    ({'umem.num_of_mtt': 0}, mtts(GUEST_BASE), 'BAD_PARAM'),
    ({'umem.num_of_mtt': 2}, mtts(GUEST_BASE), 'BAD_INP_LEN'),
    ({'umem.num_of_mtt': (1 << 64) - 1}, mtts(GUEST_BASE), 'BAD_INP_LEN'),
    ({'umem.num_of_mtt': 1, 'umem.page_offset': 4096}, mtts(GUEST_BASE), 'BAD_PARAM'),
    ({'umem.num_of_mtt': 1, 'umem.page_offset': 0xffffffff}, mtts(GUEST_BASE), 'BAD_PARAM'),
    ({'umem.num_of_mtt': 1, 'umem.log_page_size': 20}, mtts(0), 'BAD_PARAM'),
    ({'umem.num_of_mtt': 1, 'umem.log_page_size': 9}, mtts(GUEST_BASE + 4096), 'BAD_PARAM'),
    ({'umem.num_of_mtt': 1}, mtts(GUEST_BASE + 0x100), 'BAD_PARAM')])
def test_a_umem_that_cannot_be_is_refused(card, fields, extra, want) -> None:
    assert status(card, 'CREATE_UMEM', fields, extra=extra, uid=card.user) == want
    assert card.umems.numbers() == [] and card.memory.used == 0


def test_destroy(card) -> None:
    umem_id = create(card, [GUEST_BASE])
    other = run(card, 'CREATE_UCTX')['uid']
    assert status(card, 'DESTROY_UMEM', {'umem_id': umem_id}, uid=other) == 'BAD_RES'
    assert status(card, 'DESTROY_UMEM', {'umem_id': umem_id + 1}, uid=card.user) == 'BAD_RES'
    card.umems.get(umem_id).hold()
    assert status(card, 'DESTROY_UMEM', {'umem_id': umem_id}, uid=card.user) == 'BAD_RES_STATE'
    assert card.umems.numbers() == [umem_id] and card.memory.used == 8
    card.umems.get(umem_id).drop()
    run(card, 'DESTROY_UMEM', {'umem_id': umem_id}, uid=card.user)
    assert status(card, 'DESTROY_UMEM', {'umem_id': umem_id}, uid=card.user) == 'BAD_RES'
    assert card.umems.numbers() == [] and card.memory.used == 0


def test_memory_for_mtts_is_bounded(card) -> None:
    card.memory.limit = 8 * 100
    create(card, [GUEST_BASE] * 90)
    assert status(card, 'CREATE_UMEM', {'umem.num_of_mtt': 11}, extra=mtts(*[GUEST_BASE] * 11),
                  uid=card.user) == 'EXCEED_LIM'
    assert card.memory.used == 8 * 90
    create(card, [GUEST_BASE] * 10)


# ---- software-managed ICM

def icm_object(start: int, log_units: int) -> bytes:
    """An allocation of 2^log_units blocks of 4 KiB; the field counts bytes."""
    view = prm.new('sw_icm')
    view.set(log_sw_icm_size=log_units + 12, sw_icm_start_addr=start)
    return bytes(view.buf)


def create_icm(card, start: int, log_units: int = 0) -> int:
    return run(card, 'CREATE_GENERAL_OBJECT', {'obj_type': 8}, extra=icm_object(start, log_units),
               uid=card.user)['obj_id']


def icm_status(card, start: int, log_units: int = 0, **fields) -> str:
    return status(card, 'CREATE_GENERAL_OBJECT', {'obj_type': 8} | fields, extra=icm_object(
        start, log_units), uid=card.user)


def test_the_four_kinds(card) -> None:
    ranges = card.icm.ranges()
    assert set(ranges) == {'steering', 'header_modify', 'header_modify_pattern', 'encap'}
    for kind, (start, size) in ranges.items():
        assert size >= 1 << 20
        obj = card.general_objects.get(create_icm(card, start + size // 2, 3))
        assert (obj.range_name, obj.start, obj.size) == (kind, start + size // 2, 8 * 4096)
    spans = sorted(ranges.values())
    assert all(a + n <= b
               for (a, n), (b, _) in zip(spans, spans[1:], strict=False)), 'ranges do not overlap'
    # Each kind's range is what the capability page says.
    page = card.caps.page('device_memory')
    assert ranges['encap'] == (page['indirect_encap_sw_icm_start_address'],
                               1 << page['log_indirect_encap_sw_icm_size'])


def test_connectx5_has_no_patterns() -> None:
    card = Card('connectx5', 'ib')
    card.boot()
    card.user = run(card, 'CREATE_UCTX')['uid']
    assert icm_status(card, 0x30_0000_0000) == 'BAD_PARAM'
    assert icm_status(card, 0x10_0000_0000) == 'OK'


def test_icm_refusals(card) -> None:
    start, size = card.icm.ranges()['steering']
    assert icm_status(card, start - 4096) == 'BAD_PARAM'
    assert icm_status(card, start + size) == 'BAD_PARAM'
    assert icm_status(card, start + 64) == 'BAD_PARAM'
    assert icm_status(card, start + size - 4096, 1) == 'BAD_PARAM'
    assert icm_status(card, start, 41) == 'BAD_PARAM'
    assert icm_status(card, start, -1) == 'BAD_PARAM', 'less than the granularity'
    assert icm_status(card, 0) == 'BAD_PARAM'
    create_icm(card, start + 8192, 1)
    for other, log_units in ((start + 8192, 0), (start + 12288, 0), (start, 2), (start + 8192, 1)):
        assert icm_status(card, other, log_units) == 'BAD_RES_STATE'
    assert icm_status(card, start + 16384) == 'OK'
    assert icm_status(card, start, obj_type=0x99) == 'BAD_PARAM'
    assert status(card, 'CREATE_GENERAL_OBJECT', {'obj_type': 8}, uid=card.user) == 'BAD_INP_LEN'
    assert len(card.general_objects) == 2


def test_icm_contents(card) -> None:
    start, _ = card.icm.ranges()['steering']
    obj_id = create_icm(card, start, 2)
    assert card.icm.read(start, 32) == bytes(32)
    card.icm.write(start + 4090, b'over a page')
    assert card.icm.read(start + 4090, 11) == b'over a page' and card.icm.read(start + 16380,
                                                                               4) == bytes(4)
    assert card.memory.used == 8192
    for address, n in ((start - 1, 1), (start + 16384, 1), (start + 16380, 8), (start, -1),
                       ((1 << 64) - 1, 2)):
        with pytest.raises(IndexError):
            card.icm.read(address, n)
    with pytest.raises(IndexError):
        card.icm.write(start + 16380, bytes(8))
    run(card, 'DESTROY_GENERAL_OBJECT', {'obj_type': 8, 'obj_id': obj_id}, uid=card.user)
    assert card.memory.used == 0 and card.icm.allocations == {}
    with pytest.raises(IndexError):
        card.icm.read(start, 1)
    create_icm(card, start, 2)
    assert card.icm.read(start + 4090, 11) == bytes(11), 'what another had written is gone'


def test_icm_memory_is_bounded(card) -> None:
    start, _ = card.icm.ranges()['steering']
    create_icm(card, start, 8)
    card.memory.limit = 3 * 4096
    for k in range(3):
        card.icm.write(start + 4096 * k, b'x')
    with pytest.raises(Status, match='EXCEED_LIM'):
        card.icm.write(start + 4096 * 3, b'x')


def test_query_and_destroy_icm(card) -> None:
    start, _ = card.icm.ranges()['header_modify']
    obj_id = create_icm(card, start + 0x4000, 2)
    out = run(card, 'QUERY_GENERAL_OBJECT', {'obj_type': 8, 'obj_id': obj_id}, uid=card.user,
              out_len=16 + 64)
    view = prm.View('sw_icm', out.buf, 16)
    assert (view['sw_icm_start_addr'], view['log_sw_icm_size']) == (start + 0x4000, 14)
    assert status(card, 'QUERY_GENERAL_OBJECT', {'obj_type': 8, 'obj_id': obj_id},
                  uid=card.user) == 'BAD_OUTP_LEN'
    other = run(card, 'CREATE_UCTX')['uid']
    for fields, uid, want in (({'obj_type': 8, 'obj_id': obj_id}, other, 'BAD_RES'),
                              ({'obj_type': 9, 'obj_id': obj_id}, card.user, 'BAD_PARAM'),
                              ({'obj_type': 8, 'obj_id': obj_id + 1}, card.user, 'BAD_RES')):
        assert status(card, 'DESTROY_GENERAL_OBJECT', fields, uid=uid) == want
    card.general_objects.get(obj_id).hold()
    assert status(card, 'DESTROY_GENERAL_OBJECT', {'obj_type': 8, 'obj_id': obj_id},
                  uid=card.user) == 'BAD_RES_STATE'
    card.general_objects.get(obj_id).drop()
    run(card, 'DESTROY_GENERAL_OBJECT', {'obj_type': 8, 'obj_id': obj_id}, uid=card.user)
    assert card.objects() == {'uctx': [card.user, other]}


def test_profiles_cover_every_range(card) -> None:
    """Each range lies inside the 48-bit ICM space and is a power of two at least the
    granularity."""
    for profile in caps.PROFILES:
        for start, size in Card(profile).icm.ranges().values():
            assert size & (size -
                           1) == 0 and size >= 4096 and start % size == 0 and start + size < 1 << 48
