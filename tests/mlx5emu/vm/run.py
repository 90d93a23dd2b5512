# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""One card of one or more functions, one virtual machine, one command: what `mlx5emu run` does."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from . import control
from .machine import PROJECT, Machine
from .trace import Trace
from .vm import Command, Vm

if TYPE_CHECKING:
    from ..bus.server import Server
    from ..card import Card

#: Functions of one PCI device.
MAX_FUNCTIONS = 8
#: Where the guest does not see the host's files.
GUESTS_OWN = tuple(map(Path, ('/dev', '/proc', '/sys', '/run')))


@dataclass
class Options:
    """How the card and the guest are to be."""

    profile: str = 'connectx6dx'
    link_layer: str | None = None
    faults: list[str] = field(default_factory=list)
    caps: list[str] = field(default_factory=list)
    memory: int = 1 << 30
    cpus: int = 1
    accel: str | None = None
    fs: str | None = None
    #: '-' for the terminal, or a file.
    trace: str | None = None
    kernel_args: str = ''
    functions: int = 1
    devices: list[str] = field(default_factory=list)
    #: Directories below which the guest may change the host's files.
    writable: list[Path] = field(default_factory=list)


class CardError(ValueError):
    """No such card."""


def link_layer(options: Options) -> str:
    """Return the link layer that was asked for, or else the profile's first.

    :raises CardError: no such profile, or a link layer that the card is not sold with
    """
    from ..firmware.caps import PROFILES
    profile = PROFILES.get(options.profile)
    if profile is None:
        raise CardError(f"--profile {options.profile}: the cards are {', '.join(PROFILES)}")
    chosen = options.link_layer or profile.link_layers[0]
    if chosen not in profile.link_layers:
        raise CardError(
            f"--link-layer {chosen}: {options.profile} has "
            f"{' or '.join(profile.link_layers)} ports only; "
            "connectx5 and connectx7 have both kinds")
    return chosen


class FaultError(ValueError):
    """A --fault that is not OPCODE:STATUS[:COUNT[:DELAY_MS]]."""


def parse_fault(text: str) -> tuple[str, str, int, float]:
    """Split OPCODE:STATUS[:COUNT[:DELAY_MS]], for example CREATE_UMEM:BAD_PARAM:2 or
    CREATE_UMEM:OK:1:500."""
    parts = text.split(':')
    try:
        opcode, status = parts[0], parts[1]
        count = int(parts[2]) if len(parts) > 2 else 1
        delay = float(parts[3]) if len(parts) > 3 else 0.0
    except (IndexError, ValueError):
        raise FaultError(
            f'--fault {text}: want OPCODE:STATUS[:COUNT[:DELAY_MS]], as in CREATE_UMEM:BAD_PARAM:2'
        ) from None
    return opcode, status, count, delay


@dataclass
class Result:
    """How the run ended."""

    status: int
    stages: dict[str, float]
    kernel_log: Path
    failure: str | None
    internal_errors: int


def log_directory() -> Path:
    """Return where logs go: MLX5EMU_LOG, else build/log, else a directory of this process."""
    named = os.environ.get('MLX5EMU_LOG')
    if named:
        return Path(named)
    build = PROJECT / 'build'
    if os.access(build, os.W_OK):
        return build / 'log' / f'vm-{os.getpid()}'
    return Path(tempfile.mkdtemp(prefix='mlx5emu-log-'))


