# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What holds a send queue back: a rate, of packet pacing or of a scheduling element."""
from collections.abc import Sequence

#: Time for which unused rate is kept: a burst of that length goes out at once.
BURST_NS = 1_000_000
#: A queue that waits is looked at again after this time at the latest, so that no timer outlives
#: its queue for long.
MAX_WAIT_NS = 50_000_000


class RateLimit:
    """At most ``rate`` bits a second; 0 is no limit."""

    __slots__ = ('rate', '_free_at')

    def __init__(self, rate: int = 0) -> None:
        self.rate, self._free_at = rate, 0

    def wait(self, now: int) -> int:
        """Nanoseconds until the next message may go."""
        return max(0, self._free_at - now) if self.rate else 0

    def spend(self, now: int, size: int) -> None:
        """A message of ``size`` bytes went at ``now``."""
        if self.rate:
            self._free_at = max(self._free_at, now - BURST_NS) + size * 8_000_000_000 // self.rate

    def change(self, rate: int) -> None:
        """Another rate, which counts from now on: what was sent before is not held against it."""
        self.rate, self._free_at = rate, 0


def wait(limits: Sequence[RateLimit], now: int) -> int:
    """Nanoseconds until every limit lets the next message go, MAX_WAIT_NS at most."""
    return min(MAX_WAIT_NS, max(limit.wait(now) for limit in limits))


def spend(limits: Sequence[RateLimit], now: int, size: int) -> None:
    """A message went: count it against every limit."""
    for limit in limits:
        limit.spend(now, size)
