# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The crypto engine: logins, encryption keys, and what is encrypted between memory and wire."""
import json
import random
import struct

import pytest
from emulator.driver.commands import CommandFailed
from emulator.driver.guest import PAGE, Guest, GuestCq, connected, raddr, sge
from emulator.driver.signatures import (
    CRC32,
    SIG_ERR,
    configure,
    crc_bytes,
    crypto_bsf,
    dif_bytes,
    domain_crc,
    domain_dif,
    indirect_key,
    ok,
    protect,
    psv,
    revive,
    signature_bsf,
)
from mlx5emu import prm
from mlx5emu.firmware.status import CODES, NAMES
from mlx5emu.memory import aes, commissioning
from mlx5emu.memory.crypto_login import CRYPTO_LOGIN
from mlx5emu.memory.encryption_key import DEK
from mlx5emu.prm.wqe import Op, Syndrome
from mlx5emu.queues.queue import RTS

KEK, CREDENTIAL = commissioning.IMPORT_KEKS[0], commissioning.CREDENTIALS[0]
KEY = bytes(range(32))
PLAIN_CARD = {'cap_overrides': ('crypto.wrapped_import_method=0',)}


def create(g: Guest, obj_type: int, layout: str, uid: int = 0, **fields) -> tuple[str, int]:
    """Status and number of a new general object."""
    body = prm.new(layout)
    body.set(**fields)
    head = prm.new('general_obj_in_cmd_hdr')
    head.set(opcode=prm.OPCODES['CREATE_GENERAL_OBJECT'], obj_type=obj_type, uid=uid)
    out = g.card.execute(bytes(head.buf) + bytes(body.buf), 16)
    return NAMES.get(out[0], 'OK'), int.from_bytes(out[8:12], 'big')


def login(g: Guest, uid: int = 0, credential: bytes = CREDENTIAL, kek: bytes = KEK,
          **fields) -> tuple[str, int]:
    """Log in."""
    return create(g, CRYPTO_LOGIN, 'crypto_login_obj', uid, credential=aes.wrap(kek, credential),
                  **fields)


def dek(g: Guest, key: bytes = KEY, uid: int = 0, wrapped: bool = True, kek: bytes = KEK,
        **fields) -> tuple[str, int]:
    """A new encryption key."""
    raw = aes.wrap(kek, key) if wrapped else key
    return create(
        g, DEK, 'data_encryption_key', uid, **{
            'key': raw.ljust(128, b'\0'), 'key_purpose': 3, 'pd': g.pd, 'key_size':
            int(len(key) >= 64), **fields})


def query(g: Guest, obj_type: int, number: int, layout: str, uid: int = 0) -> tuple[int, prm.View]:
    """Status and contents of a general object."""
    head = prm.new('general_obj_in_cmd_hdr')
    head.set(opcode=prm.OPCODES['QUERY_GENERAL_OBJECT'], obj_type=obj_type, obj_id=number, uid=uid)
    out = bytearray(g.card.execute(bytes(head.buf), 16 + (prm.layout_bits(layout) >> 3)))
    return out[0], prm.View(layout, out, 16)


def destroy(g: Guest, obj_type: int, number: int, uid: int = 0) -> int:
    """Status of destroying a general object."""
    head = prm.new('general_obj_in_cmd_hdr')
    head.set(opcode=prm.OPCODES['DESTROY_GENERAL_OBJECT'], obj_type=obj_type, obj_id=number,
             uid=uid)
    return g.card.execute(bytes(head.buf), 16)[0]


