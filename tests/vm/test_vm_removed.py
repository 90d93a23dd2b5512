# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A device that is taken out while objects are open on it, and put back."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path

from vm.runs import in_a_guest, machine_or_skip

machine_or_skip()

#: IBV_EVENT_DEVICE_FATAL.
FATAL = 8

REMOVED = """
import gc, json, os, time
from pathlib import Path
from pyverbs.device import AllocDmAttr
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags as flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM, Mlx5DMOpAddr
from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

def attempt(call, *args, **kwargs):
    try:
        call(*args, **kwargs)
        return [0, '']
    except PyverbsRDMAError as ex:
        return [ex.error_code, str(ex)]

def opened():
    return Mlx5Context(Mlx5DVContextAttr(flags.MLX5DV_CONTEXT_FLAGS_DEVX), 'mlx5_0')

out = {}
ctx = opened()
dm, umem = Mlx5DM(ctx, AllocDmAttr(length=64)), Mlx5DevxUmem(ctx, 4096, access=1)
op = Mlx5DMOpAddr(dm, 0)
left = opened()
dropped = [Mlx5DM(left, AllocDmAttr(length=64)), Mlx5DevxUmem(left, 4096)]
device = Path('/sys/class/infiniband/mlx5_0/device').resolve()
(device / 'remove').write_text('1')
out['copies'] = [attempt(dm.copy_to_dm, 0, bytes(8)), attempt(dm.copy_from_dm, 0, 8)]
event = ctx.get_async_event()
out['event'] = event.event_type
event.ack()
out['refused'] = [attempt(Mlx5DM, ctx, AllocDmAttr(length=64)), attempt(Mlx5DevxUmem, ctx, 4096),
                  attempt(Mlx5DMOpAddr, dm, 1)]
out['closed'] = [attempt(thing.close) for thing in (op, umem, dm, ctx)]
del dropped, left
gc.collect()
Path('/sys/bus/pci/rescan').write_text('1')
for _ in range(600):
    if os.path.exists('/sys/class/infiniband/mlx5_0') and os.listdir('/dev/infiniband'):
        break
    time.sleep(0.1)
with opened() as ctx, Mlx5DM(ctx, AllocDmAttr(length=64)) as dm, Mlx5DevxUmem(ctx, 4096) as umem:
    dm.copy_to_dm(0, b'is back!')
    out['back'] = dm.copy_from_dm(0, 8).decode()
print(json.dumps(out))
"""


def test_device_removed_under_open_objects(tmp_path: Path) -> None:
    """Copies go into the page that the kernel put there, the event tells, commands are EIO with a
    text that says so, all closes in order, and the device is usable once it is back."""
    said = json.loads(in_a_guest(tmp_path, [], sys.executable, '-W', 'error', '-c', REMOVED).stdout)
    assert said['copies'] == [[0, '']] * 2
    assert said['event'] == FATAL
    for code, text in said['refused']:
        assert code == errno.EIO
        assert 'the device is gone' in text
    assert said['closed'] == [[0, '']] * 4
    assert said['back'] == 'is back!'
