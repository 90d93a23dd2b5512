# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The project's commands, started as a user would: `mlx5emu run`, which boots a guest, and
quickstart.sh."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlx5emu.vm.machine import PROJECT, Machine, MachineError

TESTS = PROJECT / 'tests'
#: Seconds after which a guest counts as hanging. No test depends on how fast the machine is.
PATIENCE = 900
#: The same for what may build rdma-core and fetch packages before its guest boots.
SETUP_PATIENCE = 3600


def machine_or_skip() -> Machine:
    """Return what the set-up left; without it the calling file is skipped."""
    try:
        return Machine.load()
    except MachineError as e:
        pytest.skip(str(e), allow_module_level=True)


def machine_with(machine: Machine, kernel: str) -> Path:
    """Return the description of a machine with another kernel of the set-up's.

    :param kernel: stable, which the usual one has, or backports
    """
    if kernel == 'stable':
        return machine.path
    build = machine.rdma_core_build.name.removesuffix('-build')
    path = PROJECT / 'build' / f'machine-{build}-{kernel}.json'
    assert path.exists(), f'{path} is missing: `bash buildlib/quickstart.sh test` makes it'
    return path


def argv(*words: str) -> list[str]:
    """Return the command line of `mlx5emu run`."""
    return [sys.executable, '-m', 'mlx5emu', 'run', *words]


def environment(tmp: Path, machine: Path | None = None) -> dict[str, str]:
    """Return the environment in which a run leaves its logs and sockets below tmp.

    :param machine: the description of the machine, if it is not the usual one
    """
    env = os.environ | {
        'PYTHONPATH': str(TESTS), 'MLX5EMU_LOG': str(tmp / 'log'), 'TMPDIR': str(tmp)}
    return env | {'MLX5EMU_MACHINE': str(machine)} if machine else env


def in_a_guest(tmp: Path, words: list[str], *command: str,
               machine: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command in a guest, to its end with status 0; return what it printed.

    :param words: options of `mlx5emu run`
    """
    done = subprocess.run(argv(*words, '--', *command), env=environment(tmp, machine), cwd=PROJECT,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def quickstart(*words: str) -> subprocess.CompletedProcess[str]:
    """Run quickstart.sh to its end, in an environment that is not this test's."""
    env = {
        k: v for k, v in os.environ.items()
        if not k.startswith(('MLX5', 'PYTEST')) and k not in ('PYTHONPATH', 'LD_LIBRARY_PATH')}
    return subprocess.run(['bash', 'buildlib/quickstart.sh', *words], cwd=PROJECT, env=env,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=SETUP_PATIENCE, check=False)
