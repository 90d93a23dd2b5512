# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Programs that are not ours, between two processes on one function and on two: rdma-core's
examples and Debian's perftest."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from guest.ports import DEVICES, infiniband, network_devices, over_ethernet, port
from guest.server_and_client import PERFTEST, PERFTEST_PORT, between
from mlx5emu.vm import control, kernel_log
from patience import PATIENCE, until

pytestmark = pytest.mark.skipif(
    not control.available(),
    reason='needs the emulated card: run `bash buildlib/quickstart.sh test`')

#: Where the client is; the server is on the first device.
CLIENTS = pytest.mark.parametrize('client', DEVICES, ids=['one function', 'two functions'])
#: TCP port over which pingpongs tell each other where they are.
PINGPONG_PORT = 18515


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """Whatever ran, the driver had no reason to complain and the card met no defect of its own."""
    before = kernel_log.records()
    yield
    assert kernel_log.complaints(before[-1].sequence + 1 if before else 0) == []
    assert [control.call('summary', function=k)['internal_errors']
            for k in range(len(DEVICES))] == [0, 0]


def gid_index(device: str) -> int:
    """Return the index of a device's IPv4 address among its RoCE v2 GIDs."""
    for k in range(16):
        attributes = port(device) / 'gid_attrs'
        if '0000:ffff:' in (port(device) / f'gids/{k}').read_text() and 'v2' in (
                attributes / f'types/{k}').read_text():
            return k
    raise AssertionError(f'{device} has no RoCE v2 GID of an IPv4 address')


def address(device: str) -> str:
    """Return a device's IPv4 address."""
    words = (port(device) / f'gids/{gid_index(device)}').read_text().strip().split(':')[-2:]
    return '.'.join(str(b) for b in bytes.fromhex(''.join(words)))


# ---- rdma-core's examples


@CLIENTS
@pytest.mark.parametrize('events', [False, True], ids=['polling', 'events'])
@pytest.mark.parametrize('kind', ['rc', 'uc', 'ud', 'srq'])
def test_pingpong(kind: str, events: bool, client: str) -> None:
    """Messages go to and fro; each side checks what it received, but for datagrams, where the
    program cannot."""
    count = 30 if events else 5
    words = [f'ibv_{kind}_pingpong', '-p', str(PINGPONG_PORT), '-n', str(count), '-s', '1024']
    words += (['-e'] if events else []) + ([] if kind == 'ud' else ['-c'])

    def side(device: str) -> list[str]:
        return [*words, '-d', device, *([] if infiniband() else ['-g', str(gid_index(device))])]
    said = between(side(DEVICES[0]), [*side(client), 'localhost'], PINGPONG_PORT)
    assert f'{count} iters' in said
    assert 'invalid data' not in said


@CLIENTS
def test_xrc_pingpong(client: str) -> None:
    """The same over XRC."""
    def side(device: str) -> list[str]:
        gid = [] if infiniband() else ['-g', str(gid_index(device))]
        return [
            'ibv_xsrq_pingpong', '-p',
            str(PINGPONG_PORT), '-n', '5', '-s', '1024', '-c', '1', '-d', device, *gid]
    assert 'success' in between(side(DEVICES[0]), [*side(client), 'localhost'], PINGPONG_PORT)


@CLIENTS
@over_ethernet
def test_rping(client: str) -> None:
    """rping checks each ping that comes back, read and written by RDMA."""
    to = ['-a', address(DEVICES[0]), '-C', '5', '-V', '-v']
    said = between(['rping', '-s', *to], ['rping', '-c', '-I', address(client), *to])
    pings = [
        line.split(':')[1].strip() for line in said.splitlines() if line.startswith('ping data')]
    assert pings == [f'rdma-ping-{k}' for k in range(5)]


@CLIENTS
@pytest.mark.parametrize('program', ['ucmatose', 'udaddy'])
@over_ethernet
def test_connection_manager(program: str, client: str) -> None:
    """Connections, and datagrams resolved by the connection manager."""
    to = address(DEVICES[0])
    said = between([program, '-b', to, '-c', '3'],
                   [program, '-s', to, '-b', address(client), '-c', '3'])
    assert 'test complete' in said
    assert 'return status 0' in said


# ---- perftest

MESSAGES = ['-n', '10', '-s', '1024']
PERFTESTS = {
    'write RC': ['ib_write_bw', '-c', 'RC', *MESSAGES],
    'write UC': ['ib_write_bw', '-c', 'UC', *MESSAGES],
    'write both ways': ['ib_write_bw', '-b', *MESSAGES],
    'write DC': ['ib_write_bw', '-c', 'DC', *MESSAGES],
    'read': ['ib_read_lat', *MESSAGES],
    'read events': ['ib_read_lat', '-e', *MESSAGES],
    'send RC': ['ib_send_bw', '-c', 'RC', *MESSAGES],
    'send RC events': ['ib_send_bw', '-c', 'RC', '-e', *MESSAGES],
    'send UC': ['ib_send_bw', '-c', 'UC', *MESSAGES],
    'send UC events': ['ib_send_bw', '-c', 'UC', '-e', *MESSAGES],
    'send UD': ['ib_send_bw', '-c', 'UD', *MESSAGES],
    'send UD events': ['ib_send_bw', '-c', 'UD', '-e', *MESSAGES],
    'send XRC': ['ib_send_bw', '-c', 'XRC', *MESSAGES],
    'fetch and add': ['ib_atomic_bw', '-A', 'FETCH_AND_ADD', '-n', '10'],
    'compare and swap events': ['ib_atomic_bw', '-A', 'CMP_AND_SWAP', '-e', '-n', '10'], }


@CLIENTS
@pytest.mark.parametrize('name', PERFTESTS)
def test_perftest(name: str, client: str) -> None:
    """Every message is completed, and the table tells of as many as were asked for."""
    program, *words = PERFTESTS[name]

    def side(device: str) -> list[str]:
        gid = [] if infiniband() else ['-x', str(gid_index(device))]
        return [str(PERFTEST / program), *words, '-F', '-p', str(PERFTEST_PORT), '-d', device, *gid]
    said = between(side(DEVICES[0]), [*side(client), 'localhost'], PERFTEST_PORT)
    rows = [line.split() for line in said.splitlines() if line.split()[:1] in (['1024'], ['8'])]
    assert [row[:2] for row in rows] == [['8' if 'ib_atomic_bw' in program else '1024', '10']]


@over_ethernet
def test_raw_frames() -> None:
    """Raw packet queue pairs: frames from one function to the other's MAC address."""
    macs = [(network_devices(d)[0] / 'address').read_text().strip() for d in DEVICES]

    def side(role: str, own: int) -> list[str]:
        return [
            str(PERFTEST / 'raw_ethernet_bw'), *MESSAGES, '-F', f'--{role}', '-d', DEVICES[own],
            '-B', macs[own], '-E', macs[1 - own]]
    tables = len(control.call('objects')['flow_table'])
    server = subprocess.Popen(side('server', 0), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)

    def ready() -> bool:
        assert server.poll() is None, server.communicate()[0]
        # Its rule makes a table for it.
        return len(control.call('objects')['flow_table']) > tables
    try:
        until(ready, 'the server has a rule')
        done = subprocess.run(side('client', 1), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False)
        said = server.communicate(timeout=PATIENCE)[0]
    finally:
        server.kill()
        server.wait()
    assert (server.returncode, done.returncode) == (0, 0), said + done.stdout
