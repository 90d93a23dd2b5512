# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The switch between a function and the wire: firmware's rules and software's entries in its
tables."""

import pytest
from emulator.driver.ethernet import EthernetBench, Receiver
from emulator.driver.frames import MAC_A, PLAIN, ether
from emulator.driver.steering_entries import PROFILES, SteBench, root_field
from mlx5emu.datapath.fabric import Fabric
from mlx5emu.firmware import firmware_icm
from mlx5emu.firmware.flow_namespace import FDB, NIC_RX, UPLINK
from mlx5emu.steering import flow
from mlx5emu.steering.packet import Packet

OTHER = ether(b'', source=MAC_A[:5] + b'\xff')


@pytest.fixture
def pair():
    """Two functions on a wire; the first has a switch whose rules the test makes."""
    a, b, fabric = EthernetBench(), EthernetBench(1), Fabric()
    a.card.datapath.port.connect(fabric)
    b.card.datapath.port.connect(fabric)
    yield a, b
    assert a.card.internal_errors == b.card.internal_errors == 0


def test_without_a_root(pair: tuple[EthernetBench, EthernetBench]) -> None:
    """Frames pass: to the wire and back to the function's own queues, and in from the wire."""
    a, b = pair
    ra, rb = Receiver(a), Receiver(b)
    a.all_to(ra)
    b.all_to(rb)
    a.table(FDB, root=False)
    a.send(PLAIN)
    assert (len(ra.frames()), len(rb.frames())) == (1, 1)
    b.send(PLAIN)
    assert len(ra.frames()) == 1


def test_rules(pair: tuple[EthernetBench, EthernetBench]) -> None:
    """By the port that a frame comes from it goes to the other, or to its own function; what no
    rule takes is dropped."""
    a, b = pair
    ra, rb = Receiver(a), Receiver(b)
    a.all_to(ra)
    b.all_to(rb)
    t = a.table(FDB)
    a.send(PLAIN)
    b.send(PLAIN)
    assert ra.frames() == []
    assert len(rb.frames()) == 1           # its own
    g = a.group(t, enable=3, **{
        'outer_headers.smac_15_0': 0xffff, 'misc_parameters.source_port': 0xffff})

    def match(port: int) -> dict[str, int]:
        return {
            'outer_headers.smac_15_0': int.from_bytes(MAC_A[4:], 'big'),
            'misc_parameters.source_port': port}
    a.entry(t, g, 0, flow.FORWARD, (flow.TO_VPORT, UPLINK), match=match(0))
    a.send(PLAIN)
    a.send(OTHER)
    assert (ra.frames(), len(rb.frames())) == ([], 1)
    a.entry(t, g, 1, flow.FORWARD, (flow.TO_VPORT, 0), match=match(UPLINK))
    b.send(PLAIN)
    b.send(OTHER)
    assert (len(ra.frames()), len(rb.frames())) == (1, 2)
    a.g.cmd('DELETE_FLOW_TABLE_ENTRY', table_type=FDB, table_id=t, flow_index=0)
    a.entry(t, g, 2, flow.FORWARD | flow.COUNT, (flow.TO_VPORT, 0), (flow.TO_UPLINK, 0),
            match=match(0), counter=a.g.cmd('ALLOC_FLOW_COUNTER')['flow_counter_id'])
    a.send(PLAIN)
    assert (len(ra.frames()), len(rb.frames())) == (1, 1)


def test_own_port_in_receive_tables(pair: tuple[EthernetBench, EthernetBench]) -> None:
    """Receive rules see the port of the switch that a frame came from."""
    a, b = pair
    ra = Receiver(a)
    t = a.table(NIC_RX)
    g = a.group(t, enable=2, **{'misc_parameters.source_port': 0xffff})
    a.entry(t, g, 0, flow.FORWARD, (flow.TO_TIR, ra.tir), match={
        'misc_parameters.source_port': UPLINK})
    f = a.table(FDB)
    a.entry(f, a.group(f, enable=0), 0, flow.FORWARD, (flow.TO_VPORT, 0))
    a.send(PLAIN)
    assert ra.frames() == []
    b.send(PLAIN)
    assert len(ra.frames()) == 1


