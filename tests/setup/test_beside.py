# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""`quickstart.sh beside`: our modules put into a pyverbs that is installed already, and what is
refused. What is installed is PyPI's pyverbs 59.0 as pip leaves it, without our modules."""

from __future__ import annotations

import ast
import base64
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from vm.runs import PATIENCE, SETUP_PATIENCE, in_a_guest, machine_or_skip

TOP = Path(__file__).resolve().parents[2]
MACHINE = machine_or_skip()
OURS = ('lifetime', 'umem_memory', 'mlx5dv_dm', 'mlx5dv_devx_umem', 'mlx5_trial')
IMPORT = 'import pyverbs.providers.mlx5.mlx5dv_dm, pyverbs.providers.mlx5.mlx5dv_devx_umem'

if MACHINE.rdma_core_version != '59.0':
    pytest.skip('what is installed here is made of 59.0', allow_module_level=True)


class Installed:
    """A directory of packages with a pyverbs in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shutil.copytree(MACHINE.rdma_core_build / 'python/pyverbs', root / 'pyverbs',
                        ignore=shutil.ignore_patterns(*(f'{name}.*' for name in OURS),
                                                      'mlx5dv_dm_caps*', '__pycache__'))
        self.mlx5 = root / 'pyverbs/providers/mlx5'
        self.pd = next((root / 'pyverbs').glob('pd.*.so'))
        self.describe('59.0')
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(('MLX5', 'PYTEST'))}
        self.env |= {'PYTHONPATH': str(root),
                     'LD_LIBRARY_PATH': str(MACHINE.rdma_core_build / 'lib')}

    def describe(self, version: str) -> None:
        """Write what pip would have written of this version."""
        for path in self.root.glob('*.dist-info'):
            shutil.rmtree(path)
        info = self.root / f'pyverbs-{version}.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(
            f'Metadata-Version: 2.1\nName: pyverbs\nVersion: {version}\n')
        (info / 'RECORD').write_text(''.join(
            f'{path.relative_to(self.root)},sha256={digest(path)},{path.stat().st_size}\n'
            for path in sorted((self.root / 'pyverbs').rglob('*')) if path.is_file()))

    def files(self) -> dict[str, bytes]:
        """What is installed, by path."""
        return {str(path.relative_to(self.root)): path.read_bytes()
                for path in (self.root / 'pyverbs').rglob('*')
                if path.is_file() and path.suffix != '.pyc'}

    def beside(self, *words: str) -> tuple[int, str]:
        """Run the command; its status and what it said."""
        p = subprocess.run(['bash', TOP / 'buildlib/quickstart.sh', 'beside', '--python',
                            MACHINE.python, *words], env=self.env, stdin=subprocess.DEVNULL,
                           capture_output=True, text=True, timeout=SETUP_PATIENCE, check=False)
        assert p.stdout == '' or 'usage' in p.stdout
        return p.returncode, p.stderr

    def imports(self) -> str:
        """The last line of what an import of our modules ends in; empty when it succeeds."""
        p = subprocess.run([MACHINE.python, '-c', IMPORT], env=self.env, capture_output=True,
                           text=True, timeout=PATIENCE, check=False)
        assert p.returncode in (0, 1)
        return (p.stderr.splitlines() or [''])[-1]


def digest(path: Path) -> str:
    """SHA-256 as RECORD has it."""
    return base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(
        b'=').decode()


@pytest.fixture
def pristine() -> Iterator[Installed]:
    """A pyverbs without our modules; below build/, which a guest sees."""
    with tempfile.TemporaryDirectory(dir=TOP / 'build') as directory:
        yield Installed(Path(directory))


@pytest.fixture(scope='module')
def built() -> Iterator[Installed]:
    """One with them; what tests change in it they change back."""
    with tempfile.TemporaryDirectory(dir=TOP / 'build') as directory:
        installed = Installed(Path(directory))
        assert installed.imports() == (
            "ModuleNotFoundError: No module named 'pyverbs.providers.mlx5.mlx5dv_dm'")
        status, err = installed.beside()
        assert (status, installed.imports()) == (0, ''), err
        yield installed


def test_on_the_card(built: Installed, tmp_path: Path) -> None:
    """The demo by what was put there, on rdma-core's own libraries."""
    out = in_a_guest(tmp_path, [], 'env', f'PYTHONPATH={built.root}', str(MACHINE.python),
                     str(TOP / 'pyverbs/examples/demo.py')).stdout
    assert 'all as it must be' in out


