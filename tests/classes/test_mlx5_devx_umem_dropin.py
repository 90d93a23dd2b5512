# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" rdma-core's own tests that use Mlx5UMEM, with Mlx5DevxUmem in its place: traffic between DEVX
queue pairs whose queues and doorbell records are umems.
"""
import os
import unittest
from unittest import mock

import tests.mlx5_base
import tests.test_mlx5_devx
from pyverbs.providers.mlx5.mlx5dv import Mlx5UMEM
from tests.mlx5_mem_umem import Mlx5DevxUmemTestCase

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem


def run_with(kind):
    """
    Run rdma-core's DEVX tests with a class in place of Mlx5UMEM.
    :return: What came of each test, by name, and how many umems were made
    """
    made = []

    class Counted(kind):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(1)
    result, settled = unittest.TestResult(), {}
    with mock.patch.object(tests.mlx5_base, 'Mlx5UMEM', Counted):
        for test in unittest.TestLoader().loadTestsFromModule(tests.test_mlx5_devx):
            for case in test:
                before = len(result.failures) + len(result.errors), len(result.skipped)
                case.run(result)
                name = case.id().rpartition('.')[2]
                if len(result.failures) + len(result.errors) > before[0]:
                    settled[name] = (result.errors + result.failures)[-1][1]
                elif len(result.skipped) > before[1]:
                    settled[name] = f'skipped: {result.skipped[-1][1]}'
                else:
                    settled[name] = 'ok'
    return settled, len(made)


class Mlx5DevxUmemDropInTest(Mlx5DevxUmemTestCase):
    def test_rdma_core_tests(self):
        """The same tests pass, skip for the same reasons, and make the same number of umems; all
        are freed."""
        theirs = run_with(Mlx5UMEM)
        if all('scapy' in how for how in theirs[0].values()):
            self.skipTest("rdma-core's DEVX tests want the package scapy")
        ours = run_with(Mlx5DevxUmem)
        self.assertEqual(ours, theirs)
        # Queues and doorbell records, of each test that passed.
        passed = [name for name, how in ours[0].items() if how == 'ok']
        self.assertIn('test_devx_rc_qp_send_imm_traffic', passed)
        self.assertGreaterEqual(ours[1], 4 * len(passed))
        for name, how in ours[0].items():
            self.assertTrue(how == 'ok' or how.startswith('skipped'), f'{name}: {how}')
        self.assert_live('umem', 0)

    def test_every_user_of_the_class_is_known(self):
        """Whatever of rdma-core's tests makes a Mlx5UMEM is run above, or wants what is not here: a
        GPU, or a function to itself."""
        directory = os.path.dirname(tests.mlx5_base.__file__)
        found = set()
        for name in os.listdir(directory):
            # Ours are beside them.
            if name.endswith('.py') and not name.startswith(('test_mlx5_devx_umem', 'mlx5_mem')):
                with open(os.path.join(directory, name)) as file:
                    text = file.read()
                if 'Mlx5UMEM' in text or 'Mlx5DevxRcResources' in text:
                    found.add(name)
        self.assertLessEqual({'mlx5_base.py', 'test_mlx5_devx.py'}, found)
        self.assertLessEqual(
            found,
            {'mlx5_base.py', 'test_mlx5_devx.py', 'test_mlx5_cuda_umem.py', 'test_mlx5_vfio.py'})
