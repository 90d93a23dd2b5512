# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
A dma-buf as a umem: pages of a memfd, exported by udmabuf, that the device then knows by a umem id.

    dmabuf_umem.py [DEVICE]

The fd may be closed as soon as the umem is made: the kernel holds the memory.
"""
import fcntl
import os
import struct
import sys

from choose_device import choose_device
from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_context_attr_flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DVContextAttr

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

#: _IOW('u', 0x42, struct udmabuf_create)
UDMABUF_CREATE = 0x40187542
LENGTH = 65536


def udmabuf(length: int) -> int:
    """
    A dma-buf of new memory.
    :param length: Bytes, whole pages
    :return: Its file descriptor
    """
    memory = os.memfd_create('umem', os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    try:
        os.ftruncate(memory, length)
        fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
        with open('/dev/udmabuf', 'rb', buffering=0) as device:
            # A mutable argument, so that what comes back is the ioctl's result, the new fd.
            return int(fcntl.ioctl(device, UDMABUF_CREATE,
                                   bytearray(struct.pack('=IIQQ', memory, 1, 0, length)), True))
    finally:
        os.close(memory)


def main() -> int:
    """Run it; the exit status."""
    name = choose_device(*sys.argv[1:2])
    try:
        fd = udmabuf(LENGTH)
    except FileNotFoundError:
        print('dmabuf_umem: no /dev/udmabuf: `modprobe udmabuf` adds it', file=sys.stderr)
        return 2
    attr = Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX)
    with Mlx5Context(attr, name) as ctx:
        with Mlx5DevxUmem(ctx, LENGTH - 8192, addr=4096,
                          access=ibv_access_flags.IBV_ACCESS_LOCAL_WRITE, dmabuf_fd=fd) as umem:
            os.close(fd)
            print(f'{umem!r}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
