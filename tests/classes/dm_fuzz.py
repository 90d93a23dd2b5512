# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" Calls of Mlx5DM's whole interface by several threads on the same objects, in random order, with
arguments that fit and that do not. One thread alone is what test_mlx5_machine.py tries.

    bash buildlib/quickstart.sh run -- python3 tests/classes/dm_fuzz.py SEED [ACTIONS [THREADS]]

A call may succeed or raise PyverbsError or TypeError;
anything else ends the program with status 1 and the seed, and a signal ends it as signals do.
test_mlx5_dm_fuzz.py runs some seeds.
"""
import copy
import faulthandler
import gc
import os
import pickle
import random
import sys
import threading
import traceback
import warnings
import weakref

from pyverbs.device import AllocDmAttr, Context, get_device_list
from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.mr import DMMR
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsError

from pyverbs.providers.mlx5 import mlx5dv_dm
from pyverbs.providers.mlx5.mlx5dv_dm import (
    Mlx5AllocDmAttr,
    Mlx5DM,
    Mlx5DMOpAddr,
    mlx5dv_alloc_dm_type,
)

NUMBERS = (0, 1, 2, 3, 4, 7, 8, 12, 60, 63, 64, 65, 4092, 4095, 4096, 4097, 8192, 65536, 1 << 18,
           2**31, 2**32 - 4, 2**32, 2**62, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 4, 2**64 - 1, 2**64,
           2**80, -1, -4, -2**31, -2**63, True, None, 'x', b'4', 1.5, [], object())
ACCESS = ibv_access_flags.IBV_ACCESS_ZERO_BASED | ibv_access_flags.IBV_ACCESS_LOCAL_WRITE
ATTRIBUTES = ('type', 'length', 'log_align_req', 'handle', 'remote_va', 'addr', 'is_imported',
              'closed', 'op', 'widths', 'nothing')
#: Enough for every state to be met, few enough for the card.
MOST = 12
#: Seconds after which it counts as hanging.
PATIENCE = 300


class Subclass(Mlx5DM):
    """With a dictionary of its own, so that it can be part of cycles."""


class Late(Mlx5DM):
    """Its __init__ does not run."""

    def __init__(self, *args, **kwargs):
        del args, kwargs


class Index:
    """A number whose __index__ runs Python in the middle of a call, which closes what is being
    called."""

    def __init__(self, value, action):
        self.value, self.action = value, action

    def __index__(self):
        self.action()
        return self.value


class Fuzz:
    """One thread's calls on objects that all threads share."""

    def __init__(self, seed, shared):
        self.random = random.Random(seed)
        self.mrs, self.ops, self.dms, self.pds, self.contexts = shared
        self.name = next(device.name.decode() for device in get_device_list())

    def number(self):
        value = self.random.choice(NUMBERS)
        if self.random.random() < 0.03 and self.dms:
            victim = self.pick(self.dms)
            return Index(value if type(value) is int else 4, victim.close)
        return value

    def small(self):
        """A number that is often right."""
        return self.random.choice(
            (0, 4, 8, 60, 64, 4096)) if self.random.random() < 0.7 else self.number()

    def buffer(self):
        size = self.random.choice((0, 1, 2, 3, 4, 8, 64, 4096, 20000))
        kinds = (bytes, bytearray, lambda n: memoryview(bytearray(n)),
                 lambda n: memoryview(bytearray(2 * n))[::2], lambda n: 'x' * n,
                 lambda n: memoryview(bytes(n)), lambda n: None)
        return self.random.choice(kinds)(size)

    def pick(self, pool):
        """One of a pool, which another thread may be emptying."""
        try:
            return self.random.choice(pool)
        except IndexError:
            return None

    def keep(self, pool, obj):
        pool.append(obj)
        if len(pool) > MOST:
            # Dropped as it is, half of the time in a cycle.
            old = pool.pop(0)
            if isinstance(old, Subclass) and self.random.random() < 0.5:
                old.me = old

    # ---- actions

    def do_open(self):
        # None is closed: of closed contexts and PDs upstream's MR follows NULL.
        if len(self.contexts) > 3:
            return
        other = self.pick(self.contexts)
        shared = other and self.random.random() < 0.3
        self.contexts.append(
            Context(cmd_fd=os.dup(other.cmd_fd)) if shared else Context(name=self.name))
        self.pds.append(PD(self.contexts[-1]))

    def do_alloc(self):
        length = self.small()
        attr = AllocDmAttr(
            length=length) if type(length) is int and 0 <= length < 2**63 else AllocDmAttr(64)
        kind = self.random.choice([0, 0, 0, 0, *mlx5dv_alloc_dm_type, 77, self.number()])
        cls = self.random.choice((Mlx5DM, Subclass, Subclass, Late))
        args = [self.pick(self.contexts), attr]
        if self.random.random() < 0.6:
            args.append(Mlx5AllocDmAttr(kind, self.random.choice((0, 0, 0, 1))))
        if self.random.random() < 0.1:
            args = [self.random.choice((None, attr, 5, *args)) for _ in args]
        self.keep(self.dms, cls(*args))

    def do_import(self):
        dm = self.pick(self.dms)
        handle = dm.handle if dm and self.random.random() < 0.8 else self.number()
        self.keep(self.dms, Mlx5DM.import_dm(self.pick(self.contexts), handle))

    def do_new(self):
        self.keep(
            self.dms,
            self.random.choice(
                (Mlx5DM, Subclass)).__new__(Mlx5DM if self.random.random() < 0.5 else Subclass))

    def do_again(self):
        self.pick(self.dms + self.ops).__init__(self.pick(self.contexts + self.dms),
                                                self.random.choice((AllocDmAttr(64), 0, None)))

    def do_to(self):
        args = [self.small(), self.buffer()
                ] + ([self.small()] if self.random.random() < 0.4 else [])
        self.pick(self.dms).copy_to_dm(*args)

    def do_from(self):
        self.pick(self.dms).copy_from_dm(self.small(), self.small())

    def do_into(self):
        self.pick(self.dms).copy_from_dm_into(self.small(), self.buffer())

    def do_map(self):
        dm = self.pick(self.dms)
        op = self.random.choice((0, 0, 1, 1, 2, self.number()))
        self.keep(self.ops,
                  dm.map_op_addr(op) if self.random.random() < 0.5 else Mlx5DMOpAddr(dm, op))

    def do_read(self):
        self.pick(self.ops).read(self.random.choice((1, 2, 4, 8, self.number())), self.small())

    def do_write(self):
        self.pick(self.ops).write(
            self.random.choice((b'\1', b'12', b'1234', b'12345678', self.buffer())), self.small())

    def do_mr(self):
        dm, pd, length, offset = self.pick(self.dms), self.pick(self.pds), self.random.choice(
            (4, 64, 4096)), self.random.choice((0, 4, 64))
        if dm is None or pd is None:
            return
        self.keep(self.mrs, DMMR(pd, length, ACCESS, dm, offset) if self.random.random() < 0.5 else
                  DMMR(pd, length, ACCESS, offset=offset, dm=dm))

    def do_export(self):
        os.close(self.pick(self.dms).export_dmabuf_fd())

    def do_close(self):
        # No MR: one that two threads close upstream frees twice.
        pool = self.random.choice((self.dms, self.dms, self.dms, self.ops))
        obj = self.pick(pool)
        how = self.random.choice(('close', 'close', 'exit', 'unimport', 'unmap', 'del'))
        if how == 'exit':
            obj.__exit__(None, None, None)
        elif how in ('unimport', 'unmap') and isinstance(obj, (Mlx5DM, Mlx5DMOpAddr)) and hasattr(
                obj, how):
            getattr(obj, how)(*((self.number(),) if how == 'unmap' else ()))
        elif how == 'del' and hasattr(obj, '__del__'):
            obj.__del__()
        else:
            obj.close()

    def do_look(self):
        obj = self.pick(self.dms + self.ops)
        for call in (repr, str, hash, bool, weakref.ref, lambda o: o == o):
            call(obj)
        name = self.random.choice(ATTRIBUTES)
        if hasattr(obj, name):
            getattr(obj, name)

    def do_set(self):
        try:
            setattr(self.pick(self.dms + self.ops), self.random.choice(ATTRIBUTES), self.number())
        except AttributeError:
            pass

    def do_copy(self):
        self.random.choice((copy.copy, copy.deepcopy, pickle.dumps))(self.pick(self.dms + self.ops))

    def do_caps(self):
        if self.random.random() < 0.3:
            str(Mlx5DM.query_caps(self.pick(self.contexts)))
        else:
            mlx5dv_dm.query_hca_cap(self.pick(self.contexts),
                                    self.random.choice((0, 7, 15, self.number())))

    def do_drop(self):
        pool = self.random.choice((self.dms, self.ops, self.mrs))
        if pool:
            pool.pop(0)

    def do_collect(self):
        if self.random.random() < 0.2:
            gc.collect()

    def step(self):
        """One action."""
        action = self.random.choice(ACTIONS)
        try:
            getattr(self, action)()
        except (PyverbsError, TypeError):
            pass
        except AttributeError as ex:
            # Nothing of that kind is at hand.
            if "'NoneType'" not in str(ex):
                raise


