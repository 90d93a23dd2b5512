# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Draw what the benchmarks measured.

    chart.py BENCH.json CHART.svg

prints the figures as a table for a document, and draws ours and upstream's as multiples of plain
C's. The best of the rounds is taken, which a busy machine changes least; the spread is from it to
the median. The chart is drawn by hand: what the libraries for it embed in a picture is under other
licences than this tree.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

OURS, C, UPSTREAM = 'ours', 'C', 'upstream'
COLOURS = {OURS: '#76a020', UPSTREAM: '#8090b0'}


def figures(report: dict[str, Any]) -> dict[str, dict[str, tuple[float, float]]]:
    """Return, for each figure and whose it is, best and median of one time in microseconds."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for one in report['benchmarks']:
        whose, times = (one['extra_info'].get(key) for key in ('whose', 'times'))
        if whose:
            best, median = (one['stats'][key] / times * 1e6 for key in ('min', 'median'))
            name = one['group'].removesuffix(f', {times} times')
            found.setdefault(name, {})[whose] = best, median
    return found


def table(found: dict[str, dict[str, tuple[float, float]]]) -> list[str]:
    """Return the lines of a table."""
    lines = ['| microseconds, best to median | ours | C | upstream |', '| --- | --- | --- | --- |']
    for name, row in found.items():
        cells = [f'{row[who][0]:.2f} to {row[who][1]:.2f}' if who in row else ''
                 for who in (OURS, C, UPSTREAM)]
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return lines


def drawing(title: str, rows: dict[str, dict[str, float]]) -> str:
    """Return an SVG picture of bars on a logarithmic scale from 1, readable on white and on black.

    :param rows: for each figure, multiples of plain C's time by whose they are
    """
    left, right, bar = 250, 740, 9
    end = math.log(max(max(row.values()) for row in rows.values()) * 1.1)

    def across(value: float) -> float:
        return left + max(0.0, math.log(value) / end) * (right - left)

    def text(x: float, y: float, words: str, anchor: str = 'start') -> str:
        return (f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="#808080">'
                f'{escape(words)}</text>')
    lines = [text(10, 20, title)]
    y = 34
    for name, row in rows.items():
        lines.append(text(left - 8, y + bar + 4, name, 'end'))
        for whose, value in row.items():
            width = max(1.0, across(value) - left)
            lines.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{bar}" '
                         f'fill="{COLOURS[whose]}"/>')
            lines.append(text(left + width + 4, y + bar, f'{value:.2f} {whose}'))
            y += bar + 2
        y += 8
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {y}" '
            f'font-family="sans-serif" font-size="11">\n' + '\n'.join(lines) + '\n</svg>\n')


def main(source: str, target: str) -> int:
    """Do it; the arguments are those of the command line."""
    report = json.loads(Path(source).read_text())
    found = figures(report)
    print('\n'.join(table(found)))
    machine = report['machine_info']
    rows = {name: {who: row[who][0] / row[C][0] for who in (OURS, UPSTREAM) if who in row}
            for name, row in found.items() if C in row}
    title = (f"Multiples of plain C's time: {report['datetime'][:10]}, "
             f'rdma-core {machine.get("rdma_core")}, {machine["system"]} {machine["release"]}, '
             f'Python {machine["python_version"]}')
    if rows:
        Path(target).write_text(drawing(title, rows))
        print(f'\n{source} has all of it, {target} is the picture')
    return 0


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
