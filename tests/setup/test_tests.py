# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What holds for the tests themselves: they share by modules that are no tests, and their names say
what is tested."""
from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
#: rdma-core's own tests, as its runner calls them: what ours are held against.
UPSTREAM = ('tests.test_mlx5_devx', )
#: What says nothing of what is refused, or documented, or right.
EMPTY_NAMES = re.compile(
    r'test_(refused|refusals|documented|errors?|works|basic|simple|bad|wrong|misc|it|[0-9]+)$')


def parsed() -> dict[Path, ast.Module]:
    """Every file of the tests, the emulator left out."""
    return {path: ast.parse(path.read_text()) for path in sorted(TESTS.rglob('*.py'))
            if 'mlx5emu' not in path.parts}


def test_no_test_imports_a_test() -> None:
    found = []
    for path, tree in parsed().items():
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f'{node.module}.{alias.name}' for alias in node.names]
            found += [f'{path.relative_to(TESTS)} imports {name}' for name in names
                      if re.search(r'(^|\.)test_', name) and name not in UPSTREAM]
    assert found == []


def test_names_state_behaviour() -> None:
    names = [f'{path.relative_to(TESTS)}::{node.name}' for path, tree in parsed().items()
             for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert len(names) > 1000
    assert [name for name in names if EMPTY_NAMES.search(name)] == []


def test_the_guest_of_the_model_is_made_in_one_place() -> None:
    made = Counter(node.name for path, tree in parsed().items() if 'emulator' in path.parts
                   for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
                   and node.name in ('guest', 'Guest', 'GuestMemory'))
    assert made == {'guest': 1, 'Guest': 1, 'GuestMemory': 1}
