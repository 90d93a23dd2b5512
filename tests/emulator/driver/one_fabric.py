# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Guests whose cards reach each other."""
from collections.abc import Iterator
from contextlib import contextmanager

from emulator.driver.guest import Guest
from mlx5emu.datapath.fabric import Fabric


@contextmanager
def on_one_fabric(n: int, profile: str) -> Iterator[list[Guest]]:
    """Give ``n`` functions on one fabric, whose cards must not have met a defect of their own."""
    guests = [Guest(index=k, profile=profile) for k in range(n)]
    fabric = Fabric()
    for g in guests:
        g.card.datapath.port.connect(fabric)
    yield guests
    assert [g.card.internal_errors for g in guests] == [0] * n
