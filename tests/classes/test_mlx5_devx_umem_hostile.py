# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Callers that do what nobody should: arguments that run Python of their own, and classes that lie.
The interpreter does not crash, and what is registered is what the object says it is."""
import gc

from pyverbs.providers.mlx5.umem_memory import UmemMemory
from pyverbs.pyverbs_error import PyverbsRDMAError
from tests.mlx5_mem_base import Number
from tests.mlx5_mem_umem import LENGTH, PATTERN, WRITE, Mlx5DevxUmemTestCase

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem


class Mlx5DevxUmemHostileTest(Mlx5DevxUmemTestCase):
    def test_argument_registers_the_object(self):
        """The registration from within stays, memory and all; the one around it is refused."""
        for names in (('size',), ('access',), ('comp_mask',), ('pgsz_bitmap', 'size')):
            with self.subTest(argument=names[0]):
                umem = Mlx5DevxUmem.__new__(Mlx5DevxUmem)

                def register(umem=umem):
                    umem.__init__(self.ctx, LENGTH, access=WRITE)
                    with memoryview(umem) as view:
                        view[:] = PATTERN

                kwargs = {
                    'size': 2 * LENGTH, names[0]: Number(2 * LENGTH if names[0] == 'size' else 0,
                                                         register)}
                self.wrong(umem.__init__, self.ctx, **kwargs)
                gc.collect()
                self.assertEqual((umem.size, umem.access), (LENGTH, WRITE))
                with memoryview(umem) as view:
                    self.assertEqual(bytes(view), PATTERN)
                    self.assert_both_ways(umem, view)
                umem.close()

    def test_argument_closes_the_context(self):
        ctx = self.open_context()
        self.wrong(Mlx5DevxUmem, ctx, Number(LENGTH, ctx.close))
        ctx = self.open_context()
        data = bytearray(LENGTH)
        self.wrong(Mlx5DevxUmem, ctx, buffer=data, pgsz_bitmap=[Number(4096, ctx.close)])
        data.append(1)
        self.assert_live('umem', 0)

    def test_refused_by_one_context_made_by_another(self):
        """A context that refused it does not close what another one registered."""
        other = self.open_context()
        umem = Mlx5DevxUmem.__new__(Mlx5DevxUmem)
        self.assertRaises(PyverbsRDMAError, umem.__init__, other, 0)
        umem.__init__(self.ctx, LENGTH, access=WRITE)
        other.close()
        self.assertFalse(umem.closed)
        self.assert_live('umem', 1)
        umem.close()

    def test_classes_that_lie(self):
        """An import into an object of another kind is a TypeError; where there is no import it is
        refused before that."""
        def class_whose_new_gives(thing):
            return type('Lying', (Mlx5DevxUmem,), {'__new__': lambda cls, *args: thing})
        with self.umem(LENGTH) as umem:
            try:
                data = umem.export()
            except PyverbsRDMAError:
                data = None
            for thing in (None, object(), self.ctx, UmemMemory.__new__(UmemMemory)):
                with self.assertRaises(TypeError if data else PyverbsRDMAError):
                    class_whose_new_gives(thing).import_umem(self.ctx, data or bytes(12))
            self.assert_live('umem', 1)

    def test_memory_alone(self):
        """The object behind a view is of no use by itself, and outlives everything."""
        umem = self.umem(LENGTH)
        memory = memoryview(umem).obj
        self.assertIsInstance(memory, UmemMemory)
        self.assertRaises(TypeError, UmemMemory)
        self.assertRaises(TypeError, memoryview, memory)
        umem.close()
        del umem
        gc.collect()
        self.assertRaises(TypeError, memory.__init__)
        del memory
