# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Messages a second through libibverbs, libmlx5, the driver's queues and the device."""

from __future__ import annotations

import unittest

from benchmarks.message_rates import measure

#: What the emulated card has to reach with messages of 4 KiB or less: a fifteenth of what it does
#: on two loaded cores without KVM.
FLOOR = 2000


class MessageRateTest(unittest.TestCase):
    """Sends, writes and reads of an RC queue pair."""

    def test_rate(self) -> None:
        """Every kind of message that is posted in batches is fast enough, and its data arrives."""
        rows = measure(1)
        print(*rows, sep='\n')
        self.assertEqual({(r.operation, r.size) for r in rows if r.batch > 1},
                         {('send', 4096), ('send', 64), ('write', 4096), ('read', 4096)})
        for row in rows:
            with self.subTest(row=row):
                self.assertGreater(row.rate, FLOOR if row.batch > 1 else FLOOR / 20)
