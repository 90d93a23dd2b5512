# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Big-endian bit-field layouts of the PRM, read from the kernel's own ``mlx5_ifc.h``.

This is the only place that knows bit offsets.  A layout is a C structure ``mlx5_ifc_<name>_bits``
of that header, called ``<name>`` here, or one that was declared with :func:`declare` because the
header lacks it (work queue elements, CQEs, EQEs). A :class:`View` reads and writes fields by dotted
path::

    v = view('create_cq_in', buf)
    v['cq_context.log_cq_size'], v['pas[3]'] = 7, 0x1000
    v.offset('pas'), v.sub('cq_context')['uar_page']

:func:`load` takes the header's from :mod:`ifc_header`.
"""
import re
from collections.abc import Iterable
from typing import Any

from .ifc_header import LayoutError, find_headers, read

_TYPES: dict[str, list] = {}
_DECLARED: dict[str, list] = {}
_EXTENDED: dict[str, dict[str, tuple[int, int]]] = {}
_ACCESS: dict[str, dict[str, tuple]] = {}
_RESERVED: dict[str, int] = {}

#: Every integer constant of the headers' enums by its C name.
ENUM: dict[str, int] = {}
#: 'CREATE_CQ' -> 0x400
OPCODES: dict[str, int] = {}
#: 0x400 -> 'CREATE_CQ'
OPCODE_NAMES: dict[int, str] = {}
#: 'PTYS' -> 0x5004
REGISTERS: dict[str, int] = {}
#: 0x5004 -> 'PTYS'
REGISTER_NAMES: dict[int, str] = {}
#: 'CMD' -> 0x0a, from MLX5_EVENT_TYPE_*
EVENTS: dict[str, int] = {}
#: Directory the headers were read from.
SOURCE: str | None = None

# Commands whose layouts are not called after the opcode: (input, output).
_LAYOUT_NAMES = {
    'ACCESS_REG': ('access_register_in', 'access_register_out'),
    'ARM_DCT_FOR_KEY_VIOLATION': ('arm_dct_in', 'arm_dct_out'),
    'SQD_RTS_QP': ('sqd2rts_qp_in', 'sqd2rts_qp_out'),
    '2RST_QP': ('qp_2rst_in', 'qp_2rst_out'),
    '2ERR_QP': ('qp_2err_in', 'qp_2err_out'),
    'SET_FLOW_TABLE_ENTRY': ('set_fte_in', 'set_fte_out'),
    'QUERY_FLOW_TABLE_ENTRY': ('query_fte_in', 'query_fte_out'),
    'DELETE_FLOW_TABLE_ENTRY': ('delete_fte_in', 'delete_fte_out'),
}
_ANY_COMMAND = ('general_obj_in_cmd_hdr', 'general_obj_out_cmd_hdr')


def load(path: str | None = None) -> None:
    """Read the layouts; further calls with the same directory do nothing.

    :param path: directory of mlx5_ifc.h; None searches as :func:`find_headers` does.
    :raises LayoutError: no header, or one that cannot be understood.
    """
    global SOURCE
    if SOURCE is not None and path in (None, SOURCE):
        return
    directory = path or find_headers()
    try:
        data = read(directory)
    except OSError as e:
        raise LayoutError(f'cannot read mlx5_ifc.h: {e}') from e
    for table in (_TYPES, ENUM, OPCODES, OPCODE_NAMES, REGISTERS, REGISTER_NAMES, EVENTS, _ACCESS,
                  _RESERVED):
        table.clear()
    _TYPES.update(data['types'])
    _TYPES.update(_DECLARED)
    ENUM.update(data['enum'])
    for name, value in ENUM.items():
        if name.startswith('MLX5_CMD_OP_'):
            if name == 'MLX5_CMD_OP_MAX':
                continue
            OPCODES[name[12:]] = value
            OPCODE_NAMES.setdefault(value, name[12:])
        elif name.startswith('MLX5_REG_'):
            REGISTERS[name[9:]] = value
            REGISTER_NAMES.setdefault(value, name[9:])
        elif name.startswith('MLX5_EVENT_TYPE_'):
            EVENTS[name[16:]] = value
    SOURCE = directory
    for name, more in _EXTENDED.items():
        _apply(name, more)


# ---- layouts

def declare(name: str, fields: Iterable[tuple], size: int | None = None) -> None:
    """Add a layout that the header lacks.

    :param name: the layout's name.
    :param fields: ``(field, bits)`` in order, ``(field, bits, count)`` for an array, ``(field,
        'layout'[, count])`` for a nested layout; a field name of None or '' is a gap.  ``('@',
        bits)`` moves on to that bit offset.
    :param size: total size in bits when larger than the fields.
    :raises LayoutError: a field name twice, or a position that goes back.
    """
    end, out = 0, {}
    for field, what, *rest in fields:
        if field == '@':
            if what < end:
                raise LayoutError(f'{name}: offset {what:#x} goes back from {end:#x}')
            end = what
            continue
        count = rest[0] if rest else None
        sub = what if isinstance(what, str) else None
        bits = layout_bits(sub) if sub else int(what)
        if field:
            if field in out:
                raise LayoutError(f'{name}.{field} is declared twice')
            out[field] = [end, bits, sub, count]
        end += bits * (1 if count is None else count)
    _DECLARED[name] = _TYPES[name] = [max(end, size or 0), out]
    _ACCESS.pop(name, None)
    _RESERVED.clear()


def extend(name: str, fields: dict[str, tuple[int, int]]) -> None:
    """Add fields to a header's layout that the card has but the header does not name: {field: (bit
    offset, bits)}.

    What the header names already keeps the header's place.
    """
    # Every header that is loaded later lacks them as well.
    _EXTENDED.setdefault(name, {}).update(fields)
    if SOURCE is not None:
        _apply(name, fields)


def _apply(name: str, fields: dict[str, tuple[int, int]]) -> None:
    if name in _TYPES:
        for field, (offset, bits) in fields.items():
            _TYPES[name][1].setdefault(field, [offset, bits, None, None])
        _RESERVED.clear()


def has(name: str) -> bool:
    """Whether there is a layout of that name."""
    load()
    return name in _TYPES


def layout_bits(name: str) -> int:
    """Size in bits of a layout without its flexible tail.

    :raises LayoutError: no such layout.
    """
    if name not in _TYPES:
        load()
    try:
        return _TYPES[name][0]
    except KeyError:
        raise LayoutError(f'no layout {name}') from None


def fields(name: str) -> dict[str, tuple[int, int, str | None, int | None]]:
    """{field: (bit offset, bits, nested layout or None, array count or None, 0 = flexible)} of a
    layout."""
    layout_bits(name)
    return {f: tuple(v) for f, v in _TYPES[name][1].items()}


def reserved(name: str) -> int:
    """Mask of the bits of a layout's fixed part that no field has, as an integer of its bytes; of a
    union, those that no member has."""
    mask = _RESERVED.get(name)
    if mask is None:
        mask = _RESERVED[name] = (1 << layout_bits(name)) - 1 & ~_named(name)
    return mask


def _named(name: str) -> int:
    size, out = layout_bits(name), 0
    for field, (offset, bits, sub, count) in fields(name).items():
        if field.startswith('reserved') or count == 0:
            continue
        one = (1 << bits) - 1 if sub is None else _named(sub)
        for k in range(1 if count is None else count):
            out |= one << size - offset - bits * (k + 1)
    return out


def command_layouts(opcode_name: str) -> tuple[str, str]:
    """Names of a command's input and output layouts; the general header's where the command has
    none of its own."""
    pair = _LAYOUT_NAMES.get(opcode_name) or (opcode_name.lower() + '_in',
                                              opcode_name.lower() + '_out')
    return pair if has(pair[0]) and has(pair[1]) else _ANY_COMMAND


_PART = re.compile(r'(\w+)(?:\[(\d+)\])?$')


def _compile(layout: str, path: str) -> tuple:
    """(first byte, bytes, shift, mask, nested layout, whole array or structure) of a path."""
    offset, bits, sub, whole = 0, 0, layout, False
    for part in path.split('.'):
        m = _PART.match(part)
        if sub is None or m is None:
            raise LayoutError(f'{layout}: no field {path}')
        try:
            o, bits, sub, count = _TYPES[sub][1][m.group(1)]
        except KeyError:
            raise LayoutError(f'{layout}: no field {path}') from None
        offset += o
        whole = sub is not None
        if m.group(2) is not None:
            index = int(m.group(2))
            if count is None or (count and index >= count):
                raise LayoutError(f'{layout}: {path} is not an element of an array')
            offset += index * bits
        elif count is not None:
            bits, whole = bits * count, True
    first, last = offset >> 3, (offset + bits + 7) >> 3
    return first, last - first, last * 8 - offset - bits, (
        1 << bits) - 1, sub, whole and not (offset & 7 or bits & 7)


class FieldError(IndexError):
    """A field that lies beyond the end of the buffer: the command was too short for it."""


class View:
    """One layout laid over a buffer.

    ``view[path]`` gives an int for a field, bytes for a whole array or nested structure; assignment
    takes the same.

    :raises LayoutError: a path that the layout has not.
    :raises FieldError: a field that lies beyond the end of the buffer.
    :raises ValueError: a value that does not fit the field.
    """

    __slots__ = ('name', 'buf', 'base', '_access')

    def __init__(self, name: str, buf: Any, base: int = 0) -> None:
        if name not in _TYPES:
            layout_bits(name)
        self.name, self.buf, self.base = name, buf, base
        access = _ACCESS.get(name)
        if access is None:
            access = _ACCESS[name] = {}
        self._access = access

    def _find(self, path: str) -> tuple:
        a = self._access.get(path)
        if a is None:
            a = self._access[path] = _compile(self.name, path)
        return a

    def __getitem__(self, path: str) -> Any:
        a = self._access.get(path)
        if a is None:
            a = self._find(path)
        first, n, shift, mask, _, whole = a
        first += self.base
        raw = self.buf[first:first + n]
        if len(raw) != n:
            raise FieldError(f'{self.name}.{path} is beyond the end')
        if whole:
            return bytes(raw)
        return int.from_bytes(raw, 'big') >> shift & mask

    def __setitem__(self, path: str, value: Any) -> None:
        first, n, shift, mask, _, whole = self._find(path)
        first += self.base
        if first + n > len(self.buf):
            raise FieldError(f'{self.name}.{path} is beyond the end')
        if not isinstance(value, int):
            if not whole or len(value) != n:
                raise ValueError(f'{self.name}.{path}: {len(value)} bytes do not fit {n}')
            self.buf[first:first + n] = value
            return
        if value & ~mask:
            raise ValueError(
                f'{self.name}.{path}: {value:#x} does not fit {mask.bit_length()} bits')
        if shift or mask.bit_length() != n * 8:
            old = int.from_bytes(self.buf[first:first + n], 'big')
            value = old & ~(mask << shift) | value << shift
        self.buf[first:first + n] = value.to_bytes(n, 'big')

    def set(self, **values: Any) -> None:
        """Assign several fields of the first level."""
        for path, value in values.items():
            self[path] = value

    def sub(self, path: str) -> 'View':
        """View of a nested structure, over the same buffer."""
        first, _, _, _, sub, _ = self._find(path)
        if sub is None:
            raise LayoutError(f'{self.name}.{path} is not a structure')
        return View(sub, self.buf, self.base + first)

    def offset(self, path: str) -> int:
        """Byte offset of a field in the buffer."""
        return self.base + self._find(path)[0]

    def has(self, path: str) -> bool:
        """Whether the layout of this header version has the field."""
        try:
            self._find(path)
        except LayoutError:
            return False
        return True

    @property
    def size(self) -> int:
        """Bytes of the layout without its flexible tail."""
        return (_TYPES[self.name][0] + 7) >> 3

    def array(self, path: str, size: int = 8, limit: int | None = None) -> tuple[int, ...]:
        """Big-endian integers from a flexible array's start to the end of the buffer.

        :param size: bytes of one element, 4 or 8.
        :param limit: at most so many elements.
        """
        at = self.offset(path)
        n = max(0, len(self.buf) - at) // size
        if limit is not None:
            n = min(n, limit)
        raw = memoryview(self.buf)[at:at + n * size]
        return tuple(int.from_bytes(raw[k:k + size], 'big') for k in range(0, n * size, size))


class Layout:
    """A layout by name: ``Layout('cqc').view(buf)``, ``.size`` in bytes, ``.new()`` a view of fresh
    zeroes."""

    __slots__ = ('name', 'size')

    def __init__(self, name: str) -> None:
        self.name, self.size = name, (layout_bits(name) + 7) >> 3

    def view(self, buf: Any, byte_offset: int = 0) -> View:
        """View over ``buf``."""
        return View(self.name, buf, byte_offset)

    def new(self, extra: int = 0) -> View:
        """View over new zeroed memory of the layout's size plus ``extra`` bytes."""
        return View(self.name, bytearray(self.size + extra))


def view(name: str, buf: Any, byte_offset: int = 0) -> View:
    """Lay a layout over a buffer from ``byte_offset`` on."""
    return View(name, buf, byte_offset)


def new(name: str, extra: int = 0) -> View:
    """View over new zeroed memory of a layout's size plus ``extra`` bytes."""
    return Layout(name).new(extra)
