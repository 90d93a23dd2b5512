# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Messages a second through libibverbs, libmlx5, the driver's queues and the device: printed, not
judged."""

from __future__ import annotations

from typing import Any

import pytest
from benchmarks.message_rates import measure

Benchmark = Any


def test_messages(capsys: pytest.CaptureFixture[str], benchmark: Benchmark) -> None:
    """RC sends, writes and reads, in batches of 64 with one doorbell, and one at a time: the best
    of three runs."""
    best: dict[str, float] = {}

    def run() -> None:
        for row in measure(2):
            name = f'{row.operation} {row.size} bytes, {row.batch} at a time'
            best[name] = max(best.get(name, 0), row.rate)
    benchmark.group = 'messages'
    benchmark.pedantic(run, rounds=3)
    benchmark.extra_info['messages_a_second'] = best
    with capsys.disabled():
        print()
        for name, rate in best.items():
            print(f'  {name:34}{rate:10.0f} messages/s')
