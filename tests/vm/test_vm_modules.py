# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""modprobe in the guest has every module of the stock kernel, and the kernel gets what it asks for
itself: RDMA's drivers and protocols, and storage over RDMA."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from mlx5emu.vm.machine import Machine
from vm.runs import in_a_guest, machine_or_skip, machine_with

MACHINE = machine_or_skip()

#: Where the kernel keeps what is for RDMA and for storage over it.
FOLDERS = ('drivers/infiniband', 'drivers/nvme', 'drivers/target', 'drivers/block/rnbd', 'net/rds',
           'net/smc', 'net/9p', 'net/sunrpc', 'fs/nfs', 'fs/nfsd', 'fs/smb')
#: Modules of machines that QEMU is not.
ELSEWHERE = {'9pnet_xen'}

IN_GUEST = """
import json, socket, subprocess, sys
from pathlib import Path

def loaded():
    return {line.split()[0] for line in Path('/proc/modules').read_text().splitlines()}

AF_VSOCK = 40
assert 'vsock' not in loaded()
socket.socket(AF_VSOCK, socket.SOCK_STREAM).close()
asked = 'vsock' in loaded()
failed = {}
for name in sys.argv[1:]:
    done = subprocess.run(['modprobe', name], capture_output=True, text=True)
    if done.returncode:
        failed[name] = done.stderr
print(json.dumps([asked, failed, sorted(loaded()), Path('/sys/class/infiniband/mlx5_0').exists()]))
"""


@pytest.mark.parametrize('kernel', ['stable', 'backports'])
def test_modules_of_the_stock_kernel(kernel: str, tmp_path: Path) -> None:
    """A socket's family brings its module; then all of them load one by one, each with what it
    needs, and the card's device is still there."""
    path = machine_with(MACHINE, kernel)
    directory = Machine.load(path).modules / 'kernel'
    names = {
        file.name.split('.ko')[0]
        for folder in FOLDERS for file in (directory / folder).rglob('*.ko*')} - ELSEWHERE
    assert {'nvme-rdma', 'ib_iser', 'ib_srpt', 'rpcrdma', 'rds_rdma', 'ib_ipoib'} <= names
    said = in_a_guest(tmp_path, ['--memory', '2048'], sys.executable, '-c', IN_GUEST,
                      *sorted(names), machine=path).stdout
    asked, failed, loaded, device = json.loads(said.splitlines()[-1])
    assert asked and device
    assert failed == {}
    assert {name.replace('-', '_') for name in names} <= set(loaded)
