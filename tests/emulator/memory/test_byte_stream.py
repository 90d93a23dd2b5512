# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Signatures behind memory keys: what is generated, checked, stripped and taken over, in both
directions."""
import random
import struct

import pytest
from emulator.driver.guest import PAGE, Guest, GuestCq, connected, raddr, sge
from emulator.driver.signatures import (
    APP,
    CRC32,
    CRC32C,
    CRC64,
    GUARD,
    REF,
    SIG_ERR,
    configure,
    crc_bytes,
    dif_bytes,
    domain_crc,
    domain_dif,
    indirect_key,
    ok,
    protect,
    psv,
    set_psv,
    signature_bsf,
)
from mlx5emu import prm
from mlx5emu.memory.mkey import LOCAL_READ, PageFault, resolve
from mlx5emu.prm.wqe import Op, Syndrome
from mlx5emu.queues.queue import RTS, SQD

ONES32, ONES64 = 0xffffffff << 32, (1 << 64) - 1
DIF = 0xffffabcd01234567


class Pair:
    """Two connected QPs; ``a`` has a key with formats over ``memory``, ``b`` plain memory
    ``far``."""

    def __init__(self, g: Guest, n: int = 4 * PAGE) -> None:
        self.g = g
        self.a, self.b = connected(g, rcq=GuestCq(g))
        self.memory, self.far = g.alloc(n), g.alloc(n)
        self.plain, self.far_key = g.mkey(self.memory, n), g.mkey(self.far, n)
        self.key = indirect_key(g)

    def set(self, bsf: bytes, n: int, sigerr: int = 1) -> None:
        """Give the key ``n`` bytes of memory and the formats."""
        configure(self.a, self.key, [(self.memory, n, self.plain)], bsf, sigerr)
        ok(self.a)

    def out(self, n: int, op: int = Op.WRITE) -> bytes:
        """``n`` bytes of the wire that come out of the key."""
        if op == Op.SEND:
            self.b.post_recv((self.far, n, self.far_key))
            self.a.post_send(op, sge(0, n, self.key))
            assert self.b.rcq.poll()[0]['byte_cnt'] == n
        else:
            self.a.post_send(op, raddr(self.far, self.far_key), sge(0, n, self.key))
        return self.g.read(self.far, n)

    def into(self, wire: bytes, op: int = Op.READ) -> None:
        """Take bytes from the wire into the key."""
        self.g.write(self.far, wire)
        if op == Op.SEND:
            self.a.post_recv((0, len(wire), self.key))
            self.b.post_send(op, sge(self.far, len(wire), self.far_key))
        elif op == Op.WRITE:
            self.b.post_send(op, raddr(0, self.key), sge(self.far, len(wire), self.far_key))
        else:
            self.a.post_send(op, raddr(self.far, self.far_key), sge(0, len(wire), self.key))

    def errors(self) -> list[prm.View]:
        """Signature errors that the send CQ told of; all else completed well."""
        return signature_errors(self.a.scq.poll())


def signature_errors(cqes: list[prm.View]) -> list[prm.View]:
    """The signature errors among CQEs."""
    assert all(c['opcode'] in (0, 2, SIG_ERR) for c in cqes)
    return [prm.view('sig_error_cqe', c.buf) for c in cqes if c['opcode'] == SIG_ERR]


def data_of(n: int) -> bytes:
    """Bytes that differ from block to block."""
    return random.Random(n).randbytes(n)


@pytest.mark.parametrize('op', [Op.WRITE, Op.SEND])
@pytest.mark.parametrize(('kind', 'ones'), [(CRC32, True), (CRC32, False), (CRC32C, True),
                                            (CRC32C, False), (CRC64, True), (CRC64, False)])
def test_crc_on_the_wire(guest: Guest, kind: int, ones: bool, op: int) -> None:
    """Generated on the way out after each block, checked and taken away on the way in."""
    p = Pair(guest)
    seed = (ONES64 if kind == CRC64 else ONES32) if ones else 0
    p.set(signature_bsf(wire=domain_crc(psv(p.a, seed), kind, seed=int(ones))), 1536)
    data = data_of(1536)
    guest.write(p.memory, data)
    wire = protect(data, 512, lambda part, k: crc_bytes(kind, part, ones))
    assert p.out(len(wire), op) == wire
    guest.write(p.memory, bytes(1536))
    p.into(wire, Op.SEND if op == Op.SEND else Op.READ)
    assert guest.read(p.memory, 1536) == data
    assert not p.errors() and not signature_errors(p.a.rcq.poll())


@pytest.mark.parametrize('block', [512, 520, 4096, 4160, 4048])
def test_dif_in_memory(guest: Guest, block: int) -> None:
    """Checked and stripped on the way out, generated on the way in, for each size of block;
    reference tags count up."""
    p = Pair(guest, 6 * PAGE)
    p.set(signature_bsf(memory=domain_dif(psv(p.a, DIF), block=block)), 2 * block + 16)
    data = data_of(2 * block)
    memory = protect(data, block, lambda part, k: dif_bytes(part, 0xabcd, 0x01234567 + k))
    guest.write(p.memory, memory)
    assert p.out(2 * block) == data
    guest.write(p.memory, bytes(len(memory)))
    p.into(data)
    assert guest.read(p.memory, len(memory)) == memory
    assert not p.errors()


@pytest.mark.parametrize(('seed', 'increment'), [(0, True), (1, False)])
def test_dif_seed_and_tags(guest: Guest, seed: int, increment: bool) -> None:
    """The guard's seed is zero or ones; the reference tag stays where it is not to count, and wraps
    where it is."""
    p = Pair(guest)
    first = (0xffff if seed else 0) << 48 | 0x1234 << 32 | 0xffffffff
    p.set(
        signature_bsf(wire=domain_dif(psv(p.a, first), app=0x1234, ref=0xffffffff, seed=seed,
                                      increment=increment)), 1024)
    data = data_of(1024)
    guest.write(p.memory, data)
    wire = protect(
        data, 512, lambda part, k: dif_bytes(part, 0x1234, 0xffffffff +
                                             (k if increment else 0), 0xffff if seed else 0))
    assert p.out(1040) == wire


def test_dif_checksum(guest: Guest) -> None:
    """The Internet checksum as guard."""
    p = Pair(guest)
    p.set(signature_bsf(wire=domain_dif(psv(p.a, 0xabcd00000007), checksum=True, seed=0)), 512)
    guest.write(p.memory, b'\x01\x02' * 256)
    wire = p.out(520)
    total = 0x0102 * 256
    assert wire[512:] == ((total & 0xffff) +
                          (total >> 16) ^ 0xffff).to_bytes(2, 'big') + bytes.fromhex('abcd00000007')


def test_other_structure_on_either_side(guest: Guest) -> None:
    """512-byte blocks with CRC32C in memory, 4 KiB blocks with T10-DIF on the wire."""
    p = Pair(guest)
    p.set(
        signature_bsf(domain_crc(psv(p.a, ONES32), CRC32C), domain_dif(psv(p.a, DIF), block=4096)),
        8 * 516)
    data = data_of(4096)
    memory = protect(data, 512, lambda part, k: crc_bytes(CRC32C, part))
    wire = protect(data, 4096, lambda part, k: dif_bytes(part, 0xabcd, 0x01234567))
    guest.write(p.memory, memory)
    assert p.out(4104) == wire
    guest.write(p.memory, bytes(len(memory)))
    p.into(wire)
    assert guest.read(p.memory, len(memory)) == memory
    assert not p.errors()


@pytest.mark.parametrize('op', [Op.SEND, Op.WRITE, Op.READ])
@pytest.mark.parametrize(('bit', 'syndrome', 'expected', 'actual'),
                         [(0, 1 << 13, lambda g: (g ^ 0x100, 0), lambda g: (g, 0)),
                          (2, 1 << 12, None, None), (7, 1 << 11, None, None)])
def test_wrong_on_the_wire(guest: Guest, op: int, bit: int, syndrome: int, expected,
                           actual) -> None:
    """Guard, application tag and reference tag; data arrive, a CQE of the queue that took them
    tells of the first block that is wrong."""
    p = Pair(guest)
    p.set(signature_bsf(wire=domain_dif(psv(p.a, DIF))), 1536)
    data = data_of(1536)
    wire = bytearray(protect(data, 512, lambda part, k: dif_bytes(part, 0xabcd, 0x01234567 + k)))
    right = wire[520 + 512:1040]
    wire[520 + 512 + bit] ^= 1
    wire[1040 + 512 + bit] ^= 1
    wrong = wire[520 + 512:1040]
    p.into(bytes(wire), op)
    assert guest.read(p.memory, 1536) == data
    cqe, = signature_errors((p.a.scq if op == Op.READ else p.a.rcq).poll())
    assert (cqe['syndrome'], cqe['sig_type'], cqe['domain'], cqe['mkey'],
            cqe['qpn']) == (syndrome, 0, 0, p.key, p.a.number)
    assert cqe['sig_err_offset'] == 520
    assert cqe['expected_trans_sig'].to_bytes(4, 'big') + cqe['expected_ref_tag'].to_bytes(
        4, 'big') == wrong
    assert cqe['actual_trans_sig'].to_bytes(4, 'big') + cqe['actual_ref_tag'].to_bytes(
        4, 'big') == right


def test_wrong_in_memory(guest: Guest) -> None:
    """The whole CRC of a block whose signature was not even asked for on the wire; the work request
    completes after the error."""
    p = Pair(guest)
    p.set(signature_bsf(memory=domain_crc(psv(p.a, ONES32), CRC32)), 516)
    guest.write(p.memory, b'c' * 512 + bytes(4))
    assert p.out(512) == b'c' * 512
    first, second = p.a.scq.poll()
    assert (first['opcode'], second['opcode']) == (SIG_ERR, 0)
    cqe = prm.view('sig_error_cqe', first.buf)
    assert (cqe['syndrome'], cqe['domain'], cqe['sig_err_offset']) == (1 << 13, 1, 0)
    assert (cqe['expected_trans_sig'],
            cqe['actual_trans_sig']) == (0, int.from_bytes(crc_bytes(CRC32, b'c' * 512), 'little'))


def test_one_error_until_armed(guest: Guest) -> None:
    """A key tells of one error; a UMR that expects the next count arms it again."""
    p = Pair(guest)
    bsf = signature_bsf(memory=domain_crc(psv(p.a, ONES32), CRC32))
    p.set(bsf, 516)
    p.out(512)
    p.out(512)
    assert len(p.errors()) == 1
    p.set(bsf, 516, sigerr=0)
    p.out(512)
    assert len(p.errors()) == 1


@pytest.mark.parametrize(('check', 'bit', 'told'), [(GUARD, 0, 1), (GUARD, 2, 0), (APP, 2, 1),
                                                    (APP | REF, 0, 0), (REF, 7, 1), (0x20, 2, 1),
                                                    (0x20, 3, 0), (0, 0, 0)])
def test_check_mask(guest: Guest, check: int, bit: int, told: int) -> None:
    """Only the bytes of the mask are compared."""
    p = Pair(guest)
    p.set(signature_bsf(memory=domain_dif(psv(p.a, DIF)), check=check), 520)
    memory = bytearray(
        protect(data_of(512), 512, lambda part, k: dif_bytes(part, 0xabcd, 0x01234567)))
    memory[512 + bit] ^= 0x80
    guest.write(p.memory, bytes(memory))
    p.out(512)
    assert len(p.errors()) == told


@pytest.mark.parametrize(('escape', 'tags', 'told'), [(1, b'\xff\xff\0\0\0\1', 0),
                                                      (2, b'\xff\xff\0\0\0\1', 1),
                                                      (2, b'\xff' * 6, 0), (0, b'\xff' * 6, 1)])
def test_escape(guest: Guest, escape: int, tags: bytes, told: int) -> None:
    """Tags of all ones exempt a block, as the format says."""
    p = Pair(guest)
    p.set(signature_bsf(memory=domain_dif(psv(p.a, DIF), escape=escape)), 520)
    guest.write(p.memory, data_of(512) + b'\0\0' + tags)
    p.out(512)
    assert len(p.errors()) == told


def test_mask_of_the_application_tag(guest: Guest) -> None:
    """Bits outside it are not compared."""
    p = Pair(guest)
    p.set(signature_bsf(memory=domain_dif(psv(p.a, DIF), app_mask=0xff00)), 520)
    data = data_of(512)
    guest.write(p.memory, data + dif_bytes(data, 0xab11, 0x01234567))
    p.out(512)
    assert not p.errors()
    guest.write(p.memory, data + dif_bytes(data, 0xac11, 0x01234567))
    p.out(512)
    assert len(p.errors()) == 1


@pytest.mark.parametrize(('copy', 'kept'), [(0, b''), (GUARD, b'\0\1'), (APP, b'\2\3'),
                                            (REF, b'\4\5\6\7'), (0xff, bytes(range(8)))])
def test_copy_mask(guest: Guest, copy: int, kept: bytes) -> None:
    """With the same structure on both sides, bytes of the mask go over as they are, wrong as they
    may be; the others are made anew."""
    p = Pair(guest)
    sides = domain_dif(psv(p.a, DIF)), domain_dif(psv(p.a, DIF))
    p.set(signature_bsf(*sides, check=0, same=True, copy=copy), 520)
    data = data_of(512)
    guest.write(p.memory, data + bytes(range(8)))
    wire = p.out(520)
    at = kept[0] if kept else 0
    anew = dif_bytes(data, 0xabcd, 0x01234567)
    assert wire == data + anew[:at] + kept + anew[at + len(kept):]
    guest.write(p.memory, bytes(520))
    p.into(data + bytes(range(8)))
    assert guest.read(p.memory, 520) == wire


def test_access_from_the_middle(guest: Guest) -> None:
    """Block by block at offsets of the wire; tags go on; an offset inside a block is refused."""
    p = Pair(guest)
    p.set(signature_bsf(wire=domain_dif(psv(p.a, DIF))), 1536)
    data = data_of(1536)
    guest.write(p.memory, data)
    wire = protect(data, 512, lambda part, k: dif_bytes(part, 0xabcd, 0x01234567 + k))
    p.b.post_send(Op.READ, raddr(520, p.key), sge(p.far, 1040, p.far_key))
    assert guest.read(p.far, 1040) == wire[520:]
    p.b.post_send(Op.WRITE, raddr(520, p.key), sge(p.far, 1040, p.far_key))
    assert not signature_errors(p.a.rcq.poll()) and guest.read(p.memory, 1536) == data
    p.a.post_send(Op.WRITE, raddr(p.far, p.far_key), sge(8, 520, p.key))
    assert [c for c in p.a.scq.poll() if c['opcode'] == 13][0]['syndrome'] == Syndrome.LOCAL_PROT


def test_beyond_the_key(guest: Guest) -> None:
    """The memory of the key is the bound, however much is on the wire."""
    p = Pair(guest)
    p.set(signature_bsf(wire=domain_dif(psv(p.a, DIF))), 512)
    assert len(p.out(520)) == 520
    p.a.scq.poll()
    p.a.post_send(Op.WRITE, raddr(p.far, p.far_key), sge(0, 521, p.key))
    assert p.a.scq.poll()[0]['syndrome'] == Syndrome.LOCAL_PROT


def test_raw_data_size(guest: Guest) -> None:
    """The format's own bound."""
    p = Pair(guest)
    p.set(signature_bsf(wire=domain_dif(psv(p.a, DIF)), raw_size=512), 1024)
    assert len(p.out(520)) == 520
    p.a.scq.poll()
    p.a.post_send(Op.WRITE, raddr(p.far, p.far_key), sge(0, 1040, p.key))
    assert p.a.scq.poll()[0]['syndrome'] == Syndrome.LOCAL_PROT


