# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
User memory for DEVX: Mlx5DevxUmem.

Where a docstring names U1 to U12 or G1 to G3, the test fails on pyverbs' own Mlx5UMEM, which
crashes, leaks or answers wrongly there. What the card reads by DMA is compared with what Python
wrote, where the card can be asked.
"""
import array
import copy
import ctypes
import errno
import gc
import inspect
import mmap
import os
import pickle
import resource
import tempfile
import threading
import unittest
import weakref

from pyverbs.device import Context
from pyverbs.providers.mlx5.mlx5dv import Mlx5UMEM
from pyverbs.pyverbs_error import PyverbsError, PyverbsRDMAError
from tests.mlx5_mem_base import control, devx_cq, resident_bytes
from tests.mlx5_mem_umem import (
    LENGTH,
    MASK_DMABUF,
    PAGE,
    PATTERN,
    WRITE,
    Mlx5DevxUmemTestCase,
    sealable_memory,
    udmabuf,
)

from pyverbs.providers.mlx5 import mlx5dv_devx_umem
from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

try:
    import numpy
except ImportError:
    numpy = None

def mappings():
    with open('/proc/self/maps') as maps:
        return sum(1 for _ in maps)


class Mlx5DevxUmemSourceTest(Mlx5DevxUmemTestCase):
    def test_own_memory(self):
        """Zeroed and page-aligned; what either side writes the other reads."""
        with self.umem(LENGTH, access=WRITE) as umem:
            self.assertEqual((umem.size, umem.access, umem.pgsz_bitmap, umem.is_imported,
                              umem.closed, umem.addr % PAGE), (LENGTH, WRITE, 0, False, False, 0))
            self.assertEqual(umem.umem_addr, umem.addr)
            view = memoryview(umem)
            self.assertEqual((view.nbytes, view.format, view.readonly, bytes(view)),
                             (LENGTH, 'B', False, bytes(LENGTH)))
            view[:] = PATTERN
            self.assertEqual(ctypes.string_at(umem.addr, LENGTH), PATTERN)
            self.assert_card_sees(umem)
            self.assert_live('umem', 1)
            if self.card:
                control.call('umem_write', umem_id=umem.umem_id, offset=2 * PAGE - 2,
                             data=b'card'.hex())
                self.assertEqual(bytes(view[2 * PAGE - 2:2 * PAGE + 2]), b'card')
        self.assert_live('umem', 0)

    def test_alignment(self):
        for alignment in (1, 64, PAGE, 4 * PAGE, 1 << 21):
            with self.subTest(alignment=alignment), self.umem(LENGTH, alignment=alignment) as umem:
                self.assertEqual(umem.addr % max(alignment, PAGE), 0)
        maps = mappings()
        for _ in range(20):
            self.umem(LENGTH, alignment=1 << 21).close()
        self.assertLess(mappings() - maps, 10)

    def test_buffers(self):
        """The exporter is held: deleting everything else leaves memory that the card reads."""
        sources = [bytearray(PATTERN), array.array('I', PATTERN), memoryview(bytearray(PATTERN)),
                   (ctypes.c_char * LENGTH).from_buffer_copy(PATTERN)]
        mapped = mmap.mmap(-1, LENGTH)
        mapped[:] = PATTERN
        sources.append(mapped)
        if numpy:
            sources.append(numpy.frombuffer(bytearray(PATTERN), dtype=numpy.uint16).reshape(4, -1))
        del mapped
        while sources:
            source = sources.pop()
            with self.subTest(source=type(source).__name__):
                umem = self.umem(buffer=source, access=WRITE)
                del source
                gc.collect()
                self.assertEqual(umem.size, LENGTH)
                self.assert_card_sees(umem)
                self.assertEqual(bytes(memoryview(umem)), PATTERN)
                umem.close()

    def test_part_of_a_buffer(self):
        data = bytearray(PATTERN)
        with self.umem(100, buffer=memoryview(data)[16:], access=WRITE) as umem:
            self.assertEqual(umem.size, 100)
            self.assert_card_reads(umem.umem_id, 0, PATTERN[16:116])
        self.wrong(self.umem, LENGTH + 1, buffer=data, access=WRITE)

    def test_u6_the_buffer_is_held(self):
        """U6: it can be neither resized nor freed while registered, and can be both afterwards."""
        data = bytearray(PATTERN)
        umem = self.umem(buffer=data, access=WRITE)
        self.assertRaises(BufferError, data.extend, b'more')
        umem.close()
        data.extend(b'more')

    def test_read_only_memory(self):
        """Accepted without a write bit, refused with one."""
        with self.umem(buffer=PATTERN) as umem:
            self.assert_card_sees(umem)
            self.assertTrue(memoryview(umem).readonly)
        self.assertIn('writable', self.wrong(self.umem, buffer=PATTERN, access=WRITE))
        with tempfile.TemporaryFile() as file:
            file.write(PATTERN)
            file.flush()
            mapped = mmap.mmap(file.fileno(), LENGTH, prot=mmap.PROT_READ)
            self.wrong(self.umem, buffer=mapped, access=WRITE)
            address = numpy.frombuffer(mapped, dtype=numpy.uint8).ctypes.data if numpy else None
            if address:
                self.assertIn('read-only',
                              self.refused(errno.EFAULT, self.umem, LENGTH, address, access=WRITE))

    def test_refused_buffers(self):
        self.wrong(self.umem, buffer=memoryview(bytearray(LENGTH))[::2], access=WRITE)
        for thing in ('text', 7, object()):
            self.assertRaises(TypeError, self.umem, buffer=thing)
        self.wrong(self.umem, 64, 4096, buffer=bytearray(64))
        self.wrong(self.umem, buffer=bytearray(64), dmabuf_fd=5)

    def test_address(self):
        """Memory given by address is the caller's to keep, and is not lent out again."""
        data = mmap.mmap(-1, LENGTH)
        data[:] = PATTERN
        address = ctypes.addressof(ctypes.c_char.from_buffer(data))
        with self.umem(LENGTH - 64, address + 64, access=WRITE) as umem:
            self.assertEqual((umem.addr, umem.size), (address + 64, LENGTH - 64))
            self.assert_card_reads(umem.umem_id, 0, PATTERN[64:80])
            self.assertRaises(BufferError, memoryview, umem)

    def test_positions_are_those_of_mlx5umem(self):
        """Renaming the class is all that a script has to do."""
        for kind in (Mlx5UMEM, Mlx5DevxUmem):
            with kind(self.ctx, LENGTH, None, PAGE, WRITE, 4096, 0) as umem:
                self.assertEqual(umem.umem_addr % PAGE, 0)
            with kind(self.ctx, size=LENGTH, alignment=64, access=WRITE) as umem:
                self.assertIn('umem id', str(umem))

    def test_page_sizes(self):
        """The card gets pages of a size from the bitmap; a list of sizes says the same."""
        for sizes in (4096, [4096], 4096 | 1 << 30, (4096, 1 << 30)):
            with self.subTest(sizes=sizes), self.umem(LENGTH, pgsz_bitmap=sizes,
                                                      access=WRITE) as umem:
                self.assertEqual(umem.pgsz_bitmap,
                                 sum(sizes) if not isinstance(sizes, int) else sizes)
                if self.card:
                    seen = control.call('umem', umem_id=umem.umem_id)
                    self.assertEqual((seen['log_page_size'], len(seen['mtts'])),
                                     (12, LENGTH // 4096))
        for sizes in (2048, 1 << 30, [1 << 21, 1 << 30]):
            self.assertIn('page size',
                          self.refused(errno.EINVAL, self.umem, LENGTH, pgsz_bitmap=sizes))
        for sizes in ([], [3], [0], [-4096], -1, 2**64):
            self.wrong(self.umem, LENGTH, pgsz_bitmap=sizes)
        self.assertRaises(TypeError, self.umem, LENGTH, pgsz_bitmap=['x'])


class Mlx5DevxUmemRefusalTest(Mlx5DevxUmemTestCase):
    def test_refused_by_the_kernel(self):
        data = mmap.mmap(-1, LENGTH)
        address = ctypes.addressof(ctypes.c_char.from_buffer(data))
        cases = (
            ({'size': 0}, errno.EINVAL),
            ({'size': 0, 'addr': address}, errno.EINVAL),
            ({'size': LENGTH, 'addr': 0x1000}, errno.EFAULT),
            ({'size': LENGTH, 'addr': 2**64 - 100}, errno.EINVAL),
            ({'size': 2**64 - 1, 'addr': address}, errno.EINVAL),
            ({'size': LENGTH, 'comp_mask': 32}, errno.EOPNOTSUPP),
            ({'size': 1 << 62}, errno.ENOMEM),
        ) + tuple(({'size': LENGTH, 'access': access}, errno.EINVAL)
                  for access in (2, 8, 1 << 16, 1 << 19))
        for kwargs, code in cases:
            with self.subTest(**kwargs):
                self.refused(code, self.umem, **kwargs)
        for access in (0, 1, 3, 4, 7, 1 << 20):
            with self.umem(LENGTH, access=access) as umem:
                self.assertEqual(umem.access, access)
        self.assert_live('umem', 0)

    def test_context_without_devx(self):
        """EINVAL whatever else is right or wrong, and the text says that it is the context, and how
        to open another."""
        if not self.card:
            raise unittest.SkipTest('libmlx5 opens with DEVX whatever is asked for: '
                                    'only a card that is told to can refuse it')
        # The library asks three times, with less and less of the request, before it goes on
        # without.
        control.call('fault', opcode='CREATE_UCTX', status='EXCEED_LIM', count=3)
        with Context(name=self.dev_name) as ctx:
            for kwargs in ({'size': LENGTH}, {'size': 0}, {'size': LENGTH, 'pgsz_bitmap': 4096}, {
                    'buffer': bytearray(LENGTH)}):
                with self.subTest(**kwargs):
                    text = self.refused(errno.EINVAL, Mlx5DevxUmem, ctx, **kwargs)
                    self.assertIn('not opened with DEVX', text)
                    self.assertIn('MLX5DV_CONTEXT_FLAGS_DEVX', text)
        # With DEVX it is something else, and that is said.
        self.assertNotIn('opened with DEVX', self.refused(errno.EINVAL, self.umem, 0))

    def test_refused_here(self):
        """What does not fit, or contradicts itself, never reaches the library. G3: a bad alignment
        is no KeyError."""
        for kwargs in ({}, {'size': -1}, {'size': 2**64}, {'size': 64, 'addr': -1}, {
                'size': 64, 'addr': 2**64}, {'size': 64, 'alignment': 3}, {
                    'size': 64, 'alignment': 0}, {'size': 64, 'alignment': -4096}, {
                        'size': 64, 'access': -1}, {'size': 64, 'access': 2**32}, {
                            'size': 64, 'comp_mask': -1}, {'size': 64, 'comp_mask': MASK_DMABUF}, {
                                'size': 64, 'dmabuf_fd': 2**31}, {'dmabuf_fd': 0}):
            with self.subTest(**kwargs):
                self.wrong(self.umem, **kwargs)
        for kwargs in ({'size': 'x'}, {'size': 64, 'addr': 'x'}, {'size': 64, 'alignment': None}, {
                'size': 1.5}):
            self.assertRaises(TypeError, self.umem, **kwargs)
        self.assertRaises(TypeError, Mlx5DevxUmem, None, 64)
        self.assertRaises(TypeError, Mlx5DevxUmem)

    def test_u7_dmabuf(self):
        """U7: a dmabuf_fd alone is enough, and what is no dma-buf is refused rather than host
        memory registered."""
        reader, writer = os.pipe()
        closed = os.dup(reader)
        os.close(closed)
        try:
            for fd, code in ((-1, errno.EBADF), (999, errno.EBADF), (closed, errno.EBADF),
                             (reader, errno.EINVAL)):
                for mask in (0, MASK_DMABUF):
                    with self.subTest(fd=fd, mask=mask):
                        self.assertIn(
                            'dma-buf',
                            self.refused(code, self.umem, LENGTH, dmabuf_fd=fd, comp_mask=mask))
        finally:
            os.close(reader)
            os.close(writer)
        self.assert_live('umem', 0)

    def test_u2_dmabuf_of_udmabuf(self):
        """U2, U7: a real exporter, from an offset; the caller closes the fd at once; offset 0
        prints as 0."""
        if not os.path.exists('/dev/udmabuf'):
            raise unittest.SkipTest('No /dev/udmabuf: `modprobe udmabuf` adds it')
        memory = sealable_memory(PATTERN)
        self.addCleanup(os.close, memory)
        fd = udmabuf(memory)
        whole = self.umem(LENGTH, dmabuf_fd=fd)
        self.refused(errno.EINVAL, self.umem, LENGTH + PAGE, dmabuf_fd=fd)
        part = self.umem(LENGTH - PAGE, addr=PAGE, access=WRITE, dmabuf_fd=fd,
                         comp_mask=MASK_DMABUF, pgsz_bitmap=[4096])
        os.close(fd)
        self.assertEqual((whole.addr, whole.umem_addr, part.addr, part.size),
                         (0, 0, PAGE, LENGTH - PAGE))
        self.assertIn('reg addr            : 0', str(whole))
        self.assertEqual((whole.pgsz_bitmap, part.pgsz_bitmap), (2**64 - 4096, 4096))
        self.assert_card_sees(whole)
        self.assert_card_sees(part, PATTERN[PAGE:])
        self.assertRaises(BufferError, memoryview, whole)
        whole.close()
        part.close()

    def test_u3_failed_registration_leaks_nothing(self):
        """U3: refused registrations of 1 MiB, twice 150 of own memory and of borrowed."""
        data = bytearray(1 << 20)

        def fail():
            self.refused(errno.EINVAL, self.umem, 1 << 20, access=2)
            self.refused(errno.EINVAL, self.umem, buffer=data, access=2 | 1 << 16)
        self.assert_no_growth(resident_bytes, fail, 150, 1 << 20)
        data.extend(b'not held')

    def test_locked_memory_limit(self):
        """ENOMEM over RLIMIT_MEMLOCK as an unprivileged user, EPERM if it is 0, and the text says
        what to raise."""
        def register():
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
            os.setresuid(65534, 65534, 65534)
            self.assertIn('ulimit -l', self.refused(errno.ENOMEM, self.umem, 8 << 20))
            self.umem(PAGE).close()
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))
            self.assertRegex(self.refused(errno.EPERM, self.umem, PAGE),
                             'may pin no memory at all: raise `ulimit -l`')
        self.in_child(register)

    def test_card_refuses(self):
        """ What the card answers reaches Python as errno, and nothing stays. The kernel gives every
        status of a DEVX command that it has an errno for: EAGAIN, EBUSY and EIO too.
        """
        data = bytearray(LENGTH)
        for status, code in (('INT_ERR', errno.EIO), ('BAD_OP', errno.EINVAL),
                             ('BAD_PARAM', errno.EINVAL), ('BAD_SYS_STATE', errno.EIO),
                             ('BAD_RES', errno.EINVAL), ('RES_BUSY', errno.EBUSY),
                             ('EXCEED_LIM', errno.ENOMEM), ('BAD_RES_STATE', errno.EINVAL),
                             ('NO_RES', errno.EAGAIN), ('BAD_INP_LEN', errno.EIO),
                             ('BAD_OUTP_LEN', errno.EIO)) if self.card else ():
            with self.subTest(status=status):
                control.call('fault', opcode='CREATE_UMEM', status=status)
                self.refused(code, self.umem, buffer=data, access=WRITE)
                data.append(1)
                self.assert_live('umem', 0)
        self.umem(LENGTH).close()


