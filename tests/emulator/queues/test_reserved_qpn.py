# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Reserved QP numbers, and address vectors mapped to QPs: general objects of the emulated card."""
import pytest
from emulator.driver import commands
from emulator.driver.guest import Guest, GuestQp, connected
from mlx5emu import prm
from mlx5emu.bus.bar0 import doorbell
from mlx5emu.prm.wqe import Op
from mlx5emu.queues.av_qp_mapping import AV_QP_MAPPING
from mlx5emu.queues.reserved_qpn import RESERVED_QPN

MAPPING_BYTES = 64
RANGE = 'op_param.create.log_obj_range'


def reserve(g: Guest, log_range: int = 6, uid: int = 0) -> int:
    """First number of a new range."""
    return g.cmd('CREATE_GENERAL_OBJECT', bytes(16), uid=uid, obj_type=RESERVED_QPN, **{
        RANGE: log_range})['obj_id']


def test_reserved_numbers_are_nobodys(guest: Guest) -> None:
    """A range is aligned to its size; no queue gets a number of it, until it is destroyed."""
    first = reserve(guest)
    assert first % 64 == 0
    taken = set(range(first, first + 64))
    guest.card.queue_numbers._next = first - guest.card.queue_numbers.first
    assert GuestQp(guest).number == first + 64
    assert reserve(guest, 10) % 1024 == 0
    doorbell(guest.card, 0x800, guest.uar, bytes(4) + (first << 8 | 1).to_bytes(4, 'big'))
    assert guest.card.datapath.stray_doorbells == 1
    guest.cmd('DESTROY_GENERAL_OBJECT', obj_type=RESERVED_QPN, obj_id=first)
    guest.card.queue_numbers._next = first - guest.card.queue_numbers.first
    assert GuestQp(guest).number in taken


def test_a_range_round_used_numbers(guest: Guest) -> None:
    """Numbers in use split the space; a range goes where it fits, and past the end from the
    beginning."""
    space = guest.card.queue_numbers
    space._next = 128 - space.first + 5
    assert GuestQp(guest).number == 133
    assert reserve(guest) == 192
    space._next = 64 - space.first
    assert reserve(guest) == 64
    assert reserve(guest) == 256
    space._next = space.limit - 1
    assert reserve(guest) == 320


def test_reserved_numbers_refused(guest: Guest) -> None:
    """Sizes that the card does not give, more than it keeps, another user's range, numbers inside a
    range."""
    for log_range in (5, 11, 31):
        assert guest.fails('CREATE_GENERAL_OBJECT', bytes(16), obj_type=RESERVED_QPN, **{
            RANGE: log_range}) == 'BAD_PARAM'
    assert guest.fails('CREATE_GENERAL_OBJECT', bytes(15), obj_type=RESERVED_QPN,
                       **{RANGE: 6}) == 'BAD_INP_LEN'
    mine, other = guest.cmd('CREATE_UCTX')['uid'], guest.cmd('CREATE_UCTX')['uid']
    first = reserve(guest, uid=mine)
    for number, uid in ((first, other), (first + 1, mine)):
        assert guest.fails('DESTROY_GENERAL_OBJECT', uid=uid, obj_type=RESERVED_QPN,
                           obj_id=number) == 'BAD_RES'
    qp = GuestQp(guest)
    assert guest.fails('DESTROY_GENERAL_OBJECT', obj_type=RESERVED_QPN,
                       obj_id=qp.number) == 'BAD_RES'
    ranges = [reserve(guest, 10) for _ in range(31)]
    assert guest.fails('CREATE_GENERAL_OBJECT', bytes(16), obj_type=RESERVED_QPN,
                       **{RANGE: 10}) == 'EXCEED_LIM'
    for number in ranges:
        guest.cmd('DESTROY_GENERAL_OBJECT', obj_type=RESERVED_QPN, obj_id=number)
    assert set(guest.card.queue_numbers.used) == {*range(first, first + 64), qp.number}
    commands.run(guest.card, 'DESTROY_UCTX', {'uid': mine})
    assert set(guest.card.queue_numbers.used) == {
        qp.number}, 'what a context leaves behind goes with it'
    guest.card.reset()
    assert not guest.card.queue_numbers.used


def mapping(qpn: int, **fields: int) -> bytes:
    """Bytes of the object."""
    view = prm.new('av_qp_mapping')
    view.set(qpn=qpn, **fields)
    view['rgid_or_rip'] = bytes(range(16))
    return bytes(view.buf)


