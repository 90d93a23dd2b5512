# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""How tests wait: for what they wait for, on a machine of any speed."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Seconds after which something counts as hanging. No test depends on how fast the machine is.
PATIENCE = 120


def until(happened: Callable[[], object], what: str | Callable[[], object]) -> None:
    """Wait until something that others do has happened.

    :param happened: asked now and then, until it answers something true
    :param what: what is waited for, or what to call for the words of the failure
    :raises AssertionError: it hangs
    """
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end, f'hangs: {what() if callable(what) else what}'
        time.sleep(0.02)
