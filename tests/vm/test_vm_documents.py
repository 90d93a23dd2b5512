# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What the README, the tutorial and the how-tos show is run: each `quickstart.sh run` of them, with
what it is to print, and each block of Python."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlx5emu.vm.machine import PROJECT
from setup.documents import ALL, QUICKSTART, WITH_PYTHON, blocks, commands
from vm.runs import in_a_guest, machine_or_skip, quickstart

machine_or_skip()

TRACE = PROJECT / 'Documentation/trace.md'
#: What a document's Python has before its first line, where it is a part of a program.
PRELUDE = """
import mmap, os, sys
sys.path.insert(0, 'pyverbs/examples')
import numpy
import pyverbs.device as d
from first_devx_object import *
from memic_traffic import *
from dmabuf_umem import udmabuf
from huge_page_umem import HUGE, MAP_HUGETLB
from pyverbs.device import DM, AllocDmAttr, Context
from pyverbs.providers.mlx5.mlx5dv import Mlx5UMEM
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5AllocDmAttr, mlx5dv_alloc_dm_type
open('/proc/sys/vm/nr_hugepages', 'w').write('4')
STEERING = mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_STEERING_SW_ICM
attr = Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX)
ctx = Mlx5Context(attr, 'mlx5_0')
pd, cq, access = PD(ctx), CQ(ctx, 16), REMOTE
qp, peer = connected_pair(ctx, pd, cq)
host, array = MR(pd, LENGTH, REMOTE), numpy.zeros(1024)
dm = Mlx5DM(ctx, AllocDmAttr(length=64))
handle, fd, length, offset = dm.handle, udmabuf(65536), 16384, 4096
"""
#: Programs that the reader writes.
NOT_HERE = ('myscript.py', 'mistake.py')
#: Where the tutorial has the reader change a program.
CHANGE = '## A mistake'

IN_GUEST = """
import json, subprocess, sys
results = []
for words in json.loads(sys.argv[1]):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    results.append([done.returncode, done.stdout])
print(json.dumps(results))
"""


def in_the_guest(document: Path) -> list[str]:
    """The commands that a document has the reader run in the guest, as they are."""
    found = [command.removeprefix(f'{QUICKSTART} run -- ') for command in commands(document)
             if command.startswith(f'{QUICKSTART} run -- ')]
    return list(dict.fromkeys(c for c in found if not any(word in c for word in NOT_HERE)))


def plain(text: str) -> list[str]:
    """Lines without what differs from run to run: numbers, and the time at which a trace has it."""
    return [' '.join(re.sub(r'^ *\d+\.\d+|0x[0-9a-f]+|\b\d[\d.]*\b', '#', line).split())
            for line in text.splitlines() if line.strip()]


def program(document: Path) -> str:
    """All Python of a document as one program; what a whole one imports it has itself."""
    parts = blocks(document, 'python')
    whole = any(re.search('^(from|import) ', part, re.MULTILINE) for part in parts)
    return ('' if whole else PRELUDE) + ''.join(parts)


@pytest.fixture(scope='module')
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[int, str]]:
    """What each command, and each document's Python, came to, by document, from one guest."""
    keys, words = [], []
    for document in WITH_PYTHON:
        for command in in_the_guest(document):
            keys.append((document.name, command))
            words.append(['sh', '-c', command])
        if blocks(document, 'python') and document != TRACE:
            keys.append((document.name, 'python'))
            words.append([sys.executable, '-c', program(document)])
    said = in_a_guest(tmp_path_factory.mktemp('documents'), [], sys.executable, '-c', IN_GUEST,
                      json.dumps(words)).stdout
    return dict(zip(keys, map(tuple, json.loads(said.splitlines()[-1])), strict=True))


@pytest.mark.parametrize('document', WITH_PYTHON, ids=lambda path: path.name)
def test_what_it_shows(document: Path,
                       results: dict[tuple[str, str], tuple[int, str]]) -> None:
    """Everything ends with 0, and what a command is shown to print it prints."""
    printed = []
    for (name, _), (status, output) in results.items():
        if name == document.name:
            assert status == 0, output
            printed += plain(output)
    if in_the_guest(document):
        text = document.read_text().split(CHANGE)[0]
        shown = [line for block in re.findall(r'^```text\n(.*?)^```', text, re.M | re.S)
                 for line in plain(block)]
        assert [line for line in shown if line not in printed] == []


def test_something_is_shown() -> None:
    """The patterns above find what there is."""
    assert sum(len(in_the_guest(document)) for document in WITH_PYTHON) >= 10
    assert sum(len(blocks(document, 'python')) for document in WITH_PYTHON) >= 15


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that a guest sees, which has a /tmp of its own."""
    with tempfile.TemporaryDirectory(dir=PROJECT / 'build') as directory:
        yield Path(directory)


def test_demo() -> None:
    """README's table, as the command prints it."""
    done = quickstart('demo')
    assert done.returncode == 0, done.stdout + done.stderr
    printed = plain(done.stdout + done.stderr)
    table = blocks(PROJECT / 'README.md', 'text')[0]
    assert [line for line in plain(table) if line not in printed] == []
    assert len(plain(table)) > 15


def test_a_program_of_the_readers(shared: Path) -> None:
    """README's block of Python in a file of the reader's."""
    script = shared / 'myscript.py'
    script.write_text(blocks(PROJECT / 'README.md', 'python')[0])
    done = quickstart('run', '--', 'python3', str(script))
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r'0x[0-9a-f]+000\n0x[0-9a-f]+\n', done.stdout)


def test_a_mistake(shared: Path) -> None:
    """The program that trace.md has, and its trace."""
    script = shared / 'mistake.py'
    script.write_text(blocks(TRACE, 'python')[0])
    done = quickstart('run', '--trace', '--', 'python3', str(script))
    assert done.returncode == 1
    shown, printed = plain(blocks(TRACE, 'text')[0]), plain(done.stderr)
    assert len(shown) == 4 and [line for line in shown if line not in printed] == []


def test_the_mistake_of_the_tutorial(shared: Path) -> None:
    """What the reader is told to change, what it ends in, and what the trace says."""
    tutorial = PROJECT / 'Documentation/tutorial.md'
    text = ' '.join(tutorial.read_text().split(CHANGE)[1].split())
    assert 'In `devx_connection.py` change `log_cq_size` to 30' in text
    shutil.copytree(PROJECT / 'pyverbs/examples', shared / 'examples')
    program = shared / 'examples/devx_connection.py'
    before = program.read_text()
    program.write_text(before.replace("'log_cq_size': LOG_CQES", "'log_cq_size': 30"))
    assert program.read_text() != before
    done = quickstart('run', '--trace', '--', 'python3',
                      str(shared / 'examples/devx_queue_pair.py'))
    assert done.returncode == 1
    shown = [line for block in blocks(tutorial, 'text')[-2:] for line in plain(block)]
    printed = plain(done.stdout + done.stderr)
    assert len(shown) == 5 and [line for line in shown if line not in printed] == []


@pytest.mark.parametrize('command', sorted({
    command for document in ALL for command in commands(document)
    if command.startswith(f'{QUICKSTART} test tests/')}))
def test_choices_of_tests(command: str) -> None:
    """There are such tests; they are not run once more."""
    words = shlex.split(f'{command} --collect-only -q')[2:]
    done = quickstart(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r'^(\d+)(?:/\d+)? tests? collected', done.stdout, re.MULTILINE)
    assert found and int(found[1]) > 0
