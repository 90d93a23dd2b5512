# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The virtual port, configuration registers, and firmware-managed steering."""
import pytest
from emulator.driver.commands import encode, run, status
from emulator.driver.memory import GuestMemory
from emulator.driver.registers import register, register_status
from mlx5emu import prm
from mlx5emu.firmware.tables import Object
from mlx5emu.steering import flow

# ---- InfiniBand

def test_hca_vport_context(ib) -> None:
    out = run(ib, 'QUERY_HCA_VPORT_CONTEXT')
    c = out.sub('hca_vport_context')
    assert (c['vport_state'], c['port_physical_state'], c['port_guid'],
            c['node_guid']) == (4, 5, ib.guid, ib.guid)
    assert c['lid'] and c['sm_lid']
    for fields in ({'vport_number': 1}, {'port_num': 2}):
        assert status(ib, 'QUERY_HCA_VPORT_CONTEXT', fields) == 'BAD_PARAM'
    bit = c['cap_mask1_field_select']
    assert bit == 1 << 16
    base = 'hca_vport_context.'
    run(ib, 'MODIFY_HCA_VPORT_CONTEXT',
        {base + 'cap_mask1': 0xffffffff, base + 'cap_mask1_field_select': bit})
    assert run(ib, 'QUERY_HCA_VPORT_CONTEXT')[base + 'cap_mask1'] == c['cap_mask1'] | bit
    run(ib, 'MODIFY_HCA_VPORT_CONTEXT',
        {base + 'cap_mask1': 0, base + 'cap_mask1_field_select': bit})
    assert run(ib, 'QUERY_HCA_VPORT_CONTEXT')[base + 'cap_mask1'] == c['cap_mask1'] & ~bit
    assert status(ib, 'MODIFY_HCA_VPORT_CONTEXT',
                  {base + 'cap_mask1_field_select': 2}) == 'BAD_PARAM'
    assert status(ib, 'MODIFY_HCA_VPORT_CONTEXT', {base + 'field_select': 1}) == 'BAD_PARAM'


def test_gids_and_pkeys(ib) -> None:
    gid = b'\xfe\x80' + bytes(6) + ib.guid.to_bytes(8, 'big')
    assert bytes(run(ib, 'QUERY_HCA_VPORT_GID', out_len=32).buf[16:]) == gid
    assert bytes(run(ib, 'QUERY_HCA_VPORT_GID', {'gid_index': 7}, out_len=32).buf[16:]) == bytes(16)
    out = run(ib, 'QUERY_HCA_VPORT_GID', {'gid_index': 0xffff}, out_len=16 + 8 * 16)
    assert out['gids_num'] == 8 and bytes(out.buf[16:32]) == gid and not any(out.buf[32:])
    assert status(ib, 'QUERY_HCA_VPORT_GID', {'gid_index': 8}, out_len=32) == 'BAD_INDEX'
    assert status(ib, 'QUERY_HCA_VPORT_GID', {'gid_index': 0xffff}, out_len=32) == 'BAD_OUTP_LEN'
    assert bytes(run(ib, 'QUERY_HCA_VPORT_PKEY', out_len=20).buf[16:]) == b'\0\0\xff\xff'
    assert bytes(run(ib, 'QUERY_HCA_VPORT_PKEY', {'pkey_index': 127},
                     out_len=20).buf[16:]) == bytes(4)
    assert status(ib, 'QUERY_HCA_VPORT_PKEY', {'pkey_index': 128}, out_len=20) == 'BAD_INDEX'
    assert status(ib, 'QUERY_HCA_VPORT_PKEY', {'pkey_index': 0xffff}, out_len=20) == 'BAD_OUTP_LEN'


def test_a_write_of_the_port_state_answers_with_it(ib) -> None:
    """User-space drivers read the state by a write that changes nothing."""
    asked = register(ib, 'PAOS', write=True, admin_status=2)
    assert (asked['admin_status'], asked['oper_status']) == (1, 1) and ib.vport.up
    assert register(ib, 'PAOS', write=True, admin_status=2,
                    ase=1)['oper_status'] == 2 and not ib.vport.up


# ---- Ethernet

