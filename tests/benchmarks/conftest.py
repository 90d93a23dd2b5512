# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What a report of the benchmarks says of the machine, beside what pytest-benchmark knows."""

from __future__ import annotations

import contextlib
from typing import Any

from mlx5emu.vm.machine import Machine, MachineError


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Add the versions of what was measured."""
    with contextlib.suppress(MachineError):
        machine_info['rdma_core'] = Machine.load().rdma_core_version
