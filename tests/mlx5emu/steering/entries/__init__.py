# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Steering table entries as software writes them into ICM, in each of the card's formats. The
door is :mod:`walk`, which leads a packet from entry to entry. Formats share :mod:`fields` and
:mod:`rewrite` and know nothing of each other.
"""
