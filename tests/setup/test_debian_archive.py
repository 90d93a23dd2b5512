# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Debian's packages without apt: what is believed, what is chosen, what is said. The archive is a
directory, signed by a key of the test's own."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from patience import PATIENCE

pytest.importorskip('pysequoia', reason='run the tests by buildlib/quickstart.sh')
from pysequoia import SignatureMode, Tsk, sign  # noqa: E402

TOP = Path(__file__).resolve().parents[2]
PROGRAM = TOP / 'buildlib/quickstart/debian_archive.py'
INDEX = 'main/binary-amd64/Packages'


def program() -> ModuleType:
    """The program as a module."""
    spec = importlib.util.spec_from_file_location('debian_archive', PROGRAM)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


da = program()


def deb(files: dict[str, str], member: str = 'data.tar.xz') -> bytes:
    """A package of these files."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode='w:xz') as t:
        for name, text in files.items():
            info = tarfile.TarInfo(f'./{name}')
            info.size = len(text)
            t.addfile(info, io.BytesIO(text.encode()))
    data = b'!<arch>\n'
    for name, content in (('debian-binary', b'2.0\n'), (member, tar.getvalue())):
        data += f'{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n'.encode() + content
        data += b'\n' * (len(content) % 2)
    return data


class Archive:
    """An archive in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.key = Tsk.generate('Archive <archive@example.org>')
        self.keys = root / 'keys.asc'
        root.mkdir()
        self.keys.write_text(str(self.key.extract_certificate()))
        self.uri = f'file://{root}'

    def suite(self, suite: str, *packages: str, key: Any = None, codename: str = '') -> None:
        """Write a suite.

        :param packages: `name version` and further fields, on lines
        """
        stanzas = []
        for text in packages:
            first, *fields = text.split('\n')
            name, version = first.split()
            content = deb({f'usr/{name}': version})
            path = self.root / f'pool/{name}_{version}.deb'
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            stanzas.append('\n'.join([
                f'Package: {name}', f'Version: {version}', *fields,
                f'Filename: pool/{name}_{version}.deb',
                f'SHA256: {hashlib.sha256(content).hexdigest()}', '']))
        index = lzma.compress('\n'.join(stanzas).encode())
        path = self.root / f'dists/{suite}/{INDEX}.xz'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(index)
        release = (f'Suite: x\nCodename: {codename or suite}\nSHA256:\n '
                   f'{hashlib.sha256(index).hexdigest()} {len(index)} {INDEX}.xz\n')
        signed = sign((key or self.key).signer(), release.encode(), mode=SignatureMode.CLEAR)
        (self.root / f'dists/{suite}/InRelease').write_bytes(signed)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """An archive whose key is believed."""
    made = Archive(tmp_path / 'archive')
    monkeypatch.setattr(da.signed_release, '__defaults__', (made.keys,))
    return made


def opened(archive: Archive, *suites: str) -> Any:
    """The lists of suites."""
    lists = da.Lists(archive.root / 'lists')
    lists.open(archive.uri, suites, INDEX)
    return lists


def chosen(lists: Any, *names: str, target: str | None = None) -> list[str]:
    """What a closure holds, as `name version`."""
    return sorted(f"{p['Package']} {p['Version']}"
                  for p in da.Packets(lists, target).closure(names))


# ---- what is believed

def test_a_list_that_is_signed(archive: Archive) -> None:
    archive.suite('trixie', 'a 1')
    assert chosen(opened(archive, 'trixie'), 'a') == ['a 1']


def test_another_key(archive: Archive) -> None:
    archive.suite('trixie', 'a 1', key=Tsk.generate('Somebody <else@example.org>'))
    with pytest.raises(da.Refused, match=r'trixie is not signed by a key of debian_keys\.asc'):
        opened(archive, 'trixie')
    assert not (archive.root / 'lists/trixie').exists()


@pytest.mark.parametrize(('old', 'new'), [(b'Suite: x', b'Suite: y'),
                                          (b'-----BEGIN PGP SIGNED MESSAGE-----\n', b'')])
def test_a_list_that_was_changed(archive: Archive, old: bytes, new: bytes) -> None:
    archive.suite('trixie', 'a 1')
    path = archive.root / 'dists/trixie/InRelease'
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new))
    with pytest.raises(da.Refused, match='trixie is not signed'):
        opened(archive, 'trixie')


def test_what_stands_outside_of_the_signature_is_not_read(archive: Archive) -> None:
    archive.suite('trixie', 'a 1')
    path = archive.root / 'dists/trixie/InRelease'
    text = path.read_bytes()
    for changed in (b'Codename: other\n\n' + text, text + b'\nCodename: other\n'):
        try:
            release = da.signed_release(changed, 'trixie')
        except da.Refused:
            continue
        assert release['Codename'] == 'trixie'


