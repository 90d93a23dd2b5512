# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Software steering through the stock driver: rdma-core's own tests of it on each card, and the
driver's own entries in switchdev mode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlx5emu.vm import suite_runner
from mlx5emu.vm.suite import TEST_SECONDS
from vm.runs import in_a_guest, machine_or_skip

MACHINE = machine_or_skip()

RUNNER = Path(suite_runner.__file__)
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
        str(RUNNER),
        str(MACHINE.rdma_core_source),
        str(results), str(TEST_SECONDS), *words]
    in_a_guest(tmp_path, [*card, '--write', str(tmp_path)], *before, *runner)
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
                     str(RUNNER.with_name('guest_switchdev.sh')))
    assert ended == {'test_dest_vport': ['ok', '']}