def test_nic_vport_context(eth) -> None:
    def query(**f):
        return run(eth, 'QUERY_NIC_VPORT_CONTEXT', f).sub('nic_vport_context')
    c = query()
    assert c['node_guid'] == eth.guid and c['mtu'] == 1500 and not c['roce_en']
    assert c['permanent_address.mac_addr_47_32'] << 32 | c[
        'permanent_address.mac_addr_31_0'] == eth.vport.mac

    def modify(select: str, **fields: int) -> str:
        return status(eth, 'MODIFY_NIC_VPORT_CONTEXT', {f'field_select.{select}': 1} |
                      {f'nic_vport_context.{k}': v for k, v in fields.items()})
    assert modify('mtu', mtu=9000, roce_en=1) == 'OK'
    assert (query()['mtu'], query()['roce_en']) == (9000, 0), 'only what is selected'
    assert modify('mtu', mtu=67) == 'BAD_PARAM' and modify('mtu', mtu=10219) == 'BAD_PARAM'
    assert modify('roce_en', roce_en=1) == 'OK' and query()['roce_en'] == 1
    assert modify('promisc', promisc_uc=1, promisc_all=1) == 'OK'
    assert (query()['promisc_uc'], query()['promisc_mc'], query()['promisc_all']) == (1, 0, 1)
    assert modify('affiliation', affiliated_vhca_id=1) == 'BAD_PARAM'
    assert status(eth, 'QUERY_NIC_VPORT_CONTEXT', {'vport_number': 1}) == 'BAD_PARAM'
    eth.caps.current['general']['roce'] = 0
    assert modify('roce_en', roce_en=1) == 'BAD_PARAM'


def test_address_lists(eth) -> None:
    macs = [0x0000_3333_0000_0000 | k for k in range(3)]
    fields = {
        'field_select.addresses_list': 1, 'nic_vport_context.allowed_list_type': 1,
        'nic_vport_context.allowed_list_size': 3}
    run(eth, 'MODIFY_NIC_VPORT_CONTEXT', fields, extra=b''.join(m.to_bytes(8, 'big') for m in macs))
    assert eth.vport.address_lists == {0: [], 1: macs, 2: []}
    out = run(eth, 'QUERY_NIC_VPORT_CONTEXT', {'allowed_list_type': 1}, out_len=0x110 + 24)
    assert out['nic_vport_context.allowed_list_size'] == 3
    assert [out[f'nic_vport_context.current_uc_mac_address[{k}]'] for k in range(3)] == macs
    assert status(eth, 'MODIFY_NIC_VPORT_CONTEXT',
                  fields | {'nic_vport_context.allowed_list_size': 4},
                  extra=bytes(24)) == 'BAD_INP_LEN'
    assert status(
        eth, 'MODIFY_NIC_VPORT_CONTEXT', fields |
        {'nic_vport_context.allowed_list_type': 0, 'nic_vport_context.allowed_list_size': 129},
        extra=bytes(8 * 129)) == 'BAD_PARAM'
    assert status(eth, 'MODIFY_NIC_VPORT_CONTEXT',
                  fields | {'nic_vport_context.allowed_list_type': 7},
                  extra=bytes(24)) == 'BAD_PARAM'
    assert status(eth, 'QUERY_NIC_VPORT_CONTEXT', {'allowed_list_type': 3}) == 'BAD_PARAM'
    assert eth.vport.address_lists[1] == macs


def test_roce_addresses(eth, ib) -> None:
    entry = {
        'roce_address.source_l3_address': bytes(range(16)), 'roce_address.roce_version': 2,
        'roce_address.source_mac_31_0': 5}
    run(eth, 'SET_ROCE_ADDRESS', entry | {'roce_address_index': 254})
    assert prm.View('roce_addr_layout',
                    eth.vport.roce_addresses[254])['source_l3_address'] == bytes(range(16))
    assert status(eth, 'SET_ROCE_ADDRESS', entry | {'roce_address_index': 255}) == 'BAD_INDEX'
    run(eth, 'SET_ROCE_ADDRESS', {'roce_address_index': 254})
    assert eth.vport.roce_addresses == {}
    assert status(ib, 'SET_ROCE_ADDRESS', entry) == 'BAD_SYS_STATE'


