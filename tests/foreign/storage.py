# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Storage over RDMA with both sides in the guest's kernel: NVMe, NFS, iSER. What is written by the
one side is compared on the other."""

from __future__ import annotations

import mmap
import os
import subprocess
import time
from pathlib import Path

from patience import until

from foreign.catalogue import program
from foreign.root import Failed, Root, end, modprobe, sh

ADDRESS = '10.9.1.1'
CONFIG = Path('/sys/kernel/config')
MIB = 1 << 20
SIZE = 16 * MIB


def configfs() -> None:
    """Mount it, once."""
    if not os.path.ismount(CONFIG):
        sh('mount', '-t', 'configfs', 'none', str(CONFIG))


def make(path: Path, **attributes: str | int | Path) -> Path:
    """Make an object in configfs and write its attributes, in order."""
    path.mkdir(parents=True, exist_ok=True)
    for name, value in attributes.items():
        (path / name).write_text(str(value))
    return path


def backing(name: str) -> Path:
    """Return a file in memory for what is exported."""
    path = Path('/dev/shm') / name
    path.write_bytes(bytes(SIZE))
    return path


def exercise(device: Path, file: Path) -> str:
    """Write and read a block device past the page cache, compare with the file behind it; return
    the rate."""
    block = mmap.mmap(-1, MIB)
    back = mmap.mmap(-1, MIB)
    fd = os.open(device, os.O_RDWR | os.O_DIRECT)
    try:
        began = time.monotonic()
        for at in range(0, SIZE, MIB):
            block[:] = os.urandom(MIB)
            os.pwritev(fd, [block], at)
            os.preadv(fd, [back], at)
            if back[:] != block[:]:
                raise Failed(f'{device}: other bytes at {at}')
        seconds = time.monotonic() - began
        os.fsync(fd)
    finally:
        os.close(fd)
    if file.read_bytes()[-MIB:] != block[:]:
        raise Failed(f'{file} has other bytes than were written to {device}')
    return f'{2 * SIZE / MIB / seconds:.0f} MiB/s, written and read'


@program('nvme', 'nvme-cli', "NVMe over RDMA: nvme connect to the kernel's target", quick=True)
def nvme(root: Root) -> str:
    """A namespace in memory, used as a disk, over the card."""
    modprobe('nvmet-rdma', 'nvme-rdma')
    configfs()
    file = backing('nvme')
    target = CONFIG / 'nvmet'
    subsystem = make(target / 'subsystems/emulated', attr_allow_any_host=1)
    space = make(subsystem / 'namespaces/1', device_path=file, buffered_io=1, enable=1)
    port = make(target / 'ports/1', addr_trtype='rdma', addr_adrfam='ipv4', addr_traddr=ADDRESS,
                addr_trsvcid=4420)
    link = port / 'subsystems/emulated'
    link.symlink_to(subsystem)
    try:
        root.run('nvme', 'connect', '-t', 'rdma', '-a', ADDRESS, '-s', '4420', '-n', 'emulated',
                 '-i', '1')
        try:
            disk = Path('/dev/nvme0n1')
            until(disk.exists, f'{disk} appears')
            return exercise(disk, file)
        finally:
            root.run('nvme', 'disconnect', '-n', 'emulated')
    finally:
        link.unlink()
        (space / 'enable').write_text('0')
        for path in (port, space, subsystem):
            path.rmdir()
        file.unlink()


@program('nfs', 'nfs-kernel-server', "NFS 4.2 over RDMA: mount -o rdma of the kernel's server")
def nfs(root: Root) -> str:
    """A file is read and another one written through the mount, each compared on the other side."""
    modprobe('nfsd', 'rpcrdma', 'nfsv4')
    exported, mounted = root.path / 'mnt/exported', root.path / 'mnt/mounted'
    for path in (exported, mounted, root.path / 'var/lib/nfs/v4recovery'):
        path.mkdir(parents=True, exist_ok=True)
    for name in ('etab', 'rmtab'):
        (root.path / 'var/lib/nfs' / name).touch()
    sh('mount', '-t', 'tmpfs', 'none', str(exported))
    sh('mount', '-t', 'nfsd', 'none', str(root.path / 'proc/fs/nfsd'))
    settings = root.path / 'proc/fs/nfsd'
    # Seconds in which clients of a former server could come back.
    for name in ('nfsv4leasetime', 'nfsv4gracetime'):
        (settings / name).write_text('10')
    root.run('exportfs', '-o', 'rw,fsid=0,no_root_squash,insecure,no_subtree_check',
             '*:/mnt/exported')
    daemon = root.start('rpc.mountd', '-N', '2', '-N', '3', '-F')
    try:
        root.run('rpc.nfsd', '-N', '3', '-V', '4', '--rdma=20049', '2')
        data = os.urandom(3 * MIB)
        (exported / 'read').write_bytes(data)
        root.run('mount', '-t', 'nfs4', '-o', 'rdma,port=20049,vers=4.2', f'{ADDRESS}:/',
                 '/mnt/mounted')
        try:
            if 'proto=rdma' not in Path('/proc/mounts').read_text():
                raise Failed('mounted, but not by RDMA')
            # Waits until clients of a former server have had their time.
            same = (mounted / 'read').read_bytes() == data
            began = time.monotonic()
            (mounted / 'written').write_bytes(data[::-1])
            os.sync()
            seconds = time.monotonic() - began
            if not same or (exported / 'written').read_bytes() != data[::-1]:
                raise Failed('other bytes')
        finally:
            root.run('umount', '/mnt/mounted')
        return f'{len(data) / MIB / seconds:.0f} MiB/s, written'
    finally:
        root.run('rpc.nfsd', '0')
        end(daemon)
        daemon.communicate()
        root.run('exportfs', '-ua')
        sh('umount', str(exported))


@program('iser', 'open-iscsi', "iSCSI over RDMA: iscsiadm to the kernel's target")
def iser(root: Root) -> str:
    """A unit in memory, used as a disk, over the card."""
    modprobe('ib_isert', 'ib_iser', 'target_core_file', 'iscsi_target_mod', 'sd_mod')
    configfs()
    file, name = backing('iser'), 'iqn.2026-01.emulated:card'
    target = CONFIG / 'target'
    store = make(target / 'core/fileio_0/unit', control=f'fd_dev_name={file},fd_dev_size={SIZE}',
                 enable=1)
    group = make(target / 'iscsi' / name / 'tpgt_1')
    unit = make(group / 'lun/lun_0')
    (unit / 'unit').symlink_to(store)
    portal = make(group / f'np/{ADDRESS}:3260', iser=1)
    make(group / 'attrib', authentication=0, demo_mode_write_protect=0, generate_node_acls=1,
         cache_dynamic_acls=1)
    (group / 'enable').write_text('1')
    settings = root.path / 'etc/iscsi'
    (settings / 'initiatorname.iscsi').write_text('InitiatorName=iqn.2026-01.emulated:user\n')
    (settings / 'iscsid.conf').write_text('')
    (root.path / 'run/lock/iscsi').mkdir(parents=True, exist_ok=True)
    daemon = root.start('iscsid', '-f')
    node = ['iscsiadm', '-m', 'node', '-T', name, '-p', f'{ADDRESS}:3260']
    try:
        until(lambda: 'ISCSIADM' in Path('/proc/net/unix').read_text(), 'iscsid listens')
        root.run(*node[:3], '-o', 'new', '-T', name, '-p', f'{ADDRESS}:3260,1', '-I', 'iser')
        root.run(*node, '-l')
        try:
            found: list[Path] = []

            def appears() -> bool:
                found[:] = Path('/sys/class/iscsi_session').glob(
                    'session*/device/target*/*/block/sd*')
                return bool(found)
            until(appears, 'a disk appears')
            return exercise(Path('/dev') / found[0].name, file)
        finally:
            root.run(*node, '-u')
    finally:
        end(daemon)
        daemon.communicate()
        (group / 'enable').write_text('0')
        portal.rmdir()
        (unit / 'unit').unlink()
        for path in (unit, group, group.parent, store, store.parent):
            path.rmdir()
        subprocess.run(['rm', '-f', str(file)], check=True)
