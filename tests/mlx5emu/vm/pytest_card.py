# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""pytest plugin: runs the tests that need a device in a guest with the emulated card, and reports
them as if they ran here.

With `--on-card`, every test file named test_mlx5_* or test_guest_* is collected here, executed in
one guest by a second pytest, and its reports are replayed one by one. The second pytest, and one on
a machine with a real card, has no `--on-card` and executes what it is given. Without a device the
tests skip and say so; on the emulated card a skip is a failure, unless its reason names hardware
that no ConnectX is.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import types
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from . import control
from .machine import PROJECT, Machine, MachineError

#: Files whose tests need a device.
NEEDS_DEVICE = re.compile(r'test_(mlx5|guest)_\w+\.py$')
#: What may be missing even on the emulated card.
FOREIGN = re.compile(r'\b(CUDA|GPU|EFA|irdma|Intel|AMD)\b', re.IGNORECASE)
#: Seconds without a report after which the guest counts as hung.
SILENCE = 900.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --on-card and the file of the second pytest's reports."""
    group = parser.getgroup('mlx5emu')
    group.addoption('--on-card', action='store_true',
                    help='run the tests that need a device on the emulated card, in a guest')
    group.addoption('--card-args', default='',
                    help="options for `mlx5emu run`, as in --card-args='--profile connectx7'")
    group.addoption('--under', default='', metavar='WORDS',
                    help='put these words before the command in the guest, as in '
                    "--under='env NAME=VALUE' or --under=valgrind")
    group.addoption('--report-to', metavar='FILE', help=argparse.SUPPRESS)


