# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The parts of the set-up one by one: Debian's archives, which QEMU will do, the description of the
machine, shellcheck."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlx5emu.vm.machine import Machine

TOP = Path(__file__).resolve().parents[2]
PARTS = TOP / 'buildlib/quickstart'


# ---- archives

BOOKWORM = 'ID=debian\nVERSION_CODENAME=bookworm\n'
DEB822 = """\
# comment
Types: deb deb-src
URIs: http://one.example/debian
Suites: bookworm
  bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://one.example/debian-security/
Suites: bookworm-security
Components: main
"""


PUBLIC = 'http://deb.debian.org/debian http://deb.debian.org/debian-security'


def mirrors(root: Path, files: dict[str, str], release: str = BOOKWORM,
            archive: str = '') -> list[str]:
    """Run debian_mirrors.py on a machine made of these files below /etc."""
    for name, text in ({'os-release': release} | files).items():
        path = root / 'etc' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    p = subprocess.run([sys.executable, PARTS / 'debian_mirrors.py', root], capture_output=True,
                       text=True, check=True, env=os.environ | {'DEBIAN_ARCHIVE': archive})
    return p.stdout.splitlines()


@pytest.mark.parametrize(
    ('files', 'expected'),
    [
        ({}, []),
        ({'apt/sources.list.d/debian.sources': DEB822}, [
            'http://one.example/debian http://one.example/debian-security/']),
        ({
            'apt/sources.list':
            'deb http://two.example/debian bookworm main # why\n'
            'deb http://two.example/s bookworm-security main\n'
        }, ['http://two.example/debian http://two.example/s']),
        ({
            'apt/sources.list':
            'deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] '
            'mirror+file:/etc/m bookworm main\n'
        }, ['mirror+file:/etc/m -']),
        # Not binary, commented out, switched off, another suite, a medium.
        ({
            'apt/sources.list':
            'deb-src http://a.example/d bookworm main\n# deb http://b.example/d bookworm main\n'
            'deb cdrom:[x]/ bookworm main\n'
            'deb http://c.example/d bullseye main\n', 'apt/sources.list.d/x.sources':
            'Types: deb\nURIs: http://d.example/\nSuites: bookworm\nComponents: main\nEnabled: no\n'
        }, []),
        # Third parties: another key, no component main, a suite of their own.
        ({
            'apt/sources.list':
            'deb [signed-by=/etc/apt/keyrings/vendor.gpg] http://v.example/ bookworm main\n'
            'deb http://w.example/ bookworm stable\n', 'apt/sources.list.d/n.sources':
            'Types: deb\nURIs: http://n.example/\nSuites: nodistro\nComponents: main\n'}, []),
        # One whose key is not named comes after one that names Debian's.
        ({
            'apt/sources.list': 'deb http://perhaps.example/d bookworm main\n',
            'apt/sources.list.d/debian.sources': DEB822}, [
                'http://one.example/debian http://one.example/debian-security/',
                'http://perhaps.example/d http://one.example/debian-security/']), ])
def test_mirrors(tmp_path: Path, files: dict[str, str], expected: list[str]) -> None:
    """Debian's own archives are found in both formats, nobody else's; last what is everywhere."""
    assert mirrors(tmp_path, files) == [*expected, PUBLIC]


def test_mirrors_of_trixie(tmp_path: Path) -> None:
    """The suites are those of the release at hand."""
    text = DEB822.replace('bookworm', 'trixie')
    files = {'apt/sources.list.d/debian.sources': text}
    assert mirrors(tmp_path, files, 'VERSION_CODENAME=trixie\n') == [
        'http://one.example/debian http://one.example/debian-security/', PUBLIC]
    assert mirrors(tmp_path, files) == [PUBLIC]


