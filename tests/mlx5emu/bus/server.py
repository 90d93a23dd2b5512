# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The server's loop: one thread that owns the card, its socket and its timers."""
import contextlib
import os
import queue
import select
import socket
import stat
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .pci import Function
from .private_socket import private_socket
from .vfio_user import Connection, Disconnected

if TYPE_CHECKING:
    from ..card import Card


class _Stopped(Exception):
    """stop() was called."""


class Turn:
    """Whose turn it is: one thread at a time works on the cards of a fabric, since a packet takes
    it from one card into another.

    A lock that its waiters get in order: who gives it back and wants it again comes after them.
    """

    def __init__(self) -> None:
        self._next, self._lock = threading.Lock(), threading.Lock()

    def take(self) -> None:
        """Wait for the turn."""
        with self._next:
            self._lock.acquire()

    def give(self) -> None:
        """Let another thread have it."""
        self._lock.release()

    def share(self) -> None:
        """Let those who wait have it first."""
        if self._next.locked():
            self.give()
            self.take()


class Server:
    """Serves one card on a UNIX socket, one client after the other.

    :param socket_path: where to listen; a stale socket there is replaced.
    :param card: the card; only the server's thread touches it from :meth:`start` to :meth:`stop`.
        Others go through :meth:`call`.
    :param turn: shared by the servers of all cards on a fabric, which reach each other.
    :raises OSError: the socket cannot be made (path too long, directory missing, in use by another
        server).
    """

    def __init__(self, socket_path: str, card: 'Card', turn: Turn | None = None) -> None:
        self.path, self.card = socket_path, card
        self.turn = turn or Turn()
        self.function = Function(card)
        self.connections = 0
        self.connected = False
        #: Exceptions that escaped a client's connection: defects, asserted to be none.
        self.escaped: list[BaseException] = []
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any],
                                             queue.SimpleQueue[tuple[bool,
                                                                     Any]]]] = queue.SimpleQueue()
        self._stop = False
        self._thread: threading.Thread | None = None
        self._listener = self._listen(socket_path)
        # A pipe: PyPy has no eventfd().
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        card.wake = self._wake_up
        #: What was waited for last, and what waits for it.
        self._polled: tuple[socket.socket, int] | None = None
        self._poller = select.poll()

    @staticmethod
    def _listen(path: str) -> socket.socket:
        # Who can connect has the card, and the memory of the guest.
        listener = private_socket()
        try:
            try:
                listener.bind(path)
            except OSError:
                # A socket that nobody listens on is left over from a killed server; anything else
                # is not ours to remove.
                if not os.path.exists(path) or not stat.S_ISSOCK(os.stat(path).st_mode):
                    raise
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                    try:
                        probe.connect(path)
                    except ConnectionRefusedError:
                        os.unlink(path)
                    except FileNotFoundError:
                        pass
                listener.bind(path)
            listener.listen(1)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        return listener

    # ---- from other threads

    def start(self) -> None:
        """Serve in a thread of its own."""
        self._thread = threading.Thread(target=self.serve, name='mlx5emu', daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the loop, wait for the thread, close and remove the socket.  Idempotent."""
        self._stop = True
        self._signal()
        if self._thread is not None and self._thread is not threading.current_thread():
            # Without a number it was interrupted before it began.
            if self._thread.ident is not None:
                self._thread.join()
            self._thread = None
        self._close()

    def _signal(self) -> None:
        if self._wake >= 0:
            # Full, it has been told often enough.
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake, b'!')

    def _wake_up(self) -> None:
        """Another card's thread gave this one's something to do at a certain time."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._signal()

    def _close(self) -> None:
        if self._wake < 0:
            return
        self._listener.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
        os.close(self._wake)
        os.close(self._woken)
        self._wake = -1

    def call(self, function: Callable[[], Any], timeout: float | None = 300) -> Any:
        """Run ``function`` in the server's thread, between two messages, and return what it
        returns.

        :raises TimeoutError: no answer in time (seconds).
        :raises RuntimeError: the server does not run.
        """
        if self._thread is None or not self._thread.is_alive():
            raise RuntimeError('the server does not run')
        answer: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
        self._calls.put((function, answer))
        self._signal()
        try:
            ok, value = answer.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError('the server did not answer') from None
        if not ok:
            raise value
        return value

    # ---- the loop

    def serve(self) -> None:
        """Accept clients and serve them until :meth:`stop`."""
        self.turn.take()
        try:
            while True:
                self._wait(self._listener, select.POLLIN, -1)
                try:
                    sock, _ = self._listener.accept()
                except OSError:
                    continue
                self._client(sock)
        except _Stopped:
            pass
        finally:
            self.card.dma.unmap_all()
            self.turn.give()

    def _client(self, sock: socket.socket) -> None:
        connection = Connection(sock, self.function, self.card.dma, self._wait)
        self.card.raise_irq = lambda vector: connection.interrupts.trigger(2, vector)
        self.connections += 1
        self.connected = True
        try:
            while True:
                # Waiting for a message serves calls and timers; a client that never pauses must not
                # starve them.
                connection.serve_one()
                if not self._calls.empty() or self._stop:
                    self._run_calls()
                self.card.run_timers()
                self.turn.share()
        except Disconnected:
            pass
        except _Stopped:
            raise
        except Exception as e:  # one client's defect must not end the server
            self.escaped.append(e)
        finally:
            self.connected = False
            self.card.raise_irq = lambda vector: None
            connection.close()
            self.card.dma.unmap_all()
            self.function.reset()

    def _run_calls(self) -> None:
        if self._stop:
            raise _Stopped
        while not self._calls.empty():
            function, answer = self._calls.get()
            try:
                answer.put((True, function()))
            except Exception as e:
                answer.put((False, e))

    def _wait(self, sock: socket.socket, events: int, timeout_ms: int) -> None:
        """Sleep until the socket is ready, serving timers and calls meanwhile."""
        if self._polled != (sock, events):
            self._poller = select.poll()
            self._poller.register(sock, events)
            self._poller.register(self._woken, select.POLLIN)
            self._polled = sock, events
        deadline = None if timeout_ms < 0 else self.card.now() + timeout_ms * 1000000
        while True:
            self._run_calls()
            timer = self.card.run_timers()
            limit = timer
            if deadline is not None:
                left = deadline - self.card.now()
                if left <= 0:
                    raise Disconnected('the client does not read')
                limit = left if timer is None else min(left, timer)
            self.turn.give()
            try:
                ready = self._poller.poll(None if limit is None else -(-limit // 1000000))
            finally:
                self.turn.take()
            for fd, _ in ready:
                if fd == self._woken:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._woken, 4096)
                else:
                    return
