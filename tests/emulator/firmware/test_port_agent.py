# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Management datagrams that an InfiniBand port answers by itself."""
import pytest
from emulator.driver.commands import run, status
from emulator.driver.guest import PAGE, RC, UD, Guest, GuestCq, GuestQp, av, sge
from emulator.driver.one_fabric import on_one_fabric
from mlx5emu import prm
from mlx5emu.firmware import port_agent as pa
from mlx5emu.firmware import vport
from mlx5emu.prm.wqe import Op
from mlx5emu.queues.queue import QP0, QP1


def request(attribute: int, *, mgmt_class: int = 1, method: int = 1, modifier: int = 0) -> bytes:
    asked = prm.new('mad')
    asked.set(base_version=1, mgmt_class=mgmt_class, class_version=1, method=method, tid=0x1234,
              attr_id=attribute, attr_mod=modifier)
    return bytes(asked.buf)


def mad(ib, attribute: int, **rest: int) -> prm.View:
    return prm.View('mad', run(ib, 'MAD_IFC', {'port': 1, 'mad': request(attribute, **rest)})[
        'response_mad_packet'])


def test_mad_ifc(ib) -> None:
    answer = mad(ib, pa.NODE_INFO)
    assert (answer['method'], answer['status'], answer['tid']) == (0x81, 0, 0x1234)
    assert answer['data'][12:20] == ib.guid.to_bytes(8, 'big')
    assert answer['data'][30:32] == b'\x10\x1d'
    assert mad(ib, pa.PKEY_TABLE)['data'][:8] == b'\xff\xff\x80\x01\x80\x02\0\0'
    assert mad(ib, pa.PKEY_TABLE, modifier=0xffff)['data'] == bytes(192)
    assert mad(ib, pa.NODE_DESC)['data'].startswith(b'mlx5emu')
    for other in ({'attribute': 0x99}, {'attribute': pa.NODE_INFO, 'method': 2}, {
            'attribute': pa.NODE_INFO, 'mgmt_class': 9}, {'attribute': 0x99, 'mgmt_class': 4}):
        assert mad(ib, **other)['status'] == pa.UNSUPPORTED_ATTRIBUTE
    assert status(ib, 'MAD_IFC', {'port': 2}) == 'BAD_PARAM'


def test_lanes(ib) -> None:
    """Eight lanes, as PortInfo says: each service level has one, each lane its turn."""
    assert mad(ib, pa.PORT_INFO)['data'][37] >> 4 == pa.EIGHT_LANES
    assert mad(ib, pa.SL_TO_VL)['data'][:8].hex() == '0123456701234567'
    assert mad(ib, pa.VL_ARBITRATION, modifier=1 << 16)['data'][:16].hex() == (
        '00010101020103010401050106010701')
    assert mad(ib, pa.VL_ARBITRATION, modifier=2 << 16)['data'] == bytes(192)


def test_software_may_send_subnet_management(ib) -> None:
    """Without this bit the driver refuses what smpquery sends."""
    assert run(ib, 'QUERY_HCA_VPORT_CONTEXT')['hca_vport_context.has_smi'] == 1


def test_counters(ib) -> None:
    """Data in words of four bytes, packets as they are; the short ones stop at their end."""
    ib.vport.count('transmitted_ib_unicast', 4096, 2)
    ib.vport.count('received_ib_multicast', 400)
    ib.vport.count('received_ib_unicast', 1 << 40, 3)
    short = mad(ib, pa.PORT_COUNTERS, mgmt_class=4)['data']
    assert short[24:40].hex() == '00000400' 'ffffffff' '00000002' '00000004'
    long = mad(ib, pa.PORT_COUNTERS_EXTENDED, mgmt_class=4)['data']
    assert [int.from_bytes(long[at:at + 8], 'big') for at in range(8, 72, 8)] == [
        1024, (1 << 38) + 100, 2, 4, 2, 3, 0, 1]
    assert mad(ib, pa.CLASS_PORT_INFO, mgmt_class=4)['data'][2:4] == b'\x02\x00'


def test_port_info(ib) -> None:
    """PortInfo says whether the port is up and active, or disabled."""
    data = mad(ib, pa.PORT_INFO, modifier=1)['data']
    assert (data[32] & 0xf, data[33] >> 4, data[16:18]) == (vport.ACTIVE, vport.PHYSICAL_UP,
                                                            b'\0\1')
    ib.vport.up = False
    data = mad(ib, pa.PORT_INFO, modifier=1)['data']
    assert (data[32] & 0xf, data[33] >> 4) == (vport.DOWN, vport.DISABLED)


# ---- asked over the fabric

