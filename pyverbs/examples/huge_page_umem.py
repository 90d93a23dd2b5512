# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
A umem on a huge page, which the card translates by one entry instead of 512.

    huge_page_umem.py [DEVICE]

Needs a free huge page: `echo 4 > /proc/sys/vm/nr_hugepages`.
"""
import mmap
import sys

from choose_device import choose_device
from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

HUGE = 2 << 20
#: Of <linux/mman.h>; Python's mmap has no name for it.
MAP_HUGETLB = 0x40000


def main() -> int:
    """Run it; the exit status."""
    name = choose_device(*sys.argv[1:2])
    try:
        memory = mmap.mmap(-1, HUGE, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | MAP_HUGETLB)
    except OSError as ex:
        print(f'huge_page_umem: no huge page: {ex.strerror}; '
              '`echo 4 > /proc/sys/vm/nr_hugepages` makes some', file=sys.stderr)
        return 2
    attr = Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX)
    with Mlx5Context(attr, name) as ctx:
        # Any power of two from 4 KiB to 2 MiB will do; the kernel takes the largest that fits.
        with Mlx5DevxUmem(ctx, buffer=memory, pgsz_bitmap=HUGE,
                          access=ibv_access_flags.IBV_ACCESS_LOCAL_WRITE) as umem:
            print(f'{umem.size} bytes at {umem.addr:#x}: one page of {HUGE} bytes: {umem!r}')
        # The umem held the mapping; without it the memory can go.
        memory.close()
    return 0


if __name__ == '__main__':
    sys.exit(main())
