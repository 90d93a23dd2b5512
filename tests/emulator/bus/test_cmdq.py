# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The command queue: descriptors and mailboxes in guest memory, completion events, malformed
rings."""
import pytest
from emulator.driver.commands import CommandRing, encode, run
from emulator.driver.memory import GUEST_BASE, GUEST_SIZE, GuestMemory
from mlx5emu import prm
from mlx5emu.bus import cmdq
from mlx5emu.bus.bar0 import doorbell
from mlx5emu.bus.pci import Function
from mlx5emu.card import Card
from mlx5emu.firmware import dispatch
from mlx5emu.firmware.status import CODES


class Bench:
    """A card with guest memory and a command queue."""

    def __init__(self) -> None:
        self.card = Card('connectx6dx', 'ib')
        self.function = Function(self.card)
        self.guest = GuestMemory(self.card)
        self.queue = CommandRing(self.function, self.guest)
        self.card.boot()
        self.irqs: list[int] = []
        self.card.raise_irq = self.irqs.append


@pytest.fixture
def bench():
    b = Bench()
    yield b
    assert b.card.internal_errors == 0


def create_eq(b: Bench, mask: int, vector: int = 0, log_size: int = 3) -> int:
    """An EQ; its number.  ``b.eq_buffer`` is where its EQEs are."""
    b.eq_buffer = b.guest.alloc(4096)
    b.guest.write(b.eq_buffer, b'\xff' * 4096)
    uar = run(b.card, 'ALLOC_UAR')['uar']
    return run(
        b.card, 'CREATE_EQ', {
            'eq_context_entry.log_eq_size': log_size, 'eq_context_entry.intr': vector,
            'eq_context_entry.uar_page': uar, 'event_bitmask[0]': mask}, extra=b.eq_buffer.to_bytes(
                8, 'big'))['eq_number']


def test_inline_command(bench) -> None:
    own, out = bench.queue.command(bytes(encode('ALLOC_PD')), 16)
    assert own == 0 and out == bytes.fromhex('00000000 00000000 00000001 00000000')


def test_output_in_mailboxes(bench) -> None:
    own, out = bench.queue.command(bytes(encode('QUERY_HCA_CAP', op_mod=1)), 16 + 4096)
    assert own == 0 and out[16:] == bytes(bench.card.caps.page('general').buf)


def test_input_in_mailboxes(bench) -> None:
    n = 200
    pages = [GUEST_BASE + 4096 * k for k in range(n)]
    raw = bytes(
        encode('CREATE_UMEM', {'umem.num_of_mtt': n}, extra=b''.join(
            (p | 3).to_bytes(8, 'big') for p in pages)))
    own, out = bench.queue.command(raw, 16)
    umem = bench.card.umems.get(int.from_bytes(out[8:12], 'big'))
    assert own == 0 and list(umem.mtts) == [p | 3 for p in pages]


def test_several_commands_by_one_doorbell(bench) -> None:
    raw = bytes(encode('ALLOC_PD'))
    addrs = [bench.queue.post(raw, 16, index)[0] for index in (0, 3, 31)]
    bench.queue.ring_doorbell(1 << 0 | 1 << 31)
    assert [bench.guest.read(a + 63, 1)[0] for a in addrs] == [0, 1, 0]
    assert bench.card.objects() == {'pd': [1, 2]}
    bench.queue.ring_doorbell(1 << 0)
    assert bench.card.objects() == {'pd': [1, 2]}, 'a descriptor that software owns is not run'


def test_failed_command_is_delivered(bench) -> None:
    own, out = bench.queue.command(bytes(encode('DEALLOC_PD', {'pd': 9})), 16)
    assert own == 0 and out[0] == 5 and any(out[4:8])


@pytest.mark.parametrize(('fields', 'delivery'),
                         [({'type': 0}, cmdq.DESCRIPTOR), ({'in_ptr': 0}, cmdq.IN_LENGTH),
                          ({'in_ptr': GUEST_BASE + 0x10}, cmdq.IN_ALIGN),
                          ({'in_ptr': GUEST_BASE - 0x1000}, cmdq.DESCRIPTOR),
                          ({'in_ptr': GUEST_BASE + GUEST_SIZE}, cmdq.DESCRIPTOR),
                          ({'in_ptr': (1 << 64) - 512}, cmdq.DESCRIPTOR),
                          ({'inlen': 0xffffffff}, cmdq.IN_LENGTH),
                          ({'inlen': 16 + 1025}, cmdq.IN_LENGTH), ({'out_ptr': 0}, cmdq.OUT_LENGTH),
                          ({'out_ptr': GUEST_BASE + 0x20}, cmdq.OUT_ALIGN),
                          ({'outlen': 0xffffffff}, cmdq.OUT_LENGTH),
                          ({'outlen': 16 + 1025}, cmdq.OUT_LENGTH), ({'token': 0}, cmdq.TOKEN)])
def test_malformed_descriptors(bench, fields, delivery) -> None:
    raw = bytes(encode('CREATE_UMEM', {'umem.num_of_mtt': 100}, extra=bytes(800)))
    addr, _ = bench.queue.post(raw[:16 + 1024].ljust(16 + 1024, b'\0'), 16 + 1024, **fields)
    before = bench.guest.read(addr + 32, 16)
    bench.queue.ring_doorbell()
    assert bench.guest.read(addr + 63, 1)[0] == delivery << 1
    assert bench.guest.read(addr + 32, 16) == before, 'nothing was executed'
    assert bench.card.objects() == {} and bench.card.command_counts == {}


def test_mailboxes_that_loop_or_lie(bench) -> None:
    raw = bytes(encode('CREATE_UMEM', {'umem.num_of_mtt': 100}, extra=bytes(800)))
    addr, _ = bench.queue.post(raw, 16)
    first = int.from_bytes(bench.guest.read(addr + 8, 8), 'big')
    bench.guest.write(first + 560, first.to_bytes(8, 'big'))       # its own successor
    bench.queue.ring_doorbell()
    assert bench.guest.read(addr + 63, 1)[0] == cmdq.BLOCK_NUMBER << 1
    # The longest chain that is believed ends at the limit, whatever the guest writes.
    addr, _ = bench.queue.post(raw, 16, inlen=dispatch.MAX_INPUT)
    bench.queue.ring_doorbell()
    assert bench.guest.read(addr + 63, 1)[0] == cmdq.IN_LENGTH << 1
    assert bench.card.command_counts == {}


def test_a_ring_that_is_not_there(bench) -> None:
    for base in (0, GUEST_BASE - 4096, GUEST_BASE + GUEST_SIZE, (1 << 64) - 4096):
        bench.function.write(0, 0x10, (base >> 32).to_bytes(4, 'big'))
        bench.function.write(0, 0x14, (base & 0xffffffff).to_bytes(4, 'big'))
        bench.queue.ring_doorbell(0xffffffff)
    assert bench.card.command_counts == {}


def test_no_dma_before_bus_master(bench) -> None:
    addr, _ = bench.queue.post(bytes(encode('ALLOC_PD')), 16)
    bench.function.write(7, 4, b'\0\0')
    bench.queue.ring_doorbell()
    assert bench.guest.read(addr + 63, 1)[0] == 1
    bench.function.write(7, 4, b'\6\0')
    bench.queue.ring_doorbell()
    assert bench.guest.read(addr + 63, 1)[0] == 0


def test_completion_event(bench) -> None:
    eqn = create_eq(bench, 1 << prm.EVENTS['CMD'], vector=5)
    doorbell(bench.card, 0x40, bench.card.eqs.get(eqn).uar, (eqn << 24).to_bytes(4, 'big'))
    bench.queue.post(bytes(encode('ALLOC_PD')), 16, 7)
    bench.queue.ring_doorbell(1 << 7)
    eqe = bench.guest.read(bench.eq_buffer, 64)
    assert eqe[1] == 0x0a and eqe[32:36] == (1 << 7).to_bytes(4, 'big') and eqe[63] == 0
    assert bench.irqs == [5]
    bench.queue.command(bytes(encode('ALLOC_PD')), 16)
    assert bench.irqs == [5], 'an EQ that is not armed does not interrupt'
    assert bench.guest.read(bench.eq_buffer + 64, 64)[1] == 0x0a
    doorbell(bench.card, 0x40, bench.card.eqs.get(eqn).uar, (eqn << 24 | 1).to_bytes(4, 'big'))
    assert bench.irqs == [5, 5], 'arming with events left interrupts at once'


def test_no_event_for_the_command_that_makes_or_ends_the_eq(bench) -> None:
    bench.eq_buffer = bench.guest.alloc(4096)
    bench.guest.write(bench.eq_buffer, b'\xff' * 4096)
    uar = run(bench.card, 'ALLOC_UAR')['uar']
    raw = bytes(
        encode(
            'CREATE_EQ', {
                'eq_context_entry.log_eq_size': 3, 'eq_context_entry.uar_page': uar,
                'event_bitmask[0]': 1 << 0x0a}, extra=bench.eq_buffer.to_bytes(8, 'big')))
    own, out = bench.queue.command(raw, 16)
    assert own == 0 and out[0] == 0
    assert bench.guest.read(bench.eq_buffer, 4096) == b'\xff' * 4096
    bench.queue.command(bytes(encode('DESTROY_EQ', {'eq_number': out[11]})), 16)
    assert bench.guest.read(bench.eq_buffer, 4096) == b'\xff' * 4096


def test_delayed_command(bench) -> None:
    bench.card.faults.add('ALLOC_PD', delay=0.02)
    addr, _ = bench.queue.post(bytes(encode('ALLOC_PD')), 16)
    bench.queue.ring_doorbell()
    bench.queue.ring_doorbell()     # a second ring while it is under way changes nothing
    assert bench.guest.read(addr + 63, 1)[0] == 1 and bench.card.run_timers() > 0
    while bench.card.run_timers() is not None:
        pass
    assert bench.guest.read(addr + 63, 1)[0] == 0 and bench.card.objects() == {'pd': [1]}
    # A reset forgets what is under way.
    bench.card.faults.add('ALLOC_PD', delay=0.01)
    addr, _ = bench.queue.post(bytes(encode('ALLOC_PD')), 16)
    bench.queue.ring_doorbell()
    bench.function.reset()
    assert bench.card.run_timers() is None and bench.guest.read(addr + 63, 1)[0] == 1


def test_held_commands_answer_when_they_are_released(bench) -> None:
    card, read = bench.card, bench.guest.read
    card.faults.add('ALLOC_PD', count=2, hold=True)
    held = [bench.queue.post(bytes(encode('ALLOC_PD')), 16, index)[0] for index in (3, 1)]
    bench.queue.ring_doorbell(1 << 3)
    bench.queue.ring_doorbell(1 << 3 | 1 << 1)
    # They have had their effect, no timer answers them, and other commands are not held up.
    assert card.objects() == {'pd': [1, 2]} and card.run_timers() is None
    assert [read(addr + 63, 1)[0] for addr in held] == [1, 1] and len(card.faults.held) == 2
    assert bench.queue.command(bytes(encode('ALLOC_PD')), 16)[0] == 0
    assert card.faults.release() == 2
    assert [read(addr + 63, 1)[0] for addr in held] == [0, 0]
    assert [int.from_bytes(read(addr + 32 + 8, 4), 'big') for addr in held] == [1, 2]
    assert card.faults.release() == 0


def test_release_ends_the_holding_and_clear_releases(bench) -> None:
    bench.card.faults.add('ALLOC_PD', 'NO_RES', count=-1, hold=True)
    addr, _ = bench.queue.post(bytes(encode('ALLOC_PD')), 16, 5)
    bench.queue.ring_doorbell(1 << 5)
    assert bench.guest.read(addr + 63, 1)[0] == 1 and bench.card.objects() == {}
    assert bench.card.faults.release() == 1
    assert bench.guest.read(addr + 63, 1)[0] == 0
    assert bench.guest.read(addr + 32, 1)[0] == CODES['NO_RES']
    assert bench.queue.command(bytes(encode('ALLOC_PD')), 16)[1][0] == 0
    bench.card.faults.add('DEALLOC_PD', hold=True)
    addr, _ = bench.queue.post(bytes(encode('DEALLOC_PD', {'pd': 1})), 16, 5)
    bench.queue.ring_doorbell(1 << 5)
    bench.card.faults.clear()
    assert bench.guest.read(addr + 63, 1)[0] == 0 and bench.card.faults.held == []


def test_a_reset_forgets_held_answers(bench) -> None:
    bench.card.faults.add('ALLOC_PD', hold=True)
    addr, _ = bench.queue.post(bytes(encode('ALLOC_PD')), 16)
    bench.queue.ring_doorbell()
    bench.function.reset()
    assert bench.card.faults.release() == 0 and bench.guest.read(addr + 63, 1)[0] == 1
