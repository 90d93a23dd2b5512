# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
Atomics by the CPU on device memory: a write to an operation address adds to MEMIC, a read of
another one takes a lock, both on the card.

    memic_atomics.py [DEVICE]
"""
import sys

import pyverbs.device as d
from choose_device import choose_device
from pyverbs.pyverbs_error import PyverbsRDMAError

from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM

#: The PRM's numbers of operations on MEMIC.
INCREMENT, TEST_AND_SET = 0, 1
COUNTER, LOCK = 0, 8


def main() -> int:
    """Run it; the exit status."""
    name = choose_device(*sys.argv[1:2])
    with d.Context(name=name) as ctx, Mlx5DM(ctx, d.AllocDmAttr(length=64)) as dm:
        dm.copy_to_dm(0, bytes(64))
        try:
            increment, lock = dm.map_op_addr(INCREMENT), dm.map_op_addr(TEST_AND_SET)
        except PyverbsRDMAError as ex:
            print(f'memic_atomics: {name} has no operations on MEMIC: {ex}', file=sys.stderr)
            return 2
        with increment, lock:
            for amount in (1, 2, 39):
                increment.write(amount.to_bytes(4, 'big'), COUNTER)
            found = [int.from_bytes(lock.read(4, LOCK), 'big') for _ in range(2)]
        print(f"the counter is {int.from_bytes(dm.copy_from_dm(COUNTER, 4), 'big')}")
        print(f'the lock was {found[0]}, then {found[1]}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
