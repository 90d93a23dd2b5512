# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The guest's first file system: busybox, the stock kernel modules, `init`.

The archive is in cpio's `newc` format (Linux,
Documentation/driver-api/early-userspace/buffer-format.rst). It is written here because a bare
machine has no cpio, and because the kernel accepts several archives one after another: the large
one is made once a kernel, the small one with the command once a run.
"""

from __future__ import annotations

import hashlib
import lzma
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

#: What the guest loads at power-on, in this order, each after what it depends on.
LOADED = ('mlx5_core', 'ib_uverbs', 'mlx5_ib', 'ib_umad', 'rdma_ucm')
#: What has to be there for the ports and the host's file system; kernels since Debian 13's have it
#: built in, but for 9p.
LOADED_VIRTIO, LOADED_VIRTIOFS, LOADED_9P = ('virtio_pci',
                                             'virtio_console'), ('virtiofs', ), ('9pnet_virtio',
                                                                                 '9p')
#: By which the guest's /tmp takes writes of its own.
LOADED_OVERLAY = ('overlay', )
#: Where they are in the archive; modprobe's are the whole package's, in the usual place.
LOADED_FROM = 'load/modules'
#: Applets that `init` and the tests use; each becomes a link to the one binary.
APPLETS = ('sh', 'mount', 'umount', 'mkdir', 'cat', 'echo', 'ls', 'sleep', 'usleep', 'poweroff',
           'insmod', 'rmmod', 'lsmod', 'modprobe', 'dmesg', 'ip', 'chroot', 'ln', 'stty',
           'setsid', 'env', 'kill', 'true', 'grep')


#: Brings up the card's network devices.
NETDEVS_UP = Path(__file__).with_name('guest_netdevs_up.sh')


class ModuleError(Exception):
    """A kernel module that was asked for is not in the package."""


class Archive:
    """A cpio archive in memory."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._dirs: set[str] = set()
        self._inode = 0

    def _entry(self, name: str, mode: int, data: bytes) -> None:
        self._inode += 1
        raw = name.encode() + b'\0'
        fields = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(raw), 0)
        head = b'070701' + b''.join(b'%08x' % f for f in fields) + raw
        self._parts += [head, bytes(-len(head) % 4), data, bytes(-len(data) % 4)]

    def directory(self, name: str) -> None:
        """Add a directory and those above it, each once."""
        if name in self._dirs or not name:
            return
        self.directory(name.rpartition('/')[0])
        self._dirs.add(name)
        self._entry(name, stat.S_IFDIR | 0o755, b'')

    def file(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self.directory(name.rpartition('/')[0])
        self._entry(name, stat.S_IFREG | mode, data)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self.directory(name.rpartition('/')[0])
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def close(self) -> bytes:
        """Return the archive, padded so that another one can follow it."""
        self._entry('TRAILER!!!', 0, b'')
        out = b''.join(self._parts)
        return out + bytes(-len(out) % 512)


class Modules:
    """The modules of one kernel package, uncompressed on demand."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Not by '*.ko*': PyPy 7.3 matches no pattern with two stars.
        self.files = {self.name(p): p for p in directory.rglob('*') if '.ko' in p.name}
        builtin = directory / 'modules.builtin'
        lines = builtin.read_text().splitlines() if builtin.exists() else []
        self.builtin = {self.name(Path(line)) for line in lines}

    @staticmethod
    def name(path: Path) -> str:
        """Return the module's name as the kernel spells it."""
        return path.name.split('.ko')[0].replace('-', '_')

    def read(self, name: str) -> bytes:
        """Return the module as an ELF file, uncompressed."""
        path = self.files.get(name)
        if path is None:
            raise ModuleError(
                f'kernel module {name} is not in {self.directory}: the kernel package is not the '
                'one expected'
            )
        data = path.read_bytes()
        if path.suffix == '.xz':
            return lzma.decompress(data)
        if path.suffix == '.zst':
            from compression import zstd  # Python 3.14; older kernels' packages use xz
            return zstd.decompress(data)
        return data

    @staticmethod
    def depends(elf: bytes) -> list[str]:
        """Return the names in the module's `depends=` line (.modinfo)."""
        start = elf.find(b'\0depends=')
        if start < 0:
            return []
        end = elf.index(b'\0', start + 1)
        return [d.replace('-', '_') for d in elf[start + 9:end].decode().split(',') if d]

    def closure(self, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (name, ELF) of all modules, each after those it needs."""
        seen: set[str] = set()

        def visit(name: str) -> Iterator[tuple[str, bytes]]:
            if name in seen or name in self.builtin:
                return
            seen.add(name)
            elf = self.read(name)
            for d in self.depends(elf):
                yield from visit(d)
            yield name, elf

        for name in names:
            yield from visit(name)


def base(busybox: Path, modules: Modules, release: str, init: Path) -> bytes:
    """Return the archive that all runs on one kernel share."""
    a = Archive()
    for d in ('proc', 'sys', 'dev', 'run', 'host', 'own', 'bin', 'sbin'):
        a.directory(d)
    a.file('bin/busybox', busybox.read_bytes(), 0o755)
    for applet in APPLETS:
        a.link(f'bin/{applet}', 'busybox')
    a.link('sbin/modprobe', '../bin/busybox')
    a.file('init', init.read_bytes(), 0o755)
    a.file('bin/netdevs-up', NETDEVS_UP.read_bytes(), 0o755)
    a.directory(f'lib/modules/{release}')
    order: dict[str, list[str]] = {}
    packed: set[str] = set()
    groups = (('virtio', LOADED_VIRTIO), ('virtiofs', LOADED_VIRTIOFS), ('9p', LOADED_9P),
              ('overlay', LOADED_OVERLAY), ('mlx5', LOADED))
    for group, names in groups:
        order[group] = []
        # Not every package lists what is built in; the virtio groups are built in where they are no
        # files.
        wanted = [n for n in names if n in modules.files] if group.startswith(
            ('virtio', 'overlay')) else names
        for name, elf in modules.closure(wanted):
            # The first group is loaded whatever follows.
            if group == 'virtio' or name not in order['virtio']:
                order[group].append(name)
            if name not in packed:
                packed.add(name)
                a.file(f'{LOADED_FROM}/{name}.ko', elf)

    for group, loaded in order.items():
        a.file(f'load/{group}', ''.join(f'/{LOADED_FROM}/{n}.ko\n' for n in loaded).encode())
    return a.close()


def cached_base(cache: Path, busybox: Path, modules_dir: Path, release: str, init: Path) -> Path:
    """Return the path of the shared archive, made anew only when something in it changed."""
    key = hashlib.sha256()
    for p in (busybox, init, NETDEVS_UP, Path(__file__), modules_dir):
        s = p.stat()
        key.update(f'{p} {s.st_size} {s.st_mtime_ns}\n'.encode())
    path = cache / f'initramfs-{release}-{key.hexdigest()[:16]}.cpio'
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f'{path.name}.{os.getpid()}')
        try:
            made.write_bytes(base(busybox, Modules(modules_dir), release, init))
            made.replace(path)
        finally:
            made.unlink(missing_ok=True)
        # Each change to what goes in leaves an archive of tens of megabytes behind.
        for old in sorted(cache.glob('initramfs-*.cpio'), key=lambda p: p.stat().st_mtime)[:-4]:
            old.unlink(missing_ok=True)
    return path
