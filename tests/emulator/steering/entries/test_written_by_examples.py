# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The steering table entries that the examples write by hand, against the card's layouts."""
from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import pytest
from emulator.driver.steering_entries import PROFILES, SteBench

EXAMPLES = Path(__file__).parents[4] / 'pyverbs' / 'examples'
MAC = bytes.fromhex('02a1b2c3d4e5')
#: Addresses whose halves both say something.
HIT, MISS = 0x12_3456_7840, 0x10_fedc_ba80


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The examples' module."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, 'steering_entry', raising=False)
    return importlib.import_module('steering_entry')


@pytest.mark.parametrize('profile', PROFILES)
def test_every_field_is_where_the_card_reads_it(profile: str, written: ModuleType) -> None:
    """Entries of both kinds, on each card's format."""
    bench = SteBench(profile)
    caps = bench.card.caps
    entries = written.SteeringEntries(caps.get('steering_format_version'), caps.get('vhca_id'))
    source = bench.lookup('eth_l2_src')[0]
    assert entries.every_frame(HIT) == bench.entry(hit=HIT, miss=0)
    assert entries.every_frame(HIT, then_by_mac=True) == bench.entry(
        hit=HIT, miss=0, next_lookup=source)
    mask = {'smac_47_16': 0xffffffff, 'smac_15_0': 0xffff}
    value = {'smac_47_16': 0x02a1b2c3, 'smac_15_0': 0xd4e5}
    assert entries.source_mac(MAC, HIT, MISS) == bench.entry(
        'eth_l2_src', mask, value, HIT, MISS)
