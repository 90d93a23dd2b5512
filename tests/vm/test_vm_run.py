# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""`mlx5emu run`, from the outside: status, streams, files, time, and what is left when it ends,
however it ends."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlx5emu.vm import kernel_log
from patience import until
from vm.runs import PATIENCE, argv, environment, machine_or_skip

machine_or_skip()

#: What `start` started since the last test's end.
STARTED: list[subprocess.Popen[bytes]] = []


def start(*words: str, tmp: Path, **more: object) -> subprocess.Popen[bytes]:
    """Start `mlx5emu run`; its logs and sockets go below tmp."""
    # A shell without job control starts us with SIGINT ignored, which children inherit.
    started = subprocess.Popen(argv(*words), env=environment(tmp), stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE,
                            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                            **({'stdin': subprocess.DEVNULL} | more))  # type: ignore[call-overload]
    STARTED.append(started)
    return started


@pytest.fixture(autouse=True)
def nothing_runs_on() -> Iterator[None]:
    """A run that a test gave up on is not left beside the next one."""
    yield
    while STARTED:
        STARTED.pop().kill()


def descendants(pid: int) -> set[int]:
    """Return the processes below one."""
    children: dict[int, set[int]] = {}
    for stat in Path('/proc').glob('[0-9]*/stat'):
        try:
            text = stat.read_text()
        except OSError:
            continue
        children.setdefault(int(text.rpartition(')')[2].split()[1]), set()).add(
            int(stat.parent.name))
    found, todo = set(), [pid]
    while todo:
        below = children.get(todo.pop(), set())
        found |= below
        todo += below
    return found


def _alive(pid: int) -> bool:
    try:
        return 'State:\tZ' not in Path(f'/proc/{pid}/status').read_text()
    except OSError:
        return False


@pytest.fixture(scope='module')
def one_run(
        tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[bytes], Path]:
    """One guest, whose traces several tests look at."""
    tmp = tmp_path_factory.mktemp('run')
    script = tmp / 'script.sh'
    script.write_text("#!/bin/sh\nls /dev/infiniband\ncat\npwd\necho seen >&2\n"
                      "printf 'a\\000b' >written\nexit 7\n")
    script.chmod(0o755)
    p = start('--times', '--write', str(tmp), '--', str(script), tmp=tmp, stdin=subprocess.PIPE,
              cwd=tmp)
    out, err = p.communicate(bytes(range(256)) * 300, PATIENCE)
    return subprocess.CompletedProcess(p.args, p.returncode, out, err), tmp


def test_status(one_run: tuple[subprocess.CompletedProcess[bytes], Path]) -> None:
    """The command's exit status is ours."""
    assert one_run[0].returncode == 7, one_run[0].stderr.decode()


def test_streams(one_run: tuple[subprocess.CompletedProcess[bytes], Path]) -> None:
    """Input, output and error pass byte for byte and do not mix; nothing of the kernel's is among
    them."""
    done, tmp = one_run
    head, body, tail = done.stdout[:done.stdout.index(b'\0')], bytes(
        range(256)) * 300, done.stdout[-len(str(tmp)) - 1:]
    assert b'uverbs0' in head
    assert body in done.stdout
    assert tail == f'{tmp}\n'.encode()
    assert done.stderr.startswith(b'seen\n')


def test_files(one_run: tuple[subprocess.CompletedProcess[bytes], Path]) -> None:
    """What the command wrote where it may is on the host."""
    assert (one_run[1] / 'written').read_bytes() == b'a\0b'


def test_times_are_told(one_run: tuple[subprocess.CompletedProcess[bytes], Path]) -> None:
    """--times tells when the device was there and when the power was off, in this order."""
    match = re.search(rb'uverbs0 ([0-9.]+).* off ([0-9.]+)', one_run[0].stderr)
    assert match and 0 < float(match[1]) < float(match[2]), one_run[0].stderr


def test_power_off_is_silent(one_run: tuple[subprocess.CompletedProcess[bytes], Path]) -> None:
    """From power-on to power-off, the driver's shutdown included, the console has no warning of the
    driver's."""
    console = one_run[1] / 'log' / 'kernel.log'
    assert 'Power down' in console.read_text(errors='replace')
    assert kernel_log.console_complaints(console) == []


def test_nothing_is_left(one_run: tuple[subprocess.CompletedProcess[bytes], Path]) -> None:
    """No socket, no temporary directory."""
    assert sorted(p.name for p in one_run[1].iterdir()) == ['log', 'script.sh', 'written']


#: A command with a bit that is nobody's.
MISTAKE = """
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr, Mlx5DevxObj
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags as flags
attr = Mlx5DVContextAttr(flags=flags.MLX5DV_CONTEXT_FLAGS_DEVX)
command = bytearray(272)
command[0:2], command[0x11], command[0x4b] = (0x200).to_bytes(2, 'big'), 0x08, 12
try:
    Mlx5DevxObj(Mlx5Context(attr, name='mlx5_0'), bytes(command), 16)
except Exception as e:
    print(e)
"""