ACTIONS = [name for name in vars(Fuzz) if name.startswith('do_')]
ACTIONS += [
    'do_alloc', 'do_to', 'do_from', 'do_into', 'do_map', 'do_read', 'do_write', 'do_mr', 'do_close'
] * 2


def main():
    """Run it; the exit status."""
    # What hangs tells where.
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    seed, actions, threads = (int(word)
                              for word in (sys.argv[1:] + ['150', '4'][len(sys.argv) - 2:])[:3])
    warnings.simplefilter('ignore', ResourceWarning)
    failures = []
    sys.unraisablehook = lambda unraisable: failures.append(
        f'ignored: {unraisable.exc_value!r} in {unraisable.object!r}')
    shared = [], [], [], [], []
    workers = [Fuzz(seed * 1000 + n, shared) for n in range(threads)]
    workers[0].do_open()

    def run(worker):
        for n in range(actions):
            try:
                worker.step()
            except BaseException:
                failures.append(f'seed {seed}, action {n}:\n{traceback.format_exc()}')
                return
    others = [threading.Thread(target=run, args=(worker,)) for worker in workers[1:]]
    for other in others:
        other.start()
    run(workers[0])
    for other in others:
        other.join()
    del workers
    for pool in shared:
        pool.clear()
    gc.collect()
    # MRs and PDs are upstream's, whose finalizers complain when a context was closed before them.
    failures = [f for f in failures if not f.startswith('ignored: PyverbsRDMAError')]
    print('\n'.join(failures) or f'seed {seed}: nothing found')
    return int(bool(failures))


if __name__ == '__main__':
    sys.exit(main())
