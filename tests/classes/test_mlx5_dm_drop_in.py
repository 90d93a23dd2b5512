# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""rdma-core's own tests of DM, unchanged, with Mlx5DM in its place: it is one."""
import ast
import contextlib
import glob
import importlib
import multiprocessing
import os
import unittest
from unittest import mock

import pyverbs.device
from tests.mlx5_mem_base import Mlx5MemTestCase

from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM, Mlx5DMOpAddr

#: Where rdma-core's suite uses DM: module and class.
USERS = (('tests.test_device', 'DMTest'), ('tests.test_device', 'SharedDMTest'),
         ('tests.test_mr', 'DeviceMemoryAPITest'), ('tests.test_mr', 'DeviceMemoryTest'),
         ('tests.test_mlx5_dm_ops', 'Mlx5DmOpAddresses'))
#: A class that makes one for tests that are above.
RESOURCES = ('tests.test_mr', 'DeviceMemoryRes')
#: rdma-core's tests with processes hand them what cannot be pickled: where Python no longer forks
#: for that (3.14) they fail whatever the classes do.
FORKS = multiprocessing.get_start_method() == 'fork'


class Mlx5DMDropInTest(Mlx5MemTestCase):
    def run_upstream(self, **replaced):
        """
        Run them with classes replaced in pyverbs.device and in the tests' own names.
        :return: The names of the tests that ran
        """
        names = []
        for module_name, class_name in USERS:
            module = importlib.import_module(module_name)
            tests = unittest.TestLoader().loadTestsFromTestCase(getattr(module, class_name))
            with contextlib.ExitStack() as stack:
                for holder in (pyverbs.device, module):
                    for name, value in replaced.items():
                        if hasattr(holder, name):
                            stack.enter_context(mock.patch.object(holder, name, value))
                for test in tests:
                    if not FORKS and 'multi_process' in test.id():
                        continue
                    with self.subTest(test=test.id()):
                        result = unittest.TestResult()
                        test.run(result)
                        for _, text in result.failures + result.errors + result.skipped:
                            self.fail(text)
                        self.assertEqual(result.testsRun, 1)
                    names.append(test.id())
        return names

    def counting(self, kind):
        """A subclass that counts its objects."""
        class Counting(kind):
            made = 0

            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                Counting.made += 1
        return Counting

    def test_all_are_here(self):
        """No class of rdma-core's tests makes a DM without being in the list."""
        users = set()
        for path in glob.glob(
                os.path.join(os.path.dirname(importlib.import_module('tests.test_mr').__file__),
                             'test_*.py')):
            with open(path) as source:
                tree = ast.parse(source.read())
            users |= {
                (f'tests.{os.path.basename(path)[:-3]}', node.name) for node in tree.body
                if isinstance(node, ast.ClassDef) and any(
                    isinstance(call, ast.Call) and
                    getattr(call.func, 'id', getattr(call.func, 'attr', None)) == 'DM'
                    for call in ast.walk(node))}
        self.assertEqual(users, {*USERS, RESOURCES} - {('tests.test_mr', 'DeviceMemoryTest')})

    def test_dm(self):
        """With rdma-core's own Mlx5DmOpAddr on Mlx5DM."""
        dm = self.counting(Mlx5DM)
        names = self.run_upstream(DM=dm)
        self.assertGreaterEqual(len(names), 18)
        self.assertGreaterEqual(dm.made, len(names) - 2)
        self.assert_live('memic', 0)

    def test_dm_and_operations(self):
        """With Mlx5DMOpAddr in the other's place too."""
        op = self.counting(Mlx5DMOpAddr)
        self.run_upstream(DM=Mlx5DM, Mlx5DmOpAddr=op)
        self.assertGreaterEqual(op.made, 22)
        self.assert_live('memic', 0)
