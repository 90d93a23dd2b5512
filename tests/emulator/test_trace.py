# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What a trace tells: every field of a command and of a work request that is not zero, how it
ended, and which field was wrong."""
from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
from emulator.driver.commands import CommandFailed
from emulator.driver.guest import (
    PAGE,
    RC,
    UD,
    Guest,
    GuestCq,
    GuestQp,
    av,
    connected,
    inline,
    raddr,
    sge,
)
from mlx5emu import prm
from mlx5emu.prm.wqe import Op
from mlx5emu.vm import run as vm_run
from mlx5emu.vm.trace import Trace


class Traced(Guest):
    """A guest whose card is looked at."""

    def __init__(self, **options: Any) -> None:
        self.records: list[dict[str, Any]] = []
        super().__init__(trace=self.records.append, **options)

    def last(self, name: str) -> dict[str, Any]:
        """The newest record of that name."""
        return next(r for r in reversed(self.records) if r['name'] == name)


@pytest.fixture
def traced() -> Traced:
    return Traced()


def test_nested_contexts(traced: Traced) -> None:
    """Fields of a context inside a command, and the list that follows it."""
    base = traced.alloc(PAGE)
    key = traced.mkey(base + 8, 100, va=0x7008, variant=0x5a)
    r = traced.last('CREATE_MKEY')
    entry = {k.removeprefix('memory_key_mkey_entry.'): v for k, v in r['in'].items()}
    assert (entry['start_addr'], entry['len'], entry['log_page_size'], entry['pd'],
            entry['access_mode_1_0'], entry['lw']) == (0x7008, 100, 12, traced.pd, 1, 1)
    assert entry['klm_pas_mtt'] == base.to_bytes(8, 'big').hex().rstrip('0').ljust(
        2 * len(base.to_bytes(8, 'big').rstrip(b'\0')), '0')
    assert (r['kind'], r['status'], r['reason'], r['out']) == (
        'command', 'OK', '', {'mkey_index': key >> 8})


def test_a_refusal_names_the_field(traced: Traced) -> None:
    """Status, syndrome and reason; a person sees the line of the field that was wrong."""
    with pytest.raises(CommandFailed):
        traced.create_mkey(bytes(16), 1, access_mode_1_0=1, pd=traced.pd, log_page_size=7, len=5)
    r = traced.last('CREATE_MKEY')
    assert (r['status'], r['reason'], r['out']) == ('BAD_PARAM', 'log_page_size', {})
    text = Trace(io.StringIO(), False).text({'time': 1.5, 'function': 0, **r})
    lines = text.splitlines()
    assert lines[0] == (f"  1.500000 CREATE_MKEY (uid 0x0) BAD_PARAM {r['syndrome']:#x}: "
                        'log_page_size')
    marked = [line for line in lines if '<--' in line]
    assert len(marked) == 1 and marked[0].split()[1:3] == [
        'memory_key_mkey_entry.log_page_size', '0x7']


def test_reserved_bits_are_shown(traced: Traced) -> None:
    """A bit that no field has stands in a line of its own, which is marked."""
    traced.card.execute(bytes.fromhex('0200' + 12 * '00' + '0001').ljust(272, b'\0'), 16)
    r = traced.records[-1]
    assert r['reason'].startswith('reserved bit')
    text = Trace(io.StringIO(), False).text({'time': 0.0, 'function': 0, **r})
    line, = (x for x in text.splitlines() if '<--' in x)
    assert 'reserved_at' in line


def test_general_object(traced: Traced) -> None:
    """The object that follows the header has its own layout."""
    view = prm.new('data_encryption_key')
    view.set(key_size=3, pd=0x77)
    traced.fails('CREATE_GENERAL_OBJECT', bytes(view.buf), obj_type=0xc)
    found = traced.last('CREATE_GENERAL_OBJECT')
    assert (found['in']['obj_type'], found['in']['data_encryption_key.key_size'],
            found['in']['data_encryption_key.pd']) == (0xc, 3, 0x77)


def test_before_it_is_laid_out(traced: Traced) -> None:
    """A command that is too short, or unknown, is shown by its bytes."""
    traced.card.execute(bytes.fromhex('fff0') + bytes(14))
    assert traced.records[-1]['status'] == 'BAD_OP'
    assert traced.records[-1]['in'] == {'bytes': 'fff0' + 28 * '0'}


def test_work_requests(traced: Traced) -> None:
    """Each segment of a send WQE, and the receive WQE that it meets."""
    buf = traced.alloc(PAGE)
    key = traced.mkey(buf, PAGE)
    a, b = connected(traced, RC, rcq=GuestCq(traced))
    b.post_recv((buf, 64, key))
    a.post_send(Op.SEND_IMM, inline(b'hi'), imm=9)
    sent, got = traced.last('SEND_IMM'), traced.last('RECEIVE')
    assert (sent['kind'], sent['queue'], sent['number'], sent['index'], sent['status']) == (
        'work request', 'qp', a.number, 0, 'OK')
    assert (sent['in']['ctrl.imm'], sent['in']['inline[0].byte_count'],
            sent['in']['inline[0].data']) == (9, 2, b'hi'.hex())
    assert (got['kind'], got['number'], got['out']) == ('receive', b.number, {'bytes': 2})
    assert (got['in']['data[0].byte_count'], got['in']['data[0].addr']) == (64, buf)
    a.post_send(Op.WRITE, raddr(buf + PAGE, key), sge(buf, 8, key))
    wrong = traced.last('WRITE')
    assert (wrong['status'], wrong['reason'], wrong['in']['raddr.raddr']) == (
        'REMOTE_ACCESS', 'range', buf + PAGE)


def test_address_vector(traced: Traced) -> None:
    """A datagram's address stands between control and data."""
    buf = traced.alloc(PAGE)
    key = traced.mkey(buf, PAGE)
    a = GuestQp(traced, UD)
    a.connect(0)
    a.post_send(Op.SEND, av(0x123), sge(buf, 8, key))
    found = traced.last('SEND')['in']
    assert (found['av.dqp_dct'], found['data[0].lkey']) == (0x123, key)