def test_switched_off(guest: Guest) -> None:
    """A UMR that clears bsf_en makes the key a plain one; the formats come back with the bit."""
    p = Pair(guest)
    p.set(signature_bsf(wire=domain_dif(psv(p.a, DIF))), 512)
    guest.write(p.memory, data_of(512))
    configure(p.a, p.key, [(p.memory, 520, p.plain)], on=False)
    ok(p.a)
    assert p.out(520) == data_of(512) + bytes(8)
    configure(p.a, p.key, [(p.memory, 520, p.plain)])
    assert p.out(520)[512:] == dif_bytes(data_of(512), 0xabcd, 0x01234567)


@pytest.mark.parametrize('kind', [0, CRC32])
def test_first_block_starts_from_the_psv(guest: Guest, kind: int) -> None:
    """As the driver does it, who gives the guard's seed to the PSV alone; later blocks start from
    the format's."""
    p = Pair(guest)
    number = psv(p.a, DIF)
    p.set(
        signature_bsf(
            wire=domain_crc(number, CRC32, seed=0) if kind else domain_dif(number, seed=0)), 1024)
    data = data_of(1024)
    guest.write(p.memory, data)
    if kind:
        set_psv(p.a, number, ONES32)
        wire = protect(data, 512, lambda part, k: crc_bytes(CRC32, part, ones=not k))
    else:
        wire = protect(data, 512, lambda part, k: dif_bytes(part, 0xabcd, 0x01234567 + k, 0
                                                            if k else 0xffff))
    assert p.out(len(wire)) == wire


