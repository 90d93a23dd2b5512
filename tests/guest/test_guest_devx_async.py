# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""DEVX commands that nobody waits for, and events of the device, through the library's calls that
pyverbs does not have."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from guest.c_program import built
from guest.ports import DEVICES, port
from mlx5emu.vm import control
from patience import PATIENCE, until

pytestmark = pytest.mark.skipif(
    not control.available(),
    reason='needs the emulated card: run `bash buildlib/quickstart.sh test`')

SOURCE = Path(__file__).with_name('devx_async.c')
#: PORT_CHANGE, and its subtypes.
PORT_CHANGE, DOWN, ACTIVE = 9, 1, 4
#: As many as the program gives the device before it looks for answers.
QUERIES = 3


def test_answers_and_events() -> None:
    """Queries return while the card holds their answers, which come once it gives them; a port that
    goes down and up is told with the cookie."""
    before = control.call('objects').get('q_counter', [])
    # All of them: the driver asks now and then for counters of its own.
    control.call('fault', opcode='QUERY_Q_COUNTER', count=-1, hold=True)
    with built(SOURCE, 'mlx5', 'ibverbs') as program:
        running = subprocess.Popen([program, DEVICES[0]], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, text=True)
        assert running.stdout
        try:
            assert running.stdout.readline() == 'waiting 1\n'
            until(lambda: control.call('held') >= QUERIES, 'the queries are at the card')
            control.call('release')
            said = sorted(running.stdout.readline() for _ in range(QUERIES))
            assert said == [f'answer {100 + k} status 0\n' for k in range(QUERIES)]
            assert running.stdout.readline() == 'subscribed\n'
            assert control.call('objects').get('q_counter', []) == before
            for up, subtype in ((False, DOWN), (True, ACTIVE)):
                assert control.call('port', up=up) is up
                assert running.stdout.readline(
                ) == f'event 0x5eed type {PORT_CHANGE} subtype {subtype}\n'
            assert running.wait(PATIENCE) == 0
        finally:
            running.kill()
            running.wait()
            control.call('faults_clear')
            control.call('port', up=True)
    until(lambda: 'ACTIVE' in (port(DEVICES[0]) / 'state').read_text(),
          'the driver sees the port come up')
