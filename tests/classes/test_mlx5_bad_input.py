# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" Every argument of every public callable of both classes with what does not fit it: other types,
None, each power of two and its neighbours on both sides of 0, sums that wrap, buffers of every
kind, closed and foreign parents, objects that were never made.

Each call is taken, or refused by the class and errno that the table foresees. Afterwards the object
can be used, and the card, the descriptors and the mappings of this process are as they were.
"""
import array
import contextlib
import errno
import itertools
import os
import unittest

from pyverbs.device import AllocDmAttr, Context
from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsRDMAError, PyverbsUserError
from tests.mlx5_mem_base import Mlx5MemTestCase, mappings_of_device
from tests.mlx5_mem_umem import PAGE, WRITE

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
from pyverbs.providers.mlx5.mlx5dv_dm import (
    Mlx5AllocDmAttr,
    Mlx5DM,
    Mlx5DMError,
    Mlx5DMOpAddr,
    mlx5dv_alloc_dm_type,
    query_hca_cap,
)

ICM = mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_STEERING_SW_ICM
MEMIC = mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_MEMIC
LENGTH = 4096
TOP = 2**64
#: Each power of two with its neighbours, up to where no C type reaches, and the same below 0.
NUMBERS = sorted({sign * (2**bit + near)
                  for sign in (1, -1)
                  for bit in (*range(14), 15, 16, 20, 21, 31, 32, 40, 47, 48, 62, 63, 64, 65, 100)
                  for near in (-1, 0, 1)})

#: What a call ends in: it is taken, or the caller's fault, or one that also has an errno.
TAKEN, USER, TYPE = 'taken', 'PyverbsUserError', 'TypeError'


class Both:
    """A Mlx5DMError: the caller's fault, with an errno."""

    def __init__(self, code):
        self.code = code

    def __repr__(self):
        return f'Mlx5DMError({errno.errorcode[self.code]})'


def ending(call):
    """How a call ends; an int is the errno of the library, the kernel or the card."""
    try:
        call()
    except Mlx5DMError as ex:
        return repr(Both(ex.error_code))
    except PyverbsUserError:
        return USER
    except PyverbsRDMAError as ex:
        return ex.error_code
    except TypeError:
        return TYPE
    return TAKEN


def within(largest, inside=TAKEN, outside=USER):
    """What takes 0 to largest."""
    return lambda number: inside if 0 <= number <= largest else outside


def in_dm(width):
    """An offset or a length in bytes, whose other half is so wide."""
    def expect(number):
        if not 0 <= number < TOP or number % 4:
            return Both(errno.EINVAL)
        return TAKEN if number <= LENGTH - width else Both(errno.EFAULT)
    return expect


class Refuses:
    """An integer whose __index__ raises."""

    def __index__(self):
        raise PyverbsUserError('no number')


class Lies:
    """An integer whose __index__ gives none."""

    def __index__(self):
        return 'no number'


NO_NUMBERS = ('x', b'4', 1.5, 3 + 4j, [], (), {}, {1}, object(), int, len, Lies())


