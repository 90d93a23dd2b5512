# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Big-endian bit-field layouts of the PRM, read from the kernel's own ``mlx5_ifc.h``.

This is the only place that knows bit offsets.  A layout is a C structure ``mlx5_ifc_<name>_bits``
of that header, called ``<name>`` here, or one that was declared with :func:`declare` because the
header lacks it (work queue elements, CQEs, EQEs). A :class:`View` reads and writes fields by dotted
path::

    v = view('create_cq_in', buf)
    v['cq_context.log_cq_size'], v['pas[3]'] = 7, 0x1000
    v.offset('pas'), v.sub('cq_context')['uar_page']

:func:`load` finds the header, parses it once and keeps the result as JSON beside the build (a
    pickle in a shared temporary directory would let others run code in the server).
"""
import glob
import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FORMAT = 3
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


class LayoutError(Exception):
    """The header is missing or does not look like one, or a name is not in it."""


# ---- parsing

class _Parser:
    """Recursive descent over the ``struct``/``union`` bodies of one header."""

    _TOKEN = re.compile(r'\w+|[^\s\w]')

    def __init__(self, types: dict[str, list], constants: dict[str, int]) -> None:
        self.types, self.constants = types, constants
        self.bodies: dict[str, tuple[str, list[str], int]] = {}

    def scan(self, text: str) -> None:
        """Note where each layout's body begins; order in the file does not matter."""
        tokens = self._TOKEN.findall(text)
        for i in range(len(tokens) - 2):
            if tokens[i + 2] == '{' and tokens[i] in (
                    'struct', 'union') and tokens[i + 1].startswith('mlx5_ifc_'):
                self.bodies[_layout_name(tokens[i + 1])] = (tokens[i], tokens, i + 3)

    def resolve_all(self) -> None:
        for name in self.bodies:
            self.resolve(name)

    def resolve(self, name: str) -> list:
        if name not in self.types:
            if name not in self.bodies:
                raise LayoutError(f'no layout {name}')
            kind, tokens, at = self.bodies[name]
            self.types[name] = [0, {}]
            self.body(self.types[name], name, kind, tokens, at)
        return self.types[name]

    def body(self, typ: list, name: str, kind: str, tok: list[str], i: int) -> int:
        """Fill ``typ`` from the tokens after '{'; return the index after '}'."""
        end = 0
        while tok[i] != '}':
            start = 0 if kind == 'union' else end
            if tok[i] == 'u8':
                field, dims, i = tok[i + 1], *self.dims(tok, i + 2)
                bits = dims[-1] if dims else 8
                count = _product(dims[:-1])
                typ[1][field] = [start, bits, None, count]
                size = bits * (1 if count is None else count)
            elif tok[i] in ('struct', 'union') and tok[i + 1] == '{':
                inner: list = [0, {}]
                j = self.body(inner, f'{name}.{i}', tok[i], tok, i + 2)
                if tok[j] == ';':
                    for f, (o, b, s, c) in inner[1].items():
                        typ[1][f] = [start + o, b, s, c]
                    size, i = inner[0], j
                else:
                    sub = f'{name}.{tok[j]}'
                    self.types[sub] = inner
                    typ[1][tok[j]] = [start, inner[0], sub, None]
                    size, i = inner[0], j + 1
            elif tok[i] in ('struct', 'union'):
                sub = _layout_name(tok[i + 1])
                field, dims, i = tok[i + 2], *self.dims(tok, i + 3)
                bits, count = self.resolve(sub)[0], _product(dims)
                typ[1][field] = [start, bits, sub, count]
                size = bits * (1 if count is None else count)
            elif tok[i] == 'DECLARE_FLEX_ARRAY':
                # ( struct mlx5_ifc_x_bits , name )
                sub = _layout_name(tok[i + 3])
                typ[1][tok[i + 5]] = [start, self.resolve(sub)[0], sub, 0]
                size, i = 0, i + 7
            else:
                raise LayoutError(f'{name}: cannot read {" ".join(tok[i:i + 6])}')
            if tok[i] != ';':
                raise LayoutError(f'{name}: expected ; before {" ".join(tok[i:i + 6])}')
            i += 1
            end = start + size
            typ[0] = max(typ[0], end)
        return i + 1

    def dims(self, tok: list[str], i: int) -> tuple[list[int], int]:
        out = []
        while tok[i] == '[':
            j = tok.index(']', i)
            out.append(_evaluate(' '.join(tok[i + 1:j]) or '0', self.constants))
            i = j + 1
        return out, i


