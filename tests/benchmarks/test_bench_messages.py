# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Messages a second through libibverbs, libmlx5, the driver's queues and the device: printed, not
judged."""

from __future__ import annotations

import pytest
from benchmarks.message_rates import measure


def test_messages(capsys: pytest.CaptureFixture[str]) -> None:
    """RC sends, writes and reads, in batches of 64 with one doorbell, and one at a time."""
    rows = measure(4)
    with capsys.disabled():
        print()
        for row in rows:
            print(f'  {row.operation:8}{row.size:6} bytes, {row.batch:3} at a time '
                  f'{row.rate:10.0f} messages/s')
