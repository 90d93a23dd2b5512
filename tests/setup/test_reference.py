# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The reference: Sphinx makes it of docstrings and documents without a warning, and it has every
public name."""

from __future__ import annotations

import html
import re
import subprocess

import pytest
from setup.documents import TOP, commands
from vm.runs import machine_or_skip

MACHINE = machine_or_skip()
STUBS = TOP / 'pyverbs/providers/mlx5'


@pytest.fixture(scope='module')
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of the page, made by the command of CONTRIBUTING.md, with warnings as errors."""
    out = tmp_path_factory.mktemp('reference')
    command = next(c for c in commands(TOP / 'CONTRIBUTING.md') if '-m sphinx' in c)
    command = command.replace('build/rdma-core-59.0-build', str(MACHINE.rdma_core_build))
    assert command.endswith(' Documentation build/html')
    done = subprocess.run(
        ['bash', '-c', command.replace('build/html', str(out / 'html')) +
         f' -W --keep-going -q -d {out}/doctrees'], cwd=TOP, capture_output=True, text=True,
        check=False)
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


@pytest.mark.parametrize('module', ['mlx5dv_dm', 'mlx5dv_devx_umem'])
def test_every_argument_and_errno(module: str, reference: str) -> None:
    """Each with all that the docstrings say of it."""
    def words(text: str) -> str:
        # Sphinx writes quotes, dashes and dots of its own.
        return ' '.join(re.findall(r'\w+', text))
    page = words(reference)
    source = (MACHINE.rdma_core_build / f'python/pyverbs/providers/mlx5/{module}.pyi').read_text()
    fields = re.findall(r'^ +:(?:param|raises) (\w+): (.*?)(?=\n *(?::|\n|"""))', source,
                        re.MULTILINE | re.DOTALL)
    assert len(fields) > 20
    for name, text in fields:
        assert words(f'{name} {text}') in page, (name, text)
