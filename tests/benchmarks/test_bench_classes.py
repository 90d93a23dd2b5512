# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Both classes beside upstream's and beside plain C, on whatever device is there: time of a call,
and what it leaves to other threads.

Nothing is judged: on the emulated card the figures say how much the Python around the C calls
costs, on a real one how fast the device is.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mlx5emu.vm import control

device = pytest.importorskip('pyverbs.device')
from pyverbs.libibverbs_enums import ibv_access_flags  # noqa: E402
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags  # noqa: E402
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr, Mlx5UMEM  # noqa: E402

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem  # noqa: E402
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM  # noqa: E402

Benchmark = Any

SIZE = 64 << 10
LOCAL_WRITE = ibv_access_flags.IBV_ACCESS_LOCAL_WRITE
#: Whose figure it is; the chart has a bar for each.
OURS, UPSTREAM, C = 'ours', 'upstream', 'C'
ROUNDS = 40


@pytest.fixture(scope='module')
def name() -> str:
    """The first mlx5 device."""
    names = [d.name.decode() for d in device.get_device_list()]
    if not names:
        pytest.skip('no RDMA device')
    return os.environ.get('MLX5_DEVICE', names[0])


@pytest.fixture(scope='module')
def context(name: str) -> Iterator[Mlx5Context]:
    """It, opened with DEVX."""
    flags = mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX
    with Mlx5Context(Mlx5DVContextAttr(flags=flags), name=name) as ctx:
        yield ctx


class PlainC:
    """The same work by C alone."""

    def __init__(self, library: Path, name: str) -> None:
        self._library = ctypes.CDLL(str(library))
        for function in (self._library.plain_open, self._library.plain_dm_alloc):
            function.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.plain_open(name.encode()))
        assert self._context

    def umem(self, size: int, times: int) -> Callable[[], None]:
        """Register and deregister memory that is there."""
        return self._checked(self._library.plain_umem, self._context, ctypes.c_size_t(size),
                             int(LOCAL_WRITE), times)

    def dm(self, size: int, times: int) -> Callable[[], None]:
        """Allocate and free MEMIC."""
        return self._checked(self._library.plain_dm, self._context, ctypes.c_size_t(size), times)

    def copy(self, size: int, to_dm: bool, times: int) -> Callable[[], None]:
        """Copy to or from MEMIC."""
        dm = ctypes.c_void_p(self._library.plain_dm_alloc(self._context, ctypes.c_size_t(size)))
        assert dm
        return self._checked(self._library.plain_copy, dm, ctypes.create_string_buffer(size),
                             ctypes.c_size_t(size), int(to_dm), times)

    @staticmethod
    def _checked(function: Callable[..., int], *arguments: object) -> Callable[[], None]:
        def call() -> None:
            rc = function(*arguments)
            assert rc == 0, os.strerror(rc)
        return call


@pytest.fixture(scope='module')
def plain(name: str, tmp_path_factory: pytest.TempPathFactory) -> PlainC:
    """plain_c.c, built against the rdma-core in use."""
    build = Path(device.__file__).parents[2]
    library = tmp_path_factory.mktemp('plain') / 'plain_c.so'
    subprocess.run([
        'cc', '-O2', '-shared', '-fPIC', '-Wall', '-Wextra', '-Werror', '-o', library,
        Path(__file__).with_name('plain_c.c'), f'-I{build}/include', f'-L{build}/lib', '-lmlx5',
        '-libverbs'], check=True)
    return PlainC(library, name)


def times_over(call: Callable[[], object], times: int) -> Callable[[], None]:
    """Return what calls it so often."""
    def calls() -> None:
        for _ in range(times):
            call()
    return calls


def measured(benchmark: Benchmark, figure: str, whose: str, times: int,
             calls: Callable[[], object]) -> None:
    """Measure what does the work some times over.

    :param times: how often a call of calls does it; the figures are of one time
    """
    benchmark.group = figure if times == 1 else f'{figure}, {times} times'
    benchmark.extra_info.update(whose=whose, times=times)
    benchmark.pedantic(calls, rounds=ROUNDS, warmup_rounds=2)


