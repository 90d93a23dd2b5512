# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The emulated card runs on PyPy, which the set-up fetches, and on CPython, which runs the other
tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from mlx5emu.vm.initramfs import Modules
from mlx5emu.vm.machine import Machine
from vm.runs import machine_or_skip

TOP = Path(__file__).resolve().parents[2]
#: It starts its own interpreter again, which is one that only its starter can start.
NOT_FOR_PYPY = 'loads_nothing_of_the_data_path'


def test_models_on_pypy() -> None:
    """The emulator's own tests pass on what runs the card."""
    machine = machine_or_skip()
    said = subprocess.run([machine.card_python, '-c', 'import sys; print(sys.implementation.name)'],
                          capture_output=True, text=True, check=True).stdout
    assert said == 'pypy\n'
    # pytest and what it stands on are plain Python: one copy does for both.
    path = [str(TOP / 'tests'), str(Path(pytest.__file__).parents[1])]
    done = subprocess.run([
        machine.card_python, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-m', 'not million',
        '-k', f'not {NOT_FOR_PYPY}', TOP / 'tests/emulator'], capture_output=True, text=True,
                          cwd=TOP, env=os.environ | {
                              'PYTHONPATH': os.pathsep.join(path),
                              'MLX5_INCLUDE': str(machine.mlx5_include)}, check=False)
    assert done.returncode == 0, done.stdout[-3000:]


def test_kernel_modules_on_pypy() -> None:
    """What runs the card finds the kernel's modules, as this Python does: on a new machine it makes
    the guest's first file system of them."""
    machine = Machine.load()
    program = ('import sys; from pathlib import Path; from mlx5emu.vm.initramfs import Modules\n'
               'print(*sorted(Modules(Path(sys.argv[1])).files))')
    said = subprocess.run([machine.card_python, '-c', program, machine.modules],
                          env=os.environ | {'PYTHONPATH': str(TOP / 'tests')}, capture_output=True,
                          text=True, check=True).stdout
    assert said.split() == sorted(Modules(machine.modules).files)
    assert 'mlx5_ib' in said.split()
