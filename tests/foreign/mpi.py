# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Open MPI with mpi4py over UCX: messages, one-sided access and atomics by each of UCX's
transports, every byte compared."""

from __future__ import annotations

import re
from pathlib import Path

from foreign.catalogue import program
from foreign.root import Failed, Root

TRANSPORTS = ('rc_x', 'rc_v', 'dc_x', 'ud_x', 'ud_v')
#: Those in every test run: each kind of transport, both by libmlx5's queues and by verbs.
QUICK = {('trixie', 'ethernet', 'rc_x', 1), ('trixie', 'ethernet', 'ud_v', 2),
         ('trixie', 'infiniband', 'dc_x', 2)}
TRAFFIC = Path(__file__).with_name('mpi_traffic.py')


def mpirun(root: Root, transport: str, *words: str, env: dict[str, str] | None = None) -> str:
    """Run two ranks with one of UCX's transports; return what they print."""
    return root.run('mpirun.openmpi', '-n', '2', '--oversubscribe', *words, env={
        'UCX_TLS': f'{transport},self', 'OMPI_ALLOW_RUN_AS_ROOT': '1',
        'OMPI_ALLOW_RUN_AS_ROOT_CONFIRM': '1', **(env or {})})


def two_ranks(root: Root, transport: str, functions: int, traffic: str) -> str:
    """Run it; return the latency that it tells.

    :param functions: 1 for both ranks on the first, 2 for one on each
    """
    # Of several contexts Open MPI 5.0.7's mpirun dies: the ranks choose their devices themselves.
    rank = (f'export UCX_NET_DEVICES=mlx5_$((OMPI_COMM_WORLD_RANK % {functions})):1; '
            f'exec python3 {traffic}')
    said = mpirun(root, transport, '--mca', 'pml', 'ucx', '--mca', 'osc', 'ucx', '--mca', 'btl',
                  'self', 'sh', '-c', rank)
    found = re.search(r'all right, (\d+ us)', said)
    if not found:
        raise Failed(said)
    return f'{found[1]} for 64 bytes'


def declare(suite: str, guest: str, transport: str, functions: int) -> None:
    """Register one of them."""
    layer = {'ethernet': '', 'infiniband': '-ib'}[guest]
    old = {'trixie': '', 'bookworm': '-12'}[suite]
    name = f'mpi-{transport}-{functions}{layer}{old}'

    @program(name, 'libucx0', f'MPI over UCX {transport}, '
             f"{'one function' if functions == 1 else 'two functions'}", guest=guest, suite=suite,
             quick=(suite, guest, transport, functions) in QUICK)
    def run(root: Root) -> str:
        return two_ranks(root, transport, functions, root.put(TRAFFIC))


for _suite in ('trixie', 'bookworm'):
    for _guest in ('ethernet', 'infiniband'):
        for _transport in TRANSPORTS:
            for _functions in (1, 2):
                declare(_suite, _guest, _transport, _functions)
