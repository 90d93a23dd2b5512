# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The examples run, say what they are to say, and leave nothing on the card."""
import os
import subprocess
import sys
import unittest

from pyverbs.libibverbs_enums import IBV_LINK_LAYER_ETHERNET
from tests.mlx5_mem_base import Mlx5MemTestCase

EXAMPLES = os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', '..', 'pyverbs',
                        'examples')
HUGE_PAGES = '/proc/sys/vm/nr_hugepages'


class Mlx5ExamplesTest(Mlx5MemTestCase):
    def run_example(self, name, *expected, refused=''):
        """
        Run one.
        :param expected: Parts of what it prints
        :param refused: All that it says, if it is not for this device
        """
        path = os.path.join(EXAMPLES, name)
        if not os.path.exists(path):
            raise unittest.SkipTest(f'{name} is not installed beside the tests')
        done = subprocess.run([sys.executable, path, self.dev_name], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=600,
                              check=False)
        if 'no mlx5_ifc.h' in done.stderr:
            raise unittest.SkipTest(done.stderr.strip())
        self.assertEqual((done.returncode, done.stderr), (2 if refused else 0, refused))
        for text in expected:
            self.assertIn(text, done.stdout)
        # The driver keeps keys of MRs for the next ones, and a QP that updates them.
        for kind in ('memic', 'umem', 'general_object', 'flow_table', 'tir', 'rq'):
            self.assert_live(kind, 0)

    def test_first_devx_object(self):
        self.run_example('first_devx_object.py', 'umem 0x', 'lkey 0x')

    def test_devx_queue_pair(self):
        self.run_example('devx_queue_pair.py', 'completion with opcode 0',
                         "b'written by a queue pair that lives in umems'")

    def test_memic_traffic(self):
        self.run_example('memic_traffic.py', 'same bytes both ways')

    def test_memic_atomics(self):
        self.run_example('memic_atomics.py', 'the counter is 42', 'the lock was 0, then 1')

    def test_share_memic(self):
        self.run_example('share_memic.py', "the other process reads b'ping'",
                         "this one finds b'pong'")

    def test_sw_icm(self):
        layer = self.ctx.query_port(1).link_layer
        if layer != IBV_LINK_LAYER_ETHERNET:
            self.run_example('sw_icm.py', refused='sw_icm: not an Ethernet port\n')
            return
        self.run_example('sw_icm.py', '020000000001 is in the entry', 'queues [0, 1]',
                         '020000000002 is in the entry', 'queues [1, 0]')

    def test_huge_page_umem(self):
        with open(HUGE_PAGES) as file:
            before = file.read()
        try:
            with open(HUGE_PAGES, 'w') as file:
                file.write('4')
        except OSError:
            raise unittest.SkipTest('Only root makes huge pages') from None
        try:
            self.run_example('huge_page_umem.py', 'one page of 2097152 bytes')
        finally:
            with open(HUGE_PAGES, 'w') as file:
                file.write(before)

    def test_numpy_umem(self):
        try:
            import numpy  # noqa: F401
        except ImportError:
            raise unittest.SkipTest('No NumPy') from None
        self.run_example('numpy_umem.py', '32768 bytes of a (64, 128) table', 'a column: ',
                         'can only read')

    def test_dmabuf_umem(self):
        if not os.path.exists('/dev/udmabuf'):
            raise unittest.SkipTest('No /dev/udmabuf: `modprobe udmabuf` adds it')
        self.run_example('dmabuf_umem.py', 'dma-buf offset=0x1000')

    def test_every_example_has_a_test(self):
        if not os.path.isdir(EXAMPLES):
            raise unittest.SkipTest('The examples are not installed beside the tests')
        programs = [name[:-3] for name in os.listdir(EXAMPLES) if name.endswith('.py')]
        for name in programs:
            with open(os.path.join(EXAMPLES, f'{name}.py')) as file:
                text = file.read()
            with self.subTest(name):
                if name in ('demo', 'mlx5_ifc', 'devx_commands'):
                    continue
                self.assertLess(text.count('\n'), 80)
                if '__main__' in text:
                    self.assertTrue(hasattr(self, f'test_{name}'))
