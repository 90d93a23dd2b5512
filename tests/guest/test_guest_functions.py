# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A card of two functions in one guest: each a device of its own, one network between them."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from guest.ports import DEVICES, infiniband, network_devices, over_ethernet
from mlx5emu.vm import control, kernel_log
from patience import PATIENCE, until

pytestmark = pytest.mark.skipif(
    not control.available(),
    reason='needs the emulated card: run `bash buildlib/quickstart.sh test`')

BUSYBOX = '/run/mlx5emu/bin/busybox'


@pytest.fixture(autouse=True)
def silent() -> Iterator[None]:
    """The kernel has nothing to complain of."""
    before = kernel_log.records()
    yield
    assert kernel_log.complaints(before[-1].sequence + 1 if before else 0) == []


def pci(device: str) -> Path:
    """Return a device's PCI function in sysfs."""
    return Path(os.path.realpath(f'/sys/class/infiniband/{device}/device'))


def netdev(device: str) -> str:
    """Return the name of a device's network device."""
    return network_devices(device)[0].name


def guids(device: str) -> tuple[str, str]:
    """Return a device's node GUID and system image GUID."""
    where = Path('/sys/class/infiniband') / device
    return (where / 'node_guid').read_text(), (where / 'sys_image_guid').read_text()


def test_two_functions() -> None:
    """One PCI device with two functions; the node's GUID, network device and GIDs are each one's
    own."""
    places = [pci(d).name for d in DEVICES]
    assert [p[-2:] for p in places] == ['.0', '.1']
    assert places[0][:-2] == places[1][:-2]
    (node0, system0), (node1, system1) = map(guids, DEVICES)
    assert node0 != node1
    assert system0 == system1
    assert [len(network_devices(d)) for d in DEVICES] == ([0, 0] if infiniband() else [1, 1])
    gids = [(Path('/sys/class/infiniband') / d / 'ports/1/gids/0').read_text() for d in DEVICES]
    assert gids[0] != gids[1]
    assert all(g.startswith('fe80:') for g in gids)


def test_each_answers_for_itself() -> None:
    """The control channel reaches both; each holds objects of its own driver."""
    both = [control.call('objects', function=k) for k in range(2)]
    assert all(objects['eq'] for objects in both)
    with pytest.raises(control.ControlError):
        control.call('objects', function=2)


#: Sends back what comes, in a namespace that the network device NAME is put in meanwhile.
ECHO = """
import socket
s = socket.create_server(("10.77.0.2", 5000))
print("ready", flush=True)
c = s.accept()[0]
while data := c.recv(65536):
    c.sendall(data)
"""


def received(name: str) -> int:
    """Return how many frames a network device has received."""
    return int(Path(f'/sys/class/net/{name}/statistics/rx_packets').read_text())


@over_ethernet
def test_tcp_between_the_netdevs() -> None:
    """TCP from one function's network device to the other's, which is in a network namespace of its
    own so that the kernel has no shorter way: the frames go through both functions' queues."""
    name = netdev(DEVICES[1])
    setting = (f'read go; {BUSYBOX} ip addr add 10.77.0.2/24 dev {name}; '
               f'{BUSYBOX} ip link set {name} up; exec python3 -c "$1"')
    before = received(netdev(DEVICES[0]))
    other = subprocess.Popen([BUSYBOX, 'unshare', '-n', 'sh', '-c', setting, '-', ECHO], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert other.stdin and other.stdout
    try:
        own = os.readlink('/proc/self/ns/net')
        until(lambda: os.readlink(f'/proc/{other.pid}/ns/net') != own, 'a namespace of its own')
        subprocess.run([BUSYBOX, 'ip', 'link', 'set', name, 'netns', str(other.pid)], check=True)
        subprocess.run([BUSYBOX, 'ip', 'addr', 'add', '10.77.0.1/24', 'dev',
                        netdev(DEVICES[0])], check=True)
        other.stdin.write('\n')
        other.stdin.flush()
        assert other.stdout.readline() == 'ready\n'
        data = os.urandom(200_000)
        with socket.create_connection(('10.77.0.2', 5000), PATIENCE) as s:
            got = b''
            for at in range(0, len(data), 20_000):
                s.sendall(data[at:at + 20_000])
                while len(got) < at + 20_000:
                    got += s.recv(65536)
        assert got == data
    finally:
        other.kill()
        other.wait()
        subprocess.run([BUSYBOX, 'ip', 'addr', 'del', '10.77.0.1/24', 'dev',
                        netdev(DEVICES[0])], check=False)
        # With the namespace gone the network device comes back, and is set up as at power-on.
        until(lambda: network_devices(DEVICES[1]), 'the network device comes back')
        subprocess.run(['/run/mlx5emu/bin/netdevs-up'], check=True, capture_output=True)
    # What came back came by the wire.
    assert received(netdev(DEVICES[0])) > before + len(data) // 20_000
