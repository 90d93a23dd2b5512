# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
Device memory: Mlx5DM and Mlx5DMOpAddr.

Data differs at each position, so that a wrong offset shows. A docstring that names D1 to D13, O1 to
O7, G1 or G2 is of a defect of pyverbs' own DM or Mlx5DmOpAddr, which crash, leak or answer wrongly
there; test_mlx5_dm_defects.py carries out each on both. Where it shows nothing wrong with theirs,
Documentation/mlx5_dm.md says so: O6, which takes a Cython older than 3.
"""
import array
import copy
import ctypes
import errno
import gc
import inspect
import itertools
import mmap
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
import weakref

from pyverbs.device import DM, AllocDmAttr, Context
from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.mr import DMMR
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context
from pyverbs.pyverbs_error import PyverbsError, PyverbsRDMAError, PyverbsUserError
from tests.mlx5_mem_base import (
    PATIENCE,
    Mlx5MemTestCase,
    Number,
    control,
    drop_capability,
    mappings_of_device,
    pass_fd,
    resident_bytes,
)

from pyverbs.providers.mlx5 import mlx5dv_dm, mlx5dv_dm_caps
from pyverbs.providers.mlx5.mlx5dv_dm import (
    Mlx5AllocDmAttr,
    Mlx5DM,
    Mlx5DMError,
    Mlx5DMOpAddr,
    mlx5dv_alloc_dm_type,
)

LENGTH = 4096
PATTERN = bytes((7 * i + i // 256) & 0xff for i in range(LENGTH))
WRITE = ibv_access_flags.IBV_ACCESS_LOCAL_WRITE
MR_ACCESS = ibv_access_flags.IBV_ACCESS_ZERO_BASED | ibv_access_flags.IBV_ACCESS_LOCAL_WRITE
SW_ICM = [
    kind for kind in mlx5dv_alloc_dm_type if kind != mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_MEMIC]
CAP_NET_RAW, CAP_SYS_RAWIO = 13, 17
INCREMENT, TEST_AND_SET = 0, 1
KERNEL = tuple(int(part) for part in os.uname().release.split('.')[:2])
#: What a caller may pass for an offset or a length and must not.
WRAPPING = (2**64 - 4, 2**64 - 8, 2**63, 2**62, 2**32, LENGTH + 4)


#: A process of its own that imports the DM whose handle it is given.
IMPORTER = """
import array, os, signal, socket, sys
from pyverbs.device import Context
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM
channel = socket.socket(fileno=int(sys.argv[1]))
_, ((_, _, fd),), _, _ = channel.recvmsg(16, socket.CMSG_SPACE(4))
ctx = Context(cmd_fd=array.array('i', fd)[0])
dm = Mlx5DM.import_dm(ctx, int(sys.argv[2]))
data = dm.copy_from_dm(0, dm.length)
dm.copy_to_dm(0, data[::-1])
assert dm.is_imported
channel.sendall(data)
channel.recv(1)
if sys.argv[3] == 'kill':
    os.kill(os.getpid(), signal.SIGKILL)