def test_ciphers() -> None:
    """Vectors of IEEE 1619 (vector 2) and RFC 3394 (4.1)."""
    out = aes.xts(b'\x11' * 16 + b'\x22' * 16, True, 512, 0x3333333333, b'\x44' * 32)
    assert out.hex() == 'c454185e6a16936e39334038acef838bfb186fff7480adc4289382ecd6d394f0'
    kek, key = bytes(range(16)), bytes.fromhex('00112233445566778899aabbccddeeff')
    assert aes.wrap(kek, key).hex() == '1fa68b0a8112b447aef34bd8fb5a7b829d3e862371d2cfe5'
    assert aes.unwrap(kek, aes.wrap(kek, key)) == key
    with pytest.raises(aes.WrapError):
        aes.unwrap(kek, bytes(24))
    with pytest.raises(aes.WrapError):
        aes.unwrap(kek, b'')


def test_details_of_the_tests(guest: Guest) -> None:
    """What rdma-core's tests are given opens a session, is a key, and is what that key encrypts."""
    details = json.loads(commissioning.test_details())[0]
    credential, wrapped, wide = (struct.pack(f'!{n}Q', *details[name]) for name, n in (
        ('credential', 6), ('wrapped_key', 5), ('wrapped_256_bits_key', 9)))
    assert create(guest, CRYPTO_LOGIN, 'crypto_login_obj', credential=credential)[0] == 'OK'
    numbers = [
        create(guest, DEK, 'data_encryption_key', key=raw.ljust(128, b'\0'), key_size=size,
               key_purpose=3, pd=guest.pd)[1] for size, raw in enumerate((wrapped, wide))]
    keys = [guest.card.general_objects.find(n).key for n in numbers]
    assert keys == [
        struct.pack('8I', *details['plaintext_key']),
        struct.pack('16I', *details['plaintext_256_bits_key'])]
    for n in (512, 1024):
        assert struct.pack(f'!{n // 8}Q', *details[f'encrypted_data_for_{n}_c']) == enc(
            b'c' * n, key=keys[0])


@pytest.mark.parametrize(
    ('fields', 'status'), [({}, 'OK'), ({'credential': CREDENTIAL[:-1] + b'\0'}, 'BAD_PARAM'),
                           ({'kek': bytes(16)}, 'BAD_PARAM'),
                           ({'credential_pointer': 1}, 'BAD_PARAM'),
                           ({'session_import_kek_ptr': 1}, 'BAD_PARAM')])
def test_login(guest: Guest, fields: dict, status: str) -> None:
    """Only the credential that the card keeps, wrapped by the import KEK that it keeps."""
    how, number = login(guest, **fields)
    assert how == status
    assert (CRYPTO_LOGIN in [o.obj_type for o in guest.card.general_objects]) == (status == 'OK')
    if status == 'OK':
        code, view = query(guest, CRYPTO_LOGIN, number, 'crypto_login_obj')
        assert (code, view['state'], view['credential']) == (0, 0, bytes(48))


def test_one_login_a_context(guest: Guest) -> None:
    """Another context may have one too; after logging out, again."""
    uid, other = guest.cmd('CREATE_UCTX')['uid'], guest.cmd('CREATE_UCTX')['uid']
    _, number = login(guest, uid)
    assert login(guest, uid)[0] == 'EXCEED_LIM'
    assert login(guest, other)[0] == 'OK'
    assert destroy(guest, CRYPTO_LOGIN, number, uid) == 0
    assert login(guest, uid)[0] == 'OK'


def test_wrapped_keys(guest: Guest) -> None:
    """Created and queried in a session only; they outlive it."""
    assert dek(guest)[0] == 'BAD_PARAM'
    session = login(guest)[1]
    status, number = dek(guest, opaque=0x1234)
    assert status == 'OK' and guest.card.general_objects.find(number).key == KEY
    code, view = query(guest, DEK, number, 'data_encryption_key')
    assert (code, view['opaque'], view['state'], view['pd'], view['key']) == (0, 0x1234, 0,
                                                                              guest.pd, bytes(128))
    assert destroy(guest, CRYPTO_LOGIN, session) == 0
    assert query(guest, DEK, number, 'data_encryption_key')[0] == CODES['BAD_RES_STATE']
    assert guest.card.general_objects.find(number).key == KEY
    assert destroy(guest, DEK, number) == 0


