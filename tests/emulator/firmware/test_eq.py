# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Event queues: creation, ring, arming, overrun."""
import pytest
from emulator.driver.commands import run, status
from emulator.driver.memory import GuestMemory
from mlx5emu import prm
from mlx5emu.bus.bar0 import doorbell
from mlx5emu.card import Card


@pytest.fixture
def card():
    card = Card('connectx6dx', 'ib')
    card.boot()
    card.guest = GuestMemory(card)
    card.uar = run(card, 'ALLOC_UAR')['uar']
    card.irqs = []
    card.raise_irq = card.irqs.append
    yield card
    assert card.internal_errors == 0


def create(card, *, log_size=2, vector=1, mask=0, pages=None, **more) -> int:
    card.buffer = card.guest.alloc(4096)
    pages = [card.buffer] if pages is None else pages
    fields = {'log_eq_size': log_size, 'intr': vector, 'uar_page': card.uar} | more
    return run(card, 'CREATE_EQ',
               {f'eq_context_entry.{k}': v for k, v in fields.items()} | {'event_bitmask[0]': mask},
               extra=b''.join(p.to_bytes(8, 'big') for p in pages))['eq_number']


def ring(card, eqn, consumer, arm=True) -> None:
    doorbell(card, 0x40 if arm else 0x48, card.uar, (eqn << 24 | consumer & 0xffffff).to_bytes(
        4, 'big'))


def test_ring_wraps_with_the_owner_bit(card) -> None:
    eqn = create(card)
    for k in range(10):
        assert card.post_eqe(eqn, 0x13, 2, bytes([k]))
        eqe = card.guest.read(card.buffer + 64 * (k % 4), 64)
        assert (eqe[1], eqe[3], eqe[32], eqe[63]) == (0x13, 2, k, k // 4 & 1)
        ring(card, eqn, k + 1, arm=False)
    assert card.irqs == []


def test_arming(card) -> None:
    eqn = create(card, vector=3)
    card.post_eqe(eqn, 0)
    assert card.irqs == []
    ring(card, eqn, 1)
    assert card.irqs == []
    card.post_eqe(eqn, 0)
    card.post_eqe(eqn, 0)
    assert card.irqs == [3], 'one interrupt for one arming'
    ring(card, eqn, 2)
    assert card.irqs == [3, 3], 'one event is left'
    ring(card, eqn, 3)
    card.post_eqe(eqn, 0)
    assert card.irqs == [3, 3, 3]


def test_overrun_is_counted_not_written(card) -> None:
    eqn = create(card)
    assert [card.post_eqe(eqn, 0, 0, bytes([k])) for k in range(6)] == [True] * 4 + [False] * 2
    assert card.eqs.get(eqn).overruns == 2
    assert [card.guest.read(card.buffer + 64 * k + 32, 1)[0] for k in range(4)] == [0, 1, 2, 3]
    ring(card, eqn, 1)
    assert card.post_eqe(eqn, 0)


def test_consumer_index_cannot_pass_the_producer(card) -> None:
    eqn = create(card)
    card.post_eqe(eqn, 0)
    ring(card, eqn, 500, arm=False)
    assert card.eqs.get(eqn).consumer == 0
    doorbell(card, 0x40, card.uar, b'\xff')      # not even a doubleword
    doorbell(card, 0x40, card.uar, b'\xff\xff\xff\xff')      # no such EQ


def test_events_go_to_subscribers(card) -> None:
    ports, both = create(card, mask=1 << prm.EVENTS['PORT_CHANGE']), create(
        card, mask=1 << prm.EVENTS['PORT_CHANGE'] | 1 << 5)
    assert card.post_event(prm.EVENTS['PORT_CHANGE'], 4) == 2
    assert card.post_event(5) == 1
    assert (card.eqs.get(ports).producer, card.eqs.get(both).producer) == (1, 2)
    assert card.post_event(6) == 0 and not card.post_eqe(99, 0)


def test_bad_contexts(card) -> None:
    for fields, want in (({'intr': 32}, 'BAD_PARAM'), ({'uar_page': 0x7ff}, 'BAD_RES'), ({
            'log_eq_size':
            17}, 'BAD_PARAM'), ({'log_page_size': 31}, 'BAD_PARAM'), ({'page_offset':
                                                                       1}, 'BAD_PARAM')):
        given = {'log_eq_size': 2, 'intr': 0, 'uar_page': card.uar} | fields
        assert status(card, 'CREATE_EQ', {f'eq_context_entry.{k}': v for k, v in given.items()},
                      extra=(card.guest.base).to_bytes(8, 'big') * 300) == want, fields
    assert status(card, 'CREATE_EQ',
                  {'eq_context_entry.log_eq_size': 7, 'eq_context_entry.uar_page': card.uar},
                  extra=bytes(8)) == 'BAD_INP_LEN'
    assert card.eqs.numbers() == []


def test_buffer_that_is_not_mapped(card) -> None:
    eqn = create(card, pages=[0x1000])
    assert not card.post_eqe(eqn, 0)


def test_query_and_destroy(card) -> None:
    eqn = create(card, vector=7, log_size=4)
    card.post_eqe(eqn, 0)
    out = run(card, 'QUERY_EQ', {'eq_number': eqn})
    assert (out['eq_context_entry.intr'], out['eq_context_entry.log_eq_size'],
            out['eq_context_entry.producer_counter']) == (7, 4, 1)
    assert status(card, 'DEALLOC_UAR', {'uar': card.uar}) == 'BAD_RES_STATE'
    card.eqs.get(eqn).hold()
    assert status(card, 'DESTROY_EQ', {'eq_number': eqn}) == 'BAD_RES_STATE'
    card.eqs.get(eqn).drop()
    run(card, 'DESTROY_EQ', {'eq_number': eqn})
    assert status(card, 'DESTROY_EQ', {'eq_number': eqn}) == 'BAD_RES'
    run(card, 'DEALLOC_UAR', {'uar': card.uar})
    assert card.objects() == {}


def test_table_is_finite(card) -> None:
    for _ in range(124):
        create(card)
        card.guest.used -= 4096
    assert status(card, 'CREATE_EQ', {'eq_context_entry.uar_page': card.uar},
                  extra=card.buffer.to_bytes(8, 'big')) == 'EXCEED_LIM'
