# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A firmware command as a record of the trace."""
from typing import TYPE_CHECKING, Any

from .. import prm
from ..prm.decode import decode
from .status import NAMES

if TYPE_CHECKING:
    from .dispatch import Command

#: Fields of every command that the record has by itself.
_HEAD = ('opcode', 'uid', 'op_mod', 'status', 'syndrome')


def record(name: str, cmd: 'Command | None', raw: bytes, out: bytes, status: int,
           reason: str, tail: str | None) -> dict[str, Any]:
    """Name, input and output by field, and how it ended.

    :param cmd: None when the command was refused before it was laid out.
    :param tail: layout of what follows the input's header, of a general object.
    """
    entry: dict[str, Any] = {
        'kind': 'command', 'name': name, 'uid': int.from_bytes(raw[2:4], 'big'), 'op_mod':
        int.from_bytes(raw[6:8], 'big'), 'in': {}, 'out': {},
        'status': NAMES.get(status, f'{status:#x}') if status else 'OK',
        'syndrome': int.from_bytes(out[4:8], 'big') if status else 0, 'reason': reason}
    if cmd is None:
        entry['in'] = {'bytes': raw[:256].hex()}
        return entry
    entry['in'] = _body(prm.View(cmd.inp.name, raw))
    if tail is not None and len(raw) > 16:
        entry['in'] |= {f'{tail}.{path}': value
                        for path, value in decode(prm.View(tail, raw, 16)).items()}
    if not status:
        entry['out'] = _body(prm.View(cmd.out.name, out))
    return entry


def _body(view: prm.View) -> dict[str, int | str]:
    return {path: value for path, value in decode(view).items() if path not in _HEAD}
