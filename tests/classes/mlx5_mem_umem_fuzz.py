# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" Uses Mlx5DevxUmem at random: any argument to any call, in any order, on several objects and
contexts. Whatever is refused has to be refused by an exception.

    mlx5_mem_umem_fuzz.py DEVICE SEED STEPS
"""
import array
import contextlib
import ctypes
import gc
import mmap
import pickle
import random
import struct
import sys
import threading
import warnings
import weakref

from pyverbs.device import Context
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags, mlx5dv_obj_type
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DevxObj, Mlx5DVContextAttr
from pyverbs.providers.mlx5.mlx5dv_objects import Mlx5DvObj
from pyverbs.pyverbs_error import PyverbsError

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

#: What a call may answer; anything else ends the program with a traceback.
REFUSALS = (PyverbsError, TypeError, ValueError, BufferError, OverflowError, MemoryError)
PAGE = mmap.PAGESIZE
PROPERTIES = ('umem_id', 'size', 'addr', 'umem_addr', 'access', 'pgsz_bitmap', 'page_sizes',
              'is_imported', 'closed')


class Child(Mlx5DevxUmem):
    """With attributes, so that cycles can be made, and weak references."""


class Fuzzer:
    """A generator of calls, and what they have made so far."""

    def __init__(self, device, seed):
        self.device, self.random = device, random.Random(seed)
        self.umems, self.views, self.keys, self.done = [], [], [], 0
        self.memory = mmap.mmap(-1, 8 * PAGE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        self.contexts = [self.open(), self.open()]
        self.calls = [self.create] * 8 + [self.close] * 4 + [
            self.read, self.view, self.look, self.drop, self.again, self.key, self.collect,
            self.twin, self.cycle, self.drop_view, self.race, self.unkey] * 2 + [self.reopen]

    def open(self):
        """A context of either kind, and a PD."""
        ctx = self.random.choice((lambda: Context(name=self.device), lambda: Mlx5Context(
            Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX), self.device)))()
        return ctx, PD(ctx)

    def number(self):
        """A number that may be a size, an address, an offset, a bitmap or nonsense."""
        pick = self.random.random()
        if pick < 0.5:
            return self.random.choice((0, 1, 8, 64, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 4 * PAGE,
                                       64 * PAGE, self.base, self.base + 8))
        if pick < 0.8:
            return (1 << self.random.choice((*range(18), *range(40, 66)))) + self.random.choice(
                (-1, 0, 0, 0, 1))
        return self.random.choice((-1, -PAGE, 2**63, 2**64 - 1, 2**64 - PAGE, 2**64, 2**100, 1.5,
                                   'x', b'', None, True, [], [PAGE], object()))

    def small(self):
        """An access, a mask or the like."""
        return self.random.choice(
            (0, 0, 1, 1, 1, 3, 4, 7, 2, 8, 32, 1 << 20, 2**31, 2**32 - 1, 2**32, -1, 'x', None))

    def exporter(self):
        """Something to borrow memory from, or not."""
        return self.random.choice(
            (lambda: bytearray(self.random.choice((0, 1, PAGE, 3 * PAGE + 7))), lambda: bytes(PAGE),
             lambda: array.array('d', bytes(PAGE)), lambda: memoryview(bytearray(2 * PAGE))[8:],
             lambda: memoryview(bytearray(PAGE))[::2], lambda: self.memory, lambda:
             (ctypes.c_char * PAGE)(), lambda: self.pick(self.umems), lambda: self.pick(self.views),
             lambda: 'text', lambda: 7, lambda: type('Odd', (), {
                 '__dlpack__': lambda s, **k: None, '__dlpack_device__': lambda s: (1, 0)})
             (), lambda: type('Odd',
                              (), {'__dlpack__': lambda s: 7, '__dlpack_device__': lambda s:
                                   ()})()))()

    def pick(self, things):
        """One of them, or None."""
        return self.random.choice(things) if things else None

    def arguments(self):
        """For the constructor; every other time some that are right."""
        if self.random.random() < 0.5:
            size = self.random.choice((1, 64, PAGE, 3 * PAGE))
            source = self.random.choice(({'size': size}, {'buffer': bytearray(size)}, {
                'size': size, 'pgsz_bitmap': [PAGE]}, {
                    'size': size, 'addr': self.base + self.random.randrange(PAGE)}))
            return source | {'access': self.random.choice((0, 1, 3))}
        found = {
            name: make()
            for name, make in (('size', self.number), ('addr', self.number),
                               ('alignment', self.number), ('access', self.small),
                               ('pgsz_bitmap', self.number), ('comp_mask', self.small),
                               ('dmabuf_fd',
                                lambda: self.random.choice((0, 1, -1, 3, 10**6, 2**31, 'x', None))),
                               ('buffer', self.exporter)) if self.random.random() < 0.4}
        # Anything between would be pinned: the machine's memory is not what is tried here.
        for name in ('size', 'alignment'):
            if isinstance(found.get(name), int) and 1 << 24 < found[name] < 1 << 40:
                del found[name]
        return found

    def create(self):
        """An object."""
        kind = self.random.choice((Mlx5DevxUmem, Child))
        ctx = self.pick(self.contexts)[0] if self.random.random() < 0.95 else self.pick(
            (None, 7, self.pick(self.umems)))
        self.umems.append(kind(ctx, **self.arguments()))

    def again(self):
        """__init__ on what exists, open or not, or was only made by __new__."""
        umem = self.random.choice((self.pick(self.umems), Child.__new__(Child)))
        if umem is not None:
            self.umems.append(umem)
            umem.__init__(self.pick(self.contexts)[0], **self.arguments())

    def close(self):
        """One way or another."""
        umem = self.pick(self.umems)
        if umem:
            self.random.choice((umem.close, lambda: umem.__exit__(None, None, None),
                                lambda: umem.__enter__().close()))()

    def read(self):
        """Every property and text."""
        umem = self.pick(self.umems)
        if umem:
            for name in PROPERTIES:
                with contextlib.suppress(*REFUSALS):
                    getattr(umem, name)
            repr(umem), str(umem), hash(umem), umem == self.pick(self.umems), weakref.ref(umem)
            self.random.choice((umem.export, lambda: pickle.dumps(umem), umem.get_export_size))()

    def view(self):
        """A view of the memory."""
        umem = self.pick(self.umems)
        if umem:
            self.views.append(memoryview(umem))

    def look(self):
        """Read and write through a view."""
        view = self.pick(self.views)
        if view:
            at = self.random.randrange(len(view) or 1)
            bytes(view[at:at + 16])
            if not view.readonly and len(view):
                view[at] = self.random.randrange(256)
            memoryview(view).cast('B'), view.obj, memoryview(bytes(view))

    def drop_view(self):
        """Release a view."""
        if self.views:
            self.views.pop(self.random.randrange(len(self.views))).release()

    def drop(self):
        """Forget an object."""
        if self.umems:
            self.umems.pop(self.random.randrange(len(self.umems)))

    def collect(self):
        """Collect garbage."""
        gc.collect(self.random.randrange(3))

    def cycle(self):
        """An object that refers to itself, to its view and to its context."""
        umem = Child(self.pick(self.contexts)[0], PAGE)
        umem.self, umem.view, umem.others = umem, memoryview(umem), self.contexts

    def twin(self):
        """Import what export() made, or garbage."""
        data = self.pick([umem for umem in self.umems if not umem.closed])
        garbage = self.random.choice(
            (b'', bytes(8), self.random.getrandbits(96).to_bytes(12, 'big'), None, 7, 'x',
             bytearray(12)))
        data = data.export() if data and self.random.random() < 0.3 else garbage
        self.umems.append(Mlx5DevxUmem.import_umem(self.pick(self.contexts)[0], data))

    def race(self):
        """Two threads close one, a third reads it."""
        umem = self.pick(self.umems)
        if umem:
            def quietly(call):
                with contextlib.suppress(*REFUSALS):
                    call()
            threads = [threading.Thread(target=quietly, args=(call,)) for call in
                       (umem.close, umem.close, lambda: memoryview(umem)[:1], umem.export)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    def key(self):
        """A DEVX memory key, under which closing is refused."""
        ctx, pd = self.pick(self.contexts)
        umem = self.pick([umem for umem in self.umems if not umem.closed])
        if umem is None or not isinstance(ctx, Mlx5Context) or len(self.keys) > 3:
            return
        box = bytearray(0x110)
        struct.pack_into('>H', box, 0, 0x200)
        pdn = Mlx5DvObj(mlx5dv_obj_type.MLX5DV_OBJ_PD, pd=pd).dvpd.pdn
        for offset, value in ((0x0c, 1 << 30), (0x10, 1 << 8 | 3 << 10), (0x14, 0xffffff << 8),
                              (0x1c, pdn), (0x2c, 1), (0x44, 1), (0x48, 12), (0x60, 1),
                              (0x64, umem.umem_id)):
            struct.pack_into('>I', box, offset, value)
        self.keys.append(Mlx5DevxObj(ctx, box, 16))

    def unkey(self):
        """Close a memory key."""
        if self.keys:
            self.keys.pop().close()

    def reopen(self):
        """Close a context with all that is on it, and open another."""
        # A key that outlives its context crashes in pyverbs' own Mlx5DevxObj.
        while self.keys:
            self.keys.pop().close()
        ctx, pd = self.contexts.pop(self.random.randrange(2))
        try:
            ctx.close()
        finally:
            pd.close()
            self.contexts.append(self.open())

    def run(self, steps):
        """Make that many calls, then let go of everything."""
        for _ in range(steps):
            with contextlib.suppress(*REFUSALS):
                self.random.choice(self.calls)()
                self.done += 1
            # Some go, so that old ones are seen as often as new ones.
            while len(self.umems) > 40:
                self.drop()
            while len(self.views) > 20:
                self.drop_view()
        while self.keys:
            self.keys.pop().close()
        self.umems.clear()
        for ctx, _ in self.contexts:
            ctx.close()
        gc.collect()


def main():
    """Run it; say how many calls were answered by something else than an exception."""
    device, seed, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    # A umem dropped under a key is kept, and says so: that is as it must be.
    warnings.simplefilter('ignore', ResourceWarning)
    fuzzer = Fuzzer(device, seed)
    fuzzer.run(steps)
    print(fuzzer.done)


if __name__ == '__main__':
    main()
