# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What the kernel complained of: records of /dev/kmsg, and lines of a console log.

A complaint is every message of level warning or worse, whoever's it is, and every trace of whatever
level; but for the few that a guest on this QEMU prints without any card, which are listed here.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path

#: Levels as in syslog(2): 4 is a warning, 3 an error.
WARNING = 4
#: What is a complaint whatever its level says.
TRACE = re.compile(
    r'WARNING:|BUG:|Oops|Call Trace|general protection|leaked|unable to handle|soft lockup|'
    r'hung task|refcount_t|KASAN'
)
#: What the machine is warned of: a translated CPU's clocks and range registers, QEMU's ACPI tables,
#: work that took long on a busy host; and the word that power is off.
MACHINE = re.compile(
    r'^(\[ *[0-9.]+\] )?('
    r'tsc: |APIC calibration not|Probably due to long platform|clocksource: |sched_clock: |'
    r'hrtimer: interrupt took|hpet: Lost|perf: interrupt took|workqueue: .* hogged CPU|'
    r'mtrr: your CPUs had|'
    r'ACPI: IRQ \d+ override|amd_pstate: |reboot: )')


@dataclass(frozen=True)
class Record:
    """One message of the kernel's."""

    level: int
    sequence: int
    text: str


def is_complaint(level: int | None, text: str) -> bool:
    """Tell whether a message says that the kernel is not content.

    :param level: the message's level, None when the log does not tell and only warnings and worse
        are in it
    """
    if TRACE.search(text):
        return True
    return (level is None or level <= WARNING) and not MACHINE.search(text)


def records(since: int = 0) -> list[Record]:
    """Return the running kernel's messages from sequence number ``since`` on.

    :raises OSError: /dev/kmsg cannot be read (EPERM without CAP_SYSLOG)
    """
    fd = os.open('/dev/kmsg', os.O_RDONLY | os.O_NONBLOCK)
    out: list[Record] = []
    try:
        while True:
            try:
                raw = os.read(fd, 8192).decode(errors='replace')
            except OSError as e:
                # overwritten while we read: go on with the oldest that is left
                if e.errno == errno.EPIPE:
                    continue
                if e.errno == errno.EAGAIN:
                    return out
                raise
            head, _, text = raw.partition(';')
            fields = head.split(',')
            if int(fields[1]) >= since:
                out.append(Record(int(fields[0]) & 7, int(fields[1]), text.splitlines()[0]))
    finally:
        os.close(fd)


def complaints(since: int = 0) -> list[str]:
    """Return the running kernel's complaints from sequence number ``since`` on."""
    return [r.text for r in records(since) if is_complaint(r.level, r.text)]


def console_complaints(path: Path) -> list[str]:
    """Return the complaints in a console log of a kernel that printed warnings and worse only."""
    return [
        line for line in path.read_text(errors='replace').splitlines()
        if line.strip() and is_complaint(None, line)]
