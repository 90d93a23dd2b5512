# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The vfio-user server: negotiation, every message and its errors, descriptors, clients that
misbehave."""
import ctypes
import errno
import gc
import json
import os
import select
import socket
import struct
import sys
import threading
import time

import pytest
from mlx5emu.bus import bar0
from mlx5emu.bus import vfio_user as vu
from mlx5emu.bus.pci import Function
from mlx5emu.bus.server import Server
from mlx5emu.card import Card
from mlx5emu.dma import DmaError
from mlx5emu.firmware import caps
from patience import PATIENCE, until


class Client:
    """A vfio-user client: sends messages, returns (errno, body, descriptors)."""

    def __init__(self, path: str, negotiate: bool = True) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(path)
        self.number = 0
        if negotiate:
            assert self.version()[0] == 0

    def close(self) -> None:
        """Hang up."""
        self.sock.close()

    def send(self, code: int, body: bytes = b'', fds: list[int] | None = None, flags: int = 0,
             size: int | None = None) -> None:
        """Send a command, by default a well-framed one."""
        self.number += 1
        message = vu.HEADER.pack(self.number & 0xffff, code,
                                 16 + len(body) if size is None else size, flags, 0) + body
        if fds:
            socket.send_fds(self.sock, [message], fds)
        else:
            self.sock.sendall(message)

    def reply(self) -> tuple[int, bytes, list[int]]:
        """Receive the reply to the last command."""
        head, fds, _, _ = socket.recv_fds(self.sock, 16, 8)
        if not head:
            raise ConnectionResetError
        while len(head) < 16:
            head += self.sock.recv(16 - len(head))
        number, _, size, flags, error = vu.HEADER.unpack(head)
        assert number == self.number & 0xffff and flags & 0xf == vu.TYPE_REPLY and bool(
            flags & vu.ERROR) == bool(error)
        body = b''
        while len(body) < size - 16:
            body += self.sock.recv(size - 16 - len(body))
        return error, body, list(fds)

    def ask(self, code: int, body: bytes = b'',
            fds: list[int] | None = None) -> tuple[int, bytes, list[int]]:
        """Send and receive."""
        self.send(code, body, fds)
        return self.reply()

    def version(self, major: int = 0, minor: int = 1,
                text: bytes = b'{"capabilities": {}}\0') -> tuple[int, bytes, list[int]]:
        """Negotiate."""
        return self.ask(vu.VERSION, struct.pack('<HH', major, minor) + text)

    def read(self, region: int, offset: int, n: int) -> tuple[int, bytes]:
        """REGION_READ: (errno, data)."""
        error, body, _ = self.ask(vu.REGION_READ, vu.REGION_ACCESS.pack(offset, region, n))
        return error, body[16:]

    def write(self, region: int, offset: int, data: bytes, n: int | None = None) -> int:
        """REGION_WRITE: errno."""
        return self.ask(vu.REGION_WRITE,
                        vu.REGION_ACCESS.pack(offset, region,
                                              len(data) if n is None else n) + data)[0]

    def dma_map(self, addr: int, size: int, fd: int | None, flags: int = 3, offset: int = 0) -> int:
        """DMA_MAP: errno."""
        return self.ask(vu.DMA_MAP, struct.pack('<IIQQQ', 32, flags, offset, addr, size),
                        [] if fd is None else [fd])[0]

    def set_irqs(self, flags: int, index: int, start: int, count: int, data: bytes = b'',
                 fds: list[int] | None = None) -> int:
        """DEVICE_SET_IRQS: errno."""
        return self.ask(vu.DEVICE_SET_IRQS,
                        struct.pack('<IIIII', 20 + len(data), flags, index, start, count) + data,
                        fds)[0]


@pytest.fixture
def server(tmp_path):
    s = Server(str(tmp_path / 'card'), Card('connectx6dx', 'ib'))
    s.start()
    yield s
    s.stop()
    assert s.escaped == [] and s.card.internal_errors == 0
    assert not os.path.exists(s.path)


@pytest.fixture
def client(server):
    c = Client(server.path)
    yield c
    c.close()


@pytest.fixture
def memory():
    fd = os.memfd_create('guest')
    os.ftruncate(fd, 1 << 20)
    yield fd
    os.close(fd)


def descriptors() -> list[str]:
    """Open descriptors of this process, but for what the collector has not yet got to."""
    gc.collect()
    return sorted(os.listdir('/proc/self/fd'))


def settle(server: Server, clients: int) -> None:
    """Wait until the server has noticed that the client is gone."""
    until(lambda: not server.connected and server.connections >= clients,
          'the server notices that the client is gone')


# ---- negotiation and information

def test_version(server) -> None:
    c = Client(server.path, negotiate=False)
    assert c.ask(vu.DEVICE_GET_INFO, bytes(16))[0] == errno.EINVAL, 'first of all the version'
    assert c.read(0, 0, 4)[0] == errno.EINVAL
    assert c.version(major=1)[0] == errno.EINVAL
    assert c.version(text=b'{not json\0')[0] == errno.EINVAL
    assert c.version(text=b'[]\0')[0] == errno.EINVAL
    error, body, _ = c.version()
    assert error == 0 and body[:4] == struct.pack('<HH', 0, 0)
    assert json.loads(
        body[4:].rstrip(b'\0'))['capabilities']['max_data_xfer_size'] == vu.MAX_TRANSFER
    assert c.version()[0] == errno.EINVAL
    c.close()


def test_device_information(client) -> None:
    assert struct.unpack('<IIII', client.ask(vu.DEVICE_GET_INFO, bytes(16))[1]) == (16, 3, 9, 5)
    assert client.ask(vu.DEVICE_GET_INFO, bytes(8))[0] == errno.EINVAL


def test_region_information(client, server) -> None:
    def info(index: int, argsz: int = 32) -> tuple:
        return client.ask(vu.DEVICE_GET_REGION_INFO, struct.pack('<IIIIQQ', argsz, 0, index, 0, 0,
                                                                 0))
    error, body, fds = info(0)
    assert (error, fds) == (0, []) and struct.unpack('<IIIIQQ',
                                                     body) == (64, 15, 0, 32, bar0.SIZE, 0)
    error, body, fds = info(0, 64)
    assert struct.unpack('<HHIIIQQ', body[32:]) == (1, 1, 0, 1, 0, caps.MEMIC_START,
                                                    caps.MEMIC_SIZE)
    assert len(fds) == 1 and os.fstat(fds[0]).st_ino == os.fstat(server.card.memic.fd).st_ino
    os.close(fds[0])
    assert struct.unpack('<IIIIQQ', info(7)[1]) == (32, 3, 7, 0, 4096, 0)
    assert struct.unpack('<IIIIQQ', info(1)[1]) == (32, 0, 1, 0, 0, 0)
    assert info(9)[0] == errno.EINVAL


def test_interrupt_information(client) -> None:
    for index, want in ((0, (16, 0, 0, 0)), (2, (16, 9, 2, 32)), (4, (16, 0, 4, 0))):
        assert struct.unpack(
            '<IIII',
            client.ask(vu.DEVICE_GET_IRQ_INFO, struct.pack('<IIII', 16, 0, index, 0))[1]) == want
    assert client.ask(vu.DEVICE_GET_IRQ_INFO, struct.pack('<IIII', 16, 0, 5, 0))[0] == errno.EINVAL


# ---- regions

def test_region_access(client) -> None:
    assert client.read(7, 0, 4) == (0, b'\xb3\x15\x1d\x10')
    assert client.write(0, caps.MEMIC_START, b'hello') == 0 and client.read(0, caps.MEMIC_START,
                                                                           5) == (0, b'hello')
    error, data = client.read(0, caps.MEMIC_START, 1 << 20)
    assert error == 0 and len(data) == 1 << 20 and data[:5] == b'hello'
    for region, offset, n in ((0, bar0.SIZE, 4), (0, bar0.SIZE - 2, 4), (0, (1 << 64) - 2, 4),
                              (7, 4096, 1), (1, 0, 1), (8, 0, 1), (99, 0, 1), (0, 0, (1 << 20) + 1),
                              (0, 0, 0xffffffff)):
        assert client.read(region, offset, n) == (errno.EINVAL, b'')
    for region, offset, data in ((0, bar0.SIZE - 2, b'four'), (7, 4096, b'x'), (3, 0, b'x')):
        assert client.write(region, offset, data) == errno.EINVAL
    assert client.write(0, 0, b'abcd', n=8) == errno.EINVAL
    assert client.write(0, 0, b'abcd', n=2) == errno.EINVAL
    assert client.ask(vu.REGION_READ, b'short')[0] == errno.EINVAL


def test_posted_and_multiple_writes(client) -> None:
    client.send(vu.REGION_WRITE,
                vu.REGION_ACCESS.pack(caps.MEMIC_START, 0, 4) + b'post', flags=vu.NO_REPLY)
    assert client.read(0, caps.MEMIC_START, 4) == (0, b'post')
    many = b''.join(
        struct.pack('<QII8s', caps.MEMIC_START + 8 * k, 0, 8,
                    bytes([k]) * 8) for k in range(3))
    assert client.ask(vu.REGION_WRITE_MULTI, struct.pack('<Q', 3) + many)[0] == 0
    assert client.read(0, caps.MEMIC_START, 24)[1] == b'\0' * 8 + b'\1' * 8 + b'\2' * 8
    for count, data in ((4, many), ((1 << 64) - 1, many),
                        (1, struct.pack('<QII8s', caps.MEMIC_START, 0, 9, b''))):
        assert client.ask(
            vu.REGION_WRITE_MULTI,
            struct.pack('<Q', count) + data.replace(b'\2' * 8, b'\3' * 8))[0] == errno.EINVAL
    assert client.read(
        0, caps.MEMIC_START,
        24)[1] == b'\0' * 8 + b'\1' * 8 + b'\2' * 8, 'a message that is refused does nothing'


def test_reset(client, server) -> None:
    server.call(server.card.boot)
    assert client.ask(vu.DEVICE_RESET)[0] == 0
    assert server.card.resets == 1 and server.card.state == server.card.RESET


def test_unknown_commands(client) -> None:
    for code in (0, vu.DEVICE_GET_REGION_IO_FDS, vu.DMA_READ, vu.DMA_WRITE, vu.DIRTY_PAGES, 16,
                 0xffff):
        assert client.ask(code, bytes(64))[0] == errno.EOPNOTSUPP
    assert client.read(7, 0, 2) == (0, b'\xb3\x15')


# ---- DMA

def test_dma(client, server, memory) -> None:
    assert client.dma_map(0x100000, 0x10000, memory) == 0
    server.call(lambda: server.card.dma.write(0x100010, b'written'))
    assert os.pread(memory, 7, 0x10) == b'written'
    assert client.dma_map(0x108000, 0x10000, memory) == errno.EINVAL, 'overlaps'
    assert client.dma_map(0x200000, 0, memory) == errno.EINVAL
    assert client.dma_map((1 << 64) - 4096, 8192, memory) == errno.EINVAL
    assert client.dma_map(0x200000, 4096, memory, flags=0) == errno.EINVAL
    assert client.dma_map(0x200000, 4096, memory, offset=100) == errno.EINVAL
    assert client.dma_map(0x300000, 4096, None) == 0, "another device's BAR"
    assert client.ask(vu.DMA_MAP, bytes(8))[0] == errno.EINVAL
    assert client.dma_map(0x400000, 4096, memory, flags=1) == 0

    def unmap(addr, size, flags=0):
        return client.ask(vu.DMA_UNMAP, struct.pack('<IIQQ', 24, flags, addr, size))
    assert unmap(0x100000, 0x10000)[:2] == (0, struct.pack('<IIQQ', 24, 0, 0x100000, 0x10000))
    assert server.call(server.card.dma.maps) == [(0x400000, 4096)]
    assert unmap(1, 1, 2)[0] == errno.EINVAL and unmap(0, 0, 1)[0] == errno.EOPNOTSUPP and unmap(
        0, 0, 2)[0] == 0
    assert server.call(server.card.dma.maps) == []


def test_maps_go_with_the_client(server, memory) -> None:
    c = Client(server.path)
    assert c.dma_map(0x100000, 0x10000, memory) == 0
    c.close()
    settle(server, 1)
    assert server.call(server.card.dma.maps) == [] and server.card.resets == 1


# ---- interrupts

def test_interrupts(client, server) -> None:
    # By ctypes, as PyPy's os has it not.
    fds = [ctypes.CDLL(None).eventfd(0, os.O_NONBLOCK) for _ in range(3)]

    def count(fd: int) -> int:
        return int.from_bytes(os.read(fd, 8), sys.byteorder)
    assert client.set_irqs(vu.DATA_EVENTFD | vu.ACTION_TRIGGER, 2, 4, 3, fds=fds) == 0
    server.call(lambda: server.card.raise_irq(5))
    server.call(lambda: server.card.raise_irq(9))
    assert [len(select.select([fd], [], [], 0)[0]) for fd in fds] == [0, 1, 0]
    assert count(fds[1]) == 1
    assert client.set_irqs(vu.DATA_NONE | vu.ACTION_TRIGGER, 2, 4, 2) == 0
    assert count(fds[0]) == 1 and count(fds[1]) == 1
    assert client.set_irqs(vu.DATA_BOOL | vu.ACTION_TRIGGER, 2, 4, 3, b'\0\0\1') == 0
    assert count(fds[2]) == 1 and not select.select([fds[0]], [], [], 0)[0]
    assert client.set_irqs(vu.DATA_EVENTFD | vu.ACTION_TRIGGER, 2, 4,
                           1) == 0     # takes vector 4 away
    server.call(lambda: server.card.raise_irq(4))
    assert not select.select([fds[0]], [], [], 0)[0]
    assert client.set_irqs(vu.DATA_NONE | vu.ACTION_TRIGGER, 2, 0, 0) == 0        # takes all away
    server.call(lambda: server.card.raise_irq(5))
    assert not select.select([fds[1]], [], [], 0)[0]
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize(('flags', 'index', 'start', 'count', 'data', 'want'),
                         [(vu.DATA_NONE | vu.ACTION_TRIGGER, 5, 0, 1, b'', errno.EINVAL),
                          (vu.DATA_NONE | vu.ACTION_TRIGGER, 2, 32, 1, b'', errno.EINVAL),
                          (vu.DATA_NONE | vu.ACTION_TRIGGER, 2, 33, 0, b'', errno.EINVAL),
                          (vu.DATA_NONE | vu.ACTION_TRIGGER, 2, 1, 32, b'', errno.EINVAL),
                          (vu.DATA_NONE | vu.ACTION_TRIGGER, 2, 0xffffffff, 2, b'', errno.EINVAL),
                          (vu.DATA_NONE | vu.ACTION_MASK, 2, 0, 1, b'', errno.EOPNOTSUPP),
                          (vu.DATA_NONE, 2, 0, 1, b'', errno.EINVAL),
                          (vu.ACTION_TRIGGER, 2, 0, 1, b'', errno.EINVAL),
                          (0xffffffff, 2, 0, 1, b'', errno.EINVAL),
                          (vu.DATA_BOOL | vu.ACTION_TRIGGER, 2, 0, 4, b'\0', errno.EINVAL),
                          (vu.DATA_NONE | vu.ACTION_TRIGGER, 0, 0, 1, b'', errno.EINVAL)])
def test_bad_interrupts(client, flags, index, start, count, data, want) -> None:
    assert client.set_irqs(flags, index, start, count, data) == want


def test_an_interrupt_descriptor_that_is_full_or_no_eventfd(client, server) -> None:
    r, w = os.pipe()
    readonly = os.open('/dev/null', os.O_RDONLY)
    assert client.set_irqs(vu.DATA_EVENTFD | vu.ACTION_TRIGGER, 2, 0, 2, fds=[w, readonly]) == 0
    server.call(lambda: [server.card.raise_irq(v) for _ in range(20000) for v in (0, 1)])
    for fd in (r, w, readonly):
        os.close(fd)


# ---- descriptors

def test_no_descriptor_leaks(server, memory) -> None:
    """Whatever came with whatever message, nothing is left when the client has gone."""
    before = descriptors()
    for k in range(3):
        c = Client(server.path)
        for code in (vu.DEVICE_GET_INFO, vu.DMA_UNMAP, vu.REGION_READ, 99):
            c.ask(code, bytes(4), [memory, memory])
        assert c.dma_map(0x100000, 4096, memory) == 0
        assert c.ask(vu.DMA_MAP, struct.pack('<IIQQQ', 32, 3, 0, 0x200000, 4096),
                     [memory, memory])[0] == errno.EINVAL
        assert c.set_irqs(vu.DATA_EVENTFD | vu.ACTION_TRIGGER, 2, 0, 2,
                          fds=[memory] * 3) == errno.EINVAL
        assert c.set_irqs(vu.DATA_EVENTFD | vu.ACTION_TRIGGER, 2, 0, 3, fds=[memory] * 3) == 0
        assert c.set_irqs(vu.DATA_EVENTFD | vu.ACTION_TRIGGER, 2, 0, 2, fds=[memory] * 2) == 0
        c.send(vu.DMA_MAP, bytes(4), [memory], size=1000)       # the rest never comes
        c.close()
        settle(server, k + 1)
    assert descriptors() == before


def test_too_many_descriptors_end_the_connection(server, memory) -> None:
    before = descriptors()
    c = Client(server.path)
    c.send(vu.DMA_MAP, bytes(32), [memory] * 20)
    with pytest.raises(ConnectionResetError):
        c.reply()
    c.close()
    settle(server, 1)
    assert descriptors() == before


# ---- framing

@pytest.mark.parametrize('message', [
    vu.HEADER.pack(1, vu.VERSION, 15, 0, 0),
    vu.HEADER.pack(1, vu.VERSION, 0, 0, 0),
    vu.HEADER.pack(1, vu.REGION_WRITE, 0xffffffff, 0, 0),
    vu.HEADER.pack(1, vu.REGION_WRITE, vu.MAX_MESSAGE + 1, 0, 0),
    vu.HEADER.pack(1, vu.VERSION, 20, 1, 0), b'\xff' * 16])
def test_framing_errors_end_the_connection(server, message) -> None:
    c = Client(server.path)
    c.sock.sendall(message)
    with pytest.raises(ConnectionResetError):
        c.reply()
    c.close()
    c = Client(server.path)
    assert c.read(7, 0, 2) == (0, b'\xb3\x15'), 'the next client is served'
    c.close()


def test_messages_in_pieces(client) -> None:
    message = vu.HEADER.pack(7, vu.REGION_READ, 32, 0, 0) + vu.REGION_ACCESS.pack(0, 7, 4)
    client.number = 7
    for k in range(len(message)):
        client.sock.sendall(message[k:k + 1])
        time.sleep(0.0005)
    assert client.reply()[1][16:] == b'\xb3\x15\x1d\x10'


def test_many_messages_at_once(client) -> None:
    for k in range(50):
        client.send(vu.REGION_WRITE,
                    vu.REGION_ACCESS.pack(caps.MEMIC_START + k, 0, 1) + bytes([k]),
                    flags=vu.NO_REPLY)
    assert client.read(0, caps.MEMIC_START, 50)[1] == bytes(range(50))


def test_client_that_stops_in_the_middle(server) -> None:
    """A half message does not block the server's other duties, nor its end."""
    c = Client(server.path)
    c.sock.sendall(b'\1\0\2')
    assert server.call(lambda: 42) == 42
    fired = threading.Event()
    server.call(lambda: server.card.call_later(1_000_000, fired.set))
    assert fired.wait(5)
    server.stop()
    c.close()