def test_trace(tmp_path: Path) -> None:
    """--trace shows what the command did, not the driver before and after it, and marks the field
    that was wrong; no colour without a terminal."""
    p = start('--trace', '--', sys.executable, '-c', MISTAKE, tmp=tmp_path)
    out, err = (text.decode() for text in p.communicate(timeout=PATIENCE))
    assert 'Remote I/O error' in out and p.returncode == 0, err
    assert 'ENABLE_HCA' not in err and 'DISABLE_HCA' not in err and '\x1b' not in err
    lines = err.splitlines()
    at = next(n for n, line in enumerate(lines) if 'CREATE_MKEY' in line)
    assert ' BAD_PARAM ' in lines[at]
    following = [line for line in lines[at + 1:] if '<--' in line]
    assert len(following) == 1 and following[0].endswith('<-- BAD_PARAM')


@pytest.mark.parametrize(('number', 'moment'),
                         [(signal.SIGINT, 'starting'), (signal.SIGINT, 'booting'),
                          (signal.SIGINT, 'running'), (signal.SIGTERM, 'booting'),
                          (signal.SIGKILL, 'booting')])
def test_ended_from_outside(number: signal.Signals, moment: str, tmp_path: Path) -> None:
    """Ended at any moment, by whatever signal: no process stays, and except after SIGKILL no
    file."""
    p = start('--', 'sh', '-c', 'echo here; sleep 600', tmp=tmp_path)
    console = tmp_path / 'log' / 'kernel.log'
    if moment == 'starting':
        until(lambda: [*tmp_path.glob('mlx5emu-*')], 'it makes its sockets')
    elif moment == 'booting':
        until(lambda: console.exists() and console.stat().st_size, 'the kernel says something')
    else:
        assert p.stdout is not None and p.stdout.readline() == b'here\n'
    below = descendants(p.pid)
    p.send_signal(number)
    p.communicate(timeout=PATIENCE)
    until(lambda: not any(map(_alive, below)), 'its processes end')
    if number == signal.SIGKILL:
        assert p.returncode == -signal.SIGKILL
        return
    assert p.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[number]
    assert [x for x in tmp_path.iterdir() if x.name.startswith('mlx5emu-')] == []


def test_shell(tmp_path: Path) -> None:
    """The shell has a terminal of this one's size, and its exit status is ours."""
    pid, terminal = pty.fork()
    if not pid:
        os.execve(sys.executable, [sys.executable, '-m', 'mlx5emu', 'shell'],
                  environment(tmp_path) | {'SHELL': '/bin/sh'})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 33, 111, 0, 0))
    seen, typed, end = b'', False, time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                seen += os.read(terminal, 4096)
            except OSError:     # the other side has closed
                break
        if not typed and seen.rstrip().endswith((b'#', b'$')):
            typed = True
            os.write(terminal, b'tty; stty size; ls /dev/infiniband; exit 5\r')
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 5, seen
    assert b'/dev/hvc0' in seen
    assert b'33 111' in seen
    assert b'uverbs0' in seen


def test_ethernet(tmp_path: Path) -> None:
    """On the Ethernet link layer the driver's netdev is up, GIDs are RoCE v2, and the kernel is
    silent."""
    script = 'cd /sys/class/infiniband/mlx5_0/ports/1; cat link_layer gid_attrs/types/1 state'
    p = start('--link-layer', 'eth', '--', 'sh', '-c', script, tmp=tmp_path)
    out, err = p.communicate(timeout=PATIENCE)
    assert p.returncode == 0, err.decode()
    assert out.decode().split() == ['Ethernet', 'RoCE', 'v2', '4:', 'ACTIVE']
    assert kernel_log.console_complaints(tmp_path / 'log' / 'kernel.log') == []


@pytest.mark.parametrize(('words', 'says'), [
    (['--', '/no/such/program'], '/no/such/program'),
    (['--fault', 'CREATE_UMEM', '--', 'true'], 'OPCODE:STATUS'),
    (['--fault', 'CREATE_NOTHING:BAD_PARAM', '--', 'true'], 'CREATE_NOTHING'),
    (['--profile', 'connectx99', '--', 'true'], 'connectx99'),
    (['--profile', 'connectx6dx', '--link-layer', 'ib', '--', 'true'], 'eth ports only'),
    ([], 'name a command'),
])
def test_wrong_words(words: list[str], says: str, tmp_path: Path) -> None:
    """A wrong command line, or a command that is not there, is named."""
    p = start(*words, tmp=tmp_path)
    _, err = p.communicate(timeout=PATIENCE)
    assert p.returncode in (2, 127)
    assert says in err.decode()


def test_no_machine(tmp_path: Path) -> None:
    """Without the set-up the message says which command makes it."""
    p = subprocess.run(argv('--', 'true'), env=environment(tmp_path, tmp_path / 'absent'),
                       capture_output=True, check=False)
    assert p.returncode == 2
    assert b'quickstart.sh' in p.stderr
