# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" What pyverbs' own Mlx5UMEM does where Mlx5DevxUmem refuses, and the other way round: a table.

    bash buildlib/quickstart.sh run -- python3 tests/classes/umem_defects.py

Each line is one misuse or one promise, carried out in a process of its own on both, since some do
not survive it. The table in Documentation/mlx5_devx_umem.md comes from here. Nothing is judged; the
tests of our side are in test_mlx5_devx_umem.py.
"""
import copy
import ctypes
import gc
import os
import sys

from mlx5_mem_defects import Cases, growth
from pyverbs.device import Context, get_device_list
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr, Mlx5UMEM
from pyverbs.pyverbs_error import PyverbsError

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

#: Has the command that makes a memory key.
EXAMPLES = os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', '..', 'pyverbs',
                        'examples')
PAGE = 4096
CASES = Cases()


class Side:
    """The class of one side, and a device that is open with DEVX."""

    def __init__(self, umem_class):
        self.umem_class = umem_class
        self.name = next(device.name.decode() for device in get_device_list())
        flags = mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX
        self.ctx = Mlx5Context(Mlx5DVContextAttr(flags), self.name)

    def umem(self, size=PAGE, **kwargs):
        return self.umem_class(self.ctx, size, **{'alignment': PAGE, **kwargs})


def closed(side):
    umem = side.umem()
    umem.close()
    return umem


def mapped(address):
    """Whether an address is part of this process's memory."""
    with open('/proc/self/maps') as maps:
        ranges = [[int(x, 16) for x in line.split()[0].split('-')] for line in maps]
    return any(low <= address < high for low, high in ranges)


@CASES.case('U1', 'str() of a closed umem')
def u1_print(side):
    return f'says {str(closed(side)).strip()}'


@CASES.case('U1', 'umem_id of a closed umem')
def u1_id(side):
    return closed(side).umem_id


@CASES.case('U3', '200 refused registrations of 1 MiB')
def u3(side):
    return growth(200, lambda: side.umem(1 << 20, access=2))


@CASES.case('U4', 'close() under a live memory key')
def u4(side):
    return under_a_key(side)[0]


@CASES.case('U5', 'error_code of that refusal')
def u5(side):
    return f'{getattr(under_a_key(side)[1], "error_code", None)}'


def under_a_key(side):
    """Close a umem that a memory key uses; return what became of its memory, and the exception."""
    sys.path.append(EXAMPLES)
    from devx_commands import create_mkey
    from pyverbs.pd import PD
    from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_obj_type
    from pyverbs.providers.mlx5.mlx5dv import Mlx5DevxObj
    from pyverbs.providers.mlx5.mlx5dv_objects import Mlx5DvObj
    pd, umem = PD(side.ctx), side.umem(1 << 20, access=1)
    address = umem.umem_addr
    pdn = Mlx5DvObj(mlx5dv_obj_type.MLX5DV_OBJ_PD, pd=pd).dvpd.pdn
    key = Mlx5DevxObj(side.ctx, create_mkey(umem.umem_id, 0, PAGE, pdn), 16)
    # To the end of the process: closing them is another matter than what is asked here.
    side.kept = [key, umem, pd]
    try:
        umem.close()
    except PyverbsError as ex:
        what = 'kept' if mapped(address) else 'freed, while the device may write to it'
        return f'refused, memory {what}', ex
    return 'accepted', None


@CASES.case('U6', 'resizing a registered bytearray')
def u6(side):
    data = bytearray(1 << 20)
    if side.umem_class is Mlx5UMEM:
        address = ctypes.addressof(ctypes.c_char.from_buffer(data))
        umem = Mlx5UMEM(side.ctx, len(data), address, access=1)
    else:
        umem = side.umem_class(side.ctx, buffer=data, access=1)
    try:
        data.extend(bytes(8 << 20))
    except BufferError:
        return 'refused'
    finally:
        umem.close()
    return 'resized, the device keeps the old pages'


@CASES.case('U7', 'dmabuf_fd that is no dma-buf, without a mask')
def u7(side):
    side.umem(dmabuf_fd=os.pipe()[0])
    return 'registers other memory'


@CASES.case('U8', 'umem on a plain Context, which is closed')
def u8(side):
    ctx = Context(name=side.name)
    umem = side.umem_class(ctx, PAGE, alignment=PAGE)
    ctx.close()
    umem.close()
    return 'registered, closed'


@CASES.case('U10', 'unimport_umem() of an owned umem, then close()')
def u10(side):
    umem = side.umem()
    if not hasattr(umem, 'unimport_umem'):
        return 'no such method'
    umem.unimport_umem()
    umem.close()
    return 'registered until the context closes'


@CASES.case('G2', 'context and umem in one cycle')
def g2(side):
    class Holder:
        pass
    holder = Holder()
    holder.me, holder.ctx, holder.umem = holder, side.ctx, side.umem()
    side.ctx = None
    del holder
    gc.collect()
    return 'collected'


@CASES.case('G3', 'alignment=3')
def g3(side):
    side.umem(alignment=3)
    return 'accepted'


@CASES.case('', 'copy.copy() of a umem')
def copied(side):
    return f'says {copy.copy(side.umem())}'


if __name__ == '__main__':
    CASES.run(lambda: Side(Mlx5UMEM), lambda: Side(Mlx5DevxUmem))
