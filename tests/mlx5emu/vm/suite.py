# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""rdma-core's own in-tree tests on the emulated card, unmodified, with a scoreboard."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from ..firmware.status import Status
from ..memory import commissioning
from . import run as vm_run
from .machine import Machine
from .suite_report import write_json, write_junit
from .vm import VmError

#: Seconds for one test, and seconds without any news after which the guest counts as hung.
TEST_SECONDS, HUNG_SECONDS = 120, 300
#: Guests that may die before the suite is given up.
MAX_DEATHS = 30


@dataclass(frozen=True)
class Elsewhere:
    """A card or a guest for tests that skip on the ordinary one, and pass where what they want is
    there.

    :ivar wanting: parts of the names of such tests, or of why they skip
    :ivar caps: capabilities of the card that are not those it is sold with
    :ivar card: another card and its link layer
    :ivar script: a script of this directory that sets the guest up and then runs the tests
    """

    wanting: tuple[str, ...]
    caps: tuple[str, ...] = ()
    card: tuple[str, str] | None = None
    script: str | None = None

    def options(self, options: vm_run.Options) -> vm_run.Options:
        """Return the options of the guest."""
        out = replace(options, caps=[*options.caps, *self.caps])
        return replace(out, profile=self.card[0], link_layer=self.card[1]) if self.card else out

    def __str__(self) -> str:
        words = [*(f'--cap {c}' for c in self.caps), self.script or '']
        if self.card:
            words += ['--profile', self.card[0], '--link-layer', self.card[1]]
        return ' '.join(filter(None, words))


ELSEWHERE = (
    # The engine that copies memory is that of BlueField DPUs.
    Elsewhere(('test_mlx5_dma_memcpy', ),
              caps=('general.dma_mmo_qp=1', 'general.log_dma_mmo_max_size=21')),
    # A card takes keys either wrapped or as they are.
    Elsewhere(('The device does not support plaintext DEK', ),
              caps=('crypto.wrapped_import_method=0', 'crypto.wrapped_crypto_operational=0')),
    # A page for BlueFlame, which the card does not offer by default.
    Elsewhere(('UAR allocation (with flag=0)', ), caps=('general.bf=1', )),
    # libmlx5 lists tags on InfiniBand only; the memory scheme of page faults came with ConnectX-7.
    Elsewhere(('Tag matching is not supported', 'ODPv2 is not supported'),
              card=('connectx7', 'ib')),
    Elsewhere(('ROCE must be disabled', ), script='guest_roce_off.sh'),
    Elsewhere(('must be in switchdev mode', ), script='guest_switchdev.sh'),
)


@dataclass
class Outcome:
    """What became of one test."""

    how: str
    reason: str
    seconds: float


def read_results(path: Path) -> tuple[list[str], dict[str, Outcome], str | None]:
    """Return the ids of all tests, the outcomes so far, and the test that was started and never
    ended."""
    ids: list[str] = []
    outcomes: dict[str, Outcome] = {}
    open_test: str | None = None
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            kind, *rest = json.loads(line)
        except ValueError:
            continue    # cut off by the guest's death
        if kind == 'all':
            ids = rest[0]
        elif kind == 'start':
            open_test = rest[0]
        else:
            outcomes[rest[0]] = Outcome(kind, rest[1], rest[2])
            if rest[0] == open_test:
                open_test = None
    return ids, outcomes, open_test


class _Watch:
    """Ends a guest whose results file stands still."""

    def __init__(self, path: Path) -> None:
        self.path, self.seen, self.since = path, -1, time.monotonic()

    def __call__(self) -> None:
        size = self.path.stat().st_size if self.path.exists() else -1
        if size != self.seen:
            self.seen, self.since = size, time.monotonic()
        elif time.monotonic() - self.since > HUNG_SECONDS:
            raise VmError(f'no news from the tests for {HUNG_SECONDS} s')


def crypto_details() -> Path | None:
    """Write down what the crypto tests must know of the card; None without the package that wraps
    it."""
    try:
        details = commissioning.test_details()
    except Status:
        return None
    path = vm_run.log_directory() / 'mlx5_crypto_test.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(details)
    return path


def run(machine: Machine, options: vm_run.Options, patterns: list[str], name: str = 'suite',
        before: str | None = None) -> tuple[list[str], dict[str, Outcome]]:
    """Run the tests, in as many guests as it takes.

    :param name: of the file of results
    :param before: script of this directory that sets the guest up and runs its arguments
    :return: the ids of the tests that match, and their outcomes
    :raises VmError: guests keep dying
    """
    results = vm_run.log_directory() / f'{name}.jsonl'
    results.parent.mkdir(parents=True, exist_ok=True)
    results.unlink(missing_ok=True)
    words = [w for p in patterns for w in ('-k', p)]
    argv = [
        machine.python,
        str(Path(__file__).with_name('suite_runner.py')),
        str(machine.rdma_core_source),
        str(results),
        str(TEST_SECONDS), *words]
    if before:
        argv = ['sh', str(Path(__file__).with_name(before)), *argv]
    options = replace(options, writable=[*options.writable, results.parent])
    details = crypto_details()
    env = {'MLX5_CRYPTO_TEST_INFO': str(details)} if details is not None else {}
    deaths = 0
    while True:
        failure = ''
        try:
            status = vm_run.run(machine, argv, options, env=env, watch=_Watch(results)).status
            failure = '' if status == 0 else f"the tests' process ended with status {status}"
        except VmError as e:
            failure = str(e)
        ids, outcomes, open_test = read_results(results)
        if open_test is not None and failure:
            with results.open('a') as f:
                f.write(
                    json.dumps(['failed', open_test, f'did not survive: {failure}', 0.0]) + '\n')
            outcomes[open_test] = Outcome('failed', f'did not survive: {failure}', 0.0)
        if not failure or (ids and all(i in outcomes for i in ids)):
            return ids, outcomes
        deaths += 1
        if deaths > MAX_DEATHS or not ids or open_test is None:
            raise VmError(f'the suite stopped: {failure} (results so far in {results})')


