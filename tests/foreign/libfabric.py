# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""libfabric's verbs provider, by its fi_pingpong, which checks what comes back (-c). Debian has no
package of libfabric's test suite."""

from __future__ import annotations

from guest import listening
from patience import until

from foreign.catalogue import program
from foreign.root import Failed, Root, end

#: fi_pingpong's own TCP port, by which both sides find each other.
PORT = 47592
ADDRESS = '10.9.1.1'
#: Provider, endpoint, and more words.
KINDS = {
    'msg': ('verbs', 'msg', ()),
    'rxm': ('verbs;ofi_rxm', 'rdm', ()),
    'rxd': ('verbs;ofi_rxd', 'rdm', ()),
    'dgram': ('verbs', 'dgram', ('-S', '1024')), }


def pingpong(root: Root, kind: str) -> str:
    """Run both sides; return what it tells of the largest messages."""
    provider, endpoint, more = KINDS[kind]
    words = ['fi_pingpong', '-c', '-p', provider, '-e', endpoint, '-I', '10', *more]
    server = root.start(*words)
    try:
        until(lambda: listening.tcp(PORT) or server.poll() is not None, 'fi_pingpong listens')
        said = root.run(*words, ADDRESS)
    finally:
        end(server)
        server.communicate()
    rows = [line.split() for line in said.splitlines() if '=10' in line]
    if not rows:
        raise Failed(said)
    return f'{rows[-1][5]} MB/s, {rows[-1][0]} a message'


def declare(suite: str, kind: str) -> None:
    """Register one of them."""
    old = {'trixie': '', 'bookworm': '-12'}[suite]
    provider, endpoint, _ = KINDS[kind]

    @program(f'fi-{kind}{old}', 'libfabric1', f'fi_pingpong, {provider} {endpoint}', suite=suite,
             quick=(suite, kind) == ('trixie', 'rxm'))
    def run(root: Root) -> str:
        return pingpong(root, kind)


for _suite in ('trixie', 'bookworm'):
    for _kind in KINDS:
        declare(_suite, _kind)