@pytest.mark.parametrize(('kw', 'status'), [({'key': bytes(range(64))}, 'OK'),
                                            ({'key': bytes(range(40)), 'has_keytag': 1}, 'OK'),
                                            ({'kek': bytes(16)}, 'BAD_PARAM'),
                                            ({'key': bytes(range(64)), 'key_size': 0}, 'BAD_PARAM'),
                                            ({'key_size': 2}, 'BAD_PARAM'),
                                            ({'key_purpose': 1}, 'BAD_PARAM'),
                                            ({'sw_wrapped': 1}, 'BAD_PARAM'),
                                            ({'pd': 0x999}, 'BAD_RES'),
                                            ({'key': bytes(range(16)) * 2}, 'BAD_PARAM'),
                                            ({'wrapped': False}, 'BAD_PARAM'),
                                            ({'has_keytag': 1}, 'BAD_PARAM')])
def test_key_checked(guest: Guest, kw: dict, status: str) -> None:
    """Size, purpose, domain, wrapping; the two halves of a key must differ."""
    login(guest)
    assert dek(guest, **kw)[0] == status
    assert len(guest.card.general_objects) == (2 if status == 'OK' else 1)


def test_keys_of_others(guest: Guest) -> None:
    """A context has its own domain, its own session and its own keys; its domain lives as long as a
    key in it."""
    uid, other = guest.cmd('CREATE_UCTX')['uid'], guest.cmd('CREATE_UCTX')['uid']
    pd = guest.cmd('ALLOC_PD', uid=uid)['pd']
    login(guest, uid)
    assert dek(guest, uid=other, pd=pd)[0] == 'BAD_RES'
    number = dek(guest, uid=uid, pd=pd)[1]
    assert query(guest, DEK, number, 'data_encryption_key', other)[0] == destroy(
        guest, DEK, number, other) == CODES['BAD_RES']
    assert guest.fails('DEALLOC_PD', pd=pd, uid=uid) == 'BAD_RES_STATE'
    assert destroy(guest, DEK, number, uid) == 0
    assert guest.fails('DEALLOC_PD', pd=pd, uid=uid) == 'OK'


def test_too_many_keys() -> None:
    """As many as the capabilities say."""
    g = Guest(cap_overrides=('crypto.log_max_num_deks=1',))
    login(g)
    assert [dek(g)[0] for _ in range(3)] == ['OK', 'OK', 'EXCEED_LIM']


def test_plaintext_card() -> None:
    """A card that was sold so takes keys as they are, and nobody can log in to it."""
    g = Guest(**PLAIN_CARD)
    assert login(g)[0] == 'BAD_PARAM'
    number = dek(g, wrapped=False)[1]
    assert g.card.general_objects.find(number).key == KEY
    assert query(g, DEK, number, 'data_encryption_key')[0] == 0


def test_card_without_crypto() -> None:
    """ConnectX-5 has neither logins nor keys, nor takes formats of encryption."""
    g = Guest(profile='connectx5')
    assert login(g)[0] == dek(g)[0] == 'BAD_PARAM'
    with pytest.raises(CommandFailed) as refused:
        indirect_key(g, crypto_en=1)
    assert refused.value.status == 'BAD_PARAM'
    a, _ = connected(g)
    configure(a, indirect_key(g), [(g.alloc(PAGE), 512, 0x300)], crypto_bsf(1))
    assert a.scq.poll()[0]['syndrome'] == Syndrome.MW_BIND


