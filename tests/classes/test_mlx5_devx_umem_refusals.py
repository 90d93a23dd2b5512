# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" What a refusal says is true of its cause: each cause is really made, and the text names it, or
names the likely one first, and says what to do.
"""
import errno
import mmap
import os
import tempfile
import unittest

import pyverbs.providers.mlx5.mlx5dv as mlx5dv
from pyverbs.device import DM, AllocDmAttr
from pyverbs.pd import PD
from tests.mlx5_mem_base import control
from tests.mlx5_mem_umem import LENGTH, PATTERN, WRITE, Mlx5DevxUmemTestCase, devx_mkey

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM

#: What every firmware command can end with, the errno that the kernel makes of it, and a word of
#: what the text then says.
STATUSES = (('INT_ERR', errno.EIO, 'dmesg'), ('BAD_SYS_STATE', errno.EIO, 'dmesg'),
            ('BAD_INP_LEN', errno.EIO, 'dmesg'), ('NO_RES', errno.EAGAIN, 'no resources left'))


def file_system_of_the_host():
    """In the guest of the emulated card, a directory of the host's that can be written to; else
    None, for /tmp."""
    with open('/proc/mounts') as mounts:
        for line in mounts:
            _, where, kind, options = line.split()[:4]
            if kind in ('virtiofs', '9p') and 'rw' in options.split(','):
                return where
    return None


class GpuArray:
    __cuda_array_interface__ = {
        'shape': (LENGTH,), 'typestr': '|u1', 'data': (0x7f0000000000, False), 'version': 3}


class GpuTensor:
    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, **kwargs):
        raise AssertionError('asked for memory that cannot be had')


class Mlx5DevxUmemRefusalsTest(Mlx5DevxUmemTestCase):
    def test_memory_of_another_device(self):
        """Mapped and writable, but of a device: by address it cannot be pinned, and the text says
        what does it."""
        with Mlx5DM(self.ctx, AllocDmAttr(length=4096)) as dm:
            for access in (0, WRITE):
                said = self.refused(errno.EFAULT, self.umem, 4096, addr=dm.addr, access=access)
                for word in ('not mapped', 'another device', 'dma-buf', 'dmabuf_fd'):
                    self.assertIn(word, said)
            # It is as usable as before.
            dm.copy_to_dm(0, b'mapped!!')
            self.assertEqual(dm.copy_from_dm(0, 8), b'mapped!!')
        self.assert_live('umem', 0)

    def test_shared_mapping_of_a_file(self):
        """Since Linux 6.5 a file of a file system that tracks what is written cannot be pinned to
        be written; a private mapping, and reading, can."""
        release = tuple(int(part) for part in os.uname().release.split('.')[:2])
        with tempfile.NamedTemporaryFile(dir=file_system_of_the_host()) as file:
            kind = os.popen(f'stat -f -c %T {file.name}').read().strip()
            file.write(PATTERN)
            file.flush()
            shared, private = (mmap.mmap(file.fileno(), LENGTH, flags=flags)
                               for flags in (mmap.MAP_SHARED, mmap.MAP_PRIVATE))
            self.umem(buffer=private, access=WRITE).close()
            self.umem(buffer=shared).close()
            # The emulated card's guest has its /tmp in memory, below an overlay.
            in_memory = kind == 'tmpfs' or kind == 'overlayfs' and 'MLX5EMU_TESTS' in os.environ
            if release < (6, 5) or in_memory:
                self.umem(buffer=shared, access=WRITE).close()
            else:
                said = self.refused(errno.EFAULT, self.umem, buffer=shared, access=WRITE)
                self.assertIn('shared mapping of a file', said)
                self.assertIn('tmpfs', said)
            shared.close()
            private.close()

    def test_gpu_memory_as_buffer(self):
        """Memory of a GPU is refused as such, whatever the object has to tell of it by; nothing is
        asked of it."""
        for exporter in (GpuArray(), GpuTensor()):
            said = self.wrong(self.umem, buffer=exporter, access=WRITE)
            self.assertIn('dma-buf', said)
            self.assertIn('dmabuf_fd', said)
        self.assertRaises(TypeError, self.umem, buffer=object())

    def test_the_firmware_refuses_to_register(self):
        """Each status that any command can end with, as errno and in words, and the next attempt
        succeeds."""
        self.needs_card()
        for status, code, word in STATUSES:
            with self.subTest(status=status):
                control.call('fault', opcode='CREATE_UMEM', status=status)
                self.assertIn(word, self.refused(code, self.umem, LENGTH, access=WRITE))
                self.umem(LENGTH, access=WRITE).close()
                self.assert_live('umem', 0)

    def test_the_firmware_refuses_to_deregister(self):
        """Only a refusal that a live object can be the cause of blames one; the umem stays as it
        was and closes later."""
        self.needs_card()
        for status, code, word in STATUSES:
            with self.subTest(status=status):
                umem = self.umem(LENGTH, access=WRITE)
                control.call('fault', opcode='DESTROY_UMEM', status=status)
                said = self.refused(code, umem.close)
                self.assertIn(word, said)
                self.assertNotIn('DEVX object', said)
                self.assertIn('stays open', said)
                self.assertFalse(umem.closed)
                self.assert_card_sees(umem, bytes(LENGTH))
                umem.close()
                self.assert_live('umem', 0)

    def test_in_use(self):
        """A key on the umem is what is named when it is the cause."""
        with PD(self.ctx) as pd, self.umem(LENGTH, access=WRITE) as umem:
            with devx_mkey(self.ctx, umem, pd):
                said = self.refused(errno.EINVAL, umem.close)
                self.assertIn('DEVX object made on it', said)
            self.assertFalse(umem.closed)
        self.assertTrue(umem.closed)

    def test_the_firmware_refuses_device_memory(self):
        """The same for MEMIC: allocating tells of the device's trouble. Freeing is not refused: the
        kernel drops what the firmware says, as the documents tell."""
        self.needs_card()
        for status, code, word in (*STATUSES[:3], ('NO_RES', errno.ENOMEM, 'No room is left')):
            with self.subTest(status=status):
                # The kernel tries the next page when this one has no resources.
                control.call('fault', opcode='ALLOC_MEMIC', status=status, count=100000)
                said = self.refused(code, Mlx5DM, self.ctx, AllocDmAttr(length=64))
                self.assertIn(word, said)
                control.call('faults_clear')
                Mlx5DM(self.ctx, AllocDmAttr(length=64)).close()
                self.assert_live('memic', 0)

    def needs_card(self):
        if not self.card:
            raise unittest.SkipTest('only the emulated card can be told to refuse')


class Mlx5DropInTest(Mlx5DevxUmemTestCase):
    """What upstream's classes have in the tree at hand, ours have: a name or a setter that comes
    there fails here."""
    def settable(self, obj):
        found = set()
        for name in dir(type(obj)):
            if name.startswith('_') or callable(getattr(type(obj), name)):
                continue
            try:
                setattr(obj, name, getattr(obj, name))
            except (AttributeError, TypeError):
                continue
            found.add(name)
        return found

    def compare(self, theirs, ours):
        missing = {name for name in dir(type(theirs)) if not name.startswith('__')} - set(dir(ours))
        self.assertEqual(missing, set())
        # Upstream has a method that ours has, too.
        for name in dir(type(theirs)):
            if not name.startswith('__'):
                self.assertEqual(callable(getattr(type(theirs), name)),
                                 callable(getattr(type(ours), name)), name)
        self.assertLessEqual(self.settable(theirs), self.settable(ours))

    def test_umem(self):
        theirs = mlx5dv.Mlx5UMEM(self.ctx, LENGTH, alignment=LENGTH, access=WRITE)
        with theirs, Mlx5DevxUmem(self.ctx, LENGTH, alignment=LENGTH, access=WRITE) as ours:
            self.compare(theirs, ours)

    def test_umem_addr_can_be_set(self):
        """As rdma-core's master has it, for a dma-buf that the program has mapped: a note that
        changes nothing else."""
        with self.umem(LENGTH, access=WRITE) as umem:
            addr = umem.addr
            self.assertEqual(umem.umem_addr, addr)
            umem.umem_addr = 0x7f0000001000
            self.assertEqual((umem.umem_addr, umem.addr), (0x7f0000001000, addr))
            for wrong in (-1, 1 << 64):
                self.wrong(setattr, umem, 'umem_addr', wrong)
            self.assertRaises(TypeError, setattr, umem, 'umem_addr', 'x')
            self.assertEqual(umem.umem_addr, 0x7f0000001000)
            umem.umem_addr = None
            self.assertEqual(umem.umem_addr, addr)
        self.wrong(setattr, umem, 'umem_addr', 0)

    def test_dm(self):
        theirs, ours = (kind(self.ctx, AllocDmAttr(length=64)) for kind in (DM, Mlx5DM))
        with theirs, ours:
            self.compare(theirs, ours)
