# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The build inside rdma-core: what is rebuilt when, features by version, what is said when a part
is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from vm.runs import machine_or_skip

TOP = Path(__file__).resolve().parents[2]
DM, UMEM, LIFETIME, MEMORY = ('mlx5dv_dm.pyx', 'mlx5dv_devx_umem.pyx', 'lifetime.pyx',
                              'umem_memory.pyx')
C_FILES = [f'mlx5_mem/{Path(pyx).stem}.c' for pyx in (DM, UMEM, LIFETIME, MEMORY)]


class Tree:
    """Copies of rdma-core and of this project, and a build directory of its own."""

    def __init__(self, root: Path) -> None:
        self.machine = machine_or_skip()
        self.rdma_core, self.ours, self.build = root / 'rdma-core', root / 'ours', root / 'build'
        shutil.copytree(self.machine.rdma_core_source, self.rdma_core, symlinks=True)
        (self.ours / 'tests/classes').mkdir(parents=True)
        for name in ('buildlib', 'pyverbs'):
            shutil.copytree(TOP / name, self.ours / name)
        shutil.copy(TOP / 'CMakeLists.txt', self.ours)
        (self.ours / 'tests/classes/test_mlx5_dm.py').write_text(
            'import unittest\nclass One(unittest.TestCase):\n    def test_two(self): pass\n')

    def configure(self, *options: str,
                  build: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run cmake with the hook.

        :param options: more of them; the last of two that set the same counts
        :param build: another build directory
        """
        return subprocess.run([
            'cmake', '-G', 'Ninja', '-S', self.rdma_core, '-B', build or self.build, '-DIN_PLACE=1',
            '-DNO_MAN_PAGES=1', '-DCMAKE_BUILD_TYPE=Release', '-DCMAKE_C_FLAGS_RELEASE=-O0',
            f'-DCMAKE_PROJECT_rdma-core_INCLUDE={self.ours}/buildlib/rdma_core_hook.cmake',
            f'-DPYTHON_EXECUTABLE={self.machine.python}', *options], capture_output=True,
                              text=True, check=False)

    def cythonized(self) -> set[str]:
        """Bring our generated C files up to date.

        :return: the names of the .pyx that it took
        """
        p = subprocess.run(['ninja', '-C', self.build, *C_FILES], capture_output=True, text=True,
                           check=False)
        assert p.returncode == 0, p.stdout
        return set(re.findall(r'Cythonizing \S*/(\S+)', p.stdout))

    def reconfigured(self) -> bool:
        """Have the build system look at what it was made from.

        :return: whether CMake ran again
        """
        p = subprocess.run(['ninja', '-C', self.build, 'build.ninja'], capture_output=True,
                           text=True, check=False)
        assert p.returncode == 0, p.stdout
        return 'Re-running CMake' in p.stdout

    def touch(self, path: Path) -> None:
        """Make a file newer than what was made of it."""
        later = time.time_ns() + 1_000_000
        os.utime(path, ns=(later, later))
        time.sleep(0.01)

    def feature(self, name: str) -> int:
        """Return the value in mlx5_mem_features.h."""
        header = (self.build / 'mlx5_mem/include/mlx5_mem_features.h').read_text()
        m = re.search(rf'^#define MLX5_MEM_HAVE_{name} (\d)$', header, re.MULTILINE)
        assert m
        return int(m[1])


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """One configured build for all tests that only touch files."""
    t = Tree(tmp_path_factory.mktemp('cmake'))
    p = t.configure()
    assert p.returncode == 0, p.stderr
    assert t.cythonized() == {DM, UMEM, LIFETIME, MEMORY}
    return t


@pytest.mark.parametrize(('touched', 'rebuilt'), [
    ('', set()),
    ('ours/pyverbs/providers/mlx5/mlx5dv_dm.pyx', {DM}),
    ('ours/pyverbs/providers/mlx5/mlx5dv_dm.pxd', {DM}),
    ('ours/pyverbs/providers/mlx5/mlx5dv_devx_umem.pxd', {UMEM}),
    ('ours/pyverbs/providers/mlx5/libmlx5_mem.pxd', {DM, UMEM}),
    ('ours/pyverbs/providers/mlx5/lifetime.pxd', {DM, UMEM, LIFETIME}),
    ('ours/pyverbs/providers/mlx5/umem_memory.pxd', {UMEM, MEMORY}),
    ('rdma-core/pyverbs/base.pxd', {DM, UMEM, LIFETIME}),
    # Read by nothing of ours.
    ('rdma-core/pyverbs/flow.pxd', set()),
    ('rdma-core/pyverbs/providers/mlx5/mlx5dv_dmabuf.pyx', set()),
])
def test_rebuilt(tree: Tree, touched: str, rebuilt: set[str]) -> None:
    """An edit rebuilds what reads the file, and that once."""
    if touched:
        tree.touch(tree.build.parent / touched)
    assert tree.cythonized() == rebuilt
    assert tree.cythonized() == set()


def test_features_follow_the_headers(tree: Tree) -> None:
    """A header that changes is read again by the next build."""
    header = tree.rdma_core / 'providers/mlx5/mlx5_api.h'
    text = header.read_text()
    assert tree.feature('DM_TYPE_ENCAP') == 1
    header.write_text(re.sub(r'#define MLX5DV_DM_TYPE_ENCAP_SW_ICM.*\n', '', text))
    assert tree.reconfigured()
    assert tree.feature('DM_TYPE_ENCAP') == 0
    assert tree.feature('DM_TYPE_HEADER_MODIFY_PATTERN') == 1
    header.write_text(text)
    assert tree.reconfigured()
    assert tree.feature('DM_TYPE_ENCAP') == 1


def test_name_within_a_name_is_no_feature(tree: Tree) -> None:
    """mlx5dv_devx_umem_export_x is another function."""
    header = tree.rdma_core / 'providers/mlx5/mlx5dv.h'
    text = header.read_text()
    before = tree.feature('DEVX_UMEM_EXPORT')
    header.write_text(
        re.sub(r'\bmlx5dv_devx_umem_export\b', 'mlx5dv_devx_umem_export_x', text) +
        '\nint xmlx5dv_devx_umem_export;\n')
    assert tree.reconfigured()
    assert tree.feature('DEVX_UMEM_EXPORT') == 0
    header.write_text(text)
    assert tree.reconfigured()
    assert tree.feature('DEVX_UMEM_EXPORT') == before


def test_tests_are_found(tree: Tree) -> None:
    """run_tests.py lists rdma-core's tests and ours; one that is added or removed is noticed by the
    next build."""
    links = tree.build / 'run_tests/tests'
    upstream = {p.name for p in (tree.rdma_core / 'tests').glob('*.py')}
    assert {p.name for p in links.glob('*.py')} == upstream | {'test_mlx5_dm.py'}
    new = tree.ours / 'tests/classes/test_mlx5_new.py'
    new.touch()
    (tree.ours / 'tests/classes/test_other.py').touch()
    assert tree.reconfigured()
    assert {
        p.name for p in links.glob('*.py')} == upstream | {'test_mlx5_dm.py', 'test_mlx5_new.py'}
    new.unlink()
    assert tree.reconfigured()
    assert {p.name for p in links.glob('*.py')} == upstream | {'test_mlx5_dm.py'}
    script = (tree.build / 'bin/run_tests.py').read_text()
    assert f"'{links}/run_tests.py'" in script
    assert os.access(tree.build / 'bin/run_tests.py', os.X_OK)


def test_installed(tree: Tree) -> None:
    """Modules, declarations and stubs are installed beside pyverbs' own, the tests beside
    rdma-core's."""
    script = (tree.build / 'cmake_install.cmake').read_text()
    for name in ('mlx5dv_dm_caps', 'mlx5_trial'):
        assert f'{tree.ours}/pyverbs/providers/mlx5/{name}.py' in script
    for name in ('mlx5dv_dm', 'mlx5dv_devx_umem'):
        assert re.search(rf'pyverbs/providers/mlx5/{name}\.cpython-\S+\.so"', script)
        assert f'{tree.ours}/pyverbs/providers/mlx5/{name}.pxd' in script
        link = tree.build / f'python/pyverbs/providers/mlx5/{name}.pxd'
        assert link.resolve() == tree.ours / f'pyverbs/providers/mlx5/{name}.pxd'
        assert f'{tree.build}/python/pyverbs/providers/mlx5/{name}.pyi' in script
    assert f'{tree.ours}/tests/classes/test_mlx5_dm.py' in script


def test_installed_in_a_wheel(tree: Tree, tmp_path: Path) -> None:
    """Under scikit-build-core there are stubs as PEP 561 wants them, and a command, besides."""
    build, root, scripts = tmp_path / 'build', tmp_path / 'platlib', tmp_path / 'scripts'
    p = tree.configure('-DSKBUILD=2', f'-DSKBUILD_SCRIPTS_DIR={scripts}',
                       f'-DSKBUILD_PLATLIB_DIR={root}', build=build)
    assert p.returncode == 0, p.stderr
    subprocess.run(['ninja', '-C', build, 'pyverbs-mlx5-stubs'], capture_output=True, check=True)
    subprocess.run(['cmake', '--install', build, '--component', 'pyverbs_mlx5_wheel'],
                   capture_output=True, check=True)
    assert {str(p.relative_to(root)) for p in root.rglob('*') if p.is_file()} == {
        'pyverbs-stubs/py.typed', 'pyverbs-stubs/__init__.pyi',
        'pyverbs-stubs/providers/__init__.pyi', *(
            f'pyverbs-stubs/providers/mlx5/{name}.pyi' for name in (
                '__init__', 'mlx5_trial', 'mlx5dv_devx_umem', 'mlx5dv_dm', 'mlx5dv_dm_caps'))}
    assert (root / 'pyverbs-stubs/py.typed').read_text() == 'partial\n'
    command = scripts / 'mlx5dv-dm-caps'
    assert os.access(command, os.X_OK)
    # By exactly this line pip knows that the path is for it to fill in.
    assert command.read_text().startswith('#!python\n')
    p = subprocess.run([tree.machine.python, command, '--help'], capture_output=True, text=True,
                       check=False, env=os.environ | tree.machine.environment())
    assert (p.returncode, p.stderr) == (0, '')
    assert '--dev NAME' in p.stdout
    ordinary = (tree.build / 'cmake_install.cmake').read_text()
    assert 'pyverbs-stubs' not in ordinary and 'mlx5dv-dm-caps' not in ordinary


def test_rdma_core_is_not_written_to(tree: Tree) -> None:
    """The source tree has the files that it had."""
    assert not list(tree.rdma_core.rglob('*.c.dep'))
    assert not list((tree.rdma_core / 'tests').glob('test_mlx5_dm.py'))
    argv = ['diff', '-rq', '-x', '__pycache__', tree.machine.rdma_core_source, tree.rdma_core]
    assert subprocess.run(argv, capture_output=True, text=True, check=False).stdout == ''


# The last ones break the tree, each on a fresh build directory.

def configure_fails(tree: Tree) -> str:
    """Configure from nothing and return what was said."""
    shutil.rmtree(tree.build)
    p = tree.configure()
    assert p.returncode != 0
    return ' '.join(p.stderr.split())


def test_missing_module(tree: Tree) -> None:
    """Nothing is left out in silence."""
    path = tree.ours / 'pyverbs/providers/mlx5/mlx5dv_dm.pyx'
    text = path.read_text()
    path.unlink()
    try:
        assert f'pyverbs-mlx5-mem: {path} is missing' in configure_fails(tree)
    finally:
        path.write_text(text)


def test_without_pyverbs(tree: Tree) -> None:
    """Where rdma-core builds no pyverbs, ours steps aside in one line, unless it is asked for."""
    none = tree.build / 'none'
    why = 'this rdma-core builds without pyverbs'
    p = tree.configure('-DNO_PYVERBS=1', build=none)
    assert p.returncode == 0, p.stderr
    assert [line for line in p.stdout.splitlines() if 'pyverbs-mlx5-mem' in line and
            f'not built: {why}' in line]
    p = tree.configure('-DNO_PYVERBS=1', '-DMLX5_MEM_REQUIRED=1', build=none)
    assert p.returncode != 0
    assert f'pyverbs-mlx5-mem: {why}' in ' '.join(p.stderr.split())


@pytest.mark.parametrize(('version', 'said'), [
    ('3.2.1', "does not compile with Cython 3.2.1: take a Python with Cython before 3.2 (pip "
     "install 'cython<3.2'), or rdma-core 60 or later."),
    ('0.25.2', 'Cython 0.26 or later is needed, '),
])
def test_cython_that_cannot_do_it(tree: Tree, tmp_path: Path, version: str, said: str) -> None:
    """A Cython that is too new for this rdma-core, or too old for ours, is named before anything is
    built."""
    python = tmp_path / 'python3'
    # rdma-core asks for the version by a script that ends in printing it.
    python.write_text(f'#!/bin/sh\ncase "$*" in *Cython.__version__*) echo {version} ;;\n'
                      f'*) exec {tree.machine.python} "$@" ;; esac\n')
    python.chmod(0o755)
    p = tree.configure(f'-DPYTHON_EXECUTABLE={python}', build=tmp_path / 'build')
    assert p.returncode != 0
    assert said in ' '.join(p.stderr.split())


def test_cmake_that_cannot_defer(tmp_path: Path) -> None:
    """CMake before 3.19 is told of the script that does without."""
    script = tmp_path / 'old.cmake'
    script.write_text(f'set(CMAKE_VERSION 3.16.8)\ninclude({TOP}/buildlib/rdma_core_hook.cmake)\n')
    p = subprocess.run(['cmake', '-P', script], capture_output=True, text=True, check=False,
                       cwd=tmp_path)
    assert p.returncode != 0
    said = ' '.join(p.stderr.split())
    assert 'this CMake is 3.16.8; before 3.19' in said
    assert f'sh {TOP}/buildlib/into_tree.sh add {tmp_path}' in said


def into_tree(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the script that puts the files into a tree."""
    return subprocess.run(['sh', TOP / 'buildlib/into_tree.sh', *words], capture_output=True,
                          text=True, check=False)


def test_into_a_tree_and_out_of_it(tree: Tree, tmp_path: Path) -> None:
    """The files go into a checkout, are built there without the hook, and go out again without a
    trace."""
    checkout = tmp_path / 'rdma-core'
    shutil.copytree(tree.rdma_core, checkout, symlinks=True)

    def git(*words: str) -> str:
        return subprocess.run(['git', '-C', checkout, '-c', 'user.name=a', '-c', 'user.email=b',
                               *words], capture_output=True, text=True, check=True).stdout

    git('init', '-q')
    git('add', '-A', '-f')
    git('commit', '-q', '-m', 'as released')
    p = into_tree('add', checkout)
    assert (p.returncode, p.stderr) == (0, '')
    assert git('status', '--porcelain') == ' M CMakeLists.txt\n?? mlx5_mem/\n'
    p = into_tree('add', checkout)
    assert (p.returncode, p.stderr) == (
        2, f'into_tree.sh: {checkout}/mlx5_mem is there already: remove it first\n')
    p = subprocess.run([
        'cmake', '-G', 'Ninja', '-S', checkout, '-B', tmp_path / 'build', '-DIN_PLACE=1',
        '-DNO_MAN_PAGES=1', f'-DPYTHON_EXECUTABLE={tree.machine.python}'], capture_output=True,
                       text=True, check=False)
    assert p.returncode == 0, p.stderr
    p = subprocess.run(['ninja', '-C', tmp_path / 'build', *C_FILES, 'pyverbs-mlx5-stubs'],
                       capture_output=True, text=True, check=False)
    assert p.returncode == 0, p.stdout
    tests = {path.name for path in (tmp_path / 'build/run_tests/tests').iterdir()}
    assert {'test_mlx5_dm.py', 'test_mlx5_devx_umem.py', 'mlx5_mem_base.py'} <= tests
    p = into_tree('remove', checkout)
    assert (p.returncode, p.stderr) == (0, '')
    assert git('status', '--porcelain') == ''
    p = into_tree('remove', checkout)
    assert (p.returncode, p.stderr) == (2, f'into_tree.sh: {checkout} has nothing of ours\n')
    p = into_tree('add', tmp_path)
    assert (p.returncode, p.stderr) == (2, f'into_tree.sh: {tmp_path} is no rdma-core tree\n')


def test_too_old(tree: Tree) -> None:
    """An rdma-core without a call that is needed."""
    header = tree.rdma_core / 'providers/mlx5/mlx5dv.h'
    text = header.read_text()
    header.write_text(text.replace('mlx5dv_devx_umem_reg_ex', 'mlx5dv_devx_umem_reg_other'))
    try:
        assert ('has no mlx5dv_devx_umem_reg_ex in providers/mlx5/mlx5dv.h; '
                '56.1 or later is needed') in configure_fails(tree)
    finally:
        header.write_text(text)


def test_standalone(tree: Tree, tmp_path: Path) -> None:
    """Our own CMakeLists.txt configures rdma-core with ours inside, and names a source tree that is
    none."""
    p = subprocess.run([
        'cmake', '-G', 'Ninja', '-S', tree.ours, '-B', tmp_path / 'a',
        f'-DRDMA_CORE_SOURCE_DIR={tmp_path}'], capture_output=True, text=True, check=False)
    assert p.returncode != 0
    assert f"RDMA_CORE_SOURCE_DIR='{tmp_path}' is no rdma-core source tree" in ' '.join(
        p.stderr.split())
    p = subprocess.run([
        'cmake', '-G', 'Ninja', '-S', tree.ours, '-B', tmp_path / 'b',
        f'-DRDMA_CORE_SOURCE_DIR={tree.rdma_core}', f'-DPYTHON_EXECUTABLE={tree.machine.python}'],
                       capture_output=True, text=True, check=False)
    assert p.returncode == 0, p.stderr
    argv = ['ninja', '-C', tmp_path / 'b/rdma-core', '-t', 'inputs', 'pyverbs-mlx5']
    assert 'mlx5_mem/mlx5dv_dm.c' in subprocess.run(argv, capture_output=True, text=True,
                                                    check=True).stdout
