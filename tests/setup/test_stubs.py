# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The .pyi files say what the modules have, name by name and parameter by parameter, and every
public name is documented.

It needs the built modules and no device. What mypy finds is here too: its stubtest, and the
examples by --strict.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mlx5emu.vm.machine import Machine

NAMES = ('mlx5dv_dm', 'mlx5dv_dm_caps', 'mlx5_trial', 'mlx5dv_devx_umem')

try:
    MODULES = [importlib.import_module(f'pyverbs.providers.mlx5.{name}') for name in NAMES]
except ImportError as e:
    pytest.skip(f'the modules are not built: {e}', allow_module_level=True)

Function = ast.FunctionDef
#: Members that stubs describe and Python keeps elsewhere, or that come from a base.
INHERITED = {'__enter__', '__buffer__'}


def stub(module: ModuleType) -> ast.Module:
    """Return the parsed stub of a module, from where type checkers look for it: beside it."""
    name = module.__name__.rpartition('.')[2]
    return ast.parse((Path(str(module.__file__)).parent / f'{name}.pyi').read_text())


def public(names: Iterator[str] | Any) -> set[str]:
    """Return those that are no implementation detail."""
    return {n for n in names if not n.startswith('_')}


def own(module: ModuleType) -> dict[str, Any]:
    """Return what a module defines itself, not what it imports."""
    return {
        n: v for n, v in vars(module).items() if not n.startswith('_') and
        not inspect.ismodule(v) and getattr(v, '__module__', module.__name__) == module.__name__}


def decorators(node: Function | ast.ClassDef) -> set[str]:
    """Return the names of the decorators, `x.setter` as `setter`."""
    return {ast.unparse(d).rpartition('.')[2].partition('(')[0] for d in node.decorator_list}


def functions(body: list[ast.stmt]) -> dict[str, Function]:
    """Return the functions of a body by name; of a property the getter."""
    return {
        n.name: n for n in body if isinstance(n, ast.FunctionDef) and 'setter' not in decorators(n)}


def parameters(node: Function, *, bound: bool) -> list[tuple[str, bool, bool]]:
    """Return (name, whether keyword-only, whether it has a default) of a stub's function, without
    self or cls."""
    a = node.args
    plain = a.posonlyargs + a.args
    defaults = [False] * (len(plain) - len(a.defaults)) + [True] * len(a.defaults)
    out = [(p.arg, False, d) for p, d in zip(plain, defaults, strict=True)][int(bound):]
    return out + [
        (p.arg, True, d is not None) for p, d in zip(a.kwonlyargs, a.kw_defaults, strict=True)]


def runtime(function: Any, *, bound: bool) -> list[tuple[str, bool, bool]]:
    """Return the same of what the module has."""
    found = list(inspect.signature(function).parameters.values())[int(bound):]
    return [(p.name, p.kind is p.KEYWORD_ONLY, p.default is not p.empty) for p in found]


def classes(module: ModuleType) -> Iterator[tuple[ast.ClassDef, type]]:
    """Yield each public class of a stub with the module's."""
    for node in stub(module).body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith('_'):
            yield node, getattr(module, node.name)


def is_property(member: Any) -> bool:
    """Tell whether it is one, Cython's or Python's."""
    return isinstance(
        member,
        property) or inspect.isgetsetdescriptor(member) or inspect.ismemberdescriptor(member)


def is_writable(member: Any, cls: type) -> bool:
    """Tell whether a property can be set, by the error that another object gets."""
    try:
        member.__set__(cls.__new__(cls), object())
    except AttributeError:
        return False
    except Exception:
        return True
    return True