class Mlx5DevxUmemUseTest(Mlx5DevxUmemTestCase):
    def test_u4_u5_refused_deregistration(self):
        """U4, U5: while a CQ uses it, closing raises with the errno, and memory and registration
        stay as they were."""
        umem, dbr, cq, _ = self.umem_with_cq(self.ctx)
        # No view is left: it would keep the memory by itself.
        with memoryview(umem) as view:
            view[100:104] = b'here'
        for _ in range(3):
            with self.assertRaises(PyverbsRDMAError) as caught:
                umem.close()
            self.assertIn(caught.exception.error_code, (errno.EBUSY, errno.EINVAL))
            self.assertIn('DEVX object', str(caught.exception))
        self.assertFalse(umem.closed)
        self.assertEqual(bytes(memoryview(umem)[100:104]), b'here')
        self.assert_card_reads(umem.umem_id, 100, b'here')
        cq.close()
        umem.close()
        dbr.close()
        self.assertTrue(umem.closed)
        self.assert_live('umem', 0)

    def test_context_closes_in_order(self):
        """The DEVX objects first, then the umems, whatever was made first."""
        for extra in (0, 3):
            ctx = self.open_context()
            umems = [Mlx5DevxUmem(ctx, PAGE) for _ in range(extra)]
            umem, dbr, cq, uars = self.umem_with_cq(ctx)
            for uar in uars:
                self.addCleanup(uar.close)
            self.assert_live('umem', 2 + extra)
            del cq
            gc.collect()
            cq = devx_cq(ctx, umem, dbr, uars)
            for uar in uars:
                uar.close() if uar is not uars[-1] else None
            cq.close()
            uars[-1].close()
            ctx.close()
            self.assertEqual([u.closed for u in [umem, dbr] + umems], [True] * (2 + extra))
            self.assert_live('umem', 0)

    def test_dropped_while_in_use(self):
        """A umem that goes out of scope under a CQ stays registered until its context is closed,
        and its memory, which the device may write to, is never freed."""
        ctx = self.open_context()
        umem, dbr, cq, uars = self.umem_with_cq(ctx)
        number, address, view = umem.umem_id, umem.addr, memoryview(umem)
        with self.assertWarns(ResourceWarning):
            del umem
            gc.collect()
        self.assert_live('umem', 2)
        view[:4] = b'kept'
        self.assert_card_reads(number, 0, b'kept')
        cq.close()
        dbr.close()
        gc.collect()
        self.assert_live('umem', 1)
        self.assert_card_reads(number, 0, b'kept')
        for uar in uars:
            uar.close()
        del view
        ctx.close()
        self.assert_live('umem', 0)
        self.assertEqual(ctypes.string_at(address, 4), b'kept')

    def test_views_keep_memory_not_registration(self):
        """A live view does not delay close(), and stays valid after it; a borrowed view is released
        with it."""
        umem = self.umem(LENGTH, access=WRITE)
        view = memoryview(umem)
        view[:] = PATTERN
        umem.close()
        self.assert_live('umem', 0)
        self.assertEqual(bytes(view), PATTERN)
        self.wrong(memoryview, umem)
        umem = self.umem(LENGTH)
        view = memoryview(umem)
        del umem
        gc.collect()
        self.assert_live('umem', 0)
        view[:] = PATTERN
        data = bytearray(PATTERN)
        umem = self.umem(buffer=data, access=WRITE)
        view = memoryview(umem)
        umem.close()
        self.assertRaises(BufferError, data.extend, b'x')
        view.release()
        data.extend(b'x')
        umem = self.umem(buffer=PATTERN)
        self.assertRaises((BufferError, TypeError), ctypes.c_char.from_buffer, umem)
        umem.close()

    def test_u8_plain_context(self):
        """U8: any context with DEVX will do, and closes its umems; U2: an address of 0 prints."""
        ctx = Context(name=self.dev_name)
        umems = [Mlx5DevxUmem(ctx, LENGTH) for _ in range(3)]
        self.assert_live('umem', 3)
        str(umems[0])
        ctx.close()
        self.assertEqual([u.closed for u in umems], [True] * 3)
        self.assert_live('umem', 0)

    def test_u1_closed_object(self):
        """U1: every method and property of a closed umem raises, and printing it does not crash."""
        def refused_init():
            umem = Mlx5DevxUmem.__new__(Mlx5DevxUmem)
            self.assertRaises(PyverbsRDMAError, umem.__init__, self.ctx, 0)
            return umem
        closed = self.umem(LENGTH)
        closed.close()
        for name, umem in (('closed', closed), ('new', Mlx5DevxUmem.__new__(Mlx5DevxUmem)),
                           ('refused', refused_init())):
            with self.subTest(state=name):
                for attribute in ('umem_id', 'size', 'addr', 'umem_addr', 'access', 'pgsz_bitmap',
                                  'is_imported'):
                    self.wrong(getattr, umem, attribute)
                self.wrong(umem.export)
                self.wrong(memoryview, umem)
                self.assertEqual((str(umem), repr(umem), umem.closed),
                                 ('<Mlx5DevxUmem closed>', ) * 2 + (True, ))
                umem.close()
                umem.close()

    def test_g1_context_closed_underneath(self):
        """G1: a context that forgot its umems when one refused, and was closed then: only what is
        ours is released."""
        class Stubborn(Mlx5DevxUmem):
            stubborn = True

            def close(self):
                if self.stubborn:
                    raise PyverbsError('not now')
                super().close()

        ctx = self.open_context()
        data = bytearray(PATTERN)
        umems = [Stubborn(ctx, buffer=data, access=WRITE) for _ in range(3)]
        for _ in range(20):
            try:
                ctx.close()
                break
            except PyverbsError:
                pass
        Stubborn.stubborn = False
        for umem in umems:
            self.assertTrue(umem.closed)
            self.wrong(getattr, umem, 'umem_id')
            umem.close()
        data.extend(b'released')
        self.assert_live('umem', 0)

    def test_g2_reference_cycles(self):
        """G2: cycles through context, umem, CQ and the memory itself are torn down in order, each
        freed once."""
        class Exporter(bytearray):
            pass
        for kind in ('plain', 'cq', 'exporter'):
            with self.subTest(kind=kind):
                holder = {'ctx': self.open_context()}
                if kind == 'cq':
                    holder['all'] = self.umem_with_cq(holder['ctx'])
                    umem = holder['all'][0]
                else:
                    exporter = Exporter(PATTERN) if kind == 'exporter' else None
                    umem = holder['umem'] = Mlx5DevxUmem(holder['ctx'], LENGTH, buffer=exporter)
                    if exporter is not None:
                        exporter.back = umem
                    del exporter
                holder['self'] = holder
                seen = weakref.ref(umem)
                del holder, umem
                for _ in range(3):
                    gc.collect()
                self.assertIsNone(seen())
                self.assert_live('umem', 0)

    def test_u11_other_threads_run_during_registration(self):
        """U11: while the card holds the answer of a registration, this thread runs on; with the GIL
        held it would come no further before the kernel gives the command up."""
        if not self.card:
            raise unittest.SkipTest('only the emulated card can be told to hold an answer')
        self.hold('CREATE_UMEM')
        umems, failures = [], []

        def register():
            try:
                umems.append(self.umem(LENGTH))
            except PyverbsRDMAError as ex:
                failures.append(ex)
        thread = threading.Thread(target=register)
        thread.start()
        try:
            self.until_held()
            self.assertEqual((umems, failures), ([], []))
            self.assertTrue(thread.is_alive())
        finally:
            self.release()
            thread.join()
        self.assertEqual(failures, [])
        umems[0].close()

    def test_u12_fork_support(self):
        """U12: where libmlx5 cannot register a dma-buf with fork support on, the text says so;
        memory always can be."""
        def register():
            self.assertEqual(os.environ['RDMAV_FORK_SAFE'], '1')
            self.umem(LENGTH).close()
        self.set_env_variable('RDMAV_FORK_SAFE', '1')
        self.in_child(register)

    def test_threads(self):
        """Many threads register, use and close on one context; two close the same umem."""
        failures = []

        def work():
            try:
                for i in range(20):
                    umem = self.umem(PAGE * (1 + i % 3), access=WRITE)
                    memoryview(umem)[:4] = b'mine'
                    closer = threading.Thread(target=umem.close)
                    closer.start()
                    umem.close()
                    closer.join()
                    if not umem.closed:
                        failures.append('open')
            except BaseException as ex:
                failures.append(ex)
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        self.assert_live('umem', 0)

    def test_context_closed_during_registration(self):
        """The context waits for a registration that is under way, and closes it."""
        ctx = self.open_context()
        self.hold('CREATE_UMEM')
        umems = []
        registering = threading.Thread(target=lambda: umems.append(Mlx5DevxUmem(ctx, LENGTH)))
        closing = threading.Thread(target=ctx.close)
        registering.start()
        try:
            self.until_held()
            closing.start()
            # It cannot end before the card answers, however long it is waited for.
            closing.join(0.1)
            if self.card:
                self.assertTrue(closing.is_alive())
        finally:
            self.release()
            registering.join()
        closing.join()
        self.assertEqual([umem.closed for umem in umems], [True] * (1 if self.card else len(umems)))
        self.assert_live('umem', 0)

    def test_fork(self):
        """The child has nothing to use and deregisters nothing of the parent's; what it registers
        is its own."""
        with self.umem(LENGTH, access=WRITE) as umem:
            memoryview(umem)[:] = PATTERN

            def child():
                self.wrong(getattr, umem, 'umem_id')
                self.wrong(memoryview, umem)
                umem.close()
                self.assertTrue(umem.closed)
                gc.collect()
                self.umem(LENGTH).close()
            self.in_child(child)
            self.assert_live('umem', 1)
            self.assert_card_sees(umem)

    def test_initialization(self):
        """Twice, not at all, or by a subclass that fails."""
        with self.umem(LENGTH) as umem:
            number = umem.umem_id
            self.wrong(umem.__init__, self.ctx, 64)
            self.assertEqual((umem.umem_id, umem.size), (number, LENGTH))

        class Failing(Mlx5DevxUmem):
            def __init__(self, ctx):
                super().__init__(ctx, LENGTH)
                raise ValueError('after')
        self.assertRaises(ValueError, Failing, self.ctx)
        gc.collect()
        self.assert_live('umem', 0)
        closed = self.open_context()
        closed.close()
        self.wrong(Mlx5DevxUmem, closed, LENGTH)
        self.wrong(Mlx5DevxUmem, Context.__new__(Context), LENGTH)

    def test_pickling_is_refused(self):
        with self.umem(LENGTH) as umem:
            self.assertRaises(TypeError, pickle.dumps, umem)
            self.assertRaises(TypeError, copy.copy, umem)
            self.assertIsNotNone(weakref.ref(umem)())

    def test_public_names_have_docstrings_and_stubs(self):
        """Every public name has a docstring, and the stub names it."""
        undocumented = []
        with open(os.path.join(os.path.dirname(mlx5dv_devx_umem.__file__),
                               'mlx5dv_devx_umem.pyi')) as stub:
            text = stub.read()
        for name, member in [('Mlx5DevxUmem', Mlx5DevxUmem)] + list(vars(Mlx5DevxUmem).items()):
            if not name.startswith('_'):
                self.assertIn(name, text)
                if not inspect.getdoc(member):
                    undocumented.append(name)
        self.assertEqual(undocumented, [])
