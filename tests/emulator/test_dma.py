# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Guest memory by bus address: maps, transfers, bounds."""
import os

import pytest
from mlx5emu.dma import MAX_TRANSFER, Dma, DmaError

PAGE = 4096


@pytest.fixture
def fd():
    fd = os.memfd_create('dma')
    os.ftruncate(fd, 16 * PAGE)
    os.pwrite(fd, bytes(k // PAGE for k in range(16 * PAGE)), 0)
    yield fd
    os.close(fd)


def test_read_write(fd) -> None:
    dma = Dma()
    dma.map(0x1000, 4 * PAGE, fd, 2 * PAGE)
    assert dma.read(0x1000, 2) == b'\2\2' and dma.read(0x4fff, 1) == b'\5'
    dma.write(0x1010, b'hello')
    assert os.pread(fd, 5, 2 * PAGE + 0x10) == b'hello'
    assert dma.read(0x1000, 0) == b''
    dma.write(0x1020, b'\x12\x34\x56\x78')
    assert dma.read_be32(0x1020) == 0x12345678


@pytest.mark.parametrize(('addr', 'n'), [(0xfff, 1), (0xfff, 2), (0x5000, 1), (0x4fff, 2), (0, 1),
                                         ((1 << 64) - 1, 1), ((1 << 64) - 4, 8), (0x1000, -1),
                                         (0x1000, MAX_TRANSFER + 1), (-1, 1)])
def test_outside(fd, addr, n) -> None:
    dma = Dma()
    dma.map(0x1000, 4 * PAGE, fd)
    for _ in range(2):      # cold, and with the last map remembered
        with pytest.raises(DmaError):
            dma.read(addr, n)
        if n >= 0 and n < 64:
            with pytest.raises(DmaError):
                dma.write(addr, bytes(n))
        assert dma.read(0x1000, 1) == b'\0'


def test_straddles_two_maps(fd) -> None:
    dma = Dma()
    dma.map(0x2000, PAGE, fd, 5 * PAGE)
    dma.map(0x1000, PAGE, fd, 9 * PAGE)
    assert dma.read(0x1ffe, 4) == b'\x09\x09\5\5'
    dma.write(0x1ffc, b'abcdefgh')
    assert os.pread(fd, 4, 10 * PAGE - 4) == b'abcd' and os.pread(fd, 4, 5 * PAGE) == b'efgh'
    assert dma.read(0x1ffc, 8) == b'abcdefgh'


def test_a_write_that_cannot_be_whole_writes_nothing(fd) -> None:
    dma = Dma()
    dma.map(0x1000, PAGE, fd)
    dma.map(0x2000, PAGE, fd, 5 * PAGE, writable=False)
    for addr in (0x1ffc, 0x2000):
        with pytest.raises(DmaError):
            dma.write(addr, b'abcdefgh')
    assert os.pread(fd, 4, PAGE - 4) == b'\0\0\0\0' and os.pread(fd, 4, 5 * PAGE) == b'\5\5\5\5'
    with pytest.raises(DmaError):
        dma.write(0x2ffc, b'abcdefgh')


def test_bad_maps(fd) -> None:
    dma = Dma(max_maps=2)
    for addr, size in ((0, 0), (0, -1), ((1 << 64) - PAGE, 2 * PAGE), (-PAGE, PAGE), (1 << 64,
                                                                                      PAGE)):
        with pytest.raises(DmaError):
            dma.map(addr, size, fd)
    dma.map(0x10000, 2 * PAGE, fd)
    for addr in (0x10000, 0xf000, 0x11000):
        with pytest.raises(DmaError):
            dma.map(addr, 2 * PAGE, fd)
    with pytest.raises(DmaError):
        dma.map(0x40000, PAGE, fd, 100)      # offset is no page
    dma.map(0x20000, PAGE, fd)
    with pytest.raises(DmaError, match='too many'):
        dma.map(0x30000, PAGE, fd)
    assert dma.maps() == [(0x10000, 2 * PAGE), (0x20000, PAGE)]


def test_map_without_memory_is_not_reachable() -> None:
    dma = Dma()
    dma.map(0x1000, PAGE, None)
    with pytest.raises(DmaError):
        dma.read(0x1000, 1)


def test_unmap(fd) -> None:
    dma = Dma()
    for k in range(3):
        dma.map(0x1000 * (k + 1), PAGE, fd, k * PAGE)
    assert dma.read(0x2000, 1) == b'\1'
    assert dma.unmap(0x2000, PAGE - 1) == 0
    assert dma.unmap(0x1800, 2 * PAGE) == 1
    with pytest.raises(DmaError):
        dma.read(0x2000, 1)
    assert dma.read(0x1000, 1) == b'\0' and dma.read(0x3000, 1) == b'\2'
    assert dma.unmap(0, (1 << 64) - 1) == 2
    assert dma.maps() == []


def test_no_descriptor_is_kept(fd) -> None:
    before = os.listdir('/proc/self/fd')
    dma = Dma()
    for k in range(8):
        dma.map(0x1000 * (k + 1), PAGE, fd)
    dma.unmap_all()
    assert len(os.listdir('/proc/self/fd')) == len(before)
