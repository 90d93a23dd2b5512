# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" Every source of memory for a umem: the card and Python see the same bytes, in both directions,
and who keeps the memory alive.
"""
import array
import ctypes
import errno
import gc
import mmap
import os
import tempfile
import unittest
import weakref

from pyverbs.providers.mlx5.mlx5dv import Mlx5UMEM
from tests.mlx5_mem_umem import (
    LENGTH,
    PAGE,
    PATTERN,
    WRITE,
    Mlx5DevxUmemTestCase,
    huge_pages,
    map_huge,
)

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

try:
    import numpy
except ImportError:
    numpy = None
try:
    import torch
except ImportError:
    torch = None

HUGE, GIANT = 1 << 21, 1 << 30
DLPACK_READ_ONLY = 1


class DlTensor(ctypes.Structure):
    _fields_ = [('data', ctypes.c_void_p), ('device_type', ctypes.c_int32),
                ('device_id', ctypes.c_int32), ('ndim', ctypes.c_int32), ('code', ctypes.c_uint8),
                ('bits', ctypes.c_uint8), ('lanes', ctypes.c_uint16),
                ('shape', ctypes.POINTER(ctypes.c_int64)),
                ('strides', ctypes.POINTER(ctypes.c_int64)), ('byte_offset', ctypes.c_uint64)]


class DlManaged(ctypes.Structure):
    _fields_ = [('tensor', DlTensor), ('manager', ctypes.c_void_p), ('deleter', ctypes.c_void_p)]


class DlVersioned(ctypes.Structure):
    _fields_ = [('major', ctypes.c_uint32), ('minor', ctypes.c_uint32),
                ('manager', ctypes.c_void_p), ('deleter', ctypes.c_void_p),
                ('flags', ctypes.c_uint64), ('tensor', DlTensor)]


Deleter = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p,
                                ctypes.c_void_p)(('PyCapsule_New', ctypes.pythonapi))
# By address: a destructor must not count references to the capsule that is being destroyed.
is_capsule = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p,
                               ctypes.c_char_p)(('PyCapsule_IsValid', ctypes.pythonapi))


class Tensor:
    """A tensor of DLPack that counts how often it was exported and given back."""

    def __init__(self, data, version=1, device=1, flags=0, shape=(LENGTH, ), strides=None, bits=8,
                 offset=0, major=1):
        self.exported = self.returned = 0
        self.version, self.device = version, device
        self.data = (ctypes.c_char * len(data)).from_buffer(data)
        # Without: one dimension, and a null pointer where its length should be.
        self.shape = shape if shape is None else (ctypes.c_int64 * len(shape))(*shape)
        self.strides = strides and (ctypes.c_int64 * len(strides))(*strides)
        dimensions = 1 if shape is None else len(shape)
        tensor = DlTensor(ctypes.addressof(self.data), device, 0, dimensions, 1, bits, 1,
                          self.shape, self.strides, offset)
        self.deleter = Deleter(self.give_back)
        deleter = ctypes.cast(self.deleter, ctypes.c_void_p)
        self.name = b'dltensor_versioned' if version else b'dltensor'
        self.managed = DlVersioned(major, 0, None, deleter, flags,
                                   tensor) if version else DlManaged(tensor, None, deleter)
        self.destructor = Deleter(self.drop)

    def give_back(self, managed):
        assert managed == ctypes.addressof(self.managed)
        self.returned += 1

    def drop(self, capsule):
        if is_capsule(capsule, self.name):
            self.returned += 1

    def __dlpack_device__(self):
        return self.device, 0

    def __dlpack__(self, **kwargs):
        if kwargs and not self.version:
            raise TypeError('an old producer knows no keywords')
        self.exported += 1
        return new_capsule(ctypes.addressof(self.managed), self.name,
                           ctypes.cast(self.destructor, ctypes.c_void_p))


class OnlyDlPack:
    """What a CPU tensor of PyTorch offers: DLPack and no buffer protocol."""

    def __init__(self, source):
        self.source = source

    def __dlpack_device__(self):
        return self.source.__dlpack_device__()

    def __dlpack__(self, **kwargs):
        return self.source.__dlpack__(**kwargs)


class Point(ctypes.Structure):
    _fields_ = [('bytes', ctypes.c_uint8 * PAGE),
                ('rest', ctypes.c_uint32 * ((LENGTH - PAGE) // 4))]


def anonymous(flags=mmap.MAP_PRIVATE):
    mapped = mmap.mmap(-1, LENGTH, flags=flags | mmap.MAP_ANONYMOUS)
    mapped[:] = PATTERN
    return mapped


def of_file(flags, prot=mmap.PROT_READ | mmap.PROT_WRITE):
    with tempfile.TemporaryFile(dir='/dev/shm') as file:
        file.write(PATTERN)
        file.flush()
        return mmap.mmap(file.fileno(), LENGTH, flags=flags, prot=prot)


def of_memfd():
    memory = os.memfd_create('umem')
    try:
        os.write(memory, PATTERN)
        return mmap.mmap(memory, LENGTH)
    finally:
        os.close(memory)


def sources():
    """Name and maker of each writable exporter, filled with the pattern."""
    found = {
        'bytearray':
        lambda: bytearray(PATTERN),
        'memoryview of a part':
        lambda: memoryview(bytearray(b'12345678' + PATTERN + b'87654321'))[8:-8],
        'memoryview cast':
        lambda: memoryview(bytearray(PATTERN)).cast('I').cast('B').cast('H', (2, LENGTH // 4)),
        'array of int':
        lambda: array.array('I', PATTERN),
        'array of float':
        lambda: array.array('d', PATTERN),
        'ctypes array':
        lambda: (ctypes.c_char * LENGTH).from_buffer_copy(PATTERN),
        'ctypes structure':
        lambda: Point.from_buffer_copy(PATTERN),
        'ctypes on another buffer':
        lambda: (ctypes.c_uint16 * (LENGTH // 2)).from_buffer(bytearray(PATTERN)),
        'mmap, anonymous':
        anonymous,
        'mmap, anonymous shared':
        lambda: anonymous(mmap.MAP_SHARED),
        'mmap of a file':
        lambda: of_file(mmap.MAP_SHARED),
        'mmap of a file, private':
        lambda: of_file(mmap.MAP_PRIVATE),
        'DLPack 1':
        lambda: Tensor(bytearray(PATTERN)),
        'DLPack 0':
        lambda: Tensor(bytearray(PATTERN), version=0), }
    if hasattr(os, 'memfd_create'):
        found['mmap of a memfd'] = of_memfd
    if numpy:
        def numbers(kind=numpy.uint8):
            return numpy.frombuffer(bytearray(PATTERN), dtype=kind)
        found.update({
            'numpy':
            numbers,
            'numpy of two dimensions':
            lambda: numbers(numpy.float32).reshape(8, -1),
            'numpy, a contiguous slice':
            lambda: numpy.frombuffer(bytearray(PATTERN * 3), numpy.uint8).reshape(3, -1)[1:2],
            'numpy of records':
            lambda: numbers(numpy.dtype([('a', '<u4'), ('b', '<f4')])),
            'numpy by DLPack':
            lambda: OnlyDlPack(numbers(numpy.float64).reshape(2, -1)), })
    if torch:
        def tensor(kind=torch.uint8, times=1):
            return torch.frombuffer(bytearray(PATTERN * times), dtype=kind)
        found.update({
            'torch':
            tensor,
            'torch, storage of its own':
            lambda: tensor().clone(),
            'torch of two dimensions':
            lambda: tensor(torch.float32).reshape(8, -1).clone(),
            'torch of bfloat16':
            lambda: tensor(torch.bfloat16),
            'torch, a contiguous slice':
            lambda: tensor(times=3).reshape(3, -1)[1],
            'torch from numpy':
            lambda: torch.from_numpy(numpy.frombuffer(bytearray(PATTERN), numpy.int64)), })
    return found


def strided_tensors():
    """Name and maker of tensors that no umem can be, and a word of the refusal, from each framework
    that is installed."""
    found = {
        'own': (lambda: Tensor(bytearray(PATTERN), shape=(4, 4), strides=(1, 4)), 'contiguous')}
    if numpy:
        found['numpy'] = lambda: OnlyDlPack(numpy.zeros((64, 64))[:, ::2]), 'contiguous'
    if torch:
        found.update({'torch': (lambda: torch.zeros(64, 64)[:, ::2], 'contiguous'),
                  'torch turned': (lambda: torch.zeros(8, 64).t(), 'contiguous'),
                  'torch with a gradient': (lambda: torch.zeros(64, requires_grad=True), 'grad'),
                  'torch without storage': (lambda: torch.zeros(64, device='meta'), 'meta')})
    return found


class Mlx5DevxUmemSourcesTest(Mlx5DevxUmemTestCase):
    def test_every_exporter(self):
        """Everything but the umem deleted, collected and other memory allocated: card and Python
        still share the bytes."""
        for name, make in sources().items():
            with self.subTest(source=name), self.assert_freed_once(1):
                umem = self.umem(buffer=make(), access=WRITE)
                gc.collect()
                trash = [bytearray(b'\xee' * LENGTH) for _ in range(200)]
                self.assertEqual(umem.size, LENGTH)
                with memoryview(umem) as view:
                    self.assertEqual(bytes(view), PATTERN)
                    self.assert_both_ways(umem, view)
                del trash
                umem.close()

    def test_every_exporter_for_reading(self):
        """Without a write bit the card reads the same, and is not let write."""
        for name, make in sources().items():
            with self.subTest(source=name), self.umem(buffer=make()) as umem:
                self.assert_both_ways(umem, memoryview(umem))

    def test_read_only_exporters(self):
        """Registered without a write bit, refused with one; the umem's own view is read-only
        too."""
        found = {
            'bytes': lambda: bytes(PATTERN), 'memoryview':
            lambda: memoryview(bytes(PATTERN)), 'mmap of a file':
            lambda: of_file(mmap.MAP_SHARED, mmap.PROT_READ), 'DLPack 1':
            lambda: Tensor(bytearray(PATTERN), flags=DLPACK_READ_ONLY)}
        if numpy:
            def frozen():
                numbers = numpy.frombuffer(bytearray(PATTERN), dtype=numpy.uint16).copy()
                numbers.flags.writeable = False
                return numbers
            found.update({'numpy': frozen, 'numpy by DLPack': lambda: OnlyDlPack(frozen())})
        for name, make in found.items():
            with self.subTest(source=name):
                with self.umem(buffer=make()) as umem:
                    gc.collect()
                    with memoryview(umem) as view:
                        self.assertTrue(view.readonly)
                        self.assertEqual(bytes(view), PATTERN)
                        self.assert_both_ways(umem, view)
                self.wrong(self.umem, buffer=make(), access=WRITE)
        self.assert_live('umem', 0)

    def test_the_exporter_is_given_back(self):
        """When the umem is closed and the last view of it gone, and not before."""
        data, numbers = bytearray(PATTERN), array.array('I', PATTERN)
        mapped, ctype = anonymous(), (ctypes.c_char * LENGTH)()
        held = [self.umem(buffer=source, access=WRITE) for source in (data, numbers, mapped)]
        view = memoryview(held[0])
        for change in (lambda: data.append(1), lambda: numbers.append(1), mapped.close):
            self.assertRaises(BufferError, change)
        for umem in held:
            umem.close()
        numbers.append(1)
        mapped.close()
        self.assertRaises(BufferError, data.append, 1)
        view.release()
        data.append(1)
        if numpy:
            base = numpy.zeros(LENGTH, numpy.uint8)
            with self.umem(buffer=base, access=WRITE):
                self.assertRaises(ValueError, base.resize, 2 * LENGTH)
            base.resize(2 * LENGTH, refcheck=False)
        # ctypes has no lock against resize(); a umem on it stays on the old memory, which is freed.
        # It is documented.
        with self.umem(buffer=ctype, access=WRITE) as umem:
            self.assertEqual(umem.addr, ctypes.addressof(ctype))

    def test_shared_memory(self):
        """The segment stays mapped while the umem is open, even after unlink(); SharedMemory says
        that it cannot unmap it."""
        try:
            from multiprocessing import shared_memory
        except ImportError as ex:
            raise unittest.SkipTest("multiprocessing.shared_memory is Python 3.8's") from ex
        segment = shared_memory.SharedMemory(create=True, size=LENGTH)
        segment.buf[:] = PATTERN
        umem = self.umem(LENGTH, buffer=segment.buf, access=WRITE)
        other = shared_memory.SharedMemory(segment.name)
        with memoryview(umem) as view:
            self.assert_both_ways(umem, view)
            if self.card:
                self.assertEqual(bytes(other.buf[:LENGTH]), bytes(view))
        other.close()
        segment.unlink()
        self.assertRaises(BufferError, segment.close)
        self.assertEqual(bytes(memoryview(umem)[64:80]), PATTERN[64:80])
        self.assert_card_reads(umem.umem_id, 64, PATTERN[64:80])
        umem.close()
        segment.close()

    def test_address(self):
        """Memory by address, from every offset in a page that a script may have."""
        data = anonymous()
        base = ctypes.addressof(ctypes.c_char.from_buffer(data))
        for start, length in ((0, LENGTH), (64, LENGTH - 64), (PAGE - 1, 2), (1, PAGE),
                              (PAGE - 16, 48), (PAGE, PAGE), (LENGTH - 1, 1)):
            with self.subTest(start=start, length=length), self.umem(length, base + start,
                                                                     access=WRITE) as umem:
                self.assertEqual((umem.addr, umem.size), (base + start, length))
                self.assert_layout(umem)
                self.assert_card_reads(umem.umem_id, 0, data[start:start + min(length, 16)])
                self.assert_card_reads(umem.umem_id, length - 1,
                                       data[start + length - 1:start + length])
                if length >= 16:
                    self.assert_both_ways(umem, memoryview(data)[start:start + length])
                self.assertRaises(BufferError, memoryview, umem)

    def test_own_memory_outlives_everything_else(self):
        for alignment, length in ((PAGE, LENGTH), (PAGE, 100), (HUGE, HUGE + 4096)):
            with self.subTest(alignment=alignment, length=length), self.umem(
                    length, alignment=alignment, access=WRITE) as umem:
                view = memoryview(umem)
                self.assertEqual(bytes(view), bytes(length))
                view[:] = (PATTERN * (length // LENGTH + 1))[:length]
                gc.collect()
                self.assert_both_ways(umem, view)

    def test_huge_alignment_gets_huge_pages(self):
        """Memory of our own that is aligned to 2 MiB is one page for the card where the kernel has
        such pages."""
        with open('/sys/kernel/mm/transparent_hugepage/enabled') as file:
            wanted = HUGE if '[never]' not in file.read() else None
        with huge_pages(HUGE, 4):
            # Frees and compacts memory as a side effect, the pages themselves are not for us.
            pass
        with self.umem(HUGE, alignment=HUGE, access=WRITE) as umem:
            self.assert_layout(umem, wanted)
            self.assert_both_ways(umem, memoryview(umem))


class Mlx5DevxUmemDlPackTest(Mlx5DevxUmemTestCase):
    def test_given_back_once(self):
        """The producer's deleter runs once: at close, or with the last view, or at once if the
        registration fails."""
        for version in (0, 1):
            with self.subTest(version=version):
                tensor = Tensor(bytearray(PATTERN), version=version)
                umem = self.umem(buffer=tensor, access=WRITE)
                view = memoryview(umem)
                self.assertEqual((tensor.exported, tensor.returned), (1, 0))
                umem.close()
                self.assertEqual(tensor.returned, 0)
                view.release()
                gc.collect()
                self.assertEqual(tensor.returned, 1)
                self.refused(errno.EINVAL, self.umem, buffer=tensor, access=2)
                gc.collect()
                self.assertEqual((tensor.exported, tensor.returned), (2, 2))

    def test_shape_and_offset(self):
        """Size by shape and type; the offset counts; a stride of a dimension of one element does
        not."""
        data = bytearray(PATTERN)
        for kwargs, start, length in (({'shape': (2, 3, 5), 'bits': 32}, 0, 120), ({
                'shape': (), 'bits': 64}, 0, 8), ({
                    'shape': (4, 1, 2), 'strides': (2, 77, 1), 'bits': 16,
                    'offset': 24}, 24, 16), ({
                        'shape': (LENGTH // 2, ), 'strides': (1, ), 'bits': 16}, 0, LENGTH)):
            tensor = Tensor(data, **kwargs)
            with self.subTest(**kwargs), self.umem(buffer=tensor, access=WRITE) as umem:
                self.assertEqual((umem.size, umem.addr),
                                 (length, ctypes.addressof(tensor.data) + start))
                self.assert_card_reads(umem.umem_id, 0, PATTERN[start:start + length])

    def test_refused_tensors(self):
        """Not contiguous, not in host memory, read-only, of an unknown version, or impossible: each
        is given back."""
        for words, kwargs in (('contiguous', {'shape': (4, 4), 'strides': (8, 1)}), ('contiguous', {
                'shape': (4, 4), 'strides': (1, 4)}), ('contiguous', {
                    'shape': (4, ), 'strides': (-1, )}), ('no memory', {
                        'shape':
                        (1 << 40, 1 << 40)}), ('no memory', {'shape': (-1, )}), ('no memory', {
                            'shape': (4, ), 'bits': 0}), ('whole bytes', {
                                'shape': (4, ), 'bits':
                                4}), ('whole bytes', {'shape': (), 'bits': 6}), ('no shape', {
                                    'shape': None}), ('version 2', {'major': 2}), ('read-only', {
                                        'flags':
                                        DLPACK_READ_ONLY}), ('host memory', {'device': 2})):
            for version in (1, 0):
                if not version and ('major' in kwargs or 'flags' in kwargs):
                    continue
                with self.subTest(version=version, **kwargs):
                    tensor = Tensor(bytearray(PATTERN), version=version, **kwargs)
                    self.assertIn(words, self.wrong(self.umem, buffer=tensor, access=WRITE))
                    gc.collect()
                    # A tensor in another memory is not even asked for.
                    self.assertEqual((tensor.exported, tensor.returned),
                                     (0, 0) if 'device' in kwargs else (1, 1))
        self.refused(errno.EINVAL, self.umem, buffer=Tensor(bytearray(PATTERN), shape=(0, 4)))
        self.wrong(self.umem, LENGTH + 1, buffer=Tensor(bytearray(PATTERN)))

    def test_strided_tensors_of_frameworks(self):
        """Each framework's own tensors that are not contiguous, or not to be lent, are refused as
        the caller's mistake."""
        for name, (make, word) in strided_tensors().items():
            with self.subTest(tensor=name):
                self.assertIn(word, self.wrong(self.umem, buffer=make()))

    def test_tensors_of_a_framework_keep_their_memory(self):
        """What a tensor was made of lives as long as the umem, whoever else forgets it, and no
        longer."""
        class Data(bytearray):
            pass
        made = {'own': Tensor}
        if numpy:
            made['numpy'] = lambda data: OnlyDlPack(numpy.frombuffer(data, numpy.uint8))
        if torch:
            made['torch'] = lambda data: torch.frombuffer(data, dtype=torch.uint8)
        for name, make in made.items():
            with self.subTest(framework=name):
                data = Data(PATTERN)
                seen = weakref.ref(data)
                umem = self.umem(buffer=make(data), access=WRITE)
                del data
                gc.collect()
                self.assertIsNotNone(seen())
                self.assert_both_ways(umem, memoryview(umem))
                umem.close()
                gc.collect()
                self.assertIsNone(seen())

    def test_producers_that_misbehave(self):
        class Lying(Tensor):
            def __dlpack_device__(self):
                return 1, 0

        class Refusing(Tensor):
            def __dlpack__(self, **kwargs):
                raise BufferError('no')

        class Empty(Tensor):
            def __dlpack__(self, **kwargs):
                return None

        class Used(Tensor):
            name = property(lambda self: b'used_dltensor', lambda self, value: None)
        tensor = Lying(bytearray(PATTERN), device=2)
        self.assertIn('host memory', self.wrong(self.umem, buffer=tensor))
        gc.collect()
        self.assertEqual(tensor.returned, 1)
        self.assertIn('no', self.wrong(self.umem, buffer=Refusing(bytearray(PATTERN))))
        for kind in (Empty, Used):
            self.assertRaises(TypeError, self.umem, buffer=kind(bytearray(PATTERN)))
        self.assert_live('umem', 0)


