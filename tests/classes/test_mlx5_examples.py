# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The examples of device memory run, and traffic that they make arrives."""
import os
import subprocess
import sys
import unittest

from tests.mlx5_mem_base import Mlx5MemTestCase

EXAMPLES = os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', '..', 'pyverbs',
                        'examples')


class Mlx5DMExamplesTest(Mlx5MemTestCase):
    def run_example(self, name):
        path = os.path.join(EXAMPLES, name)
        if not os.path.exists(path):
            raise unittest.SkipTest(f'{name} is not installed beside the tests')
        done = subprocess.run([sys.executable, path, self.dev_name], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=600,
                              check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        for kind in ('memic', 'general_object'):
            self.assert_live(kind, 0)
        return done.stdout

    def test_memic_traffic(self):
        self.assertIn('same bytes both ways', self.run_example('memic_traffic.py'))

    def test_sw_icm(self):
        self.assertIn('written and read back by RDMA', self.run_example('sw_icm.py'))
