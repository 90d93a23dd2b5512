# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" What dm_defects.py and umem_defects.py share: cases that are carried out with pyverbs' own
classes and with ours, each in a process of its own, since some do not survive it.
"""
import json
import os
import signal
import sys

from pyverbs.pyverbs_error import PyverbsError

#: Seconds after which a case counts as hanging.
PATIENCE = 120


class Cases(list):
    """Number of the defect, what is done, and the function that does it and returns what came of
    it."""

    def case(self, number, what):
        """Take in a function."""
        def keep(function):
            self.append((number, what, function))
            return function
        return keep

    def run(self, upstream, ours):
        """
        Print the table, or with --json the rows: number, what, upstream's outcome, ours.
        :param upstream: Called in the process of a case, for what the function gets
        :param ours: The same of our side
        """
        for number, what, function in self:
            row = [number, what, *(outcome(function, side) for side in (upstream, ours))]
            print(json.dumps(row) if '--json' in sys.argv else f'| {" | ".join(row)} |', flush=True)


def outcome(function, side):
    """Run in a child, which tells what became of it unless a signal ends it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        signal.alarm(PATIENCE)
        try:
            # What the case keeps in it lives until the interpreter ends.
            made = side()
            text = str(function(made))
        except Exception as ex:
            text = f'{type(ex).__name__}: {ex}'
        os.write(writer, text.replace('\n', ' ')[:160].encode())
        # The end of the interpreter, too, is something to survive.
        sys.exit(0)
    os.close(writer)
    with os.fdopen(reader, 'rb') as pipe:
        text = pipe.read().decode()
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        name = signal.Signals(os.WTERMSIG(status)).name
        return f'{text}, then {name}' if text else name
    return text


def mappings():
    """How many mappings of a uverbs device this process has."""
    with open('/proc/self/maps') as maps:
        return sum('/dev/infiniband/uverbs' in line for line in maps)


def size():
    """Size of this process's address space in bytes."""
    with open('/proc/self/statm') as statm:
        return int(statm.read().split()[0]) * os.sysconf('SC_PAGESIZE')


def growth(times, call):
    """How much larger the process is after calls that are refused: what an allocator keeps for the
    next time shows in the first of two rounds at most, a leak in both."""
    rounds = []
    for _ in range(2):
        before = size()
        for _ in range(times):
            try:
                call()
            except PyverbsError:
                pass
        rounds.append(size() - before)
    grown = min(rounds) / 1e6
    return f'process grew by {grown:.0f} MB' if grown >= 1 else 'no growth'