def _layout_name(c_name: str) -> str:
    return c_name.removeprefix('mlx5_ifc_').removesuffix('_bits')


def _product(dims: list[int]) -> int | None:
    if not dims:
        return None
    n = 1
    for d in dims:
        n *= d
    return n


_ATOM = re.compile(r'\s*(0[xX][0-9a-fA-F]+|\d+|\w+|<<|>>|[-+*|()~])\s*')


def _evaluate(text: str, known: dict[str, int]) -> int:
    """Value of a constant C expression; ValueError for what is not one."""
    out, i = [], 0
    text = re.sub(r'(?<=[0-9a-fA-F])[uUlL]+\b', '', text)
    text = re.sub(r'\bBIT(?:_ULL)?\s*\(', '(1 << ', text)
    while i < len(text):
        m = _ATOM.match(text, i)
        if not m:
            raise ValueError(text)
        a = m.group(1)
        if a[0].isdigit():
            out.append(str(int(a, 0) if a[:2] in ('0x', '0X') else int(a)))
        elif a[0].isalpha() or a[0] == '_':
            if a not in known:
                raise ValueError(text)
            out.append(str(known[a]))
        else:
            out.append(a)
        i = m.end()
    source = ' '.join(out)
    # Only digits, operators and parentheses are left: nothing that can name or call anything.
    if len(source) > 200 or re.search(r'\d{25}|\*\s*\*', source):
        raise ValueError(text)
    try:
        return int(eval(source, {'__builtins__': {}}))  # noqa: S307
    except (SyntaxError, TypeError) as e:
        raise ValueError(text) from e


def _clean(text: str) -> str:
    text = re.sub(r'/\*.*?\*/', ' ', text, flags=re.S)
    return re.sub(r'//[^\n]*', ' ', text)


def _read_constants(text: str, known: dict[str, int]) -> None:
    for m in re.finditer(r'^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+((?:\\\n|[^\n])+)$', text,
                         flags=re.M):
        try:
            known.setdefault(m.group(1), _evaluate(m.group(2).replace('\\\n', ' '), known))
        except ValueError:
            pass
    for m in re.finditer(r'\benum\b\s*\w*\s*\{([^{}]*)\}', text):
        value: int | None = -1
        for item in m.group(1).split(','):
            name, _, expr = item.partition('=')
            name = name.strip()
            if not re.fullmatch(r'\w+', name):
                continue
            if expr:
                try:
                    value = _evaluate(expr, known)
                except ValueError:
                    value = None
            elif value is not None:
                value += 1
            if value is not None:
                known.setdefault(name, value)


_HEADERS = ('mlx5_ifc_fpga.h', 'mlx5_ifc.h', 'mlx5_ifc_vdpa.h', 'device.h', 'driver.h', 'qp.h',
            'cq.h', 'port.h')


def _parse(directory: str) -> dict[str, Any]:
    types: dict[str, list] = {}
    constants: dict[str, int] = {}
    parser = _Parser(types, constants)
    texts = []
    for header in _HEADERS:
        path = os.path.join(directory, header)
        if header != 'mlx5_ifc.h' and not os.path.exists(path):
            continue
        with open(path, encoding='utf-8') as f:
            texts.append((header, _clean(f.read())))
        _read_constants(texts[-1][1], constants)
    for header, text in texts:
        if header.startswith('mlx5_ifc'):
            parser.scan(re.sub(r'^[ \t]*#(?:\\\n|[^\n])*$', '', text, flags=re.M))
    parser.resolve_all()
    if not any(n.startswith('MLX5_CMD_OP_') for n in constants) or 'cmd_hca_cap' not in types:
        raise LayoutError(f'{directory}/mlx5_ifc.h is not the mlx5 interface header')
    return {'types': types, 'enum': constants}


