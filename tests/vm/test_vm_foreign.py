# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The quick ones of the programs that are not ours, each on the kind of card it is for, and the
table that tells of them."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatch
from typing import Any

import pytest
from foreign import __main__ as foreign
from foreign.catalogue import GUESTS, Program, load
from mlx5emu.vm.machine import PROJECT
from vm.runs import TESTS, machine_or_skip

machine_or_skip()

QUICK = foreign.chosen([], quick=True)


@pytest.fixture(scope='module')
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What became of each, from one guest for each kind of port."""
    tmp = tmp_path_factory.mktemp('foreign')
    with pytest.MonkeyPatch.context() as m:
        for name, value in (('PYTHONPATH', str(TESTS)), ('MLX5EMU_LOG', str(tmp / 'log')),
                            ('TMPDIR', str(tmp))):
            m.setitem(os.environ, name, value)
        return {result['name']: result for result in foreign.run(QUICK)}


@pytest.mark.parametrize('program', QUICK, ids=lambda program: program.name)
def test_program(program: Program, results: dict[str, dict[str, Any]]) -> None:
    """It does what it is for, and the card has met no defect of its own."""
    assert results[program.name]['error'] == ''
    assert results[program.name]['version']


def test_every_kind_is_among_them() -> None:
    """Both kinds of ports, one function and two, and each file with programs that can pass."""
    assert {p.guest for p in QUICK} == set(GUESTS)
    files = {p.run.__module__ for p in load().values()}
    assert {p.run.__module__ for p in QUICK} | {'foreign.ucx', 'foreign.sockets'} == files
    assert not any(p.fails for p in QUICK)


@pytest.mark.parametrize(('fails', 'error', 'word'), [
    ('', '', 'passed'), ('', 'x', 'FAILED'), ('why', 'x', 'known'), ('why', '', 'PASSES')])
def test_verdict(fails: str, error: str, word: str) -> None:
    """What was known to fail and passes is told as loudly as what fails."""
    p = Program('a', 'b', 'c', 'ethernet', 'trixie', False, fails, lambda root: '')
    assert foreign.verdict(p, {'error': error}) == word


def test_names() -> None:
    """Part of a name chooses; a name that is in none is refused with those that there are."""
    assert {p.name for p in foreign.chosen(['dpdk'], quick=False)} == {
        'dpdk-forward', 'dpdk-flow', 'dpdk-rss'}
    with pytest.raises(SystemExit, match='no program has xyz in its name.* nvme'):
        foreign.chosen(['xyz'], quick=False)


def test_document() -> None:
    """Each program is in a row of the table, with the reason where it cannot pass."""
    text = (PROJECT / 'Documentation/foreign_programs.md').read_text()
    rows = [(re.findall(r'`([^`]*)`', row.split('|')[1]), row)
            for row in text.splitlines() if row.startswith('| `')]
    for p in load().values():
        found = [row for names, row in rows if any(fnmatch(p.name, n) for n in names)]
        assert len(found) == 1, p.name
        assert p.fails in found[0] and ('`known`' in found[0]) == bool(p.fails), p.name
    assert all(any(fnmatch(p, n) for p in load()) for names, _ in rows for n in names)
