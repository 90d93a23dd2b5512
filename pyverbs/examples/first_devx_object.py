# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
The first DEVX object: a memory key over a umem, made by a firmware command of our own.

    first_devx_object.py [DEVICE]

Documentation/tutorial.md goes through it line by line.
"""
import sys

from choose_device import choose_device
from mlx5_ifc import answer, answer_size, command
from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags, mlx5dv_obj_type
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DevxObj, Mlx5DVContextAttr
from pyverbs.providers.mlx5.mlx5dv_objects import Mlx5DvObj

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

PAGE, PAGES = 4096, 4
#: How a key finds its memory: by a table of pages.
MTT = 1


def create_mkey(ctx: Mlx5Context, pd: PD, umem: Mlx5DevxUmem) -> Mlx5DevxObj:
    """A key over all of a umem, for local reads and writes of any queue pair."""
    box = command('CREATE_MKEY', {
        'mkey_umem_valid': 1,
        'mkey_umem_id': umem.umem_id,
        # Two entries, of a page each, are one octword.
        'translations_octword_actual_size': PAGES // 2,
        'memory_key_mkey_entry.translations_octword_size': PAGES // 2,
        'memory_key_mkey_entry.access_mode_1_0': MTT,
        'memory_key_mkey_entry.log_page_size': PAGE.bit_length() - 1,
        'memory_key_mkey_entry.start_addr': umem.addr,
        'memory_key_mkey_entry.len': umem.size,
        'memory_key_mkey_entry.pd': Mlx5DvObj(mlx5dv_obj_type.MLX5DV_OBJ_PD, pd=pd).dvpd.pdn,
        'memory_key_mkey_entry.qpn': 0xffffff,
        'memory_key_mkey_entry.lr': 1,
        'memory_key_mkey_entry.lw': 1})
    return Mlx5DevxObj(ctx, box, answer_size('CREATE_MKEY'))


def main() -> int:
    """Run it; the exit status."""
    name = choose_device(*sys.argv[1:2])
    attr = Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX)
    with Mlx5Context(attr, name) as ctx, PD(ctx) as pd:
        umem = Mlx5DevxUmem(ctx, PAGES * PAGE, pgsz_bitmap=PAGE,
                            access=ibv_access_flags.IBV_ACCESS_LOCAL_WRITE)
        mkey = create_mkey(ctx, pd, umem)
        index = answer('CREATE_MKEY', mkey.out_view)['mkey_index']
        print(f'umem {umem.umem_id:#x}: {umem.size} bytes at {umem.addr:#x}')
        print(f'lkey {index << 8:#x} for them')
        # The key first: the card refuses to give up a umem that it uses.
        mkey.close()
        umem.close()
    return 0


if __name__ == '__main__':
    sys.exit(main())
