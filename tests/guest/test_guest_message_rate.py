# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Messages through libibverbs, libmlx5, the driver's queues and the device."""

from __future__ import annotations

from benchmarks.message_rates import measure

#: Operation, bytes, and how many are posted by one doorbell.
KINDS = [('send', 4096, 64), ('send', 64, 64), ('write', 4096, 64), ('read', 4096, 64),
         ('send', 4096, 1), ('write', 64, 1)]


def test_messages_of_every_kind_arrive() -> None:
    """Each is completed on every side that is told of it, and its data arrives: the program that
    posts them fails if not. How many a second is printed; the benchmarks are about that."""
    rows = measure(0.1)
    print(*rows, sep='\n')
    assert [(row.operation, row.size, row.batch) for row in rows] == KINDS
