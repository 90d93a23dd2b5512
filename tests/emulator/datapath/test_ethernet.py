# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Ethernet frames in, frames out: raw queues, flow tables with what they match and do, hashing,
checksums."""
import struct
from typing import Any

import pytest
from emulator.driver.ethernet import EthernetBench, Receiver
from emulator.driver.frames import MAC_A, MAC_B, PLAIN, ether, ipv4, udp
from emulator.driver.guest import sge
from mlx5emu import prm
from mlx5emu.datapath import rss
from mlx5emu.datapath.fabric import Fabric
from mlx5emu.firmware.flow_namespace import NIC_RX, NIC_TX, RDMA_RX, RDMA_TX
from mlx5emu.prm.wqe import Op, Syndrome
from mlx5emu.steering import flow, packet, steering
from mlx5emu.steering.packet import Packet


@pytest.fixture
def bench():
    """A function whose card must not have met a defect of its own."""
    b = EthernetBench()
    yield b
    assert b.card.internal_errors == 0


def test_loopback(bench: EthernetBench) -> None:
    """Without rules a frame is dropped; with a rule it comes back whole, and the CQE tells what it
    is."""
    r = Receiver(bench)
    bench.send(PLAIN)
    assert r.frames() == []
    bench.all_to(r, flow_tag=0x1234)
    bench.send(PLAIN, head=18)
    [(cqe, data)] = r.frames()
    assert data == PLAIN
    assert (cqe['opcode'], cqe['srqn_uidx'], cqe['qpn'], cqe['hds_ip_ext'],
            cqe['l4_l3_hdr_type']) == (2, 0x55, 0x1234, 7, 0x28)
    assert [c['opcode'] for c in bench.scq.poll()] == [0, 0]


@pytest.mark.parametrize(('field', 'value', 'wrong'), [
    ('smac_47_16', int.from_bytes(MAC_A[:4], 'big'), 1),
    ('dmac_15_0', int.from_bytes(MAC_B[4:], 'big'), 2), ('ethertype', 0x800, 0x86dd),
    ('ip_version', 4, 6), ('ip_protocol', 17, 6), ('udp_dport', 5678, 5679), ('udp_sport', 1234, 1),
    ('ttl_hoplimit', 64, 63),
    ('src_ipv4_src_ipv6', bytes(12) + bytes([1] * 4), bytes(12) + bytes([9] * 4)),
    ('cvlan_tag', 0, 1)])
def test_match(bench: EthernetBench, field: str, value: Any, wrong: Any) -> None:
    """A rule takes the frame whose field has the value, and no other; a counter tells."""
    r, t = Receiver(bench), bench.table()
    mask = bytes(12) + b'\xff' * 4 if isinstance(
        value, bytes) else (1 << prm.fields('fte_match_set_lyr_2_4')[field][1]) - 1
    g = bench.group(t, **{f'outer_headers.{field}': mask})
    counters = [bench.g.cmd('ALLOC_FLOW_COUNTER')['flow_counter_id'] for _ in range(2)]
    for k, v in enumerate((wrong, value)):
        bench.entry(t, g, k, flow.FORWARD | flow.COUNT, (flow.TO_TIR, r.tir), counter=counters[k],
                    match={f'outer_headers.{field}': v})
    bench.send(PLAIN)
    assert [bench.count(c) for c in counters] == [(0, 0), (1, len(PLAIN))]
    assert len(r.frames()) == 1


def test_priority_miss_and_drop(bench: EthernetBench) -> None:
    """The lowest index wins whatever its group; what nothing takes goes to the miss table; a drop
    is a drop."""
    a, b = Receiver(bench), Receiver(bench)
    low = bench.table(root=False, level=20)
    bench.entry(low, bench.group(low, enable=0), 0, flow.FORWARD, (flow.TO_TIR, b.tir))
    t = bench.table(table_miss_action=1, table_miss_id=low)
    every, by_port = bench.group(t, 8, 15, 0), bench.group(t, 0, 7, 1, **{
        'outer_headers.udp_dport': 0xffff})
    bench.entry(t, by_port, 3, flow.FORWARD, (flow.TO_TIR, a.tir), match={
        'outer_headers.udp_dport': 5678})
    bench.send(PLAIN)
    bench.send(ether(ipv4(udp(b'', dport=9))))
    assert (len(a.frames()), len(b.frames())) == (1, 1)
    bench.entry(t, every, 9, flow.DROP)
    bench.send(PLAIN)
    bench.send(ether(ipv4(udp(b'', dport=9))))
    assert (len(a.frames()), len(b.frames())) == (1, 0)
    bench.g.cmd('DELETE_FLOW_TABLE_ENTRY', table_id=t, flow_index=3)
    bench.send(PLAIN)
    assert (len(a.frames()), len(b.frames())) == (0, 0)


def test_refused_and_first_of_equals(bench: EthernetBench) -> None:
    """Actions and misses that the table type has not are refused; of two rules that match the same
    the lower index counts."""
    r, t = Receiver(bench), bench.table(RDMA_RX, root=False)
    g = bench.group(t, enable=0)
    head = {'table_type': RDMA_RX, 'table_id': t, 'flow_context.group_id': g}
    assert bench.g.fails('SET_FLOW_TABLE_ENTRY', **head, **{'flow_context.action':
                                                            flow.DECAP}) == 'BAD_PARAM'
    for kind, status in ((NIC_RX, 'BAD_PARAM'), (RDMA_RX, 'OK')):
        assert bench.g.fails('CREATE_FLOW_TABLE', table_type=kind, **{
            'flow_table_context.table_miss_action': 2}) == status
    t = bench.table()
    g = bench.group(t, enable=0)
    bench.entry(t, g, 5, flow.FORWARD, (flow.TO_TIR, r.tir))
    bench.entry(t, g, 7, flow.DROP)
    bench.send(PLAIN)
    assert len(r.frames()) == 1
    bench.entry(t, g, 3, flow.DROP)
    bench.send(PLAIN)
    assert r.frames() == []


def test_several_destinations_and_circle(bench: EthernetBench) -> None:
    """A copy to each destination; tables that lead in a circle end the packet, not the card."""
    a, b = Receiver(bench), Receiver(bench)
    t = bench.table()
    g = bench.group(t, enable=0)
    bench.entry(t, g, 0, flow.FORWARD, (flow.TO_TIR, a.tir), (flow.TO_TIR, b.tir))
    bench.send(PLAIN)
    assert [d for _, d in a.frames()] == [d for _, d in b.frames()] == [PLAIN]
    other = bench.table(root=False)
    bench.entry(other, bench.group(other, enable=0), 0, flow.FORWARD, (flow.TO_TABLE, t),
                (flow.TO_TABLE, t))
    bench.g.cmd('DELETE_FLOW_TABLE_ENTRY', table_id=t, flow_index=0)
    bench.entry(t, g, 0, flow.FORWARD, (flow.TO_TABLE, other), (flow.TO_TABLE, other))
    bench.send(PLAIN)
    assert bench.card.datapath.port.steering.too_long == 1
    assert bench.card.datapath.port.steering._visits >= -1 and steering.MAX_VISITS <= 1024


def test_transmit_tables(bench: EthernetBench) -> None:
    """Rules change frames before they leave, or drop them; without a match they leave."""
    r = Receiver(bench)
    bench.all_to(r)
    action = struct.pack('>HBBI', 1 << 12 | 0x1, 0, 0, 0x88888888) + struct.pack(
        '>HBBI', 1 << 12 | 0x2, 0, 16, 0x8888)
    context = bench.g.cmd('ALLOC_MODIFY_HEADER_CONTEXT', action, table_type=NIC_TX,
                          num_of_actions=2)['modify_header_id']
    t = bench.table(NIC_TX)
    g = bench.group(t, **{'outer_headers.udp_dport': 0xffff})
    bench.entry(t, g, 0, flow.ALLOW | flow.MODIFY, match={'outer_headers.udp_dport': 5678},
                modify_header_id=context)
    bench.entry(t, g, 1, flow.DROP, match={'outer_headers.udp_dport': 6})
    assert bench.g.fails('DEALLOC_MODIFY_HEADER_CONTEXT',
                         modify_header_id=context) == 'BAD_RES_STATE'
    other = ether(ipv4(udp(b'', dport=7)))
    for frame in (PLAIN, ether(ipv4(udp(b'', dport=6))), other):
        bench.send(frame)
    assert [d for _, d in r.frames()] == [PLAIN[:6] + b'\x88' * 6 + PLAIN[12:], other]


def test_modify_keeps_checksums(bench: EthernetBench) -> None:
    """Set, add and copy in network and transport headers; a checksum that was right is right
    afterwards."""
    r = Receiver(bench)
    actions = (struct.pack('>HBBI', 1 << 12 | 0x15, 0, 0, 0x0a000001) +
               struct.pack('>HBBI', 2 << 12 | 0xa, 0, 0, 0xffffffff) +
               struct.pack('>HBBHBB', 3 << 12 | 0xb, 0, 16, 0xc, 0, 0))
    context = bench.g.cmd('ALLOC_MODIFY_HEADER_CONTEXT', actions,
                          num_of_actions=3)['modify_header_id']
    t = bench.table()
    bench.entry(t, bench.group(t, enable=0), 0, flow.FORWARD | flow.MODIFY, (flow.TO_TIR, r.tir),
                modify_header_id=context)
    bench.send(packet.fill_checksums(PLAIN, True, True))
    [(cqe, data)] = r.frames()
    assert (data[26:30], data[22], data[34:36], data[36:38]) == (bytes([
        10, 0, 0, 1]), 63, PLAIN[34:36], PLAIN[34:36])
    assert cqe['hds_ip_ext'] == 7
    assert bench.g.fails('ALLOC_MODIFY_HEADER_CONTEXT',
                         struct.pack('>HBBI', 1 << 12 | 0xfff, 0, 0, 0),
                         num_of_actions=1) == 'BAD_PARAM'


def test_tunnels_and_tags(bench: EthernetBench) -> None:
    """Encapsulation, decapsulation, tags on and off: each undoes the other, and lengths and
    checksum fit."""
    r = Receiver(bench)
    vxlan = struct.pack('>II', 8 << 24, 77 << 8)
    outer = ether(ipv4(udp(vxlan, dport=4789)))
    layout = prm.new(prm.command_layouts('ALLOC_PACKET_REFORMAT_CONTEXT')[0])
    layout['opcode'] = prm.OPCODES['ALLOC_PACKET_REFORMAT_CONTEXT']
    layout['packet_reformat_context.reformat_type'] = 2
    layout['packet_reformat_context.reformat_data_size'] = len(outer)
    at = layout.offset('packet_reformat_context.reformat_data')
    out = bench.card.execute(bytes(layout.buf[:at]) + outer + bytes(2), 16)
    assert out[0] == 0
    number = int.from_bytes(out[8:12], 'big')
    tx = bench.table(NIC_TX)
    bench.entry(tx, bench.group(tx, enable=0), 0, flow.ALLOW | flow.REFORMAT,
                packet_reformat_id=number)
    rx = bench.table()
    g = bench.group(rx, 0, 7, 2, **{'misc_parameters.vxlan_vni': 0xffffff})
    bench.entry(rx, g, 0, flow.FORWARD, (flow.TO_TIR, r.tir), match={
        'misc_parameters.vxlan_vni': 77})
    bench.send(PLAIN)
    [(cqe, data)] = r.frames()
    assert data[len(outer):] == PLAIN and len(data) == len(outer) + len(PLAIN)
    assert int.from_bytes(data[16:18], 'big') == len(data) - 14 and int.from_bytes(
        data[38:40], 'big') == len(data) - 34
    assert packet.l3_ok(data, packet.parse(data))
    bench.g.cmd('DELETE_FLOW_TABLE_ENTRY', table_id=rx, flow_index=0)
    push = {'push_vlan.ethtype': 0x8100, 'push_vlan.prio': 5, 'push_vlan.vid': 0xc0c}
    bench.entry(rx, g, 1, flow.FORWARD | flow.DECAP | flow.VLAN_PUSH, (flow.TO_TIR, r.tir), match={
        'misc_parameters.vxlan_vni': 77}, **push)
    bench.send(PLAIN)
    [(cqe, data)] = r.frames()
    assert data == PLAIN[:12] + b'\x81\x00\xac\x0c' + PLAIN[12:]


def test_vlan_stripping(bench: EthernetBench) -> None:
    """A receive queue takes the tag off unless told not to, and shows it in the CQE; a rule may pop
    it before."""
    tagged = ether(ipv4(udp(b'x')), tags=b'\x81\x00\x60\x05')
    kept, stripped = Receiver(bench), Receiver(bench, vsd=0)
    t = bench.table()
    g = bench.group(t, enable=0)
    bench.entry(t, g, 0, flow.FORWARD, (flow.TO_TIR, kept.tir), (flow.TO_TIR, stripped.tir))
    bench.send(tagged)
    [(cqe, data)] = kept.frames()
    assert (data, cqe['l4_l3_hdr_type'] & 1) == (tagged, 0)
    [(cqe, data)] = stripped.frames()
    assert (data, cqe['l4_l3_hdr_type'] & 1, cqe['vlan_info']) == (tagged[:12] + tagged[16:], 1,
                                                                   0x6005)
    bench.g.cmd('DELETE_FLOW_TABLE_ENTRY', table_id=t, flow_index=0)
    bench.entry(t, g, 1, flow.FORWARD | flow.VLAN_POP, (flow.TO_TIR, kept.tir))
    bench.send(tagged)
    assert [d for _, d in kept.frames()] == [tagged[:12] + tagged[16:]]


def test_toeplitz() -> None:
    """The verification suite that the hash is published with: addresses with and without ports."""
    key = bytes.fromhex(
        '6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa')
    addresses = bytes([66, 9, 149, 187, 161, 142, 100, 80])
    assert rss.toeplitz(key, addresses) == 0x323e8fc2
    assert rss.toeplitz(key, addresses + struct.pack('>HH', 2794, 1766)) == 0x51ccc178


def test_rss(bench: EthernetBench) -> None:
    """Frames of many addresses spread over the table's queues by the hash that the CQE shows; other
    protocols go to the first."""
    rs = [Receiver(bench) for _ in range(4)]
    rqt = bench.g.cmd('CREATE_RQT', struct.pack('>4I', *(r.number for r in rs)), **{
        'rqt_context.rqt_max_size': 4, 'rqt_context.rqt_actual_size': 4})['rqtn']
    tir = bench.g.cmd(
        'CREATE_TIR', **{
            'ctx.disp_type': 1,
            'ctx.indirect_table': rqt, 'ctx.rx_hash_fn': 2, 'ctx.rx_hash_toeplitz_key': bytes(
                range(40)), 'ctx.rx_hash_field_selector_outer.selected_fields': 3})['tirn']
    t = bench.table()
    bench.entry(t, bench.group(t, enable=0), 0, flow.FORWARD, (flow.TO_TIR, tir))
    for k in range(16):
        bench.send(ether(ipv4(udp(b'x'), source=bytes([10, 0, 0, k * 3]))))
    got = [r.frames() for r in rs]
    assert sum(map(len, got)) == 16 and all(got)
    for k, frames in enumerate(got):
        for cqe, data in frames:
            value = rss.toeplitz(bytes(range(40)), data[26:34])
            assert value % 4 == k and int.from_bytes(cqe.buf[12:16], 'big') == value
    bench.send(ether(b'no ip' * 10, 0x88b5))
    assert [len(r.frames()) for r in rs] == [1, 0, 0, 0]


def test_self_loopback(bench: EthernetBench) -> None:
    """A TIR of the sender's own transport domain takes its frames only when it says so; the port
    may turn loopback off."""
    for block, unicast, multicast in ((0, 0, 0), (1, 1, 0), (2, 0, 1), (3, 1, 1)):
        r = Receiver(bench, domain=bench.domain, block=block)
        bench.all_to(r)
        bench.send(PLAIN)
        assert len(r.frames()) == unicast
        bench.send(b'\x01' + PLAIN[1:])
        assert len(r.frames()) == multicast
    bench.card.vport.flags['disable_uc_local_lb'] = 1
    bench.send(PLAIN)
    assert r.frames() == []


def test_short_buffer_and_none(bench: EthernetBench) -> None:
    """No WQE: the frame is lost.  A buffer too short: an error CQE, and the queue stops."""
    r = Receiver(bench, post=0)
    bench.all_to(r)
    bench.send(PLAIN)
    assert r.frames() == [] and bench.card.datapath.port.ethernet.out_of_buffer == 1
    r = Receiver(bench, size=32)
    bench.all_to(r)
    bench.send(PLAIN)
    assert [(c['opcode'], c['syndrome']) for c in r.cq.poll()] == [(14, Syndrome.LOCAL_LENGTH)]
    assert bench.g.cmd('QUERY_RQ', rqn=r.number)['rq_context.state'] == 3


def test_offloads(bench: EthernetBench) -> None:
    """Checksums that the WQE asks for; a long TCP packet leaves as several, whose lengths, numbers
    and flags follow each other."""
    r = Receiver(bench)
    bench.all_to(r)
    bad = PLAIN[:24] + b'\0\0' + PLAIN[26:]
    bench.send(bad)
    bench.send(bad, flags=0xc0)
    first, second = r.frames()
    assert (first[0]['hds_ip_ext'], second[0]['hds_ip_ext']) == (5, 7) and any(second[1][40:42])
    filled = second[1]
    bench.send(filled[:-1] + b'?')
    assert [c['hds_ip_ext'] for c, _ in r.frames()] == [3]
    tcp = struct.pack('>HHIIBBHHH', 1, 2, 1000, 0, 0x50, 0x19, 100, 0, 0)
    long = ether(ipv4(tcp + bytes(range(250)), protocol=6))
    bench.send(long, Op.LSO, mss=100, head=54)
    got = [d for _, d in r.frames()]
    assert [d[54:] for d in got] == [
        bytes(range(0, 100)), bytes(range(100, 200)),
        bytes(range(200, 250))]
    assert [int.from_bytes(d[38:42], 'big') for d in got] == [1000, 1100, 1200]
    assert [d[47] for d in got] == [0x10, 0x10, 0x19]
    assert all(packet.l3_ok(d, packet.parse(d)) and packet.l4_ok(d, packet.parse(d)) for d in got)
    bench.send(long, Op.LSO, mss=1, head=54)
    assert [c['syndrome'] for c in bench.scq.poll() if c['opcode'] == 13] == [Syndrome.LOCAL_QP_OP]


def test_between_functions() -> None:
    """A frame reaches the other function's rules, and the sender's only by its own."""
    a, b = EthernetBench(0), EthernetBench(1)
    fabric = Fabric()
    for x in (a, b):
        x.card.datapath.port.connect(fabric)
    r = Receiver(b)
    b.all_to(r)
    a.send(PLAIN)
    assert [d for _, d in r.frames()] == [PLAIN]
    assert b.card.vport.counters['received_eth_unicast', 'packets'] == 1
    assert a.card.internal_errors == b.card.internal_errors == 0


def test_inner_headers_and_registers() -> None:
    """What is inside GRE and Geneve tunnels is matched as inner headers; registers are part of the
    match."""
    inner = ether(ipv4(udp(b'i', dport=99)))
    gre = ether(ipv4(b'\x20\x00\x65\x58' + b'\0\0\x12\x34' + inner, protocol=47))
    geneve = ether(ipv4(udp(struct.pack('>BBHI', 0, 0x80, 0x6558, 2 << 8) + inner, dport=6081)))
    for data, misc in ((gre, {'gre_k_present': 1, 'gre_protocol': 0x6558}), (geneve, {
            'geneve_vni': 2, 'geneve_oam': 1})):
        p = Packet(data, sqn=0x77)
        p.set_register('metadata_reg_c_1', 5)
        v = prm.view('fte_match_param', p.key.to_bytes(0x200, 'big'))
        assert v['inner_headers.udp_dport'] == 99 and v['misc_parameters.source_sqn'] == 0x77
        assert v['misc_parameters_2.metadata_reg_c_1'] == 5
        assert {k: v[f'misc_parameters.{k}'] for k in misc} == misc


@pytest.mark.parametrize('cut', range(0, 120, 7))
def test_cut_off_frames(bench: EthernetBench, cut: int) -> None:
    """A frame of any length goes through parser, rules, header changes and queues without harm."""
    r = Receiver(bench)
    t = bench.table()
    actions = b''.join(
        struct.pack('>HBBI', 1 << 12 | f, 0, 0, 0x01020304)
        for f in (*range(1, 0x18), 0x47, 0x59, 0x5b))
    context = bench.g.cmd('ALLOC_MODIFY_HEADER_CONTEXT', actions,
                          num_of_actions=len(actions) // 8)['modify_header_id']
    bench.entry(t, bench.group(t, enable=0), 0,
                flow.FORWARD | flow.MODIFY | flow.DECAP | flow.VLAN_POP, (flow.TO_TIR, r.tir),
                modify_header_id=context)
    inner = ether(ipv4(udp(b'i' * 40, dport=99)))
    whole = ether(ipv4(udp(struct.pack('>II', 8 << 24, 1) + inner, dport=4789)),
                  tags=b'\x81\0\0\x01')
    bench.send(whole[:cut], flags=0xc0)
    assert len(bench.scq.poll()) == 1


def test_rdma_tables_drop() -> None:
    """A rule of the RDMA receive or transmit tables that drops keeps RoCE messages from arriving;
    with it gone they do."""
    from emulator.driver.guest import connected, raddr
    for kind in (RDMA_TX, RDMA_RX):
        b = EthernetBench()
        gid = b'\xfe\x80' + bytes(13) + b'\x01'
        entry = prm.new('roce_addr_layout')
        entry['source_l3_address'] = gid
        b.card.vport.roce_addresses[0] = bytes(entry.buf)
        p, q = connected(b.g)
        for x in (p, q):
            x.model.rgid, x.model.grh = gid, True
        t = b.table(kind)
        b.entry(t, b.group(t, enable=0), 0, flow.DROP)
        p.post_send(Op.WRITE, raddr(b.buf, b.key), sge(b.buf, 8, b.key))
        b.g.run(300)
        assert p.scq.poll()[0]['syndrome'] == Syndrome.RETRY_EXCEEDED
        b.g.cmd('DELETE_FLOW_TABLE_ENTRY', table_type=kind, table_id=t, flow_index=0)
        q.post_send(Op.WRITE, raddr(b.buf, b.key), sge(b.buf, 8, b.key))
        assert b.card.internal_errors == 0


def test_udp_source_port() -> None:
    """A connected QP's UDP source port is what RTS2RTS sets; rules of the RDMA tables see it."""
    from emulator.driver.guest import UD, GuestQp, connected, raddr
    b = EthernetBench()
    gid = b'\0' * 10 + b'\xff\xff' + bytes([10, 0, 0, 1])
    entry = prm.new('roce_addr_layout')
    entry.set(source_l3_address=gid, roce_version=2, roce_l3_type=0)
    b.card.vport.roce_addresses[0] = bytes(entry.buf)
    p, _ = connected(b.g)
    t = b.table(RDMA_TX)
    counter = b.g.cmd('ALLOC_FLOW_COUNTER')['flow_counter_id']
    b.entry(t, b.group(t, **{'outer_headers.udp_sport': 0xffff}), 0, flow.ALLOW | flow.COUNT,
            counter=counter, match={'outer_headers.udp_sport': 55555})
    for modified, packets in ((False, 0), (True, 1)):
        if modified:
            p.modify('RTS2RTS_QP', **{'primary_address_path.udp_sport': 44444})
            p.g.cmd('RTS2RTS_QP', qpn=p.number, opt_param_mask_95_32=4, **{
                'qpc.primary_address_path.udp_sport': 55555})
        p.model.rgid, p.model.grh = gid, True
        p.post_send(Op.WRITE, raddr(b.buf, b.key), sge(b.buf, 8, b.key))
        assert b.count(counter)[0] == packets
    d = GuestQp(b.g, UD)
    d.connect(0)
    assert b.g.fails('RTS2RTS_QP', qpn=d.number, opt_param_mask_95_32=4) == 'BAD_PARAM'
    assert b.card.internal_errors == 0


def test_switch_without_ports(bench: EthernetBench) -> None:
    """The function manages its switch, which has tables but neither virtual functions nor access
    lists; so the driver can tell its mode."""
    out = bench.g.cmd('QUERY_HCA_CAP', op_mod=9 << 1 | 1, out_len=16 + 4096)
    assert not any(out.buf[16:])
    out = prm.view('flow_table_eswitch_cap',
                   bench.g.cmd('QUERY_HCA_CAP', op_mod=8 << 1 | 1, out_len=16 + 4096).buf, 16)
    assert [
        out[f'flow_table_properties_{t}.ft_support']
        for t in ('nic_esw_fdb', 'esw_acl_ingress', 'esw_acl_egress')] == [1, 0, 0]
    assert not out['flow_table_properties_nic_esw_fdb.reformat']
    assert bench.card.caps.get('eswitch_manager') == 1
    assert bench.g.fails('CREATE_FLOW_TABLE', table_type=3) == 'BAD_PARAM'
