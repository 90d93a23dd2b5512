# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" What pyverbs' own DM and Mlx5DmOpAddr do where Mlx5DM and Mlx5DMOpAddr refuse, and the other way
round: a table.

    bash buildlib/quickstart.sh run -- python3 tests/classes/dm_defects.py

Each line is one misuse or one promise, carried out in a process of its own on both, since some do
not survive it. The table in Documentation/mlx5_dm.md comes from here. Nothing is judged; the tests
of our side are in test_mlx5_dm.py.
"""
import ctypes
import gc
import json
import os
import signal
import sys
import threading
import time
import weakref

from pyverbs.device import DM, AllocDmAttr, Context, get_device_list
from pyverbs.providers.mlx5.mlx5dv import Mlx5DmOpAddr
from pyverbs.pyverbs_error import PyverbsError

from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM, Mlx5DMOpAddr

LENGTH = 4096
LARGE = 256 << 10
CASES = []


class Side:
    """The classes of one side, and a device that is open."""

    def __init__(self, dm_class, op_class):
        self.dm_class, self.op_class = dm_class, op_class
        self.name = next(device.name.decode() for device in get_device_list())
        self.ctx = Context(name=self.name)

    def dm(self, length=LENGTH):
        return self.dm_class(self.ctx, AllocDmAttr(length=length))

    def op(self, dm, number=0):
        return self.op_class(dm, number)


def case(number, what):
    def keep(function):
        CASES.append((number, what, function))
        return function
    return keep


def mappings():
    with open('/proc/self/maps') as maps:
        return sum('/dev/infiniband/uverbs' in line for line in maps)


def size():
    with open('/proc/self/statm') as statm:
        return int(statm.read().split()[0]) * os.sysconf('SC_PAGESIZE')


def growth(times, call):
    """How much larger the process is after calls that are refused."""
    before = size()
    for _ in range(times):
        try:
            call()
        except PyverbsError:
            pass
    grown = (size() - before) / 1e6
    return f'process grew by {grown:.0f} MB' if grown >= 1 else 'no growth'


def closed(side):
    dm = side.dm()
    dm.close()
    return dm


@case('D1', 'handle of a closed DM')
def d1_handle(side):
    return closed(side).handle


@case('D1', 'copy_to_dm of a closed DM')
def d1_to(side):
    closed(side).copy_to_dm(0, b'abcd', 4)


@case('D1', 'copy_from_dm of a closed DM')
def d1_from(side):
    closed(side).copy_from_dm(0, 4)


@case('D2', "copy_to_dm(0, b'ab', 4096)")
def d2(side):
    dm = side.dm()
    dm.copy_to_dm(0, bytes(LENGTH), LENGTH)
    heap = [bytes([0xa5]) * 4096 for _ in range(50)]
    dm.copy_to_dm(0, b'ab', LENGTH)
    sent = sum(byte != 0 for byte in dm.copy_from_dm(0, LENGTH)[2:])
    del heap
    return f'sent, with {sent} foreign bytes that are not 0'


@case('D3', 'copy_to_dm(2**64 - 4, 8 bytes)')
def d3(side):
    before, dm = side.dm(), side.dm()
    before.copy_to_dm(0, bytes(LENGTH), LENGTH)
    dm.copy_to_dm(2**64 - 4, b'spoilt!!', 8)
    return f'accepted; first bytes {bytes(dm.copy_from_dm(0, 4))}'


@case('D4', 'copy_from_dm(0, 1 << 62)')
def d4(side):
    side.dm().copy_from_dm(0, 1 << 62)


@case('D5', '400 misaligned reads of 256 KiB')
def d5(side):
    dm = side.dm(LARGE)
    return growth(400, lambda: dm.copy_from_dm(2, LARGE - 4))


@case('D6', 'DM(context) without attributes')
def d6_attr(side):
    return side.dm_class(side.ctx)


@case('D6', 'DM(None, handle=1)')
def d6_context(side):
    return side.dm_class(None, handle=1)


@case('D7', 'unimport() twice')
def d7_twice(side):
    dm = side.dm()
    twin = side.dm_class(side.ctx, handle=dm.handle)
    twin.unimport()
    twin.unimport()


@case('D7', 'unimport() of memory that was allocated, then close()')
def d7_own(side):
    dm = side.dm()
    dm.unimport()
    dm.close()


@case('D8', 'close() of 10 imports')
def d8(side):
    dm = side.dm()
    base = mappings()
    for _ in range(10):
        side.dm_class(side.ctx, handle=dm.handle).close()
    gc.collect()
    return f'{mappings() - base} mappings left'


@case('D9', 'another thread during copies')
def d9(side):
    dm, data = side.dm(LARGE), bytes(LARGE)
    ran, go = threading.Event(), threading.Event()
    other = threading.Thread(target=lambda: (go.wait(), ran.set()), daemon=True)
    other.start()
    sys.setswitchinterval(1000)
    go.set()
    end = time.monotonic() + 2
    while not ran.is_set() and time.monotonic() < end:
        dm.copy_to_dm(0, data, LARGE)
    seen = ran.is_set()
    sys.setswitchinterval(0.005)
    return 'runs' if seen else 'stands still: the GIL is kept'


@case('D10', 'questions to the device per allocation')
def d10(side):
    class Counting(Context):
        asked = 0

        def query_device_ex(self, *args, **kwargs):
            Counting.asked += 1
            return super().query_device_ex(*args, **kwargs)
    with Counting(name=side.name) as ctx:
        side.dm_class(ctx, AllocDmAttr(length=LENGTH)).close()
        return f'{Counting.asked}'


@case('D13', 'close() with an operation address mapped')
def d13(side):
    base = mappings()
    dm = side.dm()
    address = side.op(dm)
    dm.close()
    return f'{mappings() - base} mappings left' + ('' if address else '')


@case('O1', 'set_log_level()')
def o1(side):
    side.op(side.dm()).set_log_level(20)
    return 'works'


@case('O2', 'operation address of a closed DM')
def o2(side):
    side.op(closed(side))


@case('O3', 'unmap() with twice the length')
def o3(side):
    dms = [side.dm() for _ in range(4)]
    addresses = [side.op(dm) for dm in dms]
    base = mappings()
    with open('/proc/self/maps') as maps:
        before = maps.read()
    addresses[2].unmap(2 * LENGTH)
    with open('/proc/self/maps') as maps:
        gone = before.count('\n') - maps.read().count('\n')
    return f'{base - mappings()} mappings of the device gone, {gone} lines of the map'


@case('O3', 'unmap() twice, then read(4)')
def o3_read(side):
    address = side.op(side.dm())
    address.unmap(LENGTH)
    address.unmap(LENGTH)
    address.read(4)


@case('O4', 'mappings after `with`, 10 times')
def o4(side):
    dm = side.dm()
    base = mappings()
    for _ in range(10):
        with side.op(dm):
            pass
    return f'{mappings() - base} left'


@case('O4', 'read(4) after close()')
def o4_read(side):
    address = side.op(side.dm())
    address.close()
    address.read(4)


@case('O5', '200 refused reads of 1 MiB')
def o5(side):
    address = side.op(side.dm())
    return growth(200, lambda: address.read(1 << 20))


@case('O6', 'write of 3 bytes')
def o6(side):
    side.op(side.dm()).write(b'abc')
    return 'says nothing'


@case('O7', 'DM dropped while its operation address lives')
def o7(side):
    dm = side.dm()
    seen = weakref.ref(dm)
    address = side.op(dm)
    del dm
    gc.collect()
    return ('DM is kept' if seen() else 'DM is freed under it') + ('' if address else '')


@case('G1', 'Context.close() while one DM refuses once, then again')
def g1(side):
    class Stubborn(side.dm_class):
        left = 1

        def close(self):
            if Stubborn.left:
                Stubborn.left -= 1
                raise PyverbsError('not now')
            super().close()
    ctx = Context(name=side.name)
    dms = [Stubborn(ctx, AllocDmAttr(length=LENGTH)) for _ in range(3)]
    try:
        ctx.close()
    except PyverbsError:
        pass
    ctx.close()
    for dm in dms:
        dm.close()
    return 'survived'


@case('D12', 'dma-buf after an operation was mapped: what an RDMA READ through it brings')
def d12(side):
    from mlx5_mem_traffic import REMOTE, Loopback
    from pyverbs.libibverbs_enums import ibv_wc_status
    from pyverbs.mr import DmaBufMR
    from pyverbs.pd import PD

    dm, data = side.dm(), bytes(i & 0xff for i in range(LENGTH))
    dm.copy_to_dm(0, data, LENGTH)
    address = side.op(dm)
    fd = dm.export_dmabuf_fd()
    with PD(side.ctx) as pd, DmaBufMR(pd, LENGTH, REMOTE, fd, 0) as mr, Loopback(
            side.ctx, pd, LENGTH) as loopback:
        status, got = loopback.read(mr.rkey, 0)
        if status != ibv_wc_status.IBV_WC_SUCCESS:
            return f"{status.name}: the page is the operation's" + ('' if address else '')
        return 'the memory' if got == data else 'something else'


@case('G2', 'DM in a cycle of its own, with the last reference to its context')
def g2(side):
    said = []
    sys.unraisablehook = lambda unraisable: said.append(str(unraisable.exc_value))
    # Freed memory is overwritten at once, so that using it shows.
    ctypes.CDLL(None).mallopt(-6, 0xa5)

    class Cyclic(side.dm_class):
        pass
    gc.collect()
    base = mappings()
    dm = Cyclic(Context(name=side.name), AllocDmAttr(length=LENGTH))
    dm.me = dm
    del dm
    gc.collect()
    return f'{mappings() - base} mappings left' + (f'; ignored: {said[0]}' if said else '')


def outcome(side, function):
    """Run in a child, which tells what became of it unless a signal ends it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        signal.alarm(20)
        try:
            text = str(function(Side(*side)))
        except Exception as ex:
            text = f'{type(ex).__name__}: {ex}'
        os.write(writer, text.replace('\n', ' ')[:160].encode())
        # The end of the interpreter, too, is something to survive.
        sys.exit(0)
    os.close(writer)
    with os.fdopen(reader, 'rb') as pipe:
        text = pipe.read().decode()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return f'{text}, then {name}' if text else name
    return text


UPSTREAM, OURS = (DM, Mlx5DmOpAddr), (Mlx5DM, Mlx5DMOpAddr)


def main():
    """Print the table, or with --json the rows: number, what, upstream's outcome, ours."""
    for number, what, function in CASES:
        row = [number, what, *(outcome(side, function) for side in (UPSTREAM, OURS))]
        print(json.dumps(row) if '--json' in sys.argv else f'| {" | ".join(row)} |', flush=True)


if __name__ == '__main__':
    main()
