# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The host's files in the guest, at the same paths.

All of them can be read, as far as the user who runs this can; none can be changed but below the
directories that were asked for. The host holds to that, whatever the guest's kernel does: the root
is shared read-only, and each of those directories by itself. The guest's /tmp shows the host's and
takes writes into memory of its own.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bus.private_socket import private_socket

#: Some containers allow 1,024, which the import of rdma-core's tests is enough to use up.
MANY_FILES = 16384
#: What virtiofsd keeps when root starts it, with the numbers of capabilities(7).
CAPABILITIES = {'chown': 0, 'dac_override': 1, 'fowner': 3, 'fsetid': 4, 'setgid': 6, 'setuid': 7,
                'mknod': 27, 'setfcap': 31}


@dataclass(frozen=True)
class Share:
    """One directory of the host's, which the guest mounts at the same path."""

    #: By which the guest asks for it.
    tag: str
    path: Path
    writable: bool


def shares(writable: Sequence[Path]) -> list[Share]:
    """Return the host's root, and then what may be written to.

    :param writable: directories, absolute
    """
    return [Share('host', Path('/'), False)
            ] + [Share(f'write{k}', path, True) for k, path in enumerate(writable)]


def mounts(shared: list[Share]) -> str:
    """Return what the guest's init reads: a line with tag and path for all but the root."""
    return ''.join(f'{share.tag} {share.path}\n' for share in shared[1:])


def can_keep_open() -> bool:
    """Tell whether a daemon may have as many files open as it wants to: one for each that the guest
    has seen. QEMU's own 9p closes some when it has too many."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= MANY_FILES


def lacking(status: Path = Path('/proc/self/status')) -> list[str]:
    """Return those of the daemon's capabilities that this process does not have, as root of a
    container.

    :param status: of the process
    """
    line = next(line for line in status.read_text().splitlines() if line.startswith('CapEff:'))
    effective = int(line.split()[1], 16)
    return [name for name, bit in CAPABILITIES.items() if not effective >> bit & 1]


def over_virtiofs(share: Share, directory: Path,
                  start: Callable[[list[str], str, tuple[int, ...]], object]) -> list[str]:
    """Start the daemon that serves a directory.

    :param directory: where its socket goes
    :param start: starts a process, given arguments, the log's name and descriptors
    :return: QEMU's words for the device
    """
    # Root's daemon puts on the identity of who asks; an ordinary user's cannot, and must not try.
    # Nor may it ask for a capability that it has not: it would end.
    without = lacking() if os.geteuid() == 0 else []
    owner = ['--modcaps=' + ':'.join(f'-{name}' for name in without)] if without else []
    if os.geteuid() != 0 or {'setuid', 'setgid'} & set(without):
        owner += [
            '--translate-uid', f'squash-guest:0:{os.geteuid()}:4294967295', '--translate-gid',
            f'squash-guest:0:{os.getegid()}:4294967295']
    mode = [] if share.writable else ['--readonly']
    # Closed here once the daemon has it, so that QEMU sees a daemon that is gone.
    with private_socket() as listener:
        listener.bind(str(directory / share.tag))
        listener.listen(1)
        start([
            '--fd', str(listener.fileno()), '--shared-dir', str(share.path), '--sandbox', 'none',
            '--cache', 'always', '--announce-submounts', '--log-level', 'error', *owner, *mode],
            f'virtiofsd-{share.tag}.log', (listener.fileno(),))
    return [
        '-chardev', f'socket,id={share.tag},path={directory / share.tag}', '-device',
        f'vhost-user-fs-pci,chardev={share.tag},tag={share.tag},queue-size=512']


def over_9p(share: Share) -> list[str]:
    """Return QEMU's words for a directory that it serves itself."""
    # A comma ends a value, and two stand for one.
    path = str(share.path).replace(',', ',,')
    return [
        '-fsdev', f'local,id={share.tag},path={path},security_model=none,multidevs=remap,readonly='
        f'{"off" if share.writable else "on"}', '-device',
        f'virtio-9p-pci,fsdev={share.tag},mount_tag={share.tag}']
