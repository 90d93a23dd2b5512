# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The checkers: ruff, cython-lint, shellcheck, mypy, and the length of every line.

They are in the set-up's virtual environment, at the versions that requirements.txt pins.
"""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
#: Columns, for every kind of file.
WIDTH = 100
#: What is not written by hand: hashes, and a licence.
NOT_OURS = ('buildlib/quickstart/requirements.txt', 'buildlib/quickstart/pyverbs_sdists.txt',
            'COPYING.md')
#: Kinds of files that have lines.
TEXT = ('.py', '.pyx', '.pxd', '.pyi', '.h', '.c', '.in', '.sh', '.cmake', '.txt', '.toml', '.md')


def files() -> list[Path]:
    """The files of the tree: what git knows, or everything that is no build."""
    done = subprocess.run(['git', 'ls-files', '-z'], cwd=TOP, capture_output=True, check=False)
    if done.returncode == 0:
        return [TOP / name for name in done.stdout.decode().split('\0') if name]
    return [path for path in TOP.rglob('*') if path.is_file() and not any(
        part == 'build' or part.startswith('.git') for part in path.relative_to(TOP).parts)]


def tool(name: str, *arguments: str) -> str:
    """Run a checker; what it found, with its status if that is not 0."""
    if not (BIN / name).exists():
        pytest.skip(f'{name} is not in {BIN}: run the tests by buildlib/quickstart.sh')
    # Checkers call others by their names.
    environment = os.environ | {'PATH': f'{BIN}{os.pathsep}{os.environ["PATH"]}'}
    done = subprocess.run([BIN / name, *arguments], cwd=TOP, env=environment, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return done.stdout + (f'status {done.returncode}' if done.returncode else '')


def test_no_line_is_longer_than_the_others() -> None:
    found, seen = [], 0
    for path in files():
        name = str(path.relative_to(TOP))
        if path.suffix not in TEXT or name in NOT_OURS or not path.exists():
            continue
        seen += 1
        output = False
        for n, line in enumerate(path.read_text().splitlines(), 1):
            if path.suffix == '.md' and line.startswith('```'):
                # What a program printed is shown as it is.
                output = line == '```text'
            # A row of a table cannot be broken.
            row = path.suffix == '.md' and line.startswith('|')
            if len(line.expandtabs(8)) > WIDTH and not output and not row:
                found.append(f'{name}:{n}')
    assert found == [] and seen > 200


def test_ruff() -> None:
    assert tool('ruff', 'check', '.') == 'All checks passed!\n'


def test_cython_lint() -> None:
    sources = [str(path) for path in files() if path.suffix in ('.pyx', '.pxd')]
    assert len(sources) >= 8
    said = tool('cython-lint', *sources)
    # It parses no .pxd that begins with a declaration, and says so.
    assert [line for line in said.splitlines() if not line.startswith('Skipping file')] == []


def test_shellcheck() -> None:
    main = TOP / 'buildlib' / 'quickstart.sh'
    # The parts stand on each other: they are read, and checked, where the main script takes them
    # in.
    parts = [path for path in files() if path.parent == main.with_suffix('') and
             path.suffix == '.sh']
    assert [path for path in parts if f'/{path.name}"' not in main.read_text()] == []
    scripts = [str(path) for path in files() if path not in parts and path.exists() and (
        path.suffix == '.sh' or path.read_bytes()[:9] == b'#!/bin/sh')]
    assert len(parts) >= 9 and str(main) in scripts and len(scripts) >= 5
    assert tool('shellcheck', '-x', '-a', '-P', 'buildlib', *scripts) == ''


def test_mypy() -> None:
    assert tool('mypy').startswith('Success: no issues found')
