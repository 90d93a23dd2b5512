# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A virtual machine with the emulated card: boots, runs one command on the host's files, powers
off.

QEMU gets the card through vfio-user-pci and shares the guest's memory, so that the card's DMA is
plain memory access. The host's root is the guest's, read-only (files.py), through virtiofs (or 9p,
which needs no daemon). Standard input, output and error travel over virtio-serial ports, byte for
byte; the kernel's console goes to a file.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import tempfile
import termios
import threading
import time
import tty
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from . import files, initramfs
from .machine import PROJECT, Machine

#: Kernel arguments. A translated CPU pays for each mitigation and for each character on the serial
#: line.
KERNEL_ARGS = (
    'console=ttyS0 loglevel=5 panic=-1 mitigations=off nokaslr audit=0 apparmor=0 '
    'random.trust_cpu=on tsc=reliable no_timer_check rcupdate.rcu_expedited=1 raid=noautodetect')
#: Seconds from power-on until the guest must have said something, and from the end of the command
#: until it must be off.
SAY_TIMEOUT, OFF_TIMEOUT = 180.0, 60.0
#: Variables of the host's that the command in the guest also sees.
KEPT = ('HOME', 'USER', 'LOGNAME', 'LANG', 'LC_ALL', 'TERM', 'COLUMNS', 'NO_COLOR',
        'PYTEST_ADDOPTS')


class VmError(Exception):
    """The virtual machine did not start, or did not come as far as the command."""


@dataclass
class Command:
    """What to run in the guest."""

    argv: list[str]
    cwd: str
    env: dict[str, str] = field(default_factory=dict)
    tty: bool = False

    def script(self) -> str:
        """Return a shell script that becomes the command."""
        env = {k: os.environ[k] for k in KEPT if k in os.environ} | self.env
        guest_bin = '/run/mlx5emu/bin'
        env['PATH'] = os.pathsep.join([
            env.get('PATH', os.environ.get('PATH', '/usr/bin:/bin')), guest_bin])
        words = [f'{k}={v}' for k, v in env.items()] + self.argv
        cd = f'cd {shlex.quote(self.cwd)} || exit 125\n'
        return f"#!/bin/sh\n{cd}exec env -i {' '.join(map(shlex.quote, words))}\n"


def kvm_usable(cpuinfo: Path = Path('/proc/cpuinfo'), device: Path = Path('/dev/kvm')) -> bool:
    """Tell whether QEMU can use KVM here.

    A /dev/kvm that opens is not enough: under some hypervisors it is there without the CPU's
    virtualization extensions (vmx, svm), and a guest with a stock kernel never gets past its first
    instructions.
    """
    try:
        flags = next(
            line for line in cpuinfo.read_text().splitlines() if line.startswith('flags')).split()
    except (OSError, StopIteration):
        return False
    return ('vmx' in flags or 'svm' in flags) and os.access(device, os.R_OK | os.W_OK)