def test_lines_for_programs(traced: Traced) -> None:
    """A record is one JSON object a line, with time and function."""
    out = io.StringIO()
    trace = Trace(out, jsonl=True, functions=2)
    trace.take(1, traced.records[0])
    trace.open = False
    trace.take(1, traced.records[0])
    first, = map(json.loads, out.getvalue().splitlines())
    assert first.pop('time') >= 0 and first.pop('function') == 1
    assert first == traced.records[0]


def test_where_it_goes(tmp_path: Path) -> None:
    """A file has everything, as JSON where its name says so; one that cannot be written is refused
    before a guest is started."""
    with contextlib.ExitStack() as stack:
        for name, first in (('all.jsonl', '{'), ('all.txt', ' ')):
            trace = vm_run.open_trace(vm_run.Options(trace=str(tmp_path / name)), stack)
            assert trace is not None and trace.open
            trace.take(0, {'kind': 'command', 'name': 'NOP', 'uid': 0, 'op_mod': 0, 'in': {},
                           'out': {}, 'status': 'OK', 'syndrome': 0, 'reason': ''})
            assert (tmp_path / name).read_text()[0] == first
        assert vm_run.open_trace(vm_run.Options(), stack) is None
        with pytest.raises(vm_run.CardError, match='No such file'):
            vm_run.open_trace(vm_run.Options(trace=str(tmp_path / 'no' / 'file')), stack)


def test_only_users_on_a_terminal(traced: Traced) -> None:
    """What the kernel does for itself is left out unless it is refused."""
    out = io.StringIO()
    trace = Trace(out, jsonl=True, users=True)
    uid = traced.cmd('CREATE_UCTX')['uid']
    traced.cmd('ALLOC_PD', uid=uid)
    traced.fails('DEALLOC_PD', pd=0x777)
    for record in traced.records:
        trace.take(0, record)
    names = [json.loads(line)['name'] for line in out.getvalue().splitlines()]
    assert names == ['ALLOC_PD', 'DEALLOC_PD']


def test_colour_for_terminals_only(traced: Traced) -> None:
    """Without a terminal there is no escape sequence."""
    record = {'time': 0.0, 'function': 0, **traced.records[-1]}
    assert '\x1b' not in Trace(io.StringIO(), False).text(record)
    assert '\x1b' in Trace(io.StringIO(), False, colour=True).text(record)
