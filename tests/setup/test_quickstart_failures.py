# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What quickstart.sh says and leaves when something is missing, broken, or in use. Each test has a
project of its own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import PATIENCE, until

TOP = Path(__file__).resolve().parents[2]
NOBODY = 65534
#: What the script itself needs to come as far as naming what is missing.
TOOLS = ('awk', 'basename', 'bash', 'cat', 'cksum', 'chmod', 'cp', 'cut', 'dirname', 'df', 'flock',
         'gcc', 'grep', 'head', 'ls', 'mkdir', 'mktemp', 'mv', 'ninja', 'paste', 'pkg-config',
         'python3', 'rm', 'sed', 'sha256sum', 'sleep', 'sort', 'tail', 'tar', 'tr', 'uname', 'xz')

as_root = pytest.mark.skipif(os.geteuid() != 0, reason='becomes another user, which only root can')


class Project:
    """A copy of buildlib/ with a PATH of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.build = root / 'build'
        self.bin = root / 'bin'
        shutil.copytree(TOP / 'buildlib', root / 'buildlib')
        self.bin.mkdir()
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(('PIP_', 'MLX5'))}
        self.env |= {'PIP_CONFIG_FILE': '/dev/null', 'PIP_RETRIES': '0', 'PIP_TIMEOUT': '2'}

    def fake(self, name: str, script: str) -> None:
        """Put a program first in PATH."""
        path = self.bin / name
        path.write_text(f'#!/bin/bash\n{script}\n')
        path.chmod(0o755)
        self.env['PATH'] = f"{self.bin}:{os.environ['PATH']}"

    def only_tools(self, *leave_out: str) -> None:
        """Have PATH name nothing but TOOLS."""
        for name in TOOLS:
            found = sys.executable if name == 'python3' else shutil.which(name)
            if found and name not in leave_out and not (self.bin / name).exists():
                (self.bin / name).symlink_to(found)
        self.env['PATH'] = str(self.bin)

    def fake_venv(self, script: str) -> None:
        """Put a virtual environment in place that passes for a whole one, whose Python is a
        script."""
        venv = self.build / 'venv'
        (venv / 'bin').mkdir(parents=True)
        python = venv / 'bin/python'
        python.write_text(f'#!/bin/bash\n{script}\n')
        python.chmod(0o755)
        digest = hashlib.sha256(
            (self.root / 'buildlib/quickstart/requirements.txt').read_bytes()).hexdigest()
        (venv / '.stamp').write_text(f'{venv} {digest}  -')

    def complete_system(self) -> None:
        """Have the system lack nothing, whatever it is."""
        path = self.root / 'buildlib/quickstart/system_packages.sh'
        path.write_text(path.read_text() + '\nmissing_packages() { MISSING=(); }\n')

    def fake_machine(self) -> None:
        """Have what the virtual machine is made of."""
        for name in ('qemu', 'pypy', 'kernel-stable'):
            (self.build / name).mkdir()
        modules = self.build / 'kernel-stable/usr/lib/modules/6.12'
        modules.mkdir(parents=True)
        (modules / 'modules.dep').touch()

    def argv(self, *arguments: str) -> list[str]:
        """Return the command line."""
        return ['/bin/bash', str(self.root / 'buildlib/quickstart.sh'), *arguments]

    def run(self, *arguments: str, user: int | None = None) -> tuple[int, str]:
        """Run quickstart.sh to its end.

        :return: exit status and standard error
        """
        p = subprocess.run(self.argv(*arguments), env=self.env, capture_output=True, text=True,
                           timeout=PATIENCE, user=user, stdin=subprocess.DEVNULL, check=False)
        assert p.stdout == '' or 'usage' in p.stdout
        return p.returncode, p.stderr

    def left(self) -> set[str]:
        """Return what is in build/, without what every run may leave."""
        return {p.name for p in self.build.iterdir()} - {'.lock', 'log', 'venv'}


@pytest.fixture
def project() -> Iterator[Project]:
    """A project that any user can read."""
    root = Path(tempfile.mkdtemp(prefix='quickstart-'))
    root.chmod(0o755)
    yield Project(root)
    shutil.rmtree(root)


# ---- the command line

@pytest.mark.parametrize(('arguments', 'says'), [
    ((), 'name a command'),
    (('dmeo',), 'no such command: dmeo'),
    (('run',), 'run: name a command'),
    (('run', '--'), 'run: name a command'),
    (('demo', '--rdma-core'), '--rdma-core takes a value'),
    (('demo', '--kernel', 'newest'), '--kernel is stable, backports or oldstable'),
    (('setup', 'everything'), 'setup: everything: it takes no arguments'),
    (('sanitize', '--device', 'mlx5_0'), 'sanitize is for the emulated card'),
    (('suite', '--vm'), '--vm is of setup for the emulated card'),
    (('setup', '--vm', '--device', 'mlx5_0'), '--vm is of setup for the emulated card'),
])
def test_wrong_usage(project: Project, arguments: tuple[str, ...], says: str) -> None:
    """Is told in a line, sets nothing up."""
    status, err = project.run(*arguments)
    assert status == 2
    assert says in err.splitlines()[-1]
    assert not project.build.exists()


def test_no_such_device(project: Project) -> None:
    """A device that is not there is told before anything is built."""
    status, err = project.run('demo', '--device', 'mlx5_99')
    assert status == 2
    assert '--device mlx5_99: this machine has no such RDMA device' in err
    assert not project.build.exists()


@pytest.mark.parametrize('value', ['58.0', '59', '5.*', '/tmp'])
def test_no_such_rdma_core(project: Project, value: str) -> None:
    """Neither a version that has a hash nor a source tree."""
    project.complete_system()
    project.fake_venv('exit 1')
    status, err = project.run('setup', '--rdma-core', value)
    assert status == 2
    expected = '/tmp is no rdma-core source tree'
    if value != '/tmp':
        expected = f'--rdma-core {value} is neither a directory nor one of 57.0 59.0 trixie sid'
    assert expected in err
    assert project.left() == set()


def test_the_machine_alone(project: Project) -> None:
    """setup --vm neither fetches nor builds an rdma-core, which setup does."""
    project.complete_system()
    project.fake_venv('exit 1')
    machine = {'qemu', 'pypy', 'kernel-stable'}
    project.fake_machine()
    assert project.run('setup', '--vm') == (0, '')
    assert project.left() == machine
    assert not (project.build / 'log').exists()
    status, err = project.run('setup')
    assert status == 2
    assert "'rdma-core 59.0' failed" in err


# ---- the system's packages

@as_root
def test_not_root(project: Project) -> None:
    """The packages are named, with the line that installs them."""
    project.only_tools('gcc', 'ninja')
    project.fake('apt-get', 'echo apt-get was called >&2; exit 1')
    project.env['PATH'] = str(project.bin)
    os.chown(project.root, NOBODY, NOBODY)
    status, err = project.run('setup', user=NOBODY)
    assert status == 2
    assert 'missing: gcc libc6-dev cmake ninja-build' in err
    assert ('As root: apt-get update && apt-get install --no-install-recommends '
            'gcc libc6-dev cmake ninja-build iproute2') in err
    assert 'was called' not in err


@pytest.mark.parametrize(('manager', 'says'), [
    ('', "missing, by the names of Debian's packages: cmake ninja-build"),
    ('dnf', 'As root: dnf install cmake ninja-build iproute\n'),
    ('zypper', 'As root: zypper install cmake ninja iproute2\n'), ])
def test_another_distribution(project: Project, manager: str, says: str) -> None:
    """No apt-get: the packages are named, as the system calls them, and nothing is installed."""
    project.only_tools('ninja')
    if manager:
        project.fake(manager, 'echo was called >&2')
        project.env['PATH'] = str(project.bin)
    status, err = project.run('setup')
    assert status == 2
    assert says in err
    assert 'was called' not in err


@as_root
@pytest.mark.parametrize(('script', 'says'), [
    ("echo \"Err:1 Temporary failure resolving 'deb.example'\"; exit 100",
     'apt-get update failed: see to the network'),
    ("[[ $1 == update ]] || { echo 'E: Unable to locate package cmake'; exit 100; }",
     'exit status 100'),
    ("[[ $1 == update ]] || { echo 'E: You have not enough: No space left on device'; exit 100; }",
     'the disk is full'), ])
def test_apt_fails(project: Project, script: str, says: str) -> None:
    """The reason and the log are named, and nothing goes on."""
    project.only_tools()
    project.fake('apt-get', script)
    project.env['PATH'] = str(project.bin)
    if not Path('/etc/debian_version').exists():
        pytest.skip('apt-get is only called on Debian')
    status, err = project.run('setup')
    assert status == 2
    assert says in err
    log = project.build / 'log/setup-packages-download.log'
    assert f'(log: {log})' in err
    assert log.read_text().strip()
    assert project.left() == set()


# ---- build/

@as_root
def test_build_not_writable(project: Project) -> None:
    """Somebody else's clone."""
    status, err = project.run('setup', user=NOBODY)
    assert status == 2
    assert f'cannot write to {project.build}: run this as the user who owns {project.root}' in err


