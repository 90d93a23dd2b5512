# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What a guest writes to put signatures and encryption behind a key, byte by byte as libmlx5 does,
for tests of the card's model."""
import struct
import zlib

from emulator.driver.guest import Guest, GuestQp, sge
from mlx5emu import prm
from mlx5emu.prm.wqe import UMR_INLINE, Op
from mlx5emu.queues.queue import RTS

SELECTOR = {512: 1, 520: 2, 4096: 3, 4160: 4, 4048: 6}
CRC32, CRC32C, CRC64 = 0x20, 0x40, 0x50
GUARD, APP, REF = 0xc0, 0x30, 0x0f
MASK_LEN, MASK_SIGERR, MASK_BSF, MASK_KEY, MASK_FREE = 1, 1 << 9, 1 << 12, 1 << 13, 1 << 29
MASK_RIGHTS = sum(1 << b for b in (18, 19, 20))
SIG_ERR = 12


def domain_crc(psv: int, kind: int, block: int = 512, seed: int = 1) -> tuple[int, int, bytes]:
    """A CRC domain: selector, format and PSV, no inline section.

    :param seed: 1 for all ones, 0 for zero.
    """
    return SELECTOR[block], (kind | 2 | (0 if seed else 1)) << 24 | psv, bytes(16)


def domain_dif(psv: int, app: int = 0xabcd, ref: int = 0x01234567, block: int = 512,
               checksum: bool = False, seed: int = 1, increment: bool = True, escape: int = 0,
               app_mask: int = 0xffff) -> tuple[int, int, bytes]:
    """A T10-DIF domain."""
    inline = struct.pack('>HHIBB3xBH', 0xc000, app, ref, 2 if checksum else 1,
                         0x80 | (8 if seed else 0), (0x40 if increment else 0) | escape, app_mask)
    return SELECTOR[block], psv, inline


NO_DOMAIN = (0, 0, bytes(16))


def signature_bsf(memory: tuple = NO_DOMAIN, wire: tuple = NO_DOMAIN, check: int = 0xff,
                  same: bool = False, copy: int = 0, raw_size: int = 0xffffffff,
                  size: int = 2) -> bytes:
    """64 bytes of signature format."""
    return struct.pack('>BBBBIII', size << 6 |
                       (0x10 if same else 0), check, copy if same else wire[0], memory[0], raw_size,
                       wire[1], memory[1]) + bytes(16) + wire[2] + memory[2]


def crypto_bsf(dek: int, order: int = 0, unit: int = 512, tweak: bytes = bytes(16),
               keytag: bytes = bytes(8), size: int = 2, raw_size: int = 0xffffffff) -> bytes:
    """64 bytes of encryption format."""
    return struct.pack('>BBxBIB7x16sI4x8s16x', size << 6 | 1, order, 0, raw_size, SELECTOR[unit],
                       tweak, dek, keytag)


def indirect_key(g: Guest, bsf_octowords: int = 4, **entry) -> int:
    """A free indirect key with room for four KLMs and for formats."""
    return g.create_mkey(
        b'', 0, **{
            'access_mode_1_0': 2, 'pd': g.pd, 'umr_en': 1, 'free': 1, 'lr': 1, 'qpn': 0xffffff,
            'translations_octword_size': 4, 'bsf_en': int(bsf_octowords > 0), 'bsf_octword_size':
            bsf_octowords, **entry})


def configure(q: GuestQp, key: int, klms: list[tuple[int, int, int]], bsf: bytes = b'',
              sigerr: int = 1, on: bool = True) -> None:
    """Post the UMR that gives a key its layout and formats.

    :param klms: (address, length, key) of each piece.
    :param sigerr: what the context shall expect of the count of signature errors.
    """
    control = prm.new('wqe_umr_ctrl')
    control.buf[0] = UMR_INLINE
    control.set(xlt_octowords=-(-len(klms) // 4) * 4, xlt_offset=len(bsf) // 16,
                mkey_mask=MASK_LEN | MASK_KEY | MASK_FREE | MASK_RIGHTS | MASK_SIGERR | MASK_BSF)
    context = prm.new('mkc')
    context.set(len=sum(n for _, n, _ in klms), qpn=0xffffff, lr=1, lw=1, rr=1, rw=1,
                bsf_en=int(on), expected_sigerr_count=sigerr)
    entries = b''.join(sge(*klm) for klm in klms)
    q.post_send(Op.UMR, bytes(control.buf), bytes(context.buf), entries + bytes(-len(entries) % 64),
                bsf, imm=key)


def revive(g: Guest, a: GuestQp, b: GuestQp) -> None:
    """Bring two QPs back to life, with nothing posted, when an error stopped one."""
    if a.model.state == RTS and b.model.state == RTS:
        return
    for q in (a, b):
        g.cmd('2RST_QP', qpn=q.number)
        q.posted = q.received = 0
        g.write(q.dbr, bytes(8))
    a.connect(b.number)
    b.connect(a.number)


def psv(q: GuestQp, transient: int = 0) -> int:
    """A new PSV, set by a work request when ``transient`` is not zero; its number."""
    number = q.g.cmd('CREATE_PSV', num_psv=1, pd=q.g.pd)['psv0_index']
    if transient:
        set_psv(q, number, transient)
    return number


def set_psv(q: GuestQp, number: int, transient: int) -> None:
    """Post a SET_PSV work request."""
    q.post_send(Op.SET_PSV, struct.pack('>IH2xQ', number, 0, transient))


def ok(q: GuestQp) -> None:
    """Everything posted completed well."""
    assert [c['opcode'] for c in q.scq.poll()] and q.model.state == RTS


# ---- signatures, by the definitions and not by the card's tables

def crc_bits(data: bytes, polynomial: int, seed: int) -> int:
    """A reflected CRC, bit by bit, complemented at the end."""
    crc = seed
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (polynomial if crc & 1 else 0)
    return crc


def crc_bytes(kind: int, data: bytes, ones: bool = True) -> bytes:
    """What follows a block of a CRC domain."""
    if kind == CRC32:
        return zlib.crc32(data, 0 if ones else 0xffffffff).to_bytes(4, 'little')
    if kind == CRC32C:
        return (crc_bits(data, 0x82f63b78, 0xffffffff if ones else 0) ^ 0xffffffff).to_bytes(
            4, 'little')
    every = (1 << 64) - 1
    return (crc_bits(data, 0x9a6c9329ac4bc9b5, every if ones else 0) ^ every).to_bytes(8, 'little')


def t10_guard(data: bytes, seed: int = 0xffff) -> int:
    """T10-DIF's CRC, bit by bit."""
    crc = seed
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x8bb7 if crc & 0x8000 else 0)) & 0xffff
    return crc


def dif_bytes(data: bytes, app: int, ref: int, seed: int = 0xffff) -> bytes:
    """What follows a block of a T10-DIF domain."""
    return struct.pack('>HHI', t10_guard(data, seed), app, ref & 0xffffffff)


def protect(data: bytes, block: int, signature) -> bytes:
    """Data with ``signature(block's data, index)`` after each whole block."""
    out = b''
    for k, pos in enumerate(range(0, len(data), block)):
        part = data[pos:pos + block]
        out += part + (signature(part, k) if len(part) == block else b'')
    return out
