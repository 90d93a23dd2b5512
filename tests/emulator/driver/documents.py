# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What a document says, for tests that hold it against the code."""
from __future__ import annotations


def kinds_of(text: str) -> list[str]:
    """The lines of the table of kinds in a text."""
    part = text[text.index('## Kinds of objects'):]
    return [line for line in part[3:].partition('\n## ')[0].splitlines()
            if line.startswith('| ')][2:]
