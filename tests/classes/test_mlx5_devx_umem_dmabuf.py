# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" Umems of dma-bufs from the kernel's own exporters: udmabuf, which wraps pages of a memfd, and
the system heap.
"""
import errno
import gc
import mmap
import os
import tempfile
import unittest

from pyverbs.providers.mlx5.mlx5dv import Mlx5UMEM
from tests.mlx5_mem_base import control
from tests.mlx5_mem_umem import (
    LENGTH,
    MASK_DMABUF,
    PAGE,
    PATTERN,
    WRITE,
    Mlx5DevxUmemTestCase,
    heap_dmabuf,
    sealable_memory,
    udmabuf,
)


class Mlx5DevxUmemDmabufTest(Mlx5DevxUmemTestCase):
    def setUp(self):
        super().setUp()
        for device, module in (('/dev/udmabuf', 'CONFIG_UDMABUF'), ('/dev/dma_heap/system',
                                                                    'CONFIG_DMABUF_HEAPS_SYSTEM')):
            if not os.access(device, os.R_OK):
                raise unittest.SkipTest(
                    f'{device} is not there, or not for this user: the kernel needs {module}')

    def memfd(self):
        """fd of a memfd with the pattern, and it mapped."""
        memory = sealable_memory(PATTERN)
        self.addCleanup(os.close, memory)
        return memory, mmap.mmap(memory, LENGTH)

    def test_udmabuf_at_offsets(self):
        """Offset and length inside, to the byte, with and without a mask and page sizes; card and
        memfd share the bytes."""
        memory, mapped = self.memfd()
        fd = udmabuf(memory)
        try:
            for offset, length, sizes in ((0, LENGTH, 0), (0, LENGTH, [
                    4096]), (PAGE,
                             LENGTH - PAGE, 0), (64, LENGTH - 64, 4096), (PAGE - 8, 2 * PAGE, [
                                 4096]), (LENGTH - 16, 16, 0), (3 * PAGE, 100, [4096, 1 << 21])):
                for mask in (0, MASK_DMABUF):
                    with self.subTest(offset=offset, length=length, sizes=sizes, mask=mask), \
                            self.assert_freed_once(1), \
                            self.umem(length, offset, access=WRITE, pgsz_bitmap=sizes,
                                      comp_mask=mask, dmabuf_fd=fd) as umem:
                        self.assertEqual((umem.addr, umem.size, umem.access),
                                         (offset, length, WRITE))
                        self.assert_layout(umem, PAGE if sizes else None)
                        self.assert_both_ways(umem, memoryview(mapped)[offset:offset + length])
                        self.assertRaises(BufferError, memoryview, umem)
                        self.assertIn(f'dma-buf offset={offset:#x}', repr(umem))
            with self.umem(LENGTH, dmabuf_fd=fd) as umem:
                self.assertEqual(umem.addr, 0)
                self.assert_both_ways(umem, memoryview(mapped))
        finally:
            os.close(fd)

    def test_caller_closes_everything_at_once(self):
        """The kernel holds the memory: the fd, the memfd and the mapping may go before the umem is
        used."""
        memory = sealable_memory(PATTERN)
        fd = udmabuf(memory)
        umem = self.umem(LENGTH, dmabuf_fd=fd, access=WRITE)
        os.close(fd)
        os.close(memory)
        gc.collect()
        # The same number, another file: not what was registered.
        with tempfile.TemporaryFile() as file:
            self.assertIn(file.fileno(), (fd, memory))
            self.assert_card_sees(umem)
            umem.close()
            # Nor does the umem close a number that is not its own.
            os.fstat(file.fileno())

    def test_system_heap(self):
        """Another exporter; its memory is mapped through the fd, and lives on in the umem."""
        fd = heap_dmabuf(LENGTH)
        mapped = mmap.mmap(fd, LENGTH)
        mapped[:] = PATTERN
        umem = self.umem(LENGTH, dmabuf_fd=fd, access=WRITE)
        os.close(fd)
        self.assert_both_ways(umem, memoryview(mapped))
        seen = mapped[64:80]
        mapped.close()
        self.assert_card_reads(umem.umem_id, 64, seen)
        umem.close()

    def test_wrong_parts_and_other_files_are_refused(self):
        """What does not lie inside, and what is no dma-buf, with the kernel's errno and nothing
        left on the card."""
        memory, _ = self.memfd()
        fd = udmabuf(memory)
        closed = os.dup2(fd, 900)
        os.close(closed)
        try:
            for offset, length, code in ((0, LENGTH + 1, errno.EINVAL), (1, LENGTH, errno.EINVAL),
                                         (LENGTH, 1, errno.EINVAL), (LENGTH + PAGE, PAGE,
                                                                     errno.EINVAL),
                                         (2**64 - PAGE, 2 * PAGE, errno.EINVAL), (2**64 - 1, 1,
                                                                                  errno.EINVAL),
                                         (0, 0, errno.EINVAL), (0, 2**64 - 1, errno.EINVAL)):
                with self.subTest(offset=offset, length=length):
                    self.assertIn('dma-buf',
                                  self.refused(code, self.umem, length, offset, dmabuf_fd=fd))
            self.refused(errno.EOPNOTSUPP, self.umem, LENGTH, dmabuf_fd=fd,
                         comp_mask=MASK_DMABUF | 32)
            for access in (2, 8):
                self.refused(errno.EINVAL, self.umem, LENGTH, dmabuf_fd=fd, access=access)
            for sizes in (2048, 1 << 30):
                self.assertIn(
                    'page size',
                    self.refused(errno.EINVAL, self.umem, LENGTH, dmabuf_fd=fd, pgsz_bitmap=sizes))
        finally:
            os.close(fd)
        with tempfile.TemporaryFile() as file, open('/dev/null', 'rb') as null:
            directory = os.open('/', os.O_RDONLY)
            self.addCleanup(os.close, directory)
            for name, other, code in (('file', file.fileno(),
                                       errno.EINVAL), ('device', null.fileno(), errno.EINVAL),
                                      ('directory', directory, errno.EINVAL), ('memfd', memory,
                                                                               errno.EINVAL),
                                      ('closed', closed, errno.EBADF), ('-1', -1, errno.EBADF),
                                      ('-2', -2, errno.EBADF), ('2**31-1', 2**31 - 1, errno.EBADF)):
                for mask in (0, MASK_DMABUF):
                    with self.subTest(fd=name, mask=mask):
                        self.refused(code, self.umem, LENGTH, dmabuf_fd=other, comp_mask=mask)
        self.wrong(self.umem, LENGTH, comp_mask=MASK_DMABUF)
        self.wrong(self.umem, LENGTH, 0, comp_mask=MASK_DMABUF)
        self.wrong(self.umem, dmabuf_fd=0)
        self.wrong(self.umem, LENGTH, dmabuf_fd=2**31)
        self.assert_live('umem', 0)

    def test_u7_upstream_registers_something_else(self):
        """U7: with a dmabuf_fd and no mask the dma-buf is what the card sees, never this process's
        memory."""
        memory, _ = self.memfd()
        fd = udmabuf(memory)
        self.addCleanup(os.close, fd)
        with self.umem(LENGTH, dmabuf_fd=fd) as umem:
            self.assert_card_sees(umem)
        if self.card:
            with Mlx5UMEM(self.ctx, LENGTH, alignment=PAGE, dmabuf_fd=fd) as umem:
                seen = bytes.fromhex(
                    control.call('umem_read', umem_id=umem.umem_id, offset=0, length=LENGTH))
                # pyverbs 59 to 65: the fd is ignored and zeroed memory of its own registered.
                # Whoever mends that ends this.
                self.assertIn(seen, (bytes(LENGTH), PATTERN))
