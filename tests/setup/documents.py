# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What the documents show: their commands and their blocks of code."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).parents[2]
ALL = [*sorted(TOP.glob('*.md')), *sorted((TOP / 'Documentation').glob('*.md')),
       *sorted((TOP / 'Documentation/how_to').glob('*.md'))]
#: Whose Python is run in a guest.
WITH_PYTHON = [TOP / 'README.md', *(TOP / 'Documentation' / name for name in (
    'tutorial.md', 'mlx5_dm.md', 'mlx5_devx_umem.md', 'trace.md')),
               *sorted((TOP / 'Documentation/how_to').glob('*.md'))]
#: Whose YAML is a part of a workflow.
WITH_YAML = TOP / 'Documentation/where_it_builds.md'
QUICKSTART = 'bash buildlib/quickstart.sh'
#: How a command begins, in a block of its own or within a sentence.
_PROGRAM = re.compile(r'(?:[A-Z_]+=\S+ )*(?:bash |sh |cmake |podman |pip |build/venv/|build/tree/|'
                      r'quickstart\.sh |python3 -m |\.ci/)')


def name(document: Path) -> str:
    """A document as it is named here."""
    return str(document.relative_to(TOP))


def commands(document: Path) -> list[str]:
    """The shell commands that a document shows, each in one line: blocks of commands are indented,
    of other languages fenced."""
    text = re.sub(r'^```.*?^```$', '', document.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = text.replace('\\\n', ' ')
    indented = [re.sub(r'\s+#.*', '', line) for line in re.findall(r'^ {4,}(.*)$', text, re.M)]
    within = re.findall(r'(?<!`)`([^`]+)`(?!`)', text)
    found = [' '.join(command.split()) for command in [*indented, *within]]
    found = [command for command in found if _PROGRAM.match(command + ' ')]
    return [re.sub(r'^quickstart\.sh', QUICKSTART, command) for command in found]


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return re.findall(rf'^```{language}\n(.*?)^```', document.read_text(), re.MULTILINE | re.DOTALL)
