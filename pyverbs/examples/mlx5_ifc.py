# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
DEVX commands by the names of their fields, which are read from the kernel's header mlx5_ifc.h.

The header is that of the installed kernel headers (Debian: linux-headers-amd64, Fedora:
kernel-devel), or of the directory that MLX5_INCLUDE names. On the emulated card that is set.
"""
import glob
import os
import re
from typing import Any, Dict, Mapping, Match, Pattern, Tuple, Union

#: Of a field, for a command; where fields are: first bit and number of bits by name.
Value = Union[int, bytes]
Places = Dict[str, Tuple[int, int]]
DIRECTORIES = (f'/lib/modules/{os.uname().release}/source/include/linux/mlx5',
               f'/lib/modules/{os.uname().release}/build/include/linux/mlx5',
               '/usr/src/linux-headers-*-common/include/linux/mlx5')
#: A field: u8 or a structure, its name, its dimensions; or the end of an unnamed structure.
FIELD = re.compile(r'\s*(?:(?:struct|union)\s+mlx5_ifc_(\w+)|u8)\s+(\w+)((?:\[\w*\])*)\s*;')
OPEN, CLOSE = re.compile(r'\s*(struct|union)\s*\{'), re.compile(r'\s*\}\s*(\w*)((?:\[\w*\])*)\s*;')
#: What the device has and the header does not name: {structure: {field: (first bit, bits)}}.
UNNAMED: Dict[str, Places] = {
           'create_cq_in_bits': {'cq_umem_offset': (0x280, 64), 'cq_umem_id': (0x2c0, 32)},
           'create_mkey_in_bits': {'mkey_umem_id': (0x320, 32), 'mkey_umem_offset': (0x340, 64)},
           'cqc_bits': {'dbr_umem_id': (0x20, 32)}, 'qpc_bits': {'dbr_umem_id': (0x720, 32)}}


def read_header() -> str:
    """The header's text, without comments."""
    wanted = [os.environ['MLX5_INCLUDE']] if 'MLX5_INCLUDE' in os.environ else DIRECTORIES
    found = [path for d in wanted for path in sorted(glob.glob(f'{d}/mlx5_ifc.h'))]
    if not found:
        raise SystemExit(f"no mlx5_ifc.h in {' '.join(wanted)}: install the kernel's headers, or "
                         'name their directory include/linux/mlx5 by MLX5_INCLUDE')
    with open(found[-1]) as header:
        text = re.sub(r'/\*.*?\*/|//[^\n]*', '', header.read(), flags=re.DOTALL)
    return re.sub(r'DECLARE_FLEX_ARRAY\(([^,]*), (\w+)\)', r'\1 \2[]', text)


TEXT = read_header()
BODIES = {name: (kind, at) for kind, name, at in (
    (m[1], m[2], m.end())
    for m in re.finditer(r'^(struct|union) mlx5_ifc_(\w+) \{', TEXT, re.MULTILINE))}
OPCODES = {name: int(value, 16)
           for name, value in re.findall(r'MLX5_CMD_OP_(\w+)\s*=\s*(0x[0-9a-fA-F]+)', TEXT)}


def number_of(count: str) -> int:
    """How many elements an array has: none, in the structure's size, where the header leaves that
    open."""
    if count and not count[0].isdigit():
        named = re.search(rf'\b{count}\s*=\s*(\w+)', TEXT)
        if not named:
            raise KeyError(f'{count} is of another header')
        count = named[1]
    return int(count or '0', 0)


def expect(pattern: Pattern[str], at: int) -> Match[str]:
    """What has to be at a place of the header."""
    found = pattern.match(TEXT, at)
    if not found:
        raise ValueError(f'mlx5_ifc.h is written otherwise than expected: {TEXT[at:at + 60]!r}')
    return found


def fields(kind: str, at: int) -> Tuple[Places, int, int]:
    """
    Names of a structure's fields with their place in bits.
    :param kind: struct or union
    :param at: where its body begins in the header
    :return: {name: (first bit, bits)}, its size in bits, and where its body ends
    """
    found: Places = {}
    size = 0
    while not CLOSE.match(TEXT, at):
        first = 0 if kind == 'union' else size
        inner = OPEN.match(TEXT, at)
        if inner:
            names, bits, at = fields(inner[1], inner.end())
            m = expect(CLOSE, at)
            name, dimensions = m[1], m[2]
        else:
            m = expect(FIELD, at)
            names, bits = layout(m[1]) if m[1] else ({}, 1)
            name, dimensions = m[2], m[3]
        at, prefix = m.end(), f'{name}.' if name else ''
        for count in re.findall(r'\[(\w*)\]', dimensions):
            bits *= number_of(count)
        if name:
            found[name] = first, bits
        found.update({prefix + name: (first + start, n) for name, (start, n) in names.items()})
        size = max(size, bits) if kind == 'union' else size + bits
    return found, size, at


def layout(name: str) -> Tuple[Places, int]:
    """Fields and size in bits of a structure of the header, named without mlx5_ifc_."""
    if name not in BODIES:
        # Of another header: the FPGA's capabilities, which are one of many in a union.
        return {}, 0
    found, size, _ = fields(*BODIES[name])
    return {**UNNAMED.get(name, {}), **found}, size


def command(name: str, values: Mapping[str, Value], tail: bytes = b'') -> bytes:
    """
    A command's mailbox.
    :param name: As in the header's enumeration: CREATE_MKEY
    :param values: {field: number or bytes}; a field of a context is context.field
    :param tail: What follows the fields, as addresses
    """
    names, size = layout(f'{name.lower()}_in_bits')
    if not size:
        raise ValueError(f'{name}: no such command in the header')
    number = OPCODES[name] << size - 16
    for field, value in values.items():
        first, bits = names[field]
        value = int.from_bytes(value, 'big') if isinstance(value, bytes) else value
        if value >> bits:
            raise ValueError(f'{name}: {value:#x} does not fit the {bits} bits of {field}')
        number |= value << size - first - bits
    return number.to_bytes(size >> 3, 'big') + tail


def answer(name: str, data: Any) -> Dict[str, int]:
    """
    What a command answered.
    :param name: Of the command
    :param data: The answer, as Mlx5DevxObj.out_view
    :return: {field: number}, of the fields that the answer has room for
    """
    names, _ = layout(f'{name.lower()}_out_bits')
    number, size = int.from_bytes(bytes(data), 'big'), len(data) * 8
    return {field: number >> size - first - bits & (1 << bits) - 1
            for field, (first, bits) in names.items() if first + bits <= size}


def answer_size(name: str) -> int:
    """Bytes of a command's answer, without what may follow its fields."""
    return layout(f'{name.lower()}_out_bits')[1] >> 3
