# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The stock driver on the emulated card: probed, unloaded, loaded again and reset, without a word
of complaint."""

from __future__ import annotations

import os
import subprocess
import unittest
from pathlib import Path
from typing import Any

import pytest
from mlx5emu.vm import control, kernel_log
from patience import until

pytestmark = pytest.mark.skipif(
    not control.available(),
    reason='needs the emulated card: run `bash buildlib/quickstart.sh test`')

#: The card's functions, each a device.
FUNCTIONS = len(list(Path('/sys/class/infiniband').glob('mlx5_*')))
DEVICES = [f'/dev/infiniband/uverbs{k}' for k in range(FUNCTIONS)]
#: The driver unloads and loads from a guest's module directory; the tests that follow need it
#: loaded.
MODULES = ('rdma_ucm', 'ib_umad', 'mlx5_ib', 'mlx5_core')


def last_sequence() -> int:
    """Return the sequence number that the kernel's next message will have, or a lower bound of
    it."""
    found = kernel_log.records()
    return found[-1].sequence + 1 if found else 0


def unload() -> None:
    """Remove the driver's modules."""
    for m in MODULES:
        subprocess.run(['/run/mlx5emu/bin/rmmod', m], check=True, capture_output=True)


def load() -> None:
    """Load the driver's modules and wait for the device."""
    for m in reversed(MODULES):
        options = ['prof_sel=0'] if m == 'mlx5_core' else []
        subprocess.run(['/run/mlx5emu/bin/modprobe', m, *options], check=True, capture_output=True)
    use_port()


def use_port() -> None:
    """Wait for the devices and bring their ports up, as at power-on: the tests that follow send
    over them."""
    for device in DEVICES:
        until(lambda device=device: os.path.exists(device),
              lambda device=device: f'{device} appears: {kernel_log.records()[-5:]}')
    subprocess.run(['/run/mlx5emu/bin/netdevs-up'], check=True, capture_output=True)
    for k in range(FUNCTIONS):
        state = Path(f'/sys/class/infiniband/mlx5_{k}/ports/1/state')
        until(lambda state=state: 'ACTIVE' in state.read_text(),
              lambda k=k, state=state: f'port 1 of mlx5_{k} is up: {state.read_text()}')


def each(request: str) -> list[Any]:
    """Return every function's answer to a request."""
    return [control.call(request, function=k) for k in range(FUNCTIONS)]


def pci_device() -> Path:
    """Return the card's directory in sysfs."""
    return Path(os.path.realpath('/sys/class/infiniband/mlx5_0/device'))


class DriverTest(unittest.TestCase):
    """From the kernel's log and the card's tables."""

    def setUp(self) -> None:
        """Note where the log stands."""
        self.since = last_sequence()

    def tearDown(self) -> None:
        """Leave a loaded driver, whatever happened."""
        if not all(os.path.exists(device) for device in DEVICES):
            load()

    def assert_silent(self, since: int) -> None:
        """Fail when the kernel complained, or the card met an error of its own."""
        self.assertEqual(kernel_log.complaints(since), [])
        self.assertEqual([summary['internal_errors'] for summary in each('summary')],
                         [0] * FUNCTIONS)

    def test_probe(self) -> None:
        """Since power-on, nothing but information."""
        self.assert_silent(0)

    def test_nothing_failed(self) -> None:
        """The commands that the driver issues at probe all succeed, but for those by which it asks
        whether they exist."""
        self.assertEqual([summary['failures'] for summary in each('summary')], [{}] * FUNCTIONS)

    def test_reload(self) -> None:
        """After rmmod the card holds no object and no page; after modprobe the device is back.
        Three times."""
        before = [len(objects['eq']) for objects in each('objects')]
        for _ in range(3):
            unload()
            self.assertEqual(each('objects'), [{}] * FUNCTIONS)
            self.assertEqual(each('pages'), [0] * FUNCTIONS)
            load()
            self.assertEqual([len(objects['eq']) for objects in each('objects')], before)
        self.assert_silent(self.since)

    def test_function_level_reset(self) -> None:
        """A reset of the function, between two drivers as mlx5_core has no handler for one under
        it, leaves nothing behind."""
        device = pci_device()
        driver = Path(os.path.realpath(device / 'driver'))
        resets = [summary['resets'] for summary in each('summary')]
        (driver / 'unbind').write_text(device.name)
        (device / 'reset').write_text('1')
        self.assertEqual([summary['resets'] for summary in each('summary')],
                         [resets[0] + 1, *resets[1:]])
        self.assertEqual(control.call('objects'), {})
        (driver / 'bind').write_text(device.name)
        use_port()
        self.assert_silent(self.since)

    def test_unbind_bind(self) -> None:
        """The driver lets go of the function and takes it again."""
        device = pci_device()
        driver = Path(os.path.realpath(device / 'driver'))
        (driver / 'unbind').write_text(device.name)
        self.assertFalse(os.path.exists(DEVICES[0]))
        self.assertEqual(control.call('objects'), {})
        self.assertEqual(control.call('pages'), 0)
        (driver / 'bind').write_text(device.name)
        use_port()
        self.assert_silent(self.since)