dm.close()
ctx.close()
"""


class Mlx5DMTestCase(Mlx5MemTestCase):
    def memic(self, length=LENGTH, **kwargs):
        return Mlx5DM(self.ctx, AllocDmAttr(length=length, **kwargs))

    def sw_icm(self, kind=mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_STEERING_SW_ICM, length=LENGTH):
        return Mlx5DM(self.ctx, AllocDmAttr(length=length), Mlx5AllocDmAttr(kind))

    def sw_icm_types(self):
        """The types of SW ICM that card and kernel have. Each of the others is refused, and the
        reason that is given is the right one."""
        caps, have = Mlx5DM.query_caps(self.ctx), []
        for kind in SW_ICM:
            too_old = kind.name == 'MLX5DV_DM_TYPE_ENCAP_SW_ICM' and KERNEL < (6, 8)
            if caps.missing(kind) is None and not too_old:
                have.append(kind)
                continue
            text = self.refused(errno.EOPNOTSUPP, self.sw_icm, kind)
            self.assertIn(f'of size {LENGTH} ({kind.name}). ', text)
            self.assertIn(
                caps.missing(kind) or 'The device has the type, so the kernel is too old for it',
                text)
        self.assertIn(mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_STEERING_SW_ICM, have)
        return have


class Mlx5DMAllocTest(Mlx5DMTestCase):
    def test_memic(self):
        """What is written is read back, on the card too, and nothing stays after close."""
        with self.memic(log_align_req=6) as dm:
            self.assertIsInstance(dm, DM)
            self.assertEqual(
                (dm.type, dm.length, dm.log_align_req, dm.remote_va, dm.is_imported, dm.closed),
                (mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_MEMIC, LENGTH, 6, None, False, False))
            dm.copy_to_dm(0, PATTERN)
            self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN)
            self.assertEqual(ctypes.string_at(dm.addr, LENGTH), PATTERN)
            self.assert_live('memic', 1)
            if self.card:
                address = control.call('objects')['memic'][0]
                self.assertEqual(
                    bytes.fromhex(control.call('memic_read', address=address, length=LENGTH)),
                    PATTERN)
        self.assertTrue(dm.closed)
        self.assert_live('memic', 0)

    def test_sizes_and_alignments(self):
        for length in (1, 4, 63, 64, 65, 4095, 4097, self.attr_ex.max_dm_size):
            with self.subTest(length=length), self.memic(length) as dm:
                self.assertEqual(dm.length, length)
                whole = length & ~3
                dm.copy_to_dm(0, bytes(i & 0xff for i in range(whole)))
                self.assertEqual(dm.copy_from_dm(0, whole), bytes(i & 0xff for i in range(whole)))

    def test_refused_allocations(self):
        """Each refusal has the errno of the library or kernel, and leaves nothing."""
        wrong_mask = AllocDmAttr(length=64, comp_mask=1)
        cases = (
            ((AllocDmAttr(length=0),), errno.EINVAL),
            ((AllocDmAttr(length=self.attr_ex.max_dm_size + 1),), errno.EINVAL),
            ((AllocDmAttr(length=1 << 62),), errno.EINVAL),
            ((AllocDmAttr(length=64, log_align_req=20),), errno.EINVAL),
            ((wrong_mask,), errno.EINVAL),
            ((AllocDmAttr(length=64), Mlx5AllocDmAttr(comp_mask=1)), errno.EINVAL),
            ((AllocDmAttr(length=64), Mlx5AllocDmAttr(type=77)), errno.EOPNOTSUPP),
        )
        for args, code in cases:
            with self.subTest(code=code, args=args):
                text = self.refused(code, Mlx5DM, self.ctx, *args)
                self.assertIn('Failed to allocate device memory of size', text)
        self.assert_live('memic', 0)

    def test_exhausted(self):
        """ENOMEM when the pool is empty; one freed makes room for exactly one."""
        held = []
        with self.assertRaises(PyverbsRDMAError) as caught:
            while len(held) < 1 << 16:
                held.append(self.memic(self.attr_ex.max_dm_size))
        self.assertEqual(caught.exception.error_code, errno.ENOMEM)
        held.pop().close()
        held.append(self.memic(self.attr_ex.max_dm_size))
        self.refused(errno.ENOMEM, self.memic, self.attr_ex.max_dm_size)
        for dm in held:
            dm.close()

    def test_sw_icm(self):
        """Each type has an ICM address of its own and no mapping."""
        addresses = set()
        for kind in self.sw_icm_types():
            with self.subTest(kind=kind.name), self.sw_icm(kind) as dm:
                self.assertEqual((dm.type, dm.addr, dm.length), (kind, None, LENGTH))
                self.assertGreater(dm.remote_va, 0)
                self.assertNotIn(dm.remote_va, addresses)
                addresses.add(dm.remote_va)
                self.assertIn(kind.name, repr(dm))
                self.assert_live('general_object', 1)

    def test_sw_icm_is_for_the_privileged(self):
        """EPERM without either capability, and the text names both."""
        kinds = self.sw_icm_types()
        for capability in (CAP_SYS_RAWIO, CAP_NET_RAW):
            def allocate(capability=capability):
                drop_capability(capability)
                names = {CAP_SYS_RAWIO: 'CAP_SYS_RAWIO', CAP_NET_RAW: 'CAP_NET_RAW'}
                for kind in kinds:
                    text = self.refused(errno.EPERM, self.sw_icm, kind)
                    self.assertIn('is for CAP_SYS_RAWIO and CAP_NET_RAW: '
                                  f'this thread lacks {names[capability]}.', text)
                # MEMIC and questions are for everybody.
                self.memic().close()
                self.assertIsNone(Mlx5DM.query_caps(self.ctx).missing(SW_ICM[0]))

            def allocate_as_nobody():
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                text = self.refused(errno.EPERM, self.sw_icm)
                self.assertIn('this thread lacks CAP_SYS_RAWIO and CAP_NET_RAW.', text)
                self.memic().close()
                self.assertIsNone(Mlx5DM.query_caps(self.ctx).missing(SW_ICM[0]))
            with self.subTest(capability=capability):
                self.in_child(allocate)
        self.in_child(allocate_as_nobody)
        self.assert_live('general_object', 0)

    def test_memic_alignment(self):
        """log_align_req holds on the card, up to the greatest that the device tells, and one more
        is refused."""
        most = Mlx5DM.query_caps(self.ctx).memic.max_log_align_req
        for log_align in (0, 6, 7, 12, 13, 16, most):
            # The first takes the start of the window, which is aligned to anything.
            with self.subTest(log_align=log_align), self.memic(64) as other:
                before = control.call('objects')['memic'] if self.card else []
                dm = self.memic(64, log_align_req=log_align)
                self.assertEqual(dm.log_align_req, log_align)
                dm.copy_to_dm(0, PATTERN[:64])
                self.assertEqual(dm.copy_from_dm(0, 64), PATTERN[:64])
                self.assertEqual(dm.addr % (1 << min(log_align, 12)), 0)
                if self.card:
                    (start,) = set(control.call('objects')['memic']) - set(before)
                    self.assertEqual(start % (1 << log_align), 0)
                self.assertFalse(other.closed)
                dm.close()
        self.refused(errno.EINVAL, self.memic, 64, log_align_req=most + 1)

    def test_sw_icm_sizes_and_alignments(self):
        """Rounded up to blocks and to a power of two, aligned as asked, inside the range that the
        device tells; ENOMEM beyond."""
        caps = Mlx5DM.query_caps(self.ctx)
        for kind in self.sw_icm_types():
            icm = caps.sw_icm[kind]
            for length, log_align in ((1, 0), (icm.block_size, 0), (icm.block_size + 1, 12),
                                      (5 * icm.block_size, 16), (64, 20)):
                with self.subTest(kind=kind.name, length=length, log_align=log_align):
                    attr = AllocDmAttr(length=length, log_align_req=log_align)
                    with self.sw_icm(kind) as other, Mlx5DM(self.ctx, attr,
                                                            Mlx5AllocDmAttr(kind)) as dm:
                        self.assertEqual((dm.length, dm.log_align_req), (length, log_align))
                        self.assertEqual(dm.remote_va % (1 << log_align), 0)
                        self.assertTrue(icm.start <= dm.remote_va < icm.start + icm.size)
                        self.assertNotEqual(dm.remote_va, other.remote_va)
                        if self.card:
                            blocks = -(-length // icm.block_size)
                            whole = icm.block_size * (1 << (blocks - 1).bit_length())
                            data = bytes(i * 5 & 0xff for i in range(whole))
                            control.call('icm_write', address=dm.remote_va, data=data.hex())
                            self.assertEqual(
                                bytes.fromhex(
                                    control.call('icm_read', address=dm.remote_va, length=whole)),
                                data)
                            self.assertRaises(control.ControlError, control.call, 'icm_read',
                                              address=dm.remote_va, length=whole + 1)
            self.assertIn('No room', self.refused(errno.ENOMEM, self.sw_icm, kind, 2 * icm.size))
            with self.sw_icm(kind, icm.size) as whole:
                self.assertEqual(whole.remote_va, icm.start)
                self.refused(errno.ENOMEM, self.sw_icm, kind)
        self.refused(errno.EINVAL, self.sw_icm, SW_ICM[0], 0)
        self.assert_live('general_object', 0)

    def test_d6_none_arguments(self):
        """D6: None in place of context or attributes is refused, not followed."""
        self.assertRaises(TypeError, Mlx5DM, None, AllocDmAttr(64))
        self.assertRaises(TypeError, Mlx5DM, None, handle=1)
        self.assertRaises(TypeError, Mlx5DM.import_dm, None, 1)
        self.wrong(Mlx5DM, self.ctx)
        self.wrong(Mlx5DM, self.ctx, None)
        self.assertRaises(TypeError, Mlx5DM, self.ctx, 64)
        self.assertRaises(TypeError, Mlx5DMOpAddr, None, 0)

    def test_d10_only_memic_is_bounded_by_max_dm_size(self):
        """D10: allocating does not ask the device for the limit of MEMIC first."""
        class Unasked(Mlx5Context):
            def query_device_ex(self, ex_input=None):
                raise AssertionError('queried')
        ctx = self.open_context(Unasked)
        with Mlx5DM(ctx, AllocDmAttr(LENGTH), Mlx5AllocDmAttr(SW_ICM[0])) as dm:
            self.assertGreater(dm.remote_va, 0)
        ctx.close()

    def test_plain_context(self):
        ctx = Context(name=self.dev_name)
        dm = Mlx5DM(ctx, AllocDmAttr(LENGTH))
        ctx.close()
        self.assertTrue(dm.closed)
        self.assert_live('memic', 0)

    def test_attributes(self):
        attr = Mlx5AllocDmAttr()
        self.assertEqual((attr.type, attr.comp_mask), (0, 0))
        attr.type, attr.comp_mask = SW_ICM[0], 5
        self.assertEqual((attr.type, attr.comp_mask), (SW_ICM[0], 5))
        for name in ('type', 'comp_mask'):
            for value in (-1, 2**64):
                self.wrong(setattr, attr, name, value)
            self.assertRaises(TypeError, setattr, attr, name, 'x')


class Mlx5DMCopyTest(Mlx5DMTestCase):
    def test_buffers(self):
        """Any C-contiguous buffer goes in, any writable one takes data out."""
        sources = (bytes(PATTERN), bytearray(PATTERN), memoryview(PATTERN), array.array(
            'I', PATTERN), (ctypes.c_char * LENGTH).from_buffer_copy(PATTERN))
        with self.memic() as dm, mmap.mmap(-1, LENGTH) as mapped:
            for source in sources:
                with self.subTest(source=type(source).__name__):
                    dm.copy_to_dm(0, bytes(LENGTH))
                    dm.copy_to_dm(0, source)
                    self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN)
            for target in (bytearray(LENGTH), array.array(
                    'I', bytes(LENGTH)), mapped, memoryview(bytearray(LENGTH))):
                with self.subTest(target=type(target).__name__):
                    self.assertEqual(dm.copy_from_dm_into(0, target), LENGTH)
                    self.assertEqual(bytes(target[:] if target is mapped else target), PATTERN)
            dm.copy_to_dm(8, PATTERN, 12)
            dm.copy_to_dm(LENGTH - 4, b'last')
            self.assertEqual(dm.copy_from_dm(0, 24), PATTERN[:8] + PATTERN[:12] + PATTERN[20:24])
            self.assertEqual(dm.copy_from_dm(LENGTH - 8, 8), PATTERN[-8:-4] + b'last')
            window = bytearray(b'<>' * 10)
            self.assertEqual(dm.copy_from_dm_into(8, memoryview(window)[4:8]), 4)
            self.assertEqual(window, b'<><>' + PATTERN[:4] + b'<>' * 6)
            self.assertEqual((dm.copy_from_dm(LENGTH, 0), dm.copy_from_dm_into(0, bytearray())),
                             (b'', 0))
            dm.copy_to_dm(LENGTH, b'')

    def test_refused_buffers(self):
        with self.memic() as dm:
            self.refused(errno.EINVAL, dm.copy_to_dm, 0, memoryview(bytes(32))[::2])
            self.refused(errno.EINVAL, dm.copy_from_dm_into, 0, bytes(32))
            self.refused(errno.EINVAL, dm.copy_from_dm_into, 0, memoryview(bytearray(32))[::2])
            for thing in (None, 'text', 7, object()):
                self.assertRaises(TypeError, dm.copy_to_dm, 0, thing)
                self.assertRaises(TypeError, dm.copy_from_dm_into, 0, thing)
            for number in (None, 'x', 1.0):
                self.assertRaises(TypeError, dm.copy_to_dm, number, b'abcd')
                self.assertRaises(TypeError, dm.copy_from_dm, 0, number)

    def test_d2_length_is_compared_with_the_data(self):
        """D2: asking for more than the buffer holds would send the heap behind it to the device."""
        with self.memic() as dm:
            dm.copy_to_dm(0, PATTERN)
            self.refused(errno.EFAULT, dm.copy_to_dm, 0, b'ab', LENGTH)
            self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN)

    def test_d3_bounds_do_not_wrap(self):
        """D3: offset + length is compared without adding; the neighbours stay as they were."""
        with self.memic() as before, self.memic() as dm, self.memic() as behind:
            for each in (before, dm, behind):
                each.copy_to_dm(0, PATTERN)
            for offset in WRAPPING:
                with self.subTest(offset=offset):
                    self.refused(errno.EFAULT, dm.copy_to_dm, offset, b'spoilt!!')
                    self.refused(errno.EFAULT, dm.copy_from_dm, offset, 8)
                    self.refused(errno.EFAULT, dm.copy_from_dm_into, offset, bytearray(8))
                    self.refused(errno.EFAULT, dm.copy_from_dm, 8, offset)
                    self.refused(errno.EFAULT, dm.copy_to_dm, 8, b'spoilt!!', offset)
            for offset in (-1, -4, -2**63, 2**64, 2**80):
                with self.subTest(offset=offset):
                    self.refused(errno.EINVAL, dm.copy_to_dm, offset, b'spoilt!!')
                    self.refused(errno.EINVAL, dm.copy_from_dm, offset, 8)
                    self.refused(errno.EINVAL, dm.copy_from_dm, 0, offset)
                    self.refused(errno.EINVAL, dm.copy_to_dm, 0, b'spoilt!!', offset)
            for offset, length in ((1, 4), (2, 4), (4, 3), (4, 6)):
                self.refused(errno.EINVAL, dm.copy_from_dm, offset, length)
                self.refused(errno.EINVAL, dm.copy_to_dm, offset, bytes(length))
            self.refused(errno.EFAULT, dm.copy_from_dm, LENGTH - 4, 8)
            for each in (before, dm, behind):
                self.assertEqual(each.copy_from_dm(0, LENGTH), PATTERN)

    def test_d4_huge_length(self):
        """D4: a length that cannot be is refused before anything of that size is allocated."""
        with self.memic() as dm:
            self.refused(errno.EFAULT, dm.copy_from_dm, 0, 1 << 62)
            self.assertEqual(dm.copy_from_dm(0, 4), dm.copy_from_dm(0, 8)[:4])

    def test_d5_failing_copies_leak_nothing(self):
        """D5: misaligned reads of 256 KiB, twice 200 of them, leave the process as large as it
        was."""
        with self.memic(self.attr_ex.max_dm_size) as dm:
            def fail():
                self.refused(errno.EINVAL, dm.copy_from_dm, 2, self.attr_ex.max_dm_size - 4)
            self.assert_no_growth(resident_bytes, fail, 200, self.attr_ex.max_dm_size)

    def test_errors_are_of_both_classes(self):
        """A refused copy is the caller's fault, and has the errno and words of the C library's
        refusal."""
        with self.memic() as dm:
            for ex in (PyverbsRDMAError, PyverbsUserError, Mlx5DMError):
                self.assertRaisesRegex(ex, 'Failed to copy from dm', dm.copy_from_dm, 2, 4)
                self.assertRaisesRegex(ex, 'Failed to copy to dm', dm.copy_to_dm, 2, b'abcd')

    def test_d9_other_threads_run_during_copies(self):
        """D9: with no forced switches, another thread can only run if a copy gives the GIL away."""
        for direction in ('from', 'to'):
            ran, go = threading.Event(), threading.Event()
            with self.subTest(direction=direction), self.memic(self.attr_ex.max_dm_size) as dm:
                data = bytearray(self.attr_ex.max_dm_size)
                other = threading.Thread(target=lambda go=go, ran=ran: (go.wait(), ran.set()))
                other.start()
                interval = sys.getswitchinterval()
                sys.setswitchinterval(1000)
                try:
                    go.set()
                    end = time.monotonic() + PATIENCE
                    while not ran.is_set() and time.monotonic() < end:
                        if direction == 'to':
                            dm.copy_to_dm(0, data)
                        else:
                            dm.copy_from_dm_into(0, data)
                    seen = ran.is_set()
                finally:
                    sys.setswitchinterval(interval)
                    other.join()
                self.assertTrue(seen)

    def test_d11_sw_icm_is_not_copied(self):
        """D11: SW ICM has no mapping; libmlx5 leaves the functions NULL, which DM jumps through."""
        for kind in self.sw_icm_types():
            with self.subTest(kind=kind.name), self.sw_icm(kind) as dm:
                for call, args in ((dm.copy_to_dm, (0, b'abcd')), (dm.copy_from_dm, (0, 4)),
                                   (dm.copy_from_dm_into, (0, bytearray(4))),
                                   (dm.map_op_addr, (0, )), (dm.export_dmabuf_fd, ())):
                    self.assertIn(kind.name, self.refused(errno.EOPNOTSUPP, call, *args))
                # The base class's own method, too, reaches a function that refuses.
                self.refused(errno.EOPNOTSUPP, DM.copy_to_dm, dm, 0, b'abcd', 4)


class Mlx5DMOpAddrTest(Mlx5DMTestCase):
    def test_operations(self):
        """Increment and test-and-set at offsets, in each width; the object keeps its DM (O7)."""
        with self.memic(64) as dm, dm.map_op_addr(INCREMENT) as increment, dm.map_op_addr(
                TEST_AND_SET) as test_and_set:
            self.assertIsInstance(increment, Mlx5DMOpAddr)
            self.assertEqual((increment.op, test_and_set.op, increment.length), (0, 1, 64))
            for width in (1, 2, 4, 8):
                for offset in (0, 8, 64 - width):
                    with self.subTest(width=width, offset=offset):
                        dm.copy_to_dm(0, bytes(64))
                        increment.write((1).to_bytes(width, 'big'), offset)
                        increment.write((1).to_bytes(width, 'big'), offset=offset)
                        self.assertEqual(
                            dm.copy_from_dm(0, 64),
                            bytes(offset) + (2).to_bytes(width, 'big') + bytes(64 - offset - width))
                        self.assertEqual(int.from_bytes(test_and_set.read(width, offset), 'big'), 2)

    def test_values_are_big_endian(self):
        """A carry goes to the byte before, and wraps at the width: what the operand and the memory
        are on cards up to ConnectX-7."""
        with self.memic(64) as dm, dm.map_op_addr(INCREMENT) as increment, dm.map_op_addr(
                TEST_AND_SET) as test_and_set:
            for width in (1, 2, 4, 8):
                with self.subTest(width=width):
                    dm.copy_to_dm(0, PATTERN[:64])
                    dm.copy_to_dm(8, bytes(8))
                    increment.write((0xff).to_bytes(width, 'big'), 8)
                    increment.write((1).to_bytes(width, 'big'), 8)
                    total = 0x100 & (1 << 8 * width) - 1
                    self.assertEqual(
                        dm.copy_from_dm(0, 64), PATTERN[:8] + total.to_bytes(width, 'big') +
                        bytes(8 - width) + PATTERN[16:64])
                    self.assertEqual(test_and_set.read(width, 8), total.to_bytes(width, 'big'))
                    self.assertEqual(
                        dm.copy_from_dm(0, 64), PATTERN[:8] + (1).to_bytes(width, 'big') +
                        bytes(8 - width) + PATTERN[16:64])

    def test_widths(self):
        """Those that the device offers are what its capabilities say."""
        caps = Mlx5DM.query_caps(self.ctx).memic
        with self.memic(64) as dm:
            for op, widths in caps.operations.items():
                with dm.map_op_addr(op) as address:
                    self.assertEqual(address.widths, tuple(w for w in widths if w <= 8))
            # Known without DEVX of one's own, too: a plain context.
            with Context(name=self.dev_name) as ctx, Mlx5DM(
                    ctx, AllocDmAttr(64)) as other, other.map_op_addr(INCREMENT) as address:
                self.assertEqual(address.widths,
                                 tuple(w for w in caps.operations[INCREMENT] if w <= 8))
        self.wrong(getattr, address, 'widths')

    def assert_refused_map(self, code, dm, op=INCREMENT):
        """A refused mapping leaves no mapping, no child and the DM as it was."""
        base = mappings_of_device()
        text = self.refused(code, dm.map_op_addr, op)
        self.assertTrue(text.startswith('Failed to get DM operation address'), text)
        self.assertEqual(mappings_of_device(), base)
        self.assertFalse(dm.closed)
        return text

    def test_memory_that_is_gone(self):
        """ENOENT: the owner freed what this imported. EINVAL: the kernel gave its number to an
        object of another kind."""
        dm = self.memic()
        twin = Mlx5DM.import_dm(self.ctx, dm.handle)
        dm.copy_to_dm(0, PATTERN)
        dm.close()
        self.assert_refused_map(errno.ENOENT, twin)
        with PD(self.ctx):
            self.assert_refused_map(errno.EINVAL, twin)
        self.assert_refused_map(errno.ENOENT, twin)
        # The mapping holds the memory as long as it is there.
        self.assertEqual(twin.copy_from_dm(0, LENGTH), PATTERN)
        self.assert_live('memic', 1)
        twin.close()
        self.assert_live('memic', 0)

    def test_refused_by_the_firmware(self):
        """What the firmware answers is the errno that the kernel makes of it; the next attempt is
        as good as the first."""
        if not self.card:
            self.skipTest('only the emulated card can be told to refuse')
        for status, code in (('BAD_PARAM', errno.EINVAL), ('BAD_RES', errno.EINVAL),
                             ('EXCEED_LIM', errno.ENOMEM), ('NO_RES', errno.EAGAIN), ('INT_ERR',
                                                                                      errno.EIO)):
            # The driver asks once a DM and operation.
            with self.subTest(status=status), self.memic() as dm:
                dm.copy_to_dm(0, PATTERN)
                control.call('fault', opcode='MODIFY_MEMIC', status=status)
                self.assert_refused_map(code, dm)
                with dm.map_op_addr(INCREMENT) as address:
                    address.write(b'\x01', 4)
                self.assertEqual(dm.copy_from_dm(0, 8),
                                 PATTERN[:4] + bytes([PATTERN[4] + 1]) + PATTERN[5:8])
            self.assert_live('memic', 0)

    def test_refused_accesses(self):
        """O3, O5, O6, O7: widths, alignment and bounds are refused, exactly and without a trace."""
        with self.memic(64) as dm, dm.map_op_addr(INCREMENT) as address:
            dm.copy_to_dm(0, PATTERN[:64])
            for length in (0, 3, 5, 9, 16, 1 << 20, 1 << 62):
                self.refused(errno.EINVAL, address.read, length)
            for length in (0, 3, 5, 9, 16):
                self.refused(errno.EINVAL, address.write, bytes(length))
            for offset in (1, 2, 3):
                self.refused(errno.EINVAL, address.write, bytes(4), offset)
            for offset in (64, 68, 2**32, 2**64 - 4):
                self.refused(errno.EFAULT, address.write, bytes(4), offset)
                self.refused(errno.EFAULT, address.read, 4, offset)
            for number in (-1, -4, 2**64):
                self.refused(errno.EINVAL, address.read, 4, number)
                self.refused(errno.EINVAL, address.read, number)
            for thing in (None, 7, 'text'):
                self.assertRaises(TypeError, address.write, thing)
            self.assertRaises(TypeError, address.read, None)
            self.assertEqual(dm.copy_from_dm(0, 64), PATTERN[:64])

    def test_unknown_operations(self):
        with self.memic() as dm:
            for op in (2, 31, 32, 255):
                self.assertIn(f'The device has no operation {op}',
                              self.assert_refused_map(errno.EOPNOTSUPP, dm, op))
            for op in (-1, 256, 2**32):
                self.wrong(dm.map_op_addr, op)
            self.assertRaises(TypeError, dm.map_op_addr, None)

    def test_o1_base_is_initialized(self):
        """O1: what every pyverbs object has works here too."""
        with self.memic() as dm, dm.map_op_addr(INCREMENT) as address:
            address.set_log_level(20)

    def test_o2_closed_dm(self):
        """O2: no operation of a DM that is closed."""
        dm = self.memic()
        dm.close()
        self.wrong(Mlx5DMOpAddr, dm, INCREMENT)
        self.wrong(Mlx5DMOpAddr, Mlx5DM.__new__(Mlx5DM), INCREMENT)

    def test_o3_o4_it_owns_its_mapping(self):
        """O3, O4: closing, leaving the block, unmap() or dropping it unmaps, once, and exactly its
        own pages."""
        with self.memic() as dm:
            base = mappings_of_device()
            with dm.map_op_addr(INCREMENT) as address:
                self.assertEqual(mappings_of_device(), base + 1)
            self.assertEqual(mappings_of_device(), base)
            other = dm.map_op_addr(INCREMENT)
            address.close()
            address.unmap(1 << 30)
            self.assertEqual(mappings_of_device(), base + 1)
            other.write(b'\x01')
            other.unmap()
            for call in (lambda: address.read(4), lambda: address.write(b'abcd'),
                         lambda: address.addr, lambda: address.op, lambda: address.length):
                self.wrong(call)
            self.assertEqual((repr(address), address.closed), ('<Mlx5DMOpAddr closed>', True))
            dropped = dm.map_op_addr(INCREMENT)
            del dropped
            self.assertEqual(mappings_of_device(), base)

    def test_o5_failing_reads_leak_nothing(self):
        """O5: refused reads of 1 MiB, twice 100 of them."""
        with self.memic() as dm, dm.map_op_addr(INCREMENT) as address:
            # Addressed, not resident: nobody touches what is leaked.
            self.assert_no_growth(
                addressed_bytes, lambda: self.refused(errno.EINVAL, address.read, 1 << 20), 100,
                1 << 20)

    def test_o6_refused_write_raises(self):
        """O6: a write of three bytes is an error to the caller, whatever compiled this."""
        with self.memic() as dm, dm.map_op_addr(INCREMENT) as address:
            self.refused(errno.EINVAL, address.write, b'abc')

    def test_o7_it_keeps_the_dm(self):
        dm = self.memic()
        address = dm.map_op_addr(INCREMENT)
        seen = weakref.ref(dm)
        del dm
        gc.collect()
        self.assertIsNotNone(seen())
        address.write(b'\x01')
        del address
        gc.collect()
        self.assertIsNone(seen())
        self.assert_live('memic', 0)

    def test_closed_by_the_dm(self):
        dm = self.memic()
        addresses = [dm.map_op_addr(INCREMENT) for _ in range(40)]
        dm.close()
        self.assertEqual([a.closed for a in addresses], [True] * 40)
        self.wrong(addresses[0].read, 4)


class Mlx5DMImportTest(Mlx5DMTestCase):
    def test_content_is_shared(self):
        """Both ways through a context on the same command fd; the importer's close leaves the
        owner's memory."""
        with self.memic() as dm:
            ctx = Context(cmd_fd=os.dup(self.ctx.cmd_fd))
            twin = Mlx5DM.import_dm(ctx, dm.handle)
            self.assertEqual((twin.is_imported, twin.handle, twin.length),
                             (True, dm.handle, LENGTH))
            dm.copy_to_dm(0, PATTERN)
            self.assertEqual(twin.copy_from_dm(0, LENGTH), PATTERN)
            twin.copy_to_dm(0, PATTERN[::-1])
            self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN[::-1])
            twin.close()
            self.assertTrue(twin.closed)
            ctx.close()
            self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN[::-1])
            self.assert_live('memic', 1)

    def test_second_process(self):
        """ Through a command fd that travelled by SCM_RIGHTS: content is seen both ways, and
        neither the importer's close nor its death takes the owner's memory.
        """
        for end in ('close', 'kill'):
            with self.subTest(end=end), self.memic() as dm:
                ours, theirs = socket.socketpair()
                child = subprocess.Popen(
                    [sys.executable, '-c', IMPORTER,
                     str(theirs.fileno()),
                     str(dm.handle), end], pass_fds=[theirs.fileno()])
                theirs.close()
                dm.copy_to_dm(0, PATTERN)
                # Not inherited: the child gets it by this message alone.
                pass_fd(ours, b'fd', self.ctx.cmd_fd)
                with ours, ours.makefile('rb') as answers:
                    self.assertEqual(answers.read(LENGTH), PATTERN)
                    self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN[::-1])
                    self.assert_live('memic', 1)
                    ours.send(b'x')
                    self.assertEqual(child.wait(PATIENCE), -signal.SIGKILL if end == 'kill' else 0)
                self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN[::-1])
                self.assert_live('memic', 1)
                dm.copy_to_dm(0, PATTERN)
                self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN)
        self.assert_live('memic', 0)

    def test_d7_unimport(self):
        """D7: of an import, once; never of memory that is owned or closed."""
        with self.memic() as dm:
            twin = Mlx5DM(self.ctx, handle=dm.handle)
            self.wrong(dm.unimport)
            twin.unimport()
            self.wrong(twin.unimport)
            twin.close()
            dm.copy_to_dm(0, b'fine')
        self.wrong(dm.unimport)

    def test_d8_closing_an_import_unmaps(self):
        """D8: neither close() nor dropping it leaves the mapping."""
        with self.memic() as dm:
            base = mappings_of_device()
            for how in ('close', 'drop'):
                twin = Mlx5DM.import_dm(self.ctx, dm.handle)
                self.assertEqual(mappings_of_device(), base + 1)
                if how == 'close':
                    twin.close()
                del twin
                self.assertEqual(mappings_of_device(), base)

    def test_wrong_handles_are_refused(self):
        for handle in (-1, 2**32, 2**64):
            self.wrong(Mlx5DM.import_dm, self.ctx, handle)
        with self.assertRaises(PyverbsRDMAError) as caught:
            Mlx5DM.import_dm(self.ctx, 0xfffffff)
        self.assertIn(caught.exception.error_code, (errno.ENOENT, errno.EINVAL))
        with self.sw_icm() as dm:
            self.refused(errno.EOPNOTSUPP, Mlx5DM.import_dm, self.ctx, dm.handle)
        self.wrong(Mlx5DM, self.ctx, AllocDmAttr(64), handle=1)
        self.assertRaises(TypeError, Mlx5DM.import_dm, self.ctx, 'x')

    def test_d12_export_after_an_operation_was_mapped(self):
        """D12: the dma-buf is the memory's page, not the operation's; a library or kernel that is
        too old says so."""
        with self.memic() as dm, dm.map_op_addr(INCREMENT):
            dm.copy_to_dm(0, PATTERN)
            try:
                fd = dm.export_dmabuf_fd()
            except PyverbsRDMAError as ex:
                self.assertIn(ex.error_code, (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT))
            else:
                self.addCleanup(os.close, fd)
                self.assertEqual((os.lseek(fd, 0, os.SEEK_END), os.readlink(f'/proc/self/fd/{fd}')),
                                 (LENGTH, '/dmabuf:'))
            self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN)