def test_port_state_and_its_event(eth) -> None:
    guest = GuestMemory(eth)
    buffer = guest.alloc(4096)
    uar = run(eth, 'ALLOC_UAR')['uar']
    run(eth, 'CREATE_EQ', {
        'eq_context_entry.log_eq_size': 2, 'eq_context_entry.uar_page': uar, 'event_bitmask[0]':
        1 << 9}, extra=buffer.to_bytes(8, 'big'))
    assert run(eth, 'QUERY_VPORT_STATE')['state'] == 1
    register(eth, 'PAOS', write=True, local_port=1, admin_status=2, ase=1)
    assert run(eth, 'QUERY_VPORT_STATE')['state'] == 0 and register(eth, 'PAOS')['oper_status'] == 2
    eqe = guest.read(buffer, 64)
    assert (eqe[1], eqe[3], eqe[32 + 8] >> 4) == (9, 1, 1)
    register(eth, 'PAOS', write=True, local_port=1, admin_status=1, ase=1)
    register(eth, 'PAOS', write=True, local_port=1, admin_status=1, ase=1)
    assert (guest.read(buffer + 64, 64)[3], eth.eqs.get(4).producer) == (4, 2)


def test_vport_counters(eth) -> None:
    eth.vport.count('received_eth_unicast', 100)
    eth.vport.count('received_eth_unicast', 60)
    out = run(eth, 'QUERY_VPORT_COUNTER', {'clear': 1})
    assert (out['received_eth_unicast.packets'], out['received_eth_unicast.octets']) == (2, 160)
    assert run(eth, 'QUERY_VPORT_COUNTER')['received_eth_unicast.packets'] == 0


# ---- registers

def test_registers(eth, ib) -> None:
    assert register(eth, 'PTYS', local_port=1, proto_mask=4)['eth_proto_oper'] and register(
        ib, 'PTYS', proto_mask=1)['ib_proto_oper']
    assert register(eth, 'PMTU')['max_mtu'] == 10218 and register(ib, 'PMTU')['oper_mtu'] == 4096
    register(eth, 'PMTU', write=True, admin_mtu=9022)
    assert register(eth, 'PMTU')['oper_mtu'] == 9022
    assert register_status(eth, 'PMTU', admin_mtu=10219) == 'BAD_PARAM' and register_status(
        ib, 'PMTU', admin_mtu=4097) == 'BAD_PARAM'
    register(ib, 'NODE_DESC', write=True, node_description=b'other'.ljust(64, b'\0'))
    assert register(ib, 'NODE_DESC')['node_description'].rstrip(b'\0') == b'other'
    assert register(ib, 'PVLC')['vl_hw_cap'] == 4 and register(eth, 'PMLP')['width'] == 4
    register(ib, 'HOST_ENDIANNESS', write=True, he=0x80)
    assert register(ib, 'HOST_ENDIANNESS')['he'] == 0x80


def test_register_refusals(eth) -> None:
    assert status(eth, 'ACCESS_REG', {'register_id': 0xffff}, op_mod=1,
                  extra=bytes(16)) == 'BAD_PARAM'
    assert status(eth, 'ACCESS_REG', {'register_id': 0x5003}, op_mod=2,
                  extra=bytes(16)) == 'BAD_PARAM'
    assert status(eth, 'ACCESS_REG', {'register_id': 0x5003}, op_mod=1,
                  extra=bytes(5000)) == 'BAD_INP_LEN'
    for name in ('PTYS', 'PMTU', 'PAOS'):
        assert register_status(eth, name, write=False, local_port=2) == 'BAD_PARAM'
    assert register_status(eth, 'PTYS', eth_proto_admin=1) == 'BAD_PARAM'
    assert register_status(eth, 'PAOS', ase=1, admin_status=3) == 'BAD_PARAM'


# ---- flow tables


def table(card, *, kind: int = 0, level: int = 10, log_size: int = 4,
          miss: int | None = None) -> int:
    fields = {
        'table_type': kind, 'flow_table_context.level': level, 'flow_table_context.log_size':
        log_size}
    if miss is not None:
        fields |= {
            'flow_table_context.table_miss_action': 1, 'flow_table_context.table_miss_id': miss}
    return run(card, 'CREATE_FLOW_TABLE', fields)['table_id']


