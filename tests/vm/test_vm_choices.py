# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Device memory, and umems that two processes share, on other kernels, another rdma-core and
another card than the default, each set up and run as a user would.

What one combination alone shows: an old kernel that does not know a type which the card has,
dma-bufs of MEMIC, which take a new kernel and a new library, and a card that lacks types.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from mlx5emu.vm.machine import Machine, MachineError

try:
    Machine.load()
except MachineError as e:
    pytest.skip(str(e), allow_module_level=True)

TOP = Path(__file__).resolve().parents[2]
#: A build of rdma-core, packages to fetch, and a guest, on a machine that does other things.
LIMIT = 540

DM, CAPS = 'tests/classes/test_mlx5_dm.py', 'tests/classes/test_mlx5_dm_caps.py'


@pytest.mark.parametrize(
    ('words', 'files', 'least'),
    [
        # Linux 6.1: ENCAP_SW_ICM is refused by the kernel, and the text says that the kernel is too
        # old.
        pytest.param(['--kernel', 'oldstable'], [f'{DM}::Mlx5DMAllocTest', CAPS], 17,
                     id='Linux of Debian 12'),
        pytest.param(['--rdma-core', 'sid', '--kernel', 'backports'], [
            'tests/classes/test_mlx5_dm_dmabuf.py', f'{DM}::Mlx5DMOpAddrTest', f'{DM}::Mlx5DMImportTest',
            'tests/classes/test_mlx5_dm_drop_in.py', 'tests/classes/test_mlx5_devx_umem_share.py'], 29,
                     id='the newest rdma-core and Linux'),
        pytest.param(['--profile', 'connectx5'], [
            f'{DM}::Mlx5DMAllocTest', f'{DM}::Mlx5DMCopyTest', CAPS], 25, id='ConnectX-5'), ])
def test_device_memory(words: list[str], files: list[str], least: int) -> None:
    """All of it passes, and as many as there are."""
    env = {
        k: v for k, v in os.environ.items()
        if not k.startswith(('MLX5', 'PYTEST')) and k not in ('PYTHONPATH', 'LD_LIBRARY_PATH')}
    done = subprocess.run(['bash', 'buildlib/quickstart.sh', 'test', '-q', *words, *files], cwd=TOP,
                          env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found = re.search(r'^(\d+) passed', done.stdout, re.MULTILINE)
    assert found, done.stdout[-2000:]
    assert int(found[1]) >= least
    assert not re.search(r'failed|skipped', done.stdout)
