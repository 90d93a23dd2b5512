# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Two processes of a program that is not ours: one waits for the other, both run to their end."""

from __future__ import annotations

import subprocess

from guest import listening
from mlx5emu.vm.machine import PROJECT
from patience import PATIENCE, until

PERFTEST = PROJECT / 'build' / 'perftest' / 'bin'
#: TCP port over which perftest's two sides tell each other where they are.
PERFTEST_PORT = 18516


def between(server: list[str], client: list[str], number: int | None = None) -> str:
    """Run both to their end; return what the client printed.

    :param number: TCP port that the server listens at, or None for one that waits for a connection
        of rdma_cm's
    """
    first = subprocess.Popen(server, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)

    def waits() -> bool:
        assert first.poll() is None, first.communicate()[0]
        return listening.tcp(number) if number else listening.connection_manager(first.pid)
    try:
        until(waits, f'{server} listens')
        done = subprocess.run(client, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, timeout=PATIENCE, check=False)
        said = first.communicate(timeout=PATIENCE)[0]
    finally:
        first.kill()
        first.wait()
    assert (first.returncode,
            done.returncode) == (0, 0), f'{server}:\n{said}\n{client}:\n{done.stdout}'
    return done.stdout
