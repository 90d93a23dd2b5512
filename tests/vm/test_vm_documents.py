# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What the README, the tutorial and the how-tos show is run: each `quickstart.sh run` of them, with
what it is to print, and each block of Python."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from mlx5emu.vm.machine import PROJECT
from vm.runs import in_a_guest, machine_or_skip

machine_or_skip()

DOCUMENTS = [PROJECT / 'README.md', *(PROJECT / 'Documentation' / name for name in (
    'tutorial.md', 'mlx5_dm.md', 'mlx5_devx_umem.md')),
             *sorted((PROJECT / 'Documentation/how_to').glob('*.md'))]
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
#: Programs that the reader writes, or a mistake that is to fail.
NOT_HERE = ('myscript.py', 'mistake.py', '--trace')

IN_GUEST = """
import json, subprocess, sys
results = []
for words in json.loads(sys.argv[1]):
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    results.append([done.returncode, done.stdout])
print(json.dumps(results))
"""


def commands(text: str) -> list[str]:
    """The shell commands that a document has the reader run in the guest."""
    joined = text.replace('\\\n', ' ')
    found = re.findall(r'^    bash buildlib/quickstart\.sh run -- (.*)$', joined, re.MULTILINE)
    return [c for c in found if not any(word in c for word in NOT_HERE)]


def blocks(text: str, kind: str) -> list[str]:
    """The blocks of a kind in a document."""
    return re.findall(rf'^```{kind}\n(.*?)^```', text, re.MULTILINE | re.DOTALL)


def plain(text: str) -> list[str]:
    """Lines without what differs from run to run."""
    return [re.sub(r'0x[0-9a-f]+', '0x', line) for line in text.splitlines() if line.strip()]


def program(document: Path) -> str:
    """All Python of a document as one program; what a whole one imports it has itself."""
    parts = blocks(document.read_text(), 'python')
    whole = any(re.search('^(from|import) ', part, re.MULTILINE) for part in parts)
    return ('' if whole else PRELUDE) + ''.join(parts)


@pytest.fixture(scope='module')
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[int, str]]:
    """What each command, and each document's Python, came to, by document, from one guest."""
    keys, words = [], []
    for document in DOCUMENTS:
        text = document.read_text()
        for command in commands(text):
            keys.append((document.name, command))
            words.append(['sh', '-c', command])
        if blocks(text, 'python'):
            keys.append((document.name, 'python'))
            words.append([sys.executable, '-c', program(document)])
    said = in_a_guest(tmp_path_factory.mktemp('documents'), [], sys.executable, '-c', IN_GUEST,
                      json.dumps(words)).stdout
    return dict(zip(keys, map(tuple, json.loads(said.splitlines()[-1])), strict=True))


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda path: path.name)
def test_what_it_shows(document: Path,
                       results: dict[tuple[str, str], tuple[int, str]]) -> None:
    """Everything ends with 0, and what a command is shown to print it prints."""
    text = document.read_text()
    printed = []
    for command in [*commands(text), *(['python'] if blocks(text, 'python') else [])]:
        status, output = results[document.name, command]
        assert status == 0, output
        printed += plain(output)
    if commands(text):
        shown = [line for block in blocks(text, 'text') for line in plain(block)
                 if not line.startswith(('--device', 'pyverbs.', '  8.'))
                 and 'cq_context' not in line]
        assert [line for line in shown if line not in printed] == []


def test_something_is_shown() -> None:
    """The patterns above find what there is."""
    assert sum(len(commands(d.read_text())) for d in DOCUMENTS) >= 9
    assert sum(len(blocks(d.read_text(), 'python')) for d in DOCUMENTS) >= 15
