# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Nothing that software writes into steering ICM hangs or ends the card: circles, wild addresses,
random bytes; and the commands around."""
import random
import struct

import pytest
from emulator.driver.commands import CommandFailed
from emulator.driver.frames import IPV6, PLAIN, VXLAN, ether, ipv4, udp
from emulator.driver.steering_entries import ALLOW, DROP, PROFILES, SteBench, root_field
from mlx5emu import prm
from mlx5emu.firmware import firmware_icm
from mlx5emu.firmware.flow_namespace import NIC_RX, NIC_TX
from mlx5emu.steering import flow_meter
from mlx5emu.steering.entries import v1, walk

FRAMES = (PLAIN, IPV6, VXLAN, ether(ipv4(udp(b'x' * 1400))), b'', b'\xff' * 13, ether(b'', 0x8847))
#: Entries of random bytes in each run, and packets through them.
ENTRIES, PACKETS = 256, 80


@pytest.fixture(params=PROFILES)
def bench(request: pytest.FixtureRequest):
    """A card whose entries are of one of the formats; no test may make the emulator fail."""
    b = SteBench(request.param)
    yield b
    assert b.card.internal_errors == 0


def test_circles(bench: SteBench) -> None:
    """Entries that lead to themselves, by hit or by miss, and tables that do so through
    firmware's."""
    at = bench.alloc(64)
    for entry in (bench.always_hit(at), bench.always_miss(at)):
        bench.put(entry, at)
        bench.table(at)
        assert bench.receive(PLAIN) == []
    assert (bench.walker.bad, bench.walker.why) == (2, 'too much work for one packet')
    other = bench.table(bench.alloc(64), set_root=False)
    mine = bench.table(at)
    bench.put(bench.always_hit(firmware_icm.address_of(1, firmware_icm.TABLE, other)), at)
    bench.put(bench.always_hit(firmware_icm.address_of(1, firmware_icm.TABLE, mine)), at + 64)
    assert bench.receive(PLAIN) == []
    assert bench.card.datapath.port.steering.too_long == 1


def test_wild_addresses(bench: SteBench) -> None:
    """Memory that is not allocated, ends in the entry, is another function's, or firmware's with
    nothing there."""
    start, size = bench.card.icm.ranges()['steering']
    own = firmware_icm.address_of(1, 0x7f, 5)
    for n, address in enumerate((start + (1 << 20), start + size, 0x40, own | 0x3f)):
        bench.table(bench.put(bench.always_hit(address & ~0x3f)))
        assert bench.receive(PLAIN) == []
        assert bench.walker.bad == min(n + 1, 3)
    foreign = bytearray(bench.always_hit(start))
    view = prm.view('ste_rx_steering_mult' if bench.v0 else 'ste_match_bwc_v1', foreign)
    view['next_table_base_63_48'] = 2
    bench.table(bench.put(bytes(foreign)))
    assert bench.receive(PLAIN) == []
    assert 'not this function' in bench.walker.why
    view.set(next_table_base_39_32_size=0, next_table_base_31_5_size=0)
    bench.table(bench.put(bytes(foreign)))
    assert bench.receive(PLAIN) == []
    assert bench.walker.why == 'no next table'


def test_tables_of_the_other_direction(bench: SteBench) -> None:
    """Entries lead into tables of their own direction only."""
    tir, address = bench.tir()
    t = bench.table(bench.put(bench.always_hit(address)), set_root=False)
    to_table = firmware_icm.address_of(1, firmware_icm.TABLE, t)
    bench.table(bench.put(bench.always_hit(to_table)))
    bench.table(bench.put(bench.always_hit(to_table, tx=True)), NIC_TX)
    assert [d.tir for d in bench.receive(PLAIN)] == [tir]
    assert bench.transmit(PLAIN) == []


def test_freed_under_a_table(bench: SteBench) -> None:
    """ICM goes away while a flow table begins in it."""
    bench.table(bench.put(bench.always_hit(bench.tir()[1])))
    assert len(bench.receive(PLAIN)) == 1
    bench.card.icm.forget(bench.card.icm.find(bench.card.icm.ranges()['steering'][0]))
    assert bench.receive(PLAIN) == []


def test_work_is_bounded(bench: SteBench) -> None:
    """The longest lists that entries can name, over and over, end soon."""
    at = bench.alloc(64)
    base = bench.card.icm.ranges()['header_modify'][0]
    if bench.v0:
        action = struct.pack('>BBBBI', 3, 8, 0, 16, 1)
        entry = bench.entry(hit=at, layout='ste_modify_packet', number_of_re_write_actions=0xffff)
    else:
        action = struct.pack('>BBBBI', v1.ADD, 0x18, 32, 16, 1)
        entry = bench.entry(hit=at, actions=struct.pack('>BBH', v1.MODIFY_LIST, 0xff, 0))
    for k in range(0, 1 << 20, 4096):
        bench.card.icm.write(base + k, action * 512)
    bench.put(entry, at)
    bench.table(at)
    assert bench.receive(ether(ipv4(udp(b'x' * 9000)))) == []
    assert bench.walker.why == 'too much work for one packet'
    assert walk.MAX_WORK == 4 << 20


