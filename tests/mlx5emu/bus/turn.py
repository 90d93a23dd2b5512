# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Whose turn it is: one thread at a time works on the cards of a fabric, since a packet takes it
from one card into another."""
import threading


class Turn:
    """A lock that its waiters get in order: who gives it back and wants it again comes after
    them."""

    def __init__(self) -> None:
        self._next, self._lock = threading.Lock(), threading.Lock()

    def take(self) -> None:
        """Wait for the turn."""
        with self._next:
            self._lock.acquire()

    def give(self) -> None:
        """Let another thread have it."""
        self._lock.release()

    def share(self) -> None:
        """Let those who wait have it first."""
        if self._next.locked():
            self.give()
            self.take()
