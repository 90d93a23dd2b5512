# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Inside the guest: runs rdma-core's own tests one by one and writes down each result as it falls.

    python suite_runner.py RDMA_CORE_SOURCE RESULTS SECONDS [-k PATTERN]... [--skip-file FILE]

RESULTS gets one JSON list a line: ["all", [ids]], ["start", id], ["ok"|"failed"|"skipped", id,
reason, seconds]. A test that the kernel or the interpreter does not survive has a "start" and
nothing after it; the host goes on behind it.
"""

from __future__ import annotations

import faulthandler
import fnmatch
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
import unittest
from collections.abc import Iterator
from types import FrameType
from typing import IO, Any


class TimeUpError(BaseException):
    """The test took too long. Not an Exception, so that a test's own handlers let it pass."""


class Recorder(unittest.TestResult):
    """Writes each result at once."""

    def __init__(self, out: IO[str], seconds: int) -> None:
        super().__init__()
        self.out, self.seconds, self.since, self.settled = out, seconds, 0.0, False

    def _write(self, *values: Any) -> None:
        self.out.write(json.dumps(values) + '\n')
        self.out.flush()

    def _settle(self, how: str, test: unittest.TestCase, reason: str = '') -> None:
        if self.settled and how == 'ok':
            return
        self.settled = True
        spent = time.monotonic() - self.since
        self._write(how, test.id(), reason, round(spent, 2))
        print(
            f"{how:8} {spent:6.1f} s  {test.id().removeprefix('tests.')}" +
            (f'  ({reason})' if reason else ''), flush=True)

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.since, self.settled = time.monotonic(), False
        self._write('start', test.id())
        signal.alarm(self.seconds)

    def stopTest(self, test: unittest.TestCase) -> None:
        signal.alarm(0)
        super().stopTest(test)

    def addSuccess(self, test: unittest.TestCase) -> None:
        self._settle('ok', test)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self._settle('skipped', test, reason)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._settle('failed', test, _reason(err))

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._settle('failed', test, _reason(err))

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._settle('failed', test, _reason(err))


def _reason(err: Any) -> str:
    kind, value, _ = err
    text = str(value).strip().splitlines()
    return f"{kind.__name__}: {text[0] if text else ''}"[:300]


def _flatten(suite: Any) -> Iterator[unittest.TestCase]:
    for t in suite:
        if isinstance(t, unittest.TestCase):
            yield t
        else:
            yield from _flatten(t)


def _time_up(number: int, frame: FrameType | None) -> None:
    raise TimeUpError('took too long')


def load(source: str) -> list[unittest.TestCase]:
    """Return rdma-core's tests, from the source tree at hand and in its own order."""
    where = os.path.join(source, 'tests')
    sys.path.insert(0, where)
    sys.argv = [sys.argv[0], '-v', *os.environ.get('SUITE_ARGUMENTS', '').split()]
    spec = importlib.util.spec_from_file_location('tests', os.path.join(where, '__init__.py'),
                                                  submodule_search_locations=[where])
    assert spec is not None and spec.loader is not None
    tests = importlib.util.module_from_spec(spec)
    sys.modules['tests'] = tests
    import args_parser
    args_parser.parser.parse_args()
    spec.loader.exec_module(tests)
    return list(_flatten(unittest.defaultTestLoader.loadTestsFromModule(tests)))


def main(argv: list[str]) -> int:
    """Run the tests that are not yet settled."""
    source, results, seconds, *rest = argv
    patterns = [rest[i + 1] for i, word in enumerate(rest) if word == '-k']
    settled: set[str] = set()
    if os.path.exists(results):
        with open(results) as f:
            settled = {line[1] for line in map(json.loads, f) if line[0] != 'all'}
    faulthandler.enable()
    signal.signal(signal.SIGALRM, _time_up)
    found = load(source)
    if patterns:
        found = [
            t for t in found if any(
                fnmatch.fnmatchcase(t.id(), p if '*' in p else f'*{p}*') for p in patterns)]
    with open(results, 'a') as out:
        out.write(json.dumps(['all', [t.id() for t in found]]) + '\n')
        out.flush()
        recorder = Recorder(out, int(seconds))
        todo = unittest.TestSuite(t for t in found if t.id() not in settled)
        try:
            todo.run(recorder)
        except TimeUpError:
            # Outside a test's own frame: the host counts the test as hung, and starts again after
            # it.
            return 3
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
