# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The table of Documentation/mlx5_devx_umem.md, carried out: what upstream's class does wrong,
Mlx5DevxUmem does not."""
import json
import os
import signal
import subprocess
import sys

from pyverbs.providers.mlx5.mlx5dv import Mlx5UMEM
from tests.mlx5_mem_base import Mlx5MemTestCase

PROGRAM = os.path.join(os.path.dirname(os.path.realpath(__file__)), 'umem_defects.py')
#: Seconds after which the program counts as hanging.
PATIENCE = 600
#: What each case begins with on our side, in the order of the program.
OURS = [('U1', 'says <Mlx5DevxUmem closed>'),
        ('U1', 'PyverbsUserError: This Mlx5DevxUmem is closed'),
        ('U3', 'no growth'), ('U4', 'refused, memory kept'), ('U5', '22'), ('U6', 'refused'),
        ('U7', 'PyverbsRDMAError: Failed to register a UMEM of 4096 bytes, dma-buf '),
        ('U8', 'registered, closed'), ('U10', 'no such method'), ('G2', 'collected'),
        ('G3', 'PyverbsUserError: alignment 3 is not a power of two'),
        ('', 'TypeError: cannot pickle Mlx5DevxUmem: a registration belongs to one process')]
#: Upstream's class dies in it as Cython 0.29 compiles it, and does not as Cython 3 does.
BY_CYTHON = 'G2'
#: Cases in which nothing is wrong with upstream's class, which came by unimport_umem() in 65.
BOTH_RIGHT = [''] + ([] if hasattr(Mlx5UMEM, 'unimport_umem') else ['U10'])
SIGNALS = [s.name for s in signal.Signals]


class Mlx5DevxUmemDefectsTest(Mlx5MemTestCase):
    def test_ours_does_what_the_table_says_and_upstreams_does_not(self):
        # A process of its own: its cases end theirs in every way there is.
        done = subprocess.run([sys.executable, PROGRAM, '--json'], stdout=subprocess.PIPE,
                              universal_newlines=True, timeout=PATIENCE, check=True)
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual([number for number, *_ in rows], [number for number, _ in OURS])
        self.assertEqual(len(rows), len(OURS))
        for row, (_, want) in enumerate(OURS):
            number, what, upstream, ours = rows[row]
            with self.subTest(number=number, what=what):
                self.assertTrue(ours.startswith(want), ours)
                self.assertFalse([name for name in SIGNALS if ours.endswith(name)], ours)
                if number == BY_CYTHON:
                    self.assertIn(upstream, (ours, 'SIGSEGV'))
                elif number in BOTH_RIGHT:
                    self.assertEqual(upstream.split(':')[0], ours.split(':')[0])
                else:
                    self.assertNotEqual(upstream, ours)
        self.assert_live('umem', 0)
