# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" Whatever becomes of a process, its threads and its objects, each umem on the card is destroyed
once: processes that fork, that end with umems open, threads that close the same one, cycles, and
contexts that are closed with everything still on them.
"""
import contextlib
import errno
import gc
import io
import itertools
import os
import threading
import unittest
import weakref

from pyverbs.device import Context
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsRDMAError
from tests.mlx5_mem_umem import (
    LENGTH,
    NO_MEMFD,
    PATTERN,
    WRITE,
    Mlx5DevxUmemTestCase,
    devx_mkey,
)

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

#: Begins each script that runs in an interpreter of its own.
PREAMBLE = """
import errno, fcntl, gc, mmap, os, resource, struct, sys, threading
from pyverbs.device import Context
from pyverbs.fork import fork_init, is_fork_initialized
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr
from pyverbs.pyverbs_error import PyverbsRDMAError, PyverbsUserError
from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
ENABLED, UNNEEDED = 1, 2
def open_context():
    flags = mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX
    return Mlx5Context(Mlx5DVContextAttr(flags), sys.argv[1])
def udmabuf(length):
    memory = os.memfd_create('umem', os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, length)
    os.pwrite(memory, b'of the dma-buf', 0)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with open('/dev/udmabuf', 'rb', buffering=0) as device:
        request = bytearray(struct.pack('=IIQQ', memory, 1, 0, length))
        return fcntl.ioctl(device, 0x40187542, request, True)
def child(function):
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        # Not by sys.exit(): libmlx5 aborts when a context of the parent's is torn down in a child,
        # with or without umems.
        status = 1
        try:
            function()
            gc.collect()
            status = 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
def mkey(umem, pd):
    from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_obj_type
    from pyverbs.providers.mlx5.mlx5dv import Mlx5DevxObj
    from pyverbs.providers.mlx5.mlx5dv_objects import Mlx5DvObj
    box = bytearray(0x110)
    struct.pack_into('>H', box, 0, 0x200)
    pdn = Mlx5DvObj(mlx5dv_obj_type.MLX5DV_OBJ_PD, pd=pd).dvpd.pdn
    for at, value in ((0x0c, 1 << 30), (0x10, 1 << 8 | 3 << 10), (0x14, 0xffffff << 8),
                      (0x1c, pdn), (0x2c, 4096), (0x44, 1), (0x48, 12), (0x60, 1),
                      (0x64, umem.umem_id)):
        struct.pack_into('>I', box, at, value)
    return Mlx5DevxObj(ctx, box, 16)
ctx = open_context()
"""

FORK = """
# Memory that is lent must have pages of its own where the library keeps registered pages from the
# child.
umem, data = Mlx5DevxUmem(ctx, 16384, access=1), mmap.mmap(-1, 16384)
borrowed = Mlx5DevxUmem(ctx, buffer=data, access=1)
memoryview(umem)[:6] = b'parent'
def in_child():
    for mine in (umem, borrowed):
        assert mine.closed
        try:
            mine.umem_id
        except PyverbsUserError as ex:
            assert 'forked' in str(ex)
        else:
            raise AssertionError
    umem.close()
    globals().pop('borrowed')
    gc.collect()
    with open_context() as own, Mlx5DevxUmem(own, 4096) as fresh:
        memoryview(fresh)[:5] = b'child'
