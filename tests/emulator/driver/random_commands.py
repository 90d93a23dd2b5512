# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Commands that are right in most fields and wrong in some, and a card with objects for them to
hit."""
import random

from emulator.driver.commands import CommandRing, encode, run
from emulator.driver.memory import GUEST_BASE, GUEST_SIZE, GuestMemory
from mlx5emu import prm
from mlx5emu.bus.pci import Function
from mlx5emu.card import Card
from mlx5emu.firmware import caps

#: Values that lie on edges.
EDGES = (0, 1, 2, 3, 4, 7, 8, 16, 63, 64, 255, 256, 0xffff, 0xffffff, 0x7fffffff, 0xffffffff,
         1 << 32, (1 << 64) - 1, GUEST_BASE, GUEST_BASE + 4096, GUEST_BASE + GUEST_SIZE - 4,
         caps.MEMIC_START, 0x10_0000_0000)


class CommandBench:
    """A booted card with some objects of each basic kind, guest memory and a queue."""

    def __init__(self, link_layer: str) -> None:
        self.card = Card('connectx6dx', link_layer)
        self.function = Function(self.card)
        self.guest = GuestMemory(self.card)
        self.queue = CommandRing(self.function, self.guest)
        self.prepare()

    def assert_no_defects(self) -> None:
        """No command met an exception that is no status."""
        assert self.card.defects == [] and self.card.internal_errors == 0

    def prepare(self) -> None:
        """Objects for random commands to hit."""
        card = self.card
        card.boot()
        self.function.write(7, 4, b'\6\0')
        self.uids = [run(card, 'CREATE_UCTX', {'uctx.cap': 3})['uid'] for _ in range(2)]
        for uid in (0, self.uids[0]):
            for name in ('ALLOC_PD', 'ALLOC_TRANSPORT_DOMAIN', 'ALLOC_XRCD', 'ALLOC_UAR'):
                run(card, name, uid=uid)
            run(
                card, 'CREATE_UMEM', {'umem.num_of_mtt': 4}, extra=b''.join(
                    (GUEST_BASE + 0x100000 + 4096 * k | 3).to_bytes(8, 'big') for k in range(4)),
                uid=uid)
        run(
            card, 'CREATE_EQ', {
                'eq_context_entry.log_eq_size': 4, 'eq_context_entry.uar_page': 0x100,
                'event_bitmask[0]': (1 << 64) - 1}, extra=(GUEST_BASE + 0x200000).to_bytes(
                    8, 'big'))


_FIELDS: dict[str, list[str]] = {}


def paths(layout: str, prefix: str = '', depth: int = 0) -> list[str]:
    """Paths of the plain fields of a layout, nested ones too."""
    if layout in _FIELDS:
        return [prefix + p for p in _FIELDS[layout]]
    out = []
    for field, (_, bits, sub, count) in prm.fields(layout).items():
        if field.startswith('reserved') or field == 'opcode' or (count is not None and count == 0):
            continue
        name = field if count is None else f'{field}[0]'
        if sub is None:
            if bits <= 64:
                out.append(name)
        elif depth < 3:
            out += paths(sub, name + '.', depth + 1)
    _FIELDS[layout] = out
    return [prefix + p for p in out]


def some(rng: random.Random, bits: int) -> int:
    """A small number, an edge, or anything, of so many bits."""
    kind = rng.random()
    value = rng.randrange(8) if kind < 0.5 else rng.choice(
        EDGES) if kind < 0.8 else rng.getrandbits(bits)
    return value & (1 << bits) - 1


def random_command(rng: random.Random, names: list[str], uids: list[int]) -> bytes:
    """A command that is right in most fields and wrong in some."""
    name = rng.choice(names)
    raw = encode(name)
    layout = prm.command_layouts(name)[0]
    view = prm.View(layout, raw)
    fields = paths(layout)
    for path in rng.sample(fields, min(len(fields), rng.randrange(1, 10))):
        _, _, _, mask, _, _ = view._find(path)
        view[path] = some(rng, mask.bit_length())
    if rng.random() < 0.6:
        raw[2:4] = rng.choice([0, 0, *uids, 0xffff, 77]).to_bytes(2, 'big')
    if rng.random() < 0.3:
        raw[6:8] = rng.randrange(5).to_bytes(2, 'big')
    shape = rng.random()
    if shape < 0.4:
        raw += b''.join(
            (some(rng, 64)).to_bytes(8, 'big') for _ in range(rng.choice((1, 2, 8, 64))))
    elif shape < 0.5:
        del raw[rng.randrange(len(raw) + 1):]
    elif shape < 0.55:
        for _ in range(8):
            raw[rng.randrange(16, len(raw)) if len(raw) > 16 else 0] = rng.getrandbits(8)
    return bytes(raw)
