# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The PCI function: configuration space, initialization segment, doorbells, MEMIC window and
operation addresses."""
import os

import pytest
from emulator.driver.commands import run, status
from mlx5emu.bus import bar0, pci
from mlx5emu.bus.pci import Function
from mlx5emu.card import Card
from mlx5emu.dma import DmaError
from mlx5emu.firmware import caps


@pytest.fixture
def function():
    f = Function(Card('connectx6dx', 'eth'))
    f.card.boot()
    yield f
    assert f.card.internal_errors == 0


def config(f: Function, offset: int, n: int) -> int:
    """Little-endian value of configuration space."""
    return int.from_bytes(f.read(7, offset, n), 'little')


def capabilities(f: Function) -> dict[int, int]:
    """{capability id: offset}, following the list."""
    out, at = {}, config(f, 0x34, 1)
    while at:
        assert at not in out.values(), 'the capability list loops'
        out[config(f, at, 1)] = at
        at = config(f, at + 1, 1)
    return out


def test_header(function) -> None:
    assert config(function, 0, 4) == 0x101d15b3
    assert config(function, 0x0a, 2) == 0x0200
    assert capabilities(function) == {
        0x01: pci.PM_CAP, 0x10: pci.PCIE_CAP, 0x11: pci.MSIX_CAP, 0x09: pci.VSC_CAP}
    assert config(function, pci.MSIX_CAP + 2, 2) & 0x7ff == function.card.vectors - 1
    assert config(Function(Card('connectx5', 'ib')), 0x0a, 2) == 0x0207


def test_bar_sizing(function) -> None:
    function.write(7, 0x10, b'\xff' * 8)
    value = config(function, 0x10, 8)
    assert value & 0xf == 0xc and (1 << 64) - (value & ~0xf) == bar0.SIZE


def test_what_is_read_only_stays(function) -> None:
    before = function.read(7, 0, 4096)
    for at in (0, 8, 0x2c, 0x34, pci.PCIE_CAP, pci.MSIX_CAP, pci.MSIX_CAP + 4, 0x200, 0xffc):
        function.write(7, at, b'\xff\xff' if at in (pci.PCIE_CAP, pci.MSIX_CAP) else b'\xff' * 4)
    after = bytearray(function.read(7, 0, 4096))
    # the gateway's counter counts reads
    after[pci.VSC_CAP + 8:pci.VSC_CAP + 12] = before[pci.VSC_CAP + 8:pci.VSC_CAP + 12]
    assert after == before


def test_gateway_lock(function) -> None:
    """The driver's protocol: write the counter into the free semaphore, read it back."""
    v = pci.VSC_CAP
    a, b = config(function, v + 8, 4), config(function, v + 8, 4)
    assert a != b and config(function, v + 12, 4) == 0
    function.write(7, v + 12, a.to_bytes(4, 'little'))
    function.write(7, v + 12, b.to_bytes(4, 'little'))
    assert config(function, v + 12, 4) == a, 'the second does not get the lock'
    function.write(7, v + 4, (7).to_bytes(4, 'little'))
    assert config(function, v + 4, 4) >> 29 == 0, 'no such address space'
    function.write(7, v + 12, bytes(4))
    assert config(function, v + 12, 4) == 0


@pytest.mark.parametrize(('offset', 'data', 'resets'), [(pci.DEVCTL, b'\x00\x80', 1),
                                                        (pci.DEVCTL + 1, b'\x80', 1),
                                                        (pci.DEVCTL, b'\x00\x80\x00\x00', 1),
                                                        (pci.DEVCTL, b'\xff\x7f', 0),
                                                        (pci.DEVCTL, b'\xff', 0),
                                                        (pci.PCIE_CAP + 12, b'\x00\x80', 0)])
def test_function_level_reset(function, offset, data, resets) -> None:
    function.write(7, 4, b'\x06\x00')
    run(function.card, 'ALLOC_PD')
    function.write(7, offset, data)
    assert function.card.resets == resets
    if resets:
        assert function.card.objects() == {} and function.card.state == function.card.RESET
        assert config(function, 4, 2) == 0 and config(function, pci.DEVCTL, 2) & 0x8000 == 0
    else:
        assert function.card.objects() == {'pd': [1]} and config(function, 4, 2) == 6


def test_initialization_segment(function) -> None:
    word = lambda at: int.from_bytes(function.read(0, at, 4), 'big')  # noqa: E731
    assert word(0) == 41 << 16 | 22 and word(4) == 5 << 16 | 1000
    assert word(0x14) & 0xff == 0x56 and word(0x1fc) == 0 and word(0x230) not in (0, 0xffffffff)
    assert word(0x1010) <= 0xffffff
    before, timer = word(0x1010), int.from_bytes(function.read(0, 0x1000, 8), 'big')
    function.card._start -= 5_000_000_000
    assert (word(0x1010) - before) & 0xffffff >= 5000 and int.from_bytes(
        function.read(0, 0x1000, 8), 'big') - timer >= 5_000_000_000
    assert function.read(0, 0x200f, 8)[1:] == bytes(7)
    function.write(0, 0x1010, b'\0\0\0\0')
    function.write(0, 0, b'\0\0\0\0')
    assert word(0) == 41 << 16 | 22