def test_pieces_of_memory(guest: Guest) -> None:
    """Blocks and signatures lie across the pieces of a layout."""
    p = Pair(guest)
    configure(p.a, p.key, [(p.memory, 500, p.plain), (p.memory + 1000, 14, p.plain),
                           (p.memory + 2000, 526, p.plain)],
              signature_bsf(memory=domain_dif(psv(p.a, DIF))))
    data = data_of(1024)
    p.into(data)
    memory = guest.read(p.memory, 500) + guest.read(p.memory + 1000, 14) + guest.read(
        p.memory + 2000, 526)
    assert memory == protect(data, 512, lambda part, k: dif_bytes(part, 0xabcd, 0x01234567 + k))
    assert p.out(1024) == data
    assert not p.errors()


def test_absent_page(guest: Guest) -> None:
    """A page fault names the memory behind the access, signatures and all, in the key's own
    addresses."""
    p = Pair(guest)
    leaf = guest.create_mkey(struct.pack('>2Q', p.memory | 3, 0), 1, command={'pg_access': 1},
                             access_mode_1_0=1, pd=guest.pd, start_addr=p.memory, len=2 * PAGE,
                             log_page_size=12, qpn=0xffffff, lr=1, lw=1)
    configure(p.a, p.key, [(p.memory, 2 * PAGE, leaf)],
              signature_bsf(memory=domain_dif(psv(p.a, DIF))))
    ok(p.a)
    assert resolve(guest.card, p.key, 0, 7 * 512, LOCAL_READ, guest.pd, p.a.number)[0][2] == 7 * 512
    with pytest.raises(PageFault) as absent:
        resolve(guest.card, p.key, 512, 8 * 512, LOCAL_READ, guest.pd, p.a.number)
    fault = absent.value
    assert (fault.key, fault.addr, fault.n, fault.leaf) == (p.key, 520, 8 * 520, leaf)