@pytest.mark.parametrize('module', MODULES, ids=NAMES)
def test_names(module: ModuleType) -> None:
    """The stub has the public names of the module, and no others; classes have the members and
    bases that it says."""
    tree = stub(module)
    told = {n.name for n in tree.body if isinstance(n, (ast.ClassDef, ast.FunctionDef))}
    told |= {
        n.target.id for n in tree.body
        if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
    assert public(told) == public(own(module))
    for node, cls in classes(module):
        bases = {ast.unparse(b).rpartition('.')[2] for b in node.bases}
        if 'NamedTuple' in bases:
            # What a class of fields becomes.
            assert hasattr(cls, '_fields')
            bases = bases - {'NamedTuple'} | {'tuple'}
        assert bases <= {b.__name__ for b in cls.__mro__}, cls
        fields = {
            n.target.id for n in node.body
            if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)}
        constants = {
            t.id for n in node.body if isinstance(n, ast.Assign) for t in n.targets
            if isinstance(t, ast.Name)}
        methods = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
        have = public(vars(cls)) | set(getattr(cls, '__dataclass_fields__', ()))
        assert public(methods | fields | constants) - have == set(), cls
        # A Python enum and a dataclass have members that no stub names.
        assert have - (methods | fields | constants) == set(), cls
        for name in methods - public(methods):
            assert name in vars(cls) or name in INHERITED or name == '__init__', f'{cls}.{name}'


@pytest.mark.parametrize('module', MODULES, ids=NAMES)
def test_signatures(module: ModuleType) -> None:
    """Parameters by name, order, kind and default; properties that can be set, and those that
    cannot."""
    for name, node in functions(stub(module).body).items():
        assert parameters(node, bound=False) == runtime(getattr(module, name), bound=False), name
    for node, cls in classes(module):
        setters = {
            n.name for n in node.body
            if isinstance(n, ast.FunctionDef) and 'setter' in decorators(n)}
        for name, function in functions(node.body).items():
            where, kind = f'{cls.__name__}.{name}', decorators(function)
            if name == '__init__':
                # A compiled class says it in its docstring, as C's do.
                assert parameters(function, bound=True) == runtime(cls, bound=False), where
            if name.startswith('__'):
                continue
            member = inspect.getattr_static(cls, name)
            if 'property' in kind:
                assert is_property(member), where
                assert is_writable(member, cls) == (name in setters), where
                continue
            assert not is_property(member), where
            assert ('classmethod' not in kind or isinstance(member, classmethod) or
                    inspect.isbuiltin(getattr(cls, name))), where
            bound = 'staticmethod' not in kind
            try:
                # Of a class method the class is bound already; a method looked up on the class
                # still has self.
                found = runtime(getattr(cls, name), bound=bound and 'classmethod' not in kind)
            except ValueError:
                # A cpdef method is a C function that does not tell.
                assert [p for p in parameters(function, bound=bound) if not p[2]] == [], where
                continue
            assert found == parameters(function, bound=bound), where


def documented(module: ModuleType) -> Iterator[tuple[str, Any, Function | None]]:
    """Yield (name, object, its stub if it is a function) of all that is public."""
    yield module.__name__, module, None
    tree = stub(module)
    for name, node in functions(tree.body).items():
        yield name, getattr(module, name), node
    for node, cls in classes(module):
        yield cls.__name__, cls, None
        for name, function in functions(node.body).items():
            if name == '__init__' and ast.unparse(function.returns or
                                                  ast.Constant(None)) != 'NoReturn':
                yield f'{cls.__name__}.__init__', vars(cls).get('__init__'), function
            elif not name.startswith('_'):
                yield f'{cls.__name__}.{name}', inspect.getattr_static(cls, name), function


