# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Who may know whom: data flows down the folders of the emulator, and no import goes up."""
from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlx5emu

TOP = Path(mlx5emu.__file__).parent
#: From top to bottom. vm starts cards; a card makes its parts.
ORDER = ('__main__', 'vm', 'card', 'bus', 'datapath', 'queues', 'memory', 'steering', 'firmware',
         'prm')
#: What everybody may use, and uses nobody.
LEAF = 'dma'


def imports(node: ast.AST, package: list[str]) -> Iterator[str]:
    """The places in mlx5emu that a file imports at run time: 'firmware.caps'."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == 'TYPE_CHECKING':
            continue
        if isinstance(child, ast.ImportFrom) and child.level:
            base = package[:len(package) - child.level + 1]
            base += child.module.split('.') if child.module else []
            yield from ('.'.join([*base, alias.name]) for alias in child.names)
        elif isinstance(child, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in child.names] if isinstance(
                child, ast.Import) else [child.module or '']
            assert not any(name.startswith('mlx5emu') for name in names), ast.unparse(child)
        else:
            yield from imports(child, package)


def test_no_import_goes_up() -> None:
    climbs, seen = [], 0
    for path in sorted(TOP.rglob('*.py')):
        parts = list(path.relative_to(TOP).with_suffix('').parts)
        if parts == ['__init__']:
            continue
        for found in imports(ast.parse(path.read_text()), parts[:-1]):
            to = found.split('.')[0]
            seen += 1
            if to == LEAF and parts[0] != LEAF:
                continue
            assert to in ORDER and parts[0] in ORDER, (path, found)
            if ORDER.index(to) < ORDER.index(parts[0]):
                climbs.append(f'{path.relative_to(TOP)} imports {found}')
    assert climbs == [] and seen > 300


def loaded_by(module: str) -> set[str]:
    """What a fresh interpreter has loaded of mlx5emu after an import."""
    program = f'import sys, {module}; print(*[m for m in sys.modules if m.startswith("mlx5emu")])'
    done = subprocess.run([sys.executable, '-c', program], cwd=TOP.parent, capture_output=True,
                          text=True, check=True)
    return set(done.stdout.split())


def test_a_table_of_constants_loads_nothing_of_the_data_path() -> None:
    loaded = loaded_by('mlx5emu.firmware.caps')
    folders = {name.split('.')[1] for name in loaded if '.' in name}
    assert folders == {'firmware', 'prm'}
    assert {name for name in loaded if name.startswith('mlx5emu.firmware.')} == {
        f'mlx5emu.firmware.{name}' for name in ('caps', 'firmware_icm', 'flow_namespace', 'status')}


def test_each_folder_says_what_lives_there_and_what_its_door_is() -> None:
    for folder in [path.parent for path in TOP.rglob('__init__.py')]:
        text = ast.get_docstring(ast.parse((folder / '__init__.py').read_text())) or ''
        assert text.count('. ') + text.endswith('.') >= 2, folder
        for name in re.findall(r':(?:mod|func|class):`(\w+)', text):
            assert (folder / f'{name}.py').exists(), f'{folder}: {name}'