child(in_child)
child(lambda: None)
assert bytes(memoryview(umem)[:6]) == b'parent' and not umem.closed and not borrowed.closed
umem.close()
borrowed.close()
data.close()
"""

#: Has the library keep registered pages from children, as where the kernel cannot tell it that
#: fork() copies them.
PAGES_LEFT_OUT = """
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (0, limit[1]))
fork_init()
assert is_fork_initialized() == ENABLED
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
"""

#: Interpreters that end without closing anything. Each line makes two umems.
EXITS = {
    'globals':
    'a, b = Mlx5DevxUmem(ctx, 4096), Mlx5DevxUmem(ctx, buffer=bytearray(4096), access=1)',
    'context first':
    'a, b = Mlx5DevxUmem(ctx, 4096), Mlx5DevxUmem(ctx, 4096); del ctx',
    'a cycle':
    'class C: pass\nc = C(); c.c, c.ctx, c.a = c, ctx, Mlx5DevxUmem(ctx, 4096)\n'
    'c.b = Mlx5DevxUmem(ctx, 4096); gc.disable()',
    'in a module':
    'sys.a, sys.b, sys.c = Mlx5DevxUmem(ctx, 4096), Mlx5DevxUmem(ctx, 4096), ctx',
    'a view':
    'sys.v = memoryview(Mlx5DevxUmem(ctx, 4096)), memoryview(Mlx5DevxUmem(ctx, 4096))',
    'a thread':
    'h = []\ndef make(): h.append([Mlx5DevxUmem(ctx, 4096) for _ in "ab"])\n'
    't = threading.Thread(target=make); t.start(); t.join()',
    'os._exit':
    'a, b = Mlx5DevxUmem(ctx, 4096), Mlx5DevxUmem(ctx, 4096); os._exit(0)',
    'sys.exit in a frame':
    'def f():\n    a, b = Mlx5DevxUmem(ctx, 4096), Mlx5DevxUmem(ctx, 4096)\n    sys.exit(0)\nf()',
    # The kept umem says so in a warning, which is off by default; its key is in a module that is
    # torn down late.
    'in use':
    'from pyverbs.pd import PD\npd = PD(ctx)\n'
    'a, b = Mlx5DevxUmem(ctx, 4096, access=1), Mlx5DevxUmem(ctx, 4096)\n'
    'sys.k = pd, mkey(a, pd)\ndel a',
    'plain context':
    'ctx = Context(name=sys.argv[1]); a, b = Mlx5DevxUmem(ctx, 4096), Mlx5DevxUmem(ctx, 4096)', }

U12 = """
fd = udmabuf(8192)
if os.environ.get('WITHOUT_COPY_ON_FORK'):
    # The library asks the kernel by netlink whether fork() copies pinned pages, and goes by the old
    # way if it cannot ask.
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    fork_init()
print(is_fork_initialized())
for _ in range(2):
    Mlx5DevxUmem(ctx, 8192).close()
    Mlx5DevxUmem(ctx, buffer=bytearray(8192), access=1).close()
# Offset 0 is a null pointer to the library, and passes either way.
Mlx5DevxUmem(ctx, 8192, dmabuf_fd=fd).close()
try:
    Mlx5DevxUmem(ctx, 4096, 4096, dmabuf_fd=fd).close()
    print('registered')
except PyverbsRDMAError as ex:
    print(ex)
