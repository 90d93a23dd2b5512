# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""UCX's own ucx_perftest, for the figures that it tells: it checks no data, mpi.py does."""

from __future__ import annotations

from guest import listening
from patience import until

from foreign.catalogue import program
from foreign.mpi import mpirun
from foreign.root import Failed, Root, end

PORT = 13337
#: Test of ucx_perftest, bytes, and messages.
TESTS = {'tag': ('tag_bw', 65536, 50), 'put': ('ucp_put_bw', 65536, 50), 'get': ('ucp_get', 8, 50),
         'atomic': ('ucp_fadd', 8, 50)}


def rate(root: Root, suite: str, transport: str, test: str) -> str:
    """Run both sides on the first function; return the messages a second that it tells."""
    kind, size, count = TESTS[test]
    device = {'UCX_NET_DEVICES': 'mlx5_0:1'}
    words = ['ucx_perftest', '-t', kind, '-s', str(size), '-n', str(count), '-w', '2', '-f']
    if suite == 'trixie':
        # Built with MPI, by which its two sides find each other.
        said = mpirun(root, transport, '--mca', 'pml', 'ob1', '--mca', 'btl', 'self,tcp', *words,
                      env=device)
    else:
        env = {'UCX_TLS': f'{transport},self', **device}
        server = root.start(*words, '-p', str(PORT), env=env)
        try:
            until(lambda: listening.tcp(PORT), 'ucx_perftest listens')
            said = root.run(*words, '-p', str(PORT), '127.0.0.1', env=env)
        finally:
            end(server)
            server.communicate()
    rows = [line.split() for line in said.splitlines() if line.strip()[:1].isdigit()]
    if not rows or int(rows[-1][0]) != count:
        raise Failed(said)
    return f'{float(rows[-1][-1]):.0f} messages/s of {size} bytes'


def declare(suite: str, transport: str, test: str) -> None:
    """Register one of them."""
    old = {'trixie': '', 'bookworm': '-12'}[suite]

    @program(f'ucx-{transport}-{test}{old}', 'libucx0', f'ucx_perftest {test} over {transport}',
             suite=suite)
    def run(root: Root) -> str:
        return rate(root, suite, transport, test)


for _suite in ('trixie', 'bookworm'):
    for _transport in ('rc_x', 'rc_v', 'dc_x'):
        for _test in TESTS:
            declare(_suite, _transport, _test)
    for _transport in ('ud_x', 'ud_v'):
        declare(_suite, _transport, 'tag')
