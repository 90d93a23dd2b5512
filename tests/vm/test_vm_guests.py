# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Guests of several CPUs and functions, on Debian 13's kernel and on the newest in its backports,
and every card on every link layer: each runs the demo and the driver's tests, and its kernel has
nothing to complain of from power-on to power-off."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from mlx5emu.firmware.caps import PROFILES
from mlx5emu.vm import kernel_log
from mlx5emu.vm.machine import PROJECT
from vm.runs import TESTS, in_a_guest, machine_or_skip, machine_with, quickstart

MACHINE = machine_or_skip()

DEMO = PROJECT / 'pyverbs' / 'examples' / 'demo.py'


def smoke(tmp: Path, words: list[str], files: list[str], machine: Path = MACHINE.path,
          only: str = '', silent: bool = True) -> int:
    """Run the demo and test files in one guest; return how many tests passed.

    :param words: options of `mlx5emu run`
    :param machine: the description of the machine, with its kernel
    :param only: which tests of the files, in pytest's words
    :param silent: whether no test makes the card refuse what the driver complains of
    """
    # The demo last: one of its commands is to fail.
    script = 'demo=$1; shift; "$0" -m pytest -q -p no:cacheprovider "$@" && exec "$0" "$demo"'
    done = in_a_guest(tmp, words, 'sh', '-c', script, sys.executable, str(DEMO), '-k', only,
                      *(str(TESTS / f) for f in files), machine=machine)
    said = done.stdout + done.stderr
    assert 'all as it must be' in done.stdout
    console = tmp / 'log' / 'kernel.log'
    assert 'Power down' in console.read_text(errors='replace')
    if silent:
        assert kernel_log.console_complaints(console) == []
    found = re.search(r'^(\d+) passed', said, re.MULTILINE)
    assert found and 'skipped' not in said, said
    return int(found[1])


@pytest.mark.parametrize('kernel', ['stable', 'backports'])
def test_several_cpus_and_functions(kernel: str, tmp_path: Path) -> None:
    """Two CPUs, two functions: the driver is loaded, unloaded, unbound, its function reset, and
    frames pass between both."""
    passed = smoke(tmp_path, ['--cpus', '2', '--functions', '2'],
                   ['guest/test_guest_driver.py', 'guest/test_guest_functions.py'],
                   machine_with(MACHINE, kernel))
    assert passed >= 8


#: Cards that the tests below and above have in their guests.
ELSEWHERE = {('connectx6dx', 'eth'), ('connectx7', 'ib')}


@pytest.mark.parametrize(
    ('profile', 'layer'),
    sorted({(p.name, layer) for p in PROFILES.values() for layer in p.link_layers} - ELSEWHERE))
def test_cards(profile: str, layer: str, tmp_path: Path) -> None:
    """With two more guests, every card with every kind of port that it is sold with."""
    assert smoke(tmp_path, ['--profile', profile, '--link-layer', layer],
                 ['guest/test_guest_driver.py']) >= 5


def test_blueflame(tmp_path: Path) -> None:
    """A card that offers BlueFlame: libmlx5 copies work requests into its pages."""
    assert smoke(tmp_path, ['--cap', 'general.bf=1'], ['guest/test_guest_message_rate.py']) == 1


def test_infiniband(tmp_path: Path) -> None:
    """Two InfiniBand functions on one subnet: LIDs, partitions, and pingpongs by LID."""
    passed = smoke(
        tmp_path, ['--profile', 'connectx7', '--link-layer', 'ib', '--functions', '2'],
        ['guest/test_guest_driver.py', 'guest/infiniband.py', 'guest/test_guest_clients.py'],
        only='guest_driver or infiniband or pingpong')
    assert passed >= 36


@pytest.mark.parametrize(('profile', 'layer'), [('connectx5', 'eth'), ('connectx7', 'ib')])
def test_extension(profile: str, layer: str, tmp_path: Path) -> None:
    """Both classes pass their tests on the other cards too."""
    passed = smoke(tmp_path, ['--profile', profile, '--link-layer', layer],
                   ['classes/test_mlx5_dm.py', 'classes/test_mlx5_devx_umem.py',
                    'classes/test_mlx5_examples.py'], silent=False)
    assert passed >= 80


@pytest.mark.parametrize('words', [
    ['demo'],
    ['run', '--', 'true'],
    ['shell'],
    ['suite'],
    ['bench'],
    ['test', 'tests/guest/test_guest_functions.py'], ], ids=lambda words: words[0])
def test_profile_is_for_every_command(words: list[str]) -> None:
    """Each command has its card from --profile: one that is not there is refused by all of them,
    with the names of those that are."""
    done = quickstart(words[0], '--profile', 'connectx99', *words[1:])
    assert done.returncode == (1 if words[0] == 'test' else 2)
    said = done.stdout + done.stderr
    assert '--profile connectx99: the cards are connectx5, connectx6dx, connectx7' in said
