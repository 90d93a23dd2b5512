# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A million hostile inputs at every entrance of the emulated card, over all processors: none
escapes, hangs, or makes it grow.

    quickstart.sh test -m 'not million'       leaves this out: some minutes
    MLX5EMU_FUZZ=0.01 quickstart.sh test tests/emulator/test_million.py
"""
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import pytest

SCALE = float(os.environ.get('MLX5EMU_FUZZ', '1'))
INPUTS = int(1_000_000 * SCALE)
#: Inputs between two looks at the clock and the memory.
BATCH = 500
#: Seconds of processor time that one input may take, and of real time that a batch may.
MOST_CPU, MOST_REAL = 2.0, 300
#: Growth in KiB of the resident memory after the first batches that is no leak: Python's arenas,
#: caches of paths, one full quota.
GROWTH = 192 << 10


class Hang(Exception):
    """A batch did not come back."""


def resident() -> int:
    """Resident memory in KiB as it is now; the peak that the kernel keeps is, after exec, that of
    the process which started this one."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * resource.getpagesize() >> 10


def _alarm(_signal: int, _frame: FrameType | None) -> None:
    raise Hang(f'no end after {MOST_REAL} s')


def run(name: str, seed: int, inputs: int, directory: Path) -> dict[str, float]:
    """Give an entrance its inputs.

    :return: what was measured: inputs, seconds, slowest input in seconds, growth in KiB.
    :raises AssertionError: a defect, a slow input, growth.
    :raises Hang: an input that does not end.
    """
    from emulator.driver import hostile
    entrance = getattr(hostile, name)(random.Random(seed), directory)
    signal.signal(signal.SIGALRM, _alarm)
    clock = time.process_time if name == 'Messages' else time.thread_time
    slowest, base, most, done, start = 0.0, 0, 0, 0, time.monotonic()
    warm = min(inputs // 5, 20_000)
    try:
        while done < inputs:
            signal.alarm(MOST_REAL)
            for _ in range(min(BATCH, inputs - done)):
                before = clock()
                entrance.step()
                slowest = max(slowest, clock() - before)
            done += BATCH
            signal.alarm(0)
            assert slowest < MOST_CPU, (
                f'{name}, seed {seed}: an input before {done} took {slowest:.1f} s')
            now = resident()
            if done <= max(warm, BATCH):
                base = now
            most = max(most, now)
            assert most - base < GROWTH, (
                f'{name}, seed {seed}: grew by {most - base} KiB until {done}')
            entrance.check()
    finally:
        signal.alarm(0)
        entrance.stop()
    return {
        'inputs': inputs, 'seconds': time.monotonic() - start, 'slowest': slowest, 'growth': max(
            0, most - base)}


@pytest.mark.million
def test_million(tmp_path: Path) -> None:
    """Every entrance its share, as many at a time as there are processors."""
    from emulator.driver.hostile import ENTRANCES
    processors = os.cpu_count() or 1
    work = []
    for k, (entrance, share) in enumerate(ENTRANCES):
        # Small pieces, so that no processor is idle at the end.
        pieces = max(1, round(share * 20))
        work += [
            (entrance.__name__, 100 * k + p, round(INPUTS * share / pieces)) for p in range(pieces)]
    total = sum(n for _, _, n in work)
    assert total == INPUTS
    running: list[tuple[str, int, subprocess.Popen[str]]] = []
    rows: dict[str, list[float]] = {}
    failures = []
    start = time.monotonic()
    try:
        while work or running:
            while work and len(running) < processors:
                name, seed, inputs = work.pop(0)
                argv = [sys.executable, __file__, name, str(seed), str(inputs), str(tmp_path)]
                running.append((name, seed,
                                subprocess.Popen(argv, stdout=subprocess.PIPE,
                                                 stderr=subprocess.STDOUT, text=True)))
            name, seed, process = running.pop(0)
            out, _ = process.communicate()
            if process.returncode:
                failures.append(f'{name}, seed {seed}:\n{out[-6000:]}')
                continue
            got = json.loads(out.splitlines()[-1])
            row = rows.setdefault(name, [0, 0, 0, 0])
            row[0], row[1] = row[0] + got['inputs'], row[1] + got['seconds']
            row[2], row[3] = max(row[2], got['slowest']), max(row[3], got['growth'])
    finally:
        for _, _, process in running:
            process.kill()
            process.communicate()
    print(f'\n{"entrance":18}{"inputs":>10}{"inputs/s":>10}{"slowest, ms":>13}{"growth, MiB":>13}')
    for name, (inputs, seconds, slowest, growth) in rows.items():
        print(
            f'{name:18}{inputs:10}{inputs / seconds:10.0f}{slowest * 1000:13.1f}'
            f'{growth / 1024:13.1f}'
        )
    print(f'{INPUTS} inputs in {time.monotonic() - start:.0f} s on {processors} processors')
    assert not failures, '\n'.join(failures)
    assert sum(int(r[0]) for r in rows.values()) == INPUTS


if __name__ == '__main__':
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))))
