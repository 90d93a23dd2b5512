# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What the tests in the guest ask of the ports of its RDMA devices."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

DEVICES = ('mlx5_0', 'mlx5_1')


def port(device: str) -> Path:
    """Return a device's port in sysfs."""
    return Path('/sys/class/infiniband') / device / 'ports/1'


def infiniband() -> bool:
    """Tell whether the ports are InfiniBand's."""
    return (port(DEVICES[0]) / 'link_layer').read_text().strip() == 'InfiniBand'


def network_devices(device: str) -> list[Path]:
    """Return a device's network devices: an Ethernet port has one, an InfiniBand port none without
    IPoIB."""
    return sorted((port(device) / '../../device/net').resolve().glob('*'))


def over_ethernet(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test of what takes IP addresses or Ethernet frames; on InfiniBand it holds that there
    can be neither."""
    @functools.wraps(test)
    def run(**arguments: object) -> None:
        if infiniband():
            assert [network_devices(d) for d in DEVICES] == [[], []]
        else:
            test(**arguments)
    return run