def run(machine: Machine, argv: list[str], options: Options, *, tty: bool = False,
        env: dict[str, str] | None = None, watch: Callable[[], None] | None = None) -> Result:
    """Boot a guest with an emulated card, run a command in it, power it off.

    :param machine: what the set-up left
    :param argv: the command; the host's files are at the same paths, the working directory is the
        caller's
    :param options: the card's and the guest's properties
    :param tty: give the command a terminal
    :param env: more environment variables
    :param watch: called now and then while the command runs; what it raises ends the guest
    :return: the command's exit status and what was measured
    :raises VmError: the guest did not come as far as the command
    :raises CardError: no such card, or no such capability
    :raises FaultError: a fault that cannot be read
    """
    os.environ['MLX5_INCLUDE'] = str(machine.mlx5_include)
    layer = link_layer(options)
    logs = log_directory()
    logs.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        trace = open_trace(options, stack)
        cards = make_cards(options, layer, trace)
        tmp = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix='mlx5emu-')))
        servers = serve(cards, tmp, stack)
        command = Command(argv, os.getcwd(), machine.environment() | (env or {}), tty)
        services = [control.Service(server.card, server.call) for server in servers[1:]]
        service = control.Service(cards[0], servers[0].call, services)
        vm = stack.enter_context(
            Vm(machine, [Path(server.path) for server in servers], command, logs,
               on_stage=lambda stage: _begin(trace, stage) if options.trace == '-' else None,
               memory=options.memory, cpus=options.cpus, accel=options.accel, fs=options.fs,
               control=service.serve, kernel_args=options.kernel_args, devices=options.devices,
               writable=writable(options)))
        status = vm.wait(watch)
        return Result(status, vm.stages, vm.console, vm.failure,
                      sum(card.internal_errors for card in cards))


def writable(options: Options) -> list[Path]:
    """Return the directories that the guest may write to, absolute.

    :raises CardError: no such directory, or none that a guest can be given
    """
    found = []
    for path in options.writable:
        real = path.resolve()
        if not real.is_dir():
            raise CardError(f'--write {path}: no such directory')
        if any(real == own or own in real.parents for own in GUESTS_OWN):
            raise CardError(f'--write {path}: the guest has a {real} of its own')
        if '\n' in str(real):
            raise CardError(f'--write {path}: its name has more than one line')
        found.append(real)
    return found


def open_trace(options: Options, stack: contextlib.ExitStack) -> Trace | None:
    """Return what writes the trace that was asked for: to standard error from the command on, or to
    a file from power-on, as JSON lines where its name says so.

    :param stack: closes the file
    :raises CardError: the file cannot be written
    """
    if options.trace is None:
        return None
    if options.trace == '-':
        trace = Trace(sys.stderr, False, sys.stderr.isatty(), options.functions, users=True)
        trace.open = False
        return trace
    try:
        file = stack.enter_context(open(options.trace, 'w'))
    except OSError as e:
        raise CardError(f'--trace={options.trace}: {e.strerror}') from None
    return Trace(file, options.trace.endswith('.jsonl'), functions=options.functions)


def _begin(trace: Trace | None, stage: str) -> None:
    if trace is not None and stage in ('start', 'exit'):
        trace.open = stage == 'start'


def make_cards(options: Options, layer: str, trace: Trace | None) -> list[Card]:
    """Return the functions of the card, on one fabric.

    :param options: the card's properties
    :param layer: its link layer
    :param trace: takes what the functions are asked, or None
    :raises CardError: too many functions, or no such capability
    :raises FaultError: a fault that cannot be read
    """
    from ..card import Card
    from ..datapath.fabric import Fabric
    if not 1 <= options.functions <= MAX_FUNCTIONS:
        raise CardError(f'--functions {options.functions}: a card has 1 to {MAX_FUNCTIONS}')
    fabric, cards = Fabric(), []
    for index in range(options.functions):
        try:
            card = Card(options.profile, layer, index=index, cap_overrides=options.caps,
                        trace=functools.partial(trace.take, index) if trace else None)
        except ValueError as e:
            raise CardError(f'--cap {e}') from None
        card.datapath.port.connect(fabric)
        for text in options.faults:
            opcode, status, count, delay = parse_fault(text)
            card.faults.add(opcode,
                            int(status, 0) if status[:1].isdigit() else status, count, delay / 1000)
        cards.append(card)
    return cards


def serve(cards: list[Card], directory: Path, stack: contextlib.ExitStack) -> list[Server]:
    """Serve each card on a socket of its own until the stack is left."""
    from ..bus.server import Server, Turn
    turn, servers = Turn(), []
    for card in cards:
        server = Server(str(directory / f'card{card.index}'), card, turn)
        stack.callback(server.stop)
        server.start()
        servers.append(server)
    return servers