@pytest.fixture
def two():
    """Two functions on one fabric."""
    with on_one_fabric(2, 'connectx7') as guests:
        yield guests


def unconnected(g: Guest, st: int) -> GuestQp:
    q = GuestQp(g, st, rcq=GuestCq(g))
    q.to_init()
    q.to_rtr(0)
    q.to_rts()
    return q


def ask(a: Guest, p: GuestQp, mad: bytes, qpn: int, lid: int) -> bytes:
    """Send a datagram; return what came into the buffer that was posted for the answer."""
    src, dst = a.alloc(PAGE), a.alloc(PAGE)
    a.write(src, mad)
    p.post_recv((dst, 296, a.mkey(dst, PAGE)))
    p.post_send(Op.SEND, av(qpn, rlid=lid), sge(src, len(mad), a.mkey(src, PAGE)))
    assert p.scq.poll()[0]['opcode'] == 0, 'the sender is told nothing of what became of it'
    return a.read(dst, 296)


@pytest.mark.parametrize('lid', [1, 2])
def test_performance_is_answered_by_the_port(two: list[Guest], lid: int) -> None:
    """One's own port and another's; the QP1 asked gets nothing of it."""
    a, b = two
    p, q = unconnected(a, QP1), unconnected(b, QP1)
    dst = b.alloc(PAGE)
    q.post_recv((dst, 296, b.mkey(dst, PAGE)))
    two[lid - 1].card.vport.count('received_ib_unicast', 400, 7)
    answer = prm.View('mad', bytearray(
        ask(a, p, request(pa.PORT_COUNTERS, mgmt_class=4), 1, lid)[40:]))
    assert (answer['method'], answer['status'], answer['tid']) == (0x81, 0, 0x1234)
    assert answer['data'][36:40] == (7).to_bytes(4, 'big')
    assert [c['byte_cnt'] for c in p.rcq.poll()] == [296]
    assert not q.rcq.poll()


def test_other_classes_are_softwares(two: list[Guest]) -> None:
    """Whatever is not for the port goes to its QP1."""
    a, b = two
    p, q = unconnected(a, QP1), unconnected(b, QP1)
    dst = b.alloc(PAGE)
    for _ in range(3):
        q.post_recv((dst, 296, b.mkey(dst, PAGE)))
    for mad in (request(1, mgmt_class=7), request(1, mgmt_class=4, method=0x81),
                request(1, mgmt_class=4)[:200]):
        ask(a, p, mad, 1, 2)
        assert len(q.rcq.poll()) == 1 and not p.rcq.poll()


def test_a_directed_route_ends_at_the_port(two: list[Guest]) -> None:
    """There is no switch at the other end of the link; by LID the other function is reached."""
    a, b = two
    p, q = unconnected(a, QP0), unconnected(b, QP0)
    dst = b.alloc(PAGE)
    q.post_recv((dst, 296, b.mkey(dst, PAGE)))
    mad = request(pa.NODE_INFO, mgmt_class=pa.SUBN_DIRECTED)
    ask(a, p, mad, 0, 0xffff)
    assert not p.rcq.poll() and not q.rcq.poll()
    ask(a, p, mad, 0, 2)
    assert len(q.rcq.poll()) == 1


def test_traffic_is_counted(two: list[Guest]) -> None:
    """Packets by the MTU, octets as they are, on both ports; Ethernet counts frames instead."""
    a, b = two
    p, q = GuestQp(a, RC, rcq=GuestCq(a)), GuestQp(b, RC, rcq=GuestCq(b))
    for mine, other, far in ((p, q, b), (q, p, a)):
        mine.to_init()
        mine.to_rtr(other.number, **{'primary_address_path.rlid': far.card.vport.lid})
        mine.to_rts()
    src, dst = a.alloc(2 * PAGE), b.alloc(2 * PAGE)
    q.post_recv((dst, 5000, b.mkey(dst, 2 * PAGE)))
    p.post_send(Op.SEND, sge(src, 5000, a.mkey(src, 2 * PAGE)))
    u = unconnected(a, UD)
    u.post_send(Op.SEND, av(0x4242, rlid=2), sge(src, 100, a.mkey(src, PAGE)))
    sent = a.cmd('QUERY_VPORT_COUNTER')
    got = b.cmd('QUERY_VPORT_COUNTER')
    mtu = a.card.qps.find(p.number).mtu
    assert sent['transmitted_ib_unicast.octets'] == 5100
    assert got['received_ib_unicast.octets'] == 5000
    assert sent['transmitted_ib_unicast.packets'] == got['received_ib_unicast.packets'] + 1 == (
        -(-5000 // mtu) + 1)
