# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What there is to run: names, what each shows, and in which guests."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

from foreign.root import Root

#: Kinds of guests, with the options of `mlx5emu run` by which they are booted.
GUESTS = {
    'ethernet': ['--link-layer', 'eth', '--functions', '2', '--cpus', '2', '--memory', '2048'],
    'infiniband': [
        '--profile', 'connectx7', '--link-layer', 'ib', '--functions', '2', '--cpus', '2',
        '--memory', '2048'], }
#: Files of this package that have programs.
FILES = ('mpi', 'ucx', 'libfabric', 'dpdk', 'storage', 'sockets', 'management', 'pypi')


@dataclass(frozen=True)
class Program:
    """One line of the table.

    ``package`` is the one that the version is of, ``suite`` the root it is in. ``quick`` programs
    run in every test run. ``fails`` is why it cannot pass, where that is known.
    """
    name: str
    package: str
    what: str
    guest: str
    suite: str
    quick: bool
    fails: str
    run: Callable[[Root], str]


PROGRAMS: dict[str, Program] = {}


def program(name: str, package: str, what: str, *, guest: str = 'ethernet', suite: str = 'trixie',
            quick: bool = False, fails: str = ''
            ) -> Callable[[Callable[[Root], str]], Callable[[Root], str]]:
    """Register a function that runs a program in its root and returns a figure, or '' where there
    is none to tell; what is wrong it raises."""
    def add(run: Callable[[Root], str]) -> Callable[[Root], str]:
        assert name not in PROGRAMS
        PROGRAMS[name] = Program(name, package, what, guest, suite, quick, fails, run)
        return run
    return add


def load() -> dict[str, Program]:
    """Return all programs by name."""
    for file in FILES:
        importlib.import_module(f'foreign.{file}')
    return PROGRAMS