def test_an_archive_that_is_named(tmp_path: Path) -> None:
    """DEBIAN_ARCHIVE is the only one, with its security archive or without."""
    files = {'apt/sources.list.d/debian.sources': DEB822}
    assert mirrors(tmp_path, files, archive='http://a/d http://a/s') == ['http://a/d http://a/s']
    assert mirrors(tmp_path, files, archive='http://a/d') == ['http://a/d -']


def test_the_public_archive_once(tmp_path: Path) -> None:
    """A machine that has it in its sources has it once."""
    text = DEB822.replace('http://one.example', 'http://deb.debian.org').replace('security/\n',
                                                                                'security\n')
    assert mirrors(tmp_path, {'apt/sources.list.d/debian.sources': text}) == [PUBLIC]


# ---- QEMU

@pytest.mark.parametrize(('version', 'devices', 'fits'), [
    ('10.0.13 (Debian 1:10.0.13)', 'name "vfio-user-pci", bus PCI', False),
    ('7.2.17', '', False),
    ('10.1.0', 'name "vfio-user-pci", bus PCI', True),
    ('11.1.3 (Debian)', 'name "vfio-user-pci", bus PCI', True),
    ('11.1.3 (Debian)', 'name "vfio-pci", bus PCI', False),
    ('', 'name "vfio-user-pci", bus PCI', False),
])
def test_fit_qemu(tmp_path: Path, version: str, devices: str, fits: bool) -> None:
    """10.1 or later, and built with the device."""
    qemu = tmp_path / 'qemu'
    qemu.write_text(f"#!/bin/sh\n[ \"$1\" = --version ] && echo 'QEMU emulator version {version}' "
                    f"|| echo '{devices}'\n")
    qemu.chmod(0o755)
    p = subprocess.run(['bash', '-c', '. "$1"; fit_qemu "$2"', '-', PARTS / 'qemu.sh', qemu],
                       check=False)
    assert (p.returncode == 0) == fits


# ---- machine.json

def test_machine_json(tmp_path: Path) -> None:
    """What the set-up writes is what the bench reads, and it is not written again for nothing."""
    kernel = tmp_path / 'kernel'
    kernel.mkdir()
    (kernel / 'release').write_text('6.12.1+deb13-amd64\n')
    path = tmp_path / 'machine.json'
    argv = [
        sys.executable, PARTS / 'machine_json.py', path, '--qemu', tmp_path / 'qemu', '--kernel',
        kernel, '--python', '/v/bin/python', '--card-python', '/p/bin/pypy3', '--source', '/s',
        '--build', '/b', '--version', '59.0']
    subprocess.run(argv, check=True)
    m = Machine.load(path)
    assert m.qemu == [f'{tmp_path}/qemu/bin/qemu-system-x86_64']
    assert m.virtiofsd == [f'{tmp_path}/qemu/bin/virtiofsd']
    assert m.busybox == tmp_path / 'qemu/bin/busybox'
    assert (m.release, m.kernel,
            m.modules) == ('6.12.1+deb13-amd64', kernel / 'boot/vmlinuz-6.12.1+deb13-amd64',
                           kernel / 'usr/lib/modules/6.12.1+deb13-amd64')
    assert m.mlx5_include == kernel / 'usr/src/linux-headers-6.12.1+deb13-common/include/linux/mlx5'
    assert m.card_python == '/p/bin/pypy3'
    assert (m.python, str(m.rdma_core_source), str(
        m.rdma_core_build), m.rdma_core_version) == ('/v/bin/python', '/s', '/b', '59.0')
    before = path.stat().st_mtime_ns
    subprocess.run(argv, check=True)
    assert path.stat().st_mtime_ns == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ['kernel', 'machine.json']


# ---- the scripts

def test_shellcheck() -> None:
    """The entry and, through it, every part of it."""
    subprocess.run(
        [Path(sys.executable).with_name('shellcheck'), '-x', TOP / 'buildlib/quickstart.sh'],
        check=True)
    entry = (TOP / 'buildlib/quickstart.sh').read_text()
    for part in PARTS.glob('*.sh'):
        assert f'source=quickstart/{part.name}' in entry