def test_psv_says_where_to_begin(guest: Guest) -> None:
    """SET_PSV changes the first tag of later accesses."""
    p = Pair(guest)
    number = psv(p.a, DIF)
    p.set(signature_bsf(wire=domain_dif(number)), 512)
    guest.write(p.memory, data_of(512))
    set_psv(p.a, number, 0xffff000200000009)
    assert p.out(520)[512:] == dif_bytes(data_of(512), 2, 9)


def test_pipelining(guest: Guest) -> None:
    """A QP that drains on signature errors stops after the work request that had one; its next
    waits until the driver lets it go on."""
    p = Pair(guest)
    guest.cmd('2RST_QP', qpn=p.a.number)
    p.a.posted = 0
    p.a.to_init()
    p.a.modify('INIT2INIT_QP', 1 << 11, drain_sigerr=1)
    p.a.modify('INIT2RTR_QP', remote_qpn=p.b.number, mtu=3, log_msg_max=30, **{
        'primary_address_path.rlid': 1})
    p.a.modify('RTR2RTS_QP', retry_count=7, rnr_retry=7)
    p.b.model.recv_psn = 0
    p.set(signature_bsf(memory=domain_crc(psv(p.a, ONES32), CRC32)), 516)
    guest.events()
    p.b.post_recv((p.far + PAGE, 16, p.far_key))
    p.a.post_send(Op.WRITE, raddr(p.far, p.far_key), sge(0, 512, p.key), flags=0)
    stopped_at = p.a.posted
    p.a.post_send(Op.SEND, sge(p.memory, 16, p.plain))
    assert p.a.model.state == SQD
    assert [c['opcode'] for c in p.a.scq.poll()] == [SIG_ERR] and not p.b.rcq.poll()
    assert guest.cmd('QUERY_QP', qpn=p.a.number)['qpc.hw_sq_wqebb_counter'] == stopped_at
    p.a.modify('SQD_RTS_QP')
    assert p.a.model.state == RTS
    assert [c['opcode'] for c in p.a.scq.poll()] == [0] and p.b.rcq.poll()[0]['byte_cnt'] == 16
