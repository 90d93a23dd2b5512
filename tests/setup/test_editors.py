# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What an editor shows at a call of ours: every argument with what it is, in which unit.

The editor is jedi, with the stubs of a wheel. Others, as Pylance, read the same stubs. What
inspect.signature() and so a REPL shows is in test_stubs.py.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vm.runs import machine_or_skip

TOP = Path(__file__).parents[2]
MACHINE = machine_or_skip()
sys.path.append(str(TOP / 'build/test-packages/editors'))
jedi = pytest.importorskip('jedi', reason='run the tests by buildlib/quickstart.sh')

MODULES = ('mlx5dv_dm', 'mlx5dv_devx_umem')
WHERE = 'pyverbs/providers/mlx5'
BUILT = MACHINE.rdma_core_build / 'python'


def calls() -> Iterator[tuple[str, str, list[str]]]:
    """Of every function, constructor and method: its name, a program that is about to call it, and
    its arguments."""
    for module in MODULES:
        tree = ast.parse((TOP / WHERE / f'{module}.pyi').read_text())
        for node in tree.body:
            begin = f'from pyverbs.providers.mlx5.{module} import {getattr(node, "name", "")}\n'
            if isinstance(node, ast.FunctionDef):
                yield node.name, f'{begin}{node.name}(', [a.arg for a in node.args.args]
            if not isinstance(node, ast.ClassDef) or node.name.startswith('_'):
                continue
            for f in node.body:
                if not isinstance(f, ast.FunctionDef) or 'property' in ast.dump(f) or (
                        f.decorator_list and 'setter' in ast.dump(f.decorator_list[0])):
                    continue
                static = 'staticmethod' in ast.dump(f)
                names = [a.arg for a in (*f.args.args, *f.args.kwonlyargs)][not static:]
                if f.name == '__init__':
                    yield node.name, f'{begin}{node.name}(', names
                elif not f.name.startswith('_'):
                    yield (f'{node.name}.{f.name}',
                           f'{begin}def f(x: {node.name}):\n    x.{f.name}(', names)


CALLS = list(calls())


@pytest.fixture(scope='module')
def environment() -> Any:
    """The Python whose modules are completed; they can be imported, as a user's can."""
    return jedi.create_environment(MACHINE.python, safe=False, env_vars=os.environ | {
        'LD_LIBRARY_PATH': str(MACHINE.rdma_core_build / 'lib')})


@pytest.fixture(scope='module')
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with stubs as a wheel has them."""
    root = tmp_path_factory.mktemp('stubs')
    directory = root / 'pyverbs-stubs/providers/mlx5'
    directory.mkdir(parents=True)
    for path in (root / 'pyverbs-stubs', directory.parent, directory):
        (path / '__init__.pyi').touch()
    for module in MODULES:
        shutil.copy(BUILT / WHERE / f'{module}.pyi', directory)
    return root


@pytest.mark.parametrize(('name', 'program', 'arguments'), CALLS,
                         ids=[name for name, _, _ in CALLS])
def test_arguments_are_shown(name: str, program: str, arguments: list[str], environment: Any,
                             stubs: Path, tmp_path: Path) -> None:
    """The names, in order, and each with its line of the docstring."""
    project = jedi.Project(tmp_path, smart_sys_path=False,
                           added_sys_path=[str(stubs), str(BUILT)])
    script = jedi.Script(program, project=project, environment=environment)
    shown, = script.get_signatures()
    assert [parameter.name for parameter in shown.params] == arguments
    text = shown.docstring(raw=True)
    assert [a for a in arguments if f':param {a}: ' not in text] == [], name


def test_old_pythons_can_write_the_stubs(tmp_path: Path) -> None:
    """The script that rdma-core's build runs is valid for Python 3.6, and says nothing."""
    script = TOP / 'buildlib/documented_stub.py'
    ast.parse(script.read_text(), feature_version=(3, 6))
    for module in MODULES:
        source = TOP / WHERE / module
        result = tmp_path / f'{module}.pyi'
        # A build of before had a link to the source there: the source stays as it is.
        result.symlink_to(source.with_suffix('.pyi'))
        before = source.with_suffix('.pyi').read_text()
        done = subprocess.run([MACHINE.python, script, source.with_suffix('.pyx'),
                               source.with_suffix('.pyi'), result], capture_output=True,
                              check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b'', b'')
        assert source.with_suffix('.pyi').read_text() == before
        assert not result.is_symlink()
        built = BUILT / WHERE / f'{module}.pyi'
        assert result.read_text() == built.read_text()


def test_nothing_but_docstrings_is_added() -> None:
    """The stub of a build is the source's, with the docstrings that the modules have."""
    def without(tree: ast.Module) -> str:
        for node in ast.walk(tree):
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
                node.body = node.body[1:] or [ast.Expr(ast.Constant(...))]
        return ast.dump(tree)
    for module in MODULES:
        built = BUILT / WHERE / f'{module}.pyi'
        source = TOP / WHERE / f'{module}.pyi'
        assert without(ast.parse(built.read_text())) == without(ast.parse(source.read_text()))
        assert built.read_text().count('"""') > 20