class Mlx5DMCloseTest(Mlx5DMTestCase):
    def test_d1_closed_object(self):
        """D1: every method and property of a closed DM raises, nothing crashes."""
        def failing_init():
            dm = Mlx5DM.__new__(Mlx5DM)
            self.assertRaises(PyverbsRDMAError, dm.__init__, self.ctx, AllocDmAttr(0))
            return dm
        closed = self.memic()
        closed.close()
        for name, dm in (('closed', closed), ('new', Mlx5DM.__new__(Mlx5DM)), ('refused',
                                                                               failing_init())):
            with self.subTest(state=name):
                for attribute in ('type', 'length', 'log_align_req', 'handle', 'remote_va', 'addr',
                                  'is_imported'):
                    self.wrong(getattr, dm, attribute)
                for call, args in ((dm.copy_to_dm, (0, b'abcd')), (dm.copy_from_dm, (0, 4)),
                                   (dm.map_op_addr, (0, )), (dm.copy_from_dm_into, (0,
                                                                                    bytearray(4))),
                                   (dm.export_dmabuf_fd, ()), (dm.unimport, ())):
                    self.wrong(call, *args)
                self.assertEqual((dm.closed, repr(dm), str(dm)),
                                 (True, '<Mlx5DM closed>', '<Mlx5DM closed>'))
                dm.close()
                dm.close()
                # pyverbs' own classes use the pointer without asking.
                self.assertRaises(PyverbsRDMAError, DMMR, PD(self.ctx), 64, MR_ACCESS, dm, 0)
                self.assertRaises(PyverbsRDMAError, DM.copy_from_dm, dm, 0, 4)

    def test_d13_children_close_first(self):
        """D13, G1: the DM knows MRs and op addresses, and closes each of them, even if one
        refuses."""
        class Refusing(DMMR):
            refuse = True

            def close(self):
                if self.refuse:
                    raise PyverbsError('not now')
                super().close()

        dm, pd = self.memic(), PD(self.ctx)
        dm.copy_to_dm(0, PATTERN)
        mrs = [kind(pd, LENGTH, MR_ACCESS, dm=dm, offset=0) for kind in (DMMR, Refusing, DMMR)]
        address = dm.map_op_addr(INCREMENT)
        self.assert_live('mkey', len(mrs))
        self.assertRaisesRegex(PyverbsError, 'not now', dm.close)
        self.assert_live('mkey', 1)
        self.assertTrue(address.closed)
        self.assertFalse(dm.closed)
        self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN)
        self.assertRaises(PyverbsError, dm.close)
        # Of the class: the last call of close() comes when the instance has lost its attributes.
        Refusing.refuse = False
        dm.close()
        self.assertTrue(dm.closed)
        self.assert_live('memic', 0)
        self.assert_live('mkey', 0)
        pd.close()

    def test_refused_free_leaves_it_usable(self):
        """A DM that the kernel does not free stays as it was, and closes later."""
        with self.memic() as dm:
            dm.copy_to_dm(0, PATTERN)
            ctx = Context(cmd_fd=os.dup(self.ctx.cmd_fd))
            twin, pd = Mlx5DM.import_dm(ctx, dm.handle), PD(ctx)
            mr = DMMR(pd, LENGTH, MR_ACCESS, dm=twin, offset=0)
            self.refused(errno.EBUSY, dm.close)
            self.assertFalse(dm.closed)
            self.assertEqual((dm.copy_from_dm(0, LENGTH), dm.length), (PATTERN, LENGTH))
            self.assert_live('memic', 1)
            mr.close()
            pd.close()
            twin.close()
            ctx.close()
            dm.close()
            self.assertTrue(dm.closed)
        self.assert_live('memic', 0)

    def test_orders(self):
        """Two DMs with an MR each, closed in every order."""
        for order in ('dm', 'mr', 'pd', 'ctx'):
            with self.subTest(first=order):
                ctx = self.open_context()
                pd = PD(ctx)
                dms = [Mlx5DM(ctx, AllocDmAttr(LENGTH)) for _ in range(2)]
                mrs = [DMMR(pd, LENGTH, MR_ACCESS, dm=dm, offset=0) for dm in dms]
                objects = {'dm': dms[::-1], 'mr': mrs, 'pd': [pd], 'ctx': [ctx]}
                for obj in objects.pop(order) + [o for group in objects.values() for o in group]:
                    obj.close()
                self.assertEqual([dm.closed for dm in dms], [True, True])
                self.assert_live('memic', 0)

    def test_orders_of_two(self):
        """Two DMs and two MRs: all 24 orders, the first of them closed twice."""
        for order in itertools.permutations(range(4)):
            with self.subTest(order=order):
                pd = PD(self.ctx)
                dms = [self.memic() for _ in range(2)]
                objects = dms + [DMMR(pd, LENGTH, MR_ACCESS, dm, 0) for dm in dms]
                for index in order:
                    objects[index].close()
                objects[order[0]].close()
                self.assertEqual([dm.closed for dm in dms], [True, True])
                pd.close()
                self.assert_live('memic', 0)

    def test_mr_bounds(self):
        """An MR covers what was asked for, not what it was rounded to; beyond it is EINVAL, and
        both argument orders are taken."""
        pd = PD(self.ctx)
        with self.memic(65) as dm:
            for length, offset in ((66, 0), (65, 1), (1, 65), (128, 0), (2**64 - 64, 64),
                                   (2, 2**64 - 1)):
                with self.subTest(length=length, offset=offset):
                    self.refused(errno.EINVAL, DMMR, pd, length, MR_ACCESS, dm, offset)
                    self.refused(errno.EINVAL, DMMR, pd, length, MR_ACCESS, dm=dm, offset=offset)
            self.refused(errno.EINVAL, DMMR, pd, 64, ibv_access_flags.IBV_ACCESS_LOCAL_WRITE, dm, 0)
            for length, offset in ((65, 0), (1, 64), (64, 1)):
                DMMR(pd, length, MR_ACCESS, dm, offset).close()
                DMMR(pd, length, MR_ACCESS, offset=offset, dm=dm).close()
        pd.close()

    def test_reg_mr(self):
        """An MR on itself, of all of it or a part, without ZERO_BASED; the wrong is refused before
        the kernel, and nothing stays."""
        pd, other = PD(self.ctx), self.open_context()
        foreign = PD(other)
        with self.memic(65) as dm:
            with dm.reg_mr(pd, WRITE) as mr:
                self.assertIs(type(mr), DMMR)
                self.assertEqual(mr.length, 65)
                mr.write(b'abcd', 4, 0)
                self.assertEqual(dm.copy_from_dm(0, 4), b'abcd')
            for offset, length, want in ((0, None, 65), (1, None, 64), (64, 1, 1), (1, 64, 64),
                                         (0, 65, 65)):
                with dm.reg_mr(pd, WRITE, offset, length) as mr:
                    self.assertEqual(mr.length, want)
            for offset, length in ((66, None), (65, 1), (0, 66), (64, 2), (1, 2**64 - 1),
                                   (2**64 - 1, 1), (2**64 - 1, None)):
                with self.subTest(offset=offset, length=length):
                    self.refused(errno.EFAULT, dm.reg_mr, pd, WRITE, offset, length)
            for arguments in ((WRITE, -1), (WRITE, 0, -1), (WRITE, 2**64)):
                self.refused(errno.EINVAL, dm.reg_mr, pd, *arguments)
            for flags in (-1, 2**32, 2**64):
                self.assertIn('access', self.wrong(dm.reg_mr, pd, flags))
            self.refused(errno.EINVAL, dm.reg_mr, pd, 1 << 30)
            for arguments in ((None, WRITE), (pd, None), (pd, 'x'), (pd, WRITE, 0.5)):
                self.assertRaises(TypeError, dm.reg_mr, *arguments)
            self.assertIn('another context', self.wrong(dm.reg_mr, foreign, WRITE))
            foreign.close()
            self.assertIn('PD is closed', self.wrong(dm.reg_mr, foreign, WRITE))
            for name in ('access', 'offset', 'length'):
                closing = self.memic()
                arguments = {'access': WRITE, 'offset': 0, 'length': 4}
                arguments[name] = Number(arguments[name], closing.close)
                self.assertIn('closed', self.wrong(closing.reg_mr, pd, **arguments))
            self.assert_live('mkey', 0)
            mr = dm.reg_mr(pd, WRITE)
            self.assert_live('mkey', 1)
        # The DM closed its child.
        self.assert_live('mkey', 0)
        self.wrong(dm.reg_mr, pd, WRITE)
        mr.close()
        pd.close()
        other.close()

    def test_reg_mr_on_sw_icm(self):
        pd = PD(self.ctx)
        with self.sw_icm() as icm:
            icm.reg_mr(pd, WRITE, 4, 8).close()
            self.refused(errno.EFAULT, icm.reg_mr, pd, WRITE, icm.length, 4)
            icm.reg_mr(pd, WRITE)
        self.assert_live('mkey', 0)
        pd.close()

    def test_mr_reads_and_writes(self):
        with self.memic() as dm:
            pd = PD(self.ctx)
            with DMMR(pd, LENGTH, MR_ACCESS, dm=dm, offset=0) as mr:
                mr.write('abcdefgh', 8, 4)
                self.assertEqual(mr.read(8, 4), b'abcdefgh')
                self.assertRaisesRegex(PyverbsRDMAError, 'Failed to copy from dm', mr.read, 4,
                                       LENGTH)
            self.refused(errno.EINVAL, DMMR, pd, LENGTH + 4, MR_ACCESS, dm, 0)
            pd.close()

    def test_g1_context_closed_underneath(self):
        """G1: a context that forgot its DMs when one of them refused, and was closed then: no call
        of the library."""
        class Stubborn(Mlx5DM):
            stubborn = True

            def close(self):
                if self.stubborn:
                    raise PyverbsError('not now')
                super().close()

        base = mappings_of_device()
        ctx = self.open_context()
        dms = [Stubborn(ctx, AllocDmAttr(LENGTH)) for _ in range(3)]
        address = dms[0].map_op_addr(INCREMENT)
        for _ in range(20):
            try:
                ctx.close()
                break
            except PyverbsError:
                pass
        Stubborn.stubborn = False
        for dm in dms:
            self.assertTrue(dm.closed)
            self.wrong(getattr, dm, 'handle')
            dm.close()
        self.wrong(address.read, 4)
        del address, dms, dm
        gc.collect()
        self.assertEqual(mappings_of_device(), base)
        self.assert_live('memic', 0)

    def test_g2_reference_cycles(self):
        """G2: a cycle through context, DM, MR and op address is torn down in order, each thing
        freed once."""
        # The collector hides an MR from its DM, which then can only be freed with the context.
        warnings.simplefilter('ignore', ResourceWarning)
        for children in itertools.product((False, True), repeat=2):
            with self.subTest(children=children):
                mr, op = children
                holder = {'ctx': self.open_context()}
                holder['dm'] = Mlx5DM(holder['ctx'], AllocDmAttr(LENGTH))
                if mr:
                    holder['pd'] = PD(holder['ctx'])
                    holder['mr'] = DMMR(holder['pd'], LENGTH, MR_ACCESS, dm=holder['dm'], offset=0)
                if op:
                    holder['op'] = holder['dm'].map_op_addr(INCREMENT)
                holder['self'] = holder
                seen = weakref.ref(holder['dm'])
                del holder
                gc.collect()
                gc.collect()
                self.assertIsNone(seen())
                self.assert_live('memic', 0)
        self.assertEqual(self.unraisable, [])

    def test_g2_collected_without_its_finalizer(self):
        """ G2: the collector clears nothing of a DM before it is freed. A subclass without the
        finalizer, which would close it before that, leaves it to be freed at its end alone: through
        its context, which must still be known.
        """
        class Plain(Mlx5DM):
            def __del__(self):
                pass

        class PlainOp(Mlx5DMOpAddr):
            pass

        base = mappings_of_device()
        for own_context in (False, True):
            with self.subTest(own_context=own_context):
                dm = Plain(self.open_context() if own_context else self.ctx, AllocDmAttr(LENGTH))
                address = PlainOp(dm, INCREMENT)
                dm.me, address.me = dm, address
                seen = weakref.ref(dm)
                self.assert_live('memic', 1)
                del dm, address
                gc.collect()
                gc.collect()
                self.assertIsNone(seen())
                self.assert_live('memic', 0)
                self.assertEqual(mappings_of_device(), base)
        self.assertEqual(self.unraisable, [])

    def test_initialization(self):
        """Twice, not at all, or by a subclass that fails."""
        with self.memic() as dm:
            handle = dm.handle
            self.wrong(dm.__init__, self.ctx, AllocDmAttr(64))
            self.assertEqual((dm.handle, dm.length), (handle, LENGTH))
        self.wrong(dm.__init__, self.ctx, AllocDmAttr(64))

        class Failing(Mlx5DM):
            def __init__(self, ctx):
                super().__init__(ctx, AllocDmAttr(LENGTH))
                raise ValueError('after')

        class Skipping(Mlx5DM):
            def __init__(self):
                pass

        self.assertRaises(ValueError, Failing, self.ctx)
        self.wrong(getattr, Skipping(), 'handle')
        gc.collect()
        self.assert_live('memic', 0)
        closed = self.open_context()
        closed.close()
        self.wrong(Mlx5DM, closed, AllocDmAttr(64))
        self.wrong(Mlx5DM, Context.__new__(Context), AllocDmAttr(64))

    def test_pickling_is_refused(self):
        with self.memic() as dm, dm.map_op_addr(INCREMENT) as address:
            for obj in (dm, address):
                self.assertRaises(TypeError, pickle.dumps, obj)
                self.assertRaises(TypeError, copy.copy, obj)

    def test_close_waits_for_copies(self):
        """Threads that copy while another closes: each copy succeeds or says that the DM is
        closed."""
        for _ in range(20):
            dm, failures = self.memic(self.attr_ex.max_dm_size), []
            address = dm.map_op_addr(INCREMENT)

            def use(dm=dm, address=address, failures=failures):
                data = bytearray(dm.length)
                try:
                    while True:
                        dm.copy_from_dm_into(0, data)
                        address.write(b'\x01')
                except PyverbsUserError:
                    pass
                except BaseException as ex:
                    failures.append(ex)
            threads = [threading.Thread(target=use) for _ in range(3)]
            closers = [threading.Thread(target=dm.close) for _ in range(2)]
            try:
                for thread in threads + closers:
                    thread.start()
            finally:
                for thread in threads + closers:
                    thread.join()
            self.assertEqual((failures, dm.closed), ([], True))
        self.assert_live('memic', 0)

    def test_closed_by_several_threads(self):
        """Each MR and op address is closed once, whoever comes first; nobody hears of an error."""
        with PD(self.ctx) as pd:
            for _ in range(20):
                dm, failures = self.memic(), []
                mrs = [DMMR(pd, 64, MR_ACCESS, dm, 64 * n) for n in range(8)]
                addresses = [dm.map_op_addr(INCREMENT) for _ in range(4)]
                self.assert_live('mkey', len(mrs))
                start = threading.Barrier(4)

                def close(dm=dm, failures=failures, start=start):
                    start.wait()
                    try:
                        dm.close()
                    except BaseException as ex:
                        failures.append(ex)
                threads = [threading.Thread(target=close) for _ in range(4)]
                interval = sys.getswitchinterval()
                sys.setswitchinterval(1e-6)
                try:
                    for thread in threads:
                        thread.start()
                    for thread in threads:
                        thread.join()
                finally:
                    sys.setswitchinterval(interval)
                self.assertEqual((failures, dm.closed), ([], True))
                self.assertEqual([address.closed for address in addresses], [True] * 4)
                self.assert_live('mkey', 0)
        self.assert_live('memic', 0)

    def test_refused_by_one_context_made_by_another(self):
        """A context that refused it does not close what another one allocated."""
        with Context(name=self.dev_name) as other:
            dm = Mlx5DM.__new__(Mlx5DM)
            with self.assertRaises(PyverbsRDMAError) as caught:
                dm.__init__(other, AllocDmAttr(length=0))
            self.assertEqual(caught.exception.error_code, errno.EINVAL)
            dm.__init__(self.ctx, AllocDmAttr(length=64))
        self.assertFalse(dm.closed)
        self.assert_live('memic', 1)
        dm.copy_to_dm(0, PATTERN[:64])
        self.assertEqual(dm.copy_from_dm(0, 64), bytes(PATTERN[:64]))
        dm.close()
        self.assert_live('memic', 0)

    def test_fork(self):
        """The child has nothing to use and frees nothing of the parent's; what it allocates itself
        is its own."""
        with self.memic() as dm, dm.map_op_addr(INCREMENT) as address:
            dm.copy_to_dm(0, PATTERN)

            def child():
                for call in (lambda: dm.copy_from_dm(0, 4), lambda: dm.handle,
                             lambda: address.read(4)):
                    self.assertRaises(PyverbsUserError, call)
                self.assertTrue(dm.closed)
                address.close()
                dm.close()
                with Mlx5DM(self.ctx, AllocDmAttr(64)) as own:
                    own.copy_to_dm(0, b'mine')
                    self.assertEqual(own.copy_from_dm(0, 4), b'mine')
            self.in_child(child)
            self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN)
            self.assert_live('memic', 1)
            address.read(4)

    def test_public_names_have_docstrings_and_stubs(self):
        """Every public name has a docstring, and the stub names it."""
        undocumented = []
        text = ''
        for name in ('mlx5dv_dm.pyi', 'mlx5dv_dm_caps.pyi'):
            with open(os.path.join(os.path.dirname(mlx5dv_dm_caps.__file__), name)) as stub:
                text += stub.read()
        self.assertTrue(inspect.getdoc(mlx5dv_dm.query_hca_cap))
        for cls in (Mlx5AllocDmAttr, Mlx5DM, Mlx5DMOpAddr, Mlx5DMError, mlx5dv_alloc_dm_type,
                    mlx5dv_dm_caps.Mlx5DMCaps, mlx5dv_dm_caps.Mlx5MemicCaps,
                    mlx5dv_dm_caps.Mlx5SwIcmCaps):
            self.assertRegex(text, rf'class {cls.__name__}\b')
            members = [(cls.__name__, cls)] + [
                (n, m) for n, m in vars(cls).items() if not n.startswith('_')]
            for name, member in members:
                if not inspect.getdoc(member):
                    undocumented.append(f'{cls.__name__}.{name}')
                self.assertIn(name, text)
        self.assertEqual(undocumented, [])


def addressed_bytes():
    """Size of this process's address space in bytes."""
    with open('/proc/self/statm') as statm:
        return int(statm.read().split()[0]) * os.sysconf('SC_PAGESIZE')
