# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Firmware commands: registration by opcode, dispatch, status.

An object file registers its handlers when it is imported::

    @command('CREATE_CQ')
    def create_cq(card, cmd):
        cmd.out['cqn'] = card.cqs.alloc(Cq(...), cmd.uid)

A handler fills ``cmd.out`` or raises :class:`~mlx5emu.firmware.status.Status`; what it wrote is
dropped in the latter case.  A command that no file registered is answered BAD_OP.
"""
import traceback
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import prm
from ..dma import DmaError
from .command_trace import record
from .context_features import FEATURES, check
from .status import CODES, NAMES, Status
from .tables import SHARED_UID

if TYPE_CHECKING:
    from ..card import Card

__all__ = [
    'Command', 'command', 'execute', 'names', 'MAX_INPUT', 'MAX_OUTPUT']

#: Longest command input and output in bytes that the card takes.
MAX_INPUT = 16 << 20
MAX_OUTPUT = 2 << 20

Handler = Callable[['Card', 'Command'], Any]


class Entry(NamedTuple):
    """One registered command."""
    name: str
    handler: Handler
    min_in: int | None
    min_out: int | None
    state: int
    op_mods: frozenset[int] | None
    kernel: bool
    right: int


_BY_NAME: dict[str, Entry] = {}
#: {command: (input) -> layout of what follows the layout that the command has, or None}, for the
#: trace.
TAILS: dict[str, Callable[[bytes], str | None]] = {}


class Command:
    """A command while it runs.

    ``inp`` and ``out`` are views of the command's input and output layouts, ``raw`` the input's
    bytes; ``out`` has at least the layout's size and at least the bytes that the driver left room
    for (``cmd.out_len``).
    """

    __slots__ = ('opcode', 'name', 'uid', 'op_mod', 'raw', 'inp', 'out', 'out_len')

    def __init__(self, name: str, raw: bytes, out_len: int, layouts: tuple[str, str]) -> None:
        self.raw, self.name, self.out_len = raw, name, out_len
        self.opcode = raw[0] << 8 | raw[1]
        self.uid = raw[2] << 8 | raw[3]
        self.op_mod = raw[6] << 8 | raw[7]
        self.inp = prm.View(layouts[0], raw)
        self.out = prm.View(layouts[1], b'')
        self.out.buf = bytearray(max(out_len, self.out.size, 16))


def command(*names: str, min_in: int | None = None, min_out: int | None = None,
            state: str = 'ready', op_mods: Iterable[int] | None = (0, ),
            kernel: bool = False, right: int = 0) -> Callable[[Handler], Handler]:
    """Register the handler of one or more opcodes, by their PRM names.

    Reserved bits of the input's fixed part, an op_mod and a uid that the command does not take are
    refused before the handler runs.

    :param min_in: least input bytes; default: the input layout without its flexible tail.
    :param min_out: least output bytes; default: the output layout without its flexible tail.
    :param op_mods: which values of op_mod there are; None when the handler looks at it, or the
        command has another field there.
    :param kernel: not for user contexts.
    :param right: bit of the rights that a user context needs for it.
    :param state: since when the command is allowed: 'any', 'enabled' (ENABLE_HCA done) or 'ready'
        (INIT_HCA done).
    :raises ValueError: an opcode is registered twice.
    """
    level = ('any', 'enabled', 'ready').index(state)
    allowed = None if op_mods is None else frozenset(op_mods)

    def register(handler: Handler) -> Handler:
        for name in names:
            if name in _BY_NAME:
                raise ValueError(f'{name} is registered twice')
            _BY_NAME[name] = Entry(name, handler, min_in, min_out, level, allowed, kernel,
                                    right)
        return handler
    return register


def names() -> list[str]:
    """Names of the commands that have a handler."""
    return sorted(_BY_NAME)


class _Bound(NamedTuple):
    entry: Entry
    layouts: tuple[str, str]
    min_in: int
    min_out: int
    #: Bytes of the input's fixed part.
    fixed: int


#: Bits of every command that are never reserved, whatever its layout says: opcode and uid, which
#: the kernel sets on behalf of its users.
_HEAD_BITS = 32
_BOUND: dict[int, _Bound] = {}


def _bind(opcode: int) -> _Bound | None:
    name = prm.OPCODE_NAMES.get(opcode)
    entry = _BY_NAME.get(name or '')
    if entry is None:
        return None
    layouts = prm.command_layouts(entry.name)
    size = [(prm.layout_bits(n) + 7) >> 3 for n in layouts]
    bound = _BOUND[opcode] = _Bound(entry, layouts,
                                    size[0] if entry.min_in is None else entry.min_in,
                                    size[1] if entry.min_out is None else entry.min_out, size[0])
    return bound


def execute(card: 'Card', raw: bytes, out_len: int = 16) -> tuple[bytes, int]:
    """Run one command.

    :param raw: the input.
    :param out_len: bytes that the caller has for the output.
    :return: the output, ``out_len`` bytes long, and by how many nanoseconds the answer is to be
        held back, or faults.HELD.
    """
    opcode = raw[0] << 8 | raw[1] if len(raw) >= 2 else -1
    op_mod = raw[6] << 8 | raw[7] if len(raw) >= 8 else 0
    delay, note, cmd = 0, '', None
    name = prm.OPCODE_NAMES.get(opcode, f'{opcode:#06x}')
    card.command_counts[name] = card.command_counts.get(name, 0) + 1
    try:
        bound = _BOUND.get(opcode) or _bind(opcode)
        if bound is None:
            raise Status('BAD_OP', 'unknown opcode')
        if len(raw) < bound.min_in or len(raw) < 16 or len(raw) > MAX_INPUT:
            raise Status('BAD_INP_LEN', 'input length')
        if out_len < bound.min_out or out_len < 8 or out_len > MAX_OUTPUT:
            raise Status('BAD_OUTP_LEN', 'output length')
        if card.state < bound.entry.state:
            raise Status('BAD_SYS_STATE', 'command before ENABLE_HCA or INIT_HCA')
        cmd = Command(name, raw, out_len, bound.layouts)
        if cmd.uid:
            if cmd.uid != SHARED_UID and cmd.uid not in card.uctxs:
                raise Status('BAD_RES', 'no such uid')
            if bound.entry.kernel:
                raise Status('BAD_PARAM', 'not for user contexts')
            right = bound.entry.right
            if right and cmd.uid != SHARED_UID and not card.uctxs.get(cmd.uid).cap & right:
                raise Status('BAD_PARAM', 'the context has not the right')
        if bound.entry.op_mods is not None and op_mod not in bound.entry.op_mods:
            raise Status('BAD_PARAM', 'op_mod')
        check_reserved(raw, 0,
                       prm.reserved(bound.layouts[0]) & (1 << 8 * bound.fixed - _HEAD_BITS) - 1,
                       bound.fixed)
        if name in FEATURES:
            check(card, cmd)
        if card.faults.rules:
            rule = card.faults.match(opcode, op_mod)
            if rule is not None:
                delay = rule.delay_ns
                if rule.status:
                    raise Status(rule.status, rule.syndrome)
        bound.entry.handler(card, cmd)
        out = bytes(cmd.out.buf[:out_len])
        status = 0
    except Status as e:
        status, out, note = e.code, _failed(e, out_len), e.reason
    except prm.FieldError as e:
        status, out, note = 0x50, _failed(Status('BAD_INP_LEN', 'a field is beyond the input'),
                                          out_len), str(e)
    except DmaError as e:
        status, out, note = 3, _failed(Status('BAD_PARAM', 'address is not mapped'),
                                       out_len), str(e)
    # a defect of the emulator must not end it; it is counted, and tests assert that none happened
    except Exception:
        card.defect()
        note = traceback.format_exc()
        status, out = 1, _failed(Status('INT_ERR', 'internal error'), out_len)
    if status:
        key = f'{name} {NAMES.get(status, status)}'
        card.failure_counts[key] = card.failure_counts.get(key, 0) + 1
    if card.trace is not None:
        tail = TAILS[name](raw) if name in TAILS else None
        card.trace(record(name, cmd, raw, out, status, note, tail))
    return out, delay


def check_reserved(raw: bytes, at: int, mask: int, size: int) -> None:
    """Refuse input with a reserved bit set.

    :param at: where the layout begins, in bytes.
    :param mask: its reserved bits, as :func:`prm.reserved` gives them; of what is beyond the
        input's end nothing is said.
    :param size: bytes of the layout.
    :raises Status: BAD_PARAM
    """
    part = raw[at:at + size]
    found = int.from_bytes(part, 'big') << 8 * (size - len(part)) & mask
    if found:
        raise Status('BAD_PARAM', f'reserved bit {size * 8 - found.bit_length():#x}')


def execute_inner(card: 'Card', raw: bytes) -> int:
    """Run a command on behalf of another: not counted, not logged, no faults injected; its status
    code."""
    bound = _BOUND.get(raw[0] << 8 | raw[1]) or _bind(raw[0] << 8 | raw[1])
    if bound is None:
        return CODES['BAD_OP']
    try:
        bound.entry.handler(card,
                            Command(bound.entry.name, raw, max(16, bound.min_out), bound.layouts))
    except Status as e:
        return e.code
    return 0


def _failed(status: Status, out_len: int) -> bytes:
    head = bytes([status.code, 0, 0, 0]) + status.syndrome.to_bytes(4, 'big')
    return head.ljust(min(out_len, MAX_OUTPUT), b'\0')[:out_len]
