# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What becomes of the tests that run in the guest when it hangs."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from mlx5emu.vm import pytest_card

HANGS = """
import faulthandler, signal, time
faulthandler.register(signal.SIGUSR1)
print('runs', flush=True)
time.sleep(1000)
"""


def test_guest_that_hangs_is_ended_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test that hangs fails with where the card was and what the kernel said; those behind it
    fail without waiting."""
    guest = pytest_card.Guest(cast(Any, SimpleNamespace()))
    guest.directory = tmp_path
    guest.path, guest.log = tmp_path / 'reports.jsonl', tmp_path / 'guest.log'
    guest.path.touch()
    (tmp_path / 'kernel.log').write_text('task python3 blocked for more than 120 seconds')
    with guest.log.open('wb') as out:
        guest.process = subprocess.Popen([sys.executable, '-c', HANGS], stdout=out, stderr=out)
    while not guest.log.read_text():
        time.sleep(0.01)
    item = cast(pytest.Item, SimpleNamespace(nodeid='a::b', location=('a', 1, 'b')))
    monkeypatch.setattr(pytest_card, 'SILENCE', 0.2)
    first, = guest.wait_for(item)
    assert guest.process.returncode == -signal.SIGTERM
    assert first.failed
    assert 'no report for' in str(first.longrepr)
    assert 'most recent call first' in str(first.longrepr)
    assert 'blocked for more than 120 seconds' in str(first.longrepr)
    monkeypatch.setattr(pytest_card, 'SILENCE', 1000)
    second, = guest.wait_for(item)
    assert 'the guest ended' in str(second.longrepr)
