# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The virtual machine: QEMU with a stock kernel and an initial file system made on the spot, in
which one command runs with the host's files at the same paths. What runs it is :func:`run.run`,
which makes the cards, serves them and gives back the command's exit status. Inside the guest,
:mod:`control` asks the card what it holds and makes it fail.
"""
