# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The examples' reader of mlx5_ifc.h against the card's own: two programs, one answer."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
from mlx5emu import prm
from mlx5emu.prm import layouts

EXAMPLES = Path(__file__).parents[3] / 'pyverbs' / 'examples'
#: It counts by a constant of another header.
ELSEWHERE = {'set_monitor_counter_in_bits'}


@pytest.fixture
def ifc(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The reader, on the header that the card reads."""
    layouts.load()
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.setenv('MLX5_INCLUDE', str(layouts.SOURCE))
    monkeypatch.delitem(sys.modules, 'mlx5_ifc', raising=False)
    return importlib.import_module('mlx5_ifc')


def test_every_structure_has_the_same_size(ifc: ModuleType) -> None:
    names = [name for name in ifc.BODIES if name not in ELSEWHERE]
    known = {name: prm.layout_bits(name.removesuffix('_bits')) for name in names
             if prm.has(name.removesuffix('_bits'))}
    assert len(known) > 600
    assert {name: ifc.layout(name)[1] for name in known} == known


def test_every_field_of_a_command_is_at_the_same_place(ifc: ModuleType) -> None:
    """Each field in turn, with all its bits set."""
    seen = 0
    for name in ('CREATE_MKEY', 'CREATE_CQ', 'CREATE_QP', 'INIT2RTR_QP', 'CREATE_TIR'):
        layout = f'{name.lower()}_in'
        for field, (_, bits) in ifc.layout(f'{layout}_bits')[0].items():
            if not 0 < bits <= 64 or 'reserved' in field or field == 'opcode':
                continue
            try:
                view = prm.View(layout, bytearray(ifc.command(name, {field: (1 << bits) - 1})))
                assert view[field] in ((1 << bits) - 1, b'\xff' * (bits >> 3)), field
            except prm.LayoutError:
                continue
            seen += 1
    assert seen > 150


def test_a_wrong_name_or_value_does_not_reach_the_card(ifc: ModuleType) -> None:
    """Both are refused where the command is written."""
    with pytest.raises(KeyError, match='log_cq_sice'):
        ifc.command('CREATE_CQ', {'cq_context.log_cq_sice': 1})
    with pytest.raises(ValueError, match='0x20 does not fit the 5 bits of cq_context.log_cq_size'):
        ifc.command('CREATE_CQ', {'cq_context.log_cq_size': 32})
    with pytest.raises(ValueError, match='CREATE_NOTHING: no such command'):
        ifc.command('CREATE_NOTHING', {})


def test_answers(ifc: ModuleType) -> None:
    """Fields of an answer, of which the last may not be there."""
    data = bytes(9) + b'\1\2\3' + bytes(4)
    assert ifc.answer_size('CREATE_MKEY') == 16
    assert ifc.answer('CREATE_MKEY', memoryview(data))['mkey_index'] == 0x10203
    assert 'syndrome' not in ifc.answer('CREATE_MKEY', data[:4])


def test_no_header(monkeypatch: pytest.MonkeyPatch, ifc: ModuleType, tmp_path: Path) -> None:
    """It says where it looked."""
    monkeypatch.setenv('MLX5_INCLUDE', str(tmp_path))
    with pytest.raises(SystemExit, match=f'no mlx5_ifc.h in {tmp_path}'):
        ifc.read_header()
