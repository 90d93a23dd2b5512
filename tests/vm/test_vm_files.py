# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What a guest can do to the host: read its files, and change those below the directories that it
was given. Everybody else is kept out of the sockets."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from mlx5emu.bus.server import Server
from mlx5emu.card import Card
from mlx5emu.vm import files
from mlx5emu.vm.vm import Command, Vm, VmError
from vm.runs import PATIENCE, argv, environment, in_a_guest, machine_or_skip

MACHINE = machine_or_skip()
NOBODY = 65534

SCRIPT = r"""
given=$1 kept=$2
try() { "$@" 2>/dev/null && echo "done: $*"; }
try touch "$kept/new" "$kept/old"
mount -o remount,rw /
try touch "$kept/new" "$kept/old"
try rm -r "$kept"
try chmod 777 "$kept"
echo guest >"$given/new"
rm "$given/old"
echo guest >/tmp/left-behind
cat /tmp/left-behind "$given/new"
"""


@pytest.mark.parametrize('fs', ['virtiofs', '9p'])
def test_only_what_was_asked_for_is_written(tmp_path: Path, fs: str) -> None:
    """A guest changes files below --write, whatever their names, and no others, not even after it
    has mounted them writable."""
    # Not in the guest's own /tmp, where pytest's directories are, and this clone may be.
    with tempfile.TemporaryDirectory(dir='/var/tmp') as parent:
        given, kept = tmp_path / 'given, too', Path(parent) / 'kept'
        for directory in (given, kept):
            directory.mkdir()
            (directory / 'old').write_text('host')
        done = in_a_guest(tmp_path, ['--fs', fs, '--write', str(given)], 'sh', '-c', SCRIPT, 'sh',
                          str(given), str(kept))
        assert done.stdout == 'guest\nguest\n'
        assert [p.name for p in kept.iterdir()] == ['old']
        assert (kept / 'old').read_text() == 'host'
        assert stat.S_IMODE(kept.stat().st_mode) != 0o777
        assert [p.name for p in given.iterdir()] == ['new']
        assert (given / 'new').read_text() == 'guest\n'


def test_tmp_is_the_guests_own(tmp_path: Path) -> None:
    """A guest sees the host's /tmp, and what it changes there is gone with it: the next one finds
    what the first one found."""
    mark = f'left-behind-{os.getpid()}'
    (tmp_path / 'script.sh').write_text(
        f'ls /tmp/{mark} 2>/dev/null; echo guest >/tmp/{mark}; rm $0; cat /tmp/{mark}; ls $0 2>&1'
        ' | grep -c No')
    for _ in range(2):
        done = in_a_guest(tmp_path, [], 'sh', str(tmp_path / 'script.sh'))
        assert done.stdout == 'guest\n1\n'
    assert (tmp_path / 'script.sh').exists()
    assert not Path('/tmp', mark).exists()


@pytest.mark.parametrize(('words', 'text'), [(['--write', '/nowhere'], 'no such directory'),
                                             (['--write', '/bin/sh'], 'no such directory'),
                                             (['--write', '/dev/shm'], 'has a /dev/shm of its own'),
                                             (['--write', '/proc'], 'has a /proc of its own')])
