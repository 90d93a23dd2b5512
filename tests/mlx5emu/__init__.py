# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""An emulated ConnectX function below the real Linux mlx5 driver: firmware commands, doorbells, DMA
and events."""