def test_little_space(project: Project) -> None:
    """Is told before the first stage."""
    project.fake('df', 'echo Filesystem; echo /dev/x 9 9 1048575 9% /')
    status, err = project.run('setup')
    assert status == 2
    assert f'1.0 GiB free in {project.build}, 3 GiB are needed' in err
    assert project.left() == set()


def test_disk_full_in_a_stage(project: Project) -> None:
    """Is told as such, and the stage leaves nothing."""
    project.complete_system()
    project.fake_venv(
        'echo half > ${!#}/pyverbs-59.0.tar.gz; '
        'echo "OSError: [Errno 28] No space left on device" >&2; exit 1'
    )
    status, err = project.run('setup')
    assert status == 2
    assert "'rdma-core 59.0' failed: the disk is full" in err
    assert project.left() == set()


# ---- package indexes

def test_no_network(project: Project) -> None:
    """An index that cannot be reached; the virtual environment that was begun is not taken for
    one."""
    project.complete_system()
    project.env |= {'PIP_INDEX_URL': 'http://127.0.0.1:9/simple', 'PIP_NO_CACHE_DIR': '1'}
    for variable in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'all_proxy',
                     'ALL_PROXY'):
        project.env.pop(variable, None)
    status, err = project.run('setup')
    assert status == 2
    assert "'virtual environment' failed: " in err
    assert f'(log: {project.build}/log/setup-venv.log)' in err
    assert 'no network' in err or 'the package index has no' in err
    assert not (project.build / 'venv/.stamp').exists()
    assert project.left() == set()