def test_what_cannot_be_given(tmp_path: Path, words: list[str], text: str) -> None:
    """Refused before anything is started."""
    done = subprocess.run(argv(*words, '--', 'true'), env=environment(tmp_path), check=False,
                          capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (2, '')
    assert text in done.stderr and done.stderr.count('\n') == 1


def test_an_ordinary_user(tmp_path: Path) -> None:
    """Once the set-up is there nobody needs to be root: the guest then reads what that user can,
    and what it writes is that user's."""
    if os.geteuid() != 0:
        pytest.skip('only root can become another user')
    given = tmp_path / 'given'
    given.mkdir()
    private = tmp_path / 'private'
    private.write_text('secret')
    private.chmod(0o600)
    logs = tmp_path / 'log'
    for directory in (given, logs):
        directory.mkdir(exist_ok=True)
        os.chown(directory, NOBODY, NOBODY)
    for directory in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        directory.chmod(0o755)
    as_nobody = ['setpriv', '--reuid', str(NOBODY), '--regid', str(NOBODY), '--clear-groups']
    env = environment(tmp_path) | {'TMPDIR': str(given), 'HOME': '/nonexistent'}
    script = f'id -u; ls /dev/infiniband; cat {private}; echo guest >{given}/new'
    command = [
        MACHINE.card_python, '-m', 'mlx5emu', 'run', '--write',
        str(given), '--', 'sh', '-c', script]
    if subprocess.run([*as_nobody, 'test', '-r', MACHINE.path], check=False).returncode:
        pytest.skip(f'an ordinary user does not get to {MACHINE.path}')
    done = subprocess.run([*as_nobody, *command], env=env, cwd='/', stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, 'uverbs0' in done.stdout) == (0, True), done.stdout + done.stderr
    assert 'secret' not in done.stdout and 'Permission denied' in done.stderr
    assert ((given / 'new').read_text(), (given / 'new').stat().st_uid) == ('guest\n', NOBODY)


@pytest.mark.skipif(os.geteuid() != 0, reason='drops capabilities, which only root has')
@pytest.mark.parametrize('without', ['-mknod,-setfcap', '-mknod,-setfcap,-setuid,-setgid'])
def test_root_of_a_container(tmp_path: Path, without: str) -> None:
    """Root without all of root's capabilities boots a guest that writes where it may."""
    tmp_path.chmod(0o777)
    done = subprocess.run([
        'setpriv', '--bounding-set', without, '--inh-caps', without,
        *argv('--write', str(tmp_path), '--', 'touch', str(tmp_path / 'written'))],
        env=environment(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'written').exists()


def test_few_open_files(tmp_path: Path) -> None:
    """Where a container may have 1,024 files open, the guest reads more of them all the same."""
    done = subprocess.run([
        'prlimit', '--nofile=1024:1024', *argv(
            '--', 'sh', '-c', 'find /usr/lib -type f | head -n 3000 | tee /tmp/names | '
            'xargs -d "\\n" head -qc 1 > /dev/null && wc -l < /tmp/names')],
        env=environment(tmp_path), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, '3000'), done.stderr


def test_capabilities_that_are_lacking(tmp_path: Path) -> None:
    """As the kernel tells them: podman's set, all, and none."""
    status = tmp_path / 'status'
    for value, lacking in (('00000000800405fb', ['mknod']), ('000001ffffffffff', []),
                           ('0000000000000000', list(files.CAPABILITIES))):
        status.write_text(f'Name:\tx\nCapPrm:\t0\nCapEff:\t{value}\n')
        assert files.lacking(status) == lacking


def test_sockets_are_private(tmp_path: Path) -> None:
    """Who can connect has the guest's memory: nobody but the user who started it."""
    mask = os.umask(0)
    try:
        started: list[tuple[int, ...]] = []
        files.over_virtiofs(files.shares([])[0], tmp_path, lambda *words: started.append(words[2]))
        server = Server(str(tmp_path / 'card'), Card('connectx6dx'))
        modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ('host', 'card')]
        server.start()
        server.stop()
    finally:
        os.umask(mask)
    assert modes == [0o600, 0o600] and len(started) == 1


def test_daemon_that_does_not_start(tmp_path: Path) -> None:
    """A guest without its files is no guest, and that is told at once."""
    machine = dataclasses.replace(MACHINE, virtiofsd=['/bin/false'])
    with contextlib.ExitStack() as stack:
        vm = stack.enter_context(Vm(machine, [], Command(['true'], '/'), tmp_path))
        with pytest.raises(VmError, match='QEMU ended'):
            vm.wait()
