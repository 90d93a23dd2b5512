# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Commands of the documents that take minutes, as they are shown there: the whole suite, all
foreign programs, the benchmarks, a tree and a wheel.

They are run by name only, as `.ci/long` does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from setup.documents import ALL, QUICKSTART, TOP, commands
from vm.runs import SETUP_PATIENCE, in_a_guest, machine_or_skip

MACHINE = machine_or_skip()
SHOWN = list(dict.fromkeys(command for document in ALL for command in commands(document)))
#: What fails without KVM, and why is in Documentation/rdma_core_suite.md.
KNOWN = 'test_flow_meter'


def shown(*beginnings: str) -> list[str]:
    """The documents' commands that begin so."""
    return [command for command in SHOWN if command.startswith(beginnings)]


def run(command: str, directory: Path = TOP, **variables: str) -> str:
    """Run one to its end with status 0; what it printed."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(('MLX5', 'PYTEST', 'PIP_')) and k != 'LD_LIBRARY_PATH'}
    done = subprocess.run(['bash', '-c', command], cwd=directory, env=env | variables,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=SETUP_PATIENCE, check=False)
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.fixture
def clone() -> Iterator[Path]:
    """A directory like that of a clone, with a tree of rdma-core in it; below build/, which a guest
    sees."""
    with tempfile.TemporaryDirectory(dir=TOP / 'build') as directory:
        for path in (*TOP.iterdir(), MACHINE.rdma_core_source):
            if path.name not in ('build', '.git'):
                name = 'rdma-core' if path == MACHINE.rdma_core_source else path.name
                (Path(directory) / name).symlink_to(path)
        (Path(directory) / 'build').mkdir()
        yield Path(directory)


@pytest.mark.parametrize('command', shown(f'{QUICKSTART} suite'))
def test_suite(command: str, tmp_path: Path, clone: Path) -> None:
    """Nothing fails but what is known to."""
    command = command.replace('DIR', str(clone / 'rdma-core'))
    said = run(f'{command} --known {KNOWN} --json {tmp_path}/results.json')
    results = json.loads((tmp_path / 'results.json').read_text())
    found = re.search(r'^suite: (\d+) passed, .* of (\d+)', said, re.MULTILINE)
    assert found and int(found[1]) > 0, said[-2000:]
    assert results
    if command.endswith(' suite'):
        figures = (TOP / 'Documentation/rdma_core_suite.md').read_text()
        assert f'`suite: {found[1]} passed, 1 failed, 49 skipped of {found[2]}`' in figures
        assert f'{found[1]} of {found[2]}' in (TOP / 'README.md').read_text()


def test_foreign() -> None:
    """All of them."""
    run(f'{QUICKSTART} foreign')


@pytest.mark.parametrize('command', shown(f'{QUICKSTART} bench', 'PYTHONPATH=tests build/venv'))
def test_bench(command: str) -> None:
    """The benchmarks go through."""
    run(command)


def test_tree(clone: Path, tmp_path: Path) -> None:
    """The hook in a tree, and the tests of both classes by that tree's own runner."""
    *configure, build, test = shown('cmake -S rdma-core', 'cmake --build build/tree',
                                    'build/tree/bin/')
    path = f'{Path(MACHINE.python).parent}:{os.environ["PATH"]}'
    for command in configure:
        run(command, clone, PATH=path)
    run(build, clone, PATH=path)
    words = ['sh', '-c', f'{clone}/{test}']
    said = in_a_guest(tmp_path, [], *words)
    found = re.search(r'^Ran (\d+) tests', said.stderr + said.stdout, re.MULTILINE)
    assert found and int(found[1]) > 170
    assert 'skipped' not in (said.stderr + said.stdout).splitlines()[-1]


def test_wheel(clone: Path, tmp_path: Path) -> None:
    """pip builds and installs it, the card sees it, and pip takes all of it out again."""
    install, uninstall = shown('PIP_CONSTRAINT=', 'pip uninstall')
    venv = clone / 'build/wheel'
    run(f'{MACHINE.python} -m venv {venv}')
    before = {path for path in venv.rglob('*') if '__pycache__' not in path.parts}
    path = f'{venv}/bin:{os.environ["PATH"]}'
    run(install, clone, PATH=path)
    library = f'LD_LIBRARY_PATH={MACHINE.rdma_core_build}/lib'
    said = in_a_guest(tmp_path, [], 'env', '-u', 'PYTHONPATH', library,
                      str(venv / 'bin/mlx5dv-dm-caps')).stdout
    assert 'STEERING' in said and (venv / 'bin/mlx5dv-dm-caps').exists()
    run(f'{uninstall} -y', clone, PATH=path)
    assert {path for path in venv.rglob('*') if '__pycache__' not in path.parts} == before
