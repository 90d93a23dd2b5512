# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""`quickstart.sh foreign`: boot the guests, run the programs, print the table."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from mlx5emu.vm.machine import PROJECT

from foreign.catalogue import GUESTS, Program, load

COLUMNS = '{:22} {:10} {:44} {:7} {:>7}  {}'
Result = dict[str, Any]


def chosen(names: Sequence[str], quick: bool) -> list[Program]:
    """Return the programs that have one of the names in theirs; all without names.

    :param quick: only those that run in every test run
    :raises SystemExit: a name that is in none
    """
    programs = list(load().values())
    for name in names:
        if not any(name in p.name for p in programs):
            raise SystemExit(f'no program has {name} in its name; there are: '
                             + ' '.join(p.name for p in programs))
    return [p for p in programs if (p.quick or not quick)
            and (not names or any(name in p.name for name in names))]


def run(programs: Sequence[Program], options: Sequence[str] = ()) -> Iterator[Result]:
    """Run programs, in a guest for each kind that is needed; yield what became of each.

    :param options: more options of `mlx5emu run`
    """
    for guest, words in GUESTS.items():
        names = [p.name for p in programs if p.guest == guest]
        if not names:
            continue
        argv = [sys.executable, '-m', 'mlx5emu', 'run', *words, *options, '--', sys.executable,
                '-m', 'foreign.in_guest', *names]
        process = subprocess.Popen(argv, cwd=PROJECT, stdin=subprocess.DEVNULL, text=True,
                                   stdout=subprocess.PIPE, env=os.environ)
        assert process.stdout
        told = []
        for line in process.stdout:
            if line.startswith('{'):
                result = json.loads(line)
                told.append(result['name'])
                yield result
        status = process.wait()
        for name in names[len(told):]:
            yield {'name': name, 'version': '', 'seconds': 0.0, 'figure': '',
                   'error': f'the guest ended before it, with status {status}'}


def verdict(program: Program, result: Result) -> str:
    """Return the word for the table."""
    if program.fails:
        return 'known' if result['error'] else 'PASSES'
    return 'FAILED' if result['error'] else 'passed'


def main() -> int:
    """Print a line for each program as it ends, then what failed; 1 when one did."""
    p = argparse.ArgumentParser(prog='quickstart.sh foreign', description=__doc__)
    p.add_argument('names', nargs='*', metavar='NAME', help='part of the name of a program')
    p.add_argument('--quick', action='store_true', help='those that run in every test run')
    p.add_argument('--profile', help='the card of the guest with Ethernet ports')
    args = p.parse_args()
    programs = {program.name: program for program in chosen(args.names, args.quick)}
    print(COLUMNS.format('program', 'version', 'what', 'result', 'seconds', 'figure'))
    bad = []
    for result in run(list(programs.values()),
                      ['--profile', args.profile] if args.profile else []):
        program = programs[result['name']]
        word = verdict(program, result)
        print(COLUMNS.format(program.name, result['version'], program.what, word,
                             f"{result['seconds']:.1f}", result['figure']).rstrip(), flush=True)
        if word.isupper():
            bad.append((program, result))
    for program, result in bad:
        print(f'\n{program.name}: {result["error"] or "passes, and was known to fail: "}'
              f'{"" if result["error"] else program.fails}')
    print(f'\n{len(programs) - len(bad)} of {len(programs)} as they should be')
    return 1 if bad else 0


if __name__ == '__main__':
    sys.exit(main())
