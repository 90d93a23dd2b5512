# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Both classes beside upstream's, on whatever device is there: time of a call, and what it leaves
to other threads.

Figures are printed, not judged: on the emulated card they say how much the Python around the C
calls costs, on a real one how fast the device is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from mlx5emu.vm import control

device = pytest.importorskip('pyverbs.device')
from pyverbs.libibverbs_enums import ibv_access_flags  # noqa: E402
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags  # noqa: E402
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr, Mlx5UMEM  # noqa: E402

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem  # noqa: E402
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM  # noqa: E402

SIZE = 64 << 10
LOCAL_WRITE = ibv_access_flags.IBV_ACCESS_LOCAL_WRITE


@pytest.fixture(scope='module')
def context() -> Iterator[Mlx5Context]:
    """The first mlx5 device, opened with DEVX."""
    names = [d.name.decode() for d in device.get_device_list()]
    if not names:
        pytest.skip('no RDMA device')
    flags = mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX
    with Mlx5Context(Mlx5DVContextAttr(flags=flags), name=names[0]) as ctx:
        yield ctx


def best(call: Callable[[], object], times: int = 7) -> float:
    """Return the fastest of some runs, in seconds."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return min(found)


def row(capsys: pytest.CaptureFixture[str], what: str, ours: float, theirs: float,
        unit: str) -> None:
    """Print one comparison."""
    with capsys.disabled():
        print(f'\n  {what:44} {ours:10.1f} {unit:6} upstream {theirs:10.1f} {unit}', end='')


@pytest.mark.parametrize('length', [4, 64, 4096, SIZE])
def test_copy(context: Mlx5Context, capsys: pytest.CaptureFixture[str], length: int) -> None:
    """MEMIC to and from the host."""
    attr = device.AllocDmAttr(length=SIZE)
    data = bytes(range(256)) * (SIZE // 256)
    for dm_class, results in ((Mlx5DM, ours := []), (device.DM, theirs := [])):
        with dm_class(context, attr) as dm:
            results.append(best(lambda dm=dm: dm.copy_to_dm(0, data, length)) * 1e6)
            results.append(best(lambda dm=dm: dm.copy_from_dm(0, length)) * 1e6)
            assert bytes(dm.copy_from_dm(0, length)) == data[:length]
    row(capsys, f'copy_to_dm, {length} bytes', ours[0], theirs[0], 'us')
    row(capsys, f'copy_from_dm, {length} bytes', ours[1], theirs[1], 'us')


@pytest.mark.parametrize('size', [4 << 10, 1 << 20, 64 << 20])
def test_registration(context: Mlx5Context, capsys: pytest.CaptureFixture[str], size: int) -> None:
    """Register and deregister own memory."""
    ours = best(lambda: Mlx5DevxUmem(context, size, access=LOCAL_WRITE).close()) * 1e3
    theirs = best(lambda: Mlx5UMEM(context, size, access=LOCAL_WRITE).close()) * 1e3
    row(capsys, f'register and deregister {size >> 10} KiB', ours, theirs, 'ms')


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
def test_long_pin(context: Mlx5Context, capsys: pytest.CaptureFixture[str]) -> None:
    """While the card takes 500 ms for CREATE_UMEM, another thread runs on: at least 90 % of its
    speed alone."""
    alone = _speed(lambda: time.sleep(0.5))
    speeds = []
    for umem_class in (Mlx5DevxUmem, Mlx5UMEM):
        control.call('fault', opcode='CREATE_UMEM', delay_ms=500)
        made = []
        speeds.append(
            _speed(lambda made=made, cls=umem_class: made.append(
                cls(context, 4096, access=LOCAL_WRITE))) / alone * 100)
        made[0].close()
    row(capsys, "another thread's speed during a 500 ms pin", speeds[0], speeds[1], '%')
    assert speeds[0] >= 90
