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
#: The case that an exception of upstream's tells of when Cython 3 compiled it, and nothing before.
TOLD_BY_CYTHON_3 = 'O6'
#: The case that is right when Cython 0.29 compiled upstream's class.
RIGHT_BEFORE = 'O5'
#: Upstream's takes a neighbour along, where the memory map has one.
BY_CHANCE = 'unmap() with twice the length'
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
                              universal_newlines=True, timeout=PATIENCE, check=True)
        seen, rows = {}, [json.loads(line) for line in done.stdout.splitlines()]
        old = any(row[0] == TOLD_BY_CYTHON_3 and 'Error' not in row[2] for row in rows)
        for number, what, upstream, ours in rows:
            with self.subTest(number=number, what=what):
                seen.setdefault(number, []).append(ours)
                self.assertTrue(ours)
                self.assertFalse([name for name in SIGNALS if ours.endswith(name)], ours)
                if number == DMABUF and not CAN_EXPORT:
                    self.assertIn('Failed to export dmabuf FD for DM', ours)
                elif number == DMABUF:
                    self.assertEqual(ours, 'the memory')
                    self.assertNotEqual(upstream, ours)
                elif number == TOLD_BY_CYTHON_3:
                    self.assertEqual(upstream == 'says nothing', old)
                    self.assertIn('Mlx5DMError', ours)
                elif what == BY_CHANCE:
                    self.assertRegex(ours, '^1 mappings of the device gone')
                elif number == RIGHT_BEFORE and old:
                    self.assertEqual(upstream, ours)
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
