# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Firmware commands by field name: given to the card at once, or through its command queue in guest
memory."""
from typing import Any

from emulator.driver.memory import GuestMemory
from mlx5emu import prm
from mlx5emu.bus.cmdq import MAILBOX_DATA, MAILBOX_SIZE
from mlx5emu.bus.pci import Function
from mlx5emu.card import Card
from mlx5emu.firmware.status import NAMES


class CommandFailed(Exception):
    """A command that ended with a status other than OK: ``status`` by its name, ``syndrome``."""

    def __init__(self, opcode: str, status: int, syndrome: int) -> None:
        self.status, self.syndrome = NAMES.get(status, hex(status)), syndrome
        super().__init__(f'{opcode}: {self.status}')


def encode(opcode: str, fields: dict[str, Any] | None = None, *, extra: bytes = b'', uid: int = 0,
           op_mod: int = 0, layout: str | None = None) -> bytearray:
    """Bytes of a command's input: the layout's fixed part with ``fields`` set, and ``extra`` after
    it."""
    view = prm.new(layout or prm.command_layouts(opcode)[0])
    view['opcode'] = prm.OPCODES[opcode]
    for path, value in (fields or {}).items():
        view[path] = value
    if uid:
        view.buf[2:4] = uid.to_bytes(2, 'big')
    if op_mod:      # where general objects have their type
        view.buf[6:8] = op_mod.to_bytes(2, 'big')
    return view.buf + extra


def run(card: Card, opcode: str, fields: dict[str, Any] | None = None, *,
        out_len: int | None = None, **options: Any) -> prm.View:
    """Run a command directly; the output's view.

    :raises CommandFailed: its status is not OK; the rest of the output is then zero, which is
        asserted.
    """
    layout = prm.command_layouts(opcode)[1]
    size = out_len if out_len is not None else max(16, (prm.layout_bits(layout) + 7) >> 3)
    out = card.execute(bytes(encode(opcode, fields, **options)), size)
    assert len(out) == size
    if out[0]:
        assert not any(out[8:]), 'a failed command answers nothing but status and syndrome'
        raise CommandFailed(opcode, out[0], int.from_bytes(out[4:8], 'big'))
    return prm.View(layout, out)


def status(card: Card, opcode: str, fields: dict[str, Any] | None = None, **options: Any) -> str:
    """Name of the status that a command ends with."""
    try:
        run(card, opcode, fields, **options)
    except CommandFailed as e:
        return e.status
    return 'OK'


class CommandRing:
    """The driver's end of the command queue, through the PCI function's registers."""

    def __init__(self, function: Function, guest: GuestMemory) -> None:
        self.function, self.guest = function, guest
        self.ring = guest.alloc(4096)
        self.token = 0
        function.write(7, 4, b'\x06\x00')       # memory space and bus master
        function.write(0, 0x10, (self.ring >> 32).to_bytes(4, 'big'))
        function.write(0, 0x14, (self.ring & 0xffffffff).to_bytes(4, 'big'))

    def mailboxes(self, data: bytes, size: int) -> list[int]:
        """Chain of mailboxes for ``size`` bytes, filled with ``data``; their addresses."""
        boxes = [self.guest.alloc(MAILBOX_SIZE, 1024) for _ in range(-(-size // MAILBOX_DATA))]
        for k, addr in enumerate(boxes):
            box = prm.new('cmd_mailbox')
            part = data[k * MAILBOX_DATA:(k + 1) * MAILBOX_DATA]
            box['data'] = part.ljust(MAILBOX_DATA, b'\0')
            box.set(next=boxes[k + 1] if k + 1 < len(boxes) else 0, block_num=k, token=self.token)
            self.guest.write(addr, bytes(box.buf))
        return boxes

    def post(self, raw: bytes, out_len: int, index: int = 0,
             **overrides: int) -> tuple[int, list[int]]:
        """Write a descriptor; its address and the output mailboxes."""
        self.token = self.token % 255 + 1
        inputs = self.mailboxes(raw[16:], max(0, len(raw) - 16))
        outputs = self.mailboxes(b'', max(0, out_len - 16))
        lay = prm.new('cmd_layout')
        lay['in_inline'] = raw[:16].ljust(16, b'\0')
        lay.set(type=7, inlen=len(raw), in_ptr=inputs[0] if inputs else 0, outlen=out_len,
                out_ptr=outputs[0] if outputs else 0, token=self.token, status_own=1)
        lay.set(**overrides)
        addr = self.ring + 64 * index
        self.guest.write(addr, bytes(lay.buf))
        return addr, outputs

    def ring_doorbell(self, vector: int = 1) -> None:
        """Ring one bit for each descriptor."""
        self.function.write(0, 0x18, vector.to_bytes(4, 'big'))

    def command(self, raw: bytes, out_len: int = 16) -> tuple[int, bytes]:
        """Post, ring, and collect: (status_own byte, output)."""
        addr, boxes = self.post(raw, out_len)
        self.ring_doorbell()
        out = self.guest.read(addr + 32, 16) + b''.join(
            self.guest.read(b, MAILBOX_DATA) for b in boxes)
        return self.guest.read(addr + 63, 1)[0], out[:out_len]
