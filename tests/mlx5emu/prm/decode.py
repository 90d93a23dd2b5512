# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What stands in a buffer, field by field, for people and programs that look at a trace."""
from .layouts import View, fields

#: Bytes of an array that are shown.
SHOWN = 64


def decode(view: View) -> dict[str, int | str]:
    """The fields that are not zero: {dotted path: integer, or hexadecimal digits of an array}.
    Reserved ones are among them: what stands there is a mistake.

    A flexible array is shown as far as the buffer goes, a union by its bytes: which member counts
    is not the layout's to say.
    """
    out: dict[str, int | str] = {}
    _decode(view, view.name, 0, '', out)
    return out


def _is_union(name: str) -> bool:
    starts = [(offset, bits) for f, (offset, bits, _, count) in fields(name).items()
              if not f.startswith('reserved') and bits and count != 0]
    return any(a == b for (a, _), (b, _) in zip(starts, starts[1:], strict=False))


def _decode(view: View, layout: str, base: int, prefix: str, out: dict[str, int | str]) -> None:
    """:param base: bits before the layout in the view."""
    for field, (offset, bits, sub, count) in fields(layout).items():
        at = base + offset
        if count == 0:
            _show(view, at, max(0, 8 * (len(view.buf) - view.base) - at), prefix + field, out)
        elif sub is not None and not _is_union(sub):
            for k in range(1 if count is None else count):
                name = field if count is None else f'{field}[{k}]'
                _decode(view, sub, at + k * bits, f'{prefix}{name}.', out)
        elif sub is None and count is None and bits <= 64:
            value = _bits(view, at, bits)
            if value:
                out[prefix + field] = value
        else:
            _show(view, at, bits * (1 if count is None else count), prefix + field, out)


def _bits(view: View, at: int, bits: int) -> int:
    first, last = at >> 3, (at + bits + 7) >> 3
    raw = bytes(view.buf[view.base + first:view.base + last])
    if len(raw) < last - first:
        return 0
    return int.from_bytes(raw, 'big') >> 8 * last - at - bits & (1 << bits) - 1


def _show(view: View, at: int, bits: int, path: str, out: dict[str, int | str]) -> None:
    raw = bytes(view.buf[view.base + (at >> 3):view.base + (at + bits + 7 >> 3)])
    if any(raw):
        raw = raw.rstrip(b'\0')
        more = '' if len(raw) <= SHOWN else f'... ({len(raw)} bytes)'
        out[path] = raw[:SHOWN].hex() + more
