# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Which tests run where: those of the extension and of the driver in a guest with the emulated
card, the others here."""

from __future__ import annotations

pytest_plugins = ['mlx5emu.vm.pytest_card']
