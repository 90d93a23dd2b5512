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
import sys
import threading
import time
import weakref

from mlx5_mem_defects import Cases, growth, mappings
from pyverbs.device import DM, AllocDmAttr, Context, get_device_list
from pyverbs.providers.mlx5.mlx5dv import Mlx5DmOpAddr
from pyverbs.pyverbs_error import PyverbsError

from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM, Mlx5DMOpAddr

LENGTH = 4096
LARGE = 256 << 10
COPIES = 1000
CASES = Cases()


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


def closed(side):
    dm = side.dm()
    dm.close()
    return dm


@CASES.case('D1', 'handle of a closed DM')
def d1_handle(side):
    return closed(side).handle


@CASES.case('D1', 'copy_to_dm of a closed DM')
def d1_to(side):
    closed(side).copy_to_dm(0, b'abcd', 4)


@CASES.case('D1', 'copy_from_dm of a closed DM')
def d1_from(side):
    closed(side).copy_from_dm(0, 4)


@CASES.case('D2', "copy_to_dm(0, b'ab', 4096)")
def d2(side):
    dm = side.dm()
    dm.copy_to_dm(0, bytes(LENGTH), LENGTH)
    heap = [bytes([0xa5]) * 4096 for _ in range(50)]
    dm.copy_to_dm(0, b'ab', LENGTH)
    sent = sum(byte != 0 for byte in dm.copy_from_dm(0, LENGTH)[2:])
    del heap
    return f'sent, with {sent} foreign bytes that are not 0'


@CASES.case('D3', 'copy_to_dm(2**64 - 4, 8 bytes)')
def d3(side):
    before, dm = side.dm(), side.dm()
    before.copy_to_dm(0, bytes(LENGTH), LENGTH)
    dm.copy_to_dm(2**64 - 4, b'spoilt!!', 8)
    return f'accepted; first bytes {bytes(dm.copy_from_dm(0, 4))}'


@CASES.case('D4', 'copy_from_dm(0, 1 << 62)')
def d4(side):
    side.dm().copy_from_dm(0, 1 << 62)


@CASES.case('D5', '400 misaligned reads of 256 KiB')
def d5(side):
    dm = side.dm(LARGE)
    return growth(400, lambda: dm.copy_from_dm(2, LARGE - 4))


@CASES.case('D6', 'DM(context) without attributes')
def d6_attr(side):
    return side.dm_class(side.ctx)


@CASES.case('D6', 'DM(None, handle=1)')
def d6_context(side):
    return side.dm_class(None, handle=1)


@CASES.case('D7', 'unimport() twice')
def d7_twice(side):
    dm = side.dm()
    twin = side.dm_class(side.ctx, handle=dm.handle)
    twin.unimport()
    twin.unimport()


@CASES.case('D7', 'unimport() of memory that was allocated, then close()')
def d7_own(side):
    dm = side.dm()
    dm.unimport()
    dm.close()


@CASES.case('D8', 'close() of 10 imports')
def d8(side):
    dm = side.dm()
    base = mappings()
    for _ in range(10):
        side.dm_class(side.ctx, handle=dm.handle).close()
    gc.collect()
    return f'{mappings() - base} mappings left'


@CASES.case('D9', 'another thread during copies')
def d9(side):
    dm, data = side.dm(LARGE), bytes(LARGE)
    ran, go = threading.Event(), threading.Event()
    other = threading.Thread(target=lambda: (go.wait(), ran.set()), daemon=True)
    other.start()
    sys.setswitchinterval(1000)
    go.set()
    # In so many copies it gets its turn, if it can, on a machine that is as busy as it may be.
    copies, end = 0, time.monotonic() + 2
    while not ran.is_set() and (copies < COPIES or time.monotonic() < end):
        dm.copy_to_dm(0, data, LARGE)
        copies += 1
    seen = ran.is_set()
    sys.setswitchinterval(0.005)
    return 'runs' if seen else 'stands still: the GIL is kept'


@CASES.case('D10', 'questions to the device per allocation')
def d10(side):
    class Counting(Context):
        asked = 0

        def query_device_ex(self, *args, **kwargs):
            Counting.asked += 1
            return super().query_device_ex(*args, **kwargs)
    with Counting(name=side.name) as ctx:
        side.dm_class(ctx, AllocDmAttr(length=LENGTH)).close()
        return f'{Counting.asked}'


@CASES.case('D13', 'close() with an operation address mapped')
def d13(side):
    base = mappings()
    dm = side.dm()
    # Not dropped before they are counted: dropping it unmaps, too.
    side.address = side.op(dm)
    dm.close()
    return f'{mappings() - base} mappings left'


@CASES.case('O1', 'set_log_level()')
def o1(side):
    side.op(side.dm()).set_log_level(20)
    return 'works'


@CASES.case('O2', 'operation address of a closed DM')
def o2(side):
    side.op(closed(side))


@CASES.case('O3', 'unmap() with twice the length')
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


@CASES.case('O3', 'unmap() twice, then read(4)')
def o3_read(side):
    address = side.op(side.dm())
    address.unmap(LENGTH)
    address.unmap(LENGTH)
    address.read(4)


@CASES.case('O4', 'mappings after `with`, 10 times')
def o4(side):
    dm = side.dm()
    base = mappings()
    for _ in range(10):
        with side.op(dm):
            pass
    return f'{mappings() - base} left'


@CASES.case('O4', 'read(4) after close()')
def o4_read(side):
    address = side.op(side.dm())
    address.close()
    address.read(4)


@CASES.case('O5', '200 refused reads of 1 MiB')
def o5(side):
    address = side.op(side.dm())
    return growth(200, lambda: address.read(1 << 20))


@CASES.case('O6', 'write of 3 bytes')
def o6(side):
    side.op(side.dm()).write(b'abc')
    return 'says nothing'


@CASES.case('O7', 'DM dropped while its operation address lives')
def o7(side):
    dm = side.dm()
    seen = weakref.ref(dm)
    side.address = side.op(dm)
    del dm
    gc.collect()
    return 'DM is kept' if seen() else 'DM is freed under it'


@CASES.case('G1', 'Context.close() while one DM refuses once, then again')
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


@CASES.case('D12', 'dma-buf after an operation was mapped: what an RDMA READ through it brings')
def d12(side):
    from mlx5_mem_traffic import REMOTE, Loopback
    from pyverbs.libibverbs_enums import ibv_wc_status
    from pyverbs.mr import DmaBufMR
    from pyverbs.pd import PD

    dm, data = side.dm(), bytes(i & 0xff for i in range(LENGTH))
    dm.copy_to_dm(0, data, LENGTH)
    side.address = side.op(dm)
    fd = dm.export_dmabuf_fd()
    with PD(side.ctx) as pd, DmaBufMR(pd, LENGTH, REMOTE, fd, 0) as mr, Loopback(
            side.ctx, pd, LENGTH) as loopback:
        status, got = loopback.read(mr.rkey, 0)
        if status != ibv_wc_status.IBV_WC_SUCCESS:
            return f"{status.name}: the page is the operation's"
        return 'the memory' if got == data else 'something else'


@CASES.case('G2', 'DM in a cycle of its own, with the last reference to its context')
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


if __name__ == '__main__':
    CASES.run(lambda: Side(DM, Mlx5DmOpAddr), lambda: Side(Mlx5DM, Mlx5DMOpAddr))