def group(card, t: int, start: int, end: int) -> int:
    return run(card, 'CREATE_FLOW_GROUP', {
        'table_id': t, 'start_flow_index': start, 'end_flow_index': end, 'match_criteria_enable': 1
    })['group_id']


def entry_fields(t: int, g: int, index: int, **context: int) -> dict[str, int]:
    return {'table_id': t, 'flow_index': index, 'flow_context.group_id': g} | {
        f'flow_context.{k}': v for k, v in context.items()}


def destination(kind: int, number: int) -> bytes:
    return bytes([kind]) + number.to_bytes(3, 'big') + bytes(4)


def test_flow_objects_go_in_order(eth) -> None:
    low, high = table(eth, level=1), table(eth, level=2)
    g = group(eth, low, 0, 7)
    run(eth, 'SET_FLOW_TABLE_ENTRY',
        entry_fields(low, g, 3, action=4, destination_list_size=1, flow_tag=9), extra=destination(
            flow.TO_TABLE, high))
    e = eth.flow_tables.get(low).entries[3]
    assert (e.action, e.tag, e.destinations) == (4, 9, [(flow.TO_TABLE, high)])
    assert status(eth, 'DESTROY_FLOW_TABLE', {'table_id': high}) == 'BAD_RES_STATE'
    assert status(eth, 'DESTROY_FLOW_TABLE', {'table_id': low}) == 'BAD_RES_STATE'
    assert status(eth, 'DESTROY_FLOW_GROUP', {'table_id': low, 'group_id': g}) == 'BAD_RES_STATE'
    run(eth, 'DELETE_FLOW_TABLE_ENTRY', {'table_id': low, 'flow_index': 3})
    assert status(eth, 'DELETE_FLOW_TABLE_ENTRY', {'table_id': low, 'flow_index': 3}) == 'BAD_RES'
    run(eth, 'DESTROY_FLOW_TABLE', {'table_id': high})
    run(eth, 'DESTROY_FLOW_GROUP', {'table_id': low, 'group_id': g})
    assert status(eth, 'DESTROY_FLOW_GROUP', {'table_id': low, 'group_id': g}) == 'BAD_RES'
    run(eth, 'DESTROY_FLOW_TABLE', {'table_id': low})
    assert eth.objects() == {} and eth.memory.used == 0


def test_flow_entries(eth) -> None:
    t = table(eth)
    g = group(eth, t, 4, 7)
    tir = Object()
    number = eth.tirs.alloc(tir)
    to_tir = destination(flow.TO_TIR, number)
    put = lambda index, op_mod=0, extra=to_tir, **c: status(  # noqa: E731
        eth, 'SET_FLOW_TABLE_ENTRY',
        entry_fields(t, g, index, **
                     ({'action': 4, 'destination_list_size': 1} | c)), extra=extra, op_mod=op_mod)
    assert put(3) == put(8) == 'BAD_PARAM', 'outside the group'
    assert put(4, extra=destination(flow.TO_TIR, number + 1)) == 'BAD_RES'
    assert put(4, extra=destination(0x55, number)) == 'BAD_PARAM'
    assert put(4, extra=b'') == 'BAD_INP_LEN' and put(4, destination_list_size=513) == 'BAD_PARAM'
    assert put(4, group_id=g + 1) == 'BAD_RES' and put(4, op_mod=1) == 'BAD_RES' and put(
        4, op_mod=2) == 'BAD_PARAM'
    assert tir.refs == 0 and eth.flow_tables.get(t).entries == {}
    assert put(4) == 'OK' and put(4) == 'BAD_RES_STATE' and tir.refs == 1
    counter = run(eth, 'ALLOC_FLOW_COUNTER')['flow_counter_id']
    assert put(4, op_mod=1, action=8, flow_counter_list_size=1,
               extra=counter.to_bytes(4, 'big') + bytes(4)) == 'OK'
    assert tir.refs == 0 and eth.flow_tables.get(t).entries[4].counters == [counter]
    assert status(eth, 'DEALLOC_FLOW_COUNTER', {'flow_counter_id': counter}) == 'BAD_RES_STATE'
    run(eth, 'DELETE_FLOW_TABLE_ENTRY', {'table_id': t, 'flow_index': 4})
    run(eth, 'DEALLOC_FLOW_COUNTER', {'flow_counter_id': counter})


