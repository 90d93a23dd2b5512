# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" pyverbs' own Mlx5UMEM and Mlx5DevxUmem doing the same thing, each in a process of its own: what
comes of it, side by side.

    bash buildlib/quickstart.sh run -- python3 tests/classes/umem_beside_upstream.py [DEVICE]

Exit status 1 if Mlx5DevxUmem crashes or leaks in any case.
"""
import os
import signal
import subprocess
import sys

EXAMPLES = os.path.join(os.path.dirname(os.path.realpath(__file__)), '..', '..', 'pyverbs',
                        'examples')
sys.path.insert(0, EXAMPLES)

from choose_device import choose_device  # noqa: E402

PREAMBLE = """
import ctypes, errno, gc, os, resource, sys
from pyverbs.device import Context
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr, Mlx5UMEM
from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
Umem = {'Mlx5UMEM': Mlx5UMEM, 'Mlx5DevxUmem': Mlx5DevxUmem}[sys.argv[1]]
def open_context():
    return Mlx5Context(Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX), sys.argv[2])
def resident():
    with open('/proc/self/statm') as file:
        return int(file.read().split()[1]) * resource.getpagesize()
ctx = open_context()
"""

#: Defect, what is done, and the script. A script prints its outcome; 'LEAK' and 'WRONG' in it count
#: as defects.
CASES = (
    ('U1', 'print a closed umem',
     'u = Umem(ctx, 4096, alignment=4096); u.close(); print(str(u).strip())'),
    ('U1', 'umem_id of a closed umem', 'u = Umem(ctx, 4096, alignment=4096); u.close(); u.umem_id'),
    ('U3', '200 refused registrations of 1 MiB', """
before = resident()
for _ in range(200):
    try:
        Umem(ctx, 1 << 20, alignment=4096, access=2)
    except Exception:
        pass
grown = resident() - before >> 20
print(f'LEAK of {grown} MiB' if grown > 50 else 'no growth')"""),
    ('U4', 'close a umem under a live memory key', """
import struct
from pyverbs.pd import PD
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_obj_type
from pyverbs.providers.mlx5.mlx5dv import Mlx5DevxObj
from pyverbs.providers.mlx5.mlx5dv_objects import Mlx5DvObj
import devx_commands
pd = PD(ctx)
u = Umem(ctx, 1 << 20, alignment=4096, access=1)
address = u.umem_addr
key = Mlx5DevxObj(ctx, devx_commands.create_mkey(u.umem_id, 0, 4096, Mlx5DvObj(mlx5dv_obj_type.MLX5DV_OBJ_PD, pd=pd).dvpd.pdn), 16)
try:
    u.close()
except Exception as ex:
    said = f'{type(ex).__name__}, error_code {getattr(ex, "error_code", None)}'
with open('/proc/self/maps') as maps:
    ranges = [[int(x, 16) for x in line.split()[0].split('-')] for line in maps]
there = any(low <= address < high for low, high in ranges)
print(said + (', memory kept' if there else ', WRONG: memory freed while the device may write to it'), flush=True)
os._exit(0)"""),
    ('U6', 'resize a registered buffer', """
data = bytearray(1 << 20)
if Umem is Mlx5UMEM:
    u = Umem(ctx, len(data), ctypes.addressof(ctypes.c_char.from_buffer(data)), access=1)
else:
    u = Umem(ctx, buffer=data, access=1)
try:
    data.extend(bytes(8 << 20))
    print('WRONG: resized, the device keeps the old pages')
except BufferError as ex:
    print(f'refused: {ex}')"""),
    ('U7', 'dmabuf_fd that is no dma-buf, no mask', """
u = Umem(ctx, 4096, alignment=4096, dmabuf_fd=os.pipe()[0])
print('WRONG: registered something else')"""),
    ('U8', 'a plain Context',
     'c = Context(name=sys.argv[2]); u = Umem(c, 4096, alignment=4096); c.close(); print("registered, closed")'
     ),
    ('U10', 'unimport_umem() of an owned umem', """
u = Umem(ctx, 4096, alignment=4096)
if hasattr(u, 'unimport_umem'):
    u.unimport_umem()
    u.close()
    print('LEAK: registered until the context closes')
else:
    print('no such method on an object that owns')"""),
    ('G2', 'context and umem in one cycle', """
class Holder: pass
h = Holder(); h.me, h.ctx, h.umem = h, ctx, Umem(ctx, 4096, alignment=4096)
del h, ctx
gc.collect()
print('collected')"""),
    ('G3', 'alignment=3', 'Umem(ctx, 4096, alignment=3)'),
    ('', 'copy.copy() of a umem',
     'import copy; c = copy.copy(Umem(ctx, 4096, alignment=4096)); print(c)'),
)


def outcome(kind, device, script):
    """
    Run a script with one of the classes.
    :return: What became of it in a line, and whether it crashed, leaked or did something wrong
    """
    env = os.environ | {'PYTHONPATH': os.pathsep.join([EXAMPLES, *sys.path])}
    process = subprocess.run([sys.executable, '-c', PREAMBLE + script, kind, device],
                             capture_output=True, text=True, env=env)
    said = process.stdout.strip().replace('\n', ' ')
    if process.returncode < 0:
        return f'killed by {signal.Signals(-process.returncode).name}', True
    noise = [line for line in process.stderr.strip().splitlines() if 'Error' in line]
    if process.returncode or noise:
        said = (said + ' ' + (noise or ['failed'])[-1])[:100].strip()
    return said, 'LEAK' in said or 'WRONG' in said


def main():
    """Run all cases; the exit status."""
    device = choose_device(*sys.argv[1:2])
    bad = 0
    for defect, what, script in CASES:
        print(f'{defect:4} {what}')
        for kind in ('Mlx5UMEM', 'Mlx5DevxUmem'):
            said, wrong = outcome(kind, device, script)
            bad += wrong and kind == 'Mlx5DevxUmem'
            print(f'       {kind:13} {said}', flush=True)
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