# ---- loading

def find_headers() -> str:
    """Directory of ``mlx5_ifc.h``: $MLX5_INCLUDE, then build/ of this tree, then the machine's
    kernel headers.

    :raises LayoutError: nowhere to be found.
    """
    env = os.environ.get('MLX5_INCLUDE')
    if env:
        candidates = [env, os.path.join(env, 'linux/mlx5'), os.path.join(env, 'include/linux/mlx5')]
    else:
        top = str(Path(__file__).resolve().parents[3])
        tail = 'usr/src/linux-headers-*/include/linux/mlx5'
        candidates = sorted(
            glob.glob(f'{top}/build/{tail}') + glob.glob(f'{top}/build/*/{tail}'), reverse=True)
        candidates += sorted(glob.glob('/' + tail), reverse=True)
    for c in candidates:
        if os.path.exists(os.path.join(c, 'mlx5_ifc.h')):
            return c
    raise LayoutError(
        'mlx5_ifc.h not found: set MLX5_INCLUDE to the directory include/linux/mlx5 of a kernel headers package'
    )


def _cache_path(directory: str) -> str:
    top = str(Path(__file__).resolve().parents[3])
    build = os.path.join(top, 'build')
    base = build if os.path.isdir(build) and os.access(build, os.W_OK) else tempfile.gettempdir()
    tag = re.sub(r'\W+', '_', os.path.abspath(directory))[-80:]
    return os.path.join(base, f'mlx5_ifc-{os.getuid()}-{tag}.json')


def _stamp(directory: str) -> list:
    out: list = [FORMAT]
    for header in _HEADERS:
        try:
            st = os.stat(os.path.join(directory, header))
        except FileNotFoundError:
            continue
        out.append([header, st.st_mtime_ns, st.st_size])
    return out


def _from_cache(path: str, stamp: list) -> dict[str, Any] | None:
    try:
        with open(path, encoding='utf-8') as f:
            if os.fstat(f.fileno()).st_uid != os.getuid():
                return None
            data = json.load(f)
        if data['stamp'] == stamp and data['types']['cmd_hca_cap'][0] and data['enum'][
                'MLX5_CMD_OP_QUERY_HCA_CAP']:
            return data
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        pass
    return None


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
        stamp = _stamp(directory)
        cache = _cache_path(directory)
        data = _from_cache(cache, stamp)
        if data is None:
            data = _parse(directory)
            _keep(cache, dict(data, stamp=stamp))
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


def _keep(path: str, data: dict[str, Any]) -> None:
    try:
        fd, tmp = tempfile.mkstemp(dir=os.path.dirname(path), prefix='.mlx5_ifc')
        try:
            with os.fdopen(fd, 'w', encoding='utf-8') as f:
                json.dump(data, f)
            os.replace(tmp, path)
        except OSError:
            os.unlink(tmp)
    except OSError:
        pass    # a cache that cannot be written costs half a second, no more


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

    def nonzero(self, most: int = 12) -> str:
        """Fields that are not zero, for logs."""
        out: list[str] = []
        for f, (o, bits, sub, count) in _TYPES[self.name][1].items():
            if len(out) >= most:
                break
            if sub or count is not None or bits > 64 or f.startswith('reserved') or f in (
                    'opcode', 'status', 'syndrome'):
                continue
            if self.base + ((o + bits + 7) >> 3) <= len(self.buf) and self[f]:
                out.append(f'{f}={self[f]:#x}')
        return ' '.join(out)


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