def test_flow_tables_and_groups_refused(eth, ib) -> None:
    assert status(ib, 'CREATE_FLOW_TABLE',
                  {'table_type': 1}) == 'BAD_PARAM', 'InfiniBand ports send no frames'
    for fields in ({'table_type': 3}, {'vport_number': 1}, {'flow_table_context.log_size': 21}, {
            'flow_table_context.sw_owner': 1}):
        assert status(eth, 'CREATE_FLOW_TABLE', fields) == 'BAD_PARAM'
    assert status(
        eth, 'CREATE_FLOW_TABLE',
        {'flow_table_context.table_miss_action': 1, 'flow_table_context.table_miss_id': 5
         }) == 'BAD_RES'
    t = table(eth)
    group(eth, t, 2, 5)
    for start, end in ((5, 4), (0, 16), (5, 5), (0, 2), (0, 15), (3, 4)):
        assert status(
            eth, 'CREATE_FLOW_GROUP',
            {'table_id': t, 'start_flow_index': start, 'end_flow_index': end}) == 'BAD_PARAM'
    group(eth, t, 6, 15)
    assert status(eth, 'CREATE_FLOW_GROUP',
                  {'table_id': t, 'table_type': 1, 'end_flow_index': 1}) == 'BAD_RES'
    assert status(eth, 'DESTROY_FLOW_TABLE', {'table_id': t + 1}) == 'BAD_RES'


def test_miss_and_root(eth) -> None:
    a = table(eth)
    b = table(eth, level=9, miss=a)
    assert run(eth, 'QUERY_FLOW_TABLE', {'table_id': b})['flow_table_context.table_miss_id'] == a
    assert status(eth, 'DESTROY_FLOW_TABLE', {'table_id': a}) == 'BAD_RES_STATE'
    run(eth, 'MODIFY_FLOW_TABLE', {'table_id': b, 'modify_field_select': 1})
    run(eth, 'SET_FLOW_TABLE_ROOT', {'table_id': a})
    assert eth.flow_roots[0].number == a
    run(eth, 'SET_FLOW_TABLE_ROOT', {'table_id': b})
    assert (eth.flow_tables.get(a).refs, eth.flow_tables.get(b).refs) == (0, 1)
    run(eth, 'SET_FLOW_TABLE_ROOT', op_mod=1)
    assert eth.flow_roots == {}
    run(eth, 'SET_FLOW_TABLE_ROOT', {'table_id': b})
    run(eth, 'DESTROY_FLOW_TABLE', {'table_id': b})     # the driver destroys the last root so
    run(eth, 'DESTROY_FLOW_TABLE', {'table_id': a})
    assert eth.flow_roots == {} and eth.objects() == {}


@pytest.mark.parametrize('level', [10, 11, 64])
def test_a_miss_goes_to_a_table_of_a_higher_level(eth, level) -> None:
    miss = table(eth, level=10)
    assert status(
        eth, 'CREATE_FLOW_TABLE', {
            'flow_table_context.level': level, 'flow_table_context.log_size': 4,
            'flow_table_context.table_miss_action': 1,
            'flow_table_context.table_miss_id': miss}) == 'BAD_PARAM'
    assert eth.flow_tables.numbers() == [miss] and eth.flow_tables.get(miss).refs == 0
    low = table(eth, level=level)
    assert status(
        eth, 'MODIFY_FLOW_TABLE', {
            'table_id': low, 'modify_field_select': 1, 'flow_table_context.table_miss_action': 1,
            'flow_table_context.table_miss_id': miss}) == 'BAD_PARAM'
    assert eth.flow_tables.get(low).miss is None and eth.flow_tables.get(miss).refs == 0