def test_no_ciphers_installed(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenSSL the card works, but makes no keys."""
    wrapped = aes.wrap(KEK, KEY)

    def without(name: str, *args, **kw):
        raise OSError(f'{name}: cannot open shared object file')
    login(guest)
    monkeypatch.setattr(aes.ctypes, 'CDLL', without)
    monkeypatch.setattr(aes, '_library', aes._library.__wrapped__)
    assert create(guest, DEK, 'data_encryption_key', key=wrapped.ljust(128, b'\0'), key_purpose=3,
                  pd=guest.pd)[0] == 'NO_RES'


# ---- data

class Traffic:
    """A key of one encryption key over ``memory``, and a peer with plain memory ``far``."""

    def __init__(self, g: Guest, key: bytes = KEY, both: bool = False, **kw) -> None:
        self.g = g
        login(g)
        self.dek = dek(g, key, **kw)[1]
        self.a, self.b = connected(g, rcq=GuestCq(g))
        self.memory, self.far = g.alloc(4 * PAGE), g.alloc(4 * PAGE)
        self.plain, self.far_key = g.mkey(self.memory, 4 * PAGE), g.mkey(self.far, 4 * PAGE)
        self.key = indirect_key(g, 8 if both else 4, crypto_en=1)

    def set(self, n: int, raw: bytes) -> None:
        """Give the key ``n`` bytes of memory and formats."""
        configure(self.a, self.key, [(self.memory, n, self.plain)], raw)
        ok(self.a)

    def out(self, memory: bytes, n: int) -> bytes:
        """``n`` bytes on the wire of what is in memory."""
        self.g.write(self.memory, memory)
        self.a.post_send(Op.WRITE, raddr(self.far, self.far_key), sge(0, n, self.key))
        return self.g.read(self.far, n)

    def into(self, wire: bytes, n: int) -> bytes:
        """``n`` bytes in memory of what comes from the wire."""
        self.g.write(self.memory, bytes(n))
        self.g.write(self.far, wire)
        self.a.post_send(Op.READ, raddr(self.far, self.far_key), sge(0, len(wire), self.key))
        return self.g.read(self.memory, n)

    def done(self) -> None:
        """Everything completed well."""
        assert all(c['opcode'] == 0 for c in self.a.scq.poll())

    def failed(self) -> int:
        """Syndrome of the last work request."""
        return self.a.scq.poll()[-1]['syndrome']


def data_of(n: int) -> bytes:
    """Bytes that differ."""
    return random.Random(n).randbytes(n)


def enc(data: bytes, unit: int = 512, tweak: int = 0, key: bytes = KEY) -> bytes:
    """What is encrypted."""
    return aes.xts(key, True, unit, tweak, data)


@pytest.mark.parametrize('order', [0, 1, 2, 3])
@pytest.mark.parametrize(('unit', 'n'), [(512, 1536), (512, 48), (520, 1040), (4096, 4096 + 512),
                                         (4048, 4048), (4160, 8320)])
def test_without_signature(guest: Guest, order: int, unit: int, n: int) -> None:
    """Encrypted on the way out by the even orders, on the way in by the odd ones; each unit has its
    own tweak."""
    t = Traffic(guest)
    tweak = (1 << 128) - 2
    t.set(n, crypto_bsf(t.dek, order, unit, tweak.to_bytes(16, 'big')))
    data, secret = data_of(n), enc(data_of(n), unit, tweak)
    memory, wire = (data, secret) if order in (0, 2) else (secret, data)
    assert t.out(memory, n) == wire
    assert t.into(wire, n) == memory
    t.done()


def test_256_bits(guest: Guest) -> None:
    """Keys of twice 256 bits."""
    key = bytes(range(64))
    t = Traffic(guest, key)
    t.set(512, crypto_bsf(t.dek))
    assert t.out(data_of(512), 512) == enc(data_of(512), key=key)


def test_with_signatures(guest: Guest) -> None:
    """Every row of the order's table: which of data and signatures is encrypted, and where."""
    t = Traffic(guest, both=True)
    one, two = psv(t.a, 0xffffffff << 32), psv(t.a, 0xffffabcd01234567)
    data = data_of(1024)

    def crc(part: bytes, k: int) -> bytes:
        return crc_bytes(CRC32, part)

    def dif(part: bytes, k: int) -> bytes:
        return dif_bytes(part, 0xabcd, 0x01234567 + k)
    c, d = domain_crc(one, CRC32), domain_dif(two)
    with_dif, with_crc = protect(data, 512, dif), protect(data, 512, crc)
    # memory and wire domain, order, unit, in memory, on the wire
    rows = [
        ((), d, 2, 512, data, protect(enc(data), 512, dif)),                                # B
        ((), d, 0, 520, data, enc(with_dif, 520)),                                          # C
        (d, (), 0, 512, with_dif, enc(data)),                                               # D
        (d, c, 0, 512, with_dif,
         enc(with_crc[:1024]) + b''),                               # E, as far as whole units go
        ((), d, 1, 512, enc(data), with_dif),                                               # G
        (d, (), 1, 520, enc(with_dif, 520), data),                                          # H
        (d, c, 1, 520, enc(with_dif, 520), with_crc),                                       # I
        (d, (), 3, 512, protect(enc(data), 512, dif), data),                                # J
    ]
    for k, (inside, outside, order, unit, memory, wire) in enumerate(rows):
        sides = {name: side for name, side in (('memory', inside), ('wire', outside)) if side}
        raw = signature_bsf(**sides, size=3) + crypto_bsf(t.dek, order, unit, size=3)
        t.set(len(memory), raw)
        assert t.out(memory, len(wire)) == wire, k
        t.done()
        # where the wire stops inside a block, its signature is not known on the way back
        if k != 3:
            assert t.into(wire, len(memory)) == memory, k
            t.done()


def test_signature_of_what_is_encrypted_is_checked(guest: Guest) -> None:
    """A wrong byte on the encrypted wire spoils the block, which its guard tells."""
    t = Traffic(guest, both=True)
    t.set(
        512,
        signature_bsf(wire=domain_dif(psv(t.a, 0xffffabcd01234567)), size=3) +
        crypto_bsf(t.dek, 0, 520, size=3))
    wire = bytearray(
        enc(protect(data_of(512), 512, lambda part, k: dif_bytes(part, 0xabcd, 0x01234567)), 520))
    wire[3] ^= 1
    assert t.into(bytes(wire), 512) != data_of(512)
    assert [c['opcode'] for c in t.a.scq.poll()] == [SIG_ERR, 0]


@pytest.mark.parametrize('order', [2, 3])
def test_raw_between_signatures(guest: Guest, order: int) -> None:
    """What the device cannot do is refused when the key is made."""
    t = Traffic(guest, both=True)
    raw = signature_bsf(domain_dif(1), domain_dif(2), size=3) + crypto_bsf(t.dek, order, size=3)
    configure(t.a, t.key, [(t.memory, 520, t.plain)], raw)
    assert t.failed() == Syndrome.MW_BIND


@pytest.mark.parametrize(('unit', 'n'), [(512, 47), (512, 8), (512, 520), (520, 512), (520, 528)])
def test_length_for_the_unit(guest: Guest, unit: int, n: int) -> None:
    """Lengths that AES-XTS cannot do are refused, and nothing is written."""
    t = Traffic(guest)
    t.set(4096, crypto_bsf(t.dek, 0, unit))
    assert t.out(data_of(n), n) == bytes(n)
    assert t.failed() == Syndrome.LOCAL_PROT


def test_not_configured(guest: Guest) -> None:
    """A key that was made for encryption does nothing without; neither when its encryption key is
    gone."""
    t = Traffic(guest)
    configure(t.a, t.key, [(t.memory, 512, t.plain)], on=False)
    t.out(data_of(512), 512)
    assert t.failed() == Syndrome.LOCAL_PROT
    t = Traffic(Guest())
    t.set(512, signature_bsf(wire=domain_dif(psv(t.a, 1))))
    t.out(data_of(512), 512)
    assert t.failed() == Syndrome.LOCAL_PROT
    t = Traffic(Guest())
    t.set(512, crypto_bsf(t.dek))
    assert destroy(t.g, DEK, t.dek) == 0
    assert t.out(data_of(512), 512) == bytes(512)
    assert t.failed() == Syndrome.LOCAL_PROT


def test_begins_at_a_unit(guest: Guest) -> None:
    """An offset has the tweak of its unit; one inside a unit is refused."""
    t = Traffic(guest)
    t.set(1024, crypto_bsf(t.dek))
    guest.write(t.memory, data_of(1024))
    t.b.post_send(Op.READ, raddr(512, t.key), sge(t.far, 512, t.far_key))
    assert guest.read(t.far, 512) == enc(data_of(1024))[512:]
    t.b.post_send(Op.READ, raddr(16, t.key), sge(t.far, 512, t.far_key))
    assert t.b.scq.poll()[-1]['syndrome'] == Syndrome.REMOTE_ACCESS


@pytest.mark.parametrize(('given', 'works'), [(b'\1' * 8, True), (b'\2' * 8, False)])
def test_keytag(guest: Guest, given: bytes, works: bool) -> None:
    """A key with a tag is used only by those who name the tag."""
    t = Traffic(guest, KEY + b'\1' * 8, has_keytag=1)
    t.set(512, crypto_bsf(t.dek, keytag=given))
    assert t.out(data_of(512), 512) == (enc(data_of(512)) if works else bytes(512))
    assert works or t.failed() == Syndrome.LOCAL_PROT


def test_key_of_another_domain(guest: Guest) -> None:
    """An encryption key serves keys of its own domain only; a crypto login is no encryption key."""
    t = Traffic(guest)
    other = dek(guest, pd=guest.cmd('ALLOC_PD')['pd'])[1]
    t.set(512, crypto_bsf(other))
    assert t.out(data_of(512), 512) == bytes(512)
    assert t.failed() == Syndrome.LOCAL_PROT
    t = Traffic(Guest())
    t.set(
        512,
        crypto_bsf(next(o.number for o in t.g.card.general_objects if o.obj_type == CRYPTO_LOGIN)))
    t.out(data_of(512), 512)
    assert t.failed() == Syndrome.LOCAL_PROT


def test_card_of_single_blocks() -> None:
    """It has the tweak with the least byte first, and does one unit at a time."""
    g = Guest(cap_overrides=('general.aes_xts_multi_block_be_tweak=0',
                             'general.aes_xts_single_block_le_tweak=1'))
    t = Traffic(g)
    t.set(1024, crypto_bsf(t.dek, tweak=(5).to_bytes(16, 'little')))
    assert t.out(data_of(512), 512) == enc(data_of(512), tweak=5)
    t.done()
    t.out(data_of(1024), 1024)
    assert t.failed() == Syndrome.LOCAL_PROT


def test_noise(guest: Guest) -> None:
    """Objects and formats of random bytes."""
    rnd = random.Random(11)
    t = Traffic(guest, both=True)
    for _ in range(400):
        body = rnd.randbytes(256)
        head = struct.pack('>HHHHII', prm.OPCODES['CREATE_GENERAL_OBJECT'], 0, 0,
                           rnd.choice([DEK, CRYPTO_LOGIN]), 0, 0)
        assert guest.card.execute(head + body[:rnd.choice([0, 100, 256])], 16)[0]
    accepted = 0
    for _ in range(250):
        raw = bytearray(crypto_bsf(t.dek, rnd.randrange(4), rnd.choice([512, 520, 4096])))
        for _ in range(rnd.randrange(3)):
            raw[rnd.randrange(64)] = rnd.randrange(256)
        revive(guest, t.a, t.b)
        configure(t.a, t.key, [(t.memory, 4096, t.plain)], bytes(raw))
        accepted += t.a.model.state == RTS
        t.a.scq.poll()
        t.a.post_send(Op.WRITE, raddr(t.far, t.far_key),
                      sge(rnd.choice([0, 0, 512, 1]), rnd.choice([1, 16, 512, 1040]), t.key))
    assert accepted > 50
    assert len(guest.card.general_objects) == 2
