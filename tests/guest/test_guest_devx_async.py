# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""DEVX commands that nobody waits for, and events of the device, through the library's calls that
pyverbs does not have."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from guest.c_program import built
from guest.ports import DEVICES, port
from mlx5emu.vm import control

pytestmark = pytest.mark.skipif(
    not control.available(),
    reason='needs the emulated card: run `bash buildlib/quickstart.sh test`')

SOURCE = Path(__file__).with_name('devx_async.c')
#: PORT_CHANGE, and its subtypes.
PORT_CHANGE, DOWN, ACTIVE = 9, 1, 4


def test_answers_and_events() -> None:
    """Queries return at once and are answered when the card is ready; a port that goes down and up
    is told with the cookie."""
    before = control.call('objects').get('q_counter', [])
    control.call('fault', opcode='QUERY_Q_COUNTER', count=3, delay_ms=500)
    with built(SOURCE, 'mlx5', 'ibverbs') as program:
        running = subprocess.Popen([program, DEVICES[0]], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, text=True)
        assert running.stdout
        try:
            said = [running.stdout.readline() for _ in range(5)]
            assert said[0] == 'waiting 1\n', 'an answer is half a second away'
            assert sorted(said[1:4]) == [f'answer {100 + k} status 0\n' for k in range(3)]
            assert said[4] == 'subscribed\n'
            assert control.call('objects').get('q_counter', []) == before
            for up, subtype in ((False, DOWN), (True, ACTIVE)):
                assert control.call('port', up=up) is up
                assert running.stdout.readline(
                ) == f'event 0x5eed type {PORT_CHANGE} subtype {subtype}\n'
            assert running.wait(30) == 0
        finally:
            running.kill()
            running.wait()
            control.call('faults_clear')
            control.call('port', up=True)
    end = time.monotonic() + 20
    while 'ACTIVE' not in (port(DEVICES[0]) / 'state').read_text():
        assert time.monotonic() < end, 'the driver did not see the port come up'
        time.sleep(0.05)
