# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A root below build/foreign as the guest's programs see it, and running them in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mlx5emu.vm.machine import PROJECT

FOREIGN = PROJECT / 'build' / 'foreign'
#: Seconds after which a program counts as hanging.
PATIENCE = 300
#: What the guest's programs may write to: its own memory.
WRITABLE = ('tmp', 'run', 'mnt', 'var/lib', 'var/tmp', 'etc/iscsi')
#: The guest's own modprobe, with the modules of its kernel.
MODPROBE = '/run/mlx5emu/bin/modprobe'


class Failed(Exception):
    """A program did not do what it is for; the text has what it said."""


def sh(*words: str) -> None:
    """Run a command of the guest's own."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(words)}: {done.stdout}{done.stderr}")


def modprobe(*modules: str) -> None:
    """Load modules of the guest's kernel."""
    for module in modules:
        sh(MODPROBE, module)


class Root:
    """One root, mounted for chroot.

    :param suite: trixie or bookworm
    """

    def __init__(self, suite: str) -> None:
        self.path = FOREIGN / suite
        # A mount of its own, so that network namespaces can be made in it.
        sh('mount', '--bind', str(self.path), str(self.path))
        for name in ('dev', 'sys', 'proc'):
            sh('mount', '--rbind', f'/{name}', str(self.path / name))
        for name in WRITABLE:
            if (self.path / name).is_dir():
                sh('mount', '-t', 'tmpfs', 'none', str(self.path / name))

    def version(self, package: str) -> str:
        """Return the version of a package, without epoch and Debian's part."""
        for line in (self.path / 'versions').read_text().splitlines():
            name, version = line.split()
            if name == package:
                return version.split(':')[-1].rsplit('-', 1)[0]
        raise Failed(f'{package} is not in {self.path}')

    def argv(self, words: Sequence[str], env: dict[str, str]) -> list[str]:
        """Return the command line that runs a program in the root."""
        settings = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'HOME': '/root', 'LANG': 'C.UTF-8',
                    'TERM': 'dumb', **env}
        return ['chroot', str(self.path), 'env', '-i',
                *(f'{k}={v}' for k, v in settings.items()), *words]

    def start(self, *words: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a program; its output is one pipe, its input another."""
        return subprocess.Popen(self.argv(words, env or {}), stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                start_new_session=True)

    def run(self, *words: str, env: dict[str, str] | None = None) -> str:
        """Run a program to its end; return what it printed.

        :raises Failed: a status other than 0, or a hang
        """
        process = self.start(*words, env=env)
        try:
            said = process.communicate('', PATIENCE)[0]
        except subprocess.TimeoutExpired:
            end(process)
            raise Failed(f"{' '.join(words)}: hangs: {process.communicate()[0][-2000:]}") from None
        if process.returncode:
            raise Failed(f"{' '.join(words)}: status {process.returncode}: {said[-2000:]}")
        return said

    def put(self, source: Path) -> str:
        """Copy a file into the root; return its path there."""
        (self.path / 'tmp' / source.name).write_bytes(source.read_bytes())
        return f'/tmp/{source.name}'


def end(process: subprocess.Popen[str]) -> None:
    """End a program and what it started."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
