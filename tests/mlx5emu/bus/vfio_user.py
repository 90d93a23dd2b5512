# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""vfio-user: the messages by which QEMU drives a PCI function over a UNIX socket.

One client at a time.  A message that breaks the framing ends the connection; one that is well
framed but wrong gets an errno.  File descriptors that came with a message are closed unless the
message keeps them.
"""
import array
import errno
import json
import os
import select
import socket
import struct
from collections.abc import Callable

from ..dma import Dma, DmaError
from .pci import Function

(VERSION, DMA_MAP, DMA_UNMAP, DEVICE_GET_INFO, DEVICE_GET_REGION_INFO, DEVICE_GET_REGION_IO_FDS,
 DEVICE_GET_IRQ_INFO, DEVICE_SET_IRQS, REGION_READ, REGION_WRITE, DMA_READ, DMA_WRITE, DEVICE_RESET,
 DIRTY_PAGES, REGION_WRITE_MULTI) = range(1, 16)

HEADER = struct.Struct('<HHIII')
REGION_ACCESS = struct.Struct('<QII')
TYPE_COMMAND, TYPE_REPLY, TYPE_MASK, NO_REPLY, ERROR = 0, 1, 0xf, 0x10, 0x20
MAX_TRANSFER = 1 << 20
MAX_MESSAGE = MAX_TRANSFER + 4096
MAX_FDS = 8
#: What is asked of the socket at once: a message of QEMU's is seldom longer.
READ_AHEAD = 4096
NUM_REGIONS, NUM_IRQS = 9, 5
# Plain integers: operations on the flag types of the socket module cost as much as the message
# itself. PyPy lacks the first, which is Linux's own.
_CLOEXEC, _TRUNCATED = int(getattr(socket, 'MSG_CMSG_CLOEXEC', 0x40000000)), int(socket.MSG_CTRUNC)
#: Seconds that a client may leave a reply unread.
SEND_TIMEOUT = 10

DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER = 1, 2, 4, 8, 16, 32
DMA_READABLE, DMA_WRITABLE = 1, 2


class Disconnected(Exception):
    """The client is gone, or what it sent cannot be framed."""


def _error(code: int) -> OSError:
    return OSError(code, os.strerror(code))


class Interrupts:
    """Eventfds by interrupt index and vector; owns them."""

    def __init__(self) -> None:
        self._fds: dict[tuple[int, int], int] = {}

    def set(self, index: int, vector: int, fd: int | None) -> None:
        """Replace a vector's eventfd; None takes it away."""
        old = self._fds.pop((index, vector), None)
        if old is not None:
            os.close(old)
        if fd is not None:
            self._fds[index, vector] = fd

    def trigger(self, index: int, vector: int) -> bool:
        """Signal a vector; False when it has no eventfd."""
        fd = self._fds.get((index, vector))
        if fd is None:
            return False
        try:
            os.write(fd, b'\1\0\0\0\0\0\0\0')
        except OSError:
            return False    # a full or foreign descriptor must not stop the card
        return True

    def clear(self, index: int | None = None) -> None:
        """Drop all vectors, of one index or of all."""
        for key in [k for k in self._fds if index is None or k[0] == index]:
            os.close(self._fds.pop(key))

    def __len__(self) -> int:
        return len(self._fds)