def test_flow_counters(eth) -> None:
    first = run(eth, 'ALLOC_FLOW_COUNTER')['flow_counter_id']
    second = run(eth, 'ALLOC_FLOW_COUNTER')['flow_counter_id']
    for octets in (60, 60, 60):
        eth.flow_counters.get(second).count(second, octets)
    out = run(eth, 'QUERY_FLOW_COUNTER',
              {'flow_counter_id': first, 'num_of_counters': 2, 'clear': 1}, out_len=16 + 32)
    assert (out['flow_statistics[0].packets'], out['flow_statistics[1].packets'],
            out['flow_statistics[1].octets']) == (0, 3, 180)
    assert eth.flow_counters.get(second).read(second) == (0, 0)
    assert status(eth, 'QUERY_FLOW_COUNTER', {'flow_counter_id': first, 'num_of_counters': 2},
                  out_len=16 + 16) == 'BAD_OUTP_LEN'
    assert status(eth, 'QUERY_FLOW_COUNTER', {'flow_counter_id': 99}, out_len=32) == 'BAD_RES'
    assert len(encode('ALLOC_FLOW_COUNTER')) == 16


def test_flow_counter_bulks(eth) -> None:
    """One object with many numbers, each of which counts by itself."""
    assert [eth.caps.get(name) for name in (
        'flow_counter_bulk_alloc', 'log_max_flow_counter_bulk')] == [4, 15]
    for bulk in (3, 8, 0x80):
        assert status(eth, 'ALLOC_FLOW_COUNTER', {'flow_counter_bulk': bulk}) == 'BAD_PARAM'
    before = eth.memory.used
    run(eth, 'ALLOC_FLOW_COUNTER')
    first = run(eth, 'ALLOC_FLOW_COUNTER', {'flow_counter_bulk': 4})['flow_counter_id']
    assert first % 512 == 0 and eth.memory.used - before == 64 * 513
    last = first + 511
    assert run(eth, 'ALLOC_FLOW_COUNTER')['flow_counter_id'] not in range(first, last + 1)
    eth.flow_counters.covering(last).count(last, 100)
    out = run(eth, 'QUERY_FLOW_COUNTER', {'flow_counter_id': first, 'num_of_counters': 512},
              out_len=16 + 16 * 512)
    assert [k for k in range(512) if out[f'flow_statistics[{k}].packets']] == [511]
    assert out['flow_statistics[511].octets'] == 100
    assert run(eth, 'QUERY_FLOW_COUNTER', {'flow_counter_id': last},
               out_len=32)['flow_statistics[0].packets'] == 1
    # Only the whole bulk can be given back, by its first number.
    assert status(eth, 'DEALLOC_FLOW_COUNTER', {'flow_counter_id': last}) == 'BAD_RES'
    run(eth, 'DEALLOC_FLOW_COUNTER', {'flow_counter_id': first})
    assert status(eth, 'QUERY_FLOW_COUNTER', {'flow_counter_id': last}, out_len=32) == 'BAD_RES'


def test_counters_of_others_are_not_read(eth) -> None:
    """A run of counters that begins with one's own tells nothing of the others in it, and leaves
    them as they are; the driver may begin one with a number that is free."""
    uid = run(eth, 'CREATE_UCTX')['uid']
    mine = run(eth, 'ALLOC_FLOW_COUNTER', uid=uid)['flow_counter_id']
    other = run(eth, 'ALLOC_FLOW_COUNTER')['flow_counter_id']
    assert other == mine + 1
    for number in (mine, other):
        eth.flow_counters.get(number).count(number, 60)
    both = {'flow_counter_id': mine, 'num_of_counters': 2, 'clear': 1}
    out = run(eth, 'QUERY_FLOW_COUNTER', both, out_len=48, uid=uid)
    assert [out[f'flow_statistics[{k}].packets'] for k in range(2)] == [1, 0]
    assert eth.flow_counters.get(other).read(other) == (1, 60)
    assert status(eth, 'QUERY_FLOW_COUNTER', {'flow_counter_id': other, 'num_of_counters': 2},
                  out_len=48, uid=uid) == 'BAD_RES'
    free = mine - 1
    out = run(eth, 'QUERY_FLOW_COUNTER', {'flow_counter_id': free, 'num_of_counters': 4},
              out_len=16 + 64)
    assert [out[f'flow_statistics[{k}].packets'] for k in range(4)] == [0, 0, 1, 0]
    assert status(eth, 'QUERY_FLOW_COUNTER', {'flow_counter_id': free}, out_len=32) == 'BAD_RES'
