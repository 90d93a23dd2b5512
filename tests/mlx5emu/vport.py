# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The function's virtual port."""
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .card import Card


class Vport:
    """State of the port."""

    def __init__(self, card: 'Card') -> None:
        self.card = card