def run_elsewhere(machine: Machine, options: vm_run.Options, outcomes: dict[str,
                                                                            Outcome]) -> list[str]:
    """Run what wants the card or the guest to be otherwise, there; the outcomes are put in place of
    the former.

    :return: a line for each such card or guest
    """
    lines = []
    for number, place in enumerate(ELSEWHERE, 1):
        tests = [
            i for i, o in outcomes.items()
            if o.how == 'skipped' and any(part in f'{i} {o.reason}' for part in place.wanting)]
        if tests and place.card != (options.profile, vm_run.link_layer(options)):
            outcomes.update(
                run(machine, place.options(options), tests, f'suite-{number}', place.script)[1])
            lines.append(f'with {place}: ' + ', '.join(i.removeprefix('tests.') for i in tests))
    return lines


def table(ids: list[str], outcomes: dict[str, Outcome]) -> str:
    """Return the scoreboard: a line a test file, then each test that did not pass with its
    reason."""
    files: dict[str, Counter[str]] = {}
    for i in ids:
        files.setdefault(i.split('.')[1], Counter())[outcomes[i].how] += 1
    width = max([len(f) for f in files] + [10])
    lines = [f"{'file':{width}}  passed  failed  skipped"]
    lines += [
        f"{f:{width}}  {c['ok']:6}  {c['failed']:6}  {c['skipped']:7}" for f, c in files.items()]
    for how in ('failed', 'skipped'):
        reasons: dict[str, list[str]] = {}
        for i in ids:
            if outcomes[i].how == how:
                reasons.setdefault(re.sub(r'0x[0-9a-f]+', '0x..', outcomes[i].reason), []).append(
                    i.removeprefix('tests.'))
        if reasons:
            lines += ['', f'{how}:']
        for reason, tests in sorted(reasons.items(), key=lambda item: -len(item[1])):
            lines.append(f'  {len(tests)} x {reason}')
            lines += [f'      {t}' for t in tests]
    return '\n'.join(lines)


def forgive(outcomes: dict[str, Outcome], known: list[str]) -> None:
    """Let what is known to fail count as skipped, with its reason.

    :param outcomes: of the tests by name; changed in place
    :param known: parts of names
    """
    for i, outcome in outcomes.items():
        if outcome.how == 'failed' and any(part in i for part in known):
            outcomes[i] = replace(outcome, how='skipped',
                                  reason=f'known to fail: {outcome.reason}')


def main(machine: Machine, options: vm_run.Options, patterns: list[str], junit: Path | None = None,
         as_json: Path | None = None, known: list[str] | None = None) -> int:
    """Run and print.

    :param junit: file for JUnit's XML
    :param as_json: file for JSON
    :param known: tests that may fail
    :return: 0 when every test passed or was skipped, 1 when one failed, 2 when there is none that
        matches
    """
    start = time.monotonic()
    # Some tests ask for huge pages of 2 MiB, which an administrator has set aside.
    options = replace(options, kernel_args=f'hugepages=32 {options.kernel_args}')
    ids, outcomes = run(machine, options, patterns)
    if not ids:
        print(f"suite: no test matches {' '.join(patterns)}")
        return 2
    others = run_elsewhere(machine, options, outcomes)
    forgive(outcomes, known or [])
    print('\n'.join([table(ids, outcomes), *([''] + others if others else [])]))
    count = Counter(outcomes[i].how for i in ids)
    about: dict[str, str | float] = {
        'rdma-core': machine.rdma_core_version, 'linux': machine.release,
        'profile': options.profile, 'link layer': vm_run.link_layer(options),
        'seconds': round(time.monotonic() - start, 3)}
    print(
        f'\nrdma-core {about["rdma-core"]}, Linux {about["linux"]}, {about["profile"]}, '
        f'{about["link layer"]}, {about["seconds"]:.0f} s, {os.cpu_count()} CPUs')
    print(
        f"suite: {count['ok']} passed, {count['failed']} failed, {count['skipped']} skipped "
        f'of {len(ids)}'
    )
    # Last: what cannot be written must not take the table along.
    if junit:
        write_junit(junit, ids, outcomes, about)
    if as_json:
        write_json(as_json, ids, outcomes, about)
    return 1 if count['failed'] else 0
