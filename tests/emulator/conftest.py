# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What the tests of the emulated card without a VM are given."""
from collections.abc import Iterator

import pytest
from emulator.driver.guest import Guest
from mlx5emu.card import Card


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest whose card must not have met a defect of its own; a module that wants another says
    how it is made by ``GUEST``."""
    made: Guest = getattr(request.module, 'GUEST', Guest)()
    yield made
    assert made.card.internal_errors == 0


def booted(link_layer: str) -> Iterator[Card]:
    """A card that must not have met a defect of its own, booted, with no guest."""
    card = Card('connectx6dx', link_layer)
    card.boot()
    yield card
    assert card.internal_errors == 0


@pytest.fixture
def ib() -> Iterator[Card]:
    """A card with an InfiniBand port."""
    yield from booted('ib')


@pytest.fixture
def eth() -> Iterator[Card]:
    """A card with an Ethernet port."""
    yield from booted('eth')
