# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What is counted: each piece of work with our classes and with upstream's, under callgrind, with
the stand-in library preloaded.

    counted.py STAND_IN TIMES FEW MANY

does each piece TIMES times after some rounds to warm up, and what must not grow beside so many
children. callgrind writes a dump for each, named
after it.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable

from pyverbs.device import DM, AllocDmAttr
from pyverbs.mr import DMMR
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags as flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr, Mlx5UMEM

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM

#: Until the interpreter has specialized the code and every cache is filled.
WARM = 50
LENGTH = 4096


def repeat(work: Callable[[], object], rounds: int) -> None:
    """Do a piece of work so many times."""
    for _ in range(rounds):
        work()


def works(ctx: Mlx5Context) -> dict[str, Callable[[], object]]:
    """Return each piece of work by its name; "upstream" at the end is what ours is compared with.
    """
    memory = ctypes.create_string_buffer(2 * LENGTH)
    addr = ctypes.addressof(memory) + LENGTH & -LENGTH
    attr = AllocDmAttr(length=LENGTH)
    dm, umem = Mlx5DM(ctx, attr), Mlx5DevxUmem(ctx, LENGTH, addr)
    their_dm, their_umem = DM(ctx, attr), Mlx5UMEM(ctx, LENGTH, addr)
    word, page, into = bytes(4), bytes(LENGTH), bytearray(LENGTH)
    return {
        'nothing': lambda: None,
        'umem': lambda: Mlx5DevxUmem(ctx, LENGTH).close(),
        'umem upstream': lambda: Mlx5UMEM(ctx, LENGTH, alignment=LENGTH).close(),
        'umem by addr': lambda: Mlx5DevxUmem(ctx, LENGTH, addr).close(),
        'umem by addr upstream': lambda: Mlx5UMEM(ctx, LENGTH, addr).close(),
        'umem with bitmap': lambda: Mlx5DevxUmem(ctx, LENGTH, addr, pgsz_bitmap=LENGTH).close(),
        'umem with bitmap upstream': lambda: Mlx5UMEM(ctx, LENGTH, addr, pgsz_bitmap=LENGTH).close(
        ),
        'dm': lambda: Mlx5DM(ctx, attr).close(),
        'dm upstream': lambda: DM(ctx, attr).close(),
        'copy_to_dm 4': lambda: dm.copy_to_dm(0, word),
        'copy_to_dm 4 upstream': lambda: their_dm.copy_to_dm(0, word, 4),
        'copy_from_dm 4': lambda: dm.copy_from_dm(0, 4),
        'copy_from_dm 4 upstream': lambda: their_dm.copy_from_dm(0, 4),
        'copy_to_dm 4096': lambda: dm.copy_to_dm(0, page),
        'copy_to_dm 4096 upstream': lambda: their_dm.copy_to_dm(0, page, LENGTH),
        'copy_from_dm 4096': lambda: dm.copy_from_dm(0, LENGTH),
        'copy_from_dm 4096 upstream': lambda: their_dm.copy_from_dm(0, LENGTH),
        'copy_from_dm_into 4096': lambda: dm.copy_from_dm_into(0, into),
        'umem_id': lambda: umem.umem_id,
        'umem_id upstream': lambda: their_umem.umem_id,
        'umem_addr': lambda: umem.umem_addr,
        'umem_addr upstream': lambda: their_umem.umem_addr,
        'size': lambda: umem.size,
        'handle': lambda: dm.handle,
        'handle upstream': lambda: their_dm.handle,
        'length': lambda: dm.length,
        'type': lambda: dm.type, }


def beside_children(ctx: Mlx5Context, pd: PD, count: int, counted: Callable[..., None]) -> None:
    """Count an MR made and closed beside so many live ones of a DM, and the closing of that DM, a
    child."""
    dm = Mlx5DM(ctx, AllocDmAttr(length=LENGTH))
    live = [DMMR(pd, 8, 0, dm, 0) for _ in range(count)]
    counted(f'MR beside {count}', lambda: DMMR(pd, 8, 0, dm, 0).close())
    counted(f'close a child of {count}', dm.close, rounds=1, warm=0)
    assert dm.closed
    del live


def main(stand_in: str, times: str, *children: str) -> int:
    """Do it; the arguments are those of the command line."""
    library = ctypes.PyDLL(stand_in)
    gc.disable()

    def counted(name: str, work: Callable[[], object], rounds: int = int(times),
                warm: int = WARM) -> None:
        repeat(work, warm)
        library.stand_in_begin()
        repeat(work, rounds)
        library.stand_in_end(name.encode())

    ctx = Mlx5Context(Mlx5DVContextAttr(flags=flags.MLX5DV_CONTEXT_FLAGS_DEVX), name='mlx5_0')
    for name, work in works(ctx).items():
        counted(name, work)
    with PD(ctx) as pd:
        for count in children:
            beside_children(ctx, pd, int(count), counted)
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
