# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Device memory, and umems that two processes share, on other kernels, another rdma-core and
another card than the default, each set up and run as a user would.

What one combination alone shows: an old kernel that does not know a type which the card has,
dma-bufs of MEMIC, which take a new kernel and a new library, and a card that lacks types.
"""

from __future__ import annotations

import re

import pytest
from vm.runs import machine_or_skip, quickstart

machine_or_skip()

DM, CAPS = 'tests/classes/test_mlx5_dm.py', 'tests/classes/test_mlx5_dm_caps.py'


@pytest.mark.parametrize(
    ('words', 'files', 'least'),
    [
        # Linux 6.1: ENCAP_SW_ICM is refused by the kernel, and the text says that the kernel is too
        # old.
        pytest.param(['--kernel', 'oldstable'], [f'{DM}::Mlx5DMAllocTest', CAPS], 17,
                     id='Linux of Debian 12'),
        pytest.param(['--rdma-core', 'sid', '--kernel', 'backports'], [
            'tests/classes/test_mlx5_dm_dmabuf.py', f'{DM}::Mlx5DMOpAddrTest',
            f'{DM}::Mlx5DMImportTest', 'tests/classes/test_mlx5_dm_drop_in.py',
            'tests/classes/test_mlx5_devx_umem_share.py'], 29,
                     id='the newest rdma-core and Linux'),
        pytest.param(['--profile', 'connectx5'], [
            f'{DM}::Mlx5DMAllocTest', f'{DM}::Mlx5DMCopyTest', CAPS], 25, id='ConnectX-5'), ])
def test_device_memory(words: list[str], files: list[str], least: int) -> None:
    """All of it passes, and as many as there are."""
    done = quickstart('test', '-q', *words, *files)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    found = re.search(r'^(\d+) passed', done.stdout, re.MULTILINE)
    assert found, done.stdout[-2000:]
    assert int(found[1]) >= least
    assert not re.search(r'failed|skipped', done.stdout)
