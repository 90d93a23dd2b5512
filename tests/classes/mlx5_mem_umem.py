# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" What the tests of umems share: sources of memory, and a comparison of what the card and Python
see in them.
"""
import contextlib
import fcntl
import mmap
import os
import resource
import struct
import subprocess
import sys
import unittest

from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_obj_type
from pyverbs.providers.mlx5.mlx5dv import Mlx5DevxObj
from pyverbs.providers.mlx5.mlx5dv_objects import Mlx5DvObj
from tests.mlx5_mem_base import PATIENCE, Mlx5MemTestCase, control, devx_cq

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

PAGE = resource.getpagesize()
LENGTH = 4 * PAGE
PATTERN = bytes((7 * i + i // 256) & 0xff for i in range(LENGTH))
WRITE = ibv_access_flags.IBV_ACCESS_LOCAL_WRITE
MASK_DMABUF = 1
NO_MEMFD = "os.memfd_create() is Python 3.8's"
#: _IOW('u', 0x42, struct udmabuf_create)
UDMABUF_CREATE = 0x40187542
#: _IOWR('H', 0, struct dma_heap_allocation_data)
DMA_HEAP_IOCTL_ALLOC = 0xc0184800
MAP_HUGETLB, MAP_HUGE_SHIFT = 0x40000, 26
#: Bytes compared at each spot.
SPOT = 16


def spots(start, size):
    """Offsets at which both sides are compared: first, last, and across each of the first and last
    page boundaries."""
    boundaries = range(PAGE - start % PAGE, size, PAGE)
    found = {0, size - SPOT} | {boundary - 5 for boundary in (*boundaries[:2], *boundaries[-1:])}
    return sorted(offset for offset in found if 0 <= offset <= size - SPOT)


class Mlx5DevxUmemTestCase(Mlx5MemTestCase):
    """Umems on self.ctx, and what the card says of them."""

    def setUp(self):
        super().setUp()
        self.uars = []

    def tearDown(self):
        for uar in self.uars:
            uar.close()
        super().tearDown()

    def umem(self, *args, **kwargs):
        return Mlx5DevxUmem(self.ctx, *args, **kwargs)

    def assert_card_sees(self, umem, data=PATTERN):
        """The card reads these bytes through the MTTs."""
        for offset in spots(umem.addr, min(len(data), umem.size)):
            self.assert_card_reads(umem.umem_id, offset, data[offset:offset + SPOT])

    def assert_both_ways(self, umem, view):
        """ The card reads what the view has, the view what the card writes; if there is no write
        access, the card cannot write.
        :param view: The same memory as Python has it, as writable bytes unless the umem is for
            reading
        """
        for offset in spots(umem.addr, umem.size):
            self.assert_card_reads(umem.umem_id, offset, view[offset:offset + SPOT])
            if not self.card:
                continue
            mark = bytes(0xff & (offset + 3 * i + 1) ^ 0xa5 for i in range(SPOT))
            if not umem.access & WRITE:
                self.assertRaises(control.ControlError, control.call, 'umem_write',
                                  umem_id=umem.umem_id, offset=offset, data=mark.hex())
                continue
            before = bytes(view[max(offset - 8, 0):offset]), bytes(
                view[offset + SPOT:offset + SPOT + 8])
            control.call('umem_write', umem_id=umem.umem_id, offset=offset, data=mark.hex())
            self.assertEqual(bytes(view[offset:offset + SPOT]), mark,
                             f'what the card wrote at {offset}')
            self.assertEqual((bytes(
                view[max(offset - 8, 0):offset]), bytes(view[offset + SPOT:offset + SPOT + 8])),
                             before)
            view[offset:offset + SPOT] = back = bytes(reversed(mark))
            self.assert_card_reads(umem.umem_id, offset, back)

    def assert_layout(self, umem, page_size=None):
        """ The card has been told this page size in bytes, the offset in the first page, and the
        MTTs that it takes.
        :param page_size: By default any from the CPU's page up: pages of memory may happen to be
            neighbours
        """
        if self.card:
            seen = control.call('umem', umem_id=umem.umem_id)
            if page_size is None:
                page_size = seen['page_size']
                self.assertGreaterEqual(page_size, PAGE)
                self.assertLessEqual(page_size, max(PAGE, 2 * umem.size))
            offset = umem.addr % page_size
            self.assertEqual(
                (seen['page_size'], 1 << seen['log_page_size'], seen['page_offset'],
                 len(seen['mtts'])),
                (page_size, page_size, offset, (offset + umem.size + page_size - 1) // page_size))

    def commands(self, name):
        """How many commands of this name the card was given."""
        return control.call('commands').get(name, 0) if self.card else 0

    @contextlib.contextmanager
    def assert_freed_once(self, count):
        """This many umems are made within, each of them is destroyed by one command, and none is
        left."""
        before = self.commands('CREATE_UMEM'), self.commands('DESTROY_UMEM'), self.live().get(
            'umem', 0)
        yield
        if self.card:
            self.assertEqual(
                (self.commands('CREATE_UMEM') - before[0],
                 self.commands('DESTROY_UMEM') - before[1], self.live().get('umem', 0) - before[2]),
                (count, count, 0))

    def umem_with_cq(self, ctx):
        """A umem, its doorbell record and a DEVX CQ on both."""
        umem, dbr = Mlx5DevxUmem(ctx, LENGTH, access=WRITE), Mlx5DevxUmem(ctx, 8, access=WRITE)
        uars = self.uars if ctx is self.ctx else []
        cq = devx_cq(ctx, umem, dbr, uars)
        return umem, dbr, cq, uars

    def in_new_process(self, script, **environment):
        """ Run a script in an interpreter of its own, which gets the device's name as its argument.
        It has to end with status 0 and say nothing on stderr, where a crash, an unraisable
        exception or a warning would be.
        :return: What it printed
        """
        process = subprocess.run(
            [sys.executable, '-X', 'faulthandler', '-c', script, self.dev_name],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
            timeout=PATIENCE,
            env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path), **environment})
        self.assertEqual((process.returncode, process.stderr), (0, ''))
        return process.stdout


def devx_mkey(ctx, umem, pd):
    """ A DEVX memory key over the first bytes of a umem: an object that uses it and needs nothing
    but a protection domain.
    """
    box = bytearray(0x110)
    pdn = Mlx5DvObj(mlx5dv_obj_type.MLX5DV_OBJ_PD, pd=pd).dvpd.pdn
    # Opcode; mkey_umem_valid; MTT access with local read and write; any QP; pd; length; translation
    # octwords; page size.
    struct.pack_into('>H', box, 0, 0x200)
    for offset, value in ((0x0c, 1 << 30), (0x10, 1 << 8 | 3 << 10), (0x14, 0xffffff << 8), (0x1c,
                                                                                             pdn),
                          (0x2c, PAGE), (0x44, 1), (0x48, 12), (0x60, 1), (0x64, umem.umem_id)):
        struct.pack_into('>I', box, offset, value)
    return Mlx5DevxObj(ctx, box, 16)


def sealable_memory(data):
    """fd of a memfd with data, which may be sealed."""
    if not hasattr(os, 'memfd_create'):
        raise unittest.SkipTest(NO_MEMFD)
    memory = os.memfd_create('umem', os.MFD_ALLOW_SEALING)
    os.write(memory, data)
    return memory


def udmabuf(memory, offset=0, length=LENGTH):
    """
    A dma-buf of pages of a memfd.
    :param memory: fd of the memfd, which is sealed against shrinking
    :return: fd of the dma-buf
    """
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with open('/dev/udmabuf', 'rb', buffering=0) as device:
        return fcntl.ioctl(device, UDMABUF_CREATE,
                           bytearray(struct.pack('=IIQQ', memory, 1, offset, length)), True)


def heap_dmabuf(length):
    """A dma-buf of the kernel's system heap, which can be mapped; its fd."""
    request = bytearray(struct.pack('=QIIQ', length, 0, os.O_RDWR | os.O_CLOEXEC, 0))
    with open('/dev/dma_heap/system', 'rb', buffering=0) as device:
        fcntl.ioctl(device, DMA_HEAP_IOCTL_ALLOC, request, True)
    return struct.unpack('=QIIQ', request)[1]


