# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The command queue in guest memory: descriptors, mailboxes, ownership, completion events.

Nothing in guest memory is trusted: a chain of mailboxes is followed no further than the length
says, a length no further than the card's limit, and whatever cannot be read ends the command with a
delivery status (or is ignored when not even that can be written).
"""
from typing import TYPE_CHECKING

from .. import prm
from ..dma import DmaError
from ..firmware import dispatch
from ..firmware.faults import HELD

if TYPE_CHECKING:
    from ..card import Card

#: log2 of the number of descriptors and of their stride in bytes, as the initialization segment
#: says.
LOG_SIZE, LOG_STRIDE = 5, 6
MAILBOX_SIZE, MAILBOX_DATA = 576, 512
TYPE_PCIE = 7

prm.declare('cmd_layout', [('type', 8), ('', 24), ('inlen', 32), ('in_ptr', 64),
                           ('in_inline', 8, 16), ('out_inline', 8, 16), ('out_ptr', 64),
                           ('outlen', 32), ('token', 8), ('sig', 8), ('', 8), ('status_own', 8)])
prm.declare('cmd_mailbox', [('data', 8, 512), ('', 8, 48), ('next', 64), ('block_num', 32), ('', 8),
                            ('token', 8), ('ctrl_sig', 8), ('sig', 8)])

# Delivery status: what went wrong with the descriptor itself.
OK, TOKEN, BLOCK_NUMBER, OUT_ALIGN = 0, 2, 3, 4
IN_ALIGN, IN_LENGTH, OUT_LENGTH, DESCRIPTOR = 5, 7, 8, 0x10


class _Delivery(Exception):
    """The descriptor or its mailboxes are malformed."""


class CommandQueue:
    """The queue at ``address``; the driver rings one bit of :meth:`doorbell` for each
    descriptor."""

    def __init__(self, card: 'Card') -> None:
        self.card = card
        self.address: int | None = None
        self.busy = 0

    def doorbell(self, vector: int) -> None:
        """Run the commands whose bits are set, lowest first; none before the driver has told where
        the queue is."""
        if self.address is None:
            return
        for index in range(1 << LOG_SIZE):
            if vector >> index & 1 and not self.busy >> index & 1:
                self.run(index)

    def run(self, index: int) -> None:
        """Run the descriptor ``index`` and complete it: now, or when an injected fault lets it."""
        card = self.card
        at = (self.address or 0) + (index << LOG_STRIDE)
        try:
            lay = prm.View('cmd_layout', card.dma.read(at, 1 << LOG_STRIDE))
            if not lay['status_own'] & 1:
                return      # the descriptor is software's
        except DmaError:
            return
        delivery, delay, out = OK, 0, b''
        try:
            if lay['type'] != TYPE_PCIE:
                raise _Delivery(DESCRIPTOR)
            raw = self._gather(lay)
            room = self._room(lay)
        except _Delivery as e:
            delivery = e.args[0]
        except DmaError:
            delivery = DESCRIPTOR
        else:
            had_eq = card.command_eq
            out, delay = dispatch.execute(card, raw, lay['outlen'])
        if delivery:
            had_eq, room = card.command_eq, []

        def complete() -> None:
            self._complete(index, at, lay, room, out, delivery, had_eq)
        if not delay:
            complete()
            return
        self.busy |= 1 << index
        if delay == HELD:
            card.faults.held.append(complete)
        else:
            card.call_later(delay, complete)

    def _gather(self, lay: prm.View) -> bytes:
        length, ptr = lay['inlen'], lay['in_ptr']
        if length > dispatch.MAX_INPUT:
            raise _Delivery(IN_LENGTH)
        head = lay['in_inline'][:length]
        if length <= 16:
            return head
        parts, left, block = [head], length - 16, 0
        while left:
            box = self._mailbox(lay, ptr, block, IN_ALIGN, IN_LENGTH)
            k = min(left, MAILBOX_DATA)
            parts.append(box[:k])
            left -= k
            ptr = int.from_bytes(box[560:568], 'big')
            block += 1
        return b''.join(parts)

    def _room(self, lay: prm.View) -> list[int]:
        """Addresses of the output mailboxes, checked before the command has any effect."""
        length, ptr = lay['outlen'], lay['out_ptr']
        if length > dispatch.MAX_OUTPUT:
            raise _Delivery(OUT_LENGTH)
        out: list[int] = []
        for block in range(max(0, length - 16 + MAILBOX_DATA - 1) // MAILBOX_DATA):
            box = self._mailbox(lay, ptr, block, OUT_ALIGN, OUT_LENGTH)
            out.append(ptr)
            ptr = int.from_bytes(box[560:568], 'big')
        return out

    def _mailbox(self, lay: prm.View, ptr: int, block: int, align: int, short: int) -> bytes:
        if not ptr:
            raise _Delivery(short)
        if ptr & 0x1ff:
            raise _Delivery(align)
        box = self.card.dma.read(ptr, MAILBOX_SIZE)
        if int.from_bytes(box[568:572], 'big') != block:
            raise _Delivery(BLOCK_NUMBER)
        if box[573] != lay['token']:
            raise _Delivery(TOKEN)
        return box

    def _complete(self, index: int, at: int, lay: prm.View, room: list[int], out: bytes,
                  delivery: int, had_eq: object) -> None:
        card = self.card
        self.busy &= ~(1 << index)
        try:
            for k, ptr in enumerate(room):
                part = out[16 + k * MAILBOX_DATA:16 + (k + 1) * MAILBOX_DATA]
                if part:
                    card.dma.write(ptr, part)
            if out:
                card.dma.write(at + 32, out[:16])
            # Output first, ownership last: software polls the byte.
            card.dma.write(at + 63, bytes([delivery << 1]))
        except DmaError:
            return
        # The EQ made by this very command and the EQ it destroyed are not for its own completion:
        # software polls for those.
        if card.command_eq is not None and card.command_eq is had_eq:
            card.post_eqe(card.command_eq.number, prm.EVENTS['CMD'], 0, (1 << index).to_bytes(
                4, 'big'))
