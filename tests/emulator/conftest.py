# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What the tests of the emulated card without a VM are given."""
from collections.abc import Iterator

import pytest
from emulator.driver.guest import Guest


@pytest.fixture
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    """A guest whose card must not have met a defect of its own; a module that wants another says
    how it is made by ``GUEST``."""
    made: Guest = getattr(request.module, 'GUEST', Guest)()
    yield made
    assert made.card.internal_errors == 0