def test_software_reset_by_nic_interface(function) -> None:
    run(function.card, 'ALLOC_PD')
    function.write(0, 0x14, (1 << 8).to_bytes(4, 'big'))
    assert int.from_bytes(function.read(0, 0x14, 4), 'big') >> 8 & 7 == 1 and function.card.objects(
    ) == {'pd': [1]}
    function.write(0, 0x14, (7 << 8).to_bytes(4, 'big'))
    assert function.card.objects() == {} and function.card.resets == 1


def test_bounds(function) -> None:
    for region, offset, n in ((0, bar0.SIZE, 1), (0, bar0.SIZE - 1, 2), (0, (1 << 64) - 1, 4),
                              (7, 4096, 1), (7, 4095, 2), (1, 0, 1), (8, 0, 4), (9, 0, 1)):
        with pytest.raises(IndexError):
            function.read(region, offset, n)
        with pytest.raises(IndexError):
            function.write(region, offset, bytes(n))
    assert function.read(0, bar0.SIZE - 4, 4) == bytes(4)


def test_doorbells_reach_the_card_only_on_allocated_pages(function, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(bar0, 'doorbell', lambda card, offset, uar, data: seen.append(
        (offset, uar, data)))
    function.write(0, 0x100800, b'abcdefgh')
    assert seen == []
    uar = run(function.card, 'ALLOC_UAR')['uar']
    base = uar << 12
    function.write(0, base + 0x800, b'abcdefgh')
    function.write(0, base + 0x20, b'ABCDEFGH')
    function.write(0, base + 0x24, b'lost')
    function.write(0, base + 0x20, b'high')
    function.write(0, base + 0x24, b'low.')
    function.write(0, base + 0x40, b'eqdb')
    assert seen == [(0x800, uar, b'abcdefgh'), (0x20, uar, b'ABCDEFGH'), (0x20, uar, b'highlow.'),
                    (0x40, uar, b'eqdb')]


def test_every_64_bit_doorbell_may_come_as_two_halves(function, monkeypatch) -> None:
    """Each pair counts once, also where another buffer's comes between its halves; what follows a
    WQE's head in a BlueFlame buffer is passed on as it is."""
    seen = []
    monkeypatch.setattr(bar0, 'doorbell', lambda card, offset, uar, data: seen.append(
        (offset, uar, data)))
    uar = run(function.card, 'ALLOC_UAR')['uar']
    base = uar << 12
    places = (0x20, 0x600, 0x800, 0x900, 0xa00, 0xf00)
    for place in places:
        function.write(0, base + place + 4, b'lost')
        function.write(0, base + place, b'high')
    for place in places:
        function.write(0, base + place + 4, b'low.')
        function.write(0, base + place + 4, b'lost')
    assert seen == [(place, uar, b'highlow.') for place in places]
    seen.clear()
    function.write(0, base + 0x808, b'more')
    assert seen == [(0x808, uar, b'more')]


# ---- MEMIC


def alloc(card: Card, size: int, *, low: int = caps.MEMIC_START, length: int = caps.MEMIC_SIZE,
          align: int = 0) -> int:
    """ALLOC_MEMIC; the start offset in BAR0."""
    return run(
        card, 'ALLOC_MEMIC', {
            'memic_size': size, 'range_start_addr': low, 'range_size': length,
            'log_memic_addr_alignment': align})['memic_start_addr']


def test_memic_window(function) -> None:
    at = alloc(function.card, 8192)
    function.write(0, at + 100, b'through the BAR')
    assert function.card.memic.read(at + 100, 15) == b'through the BAR'
    assert function.read(0, at + 100, 15) == b'through the BAR'
    fd, areas = function.mappings[0]
    assert areas == [(caps.MEMIC_START, caps.MEMIC_SIZE)] and fd == function.card.memic.fd
    assert os.pread(fd, 15,
                    at + 100) == b'through the BAR', 'the VM maps the file at the offset in BAR0'
    for offset, n in ((caps.MEMIC_START - 1, 1), (caps.MEMIC_START + caps.MEMIC_SIZE, 1),
                      (caps.MEMIC_START, caps.MEMIC_SIZE + 1), (caps.MEMIC_START, -1)):
        with pytest.raises(IndexError):
            function.card.memic.read(offset, n)


def test_memic_allocation(function) -> None:
    card = function.card
    a = alloc(card, 64)
    b = alloc(card, 128, align=6)
    assert a == caps.MEMIC_START and b == caps.MEMIC_START + 4096
    c = alloc(card, 4096 - 64)
    assert c == caps.MEMIC_START + 64, 'the gap between the two fits exactly'
    assert alloc(card, 64) == b + 128
    run(card, 'DEALLOC_MEMIC', {'memic_start_addr': c, 'memic_size': 4096 - 64})
    assert alloc(card, 64) == c
    d = alloc(card, 4096, low=caps.MEMIC_START + 0x8000, length=4096)
    assert d == caps.MEMIC_START + 0x8000
    assert status(card, 'ALLOC_MEMIC',
                  {'memic_size': 64, 'range_start_addr': d, 'range_size': 4096}) == 'NO_RES'
    ranges = sorted((r.number, r.size) for r in card.memic.ranges.values())
    assert all(
        x + n <= y for (x, n), (y, _) in zip(ranges, ranges[1:], strict=False)), 'no two overlap'


@pytest.mark.parametrize(('fields', 'want'),
                         [({'memic_size': 0}, 'BAD_PARAM'), ({'memic_size': 63}, 'BAD_PARAM'),
                          ({'memic_size': caps.MAX_MEMIC + 64}, 'BAD_PARAM'),
                          ({'log_memic_addr_alignment': 13}, 'BAD_PARAM'),
                          ({'range_start_addr': 0}, 'BAD_PARAM'),
                          ({'range_start_addr': caps.MEMIC_START + caps.MEMIC_SIZE}, 'BAD_PARAM'),
                          ({'range_size': caps.MEMIC_SIZE + 64}, 'BAD_PARAM'),
                          ({'range_size': 32}, 'BAD_PARAM'),
                          ({'range_start_addr': (1 << 64) - 64, 'range_size': 128}, 'BAD_PARAM')])
def test_memic_refusals(function, fields, want) -> None:
    base = {'memic_size': 64, 'range_start_addr': caps.MEMIC_START, 'range_size': caps.MEMIC_SIZE}
    assert status(function.card, 'ALLOC_MEMIC', base | fields) == want
    assert function.card.memic.ranges == {}


def test_memic_exhaustion_and_free(function) -> None:
    card = function.card
    starts = [alloc(card, caps.MAX_MEMIC) for _ in range(caps.MEMIC_SIZE // caps.MAX_MEMIC)]
    assert status(
        card, 'ALLOC_MEMIC',
        {'memic_size': 64, 'range_start_addr': caps.MEMIC_START, 'range_size': caps.MEMIC_SIZE
         }) == 'NO_RES'
    for start, size, want in ((starts[0], 64, 'BAD_RES'), (starts[0] + 64, caps.MAX_MEMIC,
                                                           'BAD_RES')):
        assert status(card, 'DEALLOC_MEMIC',
                      {'memic_start_addr': start, 'memic_size': size}) == want
    card.memic.ranges[starts[1]].hold()
    assert status(card, 'DEALLOC_MEMIC',
                  {'memic_start_addr': starts[1], 'memic_size': caps.MAX_MEMIC}) == 'BAD_RES_STATE'
    run(card, 'DEALLOC_MEMIC', {'memic_start_addr': starts[0], 'memic_size': caps.MAX_MEMIC})
    assert alloc(card, caps.MAX_MEMIC) == starts[0]


def test_memic_operations(function) -> None:
    """Increment adds what is written, test-and-set returns the old value and leaves 1: as
    rdma-core's test wants."""
    card = function.card
    start = alloc(card, 4096)
    other = alloc(card, 4096)
    inc, tas = (run(card, 'MODIFY_MEMIC',
                    {'memic_operation_type': op, 'memic_start_addr': start})['memic_operation_addr']
                for op in (0, 1))
    assert inc % 4096 == start % 4096
    assert 0 <= inc - caps.MEMIC_OPERATION_START < 2 * caps.MEMIC_SIZE
    function.write(0, inc, b'\x01')
    function.write(0, inc, b'\x01')
    assert function.read(0, tas, 1) == b'\x02' and function.read(
        0, tas, 1) == b'\x01' and function.read(0, start, 1) == b'\x01'
    # Big-endian, with a carry, wrapping at the width and nowhere else, in each width.
    for n in (1, 2, 4, 8):
        function.write(0, inc + 8, ((1 << 8 * n) - 3).to_bytes(n, 'big'))
        function.write(0, inc + 8, (5).to_bytes(n, 'big'))
        assert function.read(0, start,
                             24) == b'\x01' + bytes(7) + (2).to_bytes(n, 'big') + bytes(16 - n)
        assert function.read(0, tas + 8, n) == (2).to_bytes(n, 'big') and function.read(
            0, start + 8, n) == (1).to_bytes(n, 'big')
        assert function.read(0, inc + 8, n) == (1).to_bytes(
            n, 'big'), 'reading an increment address changes nothing'
        function.write(0, start + 8, bytes(8))
    function.write(0, inc + 16, b'\x00\xff')
    function.write(0, inc + 16, b'\x00\x01')
    assert function.read(0, start + 16, 2) == b'\x01\x00'
    function.write(0, start + 16, bytes(2))
    function.write(0, tas, b'\x09')
    function.write(0, inc + 1, b'\x01\x01')     # not aligned
    function.write(0, inc + (other - start),
                   b'\x01')       # the other allocation has no such address
    assert function.read(0, start, 1) == b'\x01' and function.read(
        0, other, 1) == b'\0' and function.read(0, start + 1, 2) == b'\0\0'
    assert function.read(0, tas + (other - start), 4) == b'\xff' * 4

    assert status(card, 'MODIFY_MEMIC',
                  {'memic_operation_type': 0, 'memic_start_addr': start}) == 'BAD_RES_STATE'
    assert status(card, 'MODIFY_MEMIC',
                  {'memic_operation_type': 2, 'memic_start_addr': start}) == 'BAD_PARAM'
    assert status(card, 'MODIFY_MEMIC',
                  {'memic_operation_type': 0, 'memic_start_addr': start + 64}) == 'BAD_RES'
    run(card, 'MODIFY_MEMIC', {'memic_operation_type': 0, 'memic_start_addr': start}, op_mod=1)
    function.write(0, inc, b'\x01')
    assert function.read(0, start, 1) == b'\x01'
    assert status(card, 'MODIFY_MEMIC', {'memic_operation_type': 0, 'memic_start_addr': start},
                  op_mod=1) == 'BAD_RES'


def test_memic_operation_widths() -> None:
    """A width that the card does not offer is no operation."""
    caps = ['device_memory.memic_increment_size=5', 'device_memory.memic_test_and_set_size=1']
    function = Function(Card('connectx7', 'eth', cap_overrides=caps))
    function.card.boot()
    start = alloc(function.card, 64)
    inc, tas = (run(function.card, 'MODIFY_MEMIC',
                    {'memic_operation_type': op, 'memic_start_addr': start})['memic_operation_addr']
                for op in (0, 1))
    for n, does in ((1, True), (2, False), (4, True), (8, False)):
        function.write(0, start, bytes(8))
        function.write(0, inc, (1).to_bytes(n, 'big'))
        assert (function.read(0, start, 8) != bytes(8)) == does
        function.write(0, start, bytes(8))
        assert (function.read(0, tas, n) != b'\xff' * n) == (n == 1)
        assert function.read(0, start, 8) == (b'\x01' if n == 1 else b'\0') + bytes(7)


def test_memic_by_dma(function) -> None:
    """The card's DMA reaches its own MEMIC where BAR0 is, and nothing else of the BAR; moved,
    closed or reset, it is not there."""
    dma, bar = function.card.dma, 0x38_0000_0000
    start = bar + caps.MEMIC_START
    function.card.memic.write(caps.MEMIC_START + 64, b'on the card')
    for word in (b'\x04\x00', b'\x00\x00'):
        function.write(7, 4, word)
        function.write(7, 0x10, bar.to_bytes(8, 'little'))
        with pytest.raises(DmaError):
            dma.read(start, 4)
    function.write(7, 4, b'\x06\x00')
    assert dma.read(start + 64, 11) == b'on the card'
    dma.write(start + caps.MEMIC_SIZE - 4, b'last')
    assert function.read(0, caps.MEMIC_START + caps.MEMIC_SIZE - 4, 4) == b'last'
    for address, n in ((start - 1, 1), (start + caps.MEMIC_SIZE, 1), (start + caps.MEMIC_SIZE - 2,
                                                                      4),
                       (bar, 4), (bar + caps.MEMIC_OPERATION_START, 4), (caps.MEMIC_START, 4)):
        with pytest.raises(DmaError):
            dma.read(address, n)
        with pytest.raises(DmaError):
            dma.write(address, bytes(n))
    # Guest memory that was mapped there is the guest's.
    fd = os.memfd_create('guest')
    os.ftruncate(fd, 4096)
    dma.map(start, 4096, fd)
    assert dma.read(start + 64, 11) == bytes(11)
    assert dma.unmap(start, 4096) == 1
    os.close(fd)
    assert dma.read(start + 64, 11) == b'on the card'
    function.write(7, 0x10, (bar + bar0.SIZE).to_bytes(8, 'little'))
    with pytest.raises(DmaError):
        dma.read(start + 64, 4)
    assert dma.read(start + bar0.SIZE + 64, 11) == b'on the card'
    function.reset()
    with pytest.raises(DmaError):
        dma.read(start + bar0.SIZE, 4)