@pytest.mark.parametrize('whose', [OURS, UPSTREAM, C])
@pytest.mark.parametrize('size', [4, 4096, SIZE])
@pytest.mark.parametrize('way', ['to', 'from', 'into'])
def test_copy(context: Mlx5Context, plain: PlainC, benchmark: Benchmark, way: str, size: int,
              whose: str) -> None:
    """Between MEMIC and the host. Upstream has no copying into memory at hand."""
    times = max(20, min(500, (1 << 20) // size))
    figure = f'copy {way} dm, {size} bytes' if way != 'into' else f'copy from dm into, {size} bytes'
    if whose == C:
        measured(benchmark, figure, whose, times, plain.copy(size, way == 'to', times))
        return
    with (Mlx5DM if whose == OURS else device.DM)(context, device.AllocDmAttr(length=SIZE)) as dm:
        data, memory = bytes(size), bytearray(size)
        calls = {
            'to': (lambda: dm.copy_to_dm(0, data)) if whose == OURS else
            (lambda: dm.copy_to_dm(0, data, size)),
            'from': lambda: dm.copy_from_dm(0, size),
            'into': (lambda: dm.copy_from_dm_into(0, memory)) if whose == OURS else
            (lambda: dm.copy_from_dm(0, size))}
        measured(benchmark, figure, whose, times, times_over(calls[way], times))


@pytest.mark.parametrize('whose', [OURS, UPSTREAM, C])
@pytest.mark.parametrize('size', [4 << 10, 1 << 20])
def test_registration(context: Mlx5Context, plain: PlainC, benchmark: Benchmark, size: int,
                      whose: str) -> None:
    """Register and deregister memory that is there, by address."""
    figure = f'register and deregister {size >> 10} KiB'
    if whose == C:
        measured(benchmark, figure, whose, 1, plain.umem(size, 1))
        return
    memory = ctypes.create_string_buffer(size + 4096)
    addr = ctypes.addressof(memory) + 4095 & -4096
    kind = Mlx5DevxUmem if whose == OURS else Mlx5UMEM
    measured(benchmark, figure, whose, 1,
             lambda: kind(context, size, addr, access=LOCAL_WRITE).close())


@pytest.mark.parametrize('whose', [OURS, UPSTREAM, C])
def test_allocation(context: Mlx5Context, plain: PlainC, benchmark: Benchmark, whose: str) -> None:
    """Allocate and free MEMIC."""
    figure = 'allocate and free 4 KiB of MEMIC'
    if whose == C:
        measured(benchmark, figure, whose, 1, plain.dm(4096, 1))
        return
    attr, kind = device.AllocDmAttr(length=4096), Mlx5DM if whose == OURS else device.DM
    measured(benchmark, figure, whose, 1, lambda: kind(context, attr).close())


def _count(stop: threading.Event, counter: list[int]) -> None:
    while not stop.is_set():
        counter[0] += 1


def _speed(call: Callable[[], object]) -> float:
    """Return how fast another thread counts while the call runs, per second."""
    stop, counter = threading.Event(), [0]
    thread = threading.Thread(target=_count, args=(stop, counter))
    thread.start()
    start, before = time.perf_counter(), counter[0]
    call()
    spent, counted = time.perf_counter() - start, counter[0] - before
    stop.set()
    thread.join()
    return counted / spent


def _mean(call: Callable[[], object], times: int) -> float:
    """Return the mean over some runs, in microseconds."""
    start = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - start) / times * 1e6


@pytest.mark.parametrize(('direction', 'threshold'), [('read', 1024), ('write', 16384)])
def test_giving_up_the_gil(context: Mlx5Context, capsys: pytest.CaptureFixture[str], direction: str,
                           threshold: int) -> None:
    """A copy just below the size from which Mlx5DM gives up the GIL, and one of it: alone, and
    beside a thread that computes."""
    with Mlx5DM(context, device.AllocDmAttr(length=SIZE)) as dm:
        held, given_up = bytearray(threshold - 4), bytearray(threshold)
        copy = dm.copy_from_dm_into if direction == 'read' else dm.copy_to_dm
        alone = [
            min(_mean(lambda b=b: copy(0, b), 500) for _ in range(5)) for b in (held, given_up)]
        stop, counter = threading.Event(), [0]
        thread = threading.Thread(target=_count, args=(stop, counter))
        thread.start()
        beside = [_mean(lambda b=b: copy(0, b), 500) for b in (held, given_up)]
        stop.set()
        thread.join()
    with capsys.disabled():
        for what, (a, b) in (('alone', alone), ('beside a busy thread, mean', beside)):
            print(f'\n  {direction} {threshold} bytes, {what:28} '
                  f'GIL held {a:8.1f} us   given up {b:8.1f} us', end='')


@pytest.mark.skipif(not control.available(), reason='only the emulated card can be told to be slow')
@pytest.mark.parametrize('whose', [OURS, UPSTREAM])
def test_long_pin(context: Mlx5Context, capsys: pytest.CaptureFixture[str], benchmark: Benchmark,
                  whose: str) -> None:
    """How fast another thread is, of its speed alone, while the card takes 500 ms for CREATE_UMEM.
    """
    alone = _speed(lambda: time.sleep(0.5))
    kind = Mlx5DevxUmem if whose == OURS else Mlx5UMEM
    made: list[Any] = []
    shares: list[float] = []

    def pin() -> None:
        control.call('fault', opcode='CREATE_UMEM', delay_ms=500)
        shares.append(_speed(lambda: made.append(kind(context, 4096, access=LOCAL_WRITE))) / alone)
        made.pop().close()
    benchmark.group = 'a registration that takes 500 ms'
    benchmark.pedantic(pin, rounds=3)
    benchmark.extra_info.update(whose=whose, times=1, other_thread=max(shares))
    with capsys.disabled():
        print(f'\n  {whose}: another thread has {max(shares):.1%} of its speed alone', end='')