@contextlib.contextmanager
def huge_pages(size, count):
    """
    Have the kernel set huge pages aside, where it lets us.
    :param size: Their size in bytes
    :param count: How many are wanted
    :return: How many are free to use
    """
    directory = f'/sys/kernel/mm/hugepages/hugepages-{size >> 10}kB'

    def number(name):
        with open(f'{directory}/{name}') as file:
            return int(file.read())

    def ask(pages):
        with contextlib.suppress(PermissionError), open(f'{directory}/nr_hugepages', 'w') as file:
            file.write(str(pages))
    if not os.path.isdir(directory):
        yield 0
        return
    had = number('nr_hugepages')
    if number('free_hugepages') < count:
        if os.geteuid() == 0:
            with contextlib.suppress(OSError), open('/proc/sys/vm/compact_memory', 'w') as file:
                file.write('1')
        ask(had + count)
    try:
        yield number('free_hugepages')
    finally:
        ask(had)


def map_huge(size, count=1, shared=False):
    """Anonymous memory in huge pages of this size in bytes."""
    kind = mmap.MAP_SHARED if shared else mmap.MAP_PRIVATE
    return mmap.mmap(
        -1, size * count,
        flags=kind | mmap.MAP_ANONYMOUS | MAP_HUGETLB | (size.bit_length() - 1) << MAP_HUGE_SHIFT)
