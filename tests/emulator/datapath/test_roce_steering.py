# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Flow tables of InfiniBand ports: those of RDMA traffic at work, and which others there are."""
import pytest
from emulator.driver.guest import UD, Guest, GuestCq, GuestQp, av, connected, raddr, sge
from mlx5emu.firmware.flow_namespace import (
    NIC_RX,
    NIC_TX,
    RDMA_RX,
    RDMA_TX,
    TRANSPORT_RX,
    TRANSPORT_TX,
)
from mlx5emu.prm.wqe import Op, Syndrome
from mlx5emu.steering import flow

MISC = 2


def rule(g: Guest, kind: int, action: int, enable: int = 0, **match: int) -> None:
    """A root table with one rule; ``match`` names miscellaneous parameters."""
    t = g.cmd('CREATE_FLOW_TABLE', table_type=kind, **{
        'flow_table_context.log_size': 4, 'flow_table_context.level': 10})['table_id']
    group = g.cmd('CREATE_FLOW_GROUP', table_type=kind, table_id=t, start_flow_index=0,
                  end_flow_index=15, match_criteria_enable=enable, **{
                      f'match_criteria.misc_parameters.{k}': 0xffffff for k in match})['group_id']
    g.cmd('SET_FLOW_TABLE_ENTRY', table_type=kind, table_id=t, flow_index=0, **{
        'flow_context.group_id': group, 'flow_context.action': action,
        **{f'flow_context.match_value.misc_parameters.{k}': v for k, v in match.items()}})
    g.cmd('SET_FLOW_TABLE_ROOT', table_type=kind, table_id=t)


@pytest.mark.parametrize('kind', [RDMA_RX, RDMA_TX, TRANSPORT_RX, TRANSPORT_TX])
def test_a_rule_for_everything_drops(kind: int) -> None:
    """Nothing is acknowledged any more."""
    g = Guest(profile='connectx7')
    memory = g.alloc(4096)
    key = g.mkey(memory, 4096)
    a, _ = connected(g)
    rule(g, kind, flow.DROP)
    a.post_send(Op.WRITE, raddr(memory, key), sge(memory + 64, 8, key))
    g.run(300)
    assert a.scq.poll()[0]['syndrome'] == Syndrome.RETRY_EXCEEDED
    assert g.card.internal_errors == 0


def test_a_rule_for_one_queue() -> None:
    """The transport header tells which queue a packet is for; datagrams are matched too."""
    g = Guest(profile='connectx7')
    memory = g.alloc(4096)
    key = g.mkey(memory, 4096)
    qps = [GuestQp(g, UD, rcq=GuestCq(g)) for _ in range(3)]
    for qp in qps:
        qp.connect(0)
        qp.post_recv((memory, 400, key))
    rule(g, RDMA_RX, flow.DROP, MISC, bth_dst_qp=qps[1].number)
    for qp in qps[1:]:
        qps[0].post_send(Op.SEND, av(qp.number), sge(memory + 1024, 8, key))
    assert [len(qp.rcq.poll()) for qp in qps] == [0, 0, 1]
    assert g.card.internal_errors == 0


@pytest.mark.parametrize('kind', [RDMA_TX, TRANSPORT_TX])
def test_a_rule_for_one_sender(kind: int) -> None:
    """Transmit tables know the queue that sends, not the one that it is for."""
    g = Guest(profile='connectx7')
    memory = g.alloc(4096)
    key = g.mkey(memory, 4096)
    a, b = connected(g)
    rule(g, kind, flow.DROP, MISC, source_sqn=a.number)
    for qp in (b, a):
        qp.post_send(Op.WRITE, raddr(memory, key), sge(memory + 64, 8, key))
    g.run(300)
    assert b.scq.poll()[0]['opcode'] == 0 and a.scq.poll()[0]['syndrome'] == Syndrome.RETRY_EXCEEDED


def test_who_may_control_rdma() -> None:
    """Tables of the transport domain are for contexts with the right; earlier cards have
    neither."""
    g = Guest(profile='connectx7')
    plain, privileged = g.cmd('CREATE_UCTX')['uid'], g.cmd('CREATE_UCTX', **{'uctx.cap': 8})['uid']
    table = {'table_type': TRANSPORT_RX, 'flow_table_context.log_size': 4}
    assert g.fails('CREATE_FLOW_TABLE', uid=plain, **table) == 'BAD_PARAM'
    number = g.cmd('CREATE_FLOW_TABLE', uid=privileged, **table)['table_id']
    assert g.fails('DESTROY_FLOW_TABLE', uid=plain, table_type=TRANSPORT_RX,
                   table_id=number) == 'BAD_PARAM'
    g.cmd('DESTROY_FLOW_TABLE', uid=privileged, table_type=TRANSPORT_RX, table_id=number)
    old = Guest()
    assert old.fails('CREATE_FLOW_TABLE', **table) == 'BAD_PARAM'
    assert old.fails('CREATE_UCTX', **{'uctx.cap': 8}) == 'BAD_PARAM'


def test_control_objects() -> None:
    """Where the type is set: for contexts with the right, of the function itself. No profile has
    it."""
    def create(g: Guest, uid: int, vhca_id: int) -> str:
        return g.fails('CREATE_GENERAL_OBJECT',
                       bytes(14) + vhca_id.to_bytes(2, 'big') + bytes(48), uid=uid, obj_type=0x53)
    g = Guest(profile='connectx7', cap_overrides=['general_2.general_obj_types_127_64=0x80000'])
    plain, privileged = g.cmd('CREATE_UCTX')['uid'], g.cmd('CREATE_UCTX', **{'uctx.cap': 8})['uid']
    mine = g.card.caps.get('vhca_id')
    assert [create(g, plain, mine),
            create(g, privileged, mine + 1),
            create(g, privileged, mine)] == ['BAD_PARAM', 'BAD_PARAM', 'OK']
    number, = g.card.general_objects.numbers()
    out = g.cmd('QUERY_GENERAL_OBJECT', obj_type=0x53, obj_id=number, out_len=80)
    assert int.from_bytes(out.buf[30:32], 'big') == mine
    assert create(Guest(profile='connectx7'), 0, mine) == 'BAD_PARAM'


def test_which_tables_there_are() -> None:
    """Receive tables for IPoIB, none for frames that are sent."""
    g = Guest(profile='connectx7')
    table = {'flow_table_context.log_size': 4}
    assert [
        g.fails('CREATE_FLOW_TABLE', table_type=kind, **table)
        for kind in (NIC_RX, NIC_TX, RDMA_RX, RDMA_TX)] == ['OK', 'BAD_PARAM', 'OK', 'OK']
