# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The side channel: a test inside the guest asks what the card holds and makes it fail.

Requests and answers are JSON, one a line, over a virtio-serial port. Inside the guest::

    from mlx5emu.vm import control
    if control.available():
        control.call("fault", opcode="CREATE_UMEM", status="BAD_PARAM")
        control.call("objects")["umem"]

Outside, :class:`Service` answers on behalf of one card. Nothing of the driver or of libmlx5 goes
this way: on a real card the channel is not there, and what a test asserts through it is left out.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..firmware import subnet

#: The port inside the guest.
PORT = '/run/mlx5emu/control'
#: Longest request or answer in bytes.
MAX_LINE = 8 << 20


class ControlError(Exception):
    """The card's side refused the request; the text says why."""


# ---- inside the guest


def available() -> bool:
    """Tell whether this is a guest with the emulated card."""
    return os.path.exists(PORT)


def _open(timeout: float) -> int:
    end = time.monotonic() + timeout
    while True:
        try:
            return os.open(PORT, os.O_RDWR | os.O_CLOEXEC)
        except OSError as e:
            # The port takes one process at a time, which is all the locking that is wanted.
            if e.errno != errno.EBUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)


def call(method: str, /, **arguments: Any) -> Any:
    """Ask the card.

    :param method: a name of :class:`Service`
    :param arguments: its arguments, and ``function``: which function of the card is asked, 0 when
        left out
    :return: its answer
    :raises ControlError: the card's side refused
    :raises OSError: no channel (ENOENT), or another process holds it for 60 s (EBUSY)
    """
    fd = _open(60.0)
    try:
        data = json.dumps([method, arguments]).encode() + b'\n'
        while data:
            data = data[os.write(fd, data):]
        answer = b''
        while not answer.endswith(b'\n'):
            piece = os.read(fd, 65536)
            if not piece:
                raise ControlError("the card's side of the control channel is gone")
            answer += piece
    finally:
        os.close(fd)
    ok, value = json.loads(answer)
    if not ok:
        raise ControlError(value)
    return value


# ---- beside the card


class Service:
    """Answers for one card. Public methods are what :func:`call` can name."""

    def __init__(
        self, card: Any, submit: Callable[[Callable[[], Any]],
                                          Any], others: Sequence[Service] = ()) -> None:
        """Answer for a card.

        :param card: the :class:`~mlx5emu.card.Card`
        :param submit: runs a function in the thread that owns the card, and returns its result
        :param others: those who answer for the card's functions 1 and up
        """
        self._card, self._submit, self._functions = card, submit, (self, *others)

    def serve(self, s: socket.socket) -> None:
        """Answer requests until the socket is closed."""
        with s, contextlib.suppress(OSError), s.makefile('rb') as lines:
            while line := lines.readline(MAX_LINE):
                s.sendall(json.dumps(self.answer(line)).encode() + b'\n')

    def answer(self, line: bytes) -> tuple[bool, Any]:
        """Answer one request: (True, result) or (False, reason)."""
        try:
            name, arguments = json.loads(line)
            if not isinstance(name, str) or name.startswith('_') or name in ('serve', 'answer'):
                raise ControlError(f'no control request {name!r}')
            service = self._functions[arguments.pop('function', 0)]
            method = getattr(service, name, None)
            if method is None:
                raise ControlError(f'no control request {name!r}')
            return True, service._submit(lambda: method(**arguments))
        except Exception as e:
            # Whatever it is, the guest gets an answer: it waits for one, and for those to come.
            return False, f'{type(e).__name__}: {e}'

    def objects(self) -> dict[str, list[int]]:
        """Return the numbers of the live objects, by kind; kinds without objects are left out."""
        live = self._card.objects()
        if self._card.memic.ranges:
            live['memic'] = sorted(self._card.memic.ranges)
        return live

    def summary(self) -> dict[str, Any]:
        """Return what the card has seen: profile, link layer, firmware, resets, pages held, faults
        of its own."""
        c = self._card
        return {'profile': c.profile.name, 'link_layer': c.link_layer, 'resets': c.resets,
                'internal_errors': c.internal_errors, 'failures': c.failure_counts}

    def pages(self) -> int:
        """Return how many pages of the driver's the card holds."""
        return len(self._card.pages.held)

    def port(self, up: bool) -> bool:
        """Bring the port up or down, and tell the driver; return how it is."""
        self._card.set_port(bool(up))
        return bool(self._card.vport.up)

    def subnet(self, lid: int | None = None, pkeys: list[int] | None = None) -> dict[str, Any]:
        """Have the subnet manager give the port another LID or P_Key table; return what it has, and
        the packets dropped for a key."""
        subnet.assign(self._card, lid, pkeys)
        v = self._card.vport
        return {
            'lid': v.lid, 'pkeys': self._card.subnet.pkeys, 'pkey_violations': v.pkey_violations,
            'qkey_violations': v.qkey_violations}

    def commands(self) -> dict[str, int]:
        """Return how often each firmware command was issued."""
        return self._card.command_counts

    def fault(self, opcode: str | int, status: str | int = 0, count: int = 1, delay_ms: float = 0,
              hold: bool = False, skip: int = 0, op_mod: int | None = None) -> bool:
        """Make the next ``count`` commands of an opcode fail with a status, answer late, or have
        their answers held back until :meth:`release`."""
        self._card.faults.add(opcode, status, count, delay_ms / 1000, hold=hold, skip=skip,
                              op_mod=op_mod)
        return True

    def held(self) -> int:
        """Return how many answers are held back."""
        return len(self._card.faults.held)

    def release(self) -> int:
        """Give the answers that are held back, and hold back no more; return how many they were."""
        return int(self._card.faults.release())

    def faults_clear(self) -> bool:
        """Forget all faults, and give the answers that they held back."""
        self._card.faults.clear()
        return True

    def umem(self, umem_id: int) -> dict[str, Any]:
        """Return how the card sees a umem: its page size in bytes and as log2, the start's offset
        in the first page, its MTTs."""
        u = self._card.umems.get(umem_id)
        return u.layout() | {'log_page_size': u.log_page}

    def umem_read(self, umem_id: int, offset: int, length: int) -> str:
        """Return, in hexadecimal, what the card reads by DMA through the umem's MTTs."""
        return self._card.umems.get(umem_id).read(offset, length).hex()

    def umem_write(self, umem_id: int, offset: int, data: str) -> bool:
        """Have the card write by DMA through the umem's MTTs."""
        self._card.umems.get(umem_id).write(offset, bytes.fromhex(data))
        return True

    def memic_read(self, address: int, length: int) -> str:
        """Return, in hexadecimal, MEMIC by its address in BAR0."""
        return self._card.memic.read(address, length).hex()

    def memic(self) -> dict[str, int]:
        """Return the MEMIC allocations: address in BAR0 to length in bytes."""
        return {str(start): r.size for start, r in self._card.memic.ranges.items()}

    def icm_read(self, address: int, length: int) -> str:
        """Return, in hexadecimal, SW ICM by its ICM address."""
        return self._card.icm.read(address, length).hex()

    def icm_write(self, address: int, data: str) -> bool:
        """Write SW ICM by its ICM address."""
        self._card.icm.write(address, bytes.fromhex(data))
        return True
