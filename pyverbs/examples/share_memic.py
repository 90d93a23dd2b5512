# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
MEMIC known to two processes: the second one gets the context's file descriptor over a socket, and
imports the memory by its handle.

    share_memic.py [DEVICE]

A umem goes the same way by export() and import_umem(), from rdma-core 65 on.
"""
import array
import os
import socket
import sys

import pyverbs.device as d
from choose_device import choose_device

from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM

LENGTH = 4096


def other_process(link: socket.socket) -> None:
    """Import the memory, read it, answer in it."""
    data, ((_, _, fds),), _, _ = link.recvmsg(64, socket.CMSG_SPACE(4))
    ctx = d.Context(cmd_fd=array.array('i', fds)[0])
    with Mlx5DM.import_dm(ctx, int.from_bytes(data, 'little')) as dm:
        print(f'the other process reads {dm.copy_from_dm(0, 4)!r}', flush=True)
        dm.copy_to_dm(0, b'pong')
    ctx.close()


def main() -> int:
    """Run it; the exit status."""
    name = choose_device(*sys.argv[1:2])
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        # Before this process opens anything: a context does not survive a fork.
        other_process(theirs)
        os._exit(0)
    with d.Context(name=name) as ctx, Mlx5DM(ctx, d.AllocDmAttr(length=LENGTH)) as dm:
        dm.copy_to_dm(0, b'ping')
        fds = array.array('i', [ctx.cmd_fd])
        ours.sendmsg([dm.handle.to_bytes(4, 'little')],
                     [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        _, status = os.waitpid(child, 0)
        print(f'this one finds {dm.copy_from_dm(0, 4)!r}')
    return os.WEXITSTATUS(status)


if __name__ == '__main__':
    sys.exit(main())
