# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Random calls of the whole of Mlx5DM by several threads: none ends the interpreter, none raises
what it should not, nothing stays on the card."""
import os
import subprocess
import sys

from tests.mlx5_mem_base import Mlx5MemTestCase

PROGRAM = os.path.join(os.path.dirname(os.path.realpath(__file__)), 'dm_fuzz.py')
#: More by hand: MLX5_DM_FUZZ=100 runs so many seeds.
SEEDS = int(os.environ.get('MLX5_DM_FUZZ', '3'))


class Mlx5DMFuzzTest(Mlx5MemTestCase):
    #: What hangs says where, and all of it is wanted.
    maxDiff = None

    def fuzz(self, seed, actions, threads):
        done = subprocess.run(
            [sys.executable, '-X', 'faulthandler', PROGRAM,
             str(seed),
             str(actions),
             str(threads)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            universal_newlines=True, timeout=600, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, f'seed {seed}: nothing found\n'))
        for kind in ('memic', 'general_object'):
            self.assert_live(kind, 0)

    def test_threads(self):
        """Four threads on the same objects."""
        for seed in range(1, SEEDS + 1):
            with self.subTest(seed=seed):
                self.fuzz(seed, 150, 4)
