# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""An emulated ConnectX function below the real Linux mlx5 driver.

Its folders follow the way of the data, from top to bottom: vm, bus, datapath, queues, memory,
steering, firmware, prm; an import goes down or stays. On top, ``__main__`` is the command line and
``card`` the whole state of a function; ``dma``, guest memory by bus address, is for everybody.
"""