"""


class Mlx5DevxUmemProcessTest(Mlx5DevxUmemTestCase):
    def test_fork(self):
        """Children that end, close, collect and register of their own do nothing to the parent's
        umems."""
        for environment in ({}, {'RDMAV_FORK_SAFE': '1'}, {'IBV_FORK_SAFE': '1'}):
            with self.subTest(**environment), self.assert_freed_once(3):
                self.in_new_process(PREAMBLE + FORK, **environment)

    def test_fork_with_pages_left_out(self):
        """The same on a library that keeps registered pages from the child: the memory is not
        touched there."""
        with self.assert_freed_once(3):
            self.in_new_process(PREAMBLE + PAGES_LEFT_OUT + FORK)

    def test_exit_with_open_umems(self):
        """No crash, nothing said, and nothing left on the card, wherever the umems are when the
        interpreter ends."""
        for name, script in EXITS.items():
            with self.subTest(case=name), self.assert_freed_once(
                    2) if name != 'in use' else contextlib.ExitStack():
                self.in_new_process(PREAMBLE + script)
                # Each refusal under the key was a command too.
                self.assert_live('umem', 0)

    def test_u12_fork_support(self):
        """ U12: where fork() copies pinned pages, a dma-buf registers with fork support on. Where
        the library marks pages instead, it takes the offset for an address; that is refused with a
        text that says so, and memory can be registered still.
        """
        if not os.access('/dev/udmabuf', os.R_OK):
            raise unittest.SkipTest(
                '/dev/udmabuf is not there, or not for this user: the kernel needs CONFIG_UDMABUF')
        if not hasattr(os, 'memfd_create'):
            raise unittest.SkipTest(NO_MEMFD)
        found = self.in_new_process(PREAMBLE + U12, RDMAV_FORK_SAFE='1').split('\n', 1)
        self.assertIn(found[0], ('1', '2'))
        self.assertEqual(found[1].strip() == 'registered', found[0] == '2', found)
        if self.card:
            self.assertEqual(found[0], '2')
        found = self.in_new_process(PREAMBLE + U12, WITHOUT_COPY_ON_FORK='1').split('\n', 1)
        self.assertEqual(found[0], '1')
        self.assertIn('RDMAV_FORK_SAFE', found[1])
        self.assert_live('umem', 0)


class Mlx5DevxUmemThreadTest(Mlx5DevxUmemTestCase):
    def test_two_threads_close_one(self):
        """All return when it is closed, and not before the card has answered; the card destroys it
        once."""
        for held in (False, True):
            rounds = 3 if held else 20
            with self.subTest(held=held), self.assert_freed_once(rounds):
                for _ in range(rounds):
                    umem, outcomes = self.umem(LENGTH, access=WRITE), []
                    if held:
                        self.hold('DESTROY_UMEM')
                    barrier = threading.Barrier(4)

                    def close(umem=umem, outcomes=outcomes, barrier=barrier):
                        barrier.wait()
                        try:
                            umem.close()
                            outcomes.append('closed' if umem.closed else 'open')
                        except Exception as ex:
                            outcomes.append(ex)
                    threads = [threading.Thread(target=close) for _ in range(4)]
                    for thread in threads:
                        thread.start()
                    try:
                        if held and self.card:
                            self.until_held()
                            self.assertEqual(outcomes, [])
                    finally:
                        self.release()
                        for thread in threads:
                            thread.join()
                    self.assertEqual(outcomes, ['closed'] * 4)

    def test_close_while_others_register(self):
        """A registration that the card does not answer holds up neither another umem's view nor
        its closing."""
        with self.assert_freed_once(2):
            umem, made = self.umem(LENGTH, access=WRITE), []
            self.hold('CREATE_UMEM')
            thread = threading.Thread(target=lambda: made.append(self.umem(LENGTH)))
            thread.start()
            try:
                self.until_held()
                memoryview(umem)[:4] = b'mine'
                umem.close()
                if self.card:
                    self.assertEqual(made, [])
            finally:
                self.release()
                thread.join()
            made.pop().close()

    def test_threads_and_the_collector(self):
        """Threads that make cycles, and one that collects."""
        stop = threading.Event()

        def collect():
            while not stop.is_set():
                gc.collect()

        def work():
            for _ in range(10):
                holder = {'umem': self.umem(LENGTH)}
                holder['self'] = holder
        with self.assert_freed_once(30):
            threads = [threading.Thread(target=work) for _ in range(3)]
            collector = threading.Thread(target=collect)
            for thread in [*threads, collector]:
                thread.start()
            for thread in threads:
                thread.join()
            stop.set()
            collector.join()
            gc.collect()


class Mlx5DevxUmemContextTest(Mlx5DevxUmemTestCase):
    def test_context_closes_everything_in_every_order(self):
        """Umems and the memory keys on them, made and let go in every order: keys go first, and no
        command is refused."""
        for order in itertools.permutations(range(3)):
            for keep in (True, False):
                with self.subTest(order=order, keep=keep), self.assert_freed_once(3):
                    ctx = self.open_context()
                    pd = PD(ctx)
                    umems, keys = {}, {}
                    data = [bytearray(PATTERN) for _ in order]
                    for i in order:
                        umems[i] = Mlx5DevxUmem(ctx, buffer=data[i], access=WRITE)
                        if i:
                            keys[i] = devx_mkey(ctx, umems[i], pd)
                    if not keep:
                        # Only the context knows the keys' umems now, and the collector has been
                        # round.
                        keys.clear()
                        gc.collect()
                    ctx.close()
                    self.assertEqual([umem.closed for umem in umems.values()], [True] * 3)
                    for exporter in data:
                        exporter.append(1)

    def test_u4_refused_under_a_memory_key(self):
        """U4: while a key uses it the card refuses; all memory stays with its source, and a later
        close succeeds."""
        with PD(self.ctx) as pd:
            for kwargs in ({}, {'buffer': bytearray(PATTERN)}):
                with self.subTest(**kwargs):
                    umem = self.umem(LENGTH, access=WRITE, **kwargs)
                    key = devx_mkey(self.ctx, umem, pd)
                    number, created = umem.umem_id, self.live().get('umem', 0)
                    for _ in range(2):
                        with self.assertRaises(PyverbsRDMAError) as caught:
                            umem.close()
                        self.assertIn(caught.exception.error_code, (errno.EBUSY, errno.EINVAL))
                    self.assertEqual((umem.closed, umem.umem_id, self.live().get('umem', 0)),
                                     (False, number, created))
                    with memoryview(umem) as view:
                        self.assert_both_ways(umem, view)
                    if kwargs:
                        self.assertRaises(BufferError, kwargs['buffer'].append, 1)
                    key.close()
                    umem.close()
                    self.assertTrue(umem.closed)
                    if kwargs:
                        kwargs['buffer'].append(1)

    def test_u8_plain_context_releases_the_buffers(self):
        """U8: a plain context closes its umems: the buffers are free right after, though nobody has
        touched the umems."""
        with self.assert_freed_once(3):
            ctx = Context(name=self.dev_name)
            data = [bytearray(PATTERN) for _ in range(3)]
            umems = [Mlx5DevxUmem(ctx, buffer=exporter, access=WRITE) for exporter in data]
            self.assertRaises(BufferError, data[0].append, 1)
            ctx.close()
            for exporter in data:
                exporter.append(1)
            self.assertEqual([umem.closed for umem in umems], [True] * 3)

    def test_cycles_of_buffers(self):
        """A cycle through the exporter, the umem and a subclass: collected, and freed once."""
        class Exporter(bytearray):
            pass

        class Child(Mlx5DevxUmem):
            pass
        with self.assert_freed_once(20):
            for _ in range(20):
                exporter = Exporter(PATTERN)
                exporter.umem = Child(self.ctx, buffer=exporter, access=WRITE)
                exporter.umem.view = memoryview(exporter.umem)
                seen = weakref.ref(exporter.umem)
                del exporter
                gc.collect()
                self.assertIsNone(seen())

    def test_g2_cycles_of_classes_without_our_finalizer(self):
        """ A subclass with a __del__ of its own that does not call ours leaves all to the
        collector, which clears members in any order: the context through which the umem is
        deregistered, the view by which its memory is held. It must clear neither.
        """
        class Exporter(bytearray):
            pass

        class Silent(Mlx5DevxUmem):
            def __del__(self):
                pass
        said = io.StringIO()
        # That an exporter is destroyed while it is still lent is told by sys.excepthook.
        with self.assert_freed_once(30), contextlib.redirect_stderr(said):
            for _ in range(10):
                exporter = Exporter(PATTERN)
                exporter.umem = Silent(self.ctx, buffer=exporter, access=WRITE)
                exporter.view = memoryview(exporter.umem)
                exporter.umem.me = exporter.umem
                holder = {'ctx': self.open_context()}
                holder['umems'] = [
                    Silent(holder['ctx'], LENGTH),
                    Silent(holder['ctx'], buffer=Exporter(PATTERN))]
                holder['umems'][0].holder = holder['umems'][1].holder = holder
                seen = [
                    weakref.ref(exporter),
                    weakref.ref(exporter.umem), *(weakref.ref(umem) for umem in holder['umems'])]
                # The collector clears in the order of its list. A collection while only the umem is
                # known puts the umem first, its memory next and the exporter last.
                umem = exporter.umem
                del exporter
                gc.collect()
                del umem, holder
                gc.collect()
                self.assertEqual([ref() for ref in seen], [None] * 4)
                self.assert_live('umem', 0)
        self.assertEqual(said.getvalue(), '')
