# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Families of sockets that the kernel carries over RDMA: SMC-R and RDS."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import time
from pathlib import Path

from patience import until

from foreign.catalogue import program
from foreign.root import Failed, Root, modprobe, sh

AF_SMC, AF_RDS = 43, 21
SMC_PORT, RDS_PORT = 5000, 4000
SIZE = 1 << 20
#: What a handshake of SMC begins with ("SMCR" in EBCDIC), and its last messages.
EYECATCHER = bytes.fromhex('e2d4c3d9')
CONFIRM, DECLINE = 3, 4
LIBC = ctypes.CDLL(None, use_errno=True)


def address(host: str, port: int) -> bytes:
    """Return a struct sockaddr_in."""
    return struct.pack('=H', socket.AF_INET) + struct.pack('>H', port) + socket.inet_aton(
        host) + bytes(8)


def call(function: str, *arguments: object) -> int:
    """Call a function of libc; Python's own do not know addresses of these families."""
    answer = getattr(LIBC, function)(*arguments)
    if answer < 0:
        raise OSError(ctypes.get_errno(), f'{function}: {os.strerror(ctypes.get_errno())}')
    return int(answer)


def echo(namespace: Path) -> None:
    """In a network namespace: take one connection, send back all that comes."""
    with namespace.open() as file:
        call('setns', file.fileno(), 0)
    with socket.socket(AF_SMC, socket.SOCK_STREAM, 0) as s:
        call('bind', s.fileno(), address('10.77.0.2', SMC_PORT), 16)
        call('listen', s.fileno(), 1)
        c = call('accept', s.fileno(), None, None)
        left = SIZE
        while left:
            data = os.read(c, 65536)
            left -= len(data)
            while data:
                data = data[os.write(c, data):]
        os.close(c)


def handshake(capture: socket.socket) -> list[int]:
    """Return the kinds of SMC's messages in what was seen of the wire."""
    kinds = []
    with contextlib.suppress(BlockingIOError):
        while True:
            data = capture.recv(4096)
            at = data.find(EYECATCHER)
            if 0 <= at < len(data) - 4:
                kinds.append(data[at + 4])
    return kinds


@program('smc', 'iproute2', 'SMC-R between two network namespaces, one function each')
def smc(root: Root) -> str:
    """Both sides agree on RDMA instead of falling back to TCP, and every byte comes back."""
    modprobe('smc')
    other = ['ip', 'netns', 'exec', 'other']
    root.run('ip', 'netns', 'add', 'other')
    root.run('ip', 'link', 'set', 'eth1', 'netns', 'other')
    root.run(*other, 'ip', 'addr', 'add', '10.77.0.2/24', 'dev', 'eth1')
    root.run(*other, 'ip', 'link', 'set', 'eth1', 'up')
    root.run('ip', 'addr', 'add', '10.77.0.1/24', 'dev', 'eth0')
    server = os.fork()
    if not server:
        with contextlib.suppress(OSError):
            echo(root.path / 'run/netns/other')
        os._exit(0)
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as capture, \
                socket.socket(AF_SMC, socket.SOCK_STREAM, 0) as s:
            capture.bind(('eth0', 0))
            capture.setblocking(False)

            def connected() -> bool:
                with contextlib.suppress(OSError):
                    call('connect', s.fileno(), address('10.77.0.2', SMC_PORT), 16)
                    return True
                time.sleep(0.2)
                return False
            until(connected, 'the server takes the connection')
            data, got = os.urandom(SIZE), b''
            began = time.monotonic()
            for at in range(0, SIZE, 32768):
                os.write(s.fileno(), data[at:at + 32768])
                while len(got) < at + 32768:
                    got += os.read(s.fileno(), 65536)
            seconds = time.monotonic() - began
            kinds = handshake(capture)
        if got != data:
            raise Failed('other bytes came back')
        if CONFIRM not in kinds or DECLINE in kinds:
            raise Failed(f'both sides fell back to TCP: messages of the handshake {kinds}')
        return f'{2 * SIZE / seconds / (1 << 20):.1f} MiB/s, to and fro'
    finally:
        os.kill(server, 9)
        os.waitpid(server, 0)
        root.run('ip', 'addr', 'del', '10.77.0.1/24', 'dev', 'eth0')
        root.run('ip', 'netns', 'del', 'other')
        until(lambda: Path('/sys/class/net/eth1').exists(), 'the network device comes back')
        sh('/run/mlx5emu/bin/netdevs-up')


@program('rds', 'iproute2', 'RDS between two functions',
         fails="the kernel sends between two addresses of one machine by RDS's loopback, whichever "
         'devices they are of, and RDS over RDMA knows the first network namespace alone: it takes '
         'two machines')
def rds(root: Root) -> str:
    """Messages go to the other function's address, over the card."""
    modprobe('rds', 'rds_rdma')
    with socket.socket(AF_RDS, socket.SOCK_SEQPACKET) as one, \
            socket.socket(AF_RDS, socket.SOCK_SEQPACKET) as two:
        call('bind', one.fileno(), address('10.9.1.1', RDS_PORT), 16)
        call('bind', two.fileno(), address('10.9.2.1', RDS_PORT), 16)
        data = os.urandom(4096)
        call('sendto', one.fileno(), data, len(data), 0, address('10.9.2.1', RDS_PORT), 16)
        two.settimeout(20)
        if two.recv(8192) != data:
            raise Failed('other bytes')
    connections = root.run('rdma', 'resource', 'show', 'qp')
    if 'rds' not in connections:
        raise Failed(f'the message came, but by no queue pair of RDS: {connections}')
    return ''
