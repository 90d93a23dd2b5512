# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Making keys with byte stream formats and PSVs: what is refused, whose they are, and formats of
noise."""
import random
import struct

import pytest
from emulator.driver.commands import CommandFailed
from emulator.driver.guest import PAGE, Guest, GuestCq, connected, raddr, sge
from emulator.driver.signatures import (
    CRC32,
    CRC32C,
    CRC64,
    configure,
    crypto_bsf,
    domain_crc,
    domain_dif,
    indirect_key,
    psv,
    revive,
    set_psv,
    signature_bsf,
)
from mlx5emu import prm
from mlx5emu.memory import bsf
from mlx5emu.memory.byte_stream import MAX_MESSAGE
from mlx5emu.memory.mkey import FORMATS_COST
from mlx5emu.prm.wqe import Op, Syndrome
from mlx5emu.queues.queue import ERR


def bind(g: Guest, raw: bytes, **entry) -> tuple[int, int]:
    """Opcode and syndrome of the CQE of a UMR with these formats."""
    a, _ = connected(g)
    base = g.alloc(PAGE)
    configure(a, indirect_key(g, **entry), [(base, PAGE, g.mkey(base, PAGE))], raw)
    cqe = a.scq.poll()[0]
    return cqe['opcode'], cqe['syndrome'] if cqe['opcode'] == 13 else 0


REFUSED = (13, Syndrome.MW_BIND)


@pytest.mark.parametrize(('fields', 'status'),
                         [({'bsf_en': 1, 'bsf_octword_size': 0}, 'BAD_PARAM'),
                          ({'bsf_en': 1, 'bsf_octword_size': 5}, 'BAD_PARAM'),
                          ({'bsf_en': 0, 'bsf_octword_size': 4}, 'BAD_PARAM'),
                          ({'bsf_en': 1, 'bsf_octword_size': 4, 'access_mode_1_0': 0}, 'BAD_PARAM'),
                          ({'bsf_en': 1, 'bsf_octword_size': 4, 'crypto_en': 2}, 'BAD_PARAM'),
                          ({'crypto_en': 1}, 'BAD_PARAM'),
                          ({'bsf_en': 1, 'bsf_octword_size': 4, 'crypto_en': 1}, 'OK'),
                          ({'bsf_en': 1, 'bsf_octword_size': 4}, 'OK'),
                          ({'bsf_en': 1, 'bsf_octword_size': 8}, 'OK')])
def test_create(guest: Guest, fields: dict, status: str) -> None:
    """Room for one format or two, in a key that a UMR can give a list."""
    entry = {
        'access_mode_1_0': 2, 'umr_en': 1, 'free': 1, 'pd': guest.pd, 'qpn': 0xffffff, **fields}
    assert guest.fails('CREATE_MKEY',
                       **{f'memory_key_mkey_entry.{k}': v for k, v in entry.items()}) == status


def test_formats_take_memory(guest: Guest) -> None:
    """They are paid for when the key is made, and given back with it; with none left, the key is
    refused."""
    used = guest.card.memory.used
    key = indirect_key(guest)
    assert guest.card.memory.used == used + FORMATS_COST
    guest.cmd('DESTROY_MKEY', mkey_index=key >> 8)
    assert guest.card.memory.used == used
    for klms in (0, 4):
        guest.card.memory.limit = used + FORMATS_COST + 16 * klms - 1
        with pytest.raises(CommandFailed) as refused:
            guest.create_mkey(bytes(16 * klms), klms, access_mode_1_0=2, pd=guest.pd, umr_en=1,
                              qpn=0xffffff, bsf_en=1, bsf_octword_size=4)
        assert refused.value.status == 'EXCEED_LIM' and guest.card.memory.used == used


def altered(raw: bytes, at: int, byte: int) -> bytes:
    """``raw`` with one byte changed."""
    return raw[:at] + bytes([byte]) + raw[at + 1:]


GOOD = signature_bsf(wire=domain_dif(1))
CRC = signature_bsf(memory=domain_crc(1, CRC32))


@pytest.mark.parametrize(
    ('what', 'raw'), [
        ('size', altered(GOOD, 0, 0x40)), ('type', altered(GOOD, 0, 0x82)),
        ('two formats announced', altered(GOOD, 0, 0xc0)), ('selector', altered(GOOD, 2, 5)),
        ('no block size', altered(GOOD, 2, 0)), ('transaction', altered(GOOD, 20, 1)),
        ('inline not valid', altered(GOOD, 32, 0x40)), ('inline reserved', altered(GOOD, 42, 1)),
        ('guard kind', altered(GOOD, 40, 3)), ('not repeated', altered(GOOD, 41, 0x08)),
        ('both escapes', altered(GOOD, 45, 0x43)), ('unknown check', altered(GOOD, 45, 0x80)),
        ('CRC kind', altered(CRC, 12, 0x32)), ('CRC not repeated', altered(CRC, 12, 0x20)),
        ('CRC bits', altered(CRC, 12, 0x26)), ('CRC and inline', altered(CRC, 50, 1)),
        ('same structure alone', signature_bsf(wire=domain_dif(1), same=True)),
        ('not the same structure', signature_bsf(domain_crc(1, CRC32), domain_dif(2), same=True)),
        ('crypto on a card whose guest made no key for it', crypto_bsf(1, order=4)),
        ('crypto reserved', altered(crypto_bsf(1), 2, 1)),
        ('crypto standard', altered(crypto_bsf(1), 3, 1)),
        ('crypto block', altered(crypto_bsf(1), 8, 7))])
def test_format_refused(guest: Guest, what: str, raw: bytes) -> None:
    """A bind error, and the key has no formats."""
    assert bind(guest, GOOD) == bind(guest, CRC) == (0, 0)
    before = [m.bsf for m in guest.card.mkeys]
    assert bind(guest, raw) == REFUSED, what
    assert [m.bsf for m in guest.card.mkeys if m.bsf] == [b for b in before if b]


def test_no_room(guest: Guest) -> None:
    """Two formats do not fit a key for one, and none fits a key without; bsf_en neither."""
    both = signature_bsf(wire=domain_dif(1), size=3) + crypto_bsf(1, size=3)
    assert bind(guest, both) == REFUSED
    assert bind(guest, GOOD, bsf_octowords=0) == REFUSED
    assert bind(guest, b'', bsf_octowords=0) == REFUSED


@pytest.mark.parametrize('raw', [
    signature_bsf(wire=domain_crc(1, CRC32C)),
    signature_bsf(wire=domain_crc(1, CRC64)),
    signature_bsf(wire=domain_dif(1, block=4048))])
def test_older_card(raw: bytes) -> None:
    """ConnectX-5 has the basic signatures only."""
    g = Guest(profile='connectx5')
    assert bind(g, raw) == REFUSED
    assert bind(g, CRC) == bind(g, GOOD) == (0, 0)
    assert bind(Guest(), raw) == (0, 0)


@pytest.mark.parametrize(('count', 'status'), [(0, 'BAD_PARAM'), (1, 'OK'), (4, 'OK'),
                                               (5, 'BAD_PARAM')])
def test_create_psv(guest: Guest, count: int, status: str) -> None:
    """One to four at a time; the protection domain lives as long as one of them."""
    assert guest.fails('CREATE_PSV', num_psv=count, pd=guest.pd) == status
    if status == 'OK':
        psvs = guest.card.psvs.numbers()
        assert len(psvs) == count
        pd = guest.cmd('ALLOC_PD')['pd']
        mine = guest.cmd('CREATE_PSV', num_psv=1, pd=pd)['psv0_index']
        assert guest.fails('DEALLOC_PD', pd=pd) == 'BAD_RES_STATE'
        guest.cmd('DESTROY_PSV', psvn=mine)
        guest.cmd('DEALLOC_PD', pd=pd)


def test_psv_numbers_run_out(guest: Guest) -> None:
    """All of a command or none of it."""
    guest.card.psvs.space.limit = 6
    guest.cmd('CREATE_PSV', num_psv=4, pd=guest.pd)
    assert guest.fails('CREATE_PSV', num_psv=4, pd=guest.pd) == 'EXCEED_LIM'
    assert len(guest.card.psvs) == 4
    assert guest.fails('CREATE_PSV', num_psv=2, pd=guest.pd) == 'OK'


def test_psv_of_another(guest: Guest) -> None:
    """Another context's PSV cannot be destroyed, another domain's neither set nor used."""
    uid, other = guest.cmd('CREATE_UCTX')['uid'], guest.cmd('CREATE_UCTX')['uid']
    pd = guest.cmd('ALLOC_PD', uid=uid)['pd']
    assert guest.fails('CREATE_PSV', num_psv=1, pd=pd, uid=other) == 'BAD_RES'
    number = guest.cmd('CREATE_PSV', num_psv=1, pd=pd, uid=uid)['psv0_index']
    assert guest.fails('DESTROY_PSV', psvn=number, uid=other) == 'BAD_RES'
    a, _ = connected(guest)
    set_psv(a, number, 5)
    assert a.scq.poll()[0]['syndrome'] == Syndrome.LOCAL_PROT
    assert guest.card.psvs.find(number).transient == 0
    a, b = connected(guest)
    base = guest.alloc(PAGE)
    plain, key = guest.mkey(base, PAGE), indirect_key(guest)
    configure(a, key, [(base, 512, plain)], signature_bsf(wire=domain_dif(number)))
    a.post_send(Op.WRITE, raddr(base, plain), sge(0, 520, key))
    assert a.scq.poll()[1]['syndrome'] == Syndrome.LOCAL_PROT
    # The context ends: its PSV goes with it.
    end = prm.new('destroy_uctx_in')
    end.set(opcode=prm.OPCODES['DESTROY_UCTX'], uid=uid)
    assert guest.card.execute(bytes(end.buf))[0] == 0
    assert guest.card.psvs.find(number) is None


def test_psv_is_gone(guest: Guest) -> None:
    """A key whose PSV was destroyed cannot be used."""
    a, _ = connected(guest)
    base = guest.alloc(PAGE)
    plain, key, number = guest.mkey(base, PAGE), indirect_key(guest), psv(a, 1 << 60)
    configure(a, key, [(base, 512, plain)], signature_bsf(wire=domain_dif(number)))
    guest.cmd('DESTROY_PSV', psvn=number)
    a.post_send(Op.WRITE, raddr(base, plain), sge(0, 520, key))
    assert a.scq.poll()[-1]['syndrome'] == Syndrome.LOCAL_PROT


def test_below_another_key(guest: Guest) -> None:
    """A key with formats cannot be a piece of another key's layout."""
    a, _ = connected(guest)
    base = guest.alloc(PAGE)
    plain, key, upper = guest.mkey(base, PAGE), indirect_key(guest), indirect_key(
        guest, bsf_octowords=0)
    configure(a, key, [(base, 512, plain)], signature_bsf(wire=domain_dif(psv(a, 1 << 60))))
    configure(a, upper, [(0, 512, key)], on=False)
    assert [c['opcode'] for c in a.scq.poll()] == [0, 0, 0]
    a.post_send(Op.WRITE, raddr(base, plain), sge(0, 512, upper))
    assert a.scq.poll()[-1]['syndrome'] == Syndrome.LOCAL_PROT


