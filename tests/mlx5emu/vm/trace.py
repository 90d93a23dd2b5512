# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What `--trace` writes: firmware commands and work requests by field, for people or for programs.

A record has ``kind`` (command, work request, receive, error), ``name``, ``in`` and ``out`` ({dotted
path of a field: value}; fields that are 0 are left out), ``status``, ``syndrome``, ``reason``,
``time`` (seconds since power-on), ``function`` and ``uid`` (the user context, 0 for the kernel);
commands have ``op_mod``, the others ``queue``, ``number`` and ``index``.
"""

from __future__ import annotations

import json
import re
import threading
import time
from typing import Any, TextIO

_BOLD, _RED, _DIM, _PLAIN = '\x1b[1m', '\x1b[31;1m', '\x1b[2m', '\x1b[0m'
#: Columns of the fields' names.
_NAMES = 44


class Trace:
    """Takes records of all functions and writes them.

    :param to: where to.
    :param jsonl: one JSON object a line, else text.
    :param colour: whether a terminal reads the text.
    :param functions: how many the card has: one is not named.
    :param users: only what user contexts do, and what is refused: the kernel's own network
        interface is never silent.
    """

    def __init__(self, to: TextIO, jsonl: bool, colour: bool = False, functions: int = 1,
                 users: bool = False) -> None:
        self._to, self._jsonl, self._functions = to, jsonl, functions
        self._styles = (_BOLD, _RED, _DIM, _PLAIN) if colour else ('',) * 4
        self._start = time.monotonic()
        self._lock = threading.Lock()
        self._users = users
        #: While not, records are dropped: the driver's ways up and down, where only the command
        #: counts.
        self.open = True

    def take(self, function: int, record: dict[str, Any]) -> None:
        """Write a record."""
        if not self.open or self._users and not record['uid'] and record['status'] == 'OK':
            return
        record = {'time': round(time.monotonic() - self._start, 6), 'function': function, **record}
        text = json.dumps(record) + '\n' if self._jsonl else self.text(record)
        with self._lock:
            self._to.write(text)
            self._to.flush()

    def text(self, record: dict[str, Any]) -> str:
        """A record as people read it: a line that says how it ended, then a line a field; the
        fields that the reason of a refusal names are marked."""
        bold, red, dim, plain = self._styles
        failed = record['status'] != 'OK'
        where = f"{record['function']}: " if self._functions > 1 else ''
        who = (f"uid {record['uid']:#x}" if record['kind'] == 'command' else
               f"{record['queue']} {record['number']:#x} WQE {record['index']:#x}")
        end = f"{red}{record['status']}{plain} {record['syndrome']:#x}" if failed else 'OK'
        out = f"{dim}{record['time']:10.6f}{plain} {where}{bold}{record['name']}{plain} ({who})"
        out += f' {end}'
        if record['reason']:
            out += f": {red}{record['reason'].strip()}{plain}"
        lines, named = [out], set(re.findall(r'\w+', record['reason']))
        for direction in ('in', 'out'):
            for path, value in record[direction].items():
                shown = f'{value:#x}' if isinstance(value, int) else value
                leaf = re.split(r'[.\[]', path.rstrip(']'))[-1]
                mark = failed and direction == 'in' and (
                    leaf in named or leaf.startswith('reserved') and 'reserved' in named)
                line = f'{path:{_NAMES}} {shown}'
                if mark:
                    line = f"{red}{line}   <-- {record['status']}{plain}"
                lines.append(f'    {direction:3} {line}')
        return '\n'.join(lines) + '\n'
