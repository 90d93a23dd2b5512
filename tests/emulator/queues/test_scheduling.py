# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Quality of service and link aggregation of the emulated card: scheduling elements, packet pacing,
port affinity."""
import functools

import pytest
from emulator.driver.commands import run
from emulator.driver.guest import UD, Guest, GuestCq, GuestQp, connected, raddr, sge
from emulator.driver.raw_queues import READY, RESET, GuestSq, eth
from mlx5emu import prm
from mlx5emu.prm.wqe import Op

SCHED = 0x26
NIC, ESWITCH = 3, 2
TSAR, QUEUE_GROUP = 0, 4


GUEST = functools.partial(Guest, link_layer='eth')


def create(g: Guest, element_type: int = TSAR, parent: int = 0, *, uid: int = 0, **context) -> int:
    """CREATE_SCHEDULING_ELEMENT; the number."""
    fields = {'element_type': element_type, 'parent_element_id': parent, **context}
    return g.cmd('CREATE_SCHEDULING_ELEMENT', uid=uid, scheduling_hierarchy=NIC, **{
        f'scheduling_context.{k}': v for k, v in fields.items()})['scheduling_element_id']


def status(g: Guest, *args, **kw) -> str:
    """How CREATE_SCHEDULING_ELEMENT ends."""
    fields = dict(zip(('element_type', 'parent_element_id'), args, strict=False))
    options = {k: kw.pop(k) for k in ('uid',) if k in kw}
    return g.fails('CREATE_SCHEDULING_ELEMENT', scheduling_hierarchy=kw.pop('hierarchy', NIC),
                   **options, **{f'scheduling_context.{k}': v for k, v in {**fields, **kw}.items()})


def set_groups(qp: GuestQp, requester: int, responder: int = 0, *, command: str = 'RTS2RTS_QP',
               uid: int = 0, ext: int = 1) -> str:
    """Modify the queue groups of a QP; the status."""
    more = prm.new('qpc_ext')
    more.set(qos_queue_group_id_requester=requester, qos_queue_group_id_responder=responder)
    return qp.g.fails(command, bytes(more.buf), uid=uid, qpn=qp.number, qpc_ext=ext,
                      opt_param_mask_95_32=2)


def destroy(g: Guest, number: int, **kw) -> str:
    """Status of DESTROY_SCHEDULING_ELEMENT."""
    return g.fails('DESTROY_SCHEDULING_ELEMENT', scheduling_hierarchy=kw.pop('hierarchy', NIC),
                   scheduling_element_id=number, **kw)


# ---- scheduling elements

def test_tree(guest: Guest) -> None:
    """A TSAR with a TSAR and a group below it: none goes before what is below."""
    root = create(guest)
    node = create(guest, TSAR, root, bw_share=10)
    leaf = create(guest, QUEUE_GROUP, node, max_average_bw=7)
    out = guest.cmd('QUERY_SCHEDULING_ELEMENT', scheduling_hierarchy=NIC,
                    scheduling_element_id=leaf)
    assert (out['scheduling_context.max_average_bw'],
            out['scheduling_context.parent_element_id']) == (7, node)
    assert destroy(guest, root) == 'BAD_RES_STATE' and destroy(guest, node) == 'BAD_RES_STATE'
    assert [destroy(guest, n) for n in (leaf, node, root)] == ['OK'] * 3
    assert not len(guest.card.general_objects) and destroy(guest, root) == 'BAD_RES'


@pytest.mark.parametrize(('fields', 'expected'), [({'hierarchy': ESWITCH}, 'BAD_PARAM'),
                                                  ({'element_type': 1}, 'BAD_PARAM'),
                                                  ({'element_type': 9}, 'BAD_PARAM'),
                                                  ({'element_type': QUEUE_GROUP}, 'BAD_PARAM'),
                                                  ({'element_attributes': 2 << 16}, 'BAD_PARAM'),
                                                  ({'bw_share': 101}, 'BAD_PARAM'),
                                                  ({'parent_element_id': 0x77}, 'BAD_RES')])
def test_refused_element(guest: Guest, fields: dict, expected: str) -> None:
    """Each wrong field has its status, and nothing is left."""
    assert status(guest, **fields) == expected
    assert not len(guest.card.general_objects)


def test_tree_is_bounded(guest: Guest) -> None:
    """A group has no children; a hierarchy has five levels; there are 256 groups."""
    root = node = create(guest)
    leaf = create(guest, QUEUE_GROUP, root)
    assert status(guest, TSAR, leaf) == 'BAD_PARAM'
    for _ in range(4):
        node = create(guest, TSAR, node)
    assert status(guest, TSAR, node) == 'EXCEED_LIM'
    for _ in range(255):
        create(guest, QUEUE_GROUP, root)
    assert status(guest, QUEUE_GROUP, root) == 'EXCEED_LIM'


def test_foreign_element(guest: Guest) -> None:
    """Another user's element is not there."""
    mine, yours = (guest.cmd('CREATE_UCTX')['uid'] for _ in range(2))
    root = create(guest, uid=mine)
    assert status(guest, QUEUE_GROUP, root, uid=yours) == 'BAD_RES'
    assert destroy(guest, root, uid=yours) == 'BAD_RES'
    qp = GuestQp(guest)
    leaf = create(guest, QUEUE_GROUP, root, uid=mine)
    assert set_groups(qp, leaf, uid=yours) == 'BAD_RES'
    run(guest.card, 'DESTROY_UCTX', {'uid': mine})
    assert not len(guest.card.general_objects)


