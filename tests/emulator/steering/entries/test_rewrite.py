# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What software's steering table entries do to packets: tags, tunnels, header modification, in each
format."""
import struct
from typing import Any

import pytest
from emulator.driver.frames import IPV6, MAC_A, MAC_B, PLAIN, VXLAN, ether, ipv4, udp
from emulator.driver.guest import RC, GuestQp
from emulator.driver.steering_entries import ALLOW, DONT_CARE, SteBench, crc
from mlx5emu import prm
from mlx5emu.firmware.flow_namespace import NIC_TX
from mlx5emu.prm.wqe import Op, Syndrome
from mlx5emu.steering import header_modify_argument, packet
from mlx5emu.steering.entries import v0, v1

TAGGED = ether(ipv4(udp(b'data')), tags=bytes.fromhex('81006005'))
OUTER = ether(ipv4(bytes(4), 47)[:20] + bytes.fromhex('00006558'))
OUTER_L3 = ether(ipv4(bytes(4), 47)[:20] + bytes.fromhex('00000800'))
GRE_FRAME = ether(ipv4(bytes.fromhex('00006558') + PLAIN, 47))
GRE_PACKET = ether(ipv4(bytes.fromhex('00000800') + PLAIN[14:], 47))
L2_HEADER = bytes.fromhex('0250000000ee0250000000dd0800')
WORDS = {
    'smac_47_16': (0x01, 16, 32, 0x08, 0), 'smac_15_0': (0x01, 0, 16, 0x09, 16), 'ttl':
    (0x04, 8, 8, 0x0e, 8), 'dport': (0x08, 16, 16, 0x18, 0), 'c0': (0x0c, 32, 32, 0x90, 0), 'c1':
    (0x0c, 0, 32, 0x91, 0), 'vid': (0x02, 0, 16, 0x02, 0), 'dipv6': (0x03, 32, 32, 0x44, 0), 'regb':
    (0x16, 32, 32, 0x7b, 0), 'seq': (0x09, 32, 32, 0x5e, 0)}


@pytest.fixture(params=['connectx5', 'connectx6dx', 'connectx7'])
def bench(request: pytest.FixtureRequest):
    """A card whose entries are of one of the formats."""
    b = SteBench(request.param)
    yield b
    assert b.card.internal_errors == 0


@pytest.fixture(params=['connectx6dx', 'connectx7'])
def later(request: pytest.FixtureRequest):
    """A card with actions in its entries."""
    b = SteBench(request.param)
    yield b
    assert b.card.internal_errors == 0


def modify(bench: SteBench, kind: str, name: str, value: int | str) -> bytes:
    """One modify action of the card's format: set or add a value, or copy the word of that name."""
    v0_word, v0_low, bits, word, low = WORDS[name]
    if bench.v0:
        if kind == 'copy':
            source, source_low = WORDS[str(value)][:2]
            return struct.pack('>BBBBBBBx', v0.COPY, v0_word, v0_low, bits, 0, source, source_low)
        return struct.pack('>BBBBI', {'set': v0.SET, 'add': v0.ADD}[kind], v0_word, v0_low,
                           bits & 31, value)
    if bench.card.profile.name == 'connectx7' and word >= 0x90:
        word += 4
    if kind == 'copy':
        source, source_low = WORDS[str(value)][3:]
        source += 4 if bench.card.profile.name == 'connectx7' and source >= 0x90 else 0
        return struct.pack('>BBBBBBBx', v1.COPY, word, low + 32, bits, 0, source, source_low + 32)
    return struct.pack('>BBBBI', {'set': v1.SET, 'add': v1.ADD}[kind], word, low + 32, bits, value)


def rewritten(bench: SteBench, actions: list[bytes], frame: bytes = PLAIN,
              **registers: int) -> packet.Packet:
    """The packet after a list of modify actions out of header modification ICM."""
    raw = b''.join(actions)
    at = bench.put(raw, bench.alloc(1024, 'header_modify'))
    line = (at - bench.card.icm.ranges()['header_modify'][0]) // 64
    tir, address = bench.tir()
    if bench.v0:
        e = bench.entry(hit=address, layout='ste_modify_packet',
                        number_of_re_write_actions=len(actions),
                        header_re_write_actions_pointer=line)
    else:
        e = bench.entry(hit=address, actions=struct.pack('>BBH', v1.MODIFY_LIST, len(actions),
                                                         line))
    bench.table(bench.put(e))
    [delivery] = bench.receive(frame, **registers)
    return delivery.packet