class Mlx5BadInputTest(Mlx5MemTestCase):
    def setUp(self):
        super().setUp()
        self.count = 0
        self.pd = PD(self.ctx)
        self.dm = Mlx5DM(self.ctx, AllocDmAttr(LENGTH))
        self.op = self.dm.map_op_addr(0)
        self.memory = bytearray(64 * PAGE)
        with Mlx5DevxUmem(self.ctx, buffer=self.memory) as umem:
            # From the first whole page of the memory on.
            self.address = -(-umem.addr // PAGE) * PAGE
        self.umem = Mlx5DevxUmem(self.ctx, PAGE, access=WRITE)

    def tearDown(self):
        self.umem.close()
        self.dm.close()
        self.pd.close()
        super().tearDown()

    def expect(self, what, call, wanted):
        """One line of the table: how a call has to end, one way or one of several."""
        self.count += 1
        found = ending(call)
        wanted = wanted if isinstance(wanted, tuple) else (wanted,)
        if found not in [repr(way) if isinstance(way, Both) else way for way in wanted]:
            self.failed.append(f'{what}: {found}, not {wanted}')

    @contextlib.contextmanager
    def table(self, least):
        """
        The lines of a table. At its end everything is as it was.
        :param least: How many there are at least
        """
        self.failed = []
        before = self.live(), len(os.listdir('/proc/self/fd')), mappings_of_device()
        yield
        self.assertEqual(
            (self.live(), len(os.listdir('/proc/self/fd')), mappings_of_device()), before)
        self.dm.copy_to_dm(60, b'last')
        self.assertEqual(self.dm.copy_from_dm(60, 4), b'last')
        self.op.read(4)
        memoryview(self.umem)[5] = 5
        self.assert_card_reads(self.umem.umem_id, 5, b'\5')
        self.assertFalse(self.failed, '\n'.join(self.failed))
        self.assertGreaterEqual(self.count, least)

    def numbers(self, name, call, expect, none=TYPE, other=TYPE):
        """ An argument that is a number.
        :param call: Makes the call with it, and closes what it returns
        :param expect: How it ends for a number, or each of several ways
        :param none: How it ends for None
        :param other: How it ends for what is no number
        """
        for number in NUMBERS:
            self.expect(f'{name}={number}', lambda n=number: call(n), expect(number))
        for value in NO_NUMBERS:
            self.expect(f'{name}={value!r}', lambda v=value: call(v), other)
        self.expect(f'{name}=None', lambda: call(None), none)
        self.expect(f'{name} that raises', lambda: call(Refuses()), USER)
        self.expect(f'{name}=True', lambda: call(True), expect(1))

    def test_numbers_of_device_memory(self):
        dm, op = self.dm, self.op
        attr = Mlx5AllocDmAttr()
        memic_operation = self.operations()
        flags = ibv_access_flags
        remote = int(flags.IBV_ACCESS_REMOTE_WRITE | flags.IBV_ACCESS_REMOTE_ATOMIC)
        taken = remote | int(flags.IBV_ACCESS_LOCAL_WRITE | flags.IBV_ACCESS_REMOTE_READ
                             | flags.IBV_ACCESS_ZERO_BASED)

        def access(number):
            if not 0 <= number < 2**32:
                return USER
            return errno.EINVAL if number & ~taken or number & remote and not number & 1 else TAKEN

        def part(number):
            if not 0 <= number < TOP:
                return Both(errno.EINVAL)
            return TAKEN if number <= LENGTH else Both(errno.EFAULT)

        def width(number):
            if not 0 <= number < TOP or number not in (1, 2, 4, 8):
                return Both(errno.EINVAL)
            return TAKEN if number in op.widths else Both(errno.EOPNOTSUPP)

        def place(number):
            if not 0 <= number < TOP or number % 4:
                return Both(errno.EINVAL)
            return TAKEN if number <= op.length - 4 else Both(errno.EFAULT)

        with self.table(2000):
            self.numbers('type', Mlx5AllocDmAttr, within(2**32 - 1))
            self.numbers('comp_mask', lambda n: Mlx5AllocDmAttr(MEMIC, n), within(TOP - 1))
            self.numbers('attr.type', lambda n: setattr(attr, 'type', n), within(2**32 - 1))
            self.numbers('attr.comp_mask', lambda n: setattr(attr, 'comp_mask', n),
                         within(TOP - 1))
            self.numbers('import_dm(handle)', lambda n: Mlx5DM.import_dm(self.ctx, n).close(),
                         lambda n: TAKEN if n == dm.handle else within(
                             2**32 - 1, (errno.ENOENT, errno.EINVAL))(n), none=USER)
            self.numbers('copy_to_dm(dm_offset)', lambda n: dm.copy_to_dm(n, b'1234'), in_dm(4))
            self.numbers('copy_to_dm(length)', lambda n: dm.copy_to_dm(0, bytes(LENGTH), n),
                         lambda n: Both(errno.EFAULT) if LENGTH < n < TOP else in_dm(0)(n),
                         none=TAKEN)
            self.numbers('copy_from_dm(dm_offset)', lambda n: dm.copy_from_dm(n, 4), in_dm(4))
            self.numbers('copy_from_dm(length)', lambda n: dm.copy_from_dm(0, n), in_dm(0))
            self.numbers('copy_from_dm(8, length)', lambda n: dm.copy_from_dm(8, n), in_dm(8))
            self.numbers('copy_from_dm_into(dm_offset)',
                         lambda n: dm.copy_from_dm_into(n, bytearray(8)), in_dm(8))
            self.numbers('map_op_addr(op)', lambda n: dm.map_op_addr(n).close(), memic_operation)
            self.numbers('Mlx5DMOpAddr(op)', lambda n: Mlx5DMOpAddr(dm, n).close(),
                         memic_operation)
            self.numbers('read(length)', op.read, width)
            self.numbers('read(offset)', lambda n: op.read(4, n), place)
            self.numbers('write(offset)', lambda n: op.write(b'\0\0\0\0', n), place)
            self.numbers('query_hca_cap(page)', lambda n: query_hca_cap(self.ctx, n),
                         within(0x7fff, (TAKEN, errno.EREMOTEIO)))
            self.numbers('reg_mr(access)', lambda n: dm.reg_mr(self.pd, n).close(), access)
            self.numbers('reg_mr(offset)',
                         lambda n: dm.reg_mr(self.pd, 1, n, 0).close(), part)
            self.numbers('reg_mr(length)',
                         lambda n: dm.reg_mr(self.pd, 1, 0, n).close(), part, none=TAKEN)
            self.numbers('reg_mr(offset, to the end)',
                         lambda n: dm.reg_mr(self.pd, 1, n).close(), part)

    def operations(self):
        """What the device says of the operation by its number."""
        known = Mlx5DM.query_caps(self.ctx).memic.operations
        return lambda n: within(255, TAKEN if n in known else errno.EOPNOTSUPP)(n)

    def test_lengths_of_allocations(self):
        largest = Mlx5DM.query_caps(self.ctx).memic.max_length

        def length(number):
            if number == 0 or number > largest:
                return errno.EINVAL
            return TAKEN, errno.ENOMEM

        with self.table(300):
            # What upstream's attributes hold.
            for number in [n for n in NUMBERS if 0 <= n < 2**64]:
                self.expect(f'length={number}',
                            lambda n=number: Mlx5DM(self.ctx, AllocDmAttr(n)).close(),
                            length(number))
                self.expect(f'length={number} of SW ICM', lambda n=number: Mlx5DM(
                    self.ctx, AllocDmAttr(n), Mlx5AllocDmAttr(ICM)).close(),
                    TAKEN if 0 < number <= 2**20 else (TAKEN, errno.EINVAL, errno.ENOMEM))
                if number < 2**32:
                    self.expect(f'log_align_req={number}', lambda n=number: Mlx5DM(
                        self.ctx, AllocDmAttr(64, n)).close(),
                        TAKEN if number <= 6 else (TAKEN, errno.EINVAL, errno.ENOMEM))
                    self.expect(f'allocate type={number}', lambda n=number: Mlx5DM(
                        self.ctx, AllocDmAttr(64), Mlx5AllocDmAttr(n)).close(),
                        TAKEN if number < 5 else errno.EOPNOTSUPP)
                self.expect(f'allocate comp_mask={number}', lambda n=number: Mlx5DM(
                    self.ctx, AllocDmAttr(64), Mlx5AllocDmAttr(MEMIC, n)).close(),
                    errno.EINVAL if number else TAKEN)

    def test_numbers_of_umems(self):
        where, ctx = self.address, self.ctx
        whole = 62 * PAGE

        def made(*args, **kwargs):
            Mlx5DevxUmem(ctx, *args, **kwargs).close()

        def size(number):
            if not 0 <= number < TOP:
                return USER
            if number == 0 or number + where + PAGE >= TOP or number // PAGE >= 2**32 - 1:
                return errno.EINVAL
            # Behind our memory there is more of this process's for a while.
            return TAKEN if number <= whole else (TAKEN, errno.EFAULT, errno.ENOMEM)

        def own(number):
            if not 0 <= number < TOP:
                return USER
            return (errno.EINVAL if number == 0 else TAKEN if number < 2**21
                    else (errno.ENOMEM, errno.EFAULT, errno.EINVAL))

        def address(number):
            if not 0 <= number < TOP:
                return USER
            if number + PAGE >= TOP:
                return errno.EINVAL
            return (TAKEN, errno.EFAULT) if 2**20 <= number < 2**48 else errno.EFAULT

        def access(number):
            if not 0 <= number < 2**32:
                return USER
            if number & ~(0x100000 | 7) or number & 2 and not number & 1:
                return errno.EINVAL
            return TAKEN

        def alignment(number):
            if number <= 0 or number >= TOP or number & (number - 1):
                return USER
            return TAKEN if number < 2**30 else (TAKEN, errno.ENOMEM)

        def bitmap(number):
            if not 0 <= number < TOP:
                return USER
            if number == 0:
                return TAKEN
            # 4 KiB always fits; larger pages if the memory happens to be contiguous.
            return TAKEN if number & PAGE else (TAKEN, errno.EINVAL)

        def sizes(number):
            if number <= 0 or number >= TOP or number & (number - 1):
                return USER
            return TAKEN if number == PAGE else (TAKEN, errno.EINVAL)

        def mask(number):
            if not 0 <= number < TOP or number & 1:
                return USER
            return errno.EOPNOTSUPP if number else TAKEN

        def descriptor(number):
            if not -2**31 <= number < 2**31:
                return USER
            return (errno.EBADF, errno.EINVAL) if 0 <= number < 1024 else errno.EBADF

        with self.table(1000):
            self.numbers('size at addr', lambda n: made(n, where), size, none=USER)
            # What could be pinned and would not come back soon is left out.
            self.numbers('size', lambda n: made(n) if type(n) is not int or n < 2**21
                         or n > 2**46 else made(-1), lambda n: USER if 2**21 <= n <= 2**46
                         else own(n), none=USER)
            self.numbers('addr', lambda n: made(PAGE, n, access=WRITE), address, none=TAKEN)
            self.numbers('alignment', lambda n: made(PAGE, alignment=n), alignment)
            self.numbers('access', lambda n: made(PAGE, access=n), access)
            # No page size, or one that is no power of two, in what can be iterated over.
            self.numbers('pgsz_bitmap', lambda n: made(PAGE, where, pgsz_bitmap=n), bitmap,
                         other=(TYPE, USER, errno.EINVAL))
            self.numbers('a page size', lambda n: made(PAGE, where, pgsz_bitmap=[n]), sizes)
            self.numbers('comp_mask', lambda n: made(PAGE, comp_mask=n), mask)
            self.numbers('dmabuf_fd', lambda n: made(PAGE, 0, dmabuf_fd=n), descriptor,
                         none=errno.EFAULT)
            self.numbers('umem_addr', lambda n: setattr(self.umem, 'umem_addr', n),
                         within(TOP - 1), none=TAKEN)
            self.numbers('size of a buffer', lambda n: made(n, buffer=self.memory),
                         lambda n: errno.EINVAL if n == 0 else within(64 * PAGE)(n), none=TAKEN)

    def test_buffers(self):
        """What is no buffer, or not as it has to be."""
        released = memoryview(bytearray(64))
        released.release()
        writable = {
            'bytearray': bytearray(64), 'memoryview': memoryview(bytearray(64)),
            'array': array.array('I', [0] * 16), 'array of doubles': array.array('d', [0.0] * 8)}
        readonly = {'bytes': bytes(64), 'view of bytes': memoryview(bytes(64))}
        loose = {
            'every second': memoryview(bytearray(128))[::2],
            'backwards': memoryview(bytearray(64))[::-1]}
        none = {f'{value!r}': value for value in (None, 5, 'x', 1.5, [], (1, 2), {}, object(), int)}
        odd = {f'{size} bytes': bytearray(size) for size in (1, 2, 3, 5, 6, 7, 63, 65, 4095, 4097)}
        wide = {f'{size} bytes': bytearray(size) for size in (LENGTH + 4, 2 * LENGTH, 2**20)}
        inval, fault = Both(errno.EINVAL), Both(errno.EFAULT)
        import_umem = Mlx5DevxUmem.import_umem
        with self.table(150):
            for name, call, wanted in (
                    ('copy_to_dm', lambda b: self.dm.copy_to_dm(0, b),
                     (TAKEN, TAKEN, inval, TYPE, inval, inval, fault)),
                    ('copy_to_dm with a length', lambda b: self.dm.copy_to_dm(0, b, 0),
                     (TAKEN, TAKEN, inval, TYPE, inval, TAKEN, TAKEN)),
                    ('copy_from_dm_into', lambda b: self.dm.copy_from_dm_into(0, b),
                     (TAKEN, inval, inval, TYPE, inval, inval, fault)),
                    ('write', self.op.write, (inval, inval, inval, TYPE, inval, (TAKEN, inval),
                                              inval)),
                    ('import_umem', lambda b: import_umem(self.ctx, b),
                     (USER, USER, USER, TYPE, USER, USER, USER) if self.exports() else
                     (errno.EOPNOTSUPP,) * 7),
                    ('umem for writing',
                     lambda b: Mlx5DevxUmem(self.ctx, buffer=b, access=WRITE).close(),
                     (TAKEN, USER, USER, TYPE, USER, TAKEN, TAKEN)),
                    ('umem', lambda b: Mlx5DevxUmem(self.ctx, buffer=b).close(),
                     (TAKEN, TAKEN, USER, TYPE, USER, TAKEN, TAKEN))):
                for kind, ends in zip((writable, readonly, loose, none, {'released': released}, odd,
                                       wide), wanted):
                    for what, value in kind.items():
                        # None is no buffer and no size for a umem, and never data.
                        absent = USER if name.startswith('umem') else TYPE
                        self.expect(f'{name} of {what}', lambda v=value, c=call: c(v),
                                    absent if value is None else ends)

    def test_parents(self):
        """What is no context, PD, DM or description of memory, is closed, was never made, or is of
        another context."""
        closed = self.open_context()
        foreign = self.open_context()
        foreign_pd, closed_pd, closed_dm = PD(foreign), PD(self.ctx), Mlx5DM(
            self.ctx, AllocDmAttr(64))
        other_attr = Mlx5AllocDmAttr()
        for what in (closed, closed_pd, closed_dm):
            what.close()
        unmade = [cls.__new__(cls) for cls in (Mlx5DM, Mlx5DevxUmem, Mlx5DMOpAddr)]
        blob = self.umem.export() if self.exports() else None
        # None, other types, objects of other classes; the classes themselves.
        wrong = (None, 0, 1, -1, 'x', b'x', 1.5, [], {}, object(), self.pd, self.dm, self.op,
                 self.umem, AllocDmAttr(64), Context, *unmade)
        attr, context = AllocDmAttr(64), self.ctx
        of_context = {
            'Mlx5DM': lambda c: Mlx5DM(c, attr).close(),
            'Mlx5DM of a handle': lambda c: Mlx5DM(c, handle=1).close(),
            'import_dm': lambda c: Mlx5DM.import_dm(c, 1).close(),
            'query_caps': Mlx5DM.query_caps,
            'query_hca_cap': lambda c: query_hca_cap(c, 0),
            'Mlx5DevxUmem': lambda c: Mlx5DevxUmem(c, PAGE).close(),
            'Mlx5DevxUmem of a buffer': lambda c: Mlx5DevxUmem(c, buffer=bytearray(64)).close()}
        if blob:
            of_context['import_umem'] = lambda c: Mlx5DevxUmem.import_umem(c, blob)
        with self.table(220):
            for name, call in of_context.items():
                for value in wrong:
                    self.expect(f'{name} of {value!r}', lambda v=value, c=call: c(v), TYPE)
                self.expect(f'{name} of a closed context', lambda c=call: c(closed), USER)
            for value in wrong:
                made = isinstance(value, AllocDmAttr)
                self.expect(f'dm_attr={value!r}', lambda v=value: Mlx5DM(context, v).close(),
                            TAKEN if made else USER if value is None else TYPE)
                self.expect(f'mlx5_dm_attr={value!r}',
                            lambda v=value: Mlx5DM(context, attr, v).close(),
                            TAKEN if value is None else TYPE)
                self.expect(f'reg_mr of {value!r}', lambda v=value: self.dm.reg_mr(v, 1).close(),
                            TAKEN if value is self.pd else TYPE)
                dm = isinstance(value, Mlx5DM)
                self.expect(f'Mlx5DMOpAddr of {value!r}',
                            lambda v=value: Mlx5DMOpAddr(v, 0).close(),
                            TAKEN if value is self.dm else USER if dm else TYPE)
            self.expect('two sources', lambda: Mlx5DM(context, attr, handle=1), USER)
            self.expect('two sources', lambda: Mlx5DM(context, None, other_attr, handle=1), USER)
            self.expect('reg_mr on a closed PD', lambda: self.dm.reg_mr(closed_pd, 1), USER)
            self.expect('reg_mr of another context', lambda: self.dm.reg_mr(foreign_pd, 1), USER)
            self.expect('reg_mr on an unmade PD', lambda: self.dm.reg_mr(PD.__new__(PD), 1), USER)
            # A handle and a blob mean something through the same command fd only.
            self.expect('a handle of another context',
                        lambda: Mlx5DM.import_dm(foreign, self.dm.handle),
                        (errno.EINVAL, errno.ENOENT))
        foreign.close()

    def exports(self):
        try:
            return bool(Mlx5DevxUmem.get_export_size())
        except PyverbsRDMAError:
            return False

    def test_closed_and_unmade(self):
        """Whatever is asked of what was closed, or never made, with arguments right and wrong."""
        closed = [Mlx5DM(self.ctx, AllocDmAttr(64)), Mlx5DevxUmem(self.ctx, PAGE)]
        closed.append(closed[0].map_op_addr(0))
        closed[0].close()
        closed[1].close()
        objects = closed + [cls.__new__(cls) for cls in (Mlx5DM, Mlx5DevxUmem, Mlx5DMOpAddr)]
        arguments = (None, 0, 4, -1, 2**64, b'1234', bytearray(8), 'x')
        methods = {
            Mlx5DM: (('copy_to_dm', 2), ('copy_from_dm', 2), ('copy_from_dm_into', 2),
                     ('map_op_addr', 1), ('export_dmabuf_fd', 0), ('unimport', 0)),
            Mlx5DevxUmem: (('export', 0),),
            Mlx5DMOpAddr: (('read', 1), ('write', 1))}
        properties = {
            Mlx5DM: ('type', 'length', 'log_align_req', 'handle', 'remote_va', 'addr',
                     'is_imported'),
            Mlx5DevxUmem: ('umem_id', 'size', 'addr', 'umem_addr', 'access', 'pgsz_bitmap',
                           'page_sizes', 'is_imported'),
            Mlx5DMOpAddr: ('addr', 'op', 'widths', 'length')}
        with self.table(450):
            for obj in objects:
                name = type(obj).__name__
                for method, count in methods[type(obj)]:
                    call = getattr(obj, method)
                    for some in itertools.product(arguments, repeat=count):
                        # Which is told first does not matter: both are wrong.
                        self.expect(f'{name}.{method}{some} of {obj!r}',
                                    lambda c=call, s=some: c(*s), (USER, TYPE, Both(errno.EINVAL)))
                if isinstance(obj, Mlx5DM):
                    for value in arguments:
                        self.expect(f'reg_mr({value!r}) of {obj!r}',
                                    lambda o=obj, v=value: o.reg_mr(self.pd, v), (USER, TYPE))
                for attribute in properties[type(obj)]:
                    self.expect(f'{name}.{attribute} of {obj!r}',
                                lambda o=obj, a=attribute: getattr(o, a), USER)
                if isinstance(obj, Mlx5DevxUmem):
                    self.expect(f'memoryview of {obj!r}', lambda o=obj: memoryview(o), USER)
                    for value in arguments:
                        self.expect(f'umem_addr={value!r} of {obj!r}',
                                    lambda o=obj, v=value: setattr(o, 'umem_addr', v), USER)
                self.expect(f'{name}.close() of {obj!r}', obj.close, TAKEN)

    def test_nothing_can_be_set(self):
        """Attributes that tell cannot be set, and none can be deleted."""
        with self.table(40):
            for obj in (self.dm, self.op, self.umem):
                for name in [n for n in dir(type(obj)) if not n.startswith('_')
                             and n != 'umem_addr']:
                    if callable(getattr(type(obj), name)):
                        continue
                    self.expect(f'{name} set', lambda o=obj, n=name: self.attribute(
                        setattr, o, n, 1), TYPE)
                    self.expect(f'{name} deleted', lambda o=obj, n=name: self.attribute(
                        delattr, o, n), TYPE)

    def attribute(self, call, *arguments):
        """What is no attribute to set is no call that fits."""
        try:
            call(*arguments)
        except AttributeError as ex:
            raise TypeError(str(ex)) from ex


if __name__ == '__main__':
    unittest.main()
