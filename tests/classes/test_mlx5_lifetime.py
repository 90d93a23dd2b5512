# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The lifetime that Mlx5DM, Mlx5DMOpAddr and Mlx5DevxUmem share, under stress: objects that are
made, used, refused and closed by many threads while their context closes, and what happens when
Python runs where it is in the way.
"""
import errno
import gc
import itertools
import queue
import random
import signal
import sys
import threading
import warnings
import weakref

# First: rdma-core's test modules import each other in a circle, which only opens from here.
import tests.utils  # noqa: F401, I001
from pyverbs.device import AllocDmAttr
from pyverbs.mr import DMMR
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsError, PyverbsRDMAError, PyverbsUserError
from tests.mlx5_mem_base import PATIENCE, Mlx5MemTestCase
from tests.mlx5_mem_umem import WRITE, devx_mkey

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM, Mlx5DMOpAddr, query_hca_cap

LENGTH = 4096
OURS = Mlx5DM, Mlx5DMOpAddr, Mlx5DevxUmem


def new_dm(ctx):
    return Mlx5DM(ctx, AllocDmAttr(length=64))


def new_umem(ctx):
    return Mlx5DevxUmem(ctx, 64)


class Mlx5LifetimeTest(Mlx5MemTestCase):
    def setUp(self):
        super().setUp()
        interval = sys.getswitchinterval()
        self.addCleanup(sys.setswitchinterval, interval)
        # Threads change as often as they can.
        sys.setswitchinterval(1e-5)

    def in_threads(self, *functions):
        """ Run each function in a thread of its own, to its end.
        :return: What they raised
        """
        raised = []

        def guarded(function):
            try:
                function()
            except BaseException as ex:
                raised.append(ex)
        threads = [threading.Thread(target=guarded, args=(function,), daemon=True)
                   for function in functions]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
            self.assertFalse(thread.is_alive(), 'a thread hangs')
        return raised

    def closed_at(self, n, kind, attr, what, first):
        """Make an object in a context of its own while the n-th allocation of its making closes the
        object or the context, as a finalizer could that runs there.
        :param first: Whether nothing was made in the context before
        :return: Whether it was refused, and whether there are n allocations
        """
        ctx = self.open_context()
        if not first:
            kind(ctx, attr).close()
        obj = kind.__new__(kind)
        closed = obj if what == 'object' else ctx
        left, kept, thresholds = n, [], gc.get_threshold()

        def at_collection(phase, info):
            nonlocal left
            if phase == 'stop':
                # So that the next allocation is one too many again.
                kept.append([])
            else:
                left -= 1
                if left == 0:
                    closed.close()
        gc.collect()
        gc.callbacks.append(at_collection)
        gc.set_threshold(1)
        try:
            obj.__init__(ctx, attr)
            refused = False
        except PyverbsUserError:
            refused = True
        finally:
            gc.set_threshold(*thresholds)
            gc.callbacks.remove(at_collection)
        name = 'memic' if kind is Mlx5DM else 'umem'
        if refused:
            self.assertTrue(obj.closed)
        self.assert_live(name, 0 if obj.closed else 1)
        ctx.close()
        self.assertTrue(obj.closed)
        self.assert_live(name, 0)
        return refused, left <= 0

    def test_closed_while_it_joins_its_context(self):
        """An object that is closed, or whose context is, at any point of its making is refused or
        made whole: nothing stays on the card that is not open.
        """
        for (kind, attr), what, first in itertools.product(
                ((Mlx5DevxUmem, 64), (Mlx5DM, AllocDmAttr(64))), ('object', 'context'),
                (False, True)):
            with self.subTest(kind=kind.__name__, what=what, first=first):
                refused, n = 0, 1
                while True:
                    was_refused, reached = self.closed_at(n, kind, attr, what, first)
                    refused += was_refused
                    if not reached:
                        break
                    # The first object of a context replaces its sets, by many allocations.
                    n += 17 if first else 1
                self.assertGreater(n, 1)
                # From 3.12 on the collector waits for the interpreter, which nothing there enters.
                if sys.version_info < (3, 12) and what == 'context':
                    self.assertGreater(refused, 0)

    def test_context_closes_beside_threads_that_create(self):
        """ Context.close() ends, however many threads go on making objects; from its beginning on
        they are refused, and nothing is left.
        """
        for _ in range(3):
            ctx = self.open_context()
            began = threading.Barrier(5)

            def create(kind, ctx=ctx, began=began):
                kind(ctx)
                began.wait(PATIENCE)
                while True:
                    kind(ctx).close()
            kinds = (new_dm, new_umem, new_dm, new_umem)
            raised = self.in_threads(
                *[lambda kind=kind: create(kind) for kind in kinds],
                lambda ctx=ctx, began=began: (began.wait(PATIENCE), ctx.close()))
            self.assertEqual([type(ex) for ex in raised], [PyverbsUserError] * len(kinds), raised)
            self.assertRegex(str(raised[0]), 'context is (being )?closed')
            for kind in ('memic', 'umem'):
                self.assert_live(kind, 0)

    def test_nothing_is_made_in_a_context_that_closes(self):
        """What a child makes while its context closes it would be looked for by nobody: refused."""
        said, made = [], []

        class Breeder(Mlx5DM):
            def close(self):
                if not self.closed:
                    for kind in (new_dm, new_umem):
                        try:
                            made.append(kind(ctx))
                        except PyverbsUserError as ex:
                            said.append(str(ex))
                super().close()
        ctx = self.open_context()
        breeder = Breeder(ctx, AllocDmAttr(length=64))
        ctx.close()
        self.assertTrue(breeder.closed)
        self.assertEqual((made, len(said)), ([], 2))
        self.assertRegex(said[0], 'context is being closed')
        for kind in ('memic', 'umem'):
            self.assert_live(kind, 0)

    def test_context_closes_beside_refusals_and_questions(self):
        """ What is asked of a context for the text of a refusal, or by a query, finds it open or is
        refused: Context.close() waits for it.
        """
        for _ in range(3):
            ctx = self.open_context()
            began = threading.Barrier(4)

            def refused(ctx=ctx, began=began):
                began.wait(PATIENCE)
                while True:
                    with self.assertRaises(PyverbsRDMAError) as caught:
                        Mlx5DM(ctx, AllocDmAttr(length=1 << 40))
                    self.assertEqual(caught.exception.error_code, errno.EINVAL)

            def asked(ctx=ctx, began=began):
                began.wait(PATIENCE)
                while True:
                    self.assertEqual(len(query_hca_cap(ctx, 0)), 4096)
            raised = self.in_threads(
                refused, refused, asked,
                lambda ctx=ctx, began=began: (began.wait(PATIENCE), ctx.close()))
            # What assertRaises and the query let through.
            self.assertEqual([type(ex) for ex in raised], [PyverbsUserError] * 3, raised)

    def test_an_argument_closes_the_context(self):
        """Python that runs for an argument may close the context: it is then refused, not used."""
        ctx = self.open_context()

        class Page:
            def __index__(self):
                ctx.close()
                return 0
        self.assertIn('closed', self.wrong(query_hca_cap, ctx, Page()))
        for kind in (Mlx5DevxUmem, lambda ctx, n: Mlx5DM(ctx, handle=n)):
            ctx = self.open_context()
            self.assertIn('closed', self.wrong(kind, ctx, Page()))

    def test_stress(self):
        """ Threads make, use, close and drop objects of all kinds, share them, and close contexts
        under them, while some closings are refused by what uses the object. No one hangs, every
        error is one of pyverbs, and at the end nothing is left.
        """
        steps = 250
        shared = queue.Queue()
        contexts = [self.open_context(), self.open_context()]
        pds = [PD(ctx) for ctx in contexts]

        def work(seed):
            rng = random.Random(seed)
            mine = []
            for _ in range(steps):
                ctx = rng.choice(contexts)
                obj = mine[rng.randrange(len(mine))] if mine else None
                step = rng.randrange(9)
                try:
                    if step == 0:
                        mine.append(new_dm(ctx))
                    elif step == 1:
                        mine.append(Mlx5DevxUmem(ctx, LENGTH, access=WRITE))
                    elif step == 2 and isinstance(obj, Mlx5DM):
                        mine.append(obj.map_op_addr(0))
                    elif step == 3 and isinstance(obj, Mlx5DevxUmem) and obj.size == LENGTH:
                        # Its close() is refused until the key is closed.
                        place = rng.randrange(len(pds))
                        mine.append(devx_mkey(contexts[place], obj, pds[place]))
                    elif step == 4 and isinstance(obj, OURS):
                        shared.put(obj)
                    elif step == 5:
                        mine.append(shared.get_nowait())
                    elif step == 6 and isinstance(obj, Mlx5DM):
                        obj.copy_to_dm(0, bytes(64))
                        self.assertEqual(len(obj.copy_from_dm(0, 64)), 64)
                    elif step == 7 and mine:
                        obj.close()
                    elif step == 8 and mine:
                        mine.remove(obj)
                        if rng.randrange(40) == 0:
                            gc.collect()
                except (PyverbsError, queue.Empty):
                    pass
            # Keys first, as Context.close() does.
            for obj in sorted(mine, key=lambda obj: isinstance(obj, (Mlx5DM, Mlx5DevxUmem))):
                try:
                    obj.close()
                except PyverbsError:
                    shared.put(obj)

        with warnings.catch_warnings():
            # Of a umem that is dropped under its key.
            warnings.simplefilter('ignore', ResourceWarning)
            raised = self.in_threads(*[lambda seed=seed: work(seed) for seed in range(4)])
        self.assertEqual(raised, [])
        objects = list(shared.queue)
        self.assertEqual(self.in_threads(*[ctx.close for ctx in contexts]), [])
        self.assertTrue(all(obj.closed for obj in objects if isinstance(obj, OURS)))

    def test_close_of_a_subclass_runs_in_a_dying_dm(self):
        """Upstream's DM calls close() once more when its memory is given back: what a subclass does
        there with what is left of the object is answered, and nothing crashes.
        """
        said = []

        class Curious(Mlx5DM):
            def close(self):
                for name in ('type', 'length', 'handle', 'addr', 'remote_va', 'is_imported'):
                    try:
                        getattr(self, name)
                    except PyverbsUserError as ex:
                        said.append(str(ex))
                for call in (lambda: self.copy_to_dm(0, bytes(4)), lambda: self.copy_from_dm(0, 4),
                             lambda: self.map_op_addr(0), self.export_dmabuf_fd, self.unimport,
                             lambda: Mlx5DM.__init__(self, ctx, AllocDmAttr(64)),
                             lambda: DMMR(pd, 64, WRITE, dm=self, offset=0)):
                    try:
                        if said:
                            call()
                            said.append('not refused')
                    except PyverbsError as ex:
                        said.append(str(ex))
                said.append((self.closed, repr(self)))
                super().close()
        with self.open_context() as ctx, PD(ctx) as pd:
            dm = Curious(ctx, AllocDmAttr(64))
            seen = weakref.ref(dm)
            del dm
            gc.collect()
            self.assertIsNone(seen())
            self.assert_live('memic', 0)
        self.assertNotIn('not refused', said)
        self.assertEqual(said[-1], (True, '<Curious closed>'))
        self.assertIn('This Mlx5DM is gone', said)

    def test_a_refused_close_leaves_it_to_its_context(self):
        """An object whose close() was refused is open and usable, is closed by its context later,
        and is closed again by its owner meanwhile.
        """
        ctx = self.open_context()
        pd = PD(ctx)
        umem = Mlx5DevxUmem(ctx, LENGTH, access=WRITE)
        key = devx_mkey(ctx, umem, pd)
        for _ in range(2):
            with self.assertRaises(PyverbsRDMAError):
                umem.close()
            self.assertEqual((umem.closed, umem.size), (False, LENGTH))
        key.close()
        pd.close()
        ctx.close()
        self.assertTrue(umem.closed)
        self.assert_live('umem', 0)

    def test_handlers_that_raise(self):
        """A signal's handler that raises finds no object half made or half closed, and leaves
        none."""
        class Interrupted(Exception):
            pass

        def interrupt(number, frame):
            raise Interrupted
        self.addCleanup(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, interrupt))
        rng, data, interrupted = random.Random(1), bytearray(LENGTH), 0
        # pyverbs' own constructors leave a lock of logging's taken when a handler raises in them.
        attr = AllocDmAttr(length=64)
        for _ in range(400):
            dm = umem = None
            try:
                try:
                    signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-4, 0.02))
                    dm = Mlx5DM(self.ctx, attr)
                    umem = Mlx5DevxUmem(self.ctx, buffer=data)
                    dm.copy_to_dm(0, b'1234')
                    with dm.map_op_addr(0) as op:
                        op.read(4)
                    umem.close()
                    dm.close()
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupted:
                interrupted += 1
            for obj in (umem, dm):
                if obj is not None:
                    obj.close()
                    self.assertTrue(obj.closed)
        self.assertGreater(interrupted, 20)
        del dm, umem, obj
        gc.collect()
        for kind in ('memic', 'umem'):
            self.assert_live(kind, 0)
        # Nobody holds the buffer.
        data.append(1)

    def test_a_forked_child_closes_nothing(self):
        """After fork() all belongs to the parent, which finds it as it was."""
        objects = [new_dm(self.ctx), new_umem(self.ctx)]
        objects.append(objects[0].map_op_addr(0))

        def child():
            for obj in reversed(objects):
                self.assertTrue(obj.closed)
                obj.close()
        self.in_child(child)
        for obj in objects:
            self.assertFalse(obj.closed)
        for obj in reversed(objects):
            obj.close()