@pytest.mark.parametrize(('says_pip', 'says'), [
    ('ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.',
     'the package index serves another pyverbs 59.0 than pyverbs_sdists.txt names'),
    ('ERROR: No matching distribution found for pyverbs==59.0',
     'the package index has no pyverbs 59.0'),
    ('NewConnectionError: Failed to establish a new connection', 'no network'),
    ('SSLCertVerificationError(1, [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed\n'
     'ERROR: No matching distribution found for pyverbs==59.0',
     'the certificate of a package archive was not accepted: a proxy that opens TLS'),
    ('Certificate verification failed: The certificate is NOT trusted.',
     'the certificate of a package archive was not accepted'), ])
def test_index_fails(project: Project, says_pip: str, says: str) -> None:
    """Each failure of the index by its name."""
    project.complete_system()
    project.fake_venv(f"echo '{says_pip}'; exit 1")
    status, err = project.run('setup')
    assert status == 2
    assert f"'rdma-core 59.0' failed: {says}" in err
    assert project.left() == set()


def test_wrong_hash(project: Project) -> None:
    """An archive of the right name and other content is refused by pip itself."""
    project.complete_system()
    project.fake_venv(f'exec {sys.executable} "$@"')
    wheels = project.root / 'index'
    wheels.mkdir()
    subprocess.run(
        ['tar', '-czf', wheels / 'pyverbs-59.0.tar.gz', '-C', project.root / 'buildlib', '.'],
        check=True)
    project.env |= {'PIP_NO_INDEX': '1', 'PIP_FIND_LINKS': str(wheels)}
    status, err = project.run('setup')
    assert status == 2
    assert 'serves another pyverbs 59.0 than pyverbs_sdists.txt names; not used' in err
    assert project.left() == set()


# ---- in use, cut off

