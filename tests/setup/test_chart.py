# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What `quickstart.sh bench` makes of a report: a table and a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from benchmarks import chart

MACHINE = {'system': 'Linux', 'release': '6.12', 'python_version': '3.11.7', 'rdma_core': '59.0'}


def one(group: str, whose: str, times: int, best: float, median: float) -> dict[str, Any]:
    """One benchmark of a report, in seconds."""
    return {
        'group': group, 'extra_info': {'whose': whose, 'times': times},
        'stats': {'min': best, 'median': median}}


def test_table_and_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figures are of one time, in microseconds; bars are multiples of C's."""
    source, target = tmp_path / 'bench.json', tmp_path / 'bench.svg'
    source.write_text(json.dumps({
        'datetime': '2026-11-27T20:00:00', 'machine_info': MACHINE,
        'benchmarks': [
            one('copy, 10 times', 'ours', 10, 20e-6, 21e-6),
            one('copy, 10 times', 'C', 10, 10e-6, 11e-6),
            one('copy, 10 times', 'upstream', 10, 40e-6, 41e-6),
            one('a <pin>', 'ours', 1, 5e-6, 5e-6),
            {'group': 'messages', 'extra_info': {}, 'stats': {'min': 1, 'median': 1}}, ]}))
    assert chart.main(str(source), str(target)) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[2:4] == ['| copy | 2.00 to 2.10 | 1.00 to 1.10 | 4.00 to 4.10 |',
                         '| a <pin> | 5.00 to 5.00 |  |  |']
    picture = ElementTree.parse(target).getroot()
    words = [text.text for text in picture.iter('{http://www.w3.org/2000/svg}text')]
    assert words == [
        "Multiples of plain C's time: 2026-11-27, rdma-core 59.0, Linux 6.12, Python 3.11.7",
        'copy', '2.00 ours', '4.00 upstream']
    ours, upstream = [
        float(bar.get('width', 0)) for bar in picture.iter('{http://www.w3.org/2000/svg}rect')]
    # On a logarithmic scale four is twice as far from one as two.
    assert upstream == pytest.approx(2 * ours, abs=0.2)


def test_nothing_beside_c(tmp_path: Path) -> None:
    """With a choice of benchmarks that has nothing to be compared there is no picture."""
    source, target = tmp_path / 'bench.json', tmp_path / 'bench.svg'
    source.write_text(json.dumps({
        'datetime': '2026-11-27T20:00:00', 'machine_info': MACHINE, 'benchmarks': []}))
    assert chart.main(str(source), str(target)) == 0
    assert not target.exists()
