# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The table of Documentation/mlx5_dm.md, carried out: what upstream's classes do wrong, Mlx5DM and
Mlx5DMOpAddr do not."""
import json
import os
import signal
import subprocess
import sys

from pyverbs.device import DM
from tests.mlx5_mem_base import Mlx5MemTestCase

PROGRAM = os.path.join(os.path.dirname(os.path.realpath(__file__)), 'dm_defects.py')
#: Seconds after which the program counts as hanging.
PATIENCE = 600
#: Cases in which nothing is wrong with upstream's classes of 59 to 65 as Cython 3 compiles them.
BOTH_RIGHT = ('O6',)
#: The case that needs dma-bufs of MEMIC, so rdma-core 65 and Linux 7.1; without, upstream has no
#: call or both are refused.
DMABUF = 'D12'
CAN_EXPORT = hasattr(DM, 'export_dmabuf_fd') and tuple(map(
    int,
    os.uname().release.split('.')[:2])) >= (7, 1)
SIGNALS = [s.name for s in signal.Signals]


class Mlx5DMDefectsTest(Mlx5MemTestCase):
    def test_ours_does_what_the_table_says_and_upstreams_does_not(self):
        # A process of its own: its cases end theirs in every way there is.
        done = subprocess.run([sys.executable, PROGRAM, '--json'], stdout=subprocess.PIPE,
                              text=True, timeout=PATIENCE, check=True)
        seen = {}
        for number, what, upstream, ours in map(json.loads, done.stdout.splitlines()):
            with self.subTest(number=number, what=what):
                seen.setdefault(number, []).append(ours)
                self.assertTrue(ours)
                self.assertFalse([name for name in SIGNALS if ours.endswith(name)], ours)
                if number == DMABUF and not CAN_EXPORT:
                    self.assertIn('Failed to export dmabuf FD for DM', ours)
                elif number == DMABUF:
                    self.assertEqual(ours, 'the memory')
                    self.assertNotEqual(upstream, ours)
                elif number in BOTH_RIGHT:
                    self.assertIn('Error', upstream)
                    self.assertIn('Mlx5DMError', ours)
                else:
                    self.assertNotEqual(upstream, ours)
        self.assertEqual(list(seen), [
            *(f'D{n}' for n in range(1, 11)), 'D13', *(f'O{n}'
                                                       for n in range(1, 8)), 'G1', 'D12', 'G2'])
        for number in ('D8', 'D13', 'O4', 'G2'):
            self.assertRegex(seen[number][0], '^0 (mappings )?left$')
        self.assertEqual((seen['D5'], seen['O5'], seen['D9'], seen['D10'], seen['G1']),
                         (['no growth'], ['no growth'], ['runs'], ['0'], ['survived']))
        self.assert_live('memic', 0)