def test_atomic_is_refused(guest: Guest) -> None:
    """Eight bytes of a stream cannot be changed in place."""
    a, b = connected(guest)
    base = guest.alloc(PAGE)
    plain, key = guest.mkey(base, PAGE), indirect_key(guest)
    configure(a, key, [(base, 512, plain)], signature_bsf(wire=domain_dif(psv(a, 1 << 60))))
    guest.card.mkeys.find(key >> 8).rights |= 16
    b.post_send(Op.FA, raddr(0, key), struct.pack('>QQ', 1, 0), sge(base, 8, plain))
    assert b.scq.poll()[-1]['syndrome'] == Syndrome.REMOTE_ACCESS


def test_longest_access(guest: Guest) -> None:
    """What one message moves through formats is bounded, whatever the key's length and however many
    pieces it has."""
    a, b = connected(guest)
    key = guest.create_mkey(
        struct.pack('>IIQ', 1 << 31, 0x300, 0).ljust(16, b'\0'), 1, access_mode_1_0=2, umr_en=1,
        pd=guest.pd, lr=1, len=1 << 31, qpn=0xffffff, bsf_en=1, bsf_octword_size=4)
    mkey = guest.card.mkeys.find(key >> 8)
    mkey.bsf = bsf.parse(signature_bsf(wire=domain_crc(psv(a), CRC32)))
    mkey.decode()
    far = guest.create_mkey(
        struct.pack('>IIQ', 1 << 31, 0x300, 0).ljust(16, b'\0'), 1, access_mode_1_0=2, pd=guest.pd,
        lr=1, rw=1, len=1 << 31, qpn=0xffffff)
    half = MAX_MESSAGE // 2
    a.post_send(Op.WRITE, raddr(0, far), sge(0, half, key), sge(0, half, key))
    assert a.scq.poll()[-1]['opcode'] == 0
    for pieces in ([MAX_MESSAGE + 1], [half, half, 1]):
        revive(guest, a, b)
        a.post_send(Op.WRITE, raddr(0, far), *(sge(0, n, key) for n in pieces))
        assert a.scq.poll()[-1]['syndrome'] == Syndrome.LOCAL_PROT
        revive(guest, a, b)
        mkey.rights = 0x1f
        b.post_recv(*((0, n, key) for n in pieces))
        a.post_send(Op.SEND, sge(0, sum(pieces), far))
        assert b.scq.poll()[0]['syndrome'] == Syndrome.LOCAL_PROT


