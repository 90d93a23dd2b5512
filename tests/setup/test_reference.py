# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The reference: Sphinx makes it of docstrings and documents without a warning, and it has every
public name."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
SPHINX = TOP / 'build/test-packages/sphinx'
STUBS = TOP / 'pyverbs/providers/mlx5'


@pytest.fixture(scope='module')
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of the page, made as CONTRIBUTING.md says."""
    out = tmp_path_factory.mktemp('reference')
    env = os.environ | {'PYTHONPATH': os.pathsep.join([str(SPHINX), *sys.path])}
    done = subprocess.run(
        [sys.executable, '-m', 'sphinx', '-b', 'html', '-W', '--keep-going', '-q', '-d',
         str(out / 'doctrees'), str(TOP / 'Documentation'), str(out / 'html')], env=env,
        capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, '')
    for picture in ('stack', 'ownership', 'bench'):
        assert (TOP / f'Documentation/{picture}.svg').read_text().count('</svg>') == 1
    return html.unescape(re.sub('<[^>]*>', '', (out / 'html/reference.html').read_text()))


@pytest.mark.parametrize('stub', ['mlx5dv_dm', 'mlx5dv_devx_umem', 'mlx5dv_dm_caps'])
def test_every_public_name(stub: str, reference: str) -> None:
    """Classes and functions of the stubs, and their methods and properties."""
    text = (STUBS / f'{stub}.pyi').read_text()
    names = set(re.findall(r'^(?:class|def) ([a-zA-Z]\w*)', text, re.MULTILINE))
    names |= set(re.findall(r'^    def ([a-zA-Z]\w*)', text, re.MULTILINE))
    assert len(names) > 3
    assert {name for name in names if not re.search(rf'\b{name}\b', reference)} == set()
