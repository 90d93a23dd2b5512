# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Software steering through the stock driver: rdma-core's own tests of it on each card, and the
driver's own entries in switchdev mode."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlx5emu.vm.machine import Machine, MachineError

try:
    MACHINE = Machine.load()
except MachineError as e:
    pytest.skip(str(e), allow_module_level=True)

EMULATOR = Path(__file__).resolve().parents[1] / 'mlx5emu' / 'vm'
LIMIT = 180
#: Tests that need each of: hashed tables, header modification, tunnels both ways, multiple
#: destinations.
TESTS = ('test_set_matcher_layout', 'test_metadata_modify_action', 'test_packet_reformat_l3_gre',
         'Mlx5DrTest.test_dest_array')


def outcomes(tmp_path: Path, profile: str, tests: tuple[str, ...], *before: str,
             caps: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Run rdma-core's tests in a guest.

    :param before: a command of the guest that runs its arguments
    :return: {test: [how it ended, why]}
    """
    results = tmp_path / 'results.jsonl'
    words = [w for t in tests for w in ('-k', t)]
    card = ['--profile', profile, '--link-layer', 'eth', *(w for c in caps for w in ('--cap', c))]
    runner = [
        MACHINE.python,
        str(EMULATOR / 'suite_runner.py'),
        str(MACHINE.rdma_core_source),
        str(results), '100', *words]
    env = os.environ | {'MLX5EMU_LOG': str(tmp_path / 'log'), 'TMPDIR': str(tmp_path)}
    done = subprocess.run([sys.executable, '-m', 'mlx5emu', 'run', *card, '--', *before, *runner],
                          cwd=EMULATOR.parents[1], env=env, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    ended = [
        line for line in map(json.loads,
                             results.read_text().splitlines()) if line[0] not in ('all', 'start')]
    return {name.rpartition('.')[2]: [how, why] for how, name, why, *_ in ended}


@pytest.mark.parametrize(('profile', 'caps', 'layouts'), [
    ('connectx5', (), False),
    ('connectx6dx', ('general.match_definer_format_supported=0',
                     'general.log_header_modify_argument_max_alloc=4'), False),
    ('connectx7', (), True), ])
def test_formats(tmp_path: Path, profile: str, caps: tuple[str, ...], layouts: bool) -> None:
    """Each format of entries, and the second without match definers; matchers have a layout of
    their own only with those."""
    ended = outcomes(tmp_path, profile, TESTS, caps=caps)
    want = {
        'test_dest_array', 'test_metadata_modify_action_set_copy_match',
        'test_packet_reformat_l3_gre'}
    assert {t for t, (how, _) in ended.items()
            if how == 'ok'} == want | ({'test_set_matcher_layout'} if layouts else set()), ended
    assert not [t for t, (how, _) in ended.items() if how == 'failed']


def test_switchdev(tmp_path: Path) -> None:
    """The driver's rules in the switch are entries that it wrote itself; a program's tables hang on
    them."""
    ended = outcomes(tmp_path, 'connectx6dx', ('test_dest_vport', ), 'sh',
                     str(EMULATOR / 'guest_switchdev.sh'))
    assert ended == {'test_dest_vport': ['ok', '']}