def test_what_the_switch_has_not_is_refused(pair: tuple[EthernetBench, EthernetBench]) -> None:
    """Virtual ports that are not there, and ports of the switch in other tables."""
    a = pair[0]
    for kind, vport in ((FDB, 1), (NIC_RX, 0)):
        t = a.table(kind, root=False)
        g = a.group(t, enable=0)
        with pytest.raises(Exception, match='BAD_PARAM'):
            a.entry(t, g, 0, flow.FORWARD, (flow.TO_VPORT, vport))
    with pytest.raises(Exception, match='BAD_PARAM'):
        a.g.cmd('CREATE_FLOW_TABLE', table_type=3)


@pytest.mark.parametrize('profile', PROFILES)
def test_software_tables(profile: str) -> None:
    """A software-owned table has a side for what comes from the wire and one for what the function
    sends."""
    bench = SteBench(profile)
    steering = bench.card.datapath.port.steering
    port = bench.g.cmd('QUERY_ESW_VPORT_CONTEXT')
    address = {
        side: port[f'esw_vport_context.sw_steering_vport_icm_address_{side}']
        for side in ('rx', 'tx')}
    page = bench.card.caps.page('eswitch_flow_table')

    def table(rx: int, tx: int) -> None:
        roots = {
            root_field(0): bench.put(bench.entry(hit=rx)),
            root_field(1): bench.put(bench.entry(hit=tx, tx=True))}
        t = bench.g.cmd(
            'CREATE_FLOW_TABLE', table_type=FDB, **{
                f'flow_table_context.{k}': v for k, v in {'sw_owner': 1, **roots}.items()})
        out = bench.g.cmd('QUERY_FLOW_TABLE', table_type=FDB, table_id=t['table_id'])
        assert {k: out[f'flow_table_context.{k}'] for k in roots} == roots
        bench.g.cmd('SET_FLOW_TABLE_ROOT', table_type=FDB, table_id=t['table_id'])

    def walk(port: int) -> list[int | None]:
        packet = Packet(PLAIN)
        packet.source_port = port
        return [d.vport for d in steering.walk(FDB, packet)]
    table(address['rx'], page['sw_steering_uplink_icm_address_tx'])
    assert (walk(UPLINK), walk(0)) == ([0], [UPLINK])
    table(page['sw_steering_fdb_action_drop_icm_address_rx'], address['tx'])
    assert (walk(UPLINK), walk(0)) == ([], [0])
    # Each side has addresses of its own, and TIRs and the allow address are no part of the switch.
    table(address['tx'], address['rx'])
    assert (walk(UPLINK), walk(0)) == ([], [])
    table(bench.tir()[1], firmware_icm.address_of(1, firmware_icm.ALLOW_TX))
    assert (walk(UPLINK), walk(0)) == ([], [])


def test_copies_are_bounded() -> None:
    """Rules that multiply a frame, in the switch and behind it: the whole way has one budget."""
    a = EthernetBench()
    ra = Receiver(a)
    own = [(flow.TO_VPORT, 0)] * 400
    t = a.table(FDB)
    a.entry(t, a.group(t, enable=0), 0, flow.FORWARD, *own)
    r = a.table(NIC_RX)
    a.entry(r, a.group(r, enable=0), 0, flow.FORWARD, *[(flow.TO_TIR, ra.tir)] * 400)
    a.send(PLAIN)
    assert a.card.datapath.port.steering.too_long >= 398
    assert a.card.internal_errors == 0
    assert len(ra.frames()) == 8            # all that there were buffers for


def test_nothing_turns_back_on_the_wire(pair: tuple[EthernetBench, EthernetBench]) -> None:
    """What came from the wire does not go out there again."""
    a, b = pair
    rb = Receiver(b)
    b.all_to(rb)
    t = a.table(FDB)
    a.entry(t, a.group(t, enable=0), 0, flow.FORWARD, (flow.TO_VPORT, UPLINK))
    b.send(PLAIN)
    assert len(rb.frames()) == 1            # its own loopback
    a.send(PLAIN)
    assert len(rb.frames()) == 1
