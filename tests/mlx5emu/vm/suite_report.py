# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What became of rdma-core's tests, as files for programs: JUnit's XML, which CI systems read, and
JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from .suite import Outcome


def write_junit(path: Path, ids: list[str], outcomes: dict[str, Outcome],
                about: dict[str, str | float]) -> None:
    """Write one test suite, with a case for each test.

    :param about: what it ran on, as properties
    :raises OSError: the file cannot be written
    """
    how = [outcomes[i].how for i in ids]
    suite = ElementTree.Element(
        'testsuite', name='rdma-core', tests=str(len(ids)), failures=str(how.count('failed')),
        skipped=str(how.count('skipped')), errors='0', time=f'{about["seconds"]:.3f}')
    properties = ElementTree.SubElement(suite, 'properties')
    for name, value in about.items():
        ElementTree.SubElement(properties, 'property', name=name, value=str(value))
    for i in ids:
        outcome = outcomes[i]
        group, _, name = i.rpartition('.')
        case = ElementTree.SubElement(suite, 'testcase', classname=group, name=name,
                                      time=f'{outcome.seconds:.3f}')
        if outcome.how != 'ok':
            ElementTree.SubElement(case, 'failure' if outcome.how == 'failed' else 'skipped',
                                   message=_printable(outcome.reason))
    ElementTree.indent(suite)
    path.write_bytes(ElementTree.tostring(suite, 'utf-8', xml_declaration=True) + b'\n')


def _printable(text: str) -> str:
    # XML has no way to say a control character.
    return ''.join(c if c.isprintable() else '?' for c in text)


def write_json(path: Path, ids: list[str], outcomes: dict[str, Outcome],
               about: dict[str, str | float]) -> None:
    """Write what it ran on, and how each test ended (ok, failed, skipped), why, and in how many
    seconds.

    :raises OSError: the file cannot be written
    """
    tests = {i: {'how': outcomes[i].how, 'reason': outcomes[i].reason,
                 'seconds': outcomes[i].seconds} for i in ids}
    path.write_text(json.dumps({**about, 'tests': tests}, indent=1) + '\n')