class Connection:
    """One client.

    :param sock: the connected socket; owned.
    :param function: the PCI function.
    :param dma: where DMA_MAP puts guest memory.
    :param wait: called as ``wait(sock, events, timeout_ms)`` when the socket would block; raises to
        end the connection.
    """

    def __init__(self, sock: socket.socket, function: Function, dma: Dma,
                 wait: Callable[[socket.socket, int, int], None]) -> None:
        self.sock, self.function, self.dma, self.wait = sock, function, dma, wait
        self.interrupts = Interrupts()
        self.negotiated = False
        self.messages = 0
        sock.setblocking(False)
        #: Received and not yet part of a message.
        self._ahead = b''
        self._received: list[int] = []
        #: Those of the message at hand.
        self._fds: list[int] = []
        self._ancillary = socket.CMSG_SPACE(MAX_FDS * 4)

    def close(self) -> None:
        """Close the socket and every descriptor that the client left."""
        self._fds += self._received
        self._close_fds()
        self.interrupts.clear()
        self.sock.close()

    def _close_fds(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    # ---- framing

    def _receive(self, n: int) -> bytes:
        while len(self._ahead) < n:
            self._read(n - len(self._ahead))
        data, self._ahead = self._ahead[:n], self._ahead[n:]
        return data

    def _read(self, missing: int) -> None:
        try:
            data, ancillary, flags, _ = self.sock.recvmsg(max(missing, READ_AHEAD), self._ancillary,
                                                          _CLOEXEC)
        except BlockingIOError:
            self.wait(self.sock, select.POLLIN, -1)
            return
        except OSError as e:
            raise Disconnected(str(e)) from e
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array('i')
                fds.frombytes(payload[:len(payload) // 4 * 4])
                self._received.extend(fds)
        if not data:
            raise Disconnected('end of stream')
        if flags & _TRUNCATED or len(self._received) > MAX_FDS:
            raise Disconnected('too many descriptors')
        self._ahead += data

    def _send(self, message: bytes, fds: list[int]) -> None:
        view = memoryview(message)
        while view:
            try:
                if fds:
                    n = socket.send_fds(self.sock, [view], fds)
                    fds = []
                else:
                    n = self.sock.send(view)
            except BlockingIOError:
                self.wait(self.sock, select.POLLOUT, SEND_TIMEOUT * 1000)
                continue
            except OSError as e:
                raise Disconnected(str(e)) from e
            view = view[n:]

    def serve_one(self) -> None:
        """Receive one message, act on it, reply.

        :raises Disconnected: the connection is over.
        """
        head = self._receive(16)
        number, code, size, flags, _ = HEADER.unpack(head)
        if size < 16 or size > MAX_MESSAGE or flags & TYPE_MASK != TYPE_COMMAND:
            raise Disconnected(f'message {code} of {size} bytes, flags {flags:#x}')
        body = self._receive(size - 16) if size > 16 else b''
        if self._received and not self._ahead:
            # The kernel hands out no byte behind one that descriptors came with: they are those of
            # the last message that was read.
            self._fds, self._received = self._received, []
        self.messages += 1
        out, error = b'', 0
        out_fds: list[int] = []
        try:
            if code == REGION_READ and self.negotiated:
                out = self._region_read(body)
            elif code == REGION_WRITE and self.negotiated:
                out = self._region_write(body)
            else:
                out, out_fds = self._handle(code, body)
        except (struct.error, IndexError, ValueError):
            error = errno.EINVAL
        except DmaError:
            error = errno.EINVAL
        except OSError as e:
            error = e.errno or errno.EINVAL
        if self._fds:
            self._close_fds()
        if not flags & NO_REPLY:
            reply = HEADER.pack(number, code, 16 + len(out), TYPE_REPLY | (ERROR if error else 0),
                                error)
            self._send(reply + out, out_fds)

    # ---- messages

    def _region_read(self, body: bytes) -> bytes:
        offset, region, n = REGION_ACCESS.unpack_from(body)
        if n > MAX_TRANSFER or len(body) != 16:
            raise _error(errno.EINVAL)
        return body[:16] + self.function.read(region, offset, n)

    def _region_write(self, body: bytes) -> bytes:
        offset, region, n = REGION_ACCESS.unpack_from(body)
        if n > MAX_TRANSFER or len(body) - 16 != n:
            raise _error(errno.EINVAL)
        self.function.write(region, offset, body[16:])
        return body[:16]

    def _handle(self, code: int, body: bytes) -> tuple[bytes, list[int]]:
        if not self.negotiated and code != VERSION:
            raise _error(errno.EINVAL)
        handler = self._HANDLERS.get(code)
        if handler is None:
            raise _error(errno.EOPNOTSUPP)
        return handler(self, body)

    def _version(self, body: bytes) -> tuple[bytes, list[int]]:
        major, _ = struct.unpack_from('<HH', body)
        text = body[4:].rstrip(b'\0')
        if text:
            if not isinstance(json.loads(text), dict):
                raise _error(errno.EINVAL)
        if major != 0 or self.negotiated:
            raise _error(errno.EINVAL)
        self.negotiated = True
        ours = {
            'capabilities': {
                'max_msg_fds': MAX_FDS, 'max_data_xfer_size': MAX_TRANSFER, 'pgsizes': 4096,
                'write_multiple': True}}
        # Minor 0, whatever the client's: QEMU takes no other.
        return struct.pack('<HH', 0, 0) + json.dumps(ours).encode() + b'\0', []

    def _dma_map(self, body: bytes) -> tuple[bytes, list[int]]:
        _, flags, offset, addr, size = struct.unpack_from('<IIQQQ', body)
        if not flags & DMA_READABLE or len(self._fds) > 1:
            raise _error(errno.EINVAL)
        self.dma.map(addr, size, self._fds[0] if self._fds else None, offset,
                     bool(flags & DMA_WRITABLE))
        return b'', []

    def _dma_unmap(self, body: bytes) -> tuple[bytes, list[int]]:
        _, flags, addr, size = struct.unpack_from('<IIQQ', body)
        if flags & 2:       # everything
            if addr or size:
                raise _error(errno.EINVAL)
            self.dma.unmap_all()
        elif flags:
            raise _error(errno.EOPNOTSUPP)
        else:
            self.dma.unmap(addr, size)
        return body[:24], []

    def _get_info(self, body: bytes) -> tuple[bytes, list[int]]:
        if len(body) < 16:
            raise _error(errno.EINVAL)
        return struct.pack('<IIII', 16, 3, NUM_REGIONS, NUM_IRQS), []

    def _get_region_info(self, body: bytes) -> tuple[bytes, list[int]]:
        argsz, _, index, _, _, _ = struct.unpack_from('<IIIIQQ', body)
        if index >= NUM_REGIONS:
            raise _error(errno.EINVAL)
        size = self.function.regions.get(index, 0)
        mapping = self.function.mappings.get(index)
        if mapping is None:
            return struct.pack('<IIIIQQ', 32, 3 if size else 0, index, 0, size, 0), []
        fd, areas = mapping
        sparse = struct.pack('<HHIII', 1, 1, 0, len(areas), 0) + b''.join(
            struct.pack('<QQ', *a) for a in areas)
        full = 32 + len(sparse)
        info = struct.pack('<IIIIQQ', full, 3 | 4 | 8, index, 32, size, 0)
        if argsz >= full:
            return info + sparse, [fd]
        return info, []

    def _get_irq_info(self, body: bytes) -> tuple[bytes, list[int]]:
        _, _, index, _ = struct.unpack_from('<IIII', body)
        if index >= NUM_IRQS:
            raise _error(errno.EINVAL)
        count = self.function.irqs.get(index, 0)
        return struct.pack('<IIII', 16, 9 if count else 0, index, count), []

    def _set_irqs(self, body: bytes) -> tuple[bytes, list[int]]:
        _, flags, index, start, count = struct.unpack_from('<IIIII', body)
        have = self.function.irqs.get(index, 0)
        if index >= NUM_IRQS or start > have or count > have - start:
            raise _error(errno.EINVAL)
        data, action = flags & 7, flags & 0x38
        if data not in (DATA_NONE, DATA_BOOL,
                        DATA_EVENTFD) or action not in (ACTION_MASK, ACTION_UNMASK, ACTION_TRIGGER):
            raise _error(errno.EINVAL)
        if action != ACTION_TRIGGER:
            raise _error(errno.EOPNOTSUPP)
        if data == DATA_EVENTFD:
            if len(self._fds) > count:
                raise _error(errno.EINVAL)
            fds, self._fds = self._fds, []
            for k in range(count):
                fd = fds[k] if k < len(fds) else None
                if fd is not None:
                    os.set_blocking(fd, False)
                self.interrupts.set(index, start + k, fd)
        elif not count:
            if data == DATA_NONE:
                self.interrupts.clear(index)
        else:
            for k in range(count):
                if data == DATA_NONE or body[20 + k]:
                    self.interrupts.trigger(index, start + k)
        return b'', []

    def _write_multi(self, body: bytes) -> tuple[bytes, list[int]]:
        (count,) = struct.unpack_from('<Q', body)
        if count > (len(body) - 8) // 24:
            raise _error(errno.EINVAL)
        for k in range(count):
            offset, region, n, data = struct.unpack_from('<QII8s', body, 8 + 24 * k)
            if n > 8:
                raise _error(errno.EINVAL)
            self.function.write(region, offset, data[:n])
        return body[:8], []

    def _reset(self, _body: bytes) -> tuple[bytes, list[int]]:
        self.function.reset()
        return b'', []

    _HANDLERS = {
        VERSION: _version, DMA_MAP: _dma_map, DMA_UNMAP: _dma_unmap, DEVICE_GET_INFO: _get_info,
        DEVICE_GET_REGION_INFO: _get_region_info, DEVICE_GET_IRQ_INFO: _get_irq_info,
        DEVICE_SET_IRQS: _set_irqs, REGION_WRITE_MULTI: _write_multi, DEVICE_RESET: _reset}