@pytest.mark.parametrize('seed', range(4))
def test_random_entries(bench: SteBench, seed: int) -> None:
    """Entries of random bytes, and good entries with random bytes in them; tables, lists and
    packets likewise."""
    rng = random.Random(f'{bench.card.profile.name} {seed}')
    start = bench.alloc(64 * ENTRIES)
    tir, address = bench.tir()
    good = [
        bench.always_hit(address),
        bench.always_hit(start, 16,
                         bench.lookup('eth_l2_src')[0], 0xffff),
        bench.always_miss(start),
        bench.entry('eth_l3_ipv4_5_tuple', hit=start + 640, miss=start)]
    for k in range(ENTRIES):
        entry = bytearray(rng.choice(good)) if rng.random() < 0.7 else bytearray(rng.randbytes(64))
        for _ in range(rng.randrange(6)):
            entry[rng.randrange(64)] = rng.randrange(256)
        if rng.random() < 0.7:
            # Lead somewhere in the same memory, so that chains get long.
            view = prm.view('ste_rx_steering_mult' if bench.v0 else 'ste_match_bwc_v1', entry)
            bench.link(view, start + 64 * rng.randrange(ENTRIES), 1 << rng.randrange(3),
                       start + 64 * rng.randrange(ENTRIES))
        bench.put(bytes(entry), start + 64 * k)
    for kind in ('header_modify', 'header_modify_pattern', 'encap'):
        if kind in bench.card.icm.ranges():
            bench.card.icm.write(bench.card.icm.ranges()[kind][0], rng.randbytes(1 << 16))
    for kind in (NIC_RX, NIC_TX):
        bench.table(start, kind)
    out = 0
    for _ in range(PACKETS):
        root = start + 64 * rng.randrange(ENTRIES)
        for t in bench.card.flow_tables:
            t.icm_roots = (root, root)
        frame = rng.choice(FRAMES)
        out += len(bench.receive(frame)) + len(bench.transmit(frame))
    assert bench.walker.bad
    assert bench.card.memory.used <= bench.card.memory.limit
    # The card still does what is right.
    bench.put(bench.always_hit(address), start)
    for t in bench.card.flow_tables:
        t.icm_roots = (start, start)
    assert [d.tir for d in bench.receive(PLAIN)] == [tir]


# ---- commands

def status(bench: SteBench, name: str, *args: bytes, **fields: int) -> str:
    """How a command ends."""
    try:
        bench.g.cmd(name, *args, **fields)
    except CommandFailed as e:
        return e.status
    return 'OK'


def test_software_owned_tables(bench: SteBench) -> None:
    """Where the first entry must be, and what cannot be done to such a table."""
    at = bench.put(bench.always_hit(DROP))

    def create(root: int, kind: int = NIC_RX, **context: int) -> str:
        fields = {'sw_owner': 1, root_field(): root, **context}
        return status(bench, 'CREATE_FLOW_TABLE', table_type=kind, **{
            f'flow_table_context.{k}': v for k, v in fields.items()})
    assert create(at) == 'OK'
    for root in (0, at + 8, at - 64, bench.card.icm.ranges()['header_modify'][0]):
        assert create(root) == 'BAD_PARAM', hex(root)
    assert create(at, log_size=1) == 'BAD_PARAM'
    assert create(at, kind=7) == 'BAD_PARAM'           # RDMA tables are firmware's
    t = bench.table(at, set_root=False)
    assert status(bench, 'CREATE_FLOW_GROUP', table_type=NIC_RX, table_id=t) == 'BAD_RES_STATE'
    assert status(bench, 'MODIFY_FLOW_TABLE', table_type=NIC_RX, table_id=t,
                  modify_field_select=1) == 'BAD_RES_STATE'
    assert status(bench, 'DESTROY_FLOW_TABLE', table_type=NIC_RX, table_id=t) == 'OK'
    assert status(bench, 'SYNC_STEERING') == 'OK'


def test_vport_context(bench: SteBench) -> None:
    """The function's own port and the uplink have ICM addresses; others are not there."""
    seen = set()
    for fields in ({}, {'other_vport': 1, 'vport_number': 0xffff}):
        c = bench.g.cmd('QUERY_ESW_VPORT_CONTEXT', **fields)
        seen |= {
            c[f'esw_vport_context.sw_steering_vport_icm_address_{side}'] for side in ('rx', 'tx')}
    assert len(seen) == 4
    assert {a >> 48 for a in seen} == {1}
    assert status(bench, 'QUERY_ESW_VPORT_CONTEXT', other_vport=1, vport_number=1) == 'BAD_PARAM'


