# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What an address means: umems, MEMIC, SW ICM and memory keys, with the signatures and encryption
that a key may add. The doors are :func:`mkey.resolve`, from a key to runs of memory, and
:mod:`transfer`, from runs to runs. Each file has the commands of its objects.
"""
