# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Umems that want a machine of their own: exporters of dma-bufs in other devices, a card without
DEVX, pages of 1 GiB."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any

from vm.runs import TESTS, in_a_guest, machine_or_skip

machine_or_skip()

GIANT = 1 << 30

#: Buffers of DRM drivers, exported as dma-bufs. bochs has them in the memory of a display adapter,
#: which it lets no other device have; vgem has them in system memory.
DRM = """
import ctypes, fcntl, glob, json, mmap, os, struct, subprocess
from mlx5emu.vm import control
from pyverbs.device import Context
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

CREATE_DUMB, MAP_DUMB, HANDLE_TO_FD, VERSION = 0xc02064b2, 0xc01064b3, 0xc00c642d, 0xc0406400

def ask(card, request, layout, *values):
    box = bytearray(struct.pack(layout, *values))
    fcntl.ioctl(card, request, box, True)
    return struct.unpack(layout, box)

def driver(card):
    name = bytearray(32)
    at = (ctypes.c_char * 32).from_buffer(name)
    ask(card, VERSION, '=iii4xQQQQQQ', 0, 0, 0, 31, ctypes.addressof(at), 0, 0, 0, 0)
    return name.rstrip(b'\\0').decode()

out = {}
for module in ('bochs', 'vgem'):
    subprocess.run(['/run/mlx5emu/bin/modprobe', module], check=True)
with Context(name='mlx5_0') as ctx:
    for path in sorted(glob.glob('/dev/dri/card*')):
        card = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        handle, _, size = ask(card, CREATE_DUMB, '=IIIIIIQ', 64, 64, 32, 0, 0, 0, 0)[4:]
        fd = ask(card, HANDLE_TO_FD, '=IIi', handle, os.O_RDWR | os.O_CLOEXEC, -1)[2]
        before, files = control.call('objects').get('umem', []), os.listdir('/proc/self/fd')
        answers = []
        for kwargs in ({}, {'access': 1}, {'pgsz_bitmap': [4096]}, {'addr': 4096}):
            try:
                umem = Mlx5DevxUmem(ctx, 4096, dmabuf_fd=fd, **kwargs)
            except PyverbsRDMAError as ex:
                answers.append([ex.error_code, str(ex)])
                continue
            answers.append([0, ''])
            if kwargs.get('access'):
                mapped = mmap.mmap(card, size, offset=ask(card, MAP_DUMB, '=IIQ', handle, 0, 0)[2])
                mapped[4090:4096] = b'Python'
                read = control.call('umem_read', umem_id=umem.umem_id, offset=4090, length=6)
                os.close(fd)
                control.call('umem_write', umem_id=umem.umem_id, offset=0, data=b'card'.hex())
                answers[-1][1] = [bytes.fromhex(read).decode(), mapped[:4].decode()]
                mapped.close()
                fd = ask(card, HANDLE_TO_FD, '=IIi', handle, os.O_RDWR | os.O_CLOEXEC, -1)[2]
            umem.close()
        assert control.call('objects').get('umem', []) == before
        assert len(os.listdir('/proc/self/fd')) == len(files)
        os.close(fd)
        out[driver(card)] = answers
print(json.dumps(out))
"""

NO_DEVX = """
import json
from pyverbs.device import Context
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags as flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr
from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
from pyverbs.providers.mlx5.mlx5dv_dm import query_hca_cap

def attempt(call):
    try:
        call().close()
        return [0, '']
    except PyverbsRDMAError as ex:
        return [ex.error_code, str(ex)]

with Context(name='mlx5_0') as ctx:
    out = [attempt(lambda: Mlx5DevxUmem(ctx, **kwargs)) for kwargs in
           ({'size': 4096}, {'size': 4096, 'access': 1}, {'size': 4096, 'pgsz_bitmap': 4096},
            {'size': 0})]
    data = bytearray(4096)
    out.append(attempt(lambda: Mlx5DevxUmem(ctx, buffer=data, access=1)))
    out.append(attempt(lambda: query_hca_cap(ctx, 0)))
    data.append(1)
devx = Mlx5DVContextAttr(flags.MLX5DV_CONTEXT_FLAGS_DEVX)
out.append(attempt(lambda: Mlx5Context(devx, 'mlx5_0')))
print(json.dumps(out))
"""


def test_exporters_of_other_devices(tmp_path: Path) -> None:
    """ENOSYS from an exporter that keeps its memory from other devices, and nothing left; one with
    system memory is a source."""
    found: dict[str, Any] = json.loads(
        in_a_guest(tmp_path, ['--beside', 'bochs-display'], sys.executable, '-c', DRM).stdout)
    assert sorted(found) == ['bochs-drm', 'vgem']
    for code, said in found['bochs-drm']:
        assert code == errno.ENOSYS
        assert 'exporter cannot pin its memory' in said
    assert found['vgem'] == [[0, ''], [0, ['Python', 'card']], [0, ''], [0, '']]


def test_card_without_devx(tmp_path: Path) -> None:
    """EPROTONOSUPPORT, and the text says that it is the device, and what its firmware lacks;
    nothing is held."""
    *refused, context = json.loads(
        in_a_guest(tmp_path, ['--cap', 'general.log_max_uctx=0'], sys.executable, '-c',
                   NO_DEVX).stdout)
    assert len(refused) == 6
    for code, said in refused:
        assert code == errno.EPROTONOSUPPORT
        assert 'has no DEVX' in said
        assert 'log_max_uctx' in said
        assert 'page size' not in said
    assert context[0]


def test_pages_of_1_gib(tmp_path: Path) -> None:
    """Every page size from 4 KiB to 1 GiB, read back from the card, in a reserved page of 1 GiB."""
    said = in_a_guest(tmp_path, ['--memory', '4096', '--kernel-args', 'hugepagesz=1G hugepages=1'],
                      'env', f'MLX5_UMEM_HUGE_PAGES={GIANT}', sys.executable, '-m', 'pytest', '-q',
                      '-p', 'no:cacheprovider', f'{TESTS}/classes/test_mlx5_devx_umem_sources.py',
                      '-k', 'test_huge_pages').stdout
    assert '1 passed' in said, said
