# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
The state machine of mlx5_mem_machine.py: 10,000 steps; more by MLX5_MACHINE_EXAMPLES, which is also
what draws new ones each time.
"""
import gc
import os
import sys
import warnings

from tests.mlx5_mem_base import Mlx5MemTestCase

EXAMPLES = int(os.environ.get('MLX5_MACHINE_EXAMPLES', '0'))


class Mlx5MachineTest(Mlx5MemTestCase):
    def test_everything_in_any_order(self):
        # Only here: rdma-core's runner loads every file, and in its images Hypothesis is not.
        try:
            from tests import mlx5_mem_machine as machine
        except ImportError as ex:
            self.skipTest(f'Hypothesis is not here ({ex})')
        if gc.isenabled():
            self.addCleanup(gc.enable)
        self.addCleanup(gc.unfreeze)
        with warnings.catch_warnings():
            # A umem dropped under a key says so.
            warnings.simplefilter('ignore', ResourceWarning)
            steps = machine.run(self.dev_name, EXAMPLES)
        print(f'{steps} steps', file=sys.stderr)
        self.assertGreater(steps, EXAMPLES * 10 or 10000)