class Mlx5DevxUmemPageSizeTest(Mlx5DevxUmemTestCase):
    def fill(self, mapped):
        mapped[:LENGTH] = PATTERN
        mapped[len(mapped) - LENGTH:] = PATTERN

    def check(self, base, start, length, sizes, page_size, mapped):
        with self.subTest(start=start, length=length, sizes=sizes), \
                self.umem(length, base + start, access=WRITE, pgsz_bitmap=sizes) as umem:
            self.assert_layout(umem, page_size)
            if length >= 16:
                self.assert_both_ways(umem, memoryview(mapped)[start:start + length])

    def test_ordinary_memory(self):
        """4 KiB pages, whatever larger ones may be used besides, and from any start; other sizes
        alone do not fit."""
        mapped = mmap.mmap(-1, LENGTH)
        mapped[:] = PATTERN
        base = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
        for start, length in ((0, LENGTH), (64, LENGTH - 64), (PAGE + 8, 16)):
            for sizes in (0, 4096, [4096], (4096, 1 << 30), {4096,
                                                             1 << 63}, 2**64 - 1, 2**64 - 4096):
                with self.subTest(start=start, sizes=sizes), \
                        self.umem(length, base + start, access=WRITE, pgsz_bitmap=sizes) as umem:
                    if self.card:
                        self.assertGreaterEqual(umem_page_size(umem), 4096)
                    self.assert_both_ways(umem, memoryview(mapped)[start:start + length])
        for sizes in (1, 64, 2048, [2048, 1024], 1 << 30, [HUGE, GIANT], 1 << 63):
            self.assertIn('page size',
                          self.refused(errno.EINVAL, self.umem, LENGTH, base, pgsz_bitmap=sizes))

    def test_huge_pages(self):
        """ In a huge page every size from 4 KiB up to it can be had alone, the largest that fits is
        taken from a set, and an unaligned start or length is divided down to 4 KiB. The card reads
        and writes through each.
        """
        tried = []
        # A machine set up for it names the sizes that it has to have, in bytes.
        named = [int(size) for size in os.environ.get('MLX5_UMEM_HUGE_PAGES', '').split()]
        for huge in named or (HUGE, GIANT):
            with huge_pages(huge, 1) as free:
                if not free:
                    continue
                tried.append(huge)
                mapped = map_huge(huge)
                base = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
                self.fill(mapped)
                self.assertEqual(base % huge, 0)
                log = huge.bit_length() - 1
                for size in (1 << n for n in range(12, log + 1)):
                    self.check(base, 0, size, [size], size, mapped)
                    if size < huge:
                        self.check(base, huge // 2 // size * size if size < huge // 2 else size,
                                   size, size, size, mapped)
                    if huge // size <= 4096:
                        self.check(base, 0, huge, [size], size, mapped)
                self.check(base, 0, huge, 0, huge, mapped)
                self.check(base, 0, huge, (4096, 65536, huge), huge, mapped)
                self.check(base, 0, 3 * 65536, (4096, 65536, huge), 65536, mapped)
                self.check(base, 0, 65536 + 4096, (4096, 65536, huge), 4096, mapped)
                self.check(base, 4096, 65536, (4096, 65536), 4096, mapped)
                self.check(base, 64, 65536 - 64, (4096, 65536), 4096, mapped)
                # More than the memory is: masked away.
                self.refused(errno.EINVAL, self.umem, huge, base, pgsz_bitmap=[2 * huge])
                self.refused(errno.EINVAL, self.umem, PAGE, base, pgsz_bitmap=[2048])
                umem = self.umem(buffer=mapped, access=WRITE)
                del mapped
                gc.collect()
                self.assert_layout(umem, huge)
                self.assert_both_ways(umem, memoryview(umem))
                umem.close()
        self.assertLessEqual(set(named), set(tried))
        if not tried:
            raise unittest.SkipTest(
                'No free huge pages: put a number into /proc/sys/vm/nr_hugepages')

    def test_several_huge_pages(self):
        """Shared ones too; pages that are not neighbours stay pages of 2 MiB."""
        with huge_pages(HUGE, 3) as free:
            if free < 3:
                raise unittest.SkipTest(
                    'No three free huge pages: put a number into /proc/sys/vm/nr_hugepages')
            for shared in (False, True):
                mapped = map_huge(HUGE, 3, shared)
                self.fill(mapped)
                umem = self.umem(buffer=mapped, access=WRITE, pgsz_bitmap=[4096, HUGE])
                del mapped
                gc.collect()
                self.assert_layout(umem, HUGE)
                view = memoryview(umem)
                self.assert_both_ways(umem, view)
                view[HUGE - 8:HUGE + 8] = b'across the edge!'
                self.assert_card_reads(umem.umem_id, HUGE - 8, b'across the edge!')
                umem.close()
                view.release()

    def test_upstream_takes_the_same_bitmaps(self):
        """What is accepted and what is refused is the kernel's choice, so it is the same for
        Mlx5UMEM."""
        for bitmap in (4096, 2048, 1 << 30, 4096 | 1 << 30):
            answers = []
            for kind in (Mlx5UMEM, Mlx5DevxUmem):
                try:
                    kind(self.ctx, LENGTH, alignment=PAGE, pgsz_bitmap=bitmap).close()
                    answers.append(0)
                except Exception as ex:
                    answers.append(ex.error_code)
            self.assertEqual(answers[0], answers[1])


def umem_page_size(umem):
    from mlx5emu.vm import control
    return control.call('umem', umem_id=umem.umem_id)['page_size']
