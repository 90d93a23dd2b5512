# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Runs under mpirun, in a root: two ranks send, put, get and count, and compare every byte."""

import array
import sys
import time

from mpi4py import MPI

SIZES = (1, 64, 1024, 8192, 65536, 262144)
ROUNDS = 20


def pattern(size: int, seed: int) -> bytearray:
    """Return bytes of which no shifted or shorter copy is equal."""
    return bytearray((k * k + k * seed >> 3) & 0xff for k in range(min(size, 4096))) * (
        -(-size // 4096))


world = MPI.COMM_WORLD
rank, peer = world.rank, 1 - world.rank

for size in SIZES:
    for k in range(3):
        sent, got = pattern(size, k + rank)[:size], bytearray(size)
        if rank:
            world.Recv(got, peer, tag=k)
            world.Send(sent, peer, tag=k)
        else:
            world.Send(sent, peer, tag=k)
            world.Recv(got, peer, tag=k)
        assert got == pattern(size, k + peer)[:size], f'{size} bytes, round {k}'

box = bytearray(64)
began = time.monotonic()
for _ in range(ROUNDS):
    if rank:
        world.Recv(box, peer)
        world.Send(box, peer)
    else:
        world.Send(box, peer)
        world.Recv(box, peer)
latency = (time.monotonic() - began) / ROUNDS / 2

window = MPI.Win.Allocate(131072, 1, comm=world)
memory = window.tomemory()
memory[:] = bytes(131072)
world.Barrier()
window.Lock_all()
put, got = pattern(60000, 7 + rank)[:60000], bytearray(60000)
window.Put(put, peer, target=(8, 60000, MPI.BYTE))
window.Flush(peer)
window.Get(got, peer, target=(8, 60000, MPI.BYTE))
window.Flush(peer)
assert got == put
one, before = array.array('q', [1 + rank]), array.array('q', [0])
for _ in range(10):
    window.Fetch_and_op([one, MPI.INT64_T], [before, MPI.INT64_T], 1, 65536, MPI.SUM)
    window.Flush(1)
compare, swap = array.array('q', [30]), array.array('q', [77])
world.Barrier()
if rank == 0:
    window.Compare_and_swap([swap, MPI.INT64_T], [compare, MPI.INT64_T], [before, MPI.INT64_T], 1,
                            65536)
    window.Flush(1)
    assert before[0] == 30, before
world.Barrier()
if rank == 1:
    window.Sync()
    assert int.from_bytes(memory[65536:65544], 'little') == 77
    assert bytes(memory[8:60008]) == pattern(60000, 7)[:60000]
window.Unlock_all()
window.Free()
world.Barrier()
if rank == 0:
    print(f'all right, {latency * 1e6:.0f} us')
    sys.stdout.flush()