def test_general_object(guest: Guest) -> None:
    """The same element as a general object, as libmlx5 makes it: queried and modified; the context
    says what can be changed."""
    element = prm.new('sched_elem')
    element['scheduling_hierarchy'] = NIC
    number = guest.cmd('CREATE_GENERAL_OBJECT', bytes(element.buf), op_mod=0,
                       obj_type=SCHED)['obj_id']
    new = prm.new('sched_elem')
    new['scheduling_hierarchy'] = NIC
    context = prm.new('scheduling_context')
    context.set(bw_share=3, max_average_bw=4, element_type=QUEUE_GROUP)
    new.set(sched_context=bytes(context.buf), modify_field_select=3)
    guest.cmd('MODIFY_GENERAL_OBJECT', bytes(new.buf), obj_type=SCHED, obj_id=number)
    out = guest.cmd('QUERY_GENERAL_OBJECT', obj_type=SCHED, obj_id=number,
                    out_len=16 + len(new.buf))
    shown = prm.View('scheduling_context', prm.View('sched_elem', out.buf, 16)['sched_context'])
    assert (shown['bw_share'], shown['max_average_bw'], shown['element_type']) == (3, 4, TSAR)
    new['modify_field_select'] = 4
    assert guest.fails('MODIFY_GENERAL_OBJECT', bytes(new.buf), obj_type=SCHED,
                       obj_id=number) == 'BAD_PARAM'
    assert guest.fails('MODIFY_GENERAL_OBJECT', bytes(new.buf[:-4]), obj_type=SCHED,
                       obj_id=number) == 'BAD_INP_LEN'
    guest.cmd('DESTROY_GENERAL_OBJECT', obj_type=SCHED, obj_id=number)


def write_many(guest: Guest, qp: GuestQp, count: int, size: int) -> None:
    """Post RDMA writes and ring once."""
    buf = guest.alloc(2 * size)
    key = guest.mkey(buf, 2 * size)
    for _ in range(count):
        qp.post_send(Op.WRITE, raddr(buf + size, key), sge(buf, size, key), ring=False)
    qp.ring()


def test_rate_of_a_group_holds() -> None:
    """Ten megabits a second, of the group or of a TSAR above it: a message of 12,500 bytes each ten
    milliseconds."""
    guest = Guest()
    root = create(guest, max_average_bw=10)
    leaf = create(guest, QUEUE_GROUP, root, max_average_bw=1000)
    a, _ = connected(guest, scq=GuestCq(guest, 7))
    assert set_groups(a, leaf, leaf) == 'OK'
    write_many(guest, a, 10, 12500)
    assert len(a.scq.poll()) == 1
    for n in range(1, 5):
        guest.run(9.9 if n == 1 else 9.999999)
        assert a.scq.poll() == []
        guest.run(0.1 if n == 1 else 0.000001)
        assert len(a.scq.poll()) == 1, n
    # Without a limit the rest goes as soon as the queue is looked at again.
    guest.cmd('MODIFY_SCHEDULING_ELEMENT', scheduling_hierarchy=NIC, scheduling_element_id=root,
              modify_bitmask=2)
    guest.run(50)
    assert len(a.scq.poll()) == 5


