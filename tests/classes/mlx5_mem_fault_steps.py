# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" Each public operation of both classes, with each of its steps failing in turn: firmware commands
by every status, system calls by every errno, allocations of the libraries and of Python. Run with
mlx5_mem_faults.c preloaded; prints what it found as JSON.

    mlx5_mem_fault_steps.py DEVICE PRELOADED DMABUF [OPERATION...]

DMABUF is the descriptor of a dma-buf of a page at least.
"""
import ctypes
import errno
import gc
import json
import mmap
import os
import sys
import warnings

from pyverbs.device import AllocDmAttr
from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr
from pyverbs.pyverbs_error import PyverbsError, PyverbsRDMAError

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
from pyverbs.providers.mlx5.mlx5dv_dm import (
    Mlx5AllocDmAttr,
    Mlx5DM,
    Mlx5DMOpAddr,
    mlx5dv_alloc_dm_type,
    query_hca_cap,
)

if 'MLX5EMU_TESTS' in os.environ:
    sys.path.append(os.environ['MLX5EMU_TESTS'])
try:
    from mlx5emu.vm import control
except ImportError:
    control = None
try:
    import _testcapi
except ImportError:
    _testcapi = None

PAGE = mmap.PAGESIZE
WRITE = ibv_access_flags.IBV_ACCESS_LOCAL_WRITE

ALLOCATION, IOCTL, MMAP, NONE = range(4)
KINDS = {ALLOCATION: 'allocation', IOCTL: 'ioctl', MMAP: 'mmap'}
#: Not those by which libibverbs sees that the kernel is an old one.
ERRNOS = [errno.EPERM, errno.EINTR, errno.EIO, errno.ENXIO, errno.EBADF, errno.EAGAIN, errno.ENOMEM,
          errno.EACCES, errno.EFAULT, errno.EBUSY, errno.ENODEV, errno.EINVAL, errno.ENFILE,
          errno.EMFILE, errno.ENOSPC, errno.ETIMEDOUT, errno.EOPNOTSUPP, errno.EREMOTEIO]
#: What the kernel makes of the firmware's statuses.
STATUSES = {
    'INT_ERR': errno.EIO, 'BAD_OP': errno.EINVAL, 'BAD_PARAM': errno.EINVAL,
    'BAD_SYS_STATE': errno.EIO, 'BAD_RES': errno.EINVAL, 'RES_BUSY': errno.EBUSY,
    'EXCEED_LIM': errno.ENOMEM, 'BAD_RES_STATE': errno.EINVAL, 'BAD_INDEX': errno.EINVAL,
    'NO_RES': errno.EAGAIN, 'BAD_QP_STATE': errno.EINVAL, 'BAD_PKT': errno.EINVAL,
    'BAD_SIZE_OUTS_CQES': errno.EINVAL, 'BAD_INP_LEN': errno.EIO, 'BAD_OUTP_LEN': errno.EIO}
#: The kernel drops what the firmware answers to these, so that closing succeeds, and the card keeps
#: what it did not free: nobody above the kernel can tell.
DROPPED = 'DEALLOC_MEMIC', 'DESTROY_GENERAL_OBJECT'
SW_ICM = mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_STEERING_SW_ICM


class Operation:
    """One operation: made ready, done, and undone, as often as is wanted."""

    def __init__(self, name, prepare, act, undo, after=None):
        self.name, self.prepare, self.act, self.undo = name, prepare, act, undo
        #: Looks at what was prepared once the operation was refused: what is made or closed.
        self.after = after


def creation(name, cls, *args, **kwargs):
    """An object that is made, whose __init__ can be called again after a refusal."""
    def after(obj):
        assert obj.closed, 'refused, and open'
    return Operation(name, lambda: cls.__new__(cls), lambda obj: obj.__init__(*args, **kwargs),
                     lambda obj: obj.close(), after)


def closing(name, make):
    """An object that is closed; refused, it is open as before. make() returns it, and what has to
    live as long."""
    def after(made):
        assert not made[0].closed, 'refused, and closed'

    def undo(made):
        for obj in made:
            obj.close()
    return Operation(name, make, lambda made: made[0].close(), undo, after)


class Steps:
    """All operations on one context, and what was found."""

    def __init__(self, device, preloaded, dmabuf):
        self.device = device
        self.fault = ctypes.CDLL(preloaded)
        self.card = control is not None and control.available()
        self.ctx = self.open()
        self.pd = PD(self.ctx)
        self.owner = Mlx5DM(self.ctx, AllocDmAttr(4096))
        self.memory = bytearray(4 * PAGE)
        self.dmabuf = dmabuf
        self.found, self.pairs, self.repeated = [], {}, 0
        # What is here already need not be looked at at each collection (Python 3.7).
        gc.collect()
        if hasattr(gc, 'freeze'):
            gc.freeze()

    def open(self):
        """A context with DEVX."""
        return Mlx5Context(Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX),
                           self.device)

    def operations(self):
        """Every operation that takes a step outside of Python."""
        ctx, attr = self.ctx, AllocDmAttr(256)
        icm = Mlx5AllocDmAttr(SW_ICM)

        def dm():
            return Mlx5DM(ctx, attr)

        def umem(**kwargs):
            return Mlx5DevxUmem(ctx, PAGE, access=WRITE, **kwargs)

        def dm_in_use():
            made = dm()
            return [made, made.reg_mr(self.pd, 1), made.map_op_addr(0)]

        def close_all(made):
            for obj in made:
                obj.close()
        found = [
            creation('umem of own memory', Mlx5DevxUmem, ctx, PAGE, access=WRITE),
            creation('umem of aligned memory', Mlx5DevxUmem, ctx, PAGE, alignment=1 << 21),
            creation('umem with page sizes', Mlx5DevxUmem, ctx, 3 * PAGE, pgsz_bitmap=[PAGE]),
            creation('umem of a buffer', Mlx5DevxUmem, ctx, buffer=self.memory, access=WRITE),
            creation('umem of a dma-buf', Mlx5DevxUmem, ctx, PAGE, dmabuf_fd=self.dmabuf),
            closing('close a umem', lambda: [umem()]),
            closing('close a umem of a dma-buf', lambda: [umem(dmabuf_fd=self.dmabuf)]),
            creation('MEMIC', Mlx5DM, ctx, attr),
            creation('SW ICM', Mlx5DM, ctx, attr, icm),
            creation('import MEMIC', Mlx5DM, ctx, handle=self.owner.handle),
            closing('close MEMIC', lambda: [dm()]),
            closing('close SW ICM', lambda: [Mlx5DM(ctx, attr, icm)]),
            closing('close an import', lambda: [Mlx5DM.import_dm(ctx, self.owner.handle)]),
            closing('close MEMIC with children', dm_in_use),
            creation('operation address', Mlx5DMOpAddr, self.owner, 0),
            closing('close an operation address', lambda: [self.owner.map_op_addr(1)]),
            Operation('MR', lambda: [], lambda made: made.append(self.owner.reg_mr(self.pd, 1)),
                      close_all),
            Operation('MR on SW ICM', lambda: [Mlx5DM(ctx, attr, icm)],
                      lambda made: made.insert(0, made[-1].reg_mr(self.pd, 1)), close_all),
            Operation('query_hca_cap', lambda: [], lambda made: query_hca_cap(ctx, 0), close_all),
            Operation('query_caps', lambda: [], lambda made: Mlx5DM.query_caps(ctx), close_all),
            Operation('refused MEMIC', lambda: Mlx5DM.__new__(Mlx5DM), self.refused_memic,
                      lambda obj: obj.close()),
            Operation('copies', lambda: [], self.copies, close_all)]
        kept = umem()
        try:
            blob = kept.export()
        except PyverbsRDMAError:
            kept.close()
            return found
        return [
            *found,
            Operation('export a umem', lambda: [], lambda made: kept.export(), close_all),
            Operation('import a umem', lambda: [],
                      lambda made: made.append(Mlx5DevxUmem.import_umem(ctx, blob)), close_all),
            Operation('export MEMIC', lambda: [], lambda made: os.close(
                self.owner.export_dmabuf_fd()), close_all)]

    def refused_memic(self, obj):
        """A refusal whose text asks the device."""
        try:
            obj.__init__(self.ctx, AllocDmAttr(1 << 40))
        except PyverbsRDMAError as ex:
            if ex.error_code != errno.EINVAL:
                raise

    def copies(self, made):
        """What takes no step outside of this process."""
        del made
        self.owner.copy_to_dm(0, bytes(64))
        self.owner.copy_from_dm(0, 64)
        self.owner.copy_from_dm_into(0, bytearray(64))

    # ---- one pair

    def truth(self):
        """What card, kernel and process hold."""
        gc.collect()
        with open('/proc/self/status') as status:
            pinned = [line for line in status if line.startswith(('VmPin', 'VmLck'))]
        live = {kind: len(ids) for kind, ids in control.call('objects').items()} if self.card \
            else {}
        with open('/proc/self/maps') as maps:
            mapped = sum('/dev/infiniband/uverbs' in line for line in maps)
        return live, len(os.listdir('/proc/self/fd')), mapped, pinned

    def pair(self, operation, what, begin, end, codes):
        """ One step of one operation fails.
        :param begin: Arms the fault
        :param end: Takes it back
        :param codes: Errnos that may be told; MemoryError if there are none
        """
        self.pairs[what.split()[0]] = self.pairs.get(what.split()[0], 0) + 1
        before = self.truth()
        made = operation.prepare()
        said = None
        begin()
        try:
            operation.act(made)
        except PyverbsRDMAError as ex:
            code, said = ex.error_code, str(ex)
        except MemoryError:
            code, said = None, 'MemoryError'
        except PyverbsError as ex:
            code, said = 'PyverbsError', str(ex)
        finally:
            end()
        try:
            if said is not None:
                if code not in codes:
                    self.note(operation, what, f'{code}: {said}')
                if operation.after is not None:
                    operation.after(made)
                # It can be used as if nothing had been.
                operation.act(made)
            operation.undo(made)
        except Exception as ex:
            self.note(operation, what, f'then {type(ex).__name__}: {ex}')
        del made
        after = self.truth()
        if after != before:
            self.note(operation, what, f'left {after}, there was {before}')
        return said is not None

    def note(self, operation, what, text):
        """Something that is not as it has to be."""
        self.found.append(f'{operation.name}, {what}: {text}')

    # ---- all of them

    def steps(self, operation):
        """How many allocations, ioctls and mmaps it makes, and its firmware commands."""
        made = operation.prepare()
        commands = dict(control.call('commands')) if self.card else {}
        self.fault.fault_arm(NONE, 0, 0)
        operation.act(made)
        self.fault.fault_disarm()
        asked = {name: count - commands.get(name, 0)
                 for name, count in control.call('commands').items()} if self.card else {}
        operation.undo(made)
        return [self.fault.fault_count(kind) for kind in KINDS], {
            name: count for name, count in asked.items() if count}

    def run(self, operation):
        """Every step of an operation, by everything that can become of it."""
        # What is made once is made now.
        self.steps(operation)
        counts, commands = self.steps(operation)
        for kind, name in KINDS.items():
            for n in range(counts[kind]):
                for code in [errno.ENOMEM] if kind == ALLOCATION else ERRNOS:
                    self.pair(operation, f'{name} {n} fails with {errno.errorcode[code]}',
                              lambda k=kind, n=n, c=code: self.fault.fault_arm(k, n, c),
                              self.fault.fault_disarm, (code,))
        for opcode, count in commands.items():
            if opcode in DROPPED:
                continue
            for skip in range(count):
                for status, code in STATUSES.items():
                    self.pair(operation, f'command {opcode} {skip} fails with {status}',
                              lambda o=opcode, k=skip, s=status: control.call(
                                  'fault', opcode=o, status=s, skip=k),
                              lambda: control.call('faults_clear'), (code, errno.EREMOTEIO))
        for n in range(400 if _testcapi else 0):
            if not self.pair(operation, f'object {n} of Python cannot be allocated',
                             lambda n=n: _testcapi.set_nomemory(n, n + 1),
                             _testcapi.remove_mem_hooks, (None,)) and n > 40:
                break

    def repeat(self, operation, times=1000):
        """Refused again and again, it leaves no byte: neither of Python's nor of the libraries'."""
        grown = []
        for _ in range(3):
            before = sys.getallocatedblocks(), self.heap()
            made = operation.prepare()
            for _ in range(times):
                self.fault.fault_arm(IOCTL, 0, errno.ENOMEM)
                try:
                    operation.act(made)
                except PyverbsRDMAError:
                    pass
                finally:
                    self.fault.fault_disarm()
            operation.undo(made)
            del made
            gc.collect()
            grown.append((sys.getallocatedblocks() - before[0], self.heap() - before[1]))
        # What is made once is made in the first round.
        if min(blocks for blocks, _ in grown) > 20 or min(size for _, size in grown) > times:
            self.note(operation, f'refused {times} times', f'left blocks and bytes {grown}')
        self.repeated += times

    def heap(self):
        """Bytes that malloc() has given out."""
        class Mallinfo(ctypes.Structure):
            _fields_ = [(f'field{n}', ctypes.c_int) for n in range(10)]
        libc = ctypes.CDLL(None)
        libc.mallinfo.restype = Mallinfo
        return libc.mallinfo().field7


def main():
    """Run it."""
    device, preloaded, dmabuf, *only = sys.argv[1:]
    warnings.simplefilter('ignore', ResourceWarning)
    steps = Steps(device, preloaded, int(dmabuf))
    for operation in steps.operations():
        if not only or operation.name in only:
            steps.run(operation)
            if operation.after is not None:
                steps.repeat(operation)
    print(json.dumps({'pairs': steps.pairs, 'repeated': steps.repeated, 'found': steps.found}))


if __name__ == '__main__':
    main()
