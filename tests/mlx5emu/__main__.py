# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""`python3 -m mlx5emu run|shell|suite`: a command, a shell or rdma-core's tests on the emulated
ConnectX."""

from __future__ import annotations

import argparse
import faulthandler
import signal
import sys
from pathlib import Path
from types import FrameType

from .vm import run, suite
from .vm.machine import Machine, MachineError
from .vm.vm import VmError


def arguments() -> argparse.ArgumentParser:
    """Return the parser."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        '--profile', default='connectx6dx',
        help='which card: connectx5, connectx6dx or connectx7 (default connectx6dx)')
    common.add_argument('--link-layer', choices=('ib', 'eth'),
                        help="InfiniBand or Ethernet (RoCE); default: the card's own")
    common.add_argument(
        '--fault', action='append', default=[], metavar='OPCODE:STATUS[:COUNT[:DELAY_MS]]',
        help='have a firmware command fail or answer late, as in CREATE_UMEM:BAD_PARAM:2')
    common.add_argument(
        '--cap', action='append', default=[], metavar='PAGE.FIELD=VALUE',
        help='give the card another capability than the profile has, as in device_memory.memic=0')
    common.add_argument('--functions', type=int, default=1,
                        help="the card's functions: devices on one fabric (default 1)")
    common.add_argument('--memory', type=int, default=1024, metavar='MIB',
                        help="the guest's memory (default 1024)")
    common.add_argument('--cpus', type=int, default=1, help="the guest's CPUs (default 1)")
    common.add_argument('--accel', choices=('kvm', 'tcg'), help='default: KVM where it works')
    common.add_argument('--fs', choices=('virtiofs', '9p'),
                        help="how the guest sees the host's files; default virtiofs")
    common.add_argument(
        '--write', action='append', default=[], metavar='DIR', type=Path, help=
        "let the guest change the host's files below DIR; all others are read-only there, and what "
        'it writes to /tmp is its own')
    common.add_argument(
        '--trace', metavar='FILE', help=
        'show firmware commands and work requests by field: --trace on standard error, from the '
        'command on; --trace=FILE in a file, from power-on, as JSON lines if its name ends in '
        '.jsonl')
    common.add_argument('--times', action='store_true',
                        help='print when the guest reached each stage')
    common.add_argument('--kernel-args', default='', help="more arguments for the guest's kernel")
    common.add_argument(
        '--beside', action='append', default=[], metavar='DEVICE', help=
        'give the guest another device beside the card, as QEMU names it, for example bochs-display'
    )
    p = argparse.ArgumentParser(prog='mlx5emu', description=__doc__)
    sub = p.add_subparsers(dest='do', required=True)
    run = sub.add_parser('run', parents=[common],
                         help='run a command in the guest; its exit status is ours')
    run.add_argument('command', nargs=argparse.REMAINDER, metavar='-- CMD...')
    sub.add_parser('shell', parents=[common], help='an interactive shell in the guest')
    tests = sub.add_parser('suite', parents=[common],
                           help="rdma-core's own tests in the guest, with a scoreboard")
    tests.add_argument('-k', dest='pattern', action='append', default=[],
                       help='only tests that match')
    tests.add_argument('--junit', metavar='FILE', type=Path,
                       help="write what became of each test as JUnit's XML, too")
    tests.add_argument('--json', metavar='FILE', type=Path, help='the same as JSON')
    tests.add_argument('--known', metavar='TEST', action='append', default=[],
                       help='a test whose name has this may fail: it counts as skipped')
    return p


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says.

    :return: the command's exit status; 2 when the machine or the command line is not right; 130
        after Ctrl-C
    """
    words = sys.argv[1:] if argv is None else argv
    ours = words[:words.index('--')] if '--' in words else words
    # Without a value it takes none: what follows is the command.
    words = ['--trace=-' if word == '--trace' else word for word in ours] + words[len(ours):]
    a = arguments().parse_args(words)
    # A terminated run ends as an interrupted one does: through the handlers that stop QEMU and the
    # server.
    for s in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, _terminated)
    # Where each thread is, for whoever finds it hanging.
    faulthandler.register(signal.SIGUSR1)
    try:
        machine = Machine.load()
        options = run.Options(profile=a.profile, link_layer=a.link_layer, faults=a.fault,
                              caps=a.cap, memory=a.memory << 20, cpus=a.cpus, accel=a.accel,
                              fs=a.fs, trace=a.trace, kernel_args=a.kernel_args,
                              functions=a.functions, devices=a.beside, writable=a.write)
        if a.do == 'suite':
            return suite.main(machine, options, a.pattern, a.junit, a.json, a.known)
        if a.do == 'shell':
            command = ['/bin/sh', '-c', 'exec ${SHELL:-/bin/bash} -i']
        else:
            command = a.command[1:] if a.command[:1] == ['--'] else a.command
            if not command:
                print('mlx5emu run: name a command, as in: run -- python3 myscript.py',
                      file=sys.stderr)
                return 2
        result = run.run(machine, command, options, tty=a.do == 'shell')
    except (MachineError, VmError, run.FaultError, run.CardError) as e:
        print(f'mlx5emu: {e}', file=sys.stderr)
        return 2
    except KeyError as e:
        print(f'mlx5emu: no such opcode or status: {e}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('mlx5emu: interrupted', file=sys.stderr)
        return 130
    if a.times:
        print(
            'seconds since power-on: ' + ', '.join(f'{k} {v:.1f}'
                                                   for k, v in result.stages.items()),
            file=sys.stderr)
    if result.failure:
        print(f'mlx5emu: {result.failure}', file=sys.stderr)
    return result.status


if __name__ == '__main__':
    sys.exit(main())
