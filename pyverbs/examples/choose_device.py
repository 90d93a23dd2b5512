# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Which device an example runs on: the one named, else MLX5_DEVICE's, else the first of mlx5."""
import os
import sys
from typing import Optional

import pyverbs.device as d
from pyverbs.pyverbs_error import PyverbsRDMAError


def choose_device(name: Optional[str] = None) -> str:
    """
    Choose, or end the program with status 2 and say what there is.
    :param name: The device's name, if the user gave one
    :return: The name of a device that is there
    """
    try:
        devices = [device.name.decode() for device in d.get_device_list()]
    except PyverbsRDMAError:
        # libibverbs answers so when the kernel has no RDMA at all.
        devices = []
    name = name or os.environ.get('MLX5_DEVICE') or next(
        (device for device in devices if device.startswith('mlx5')), '')
    if name not in devices:
        program = os.path.basename(sys.argv[0])
        there = ', '.join(devices) or 'none'
        print(f'{program}: no RDMA device {name or "of mlx5"}; there are: {there}', file=sys.stderr)
        sys.exit(2)
    return name
