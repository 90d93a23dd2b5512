# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The segments of a send WQE by name, for people and programs that look at a trace."""
from .decode import decode
from .layouts import View, layout_bits
from .wqe import EXTENDED_AV, INLINE, INLINE_COUNT, Op

OP_NAMES = {value: name for name, value in vars(Op).items() if isinstance(value, int)}
_REMOTE = (Op.WRITE, Op.WRITE_IMM, Op.READ, Op.CS, Op.FA, Op.MASKED_CS, Op.MASKED_FA)
_DATA = (Op.SEND, Op.SEND_IMM, Op.SEND_INVAL, *_REMOTE)


def segments(wqe: bytes, op: int, *, addressed: bool, xrc: bool) -> dict[str, dict]:
    """{segment: its fields that are not zero}; what comes after an operation of other kinds than
    sends, reads, writes and atomics is shown by its bytes.

    :param addressed: the WQE has an address vector: it is of UD or DC.
    :param xrc: it names an XRC SRQ.
    """
    out: dict[str, dict] = {}
    pos = 0

    def take(name: str, layout: str) -> None:
        nonlocal pos
        size = layout_bits(layout) + 7 >> 3
        if pos + size <= len(wqe):
            out[name] = decode(View(layout, wqe[pos:pos + size]))
        pos += size

    take('ctrl', 'wqe_ctrl')
    if addressed:
        short = len(wqe) < 28 or not int.from_bytes(wqe[24:28], 'big') & EXTENDED_AV
        take('av', 'wqe_av')
        pos = 32 if short else 64
    if xrc:
        take('xrc', 'wqe_xrc')
    if op in _REMOTE:
        take('raddr', 'wqe_raddr')
    if op in (Op.CS, Op.FA):
        take('atomic', 'wqe_atomic')
    elif op in (Op.MASKED_CS, Op.MASKED_FA):
        take('atomic', 'wqe_masked_atomic')
    elif op == Op.UMR:
        take('umr_ctrl', 'wqe_umr_ctrl')
        take('mkey_context', 'mkc')
    n = 0
    while pos < len(wqe) and op in _DATA:
        word = int.from_bytes(wqe[pos:pos + 4], 'big')
        if word & INLINE:
            count = word & INLINE_COUNT
            out[f'inline[{n}]'] = {'byte_count': count, 'data': wqe[pos + 4:pos + 4 + count].hex()}
            pos += count + 4 + 15 & ~15
        else:
            take(f'data[{n}]', 'wqe_data')
        n += 1
    if pos < len(wqe):
        out['rest'] = {'bytes': wqe[pos:].hex()}
    return out


def buffers(wqe: bytes, skip: int) -> dict[str, dict]:
    """The same of a receive WQE, whose buffers begin after ``skip`` bytes."""
    out: dict[str, dict] = {}
    for n, pos in enumerate(range(skip, len(wqe) - 15, 16)):
        found = decode(View('wqe_data', wqe[pos:pos + 16]))
        if not found.get('byte_count') and found.get('lkey') == 0x100:
            break
        out[f'data[{n}]'] = found
    return out