def test_client_that_does_not_read(server, monkeypatch) -> None:
    monkeypatch.setattr(vu, 'SEND_TIMEOUT', 0.2)
    c = Client(server.path)
    for _ in range(8):
        c.send(vu.REGION_READ, vu.REGION_ACCESS.pack(caps.MEMIC_START, 0, 1 << 20))
    settle(server, 1)
    c.close()
    c = Client(server.path)
    assert c.read(7, 0, 2)[0] == 0
    c.close()


# ---- the server

def test_calls_from_other_threads(server, client) -> None:
    assert server.call(threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        server.call(lambda: 1 // 0)
    assert server.call(lambda: 'answer') == 'answer'
    server.stop()
    with pytest.raises(RuntimeError):
        server.call(lambda: 1)
    server.stop()


def test_socket_in_use_and_stale(tmp_path) -> None:
    path = str(tmp_path / 'card')
    first = Server(path, Card())
    with pytest.raises(OSError) as e:
        Server(path, Card())
    assert e.value.errno == errno.EADDRINUSE
    first.stop()
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    stale.bind(path)
    stale.close()
    again = Server(path, Card())
    again.start()
    c = Client(path)
    c.close()
    again.stop()
    (tmp_path / 'file').write_text('mine')
    with pytest.raises(OSError):
        Server(str(tmp_path / 'file'), Card())
    assert (tmp_path / 'file').read_text() == 'mine', 'what is no socket stays'
    with pytest.raises(OSError):
        Server(str(tmp_path / 'no' / 'directory'), Card())


def test_stopped_before_its_thread_began(tmp_path, monkeypatch) -> None:
    """Ctrl-C may come between the making of the thread and its start: stopping leaves nothing."""
    server = Server(str(tmp_path / 'card'), Card('connectx6dx', 'ib'))

    def interrupted(thread: threading.Thread) -> None:
        raise KeyboardInterrupt
    monkeypatch.setattr(threading.Thread, 'start', interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    server.stop()
    assert not os.path.exists(server.path)


def test_a_stopped_server_leaves_no_socket_and_no_descriptor(tmp_path) -> None:
    before = descriptors()
    path = str(tmp_path / 'card')
    card = Card()
    server = Server(path, card)
    server.start()
    c = Client(path)
    server.stop()
    assert not os.path.exists(path)
    c.close()
    card.memic.close()
    assert descriptors() == before


def test_descriptors_go_with_the_message_that_they_came_with(memory: int) -> None:
    """Messages that arrive together are told apart, and a descriptor is that of the last of them,
    as the kernel hands out no byte behind it."""
    ours, theirs = socket.socketpair()
    card = Card('connectx6dx', 'ib')

    def never(*_: object) -> None:
        raise AssertionError('all of it has arrived')
    connection = vu.Connection(theirs, Function(card), card.dma, never)
    connection.negotiated = True

    def mapping(addr: int) -> bytes:
        return vu.HEADER.pack(addr >> 16, vu.DMA_MAP, 48, 0, 0) + struct.pack(
            '<IIQQQ', 32, 3, 0, addr, 4096)
    with ours:
        ours.sendall(mapping(0x10000))
        # The second begins in one piece and ends in another, which the descriptor comes with.
        ours.sendall(mapping(0x20000)[:20])
        socket.send_fds(ours, [mapping(0x20000)[20:]], [memory])
        socket.send_fds(ours, [mapping(0x30000)], [memory])
        for _ in range(3):
            connection.serve_one()
        for number in (1, 2, 3):
            assert vu.HEADER.unpack(ours.recv(16)) == (number, vu.DMA_MAP, 16, vu.TYPE_REPLY, 0)
        with pytest.raises(DmaError):
            card.dma.read(0x10000, 4)
        for addr, word in ((0x20000, b'this'), (0x30000, b'that')):
            card.dma.write(addr, word)
            assert os.pread(memory, 4, 0) == word
        # One that nobody has taken is closed with the connection.
        before = len(os.listdir('/proc/self/fd'))
        socket.send_fds(ours, [mapping(0x40000)[:20]], [memory])
        with pytest.raises(AssertionError, match='has arrived'):
            connection.serve_one()
        assert len(os.listdir('/proc/self/fd')) == before + 1
        connection.close()
        assert len(os.listdir('/proc/self/fd')) == before - 1
    card.dma.unmap_all()