@pytest.mark.parametrize('module', MODULES, ids=NAMES)
def test_documentation(module: ModuleType) -> None:
    """Each public name begins with a sentence; a function tells of each parameter, of what it
    returns and of what it raises."""
    for name, thing, node in documented(module):
        member = thing.__func__ if isinstance(thing, (classmethod, staticmethod)) else thing
        text = inspect.cleandoc(getattr(member, '__doc__', None) or '')
        # Or the name of something.
        assert re.match(r'[A-Z]|[a-z]+_\w+ ', text), f'{name} is not documented: {text[:60]!r}'
        paragraph = re.split(r'\n\s*\n|\n:', text)[0].strip()
        assert paragraph[-1] in '.:', f'{name} does not begin with a sentence: {paragraph!r}'
        if node is None or 'property' in decorators(node):
            continue
        bound = 'staticmethod' not in decorators(node) and '.' in name
        for parameter, _, _ in parameters(node, bound=bound):
            assert f':param {parameter}:' in text, f'{name}: {parameter} is not documented'
        for parameter in re.findall(r':param (\w+):', text):
            assert parameter in {
                p for p, _, _ in parameters(node, bound=bound)}, f'{name}: there is no {parameter}'
        returns = ast.unparse(node.returns) if node.returns else 'None'
        if returns not in ('None', 'NoReturn'):
            assert ':return:' in text, f'{name} returns {returns} and does not say what'
        elif name.rpartition('.')[2] != '__init__':
            assert ':return:' not in text, name


@pytest.mark.parametrize('module', MODULES, ids=NAMES)
def test_manual_pages(module: ModuleType) -> None:
    """What is said to be in a manual page is: a page has its name or tells of it, as far as this
    rdma-core has the function."""
    source = Machine.load().rdma_core_source
    pages = [p for where in ('*/man/*.3*', '*/*/man/*.3*') for p in source.glob(where)]
    headers = ''.join(
        p.read_text() for p in [source / 'libibverbs/verbs.h', source / 'providers/mlx5/mlx5dv.h'])
    seen = 0
    for name, thing, _ in documented(module):
        member = thing.__func__ if isinstance(thing, (classmethod, staticmethod)) else thing
        for page in re.findall(r'\b((?:ibv|mlx5dv)_\w+)\(3\)',
                               getattr(member, '__doc__', None) or ''):
            if f'{page}(' in headers:
                assert any(
                    p.name.startswith(f'{page}.3') or page in p.read_text(errors='replace')
                    for p in pages), f'{name}: no {page}(3)'
                seen += 1
    assert seen or module.__name__.endswith(('_caps', '_trial'))


# ---- mypy

#: What Cython adds by itself, and what only Python 3.12 and later show of a buffer.
ALLOWED = r"""
.*\.__(reduce|setstate)_cython__
.*\.__test__
.*\.Mlx5DevxUmem\.__buffer__
"""


def mypy(module: str, cwd: Path, *words: str) -> str:
    """What mypy says, run in a directory."""
    modules = str(Machine.load().rdma_core_build / 'python')
    env = os.environ | {'PYTHONPATH': modules}
    if module.endswith('stubtest'):
        env['MYPYPATH'] = modules
    done = subprocess.run([sys.executable, '-m', module, *words], cwd=cwd, env=env,
                          capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_stubtest(tmp_path: Path) -> None:
    """The stubs are right as mypy's own test sees it."""
    names = [f'pyverbs.providers.mlx5.{name}' for name in NAMES]
    (tmp_path / 'allowed').write_text(ALLOWED)
    # pyverbs itself has no stubs.
    (tmp_path / 'mypy.ini').write_text('[mypy]\nignore_missing_imports = True\n')
    said = mypy('mypy.stubtest', tmp_path, '--mypy-config-file', 'mypy.ini', '--allowlist',
                'allowed', '--ignore-unused-allowlist', '--ignore-disjoint-bases', *names)
    assert said == 'Success: no issues found in 4 modules\n'


def test_examples_are_strict() -> None:
    """The examples are typed; pyverbs itself has no types."""
    examples = Path(__file__).parents[2] / 'pyverbs/examples'
    names = sorted(path.name for path in examples.glob('*.py'))
    assert len(names) > 12
    said = mypy('mypy', examples, '--strict', '--ignore-missing-imports', '--no-incremental',
                '--cache-dir', os.devnull, *names)
    assert said == f'Success: no issues found in {len(names)} source files\n'
