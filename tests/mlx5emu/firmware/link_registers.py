# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Registers of the link that ethtool shows and sets: pause frames (PFCC), error correction (PPLM),
why a link is down (PDDR).  Kept and told; nothing on the emulated wire is paused or corrected."""
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import prm
from .registers import register
from .status import Status

if TYPE_CHECKING:
    from ..card import Card

#: Bits of error correction at 100 Gb/s: none, and Reed-Solomon RS(528,514).
FEC_NONE, FEC_RS = 1 << 0, 1 << 2
#: PDDR's page of reasons; the reason when the port was closed by a command.
TROUBLESHOOTING_PAGE, CLOSED_BY_COMMAND = 1, 1
MONITOR_OPCODE = ('page_data.pddr_troubleshooting_page.status_opcode.pddr_monitor_opcode.'
                  'monitor_opcode')


@dataclass
class LinkSettings:
    """What the registers keep, as a card has it at power-on."""
    pause_tx: int = 1
    pause_rx: int = 1
    #: Priorities with pause frames of their own, a bit for each.
    priorities_tx: int = 0
    priorities_rx: int = 0
    stall_minor: int = 0
    stall_critical: int = 0
    fec_admin: int = 0


def _chosen(mask: int, new: int, old: int) -> int:
    return new & mask | old & ~mask


@register('PFCC')
def pfcc(card: 'Card', r: prm.View, write: bool) -> None:
    """Pause frames of the whole link and of priorities, and when a device counts as stalled.  What
    a mask leaves out stays."""
    link = card.link_settings
    if write:
        link.pause_tx = link.pause_tx if r['pptx_mask_n'] else r['pptx']
        link.pause_rx = link.pause_rx if r['pprx_mask_n'] else r['pprx']
        link.priorities_tx = _chosen(r['prio_mask_tx'], r['pfctx'], link.priorities_tx)
        link.priorities_rx = _chosen(r['prio_mask_rx'], r['pfcrx'], link.priorities_rx)
        if r['minor_stall_mask']:
            link.stall_minor = r['device_stall_minor_watermark']
        if r['critical_stall_mask']:
            link.stall_critical = r['device_stall_critical_watermark']
    r.set(pptx=link.pause_tx, pprx=link.pause_rx, pfctx=link.priorities_tx,
          pfcrx=link.priorities_rx, device_stall_minor_watermark=link.stall_minor,
          device_stall_critical_watermark=link.stall_critical)


@register('PPLM')
def pplm(card: 'Card', r: prm.View, write: bool) -> None:
    """Error correction of the link's one speed: none or RS; 0 leaves the choice to the card, which
    takes RS."""
    if card.link_layer != 'eth':
        raise Status('BAD_PARAM', 'an Ethernet port has this register')
    link = card.link_settings
    if write:
        if r['fec_override_admin_100g'] not in (0, FEC_NONE, FEC_RS):
            raise Status('BAD_PARAM', 'fec_override_admin_100g')
        link.fec_admin = r['fec_override_admin_100g']
    r.set(fec_override_cap_100g=FEC_NONE | FEC_RS, fec_override_admin_100g=link.fec_admin,
          fec_mode_active=link.fec_admin or FEC_RS)


@register('PDDR', read_only=True)
def pddr(card: 'Card', r: prm.View, write: bool) -> None:
    """Why the link is down: 0 when it is up, else that it was closed by a command, the only way in
    which this one goes down."""
    if r['page_select'] != TROUBLESHOOTING_PAGE:
        raise Status('BAD_PARAM', 'no such page of PDDR')
    r[MONITOR_OPCODE] = 0 if card.vport.up else CLOSED_BY_COMMAND