def test_waits_for_another_run(project: Project) -> None:
    """A lock that is held is waited for, by whom is told; then the run goes on."""
    project.complete_system()
    project.fake_venv('exit 1')
    (project.build / 'log').mkdir()
    with open(project.build / '.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write('4711\n')
        lock.flush()
        p = subprocess.Popen(project.argv('setup', '--rdma-core', '1.0'), env=project.env,
                             stderr=subprocess.PIPE, text=True)
        assert p.stderr
        assert 'process 4711 is setting up' in p.stderr.readline()
        time.sleep(0.3)
        assert p.poll() is None
    err = p.stderr.read()
    p.stderr.close()
    assert p.wait(PATIENCE) == 2
    assert '--rdma-core 1.0 is neither' in err


def test_who_needs_no_set_up_waits_for_nobody(project: Project) -> None:
    """With everything there the lock is not asked for."""
    project.complete_system()
    project.fake_venv('[[ $* != *machine_json.py* ]] || echo {} > $2')
    project.fake('ninja', '[[ $1 != -n ]] || echo "ninja: no work to do."')
    project.fake_machine()
    for name in ('rdma-core-59.0', 'rdma-core-59.0-build'):
        (project.build / name).mkdir()
    stamp = (project.build / 'venv/.stamp').read_text()
    (project.build / 'rdma-core-59.0-build/.configured').write_text(
        f'{project.build}/rdma-core-59.0 {stamp}')
    with open(project.build / '.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert project.run('setup') == (0, '')
        assert (project.build / 'machine.json').read_text() == '{}\n'
        assert project.run('setup', '--vm') == (0, '')
        # What is missing is waited for.
        project.fake('ninja', '[[ $1 != -n ]] || echo "[0/1] Compiling"')
        p = subprocess.Popen(project.argv('setup'), env=project.env, stderr=subprocess.PIPE,
                             text=True)
        assert p.stderr
        assert 'is setting up' in p.stderr.readline()
    p.stderr.read()
    p.stderr.close()
    assert p.wait(PATIENCE) == 0


def running(token: str) -> bool:
    """Tell whether a process has the token in its command line."""
    for path in Path('/proc').glob('[0-9]*/cmdline'):
        try:
            if token.encode() in path.read_bytes():
                return True
        except OSError:
            continue
    return False


@pytest.mark.parametrize(('number', 'status'), [(signal.SIGINT, 130), (signal.SIGTERM, 143),
                                                (signal.SIGHUP, 129)])
def test_interrupted(project: Project, number: signal.Signals, status: int) -> None:
    """A stage that is cut off takes its processes and its files along, and the next run begins it
    anew."""
    project.complete_system()
    duration = f'300.{os.getpid()}{number:02}'
    project.fake_venv(f'echo half > ${{!#}}/half; sleep {duration} & sleep {duration}; true')
    # A shell without job control starts us with SIGINT ignored, nohup with SIGHUP, and what is
    # ignored at start cannot be trapped.
    p = subprocess.Popen(project.argv('setup'), env=project.env, stderr=subprocess.PIPE, text=True,
                         start_new_session=True,
                         preexec_fn=lambda: signal.signal(number, signal.SIG_DFL))

    def started() -> bool:
        assert p.poll() is None
        return running(duration)
    until(started, 'the stage starts')
    p.send_signal(number)
    _, err = p.communicate(timeout=PATIENCE)
    assert p.returncode == status
    name = number.name.removeprefix('SIG')
    assert f"{name} in 'rdma-core 59.0': nothing half-made is kept" in err
    assert not running(duration)
    assert project.left() == set()
    assert 'no network' in project_after(project)


def project_after(project: Project) -> str:
    """Run again with an index that fails, to see that the stage is begun and not skipped."""
    shutil.rmtree(project.build / 'venv')
    project.fake_venv('echo Network is unreachable; exit 1')
    return project.run('setup')[1]


def test_killed(project: Project) -> None:
    """What SIGKILL left is removed by the next run."""
    project.complete_system()
    project.fake_venv('exit 1')
    (project.build / 'scratch.abcdef').mkdir()
    (project.build / 'scratch.abcdef/half').touch()
    project.run('setup', '--rdma-core', '1.0')
    assert project.left() == set()


def test_quiet(project: Project) -> None:
    """-q leaves the reason of a failure and nothing else; without it a stage that takes more than a
    second has two lines."""
    project.complete_system()
    project.fake('cmake', 'exit 3')
    project.fake_venv('sleep 1.3; mkdir -p $0.d/pyverbs-59.0/rdma-core; '
                      'tar -czf ${!#}/pyverbs-59.0.tar.gz -C $0.d pyverbs-59.0')
    loud = project.run('setup')[1].splitlines()
    assert loud[0] == 'quickstart: rdma-core 59.0 ...'
    assert re.fullmatch(r'quickstart: rdma-core 59\.0: \d+\.\d s', loud[1])
    assert loud[-1].startswith(
        "quickstart: 'building rdma-core 59.0 with our modules' failed: exit status ")
    shutil.rmtree(project.build / 'rdma-core-59.0')
    # On a slow machine other stages take more than a second, too.
    progress = re.compile(r'quickstart: .*( \.\.\.|: \d+\.\d s)')
    told = [line for line in loud if not progress.fullmatch(line)]
    assert project.run('setup', '-q')[1].splitlines() == told
