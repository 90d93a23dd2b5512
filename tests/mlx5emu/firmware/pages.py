# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Firmware pages: QUERY_PAGES, MANAGE_PAGES, and the page request event's count."""
from typing import TYPE_CHECKING

from .dispatch import Command, command
from .status import Status

if TYPE_CHECKING:
    from ..card import Card

BOOT_PAGES, INIT_PAGES = 8, 64
#: Most pages the card takes: it never asks for more than a few.
MAX_PAGES = 1 << 16


class Pages:
    """The 4 KiB pages that the driver has lent to the firmware, by bus address."""

    def __init__(self) -> None:
        self.held: dict[int, None] = {}

    @staticmethod
    def wanted() -> int:
        """Pages that INIT_HCA needs."""
        return BOOT_PAGES + INIT_PAGES


@command('QUERY_PAGES', state='enabled', op_mods=(1, 2, 3), kernel=True)
def query_pages(card: 'Card', cmd: Command) -> None:
    """How many pages the firmware wants: op_mod 1 to boot, 2 to initialize, 3 in regular
    operation."""
    want = {1: BOOT_PAGES, 2: BOOT_PAGES + INIT_PAGES, 3: len(card.pages.held)}[cmd.op_mod] - len(
        card.pages.held)
    cmd.out['num_pages'] = max(0, want)


@command('MANAGE_PAGES', state='enabled', op_mods=(0, 1, 2), kernel=True)
def manage_pages(card: 'Card', cmd: Command) -> None:
    """Op_mod 0: the driver cannot give; 1: it gives pages; 2: it takes pages back and gets their
    addresses."""
    held, n = card.pages.held, cmd.inp['input_num_entries']
    if cmd.op_mod == 0:
        return
    if cmd.op_mod == 1:
        given = cmd.inp.array('pas', limit=n)
        if len(given) < n:
            raise Status('BAD_INP_LEN', 'fewer pages than input_num_entries')
        if any(p & 0xfff for p in given) or len(set(given)) < n or any(p in held for p in given):
            raise Status('BAD_PARAM', 'page is not aligned or already held')
        if n > MAX_PAGES - len(held):
            raise Status('EXCEED_LIM', 'too many pages')
        held.update(dict.fromkeys(given))
        cmd.out['output_num_entries'] = n
    else:
        room = max(0, cmd.out_len - 16) // 8
        if n > room:
            raise Status('BAD_OUTP_LEN', 'no room for the pages')
        back = list(held)[-n:] if n else []
        for k, page in enumerate(back):
            del held[page]
            cmd.out[f'pas[{k}]'] = page
        cmd.out['output_num_entries'] = len(back)
