# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
Device memory and umems of an mlx5 device, each kind once, with a table of what happened.

    demo.py [DEVICE]

Exit status: 0 if all went as it must, 1 if not, 2 if there is no device to try it on.
"""
import argparse
import errno
import os
import platform
import sys
import time
from typing import Any, Optional

import devx_commands
import pyverbs.device as d
from choose_device import choose_device
from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5_enums import (
    _MLX5DV_UAR_ALLOC_TYPE_NC,
    mlx5dv_context_attr_flags,
    mlx5dv_obj_type,
)
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DevxObj, Mlx5DVContextAttr, Mlx5UAR
from pyverbs.providers.mlx5.mlx5dv_objects import Mlx5DvObj
from pyverbs.pyverbs_error import PyverbsError, PyverbsRDMAError

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5AllocDmAttr, Mlx5DM, mlx5dv_alloc_dm_type

try:
    import numpy
except ImportError:
    numpy = None  # type: ignore[assignment]

LOCAL_WRITE = ibv_access_flags.IBV_ACCESS_LOCAL_WRITE
COLUMNS = ('what', 'type', 'bytes', 'address', 'id', 'result')
#: What a device, kernel or user may lack without anything being wrong.
LACKING = (errno.EOPNOTSUPP, errno.EPERM)


class Table:
    """Rows that are printed as they come, and whether all were as they must be."""

    FORMAT = '{:<34} {:<22} {:>8} {:>18} {:>8}  {}'

    def __init__(self) -> None:
        self.failed = 0
        print(self.FORMAT.format(*COLUMNS))
        print(self.FORMAT.format(*('-' * len(name) for name in COLUMNS)))

    def row(self, what: str, kind: str = '', size: Any = '', address: Optional[int] = None,
            number: Any = '', result: str = 'ok', good: bool = True) -> None:
        """
        Print a row.
        :param good: Whether this is how it must be
        """
        where = '' if address is None else f'{address:#x}'
        print(
            self.FORMAT.format(what, kind, size, where, number,
                               result if good else f'WRONG: {result}'), flush=True)
        self.failed += not good


def errno_of(ex: PyverbsRDMAError) -> str:
    """An errno as a person reads it."""
    code = getattr(ex, 'error_code', -1)
    return f'{errno.errorcode.get(code, code)} ({os.strerror(code)})' if code > 0 else str(ex)


def show_memic(table: Table, ctx: Mlx5Context) -> None:
    """MEMIC: allocate, write, read back, register."""
    with Mlx5DM(ctx, d.AllocDmAttr(length=4096)) as dm:
        table.row('allocate', dm.type.name[15:], dm.length, dm.addr, dm.handle)
        data = bytes(range(256)) * 16
        dm.copy_to_dm(0, data)
        table.row('  write and read back', size=len(data), result='same bytes',
                  good=dm.copy_from_dm(0, 4096) == data)
        pd = PD(ctx)
        with dm.reg_mr(pd, LOCAL_WRITE) as mr:
            table.row('  register an MR on it', 'DMMR', mr.length, number=f'{mr.lkey:#x}')
        pd.close()


def show_sw_icm(table: Table, ctx: Mlx5Context) -> None:
    """Each type of SW ICM with its ICM address."""
    for kind in mlx5dv_alloc_dm_type:
        if kind == mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_MEMIC:
            continue
        name = kind.name[15:].replace('_SW_ICM', '')
        try:
            with Mlx5DM(ctx, d.AllocDmAttr(length=4096), Mlx5AllocDmAttr(kind)) as dm:
                table.row('allocate SW ICM', name, dm.length, dm.remote_va, dm.handle)
        except PyverbsRDMAError as ex:
            table.row('allocate SW ICM', name, 4096, result=errno_of(ex), good=ex.error_code
                      in LACKING)


def show_umems(table: Table, ctx: Mlx5Context) -> None:
    """A umem of each source."""
    with Mlx5DevxUmem(ctx, 16384, access=LOCAL_WRITE) as umem:
        memoryview(umem)[:5] = b'hello'
        table.row('register', 'umem, own memory', umem.size, umem.addr, umem.umem_id)
    data = numpy.arange(4096, dtype=numpy.uint32) if numpy else bytearray(16384)
    with Mlx5DevxUmem(ctx, buffer=data, access=LOCAL_WRITE) as umem:
        table.row('register', f'umem, {type(data).__name__}', umem.size, umem.addr, umem.umem_id)
    with Mlx5DevxUmem(ctx, 16384, access=LOCAL_WRITE, pgsz_bitmap=[4096]) as umem:
        table.row('register', 'umem, 4 KiB pages', umem.size, umem.addr, umem.umem_id)


def show_use(table: Table, ctx: Mlx5Context) -> None:
    """A completion queue on a umem, which cannot be deregistered while that lives."""
    umem = Mlx5DevxUmem(ctx, 4096, access=LOCAL_WRITE)
    doorbell = Mlx5DevxUmem(ctx, 8, access=LOCAL_WRITE)
    uar = Mlx5UAR(ctx, _MLX5DV_UAR_ALLOC_TYPE_NC)
    cq = Mlx5DevxObj(
        ctx,
        devx_commands.create_cq(umem.umem_id, doorbell.umem_id, 6, uar.page_id,
                                ctx.devx_query_eqn(0)), devx_commands.OUT_LENGTH)
    table.row('create a DEVX CQ on a umem', 'CQ, 64 entries', umem.size, umem.addr,
              devx_commands.number_of(bytes(cq.out_view)))
    try:
        umem.close()
        table.row('  close the umem under it', result='was not refused', good=False)
    except PyverbsRDMAError as ex:
        table.row('  close the umem under it', result=f'refused: {errno_of(ex)}',
                  good=not umem.closed)
    cq.close()
    uar.close()
    umem.close()
    doorbell.close()
    table.row('  close the CQ, then the umem', good=umem.closed)


def show_context_close(table: Table, ctx: Mlx5Context) -> None:
    """An mkey on a umem, and MEMIC, left to the context."""
    pd = PD(ctx)
    pdn = Mlx5DvObj(mlx5dv_obj_type.MLX5DV_OBJ_PD, pd=pd).dvpd.pdn
    umem = Mlx5DevxUmem(ctx, 8192, access=LOCAL_WRITE, pgsz_bitmap=[4096])
    mkey = Mlx5DevxObj(ctx, devx_commands.create_mkey(umem.umem_id, umem.addr, umem.size, pdn),
                       devx_commands.OUT_LENGTH)
    number = devx_commands.number_of(bytes(mkey.out_view))
    table.row('create a DEVX mkey on a umem', 'mkey', umem.size, umem.addr, f'{number << 8:#x}')
    dm = Mlx5DM(ctx, d.AllocDmAttr(length=64))
    ctx.close()
    table.row('close the context', 'mkey, umem, MEMIC', result='all closed, in order',
              good=umem.closed and dm.closed)
    # Only to this point is the mkey needed: dropped earlier, it would have been destroyed then.
    del mkey


def main() -> int:
    """Run it; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0].strip())
    parser.add_argument('name', nargs='?', help='the device (default: the first of mlx5)')
    parser.add_argument('--device', help='the same')
    args = parser.parse_args()
    name = choose_device(args.device or args.name)
    start = time.monotonic()
    try:
        ctx = Mlx5Context(Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX),
                          name)
    except PyverbsError as ex:
        print(f'demo: {name} cannot be opened with DEVX: {ex}', file=sys.stderr)
        return 2
    attr = ctx.query_device()
    print(f'device {name}, firmware {attr.fw_version}, Linux {platform.release()}, '
          f'largest MEMIC {ctx.query_device_ex().max_dm_size} bytes')
    table = Table()
    try:
        show_memic(table, ctx)
        show_sw_icm(table, ctx)
        show_umems(table, ctx)
        show_use(table, ctx)
        show_context_close(table, ctx)
    except PyverbsError as ex:
        table.row('stopped', result=str(ex), good=False)
    verdict = f'{table.failed} WRONG' if table.failed else 'all as it must be'
    print(f'{verdict}, {time.monotonic() - start:.2f} s')
    return 1 if table.failed else 0


if __name__ == '__main__':
    sys.exit(main())