def test_nothing_else_is_changed_and_remove_takes_it_out(built: Installed) -> None:
    with_ours = built.files()
    assert built.beside('remove') == (0, '')
    without = built.files()
    assert without == {name: data for name, data in with_ours.items() if name in without}
    assert {Path(name).name.partition('.')[0] for name in with_ours.keys() - without.keys()} >= {
        *OURS, 'mlx5_mem_beside', 'mlx5dv_dm_caps'}
    status, err = built.beside('remove')
    assert status == 2
    assert f'{built.mlx5} has nothing of ours' in err
    for name, data in with_ours.items():
        (built.root / name).write_bytes(data)
    assert built.imports() == ''


def test_another_pyverbs_is_refused_at_import(built: Installed) -> None:
    """Whatever the other one has: its methods may be at other places without any size telling."""
    before = built.pd.read_bytes()
    try:
        built.pd.write_bytes(before + b'\0')
        said = built.imports()
        assert said == (f'ImportError: Mlx5DM and Mlx5DevxUmem were made for pyverbs 59.0, and '
                        f'{built.pd} is of another one. Make them again: bash '
                        'buildlib/quickstart.sh beside')
    finally:
        built.pd.write_bytes(before)
    assert built.imports() == ''


def test_what_pip_did_not_install_is_refused(pristine: Installed) -> None:
    pristine.pd.write_bytes(pristine.pd.read_bytes() + b'\0')
    before = pristine.files()
    status, err = pristine.beside()
    assert status == 2
    assert f'{pristine.pd} is not as its package installed it: install pyverbs again' in err
    assert pristine.files() == before


@pytest.mark.parametrize(('version', 'words', 'says'), [
    ('43.0', (), 'pyverbs 43.0: 44 or later is needed'),
    ('57.0', ('--source', str(MACHINE.rdma_core_source)),
     f'installed is pyverbs 57.0, {MACHINE.rdma_core_source} is rdma-core 59.0'),
    ('59.0', ('--source', str(TOP)), f'--source {TOP} is no rdma-core source tree'),
    ('59.0', ('deb',), 'beside deb: this pyverbs is not of a .deb'),
    ('59.0', ('rpm',), 'beside: rpm: it is deb or remove, with --python and --source'),
    ('59.0', ('--python', '/nowhere/python3'), 'beside: there is no /nowhere/python3'), ])
def test_what_cannot_be_is_refused_before_anything_is_built(
        pristine: Installed, version: str, words: tuple[str, ...], says: str) -> None:
    pristine.describe(version)
    before = pristine.files()
    status, err = pristine.beside(*words)
    assert status == 2
    assert says in err
    assert pristine.files() == before


def test_no_pyverbs_and_one_of_nobody(pristine: Installed, tmp_path: Path) -> None:
    shutil.rmtree(pristine.root / 'pyverbs-59.0.dist-info')
    status, err = pristine.beside()
    assert status == 2
    assert f'{pristine.root}/pyverbs is of no package (pip, dpkg, rpm)' in err
    pristine.env['PYTHONPATH'] = str(tmp_path)
    status, err = pristine.beside()
    assert status == 2
    assert f'{MACHINE.python} has no pyverbs: name the Python that has one by --python' in err


def test_an_old_python_can_read_it() -> None:
    """beside.py runs by the Python of whoever has a pyverbs: its syntax is 3.8's."""
    text = (TOP / 'buildlib/quickstart/beside.py').read_text()
    ast.parse(text, feature_version=(3, 8))
    with pytest.raises(SyntaxError):
        ast.parse('match x:\n    case _: pass', feature_version=(3, 8))


def test_every_test_loads_without_what_an_image_may_lack() -> None:
    """rdma-core's runner loads every file of the directory: one that cannot be imported, or that
    skips at import, ends all tests."""
    tests = MACHINE.rdma_core_build / 'run_tests'
    p = subprocess.run([
        MACHINE.python, '-c', 'import sys\n'
        'for name in ("hypothesis", "numpy", "scapy", "pytest"): sys.modules[name] = None\n'
        'sys.argv[1:] = []\n'
        'import tests\n'
        'print([m.__name__ for m in tests.__test_modules__ if "mlx5_machine" in m.__name__])'],
        env=os.environ | {
            'PYTHONPATH': f'{MACHINE.rdma_core_build}/python:{tests}:{tests}/tests',
            'LD_LIBRARY_PATH': f'{MACHINE.rdma_core_build}/lib'},
        capture_output=True, text=True, check=False)
    assert (p.returncode, p.stdout) == (0, "['tests.test_mlx5_machine']\n"), p.stderr
