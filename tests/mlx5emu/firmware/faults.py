# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Fault injection: commands that fail, dawdle or wait to be released on purpose."""
from collections.abc import Callable
from typing import Any

from .. import prm
from .status import CODES

#: In place of a delay: the answer waits until :meth:`Faults.release`.
HELD = -1


class Fault:
    """One rule: the next ``count`` matching commands after ``skip`` others end with ``status``."""

    def __init__(self, opcode: int, status: int, count: int, delay_ns: int, syndrome: int,
                 op_mod: int | None, skip: int) -> None:
        self.opcode, self.status, self.count, self.delay_ns = opcode, status, count, delay_ns
        self.syndrome, self.op_mod, self.skip, self.hits = syndrome, op_mod, skip, 0


class Faults:
    """The card's fault rules, oldest first, and the answers that they hold back."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []
        #: What gives each of the answers, in the order of the commands.
        self.held: list[Callable[[], Any]] = []

    def add(self, opcode: int | str, status: int | str = 0, count: int = 1, delay: float = 0.0, *,
            hold: bool = False, syndrome: int = 0xfa0170, op_mod: int | None = None,
            skip: int = 0) -> Fault:
        """Make a command fail, take longer, or take until it is released.

        :param opcode: number or name ('CREATE_UMEM').
        :param status: number or name ('EXCEED_LIM'); 0 lets the command run.
        :param count: how many commands; a negative number for all.
        :param delay: seconds until the answer.
        :param hold: the answer waits for :meth:`release` instead; the command has had its effect.
        :param syndrome: what the answer's syndrome says.
        :param op_mod: only commands with this op_mod.
        :param skip: matching commands to let pass first.
        :raises KeyError: no such opcode or status name.
        """
        prm.load()
        op = prm.OPCODES[opcode] if isinstance(opcode, str) else int(opcode)
        code = CODES[status] if isinstance(status, str) else int(status)
        delay_ns = HELD if hold else max(0, int(delay * 1e9))
        rule = Fault(op, code & 0xff, int(count), delay_ns, syndrome, op_mod, int(skip))
        self.rules.append(rule)
        return rule

    def match(self, opcode: int, op_mod: int) -> Fault | None:
        """The rule that this command meets, used up by one."""
        for rule in self.rules:
            if rule.opcode != opcode or (rule.op_mod is not None and rule.op_mod != op_mod):
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            rule.hits += 1
            if rule.count > 0:
                rule.count -= 1
                if not rule.count:
                    self.rules.remove(rule)
            return rule
        return None

    def release(self) -> int:
        """Give the answers that are held back, and hold back no more; how many they were."""
        self.rules = [rule for rule in self.rules if rule.delay_ns != HELD]
        answers, self.held = self.held, []
        for answer in answers:
            answer()
        return len(answers)

    def clear(self) -> None:
        """Forget all rules, and give the answers that they held back."""
        self.rules.clear()
        self.release()