class Vm:
    """One virtual machine. A context manager: leaving it leaves no process, no socket and no file
    but the log."""
    def __init__(self, machine: Machine, vfio_sockets: Sequence[Path], command: Command,
                 log_dir: Path, *, memory: int = 1 << 30, cpus: int = 1, accel: str | None = None,
                 fs: str | None = None, control: Callable[[socket.socket], None] | None = None,
                 kernel_args: str = '', devices: list[str] | None = None,
                 writable: Sequence[Path] = (),
                 on_stage: Callable[[str], None] | None = None) -> None:
        """Describe a virtual machine; nothing is started.

        :param machine: what the set-up left
        :param vfio_sockets: where the emulated card's functions listen
        :param command: what to run when the device is there
        :param log_dir: where the kernel's and QEMU's logs go
        :param memory: the guest's memory in bytes
        :param cpus: the guest's CPUs
        :param accel: "kvm" or "tcg"; by default KVM where it works
        :param fs: "virtiofs" or "9p"; by default virtiofs where its daemon is there and may open
            enough files
        :param control: serves the control channel on the socket given, in a thread of its own,
            until it is closed
        :param kernel_args: more arguments for the kernel
        :param devices: what else the guest has, each as QEMU's -device names it
        :param writable: directories, absolute, below which the guest may change the host's files
        :param on_stage: told of each stage that the guest reaches, in a thread of its own
        """
        self.machine, self.command, self.log_dir = machine, command, log_dir
        self.vfio_sockets, self.memory, self.cpus = vfio_sockets, memory, cpus
        self.accel = accel or ('kvm' if kvm_usable() else 'tcg')
        self.fs = fs or ('virtiofs' if machine.virtiofsd and files.can_keep_open() else '9p')
        self.control, self.kernel_args, self.devices = control, kernel_args, devices or []
        self.shares = files.shares(writable)
        self.on_stage = on_stage
        #: Seconds since power-on at which the guest reached a stage, by the host's clock.
        self.stages: dict[str, float] = {}
        self.status: int | None = None
        self.failure: str | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []
        self._stack = contextlib.ExitStack()
        self._said = threading.Event()
        self._done = threading.Event()
        self.console = log_dir / 'kernel.log'

    # ---- start

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def accelerator(self) -> list[str]:
        """Return QEMU's words for what runs the guest's CPUs."""
        return ['-accel', 'kvm', '-cpu', 'host'] if self.accel == 'kvm' else [
            '-accel', 'tcg,thread=multi', '-cpu', 'max,la57=off']

    def _pair(self) -> tuple[socket.socket, socket.socket]:
        ours, qemus = socket.socketpair()
        self._stack.callback(ours.close)
        return ours, qemus

    def _spawn(self, argv: list[str], log: str, fds: tuple[int,
                                                           ...] = ()) -> subprocess.Popen[bytes]:
        with open(self.log_dir / log, 'wb') as out:
            try:
                # A group of its own: Ctrl-C on the terminal is for us, and we end our children in
                # order. setpriv has the kernel end the child when we die, however we die.
                p = subprocess.Popen(['setpriv', '--pdeathsig', 'KILL', *argv],
                                     stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=fds,
                                     process_group=0)
            except OSError as e:
                raise VmError(
                    f'{argv[0]} does not start: {e.strerror}; remove build/ and set up again'
                ) from e
        self._processes.append(p)
        return p

    def _start(self) -> None:
        self.log_dir.mkdir(parents=True, exist_ok=True)
        tmp = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix='mlx5emu-')))
        m = self.machine
        argv = [
            *m.qemu, '-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-machine',
            'q35,memory-backend=mem', '-m', f'{self.memory >> 20}M', '-smp',
            str(self.cpus), '-object', f'memory-backend-memfd,id=mem,size={self.memory},share=on']
        argv += self.accelerator()
        argv += [
            '-chardev', f'file,id=console,path={self.console}', '-serial', 'chardev:console',
            '-device', 'virtio-serial-pci']
        fds: list[int] = []
        given: list[socket.socket] = []
        ours: dict[str, socket.socket] = {}
        ports = ['events', 'control'
                 ] + (['hvc0'] if self.command.tty else ['stdin', 'stdout', 'stderr'])
        for name in ports:
            ours[name], qemus = self._pair()
            given.append(qemus)
            fds.append(qemus.fileno())
            device = 'virtconsole' if name == 'hvc0' else 'virtserialport'
            argv += [
                '-chardev', f'socket,id={name},fd={qemus.fileno()}', '-device',
                f'{device},chardev={name},name={name}']
        for share in self.shares:
            argv += files.over_9p(share) if self.fs == '9p' else files.over_virtiofs(
                share, tmp, self._virtiofsd)
        # Below a root port, as in a computer: without one the driver finds no link and says so.
        argv += ['-device', 'pcie-root-port,id=card,chassis=1,slot=1,hotplug=off']
        for k, path in enumerate(self.vfio_sockets):
            argv += [
                '-device',
                json.dumps({
                    'driver': 'vfio-user-pci', 'bus': 'card', 'addr': f'0.{k}', 'multifunction':
                    len(self.vfio_sockets) > 1, 'socket': {'type': 'unix', 'path': str(path)}})]
        argv += [word for device in self.devices for word in ('-device', device)]
        argv += [
            '-kernel',
            str(m.kernel), '-initrd',
            str(self._initrd(tmp)), '-append', f'{KERNEL_ARGS} {self.kernel_args}']
        for target, name in ((self._events, 'events'), (self._serve_control, 'control')):
            self._thread(target, ours[name])
        self._power_on = time.monotonic()
        self._qemu = self._spawn(argv, 'qemu.log', tuple(fds))
        for s in given:
            s.close()
        if self.command.tty:
            self._terminal(ours['hvc0'])
        else:
            self._thread(_pump_in, 0, ours['stdin'])
            self._outputs = [
                self._thread(_pump_out, ours['stdout'], 1),
                self._thread(_pump_out, ours['stderr'], 2)]

    def _virtiofsd(self, words: list[str], log: str, fds: tuple[int, ...]) -> None:
        self._spawn([*(self.machine.virtiofsd or []), *words], log, fds)

    def _thread(self, target: Callable[..., None], *args: object) -> threading.Thread:
        t = threading.Thread(target=target, args=args, daemon=True)
        t.start()
        self._threads.append(t)
        return t

    def _initrd(self, tmp: Path) -> Path:
        m = self.machine
        build = PROJECT / 'build'
        cache = build / 'initramfs' if os.access(build, os.W_OK) else self.log_dir
        init = Path(__file__).with_name('guest_init.sh')
        shared = initramfs.cached_base(cache, m.busybox, m.modules, m.release, init)
        a = initramfs.Archive()
        a.directory('spec')
        size = shutil.get_terminal_size()
        settings = {
            'fs': self.fs, 'tty': int(self.command.tty), 'functions': len(self.vfio_sockets),
            'rows': size.lines, 'cols': size.columns, 'modules': shlex.quote(str(m.modules))}
        a.file('spec/settings', ''.join(f'{k}={v}\n' for k, v in settings.items()).encode())
        a.file('spec/mounts', files.mounts(self.shares).encode())
        a.file('spec/command', self.command.script().encode(), 0o755)
        path = tmp / 'initrd'
        with open(path, 'wb') as out, open(shared, 'rb') as src:
            shutil.copyfileobj(src, out, 1 << 20)
            out.write(a.close())
        return path

    # ---- the guest's messages

    def _events(self, s: socket.socket) -> None:
        with s.makefile('r', encoding='utf-8', errors='replace') as lines:
            for line in lines:
                stage, _, rest = line.strip().partition(' ')
                _, _, text = rest.partition(' ')
                self.stages[stage] = time.monotonic() - self._power_on
                if self.on_stage is not None:
                    self.on_stage(stage)
                if stage == 'exit' and text.isdigit():
                    self.status = int(text)
                elif stage == 'failed':
                    self.failure = text
                self._said.set()
                if stage in ('exit', 'failed'):
                    self._done.set()
        self._done.set()

    def _serve_control(self, s: socket.socket) -> None:
        if self.control:
            self.control(s)

    def wait(self, watch: Callable[[], None] | None = None) -> int:
        """Wait for the command to end and the guest to be off.

        :param watch: called now and then; what it raises ends the wait
        :return: the command's exit status
        :raises VmError: the guest did not come as far as the command, or died under it
        """
        end = self._power_on + SAY_TIMEOUT
        while not self._done.wait(0.1):
            if watch:
                watch()
            if self._qemu.poll() is not None:
                break
            if not self._said.is_set() and time.monotonic() > end:
                raise VmError(
                    f'the guest said nothing for {SAY_TIMEOUT:.0f} s: see {self.console} and '
                    f"{self.log_dir / 'qemu.log'}"
                )
        try:
            self._qemu.wait(OFF_TIMEOUT)
        except subprocess.TimeoutExpired:
            if self.status is None:
                raise VmError(f'the guest hangs: see {self.console}') from None
            self.failure = f'the guest did not power off in {OFF_TIMEOUT:.0f} s after the command'
        else:
            # QEMU's ends are closed: what was printed last is on its way, however slow that is.
            for t in [] if self.command.tty else self._outputs:
                t.join(OFF_TIMEOUT)
        self.stages['off'] = time.monotonic() - self._power_on
        if self.failure and self.status is None:
            raise VmError(f'the guest stopped before the command: {self.failure} ({self.console})')
        if self.status is None:
            why = _last_line(self.log_dir / 'qemu.log') or f'status {self._qemu.returncode}'
            raise VmError(
                f"QEMU ended without the command's exit status: {why} (logs in {self.log_dir})")
        return self.status

    def _terminal(self, s: socket.socket) -> None:
        if not os.isatty(0):
            raise VmError('a shell needs a terminal on standard input; use `run -- CMD` in scripts')
        saved = termios.tcgetattr(0)
        self._stack.callback(termios.tcsetattr, 0, termios.TCSADRAIN, saved)
        tty.setraw(0)
        self._thread(_pump_in, 0, s)
        self._thread(_pump_out, s, 1)

    def close(self) -> None:
        """End everything that was started; idempotent."""
        for p in reversed(self._processes):
            if p.poll() is None:
                p.terminate()
        for p in reversed(self._processes):
            try:
                p.wait(3)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        self._processes.clear()
        self._stack.close()


def _pump_in(fd: int, s: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(fd, 65536):
            s.sendall(data)
        s.shutdown(socket.SHUT_WR)


def _pump_out(s: socket.socket, fd: int) -> None:
    with contextlib.suppress(OSError):
        while data := s.recv(65536):
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view):]


def _last_line(path: Path) -> str:
    try:
        return path.read_text(errors='replace').strip().rpartition('\n')[2]
    except OSError:
        return ''