def test_mapping_is_kept(guest: Guest) -> None:
    """It tells what it was made from, and does not keep the QP."""
    assert prm.layout_bits('av_qp_mapping') == 8 * MAPPING_BYTES
    qp = GuestQp(guest)
    body = mapping(qp.number, sl_or_eth_prio=3)
    number = guest.cmd('CREATE_GENERAL_OBJECT', body, obj_type=AV_QP_MAPPING)['obj_id']
    out = guest.cmd('QUERY_GENERAL_OBJECT', obj_type=AV_QP_MAPPING, obj_id=number,
                    out_len=16 + MAPPING_BYTES)
    assert bytes(out.buf[16:]) == body
    assert guest.fails('QUERY_GENERAL_OBJECT', obj_type=AV_QP_MAPPING, obj_id=number,
                       out_len=16) == 'BAD_OUTP_LEN'
    assert guest.fails('QUERY_GENERAL_OBJECT', obj_type=RESERVED_QPN, obj_id=number,
                       out_len=32) == 'BAD_RES'
    guest.cmd('DESTROY_QP', qpn=qp.number)
    guest.cmd('DESTROY_GENERAL_OBJECT', obj_type=AV_QP_MAPPING, obj_id=number)
    assert len(guest.card.general_objects) == 0


def test_mapping_refused(guest: Guest) -> None:
    """No such QP, no such source address; ConnectX-5 has no such object."""
    qp = GuestQp(guest)
    for body, want in ((mapping(qp.number + 1), 'BAD_RES'), (mapping(
            qp.number, src_addr_index=9), 'BAD_INDEX'), (mapping(
                qp.number, modify_field_select=1), 'BAD_PARAM'), (mapping(
                    qp.number)[:-4], 'BAD_INP_LEN')):
        assert guest.fails('CREATE_GENERAL_OBJECT', body, obj_type=AV_QP_MAPPING) == want
    old = Guest(profile='connectx5')
    assert old.fails('CREATE_GENERAL_OBJECT', mapping(GuestQp(old).number),
                     obj_type=AV_QP_MAPPING) == 'BAD_PARAM'


# ---- send queues without a doorbell record

def recordless(g: Guest) -> tuple[GuestQp, GuestQp]:
    """Two connected QPs whose send queues have no doorbell record."""
    return connected(g, send_dbr_mode=1)


def ring(qp: GuestQp, index: int, ds: int = 1, data: bytes = b'') -> None:
    """The doorbell of the WQE at an index."""
    doorbell(qp.g.card, 0x600, qp.g.uar, data or
        (index << 8).to_bytes(4, 'big') + (qp.number << 8 | ds).to_bytes(4, 'big'))


def test_doorbell_tells_how_far(guest: Guest) -> None:
    """WQEs up to the doorbell's are taken, whatever the record says; the other doorbell is not for
    this queue."""
    a, _ = recordless(guest)
    indices = [a.post_send(Op.NOP, ring=False) for _ in range(3)]
    guest.write(a.dbr + 4, bytes.fromhex('00007777'))
    ring(a, indices[1])
    assert [c['wqe_counter'] for c in a.scq.poll()] == indices[:2]
    a.ring()
    assert guest.card.datapath.stray_doorbells == 1 and a.scq.poll() == []
    ring(a, indices[2])
    assert [c['wqe_counter'] for c in a.scq.poll()] == indices[2:]
    out = guest.cmd('QUERY_QP', qpn=a.number)
    assert (out['qpc.hw_sq_wqebb_counter'], out['qpc.sw_sq_wqebb_counter']) == (3, 3)
    guest.cmd('2ERR_QP', qpn=a.number)
    assert a.scq.poll() == []


def test_doorbell_that_cannot_be(guest: Guest) -> None:
    """Beyond the ring: the queue stops. Of another queue, another UAR, or short: nothing
    happens."""
    a, b = recordless(guest)
    plain, _ = connected(guest)
    before = guest.card.datapath.stray_doorbells
    plain.post_send(Op.NOP, ring=False)
    ring(plain, 0)
    doorbell(guest.card, 0x600, guest.uar + 1, bytes(4) + (a.number << 8 | 1).to_bytes(4, 'big'))
    doorbell(guest.card, 0x600, guest.uar, bytes(4) + (0xffffff << 8 | 1).to_bytes(4, 'big'))
    assert guest.card.datapath.stray_doorbells == before + 3
    doorbell(guest.card, 0x600, guest.uar, bytes(4))
    assert plain.scq.poll() == [] and a.model.state == 3
    ring(a, 64)
    assert a.model.state == 6
    ring(b, 0, 63)      # a WQE whose size is more than what is posted in memory: it is zeroes
    assert b.model.state == 6 and [c['syndrome'] for c in b.scq.poll()][:1] == [2]


def test_only_where_the_card_has_it(guest: Guest) -> None:
    """Mode 2 is not offered, and ConnectX-5 has neither."""
    with pytest.raises(Exception, match='BAD_PARAM'):
        GuestQp(guest, send_dbr_mode=2)
    with pytest.raises(Exception, match='BAD_PARAM'):
        GuestQp(Guest(profile='connectx5'), send_dbr_mode=1)