def test_modify_fields(bench: SteBench) -> None:
    """Set, add and copy of header fields; checksums follow."""
    p = rewritten(bench, [
        modify(bench, 'set', 'smac_47_16', 0x88888888),
        modify(bench, 'set', 'smac_15_0', 0x9999),
        modify(bench, 'add', 'ttl', 0xff),
        modify(bench, 'set', 'dport', 4321)])
    assert p.data[6:12] == bytes.fromhex('888888889999')
    assert (p.data[22], p.data[36:38]) == (63, (4321).to_bytes(2, 'big'))
    assert packet.l3_ok(p.data, p.headers)
    assert p.data[:6] + p.data[12:22] == PLAIN[:6] + PLAIN[12:22]


def test_modify_registers(bench: SteBench) -> None:
    """Registers are set and copied; what is not there is zero, and headers that are not there stay
    away."""
    p = rewritten(bench, [
        modify(bench, 'set', 'c0', 0x12345678),
        modify(bench, 'copy', 'c1', 'c0'),
        modify(bench, 'set', 'regb', 7),
        modify(bench, 'set', 'vid', 5),
        bytes(8),
        modify(bench, 'add', 'c0', 2)])
    assert p.registers == {
        'metadata_reg_c_0': 0x1234567a, 'metadata_reg_c_1': 0x12345678, 'metadata_reg_b': 7}
    assert p.data == PLAIN


def test_modify_other_headers(bench: SteBench) -> None:
    """Tags, IPv6 and TCP."""
    assert rewritten(bench, [modify(bench, 'set', 'vid', 0x4abc)],
                     TAGGED).data[12:16] == bytes.fromhex('81004abc')
    p = rewritten(bench, [
        modify(bench, 'set', 'dipv6', 0xfe800000),
        modify(bench, 'add', 'ttl', 1),
        modify(bench, 'add', 'seq', 1)], IPV6)
    assert p.data[38:42] == bytes.fromhex('fe800000')
    assert (p.data[21], p.data[58:62]) == (65, bytes.fromhex('01020305'))


def test_modify_some_bits(bench: SteBench) -> None:
    """Only as many bits as the action says, from where it says."""
    v0_word, v0_low, _, word, low = WORDS['smac_47_16']
    action = struct.pack('>BBBBI', v0.SET, v0_word, v0_low + 4, 8, 0xab) if bench.v0 else \
        struct.pack('>BBBBI', v1.SET, word, low + 32 + 4, 8, 0xab)
    p = rewritten(bench, [action])
    old = int.from_bytes(MAC_A[:4], 'big')
    assert int.from_bytes(p.data[6:10], 'big') == old & ~0xff0 | 0xab0


def test_entries_see_what_others_did(bench: SteBench) -> None:
    """An entry behind one that changes the packet matches the packet as it is then."""
    tir, address = bench.tir()
    second = bench.put(bench.entry('eth_l2_src', {'first_vlan_qualifier': 3}, {}, hit=address))
    pop = {'tunneling_action': v0.POP_VLAN} if bench.v0 else {
        'actions': struct.pack('>BBBB', v1.REMOVE_BY_SIZE, 2, 0, 2)}
    bench.table(
        bench.put(
            bench.entry('eth_l2_src', {'first_vlan_id': 0xfff}, {'first_vlan_id': 5}, hit=second,
                        **pop)))
    assert [d.tir for d in bench.receive(TAGGED)] == [tir]
    c0 = {'metadata_reg_c_0': 7}
    third = bench.put(bench.entry('register_0', {'metadata_reg_c_0': 0xff}, c0, hit=address))
    at = bench.put(modify(bench, 'set', 'c0', 7), bench.alloc(64, 'header_modify'))
    line = (at - bench.card.icm.ranges()['header_modify'][0]) // 64
    first = {'layout': 'ste_modify_packet', 'number_of_re_write_actions': 1,
             'header_re_write_actions_pointer': line} if bench.v0 else \
        {'actions': struct.pack('>BBH', v1.MODIFY_LIST, 1, line)}
    bench.table(
        bench.put(bench.entry('register_0', {'metadata_reg_c_0': 0xff}, {}, hit=third, **first)))
    assert [d.tir for d in bench.receive(PLAIN)] == [tir]


