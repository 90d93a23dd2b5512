# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Each promise of Documentation/promises.md has its test."""
from __future__ import annotations

import ast
import re
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
#: What begins the place of a test where there can be none; the reason follows.
NONE = 'no test: '


def test_each_promise_has_its_test() -> None:
    known = {node.name for path in (TOP / 'tests').rglob('test_*.py')
             for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.FunctionDef) and node.name.startswith('test_')}
    rows = re.findall(r'^\| (.+) \| (.+) \|$',
                      (TOP / 'Documentation' / 'promises.md').read_text(), re.MULTILINE)
    rows = [row for row in rows if row not in (('promise', 'test'), ('---', '---'))]
    missing = [f'{promise}: {name}' for promise, names in rows if not names.startswith(NONE)
               for name in names.split(', ') if name not in known]
    assert missing == []
    assert len(rows) > 25