def test_queue_in_a_group(guest: Guest) -> None:
    """A QP holds its groups until it leaves them, is reset or destroyed; QUERY_QP shows them."""
    root = create(guest)
    first, second = create(guest, QUEUE_GROUP, root), create(guest, QUEUE_GROUP, root)
    a, _ = connected(guest)
    assert set_groups(a, first, second) == 'OK'
    assert destroy(guest, first) == destroy(guest, second) == 'BAD_RES_STATE'
    out = guest.cmd('QUERY_QP', qpn=a.number, qpc_ext=1)
    shown = prm.View('qpc_ext', out.buf, 0x110)
    assert (shown['qos_queue_group_id_requester'],
            shown['qos_queue_group_id_responder']) == (first, second)
    assert guest.fails('QUERY_QP', qpn=a.number, qpc_ext=1, out_len=0x110) == 'BAD_OUTP_LEN'
    assert guest.fails('QUERY_QP', qpn=a.number, out_len=0x110) == 'OK'
    assert set_groups(a, second) == 'OK' and destroy(guest, first) == 'OK'
    guest.cmd('2RST_QP', qpn=a.number)
    assert destroy(guest, second) == 'OK'
    a.to_init()
    third = create(guest, QUEUE_GROUP, root)
    assert set_groups(a, third, command='INIT2INIT_QP') == 'OK' and destroy(
        guest, third) == 'BAD_RES_STATE'
    guest.cmd('DESTROY_QP', qpn=a.number)
    assert destroy(guest, third) == 'OK'


def test_refused_groups(guest: Guest) -> None:
    """A TSAR is no group; a datagram QP answers nothing; the extended context must be there. The QP
    stays as it was."""
    root = create(guest)
    leaf = create(guest, QUEUE_GROUP, root)
    a, _ = connected(guest)
    assert set_groups(a, root) == 'BAD_PARAM' and set_groups(a, 0x99) == 'BAD_RES'
    assert set_groups(a, leaf, ext=0) == 'BAD_PARAM'
    ud = GuestQp(guest, UD)
    ud.to_init()
    assert set_groups(ud, leaf, leaf, command='INIT2INIT_QP') == 'BAD_PARAM'
    assert set_groups(ud, leaf, command='INIT2INIT_QP') == 'OK'
    assert guest.card.general_objects.find(leaf).refs == 1 and a.model.queue_group is None


# ---- packet pacing

def pace(guest: Guest, index: int, rate: int, uid: int = 0xffff) -> str:
    """Status of SET_PP_RATE_LIMIT."""
    return guest.fails('SET_PP_RATE_LIMIT', uid=uid, rate_limit_index=index, **{
        'ctx.rate_limit': rate})


def test_pacing_table(guest: Guest) -> None:
    """Indices 1 to 127, rates within the range, each index one user's."""
    assert pace(guest, 0, 100) == pace(guest, 128, 100) == 'BAD_INDEX'
    assert pace(guest, 1, 100_000_001) == 'BAD_PARAM'
    assert pace(guest, 127, 100_000_000) == 'OK'
    uid = guest.cmd('CREATE_UCTX')['uid']
    assert pace(guest, 127, 5, uid) == 'BAD_RES_STATE' and pace(guest, 1, 5, uid) == 'OK'
    assert pace(guest, 1, 0) == 'BAD_RES_STATE'
    run(guest.card, 'DESTROY_UCTX', {'uid': uid})
    assert pace(guest, 1, 7) == 'OK'
    assert pace(guest, 127, 0) == 'OK' and pace(guest, 127, 5, 0) == 'OK'


def test_infiniband_does_not_pace() -> None:
    """There are no raw send queues to pace."""
    assert pace(Guest(link_layer='ib'), 1, 100) == 'BAD_SYS_STATE'


