# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Hostile guests and clients: seeded random commands, rings, doorbells and messages; nothing
escapes, nothing grows.

MLX5EMU_FUZZ multiplies the number of inputs.
"""
import gc
import os
import random
import resource
import socket
import time

import pytest
from emulator.driver.random_commands import CommandBench, random_command, some
from mlx5emu import prm
from mlx5emu.bus import pci
from mlx5emu.bus import vfio_user as vu
from mlx5emu.bus.server import Server
from mlx5emu.card import Card
from mlx5emu.firmware import caps, dispatch
from patience import PATIENCE, until

SCALE = float(os.environ.get('MLX5EMU_FUZZ', '1'))
#: Growth in KiB that is no leak: caches of compiled paths, Python's own arenas.
GROWTH = 64 << 10


def resident() -> int:
    """Peak resident memory in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.mark.parametrize('link_layer', ['ib', 'eth'])
def test_commands(link_layer) -> None:
    rng = random.Random(5)
    b = CommandBench(link_layer)
    names = dispatch.names()
    before = 0
    for k in range(int(6000 * SCALE)):
        if k == 500:
            before = resident()
        raw = random_command(rng, names, b.uids)
        if raw[:2] in (b'\x01\x03', b'\x01\x05') and rng.random() < 0.99:
            continue    # TEARDOWN_HCA and DISABLE_HCA would make the rest boring
        out = b.card.execute(raw, rng.choice((16, 16, 64, 0x110, 0x1010, 8, 3)))
        assert len(out) in (16, 64, 0x110, 0x1010, 8, 3)
        if b.card.state != b.card.READY or k % 2000 == 1999:
            b.card.reset()
            b.prepare()
    b.assert_no_defects()
    assert b.card.memory.used <= b.card.memory.limit
    assert resident() - before < GROWTH


def test_registers_and_rings() -> None:
    """Descriptors, mailboxes and register writes at random, on a ring that the guest scribbles
    over."""
    rng = random.Random(6)
    b = CommandBench('ib')
    names = dispatch.names()
    before = 0
    for k in range(int(6000 * SCALE)):
        kind = rng.random()
        if kind < 0.5:
            b.guest.used = max(0, b.queue.ring - b.guest.base + 4096)
            overrides = {}
            if rng.random() < 0.5:
                field = rng.choice(
                    ('type', 'inlen', 'in_ptr', 'outlen', 'out_ptr', 'token', 'status_own'))
                overrides[field] = some(rng, prm.fields('cmd_layout')[field][1])
            b.queue.post(random_command(rng, names, b.uids), rng.choice((8, 16, 600, 0x1010)),
                         rng.randrange(32), **overrides)
        elif kind < 0.6:
            b.guest.write(b.guest.base + rng.randrange(b.guest.size - 64), rng.randbytes(64))
        elif kind < 0.65:
            offset = rng.choice(
                (0, 4, 0x10, 0x14, 0x18, 0x1fc, 0x1010, 0x200, rng.randrange(0x2100)))
            b.function.write(
                0, offset,
                rng.choice((rng.randbytes(4), rng.randbytes(8), b'\0\0\0\0', rng.randbytes(1))))
        elif kind < 0.8:
            offset = 0x100000 + rng.randrange(4) * 4096 + rng.choice(
                (0x20, 0x24, 0x40, 0x48, 0x800, 0x808, 0x900, rng.randrange(4096)))
            data = some(rng, 64).to_bytes(8, 'big')
            b.function.write(0, offset, data[:rng.choice((1, 2, 4, 8))])
        elif kind < 0.85:
            n = rng.choice((1, 2, 4, 8, 64))
            b.function.read(rng.choice((0, 7)), rng.randrange(4096 - 64), n)
            b.function.read(0, caps.MEMIC_OPERATION_START + rng.randrange(2 * caps.MEMIC_SIZE - 64),
                            n)
            at = caps.MEMIC_OPERATION_START + rng.randrange(2 * caps.MEMIC_SIZE - 64)
            b.function.write(0, at,
                             rng.randbytes(n))
        elif kind < 0.88:
            offset = rng.randrange(pci.CONFIG_SIZE - 4)
            if not offset <= pci.DEVCTL + 1 < offset + 4:
                b.function.write(7, offset, rng.randbytes(4))
        else:
            if kind > 0.995:
                b.function.reset()
                b.prepare()
            b.function.write(0, 0x10, (b.queue.ring >> 32).to_bytes(4, 'big'))
            b.function.write(0, 0x14, (b.queue.ring & 0xfffff000).to_bytes(4, 'big'))
            b.function.write(7, 4, b'\6\0')
            b.queue.ring_doorbell(rng.getrandbits(32))
            b.card.run_timers()
            if b.card.state != b.card.READY:
                b.card.reset()
                b.prepare()
        if k == 300:
            before = resident()
    b.assert_no_defects()
    assert resident() - before < GROWTH


def test_messages(tmp_path) -> None:
    """Clients that send anything: the server answers or hangs up, and serves the next."""
    rng = random.Random(7)
    server = Server(str(tmp_path / 'card'), Card('connectx6dx', 'ib'))
    server.start()
    memory = os.memfd_create('guest')
    os.ftruncate(memory, 1 << 20)
    codes = range(18)

    def message(k: int) -> tuple[bytes, list[int]]:
        code = rng.choice(codes)
        if code == vu.DEVICE_RESET and rng.random() < 0.9:
            code = vu.REGION_READ
        body = b''.join(some(rng, 64).to_bytes(8, 'little') for _ in range(rng.randrange(7)))
        if code in (vu.REGION_READ, vu.REGION_WRITE):
            n = rng.choice((0, 1, 4, 8, 64))
            body = vu.REGION_ACCESS.pack(
                rng.choice((0, 0x10, 0x18, 0x100800, caps.MEMIC_START, some(rng, 64))),
                rng.choice((0, 7, some(rng, 32))), n)
            body += rng.randbytes(n) if code == vu.REGION_WRITE else b''
        size = 16 + len(body)
        kind = rng.random()
        if kind < 0.002:
            size = some(rng, 32)
        flags = vu.NO_REPLY if kind < 0.3 else rng.getrandbits(32) if kind > 0.998 else 0
        return vu.HEADER.pack(k & 0xffff, code, size, flags, 0) + body, [memory] * rng.choice(
            (0, 0, 0, 1, 2))

    gc.collect()
    before_fds = len(os.listdir('/proc/self/fd'))
    before = resident()
    sent = 0
    while sent < 6000 * SCALE:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.settimeout(PATIENCE)
            while s.connect_ex(server.path):
                time.sleep(0.001)       # the backlog is full of those who have gone
            s.sendall(vu.HEADER.pack(0, vu.VERSION, 20, 0, 0) + bytes(4))
            s.setblocking(False)
            try:
                for _ in range(rng.randrange(1, 600)):
                    data, fds = message(sent)
                    sent += 1
                    while data:
                        try:
                            n = socket.send_fds(s, [data], fds) if fds else s.send(data)
                            data, fds = data[n:], []
                        except BlockingIOError:
                            s.recv(1 << 20)
                    try:
                        s.recv(1 << 20)
                    except BlockingIOError:
                        pass
            except OSError:
                pass    # the server hung up, as it may
    until(lambda: not server.connected, 'the server notices that the client is gone')
    assert server.call(lambda: server.card.dma.maps()) == []
    assert server.escaped == [] and server.card.internal_errors == 0
    gc.collect()
    assert len(os.listdir('/proc/self/fd')) == before_fds
    assert resident() - before < GROWTH
    server.stop()
    os.close(memory)