def pytest_configure(config: pytest.Config) -> None:
    """Make this build's pyverbs importable, and rdma-core's `tests` without its __init__, which
    would import every test there is."""
    directory = os.environ.get('MLX5_RUN_TESTS')
    if control.available():
        # The card's first function, whichever device the kernel lists first: a function that was
        # bound anew is the last.
        os.environ.setdefault('MLX5_DEVICE', 'mlx5_0')
    with contextlib.suppress(MachineError):
        build = Machine.load().rdma_core_build
        sys.path.insert(0, str(build / 'python'))
        directory = directory or str(build / 'run_tests' / 'tests')
    if directory and os.path.isdir(directory) and 'tests' not in sys.modules:
        package = types.ModuleType('tests')
        package.__path__ = [directory]
        sys.modules['tests'] = package
        sys.path.append(directory)
        with contextlib.suppress(ImportError):
            import args_parser
            device = os.environ.get('MLX5_DEVICE')
            saved, sys.argv = sys.argv, [sys.argv[0], *(['--dev', device] if device else [])]
            args_parser.parser.parse_args()
            sys.argv = saved
            # Its modules import each other in a circle, which can be entered here alone.
            importlib.import_module('tests.utils')
    if config.getoption('--report-to'):
        config.pluginmanager.register(Reporter(config))
    elif config.getoption('--on-card'):
        config.pluginmanager.register(Guest(config))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item,
                              call: pytest.CallInfo[Any]) -> Generator[None, Any, None]:
    """Turn a skip on the emulated card into a failure."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, 'wasxfail') and control.available():
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not FOREIGN.search(reason):
            report.outcome = 'failed'
            report.longrepr = f'skipped on the emulated card, which is a failure there: {reason}'


class Reporter:
    """In the guest: writes each report where the first pytest reads it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.out = Path(config.getoption('--report-to')).open('a')

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write a report as one line of JSON."""
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.out.write(json.dumps(data, default=str) + '\n')
        self.out.flush()


class Guest:
    """Beside the card: one guest for all tests that need a device."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.process: subprocess.Popen[bytes] | None = None
        self.offset = 0
        self.reports: dict[str, list[pytest.TestReport]] = {}
        self.directory = PROJECT / 'build' / 'log' / f'tests-{os.getpid()}'
        self.path = self.directory / 'reports.jsonl'
        self.log = self.directory / 'guest.log'

    def needs_device(self, item: pytest.Item) -> bool:
        """Tell whether the test runs in the guest."""
        return bool(NEEDS_DEVICE.search(item.path.name))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Put the guest's tests last, in one run: first the driver's, which look at all that was
        since power-on."""
        items.sort(
            key=lambda item: (self.needs_device(item), item.path.name != 'test_guest_driver.py'))

    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """Replay the guest's reports of a test; the first one starts the guest."""
        if not self.needs_device(item):
            return None
        if self.process is None:
            self.start([i.nodeid for i in item.session.items if self.needs_device(i)])
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self.wait_for(item):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def start(self, nodeids: list[str]) -> None:
        """Start the guest with a pytest of its own."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.path.touch()
        (self.directory / 'selected').write_text('\n'.join(nodeids) + '\n')
        argv = [
            Machine.load().card_python, '-m', 'mlx5emu', 'run', '--functions', '2',
            '--write',
            str(self.directory), *self.config.getoption('--card-args').split(), '--',
            *(under := shlex.split(self.config.getoption('--under'))), sys.executable, '-m',
            'pytest', '-q',
            # What a sanitizer says before it ends the process goes past pytest to the log.
            *(['--capture=sys'] if under else []), '--rootdir',
            str(self.config.rootpath), '-p', 'no:cacheprovider', '--report-to',
            str(self.path), f"@{self.directory / 'selected'}"]
        # What is put under our modules here is not for the card and QEMU.
        env = {name: value for name, value in os.environ.items() if name != 'LD_PRELOAD'} | {
            'PYTHONPATH': os.pathsep.join([
                str(PROJECT / 'tests'), os.environ.get('PYTHONPATH', '')]), 'MLX5EMU_LOG': str(
                    self.directory)}
        with self.log.open('wb') as out:
            self.process = subprocess.Popen(argv, cwd=self.config.rootpath, env=env,
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def poll(self) -> None:
        """Take in what the guest has reported since."""
        with self.path.open() as f:
            f.seek(self.offset)
            text = f.read()
        whole, newline, _ = text.rpartition('\n')
        self.offset = self.offset + len((whole + newline).encode())
        for line in whole.splitlines():
            report = self.config.hook.pytest_report_from_serializable(config=self.config,
                                                                      data=json.loads(line))
            assert isinstance(report, pytest.TestReport)
            self.reports.setdefault(report.nodeid, []).append(report)

    def wait_for(self, item: pytest.Item) -> list[pytest.TestReport]:
        """Return the reports of one test, or a failure of our own when there will be none."""
        since = time.monotonic()
        assert self.process is not None
        while True:
            ended = self.process.poll() is not None
            self.poll()
            got = self.reports.get(item.nodeid, [])
            if any(r.when == 'teardown' for r in got):
                return got
            if ended or time.monotonic() - since > SILENCE:
                why = f'the guest ended (status {self.process.returncode})'
                if not ended:
                    why = f'no report for {SILENCE:.0f} s, so the guest was ended'
                    self.end_what_hangs()
                return [
                    *got,
                    pytest.TestReport(item.nodeid, item.location, {}, 'failed',
                                      f'{why}; logs in {self.directory}:\n{self.tails()}', 'call')]
            time.sleep(0.05)

    def end_what_hangs(self) -> None:
        """End a guest that reports no more: those that would come after need not wait for it. Its
        log then tells where each thread of the card was."""
        assert self.process is not None
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL):
            self.process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5 if number == signal.SIGUSR1 else 60)
                break

    def tails(self) -> str:
        """Return the ends of what the guest and its kernel, which tells of tasks that hang, have
        said."""
        return '\n'.join(
            f'{path.name}: ... {path.read_text(errors="replace")[-4000:]}'
            for path in (self.log, *self.directory.glob('kernel.log')))

    def pytest_sessionfinish(self) -> None:
        """End the guest, however the session ends."""
        if self.process is None:
            return
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.terminate()
            self.process.wait(30)
