# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" Random sequences of everything that one can do with contexts, PDs, DMs, MRs, operation
addresses, umems, views of them and DEVX objects on them: made, used, closed from several threads,
dropped, collected, forked, refused. After each step every object is what the ownership tree says,
and the card holds what is open and nothing else.

What Hypothesis finds, it makes small: its last report is a program.
"""
import contextlib
import errno
import gc
import os
import threading
import traceback

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from pyverbs.device import AllocDmAttr
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr
from pyverbs.pyverbs_error import PyverbsError, PyverbsRDMAError, PyverbsUserError
from tests.mlx5_mem_base import control
from tests.mlx5_mem_umem import PAGE, WRITE, devx_mkey

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
from pyverbs.providers.mlx5.mlx5dv_dm import (
    Mlx5AllocDmAttr,
    Mlx5DM,
    Mlx5DMOpAddr,
    mlx5dv_alloc_dm_type,
)

STEPS = 50
MEMIC = mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_MEMIC
SW_ICM = mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_STEERING_SW_ICM
LENGTH = 256
#: What the card holds of an open object of each kind.
ON_CARD = {'memic': 'memic', 'icm': 'general_object', 'mr': 'mkey', 'key': 'mkey', 'umem': 'umem'}


class AnyDM(Mlx5DM):
    """Has a dictionary, so that it can be part of a cycle."""


class AnyUmem(Mlx5DevxUmem):
    """The same."""


class AnyOp(Mlx5DMOpAddr):
    """The same."""


class Node:
    """One object as it should be."""

    def __init__(self, kind, obj, *parents):
        self.kind, self.obj, self.parents = kind, obj, parents
        #: Whether it is there for its user, and whether it is on the card.
        self.open = self.there = True
        #: Whether somebody refers to it: this test, or it itself.
        self.held, self.cyclic = True, False
        self.data = b''

    def children(self, nodes):
        return [node for node in nodes if self in node.parents]


class Machine(RuleBasedStateMachine):
    """Each rule does something to the objects and the same to the nodes."""

    device = None
    steps = 0

    def __init__(self):
        super().__init__()
        # Only when a rule says so: then it is known what is gone. And only of what was made since:
        # Hypothesis keeps more and more.
        gc.collect()
        gc.disable()
        gc.freeze()
        self.nodes, self.views = [], []
        self.card = control is not None and control.available()
        self.before = self.live()

    def teardown(self):
        # By no name that would keep an object after the list has let go of it.
        while self.views:
            self.views.pop()[0].release()
        for kind in ('key', 'context'):
            for obj in [node.obj for node in self.of(kind)]:
                obj.close()
        self.nodes.clear()
        gc.enable()
        gc.collect()
        assert self.live() == self.before

    # ---- what is there

    def live(self):
        if not self.card:
            return {}
        found = control.call('objects')
        return {kind: len(found.get(kind, ())) for kind in set(ON_CARD.values())}

    def of(self, *kinds):
        return [node for node in self.nodes if node.kind in kinds and node.obj is not None]

    def opened(self, *kinds):
        return [node for node in self.of(*kinds) if node.open]

    def pick(self, data, nodes):
        return nodes[data.draw(st.integers(0, len(nodes) - 1), 'which')]

    def add(self, kind, obj, *parents):
        node = Node(kind, obj, *parents)
        self.nodes.append(node)
        return node

    def gone(self, node):
        """It was closed, and its children first."""
        if not node.open:
            return
        for child in node.children(self.nodes):
            # A key is no child of its umem's: the device refuses to close that under it.
            if child.kind != 'key' or node.kind == 'context':
                self.gone(child)
        node.open = node.there = False
        if node.kind == 'context':
            for child in node.children(self.nodes):
                child.there = False

    def in_use(self, node):
        return any(child.kind == 'key' and child.open for child in node.children(self.nodes))

    def referrers(self, node):
        """What keeps a node alive: open children, but a key refers to its context alone, and an MR
        to its DM as long as it exists."""
        return [child for child in node.children(self.nodes)
                if child.open and (child.kind != 'key' or node.kind == 'context')
                or child.kind == 'mr' and child.obj is not None and node.kind in ('memic', 'icm')]

    def sweep(self):
        """What nobody refers to is gone, which may have been all that referred to others."""
        swept = True
        while swept:
            swept = False
            for node in list(self.nodes):
                if node.held or node.cyclic or self.referrers(node):
                    continue
                if node.open and self.in_use(node):
                    # The device has it until its context closes.
                    node.open = False
                elif node.open:
                    self.gone(node)
                if not node.there:
                    self.nodes.remove(node)
                    swept = True

    # ---- making

    @precondition(lambda self: len(self.opened('context')) < 3)
    @rule()
    def open(self):
        attr = Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX)
        self.add('context', Mlx5Context(attr, self.device))

    @precondition(lambda self: self.opened('context'))
    @rule(data=st.data())
    def make_pd(self, data):
        context = self.pick(data, self.opened('context'))
        self.add('pd', PD(context.obj), context)

    @precondition(lambda self: self.opened('context'))
    @rule(data=st.data(), kind=st.sampled_from((MEMIC, MEMIC, SW_ICM)))
    def make_dm(self, data, kind):
        context = self.pick(data, self.opened('context'))
        dm = AnyDM(context.obj, AllocDmAttr(LENGTH), Mlx5AllocDmAttr(kind))
        self.add('memic' if kind == MEMIC else 'icm', dm, context)

    @precondition(lambda self: self.opened('context'))
    @rule(data=st.data(), source=st.sampled_from(('own', 'bitmap', 'buffer')))
    def make_umem(self, data, source):
        context = self.pick(data, self.opened('context'))
        arguments = {'buffer': bytearray(PAGE)} if source == 'buffer' else {'size': PAGE}
        if source == 'bitmap':
            arguments['pgsz_bitmap'] = PAGE
        self.add('umem', AnyUmem(context.obj, access=WRITE, **arguments), context)

    @precondition(lambda self: self.opened('pd') and self.opened('memic', 'icm'))
    @rule(data=st.data())
    def make_mr(self, data):
        dm, pd = self.pick(data, self.opened('memic', 'icm')), self.pick(data, self.opened('pd'))
        if dm.parents != pd.parents:
            self.wrong(dm.obj.reg_mr, pd.obj, WRITE)
        else:
            self.add('mr', dm.obj.reg_mr(pd.obj, WRITE), dm, pd)

    @precondition(lambda self: self.opened('memic'))
    @rule(data=st.data())
    def make_op(self, data):
        dm = self.pick(data, self.opened('memic'))
        self.add('op', AnyOp(dm.obj, 0), dm)

    @precondition(lambda self: self.opened('pd') and self.opened('umem'))
    @rule(data=st.data())
    def make_key(self, data):
        umem, pd = self.pick(data, self.opened('umem')), self.pick(data, self.opened('pd'))
        context = umem.parents[0]
        # pyverbs' Mlx5DevxObj does not survive None, and this test may hold the context no more.
        if umem.parents == pd.parents and context.obj is not None:
            self.add('key', devx_mkey(context.obj, umem.obj, pd.obj), context, umem, pd)

    @precondition(lambda self: self.of('context'))
    @rule(data=st.data(), what=st.sampled_from(('dm', 'umem')))
    def make_what_cannot_be(self, data, what):
        """Refused by the kernel, by a closed context, or by the card; nothing stays."""
        context = self.pick(data, self.of('context'))
        make = (lambda: AnyDM(context.obj, AllocDmAttr(1 << 40))) if what == 'dm' else (
            lambda: AnyUmem(context.obj, PAGE, access=2))
        if not context.open:
            self.wrong(make)
            return
        self.refused(errno.EINVAL, make)
        if self.card:
            control.call('fault', opcode='ALLOC_MEMIC' if what == 'dm' else 'CREATE_UMEM',
                         status='INT_ERR')
            self.refused(errno.EIO, (lambda: AnyDM(context.obj, AllocDmAttr(LENGTH)))
                         if what == 'dm' else (lambda: AnyUmem(context.obj, PAGE)))

    @precondition(lambda self: self.of('memic', 'icm', 'umem', 'op'))
    @rule(data=st.data())
    def make_again(self, data):
        """__init__ of what was made: refused, and it stays what it is."""
        node = self.pick(data, self.of('memic', 'icm', 'umem', 'op'))
        parent = node.parents[0].obj
        if parent is None:
            return
        argument = AllocDmAttr(64) if node.kind in ('memic', 'icm') else PAGE
        self.wrong(node.obj.__init__, parent, 0 if node.kind == 'op' else argument)

    # ---- using

    @precondition(lambda self: self.of('memic'))
    @rule(data=st.data(), byte=st.binary(min_size=4, max_size=4))
    def copy(self, data, byte):
        node = self.pick(data, self.of('memic'))
        if not node.open:
            self.wrong(node.obj.copy_to_dm, 0, byte)
            self.wrong(node.obj.copy_from_dm, 0, 4)
            return
        if node.data:
            assert node.obj.copy_from_dm(64, 4) == node.data
        node.obj.copy_to_dm(64, byte)
        node.data = byte
        into = bytearray(4)
        assert node.obj.copy_from_dm_into(64, into) == 4
        assert into == byte

    @precondition(lambda self: self.of('op'))
    @rule(data=st.data())
    def operate(self, data):
        node = self.pick(data, self.of('op'))
        if node.open:
            node.obj.write(b'\0\0\0\1')
            assert len(node.obj.read(4)) == 4
        else:
            self.wrong(node.obj.read, 4)

    @precondition(lambda self: self.of('umem'))
    @rule(data=st.data(), byte=st.integers(0, 255))
    def view(self, data, byte):
        """A view that is kept: it has the memory, whatever becomes of the umem."""
        node = self.pick(data, self.of('umem'))
        if not node.open:
            self.wrong(memoryview, node.obj)
            return
        view = memoryview(node.obj)
        view[7] = byte
        # All views of a umem are of the same memory.
        node.data = byte
        self.views = [(v, of) for v, of in self.views if of is not node] + [(view, node)]
        if self.card:
            read = control.call('umem_read', umem_id=node.obj.umem_id, offset=7, length=1)
            assert bytes.fromhex(read) == bytes([byte])

    @precondition(lambda self: self.views)
    @rule(data=st.data(), release=st.booleans())
    def look(self, data, release):
        index = data.draw(st.integers(0, len(self.views) - 1), 'view')
        view, node = self.views[index]
        assert view[7] == node.data
        if release:
            view.release()
            del self.views[index]

    @precondition(lambda self: self.of('memic', 'icm', 'umem', 'op'))
    @rule(data=st.data())
    def ask(self, data):
        node = self.pick(data, self.of('memic', 'icm', 'umem', 'op'))
        names = {'memic': ('length', 'type', 'handle', 'addr'), 'icm': ('length', 'remote_va'),
                 'umem': ('umem_id', 'size', 'access'), 'op': ('addr', 'op', 'widths')}
        for name in names[node.kind]:
            if node.open:
                getattr(node.obj, name)
            else:
                self.wrong(getattr, node.obj, name)
        assert ('closed' in repr(node.obj)) != node.open

    # ---- ending

    @precondition(lambda self: self.of('memic', 'icm', 'umem', 'op', 'mr', 'pd', 'key'))
    @rule(data=st.data(), threads=st.sampled_from((0, 0, 2)))
    def close(self, data, threads):
        """By this thread, or by two at once, beside one that uses it."""
        node = self.pick(data, self.of('memic', 'icm', 'umem', 'op', 'mr', 'pd', 'key'))
        if node.kind == 'pd' and self.in_use(node):
            # The device refuses, and pyverbs' PD then forgets its MRs.
            return
        # What two threads close upstream frees twice.
        if threads and node.kind in ('memic', 'icm', 'umem', 'op'):
            self.together(*[node.obj.close] * threads, lambda: repr(node.obj),
                          lambda: node.obj.closed)
        elif node.open and self.in_use(node):
            self.refused((errno.EBUSY, errno.EINVAL), node.obj.close)
        else:
            node.obj.close()
        if not self.in_use(node):
            self.gone(node)

    @precondition(lambda self: self.card and self.opened('umem'))
    @rule(data=st.data())
    def close_refused(self, data):
        """A umem that the firmware does not let go stays as it was."""
        node = self.pick(data, self.opened('umem'))
        control.call('fault', opcode='DESTROY_UMEM', status='INT_ERR')
        self.refused(errno.EIO, node.obj.close)

    @precondition(lambda self: self.of('context'))
    @rule(data=st.data(), threads=st.booleans())
    def close_context(self, data, threads):
        """With all that is on it; beside a thread that makes another, which is refused or closed
        too."""
        node = self.pick(data, self.of('context'))
        for key in self.opened('key'):
            # pyverbs' Mlx5DevxObj does not survive a context that was closed underneath it.
            if key.parents[0] is node:
                key.obj.close()
                self.gone(key)
        if threads:
            self.together(node.obj.close, lambda: AnyUmem(node.obj, PAGE),
                          lambda: AnyDM(node.obj, AllocDmAttr(64)))
        else:
            node.obj.close()
        self.gone(node)

    @precondition(lambda self: self.of('memic', 'icm', 'umem', 'op', 'mr', 'pd', 'key', 'context'))
    @rule(data=st.data(), cyclic=st.booleans())
    def drop(self, data, cyclic):
        """Nobody refers to it any more, or it refers to itself."""
        node = self.pick(data, self.of('memic', 'icm', 'umem', 'op', 'mr', 'pd', 'key', 'context'))
        if node.kind == 'pd' and self.in_use(node):
            return
        if cyclic and node.kind in ('memic', 'icm', 'umem', 'op'):
            node.obj.me = node.obj
            node.cyclic = True
        node.held = False
        node.obj = None
        self.sweep()

    @rule()
    def collect(self):
        gc.collect()
        loose = True
        while loose:
            loose = [node for node in self.nodes if node.cyclic and not self.referrers(node)]
            for node in loose:
                node.cyclic = False
            self.sweep()

    @precondition(lambda self: self.of('memic', 'icm', 'umem', 'op'))
    @rule()
    def fork(self):
        """In a child all of it is the parent's: nothing is used, and nothing freed."""
        pid = os.fork()
        if not pid:
            status = 1
            try:
                for node in self.of('memic', 'icm', 'umem', 'op'):
                    assert node.obj.closed
                    node.obj.close()
                    if node.kind == 'memic':
                        self.wrong(node.obj.copy_to_dm, 0, b'abcd')
                    elif node.kind == 'umem':
                        self.wrong(memoryview, node.obj)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0, 'in the child'

    # ---- what holds after each step

    @invariant()
    def objects_are_as_they_should_be(self):
        Machine.steps += 1
        for node in self.of('memic', 'icm', 'umem', 'op'):
            assert node.obj.closed != node.open, node.kind

    @invariant()
    def card_holds_what_is_open(self):
        if not self.card:
            return
        want = dict(self.before)
        for node in self.nodes:
            kind = ON_CARD.get(node.kind)
            if kind and node.there:
                want[kind] += 1
        assert self.live() == want

    # ---- how it is asked

    def wrong(self, call, *arguments):
        try:
            call(*arguments)
        except PyverbsUserError:
            return
        raise AssertionError(f'{call} was taken')

    def refused(self, codes, call):
        try:
            call()
        except PyverbsRDMAError as ex:
            assert ex.error_code in (codes if isinstance(codes, tuple) else (codes, )), ex
            return
        raise AssertionError(f'{call} was taken')

    def together(self, *calls):
        """Each in a thread of its own; pyverbs' errors are right, others are not."""
        found = []

        def attempt(call):
            try:
                with contextlib.suppress(PyverbsError):
                    call()
            except BaseException as ex:
                found.append(ex)
        threads = [threading.Thread(target=attempt, args=(call, )) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not found, found


def run(device, examples):
    """
    Run it.
    :param device: Name of the device
    :param examples: How many sequences, drawn anew; 0 for those that are tried each time
    :return: Steps that were taken
    """
    Machine.device, Machine.steps = device, 0
    run_state_machine_as_test(Machine, settings=settings(
        max_examples=examples or 245, stateful_step_count=STEPS, deadline=None, database=None,
        derandomize=not examples, print_blob=False, suppress_health_check=list(HealthCheck)))
    return Machine.steps