def test_unknown_modification(bench: SteBench) -> None:
    """An opcode or a field that is none drops the packet; so does a list beyond what is
    allocated."""
    for action in (b'\x55' + bytes(7),
                   modify(bench, 'set', 'ttl', 1)[:1] + b'\x7e\x20\x01' + bytes(4)):
        with pytest.raises(ValueError):
            rewritten(bench, [action])
    assert bench.walker.bad == 2
    tir, address = bench.tir()
    e = bench.entry(hit=address, layout='ste_modify_packet', number_of_re_write_actions=1,
                    header_re_write_actions_pointer=1 << 20) \
        if bench.v0 else bench.entry(hit=address, actions=struct.pack('>BBH', v1.MODIFY_LIST, 1,
                                                                      0xffff))
    bench.table(bench.put(e))
    assert bench.receive(PLAIN) == []
    assert (bench.walker.bad, 'not allocated' in bench.walker.why) == (3, True)


def test_flow_tag(bench: SteBench) -> None:
    """The tag goes with the packet."""
    tir, address = bench.tir()
    e = bench.entry(hit=address, qp_list_pointer=1 << 31 | 0x123) if bench.v0 else \
        bench.entry(hit=address, actions=bytes([v1.FLOW_TAG]) + (0x123).to_bytes(3, 'big'))
    bench.table(bench.put(e))
    assert [d.packet.tag for d in bench.receive(PLAIN)] == [0x123]


def receive_with(bench: SteBench, frame: bytes, actions: bytes = b'', **v0: int) -> list[bytes]:
    """A frame through one entry that acts."""
    tir, address = bench.tir()
    bench.table(
        bench.put(
            bench.entry(hit=address, **v0) if bench.v0 else bench.
            entry(hit=address, actions=actions)))
    return [d.packet.data for d in bench.receive(frame)]


def transmit_with(bench: SteBench, frame: bytes, actions: bytes = b'', extra: bytes = b'',
                  **v0: int) -> list[bytes]:
    """The same in the transmit domain, where an entry of a definer has room for one action more."""
    if bench.v0:
        e = bench.entry(hit=ALLOW, tx=True, **v0)
    elif extra:
        e = bench.match(hit=ALLOW, actions=actions + extra)
    else:
        e = bench.entry(hit=ALLOW, tx=True, actions=actions)
    bench.table(bench.put(e), NIC_TX)
    return [d.packet.data for d in bench.transmit(frame)]


def test_pop_and_push(bench: SteBench) -> None:
    """The outermost tag comes off in receive domains, one goes on in transmit domains."""
    pop = struct.pack('>BBBB', v1.REMOVE_BY_SIZE, v1.FIRST_VLAN, 0, 2)
    untagged = TAGGED[:12] + TAGGED[16:]
    assert receive_with(bench, TAGGED, pop, tunneling_action=v0.POP_VLAN) == [untagged]
    assert receive_with(bench, untagged, pop, tunneling_action=v0.POP_VLAN) == [untagged]
    push = struct.pack('>BBHI', v1.INSERT_INLINE, 0, 6 << 9, 0x81006005)
    assert transmit_with(bench, untagged, push, action_type=v0.PUSH_VLAN,
                         encap_pointer_vlan_data=0x81006005) == [TAGGED]


