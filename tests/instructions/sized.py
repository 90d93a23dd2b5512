# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Print as JSON how many bytes Python allocates for one live object of each kind. The stand-in
library is preloaded, so that no device is needed."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import tracemalloc
from collections.abc import Callable

from pyverbs.device import AllocDmAttr
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags as flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM

LENGTH, COUNT = 4096, 2000


def size_of(make: Callable[[], object]) -> float:
    """Return the mean of many that live at once."""
    live: list[object] = [None] * COUNT
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for n in range(COUNT):
        live[n] = make()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return grown / COUNT


def main() -> int:
    """Do it."""
    ctx = Mlx5Context(Mlx5DVContextAttr(flags=flags.MLX5DV_CONTEXT_FLAGS_DEVX), name='mlx5_0')
    memory = ctypes.create_string_buffer(2 * LENGTH)
    addr = ctypes.addressof(memory) + LENGTH & -LENGTH
    attr = AllocDmAttr(length=LENGTH)
    print(json.dumps({
        'umem by addr': size_of(lambda: Mlx5DevxUmem(ctx, LENGTH, addr)),
        'umem': size_of(lambda: Mlx5DevxUmem(ctx, LENGTH)),
        'dm': size_of(lambda: Mlx5DM(ctx, attr))}))
    return 0


if __name__ == '__main__':
    sys.exit(main())