def test_noise(guest: Guest) -> None:
    """Formats of random bytes, and good ones with random bytes in them: each is refused or works,
    and the card lives on."""
    rnd = random.Random(7)
    base = guest.alloc(2 * PAGE)
    plain = guest.mkey(base, 2 * PAGE)
    cq = GuestCq(guest, 12, oi=1)
    a, b = connected(guest, scq=cq)
    key = indirect_key(guest, 8)
    numbers = [psv(a, rnd.getrandbits(64)) for _ in range(2)]
    one, two = numbers
    good = [
        signature_bsf(domain_dif(one), domain_dif(two), same=True, copy=0x3c),
        signature_bsf(domain_crc(one, CRC32C)),
        signature_bsf(wire=domain_crc(two, CRC64)),
        signature_bsf(domain_crc(one, CRC32), domain_dif(two, block=4096))]
    configure(a, key, [(base, 16, plain)], good[0])
    used = guest.card.memory.used
    accepted = 0
    for _ in range(500):
        raw = bytearray(rnd.choice(good)) if rnd.random() < 0.8 else bytearray(
            rnd.randbytes(rnd.choice([64, 128])))
        for _ in range(rnd.randrange(3)):
            raw[rnd.randrange(len(raw))] = rnd.choice([rnd.randrange(256), 0, 0xff])
        revive(guest, a, b)
        configure(a, key, [(base, rnd.choice([16, 520, 4096]), plain)], bytes(raw),
                  rnd.randrange(2))
        if a.model.state == ERR:
            continue
        accepted += 1
        n = rnd.choice([1, 16, 512, 519, 520, 1040, 4104])
        if rnd.random() < 0.5:
            a.post_send(Op.WRITE, raddr(base + PAGE, plain), sge(rnd.choice([0, 0, 520, 7]), n,
                                                                 key))
        else:
            a.post_send(Op.READ, raddr(base + PAGE, plain), sge(0, min(n, PAGE), key))
    assert 100 < accepted < 500
    assert guest.card.memory.used == used
