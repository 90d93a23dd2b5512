# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""DPDK's testpmd with its mlx5 driver: it makes its queues and rules by DEVX, beside the kernel's
network device."""

from __future__ import annotations

import os
import re
import select
import socket
import struct
import time

from foreign.catalogue import program
from foreign.root import PATIENCE, Failed, Root, end

PCI = ('0000:01:00.0', '0000:01:00.1')
FRAMES = 60


class Testpmd:
    """testpmd at its prompt.

    :param devices: how many of the card's functions it has
    :param words: its own options
    """

    def __init__(self, root: Root, devices: int, *words: str) -> None:
        allowed = [word for address in PCI[:devices] for word in ('-a', address)]
        # Unbuffered, as its echo of what is typed is.
        self.process = root.start('stdbuf', '-o0', 'dpdk-testpmd', '--no-huge', '-m', '200', '-l',
                                  '0,1', *allowed, '--', '-i', '--total-num-mbufs=16384', *words)
        self.count = 0
        if 'Fail' in (said := self('show port summary all')):
            raise Failed(said)

    def __call__(self, line: str) -> str:
        """Give a command; return its answer, which ends where the next one is not understood: a
        prompt may come in between, when a link changes."""
        assert self.process.stdin and self.process.stdout
        self.count += 1
        mark = f'answered {self.count}'
        self.process.stdin.write(f'{line}\n{mark}\n')
        self.process.stdin.flush()
        said, limit = '', time.monotonic() + PATIENCE
        while not re.search(f'{mark}.*(not found|Bad arguments)', said, re.DOTALL):
            if not select.select([self.process.stdout], [], [], limit - time.monotonic())[0]:
                raise Failed(f'testpmd hangs: {said[-2000:]}')
            data = os.read(self.process.stdout.fileno(), 65536).decode()
            if not data:
                raise Failed(f'testpmd ended: {said[-2000:]}')
            said += data
        return said.split(mark)[0]

    def __enter__(self) -> Testpmd:
        return self

    def __exit__(self, *problem: object) -> None:
        end(self.process)
        self.process.communicate()


def number(said: str, pattern: str) -> int:
    """Return the number behind some words of an answer."""
    found = re.search(pattern + r'\s*:?\s*(\d+)', said)
    if not found:
        raise Failed(f'no {pattern} in: {said[-2000:]}')
    return int(found[1])


def mac(name: str) -> bytes:
    """Return the address of a network device."""
    with open(f'/sys/class/net/{name}/address') as file:
        return bytes.fromhex(file.read().strip().replace(':', ''))


def frame(source: bytes, destination: bytes, port: int, host: int) -> bytes:
    """Return a UDP datagram in a frame.

    :param port: its destination port
    :param host: last byte of its source address
    """
    data = bytes(range(40))
    ip = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 28 + len(data), 0, 0, 64, 17, 0,
                     bytes([10, 9, 2, host]), bytes([10, 9, 1, 1]))
    total = sum(struct.unpack('>10H', ip))
    total = (total & 0xffff) + (total >> 16)
    ip = ip[:10] + struct.pack('>H', ~((total & 0xffff) + (total >> 16)) & 0xffff) + ip[12:]
    return destination + source + b'\x08\0' + ip + struct.pack(
        '>HHHH', 4000 + host, port, 8 + len(data), 0) + data


def send(port: int, hosts: range) -> None:
    """Send frames by the kernel's network device of the second function to the first."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as s:
        s.bind(('eth1', 0))
        for host in hosts:
            s.send(frame(mac('eth1'), mac('eth0'), port, host))


@program('dpdk-forward', 'librte-net-mlx5-25', 'testpmd: frames between two functions, both ways',
         quick=True)
def forward(root: Root) -> str:
    """A burst goes to and fro between both ports until it is told to stop: nothing is lost."""
    peers = [f'--eth-peer={k},{":".join(f"{b:02x}" for b in mac(f"eth{1 - k}"))}' for k in (0, 1)]
    with Testpmd(root, 2, '--forward-mode=mac', '--port-topology=loop', *peers) as testpmd:
        began = time.monotonic()
        testpmd('start tx_first')
        time.sleep(3)
        said = testpmd('stop')
        seconds = time.monotonic() - began
    received, sent = (number(said.split('Accumulated')[1], f'{way}-packets')
                      for way in ('RX', 'TX'))
    dropped = number(said.split('Accumulated')[1], 'RX-dropped')
    # What is under way when it stops is in no counter.
    if received < 200 or dropped or not 0 <= sent - received <= 64:
        raise Failed(said)
    return f'{received / seconds:.0f} frames/s'


@program('dpdk-flow', 'librte-net-mlx5-25', 'testpmd: flow rules with a queue, a counter, a drop')
def flow(root: Root) -> str:
    """Frames of one port go to the queue of their rule and are counted, those of another are
    dropped, the rest takes the usual way."""
    with Testpmd(root, 1, '--rxq=2', '--txq=2', '--forward-mode=rxonly') as testpmd:
        testpmd('set promisc all off')
        to = 'flow create 0 ingress pattern eth / ipv4 / udp dst is {} / end actions {} / end'
        for rule in (to.format(5001, 'count / queue index 1'), to.format(5002, 'drop')):
            if 'created' not in (said := testpmd(rule)):
                raise Failed(said)
        testpmd('start')
        for port in (5001, 5002):
            send(port, range(1, 1 + FRAMES))
        time.sleep(1)
        query, extended = testpmd('flow query 0 0 count'), testpmd('show port xstats 0')
        listed = testpmd('flow list 0')
    counted, queued = number(query, 'hits'), number(extended, 'rx_q1_packets')
    if (counted, queued) != (FRAMES, FRAMES) or listed.count('=>') != 2:
        raise Failed(query + extended + listed)
    return f'{FRAMES} counted'


@program('dpdk-rss', 'librte-net-mlx5-25', 'testpmd: RSS over four queues')
def rss(root: Root) -> str:
    """Frames of many senders come by all four queues, each once.  The port stays promiscuous:
    otherwise DPDK 24.11 makes rules for broadcasts alone, none for the port's own address."""
    with Testpmd(root, 1, '--rxq=4', '--txq=4', '--forward-mode=rxonly', '--rss-udp') as testpmd:
        testpmd('start')
        send(6000, range(1, 201))
        time.sleep(1)
        said = testpmd('show port xstats 0')
    queues = [number(said, f'rx_q{k}_packets') for k in range(4)]
    if sum(queues) < 200 or min(queues) < 20:
        raise Failed(f'{queues}: {said}')
    return f'queues {queues}'