def test_another_suite(archive: Archive) -> None:
    archive.suite('trixie', 'a 1', codename='bullseye')
    with pytest.raises(da.Refused, match='serves bullseye for trixie: not used'):
        opened(archive, 'trixie')


def test_a_list_without_its_hash(archive: Archive) -> None:
    archive.suite('trixie', 'a 1')
    (archive.root / f'dists/trixie/{INDEX}.xz').write_bytes(lzma.compress(b'Package: a\n'))
    with pytest.raises(da.Refused, match=r'Packages\.xz is not what the signed list names'):
        opened(archive, 'trixie')


def test_a_package_without_its_hash(archive: Archive, tmp_path: Path) -> None:
    archive.suite('trixie', 'a 1')
    (archive.root / 'pool/a_1.deb').write_bytes(deb({'usr/a': 'other'}))
    packets = da.Packets(opened(archive, 'trixie'), None)
    with pytest.raises(da.Refused, match=r'a_1\.deb is not what the signed list names'):
        da.download(packets.closure(['a']), tmp_path)
    assert not list(tmp_path.glob('*.deb'))


def test_debians_own_keys() -> None:
    """Both are there, and whoever renews them sees which."""
    certs = da.Cert.split_bytes(da.KEYS.read_bytes())
    assert sorted(str(cert.user_ids[0]) for cert in certs) == [
        'Debian Archive Automatic Signing Key (13/trixie) <ftpmaster@debian.org>',
        'Debian Security Archive Automatic Signing Key (13/trixie) <ftpmaster@debian.org>']


# ---- what is chosen

def test_closure(archive: Archive) -> None:
    """Dependencies of every form, each package once, circles too."""
    archive.suite(
        'trixie', 'a 1\nDepends: b (>= 2), c | d, v, e:any', 'b 2\nPre-Depends: f', 'd 1', 'e 1',
        'f 1\nDepends: a', 'g 1\nProvides: other, v (= 3)', 'c-dev 1', 'unused 1')
    assert chosen(opened(archive, 'trixie'), 'a') == ['a 1', 'b 2', 'd 1', 'e 1', 'f 1', 'g 1']


def test_alternatives(archive: Archive) -> None:
    """What is there already serves; else the first that has the version."""
    archive.suite('trixie', 'a 1\nDepends: x | y', 'b 1\nDepends: y', 'c 1\nDepends: x (>> 1) | y',
                  'x 1', 'y 1\nProvides: z', 'd 1\nDepends: y, z')
    lists = opened(archive, 'trixie')
    assert chosen(lists, 'a') == ['a 1', 'x 1']
    assert chosen(lists, 'c') == ['c 1', 'y 1']
    assert chosen(lists, 'b', 'y', 'a') == ['a 1', 'b 1', 'y 1']
    assert chosen(lists, 'd') == ['d 1', 'y 1']


def test_suites(archive: Archive) -> None:
    """The newest wins, by Debian's order of versions; backports and Debian 12 are for who names
    them."""
    archive.suite('trixie', 'a 1:1.10\nDepends: b', 'b 1')
    archive.suite('trixie-updates', 'a 1:1.9\nDepends: b', 'b 1+u1')
    archive.suite('trixie-backports', 'a 2:1\nDepends: b (>= 2)', 'b 2~bpo', 'b 2.1~bpo')
    archive.suite('bookworm', 'a 0.1\nDepends: b')
    lists = opened(archive, 'trixie', 'trixie-updates', 'trixie-backports', 'bookworm')
    assert chosen(lists, 'a') == ['a 1:1.10', 'b 1+u1']
    assert chosen(lists, 'a', target='trixie-backports') == ['a 2:1', 'b 2.1~bpo']
    assert chosen(lists, 'a', target='bookworm') == ['a 0.1', 'b 1+u1']


def test_not_served(archive: Archive) -> None:
    archive.suite('trixie', 'a 1\nDepends: b (>= 2)', 'b 1')
    lists = opened(archive, 'trixie')
    with pytest.raises(da.Refused, match=f'archive {archive.uri} does not serve c'):
        chosen(lists, 'c')
    with pytest.raises(da.Refused, match='a needs b, which the Debian archive does not serve'):
        chosen(lists, 'a')


# ---- sources

@pytest.mark.parametrize(('version', 'packaging', 'names'), [
    (None, False, ['r_2.orig.tar.xz']), ('1-1', False, ['r_1.orig.tar.xz']),
    ('1-1', True, ['r_1-1.debian.tar.xz', 'r_1.orig.tar.xz'])])