def test_decapsulation(bench: SteBench) -> None:
    """A tunnel's outer headers come off; of what is no tunnel nothing does, which format 0 may call
    an error."""
    off = struct.pack('>BBBB', v1.REMOVE_HEADER_TO_HEADER, 0, v1.INNER_MAC, 0xc)
    for frame in (GRE_FRAME, VXLAN):
        assert receive_with(bench, frame, off, tunneling_action=v0.DECAP, fail_on_error=1) == [
            PLAIN]
    assert receive_with(bench, PLAIN, off, tunneling_action=v0.DECAP) == [PLAIN]
    if bench.v0:
        assert receive_with(bench, PLAIN, tunneling_action=v0.DECAP, fail_on_error=1) == []


def context(bench: SteBench, header: bytes, kind: int = 2) -> int:
    """A packet reformat context."""
    return bench.g.cmd(
        'ALLOC_PACKET_REFORMAT_CONTEXT', header[2:], **{
            'packet_reformat_context.reformat_type': kind,
            'packet_reformat_context.reformat_data_size': len(header),
            'packet_reformat_context.reformat_data': header[:2]})['packet_reformat_id']


def insert(pointer: int, size: int, attributes: int = 1) -> bytes:
    """The action that inserts a header at the start."""
    return struct.pack('>BBHI', v1.INSERT_POINTER, 0, size // 2 << 3 | attributes, pointer)


def test_encapsulation(bench: SteBench) -> None:
    """Headers go on, their lengths and checksums right, whatever the context said."""
    number = context(bench, OUTER)
    [data] = transmit_with(bench, PLAIN, insert(number, len(OUTER)), action_type=v0.ENCAP,
                           action_description=len(OUTER) // 2, encap_pointer_vlan_data=number)
    assert data == GRE_FRAME[:18] + data[18:20] + GRE_FRAME[20:24] + data[24:26] + GRE_FRAME[26:]
    assert packet.l3_ok(data, packet.parse(data))
    number = context(bench, OUTER_L3, 4)
    strip = struct.pack('>BBBB', v1.REMOVE_HEADER_TO_HEADER, 0, v1.IP, 0)
    [data] = transmit_with(bench, PLAIN, strip, insert(number,
                                                       len(OUTER_L3)), action_type=v0.ENCAP_L3,
                           action_description=len(OUTER_L3) // 2, encap_pointer_vlan_data=number)
    assert data[38:] == PLAIN[14:]
    assert data[:14] == GRE_PACKET[:14]
    # A context that is not there, or is shorter than the entry says.
    for other, size in ((number + 1, 38), (number, 60)):
        assert transmit_with(bench, PLAIN, insert(other, size), action_type=v0.ENCAP,
                             action_description=size // 2, encap_pointer_vlan_data=other) == []


def test_encapsulation_from_icm(later: SteBench) -> None:
    """Headers that software wrote into encapsulation ICM."""
    at = later.put(OUTER, later.alloc(64, 'encap'))
    pointer = (at - later.card.caps.page('device_memory')['indirect_encap_icm_base']) // 64
    [data] = transmit_with(later, PLAIN, insert(pointer, len(OUTER)))
    assert (data[:18], data[38:]) == (OUTER[:18][:16] + data[16:18], PLAIN)
    for bad in (insert(pointer + (1 << 20), len(OUTER)), insert(pointer, len(OUTER), 2)):
        assert transmit_with(later, PLAIN, bad) == []


def test_l3_decapsulation_v0() -> None:
    """Format 0 makes room for an Ethernet header, with a tag or without, and fills it by modify
    actions."""
    bench = SteBench('connectx5')
    words = struct.unpack('>IHHIH', L2_HEADER)
    for vlan, first in ((0, struct.pack(
            '>BBBBI', 2, 2, 32, 16, 0x800)), (1, struct.pack('>BBBBI', 2, 2, 32, 18,
                                                             1 << 16 | 0x800))):
        actions = [
            struct.pack('>BBBBI', 2, 0, 16, 0, words[0]),
            struct.pack('>BBBBI', 2, 1, 16, 0, words[2] << 16 | words[3] >> 16),
            struct.pack('>BBBBI', 2, 0, 0, 16, words[1]), first,
            struct.pack('>BBBBI', 2, 1, 0, 16, words[3] & 0xffff)]
        actions += [struct.pack('>BBBBI', 2, 2, 0, 16, 0x6005)] * vlan
        at = bench.put(b''.join(actions), bench.alloc(64, 'header_modify'))
        line = (at - bench.card.icm.ranges()['header_modify'][0]) // 64
        tir, address = bench.tir()
        e = bench.entry(hit=address, layout='ste_modify_packet', tunneling_action=v0.L3_DECAP,
                        action_description=vlan, number_of_re_write_actions=len(actions),
                        header_re_write_actions_pointer=line)
        bench.table(bench.put(e))
        [d] = bench.receive(GRE_PACKET)
        assert d.packet.data == L2_HEADER[:12] + bytes.fromhex(
            '88a86005') * vlan + L2_HEADER[12:] + PLAIN[14:]


def argument(bench: SteBench, data: bytes, log_range: int = 2) -> int:
    """A header modify argument that holds bytes."""
    number = create_argument(bench, log_range)
    for k in range(0, len(data), 64):
        bench.card.header_modify_arguments.get(number).write(number + k // 64, data[k:k + 64].ljust(
            64, b'\0'))
    return number


def create_argument(bench: SteBench, log_range: int) -> int:
    """The object alone."""
    tail = bytearray(20)
    tail[17:20] = bench.g.pd.to_bytes(3, 'big')
    return bench.g.cmd('CREATE_GENERAL_OBJECT', bytes(tail),
                       obj_type=header_modify_argument.HEADER_MODIFY_ARGUMENT, **{
                           'op_param.create.log_obj_range': log_range})['obj_id']


def test_pattern_and_argument(later: SteBench) -> None:
    """An accelerated list: the pattern has the actions, the argument the values; rdma-core's L3
    decapsulation is such a list."""
    pieces = [bytes(2) + L2_HEADER[:2], L2_HEADER[2:6], L2_HEADER[6:10], L2_HEADER[10:14]]
    head = struct.pack('>BBBB4x', v1.REMOVE_HEADER_TO_HEADER, 0, v1.INNER_IP, 0xc)
    actions = [head, *(struct.pack('>BBH', v1.INSERT_INLINE, 0, 0) + p for p in pieces[::-1]),
               struct.pack('>BBBB4x', v1.REMOVE_BY_SIZE, 0, 0, 1)]
    pattern = b''.join(a[:4] + (bytes(4) if a[0] == v1.INSERT_INLINE else a[4:]) for a in actions)
    at = later.put(pattern, later.alloc(64, 'header_modify_pattern'))
    line = (at - later.card.icm.ranges()['header_modify_pattern'][0]) // 64
    number = argument(later, b''.join(actions))

    def run(n: int, number: int) -> list[bytes]:
        return receive_with(later, GRE_PACKET,
                            struct.pack('>II', v1.ACCELERATED_LIST << 24 | line, n << 24 | number))
    assert run(len(actions), number) == [L2_HEADER + PLAIN[14:]]
    assert run(len(actions), number + 4) == []          # behind the object
    assert run(33, number) == []                        # longer than the object
    assert later.walker.bad == 2


def test_argument_by_wqe(later: SteBench) -> None:
    """A send queue writes an argument of its protection domain; others, other sizes and other
    modifiers fail."""
    g = later.g
    number = create_argument(later, 1)
    qp = GuestQp(g, RC)
    qp.connect(qp.number)
    line = bytes(range(64))

    def post(number: int, modifier: int = 1, size: int = 112) -> list[tuple[int, int]]:
        qp.post_send(modifier << 24 | Op.FLOW_TBL_ACCESS, (bytes(48) + line)[:size], imm=number)
        return [(c['opcode'], prm.view('error_cqe', c.buf)['syndrome'] if c['opcode'] == 13 else 0)
                for c in qp.scq.poll()]
    assert post(number + 1) == [(0, 0)]
    obj = later.card.header_modify_arguments.get(number)
    assert obj.read(number, 128) == bytes(64) + line
    assert obj.read(number + 1, 65) is None
    assert later.card.memory.used >= 64
    assert post(number + 2) == [(13, Syndrome.LOCAL_PROT)]
    for bad in ({'modifier': 0}, {'size': 96}):
        qp = GuestQp(g, RC)
        qp.connect(qp.number)
        assert post(number, **bad) == [(13, Syndrome.LOCAL_QP_OP)]
    qp = GuestQp(g, RC, pd=g.cmd('ALLOC_PD')['pd'])
    qp.connect(qp.number)
    assert post(number) == [(13, Syndrome.LOCAL_PROT)]
    assert obj.read(number, 64) == bytes(64)


def test_definers(later: SteBench) -> None:
    """32-byte tags: the definer tells the format and which bits count, for the match and for the
    hash."""
    g = later.g
    mask = later.tag(
        'def22_v1',
        {'outer_ip_dst_addr': 0xffffffff, 'outer_l4_dport': 0xffff, 'outer_smac_15_0': 0xffff})
    want = later.tag('def22_v1', {'outer_ip_dst_addr': 0x02020202, 'outer_l4_dport': 5678,
                                  'outer_smac_15_0': int.from_bytes(MAC_A[4:], 'big')})
    tail = bytearray(128)
    tail[0x12:0x14] = (22).to_bytes(2, 'big')
    tail[0x60:0x80] = mask
    number = g.cmd('CREATE_GENERAL_OBJECT', bytes(tail), obj_type=0x18)['obj_id']
    assert 0x40 <= number <= 0xff
    tir, address = later.tir()
    table, index = later.alloc(64 * 8), crc(want) % 8
    for k in range(8):
        later.put(
            later.match(hit=address, definer=number,
                        tag=want if k == index else b'\xdc' + want[1:]), table + 64 * k)
    later.table(later.put(later.match(hit=table, entries=8, next_definer=number)))
    assert [d.tir for d in later.receive(PLAIN)] == [tir]
    assert later.receive(ether(ipv4(udp(b'data of a datagram', dport=5679)))) == []
    g.cmd('DESTROY_GENERAL_OBJECT', obj_type=0x18, obj_id=number)
    assert later.receive(PLAIN) == []
    assert 'no match definer' in later.walker.why


@pytest.mark.parametrize(('number', 'fields', 'frame'), [
    (0, {
        'dmac_47_16': int.from_bytes(MAC_B[:4], 'big'), 'ethertype': 0x800, 'outer_l3_type': 1,
        'outer_l4_type': 2, 'outer_l3_ok': 1}, PLAIN),
    (2, {
        'outer_ip_ttl': 64, 'outer_ip_protocol': 17, 'outer_l4_sport': 1234,
        'outer_eth_packet_length': len(PLAIN), 'outer_ip_ihl': 5, 'outer_ipv4_checksum_ok': 1,
        'outer_l4_checksum_ok': 1}, PLAIN),
    (6, {'dst_ipv6_31_0': 0x1c1d1e1f, 'outer_l4_dport': 0x2222, 'tcp_ack': 1, 'tcp_syn': 1}, IPV6),
    (16, {'tunnel_header_1': 0x12345600, 'outer_l4_type': 2}, VXLAN),
    (24, {'outer_ip_src_addr': 0x01010101, 'inner_ip_protocol': 17, 'inner_l3_type': 1}, VXLAN),
    (25, {'inner_ip_dst_addr': 0x02020202, 'inner_l4_dport': 5678, 'outer_l4_dport': 4789}, VXLAN),
    (26, {
        'src_ipv6_63_32': 0x08090a0b, 'l3_type': 2, 'ip_protocol': 6, 'smac_15_0': int.from_bytes(
            MAC_A[4:], 'big')}, IPV6),
    (28, {'inner_l4_sport': 1234, 'inner_ip_src_addr': 0x01010101, 'outer_l4_dport': 4789}, VXLAN),
    (33, {
        'outer_ip_dst_addr': 0x02020202, 'first_vlan_id': 5, 'outer_ip_version': 4, 'outer_ip_ttl':
        64}, TAGGED), ])
def test_definer_formats(number: int, fields: dict[str, int], frame: bytes) -> None:
    """Each format's fields are where software puts them."""
    bench = SteBench()
    tail = bytearray(128)
    tail[0x12:0x14] = number.to_bytes(2, 'big')
    tail[0x60:0x80] = b'\xff' * 32
    definer = bench.g.cmd('CREATE_GENERAL_OBJECT', bytes(tail), obj_type=0x18)['obj_id']
    bench.card.match_definers.get(definer).mask = int.from_bytes(
        bench.tag(f'def{number}_v1',
                  {k: (1 << max(v.bit_length(), 1)) - 1 for k, v in fields.items()}), 'big')
    tir, address = bench.tir()
    for name in fields:
        for change in (0, 1):
            value = bench.tag(f'def{number}_v1', fields | {name: fields[name] ^ change})
            bench.table(bench.put(bench.match(hit=address, definer=definer, tag=value)))
            assert [d.tir for d in bench.receive(frame)] == [tir] * (1 - change), name


def test_mask_and_match(later: SteBench) -> None:
    """An entry with a mask and room for three actions, which leads to one entry only."""
    tir, address = later.tir()
    actions = bytes([v1.FLOW_TAG, 0, 0, 7]) + modify(later, 'set', 'c0', 9)
    for number, lookup in ((2, 'eth_l2_src'), (3, 'register_0')):
        tag = later.lookup(lookup)[1]
        fields, masks = ({'smac_15_0': int.from_bytes(MAC_A[4:], 'big')},
                         {'smac_15_0': 0xffff}) if number == 2 else \
            ({}, {'metadata_reg_c_1': 1})
        e = bytearray(
            later.match(hit=address, definer=later.lookup(lookup)[0] & 0xff, actions=actions))
        e[0], e[32:64] = number, later.tag(tag, masks) + later.tag(tag, fields)
        later.table(later.put(bytes(e)))
        [d] = later.receive(PLAIN)
        assert (d.packet.tag, d.packet.registers) == (7, {'metadata_reg_c_0': 9})
        assert later.receive(ether(b'', source=MAC_B), metadata_reg_c_1=1) == []
        e[16 + 8:16 + 12] = bytes(4)
        prm.view('ste_mask_and_match_v1', e)['next_table_base_31_5_size'] = 2
        later.table(later.put(bytes(e)))
        assert later.receive(PLAIN) == []
    assert later.walker.bad == 2


def test_refused_actions(later: SteBench) -> None:
    """What the card does not do drops the packet: unknown actions, lists in lists, anchors, tags in
    transmit domains."""
    tir, address = later.tir()
    inner_list = later.put(struct.pack('>BBH4x', v1.MODIFY_LIST, 1, 0),
                           later.alloc(64, 'header_modify'))
    line = (inner_list - later.card.icm.ranges()['header_modify'][0]) // 64
    for actions in (b'\x12' + bytes(7), b'\x13' + bytes(3),
                    struct.pack('>BBH', v1.MODIFY_LIST, 1,
                                line), struct.pack('>BBBB', v1.REMOVE_BY_SIZE, 0x3f, 0, 1),
                    struct.pack('>BBBB', v1.REMOVE_BY_SIZE, 0, 0x80,
                                1), bytes(4) + bytes([v1.SET]) + bytes(3)):
        later.table(later.put(later.entry(hit=address, actions=actions)))
        assert later.receive(PLAIN) == []
    assert later.walker.bad == 6
    assert transmit_with(later, PLAIN, bytes([v1.FLOW_TAG, 0, 0, 1])) == []
    assert DONT_CARE == v1.DONT_CARE


def test_refused_entries_v0() -> None:
    """Format 0: entries of the other direction, lists of queues, unknown types and actions."""
    bench = SteBench('connectx5')
    tir, address = bench.tir()
    entries: list[dict[str, Any]] = [{'member_count': 1}, {'qp_list_pointer': 5}, {
        'tunneling_action': 5}, {'tunneling_action': 3}, {'match_polarity': 1}, {'mask_mode': 1}, {
            'tx': True}, {'entry_type': 5}]
    for n, control in enumerate(entries, 1):
        bench.table(bench.put(bench.entry(hit=address, **control)))
        assert bench.receive(PLAIN) == []
        assert bench.walker.bad == n, control
    assert transmit_with(bench, PLAIN, action_type=2) == []