def sampler(table: int, default: int, sample: int, ratio: int, ignore: int = 1) -> bytes:
    """The object."""
    v = prm.new('flow_sampler')
    v.set(table_type=table, sample_ratio=ratio, default_table_id=default, sample_table_id=sample,
          ignore_flow_level=ignore, level=63)
    return bytes(v.buf)


def test_sampler(bench: SteBench) -> None:
    """Every packet in one table, one of each lot in the other besides."""
    g = bench.g
    (every, to_every), (some, to_some) = bench.tir(), bench.tir()
    default = bench.table(bench.put(bench.always_hit(to_every)), set_root=False)
    sample = bench.table(bench.put(bench.always_hit(to_some)), set_root=False)
    number = g.cmd('CREATE_GENERAL_OBJECT', sampler(NIC_RX, default, sample, 4),
                   obj_type=0x20)['obj_id']
    out = g.cmd('QUERY_GENERAL_OBJECT', obj_type=0x20, obj_id=number, out_len=56)
    address = prm.view('flow_sampler', out.buf, 16)['sw_steering_icm_address_rx']
    bench.table(bench.put(bench.always_hit(address)))
    got = [d.tir for _ in range(40) for d in bench.receive(PLAIN)]
    assert (got.count(every), got.count(some)) == (40, 10)
    assert status(bench, 'DESTROY_FLOW_TABLE', table_type=NIC_RX,
                  table_id=sample) == 'BAD_RES_STATE'
    for raw in (sampler(NIC_RX, default, sample, 0), sampler(
            NIC_TX, default, sample, 4), sampler(NIC_RX, default, sample, 4, 0)):
        assert status(bench, 'CREATE_GENERAL_OBJECT', raw, obj_type=0x20) == 'BAD_PARAM'
    assert status(bench, 'CREATE_GENERAL_OBJECT', sampler(NIC_RX, 0xffff, sample, 4),
                  obj_type=0x20) == 'BAD_RES'
    g.cmd('DESTROY_GENERAL_OBJECT', obj_type=0x20, obj_id=number)
    assert bench.receive(PLAIN) == []
    assert status(bench, 'DESTROY_FLOW_TABLE', table_type=NIC_RX, table_id=sample) == 'OK'


def meter(table: int, **parameters: int) -> bytes:
    """The object, which writes the third register."""
    p = prm.new('flow_meter_parameters')
    p.set(**{'valid': 1, 'start_color': flow_meter.GREEN, **parameters})
    v = prm.new('flow_meter')
    v.set(active=1, return_reg_id=3, table_type=NIC_TX, destination_table_id=table,
          flow_meter_params=bytes(p.buf))
    return bytes(v.buf)