def test_paced_queue(guest: Guest) -> None:
    """80 kilobits a second: a frame of 1,000 bytes each tenth of a second; taking the rate away
    frees the queue."""
    assert GuestSq(guest).modify(RESET, READY) == 'OK'
    with pytest.raises(Exception, match='BAD_INDEX'):
        GuestSq(guest, packet_pacing_rate_limit_index=3)
    assert pace(guest, 3, 80) == 'OK'
    q = GuestSq(guest, packet_pacing_rate_limit_index=3)
    assert q.modify(RESET, READY) == 'OK'
    buf = guest.alloc(1000)
    key = guest.mkey(buf, 1000)
    for _ in range(4):
        q.post(Op.SEND, eth(), sge(buf, 1000, key))
    assert len(q.cq.poll()) == 1
    guest.run(98)
    assert q.cq.poll() == []
    guest.run(2)
    assert len(q.cq.poll()) == 1
    bad = {
        'sqn': q.number, 'sq_state': READY, 'ctx.state': READY, 'modify_bitmask': 1,
        'ctx.packet_pacing_rate_limit_index': 4}
    assert guest.fails('MODIFY_SQ', **bad) == 'BAD_INDEX'
    assert guest.fails('MODIFY_SQ', **{**bad, 'modify_bitmask': 2}) == 'BAD_PARAM'
    guest.cmd('MODIFY_SQ', **{**bad, 'ctx.packet_pacing_rate_limit_index': 0})
    guest.run(50)
    assert len(q.cq.poll()) == 2


def test_queue_group_of_a_send_queue(guest: Guest) -> None:
    """By MODIFY_SQ bit 2, or from the beginning; the group is held."""
    root = create(guest)
    leaf = create(guest, QUEUE_GROUP, root)
    q = GuestSq(guest, qos_queue_group_id=leaf)
    assert destroy(guest, leaf) == 'BAD_RES_STATE'
    change = {'sqn': q.number, 'modify_bitmask': 4}
    assert guest.fails('MODIFY_SQ', **change, **{'ctx.qos_queue_group_id': root}) == 'BAD_PARAM'
    guest.cmd('MODIFY_SQ', **change)
    assert destroy(guest, leaf) == 'OK'
    assert guest.fails('MODIFY_SQ', **change, **{'ctx.qos_queue_group_id': leaf}) == 'BAD_RES'


# ---- link aggregation

def test_bond(guest: Guest) -> None:
    """There is none, of two ports on Ethernet and of one on InfiniBand: who asks is told so."""
    for g, second in ((guest, 2), (Guest(link_layer='ib'), 0)):
        out = g.cmd('QUERY_LAG')
        assert (out['ctx.lag_state'], out['ctx.port_select_mode'], out['ctx.tx_remap_affinity_1'],
                out['ctx.tx_remap_affinity_2']) == (0, 0, 1, second)


def test_affinity_of_a_qp(guest: Guest) -> None:
    """Taken when it leaves the reset state, changed by its option bit only, refused beyond the
    second port."""
    a = GuestQp(guest)
    a.to_init(lag_tx_port_affinity=2)

    def shown() -> int:
        return guest.cmd('QUERY_QP', qpn=a.number)['qpc.lag_tx_port_affinity']
    assert shown() == 2
    a.to_rtr(a.number, lag_tx_port_affinity=1)
    a.to_rts()
    assert shown() == 2
    a.modify('RTS2RTS_QP', 1 << 15, lag_tx_port_affinity=1)
    assert shown() == 1
    assert guest.fails('RTS2RTS_QP', qpn=a.number, opt_param_mask=1 << 15, **{
        'qpc.lag_tx_port_affinity': 3}) == 'BAD_PARAM'
    assert shown() == 1


def test_affinity_of_a_tis(guest: Guest) -> None:
    """The same for a TIS."""
    assert guest.fails('CREATE_TIS', **{'ctx.lag_tx_port_affinity': 3}) == 'BAD_PARAM'
    tis = guest.cmd('CREATE_TIS', **{'ctx.lag_tx_port_affinity': 1})['tisn']
    guest.cmd('MODIFY_TIS', tisn=tis, **{
        'bitmask.lag_tx_port_affinity': 1, 'ctx.lag_tx_port_affinity': 2})
    assert guest.fails('MODIFY_TIS', tisn=tis, **{
        'bitmask.lag_tx_port_affinity': 1, 'ctx.lag_tx_port_affinity': 3}) == 'BAD_PARAM'
    assert guest.cmd('QUERY_TIS', tisn=tis)['tis_context.lag_tx_port_affinity'] == 2