def test_source(archive: Archive, tmp_path: Path, version: str | None, packaging: bool,
                names: list[str]) -> None:
    """The released tree, of the newest or of a version, and Debian's part only where it is wanted:
    an archive may have lost it."""
    stanzas = []
    for number in '12':
        files = [f'r_{number}.orig.tar.xz', f'r_{number}-1.debian.tar.xz', f'r_{number}-1.dsc']
        stanzas.append('\n'.join([
            'Package: r', f'Version: {number}-1', 'Directory: pool', 'Checksums-Sha256:',
            *(f' {hashlib.sha256(name.encode()).hexdigest()} 1 {name}' for name in files), '']))
        (archive.root / 'pool').mkdir(exist_ok=True)
        for name in files[:1 + packaging]:
            (archive.root / 'pool' / name).write_text(name)
    archive.suite('sid', 'unused 1')
    lists = opened(archive, 'sid')
    (archive.root / 'lists/sid').write_text('\n'.join(stanzas))
    to = tmp_path / 'to'
    to.mkdir()
    da.download_source(lists, 'sid', 'r', to, version, packaging)
    assert sorted(path.name for path in to.iterdir()) == names
    assert all(path.read_text() == path.name for path in to.iterdir())
    with pytest.raises(da.Refused, match='sid has no source of r 3-1'):
        da.download_source(lists, 'sid', 'r', to, '3-1')


# ---- as a program

def test_files(tmp_path: Path) -> None:
    """The files of several packages, one behind the other; one in another packing is named."""
    (tmp_path / 'a.deb').write_bytes(deb({'usr/a': '1'}))
    (tmp_path / 'b.deb').write_bytes(deb({'usr/b': '22'}))
    p = subprocess.run([sys.executable, PROGRAM, 'files', tmp_path / 'a.deb', tmp_path / 'b.deb'],
                       capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(p.stdout), ignore_zeros=True) as t:
        assert t.getnames() == ['./usr/a', './usr/b']
    (tmp_path / 'c.deb').write_bytes(deb({}, 'data.tar.zst'))
    reason = tmp_path / 'reason'
    p = subprocess.run([sys.executable, PROGRAM, 'files', tmp_path / 'c.deb'], check=False,
                       capture_output=True, env=os.environ | {'REASON': str(reason)})
    assert (p.returncode, p.stdout) == (2, b'')
    assert reason.read_text().startswith('c.deb has no data.tar.xz')
    assert p.stderr.decode() == reason.read_text()


def test_no_network(tmp_path: Path) -> None:
    p = subprocess.run([
        sys.executable, PROGRAM, 'open', tmp_path, 'http://127.0.0.1:9/debian', 'trixie'],
        capture_output=True, text=True, check=False, timeout=PATIENCE,
        env={k: v for k, v in os.environ.items() if not k.lower().endswith('_proxy')})
    assert p.returncode == 1
    assert p.stderr.startswith('could not connect: http://127.0.0.1:9/debian/dists/trixie/')


def test_a_system_without_debians_programs(tmp_path: Path) -> None:
    """Everything of the virtual machine is fetched where no apt, dpkg or gpg is, and starts."""
    tools = ('awk', 'basename', 'bash', 'busybox', 'cat', 'chmod', 'cksum', 'cp', 'cut', 'date',
             'df', 'dirname', 'env', 'flock', 'gcc', 'grep', 'head', 'ln', 'ls', 'mkdir', 'mktemp',
             'mv', 'paste', 'pkg-config', 'rm', 'sed', 'sh', 'sha256sum', 'sleep', 'sort', 'tail',
             'tar', 'tr', 'uname', 'xz', 'cmake', 'ninja')
    (tmp_path / 'bin').mkdir()
    for name in tools:
        found = shutil.which(name)
        if found:
            (tmp_path / 'bin' / name).symlink_to(found)
    (tmp_path / 'bin/python3').symlink_to(sys.executable)
    shutil.copytree(TOP / 'buildlib', tmp_path / 'buildlib')
    parts = tmp_path / 'buildlib/quickstart'
    # No is_debian, and nothing to install.
    with open(parts / 'system_packages.sh', 'a') as file:
        file.write('\nis_debian() { false; }\nmissing_packages() { MISSING=(); }\n')
    with open(parts / 'virtual_environment.sh', 'a') as file:
        file.write(f'\nvirtual_environment() {{ VENV={Path(sys.prefix)}; }}\n')
    subprocess.run(['bash', tmp_path / 'buildlib/quickstart.sh', 'setup', '--vm', '-q'],
                   env=os.environ | {'PATH': str(tmp_path / 'bin')}, check=True,
                   timeout=10 * PATIENCE)
    build = tmp_path / 'build'
    assert {p.name for p in build.iterdir()} == {'.lock', 'log', 'qemu', 'pypy', 'kernel-stable'}
    p = subprocess.run([build / 'qemu/bin/qemu-system-x86_64', '--version'], capture_output=True,
                       text=True, check=True)
    assert p.stdout.startswith('QEMU emulator version')