def test_meter(bench: SteBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Green while there are tokens, which come with time; yellow out of the second bucket, red
    then."""
    g, clock = bench.g, [0]
    monkeypatch.setattr(bench.card, 'now', lambda: clock[0])
    table = bench.table(bench.put(bench.entry(hit=ALLOW, tx=True)), NIC_TX, set_root=False)
    raw = meter(table, meter_mode=flow_meter.PACKETS, cbs_mantissa=1, cbs_exponent=2,
                cir_mantissa=2, ebs_mantissa=1, ebs_exponent=1)
    number = g.cmd('CREATE_GENERAL_OBJECT', raw, obj_type=0xa)['obj_id']
    out = g.cmd('QUERY_GENERAL_OBJECT', obj_type=0xa, obj_id=number, out_len=128)
    address = prm.view('flow_meter', out.buf, 16)['sw_steering_icm_address_tx']
    bench.table(bench.put(bench.entry(hit=address, tx=True)), NIC_TX)

    def colors(n: int) -> list[int]:
        return [
            d.packet.registers['metadata_reg_c_3'] for _ in range(n) for d in bench.transmit(PLAIN)]
    assert colors(8) == [2, 2, 2, 2, 1, 1, 0, 0]
    clock[0] += 1_000_000_000
    assert colors(4) == [2, 2, 0, 0]
    # Bytes at 10^9 / 64 a second, as rdma-core's own test asks for.
    v = prm.view('flow_meter',
                 bytearray(meter(table, bucket_overflow=1, cir_mantissa=1, cir_exponent=6)))
    v['modify_field_select'] = flow_meter.MODIFY_PARAMETERS
    g.cmd('MODIFY_GENERAL_OBJECT', bytes(v.buf), obj_type=0xa, obj_id=number)
    assert colors(3) == [2, 0, 0]
    clock[0] += 64 * len(PLAIN)
    assert colors(3) == [2, 0, 0]
    v['modify_field_select'] = 1 << 5
    assert status(bench, 'MODIFY_GENERAL_OBJECT', bytes(v.buf), obj_type=0xa,
                  obj_id=number) == 'BAD_PARAM'
    v.set(modify_field_select=flow_meter.MODIFY_ACTIVE, active=0)
    g.cmd('MODIFY_GENERAL_OBJECT', bytes(v.buf), obj_type=0xa, obj_id=number)
    assert colors(3) == [2, 2, 2]
    assert status(bench, 'DESTROY_FLOW_TABLE', table_type=NIC_TX, table_id=table) == 'BAD_RES_STATE'
    for change in ({'return_reg_id': 0}, {'table_type': NIC_RX}):
        bad = prm.view('flow_meter', bytearray(raw))
        bad.set(**change)
        assert status(bench, 'CREATE_GENERAL_OBJECT', bytes(bad.buf), obj_type=0xa) == 'BAD_PARAM'


def test_definers_and_arguments_are_checked() -> None:
    """Sizes, formats and owners; the first format has neither."""
    bench = SteBench()
    g = bench.g
    other = g.cmd('CREATE_UCTX')['uid']

    def definer(number: int) -> bytes:
        v = prm.new('definer')
        v['format_id'] = number
        return bytes(v.buf)

    def argument(pd: int) -> bytes:
        v = prm.new('modify_header_arg')
        v['access_pd'] = pd
        return bytes(v.buf)
    assert status(bench, 'CREATE_GENERAL_OBJECT', definer(1), obj_type=0x18) == 'BAD_PARAM'
    assert status(bench, 'CREATE_GENERAL_OBJECT', definer(22)[:-1], obj_type=0x18) == 'BAD_INP_LEN'
    assert status(bench, 'CREATE_GENERAL_OBJECT', argument(0xffff), obj_type=0x23) == 'BAD_RES'
    assert status(bench, 'CREATE_GENERAL_OBJECT', argument(g.pd), obj_type=0x23,
                  uid=other) == 'BAD_RES'
    assert status(bench, 'CREATE_GENERAL_OBJECT', argument(g.pd), obj_type=0x23, **{
        'op_param.create.log_obj_range': 11}) == 'BAD_PARAM'
    number = g.cmd('CREATE_GENERAL_OBJECT', argument(g.pd), obj_type=0x23, **{
        'op_param.create.log_obj_range': 3})['obj_id']
    assert number % 8 == 0
    assert status(bench, 'DEALLOC_PD', pd=g.pd) == 'BAD_RES_STATE'
    out = g.cmd('QUERY_GENERAL_OBJECT', obj_type=0x23, obj_id=number, out_len=36)
    assert prm.view('modify_header_arg', out.buf, 16)['access_pd'] == g.pd
    used = bench.card.memory.used
    bench.card.header_modify_arguments.get(number).write(number + 7, bytes(64))
    assert bench.card.memory.used == used + 64
    g.cmd('DESTROY_GENERAL_OBJECT', obj_type=0x23, obj_id=number)
    assert bench.card.memory.used == used
    for n in range(0xc0):
        assert g.cmd('CREATE_GENERAL_OBJECT', definer(0), obj_type=0x18)['obj_id'] == 0x40 + n
    assert status(bench, 'CREATE_GENERAL_OBJECT', definer(0), obj_type=0x18) == 'EXCEED_LIM'
    first = SteBench('connectx5')
    for raw, kind in ((definer(0), 0x18), (argument(first.g.pd), 0x23)):
        assert status(first, 'CREATE_GENERAL_OBJECT', raw, obj_type=kind) == 'BAD_PARAM'


def test_force_loopback() -> None:
    """A QP whose path says so talks to itself, whatever address it has: software writes ICM by such
    queues."""
    from emulator.driver.guest import RC, GuestQp
    from mlx5emu.prm.wqe import RADDR, Op
    bench = SteBench()
    g = bench.g
    data, target = g.alloc(4096), g.alloc(4096)
    key = g.mkey(data, 8192)
    for loopback, opcode in ((1, 0), (0, 13)):
        qp = GuestQp(g, RC)
        qp.to_init()
        qp.to_rtr(
            qp.number, **{
                'primary_address_path.fl': loopback, 'primary_address_path.rmac_47_32': 0xeeee,
                'primary_address_path.rgid_rip': b'\xfe\x80' + bytes(13) + b'\x99'})
        qp.to_rts(retry_count=0, **{'primary_address_path.ack_timeout': 1})
        g.write(data, b'entry' * loopback + b'other')
        qp.post_send(Op.WRITE, RADDR.pack(target, key), struct.pack('>IIQ', 5, key, data))
        g.run(50)
        assert [c['opcode'] for c in qp.scq.poll()] == [opcode]
        assert g.read(target, 5) == b'entry'
