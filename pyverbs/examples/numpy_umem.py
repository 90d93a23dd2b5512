# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
Arrays as umems: NumPy's, and what the card knows of a part of one.

    numpy_umem.py [DEVICE]

A tensor of PyTorch or JAX in host memory works alike: anything that has the buffer protocol or
speaks DLPack. Memory of a GPU goes by dma-buf: see dmabuf_umem.py.
"""
import sys

import numpy
from choose_device import choose_device
from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr
from pyverbs.pyverbs_error import PyverbsUserError

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem


def main() -> int:
    """Run it; the exit status."""
    name = choose_device(*sys.argv[1:2])
    attr = Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX)
    table = numpy.arange(8192, dtype=numpy.uint32).reshape(64, 128)
    with Mlx5Context(attr, name) as ctx:
        write = ibv_access_flags.IBV_ACCESS_LOCAL_WRITE
        with Mlx5DevxUmem(ctx, buffer=table, access=write) as umem:
            print(f'{umem.size} bytes of a {table.shape} table: umem {umem.umem_id:#x}')
            # No copy: what is written to the array, the card sees.
            table[0, 0] = 42
        # Rows that lie one behind the other are memory; a column is not.
        with Mlx5DevxUmem(ctx, buffer=table[8:16], access=write) as umem:
            print(f'{umem.size} bytes of eight rows')
        try:
            Mlx5DevxUmem(ctx, buffer=table[:, 1], access=write)
        except PyverbsUserError as ex:
            print(f'a column: {ex}')
        # Read-only memory is for a umem that the card only reads.
        frozen = numpy.ones(1024)
        frozen.flags.writeable = False
        with Mlx5DevxUmem(ctx, buffer=frozen, access=0) as umem:
            print(f'{umem.size} bytes that the card can only read')
    return 0


if __name__ == '__main__':
    sys.exit(main())
