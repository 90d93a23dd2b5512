# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Builds and runs verbs_messages.c on whatever device is there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from guest.c_program import built

SOURCE = Path(__file__).parent / 'verbs_messages.c'


class Rate(NamedTuple):
    """One row: what was posted, how many at a time, and messages a second."""

    operation: str
    size: int
    batch: int
    rate: float


def measure(seconds: float) -> list[Rate]:
    """Run each kind of message for some seconds, but at least one batch of each.

    :raises subprocess.CalledProcessError: the program cannot be built, a message failed or other
        data arrived; what it said is on standard error
    """
    with built(SOURCE, 'ibverbs') as program:
        done = subprocess.run([program, str(seconds)], capture_output=True, text=True, check=False)
    if done.returncode:
        # Only then: libibverbs also says there which other vendors' drivers this build does not
        # have.
        sys.stderr.write(done.stderr)
        done.check_returncode()
    rows = [line.split() for line in done.stdout.splitlines()]
    return [
        Rate(op, int(size), int(batch),
             int(done) / float(took)) for op, size, batch, done, took in rows]
