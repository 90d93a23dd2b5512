# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Messages a second of the emulated card's data path, without a VM: `PYTHONPATH=tests python3
tests/benchmarks/emu_datapath.py`."""
import sys
import time
from collections.abc import Callable

from emulator.driver.guest import RC, UC, UD, Guest, GuestCq, GuestQp, av, raddr, sge
from mlx5emu.prm.wqe import Op

#: What the card has to reach with 4 KiB sends on RC.
TARGET = 2000
SECONDS = 1.0


def rate(turn: Callable[[], int]) -> float:
    """Messages a second of ``turn``, which answers how many it sent."""
    turn()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        done += turn()
    return done / (time.perf_counter() - start)


def sends(st: int, size: int, batch: int = 64) -> Callable[[], int]:
    """Sends in batches: posting to both sides, one doorbell, and consuming the CQEs."""
    g = Guest()
    a, b = (GuestQp(g, st, scq=GuestCq(g, 7), rcq=GuestCq(g, 7), log_sq=8, log_rq=7)
            for _ in range(2))
    a.connect(b.number)
    b.connect(a.number)
    n = max(size, 4096)
    buf = g.alloc(2 * n + 4096)
    key = g.mkey(buf, 2 * n + 4096)
    head = (av(b.number),) if st == UD else ()

    def turn() -> int:
        for _ in range(batch):
            b.post_recv((buf + n, n + 40, key))
            a.post_send(Op.SEND, *head, sge(buf, size, key), ring=False)
        a.ring()
        for q in (a.scq, b.rcq):
            g.write(q.dbr, (g.card.cqs.find(q.number).producer & 0xffffff).to_bytes(4, 'big'))
        assert not g.card.datapath.work.errors
        return batch
    return turn


def one_sided(op: int, size: int, batch: int = 64) -> Callable[[], int]:
    """Writes or reads in batches."""
    g = Guest()
    a, b = (GuestQp(g, RC, scq=GuestCq(g, 7), log_sq=8) for _ in range(2))
    a.connect(b.number)
    b.connect(a.number)
    buf = g.alloc(2 * size)
    key = g.mkey(buf, 2 * size)

    def turn() -> int:
        for _ in range(batch):
            a.post_send(op, raddr(buf + size, key), sge(buf, size, key), ring=False)
        a.ring()
        g.write(a.scq.dbr, (g.card.cqs.find(a.scq.number).producer & 0xffffff).to_bytes(4, 'big'))
        assert not g.card.datapath.work.errors
        return batch
    return turn


def main() -> int:
    """Print a table; 1 when 4 KiB sends are slower than TARGET."""
    rows = [('RC send', 4096, sends(RC, 4096)), ('RC send', 64, sends(RC, 64)),
            ('UC send', 4096, sends(UC, 4096)), ('UD send', 4056, sends(UD, 4056)),
            ('RC write', 4096, one_sided(Op.WRITE, 4096)),
            ('RC read', 4096, one_sided(Op.READ, 4096)),
            ('RC write', 1 << 20, one_sided(Op.WRITE, 1 << 20))]
    worst = None
    print(f'{"operation":12}{"bytes":>9}{"messages/s":>12}{"MB/s":>9}')
    for name, size, turn in rows:
        r = rate(turn)
        worst = r if worst is None else worst
        print(f'{name:12}{size:9}{r:12.0f}{r * size / 1e6:9.1f}', flush=True)
    print(f'target: {TARGET} RC sends of 4096 bytes a second')
    return int(worst is not None and worst < TARGET)


if __name__ == '__main__':
    sys.exit(main())
