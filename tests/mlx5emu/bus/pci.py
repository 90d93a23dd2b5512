# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The PCI function: configuration space, and the initialization segment at the start of BAR0."""
import struct
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.caps import MEMIC_SIZE, MEMIC_START
from . import bar0
from .cmdq import LOG_SIZE, LOG_STRIDE, CommandQueue

if TYPE_CHECKING:
    from ..card import Card

CONFIG_SIZE = 4096

VENDOR_ID = 0x15b3
PM_CAP, PCIE_CAP, MSIX_CAP, VSC_CAP = 0x40, 0x60, 0x9c, 0xc0
COMMAND, DEVCTL = 0x04, PCIE_CAP + 8
FLR = 1 << 15

# The initialization segment: device.h's struct mlx5_init_seg, of which mlx5_ifc.h describes only
# part.
prm.declare('init_seg', [('fw_rev_minor', 16), ('fw_rev_major', 16), ('cmd_interface_rev', 16),
                         ('fw_rev_subminor', 16), ('@', 0x10 * 8), ('cmdq_addr_h', 32),
                         ('cmdq_addr_l_sz', 32), ('cmd_dbell', 32), ('@', 0x1fc * 8),
                         ('initializing', 32), ('@', 0x230 * 8), ('health_fw_ver', 32),
                         ('health_hw_id', 32), ('health_syndrome_dw', 64), ('@', 0xff8 * 8),
                         ('cmd_exec_to', 32), ('cmd_q_init_to', 32), ('internal_timer', 64),
                         ('', 64), ('health_counter', 32), ('@', 0x1040 * 8), ('real_time_h', 32),
                         ('real_time_l', 32), ('@', 0x2000 * 8), ('ieee1588_clk', 64),
                         ('ieee1588_clk_type', 32), ('clr_intx', 32)])
CMDIF_REV = 5
#: From here on the segment changes by itself: timers and the health counter.
TIMERS = 0x1000
#: What the driver writes to the nic_interface bits to disable the function or to have it reset.
NIC_DISABLED, NIC_SW_RESET = 1, 7


class Config:
    """Configuration space: type 0 header, power management, PCI Express with FLR, MSI-X, the
    vendor's gateway capability."""

    def __init__(self, device_id: int, vectors: int, ib: bool) -> None:
        self.device_id, self.vectors, self.ib = device_id, vectors, ib
        self.counter = 0
        self.reset()

    def reset(self) -> None:
        """Power-on values."""
        c = self.data = bytearray(CONFIG_SIZE)
        w = self.writable = bytearray(CONFIG_SIZE)
        # Class: network controller, Infiniband or Ethernet.
        struct.pack_into('<HHHHBBBB', c, 0, VENDOR_ID, self.device_id, 0, 0x10, 0, 0,
                         7 if self.ib else 0, 2)
        struct.pack_into('<I', c, 0x10, 0xc)                            # BAR0: 64-bit, prefetchable
        struct.pack_into('<Q', w, 0x10, (1 << 64) - bar0.SIZE)
        struct.pack_into('<HH', c, 0x2c, VENDOR_ID, 0x0007)
        c[0x34] = PM_CAP
        struct.pack_into('<H', w, COMMAND, 0x0546)
        # cache line size, interrupt line: scratch
        w[0x0c] = w[0x3c] = 0xff
        # Power management: no PME, soft reset keeps the function's state.
        struct.pack_into('<BBHI', c, PM_CAP, 0x01, PCIE_CAP, 0x0003, 0x8)
        w[PM_CAP + 4] = 0x03
        # PCI Express endpoint, version 2; FLR in the device capabilities; 512-byte payloads; 16
        # GT/s x16.
        struct.pack_into('<BBHIHH', c, PCIE_CAP, 0x10, MSIX_CAP, 0x0002, 0x10008002, 0x2810, 0)
        struct.pack_into('<IHH', c, PCIE_CAP + 0x0c, 0x00000104, 0, 0x1104)
        struct.pack_into('<IHHIHH', c, PCIE_CAP + 0x24, 0x00000812, 0, 0, 0x1e, 4, 0)
        struct.pack_into('<H', w, DEVCTL, 0x7fff)
        struct.pack_into('<H', w, PCIE_CAP + 0x10, 0x0fff)
        struct.pack_into('<H', w, PCIE_CAP + 0x28, 0xffff)
        struct.pack_into('<H', w, PCIE_CAP + 0x30, 0xffff)
        # MSI-X, table and pending bits in BAR0.
        struct.pack_into('<BBHII', c, MSIX_CAP, 0x11, VSC_CAP, self.vectors - 1, bar0.MSIX_TABLE,
                         bar0.MSIX_PBA)
        struct.pack_into('<H', w, MSIX_CAP + 2, 0xc000)
        # The vendor's gateway: a lock and address spaces, of which this card has none.
        struct.pack_into('<BBB', c, VSC_CAP, 0x09, 0, 0x18)

    def read(self, offset: int, n: int) -> bytes:
        """``n`` bytes; the caller has checked the range."""
        if offset <= VSC_CAP + 8 < offset + n:
            self.counter += 1
            struct.pack_into('<I', self.data, VSC_CAP + 8, self.counter & 0xffffffff)
        return bytes(self.data[offset:offset + n])

    def write(self, offset: int, data: bytes) -> bool:
        """Write what is writable.

        :return: True when the write asks for a function-level reset.
        """
        for k, byte in enumerate(data, offset):
            mask = self.writable[k]
            self.data[k] = self.data[k] & ~mask | byte & mask
        at = VSC_CAP + 12 - offset
        if 0 <= at and len(data) - at >= 4:
            # Gateway semaphore: taken by writing the counter while free, freed by writing zero.
            value = data[at:at + 4]
            if value == b'\0\0\0\0' or self.data[VSC_CAP + 12:VSC_CAP + 16] == b'\0\0\0\0':
                self.data[VSC_CAP + 12:VSC_CAP + 16] = value
        at = VSC_CAP + 4 - offset
        if 0 <= at and len(data) - at >= 2:
            # status stays 0: no such space
            self.data[VSC_CAP + 4:VSC_CAP + 6] = data[at:at + 2]
        at = DEVCTL + 1 - offset
        return 0 <= at < len(data) and bool(data[at] & FLR >> 8)

    @property
    def bus_master(self) -> bool:
        """Whether the function may use DMA."""
        return bool(self.data[COMMAND] & 4)

    @property
    def bar0(self) -> int | None:
        """Bus address of BAR0, None while it does not decode or has not been placed."""
        address = struct.unpack_from('<Q', self.data, 0x10)[0] & -16
        return address if self.data[COMMAND] & 2 and 0 < address < (1 << 64) - bar0.SIZE else None


class Function:
    """The PCI function around a card: what a vfio-user client sees.

    ``regions`` {index: size in bytes}, ``irqs`` {index: count}; ``mappings`` {region: (fd,
    [(offset, size), ...])} names the parts of a region that the client may map.
    """

    BAR0, CONFIG = 0, 7

    def __init__(self, card: 'Card') -> None:
        self.card = card
        self.regions = {self.BAR0: bar0.SIZE, self.CONFIG: CONFIG_SIZE}
        self.irqs = {2: card.vectors}
        self.mappings = {self.BAR0: (card.memic.fd, [(MEMIC_START, MEMIC_SIZE)])}
        self.config = Config(card.profile.device_id, card.vectors, card.link_layer == 'ib')
        #: Where the card's DMA has been told that BAR0 is.
        self.placed: int | None = None
        self.bar0 = bar0.Bar0(card, self._segment_read, self._segment_write)
        self._fresh()

    def _fresh(self) -> None:
        self.cmdq = CommandQueue(self.card)
        self.bar0.reset()
        self.iseg = prm.new('init_seg')
        p = self.card.profile
        s = self.iseg
        s.set(fw_rev_minor=p.fw_minor, fw_rev_major=p.fw_major, fw_rev_subminor=p.fw_subminor,
              cmd_interface_rev=CMDIF_REV, cmdq_addr_l_sz=LOG_SIZE << 4 | LOG_STRIDE,
              health_fw_ver=p.fw_major << 24 | p.fw_minor << 16 | p.fw_subminor, health_hw_id=0x216)

    def reset(self) -> None:
        """Function-level reset: configuration space, initialization segment and the card."""
        self.card.reset()
        self.config.reset()
        self._place()
        self._fresh()

    def _place(self) -> None:
        # MEMIC is all of the BAR that the card's own DMA reaches: doorbells and operations are no
        # memory.
        bar = self.config.bar0
        if bar != self.placed:
            self.placed = bar
            self.card.dma.place_own(None if bar is None else bar + MEMIC_START,
                                    self.card.memic.fd, MEMIC_START, MEMIC_SIZE)

    # ---- regions

    def read(self, region: int, offset: int, n: int) -> bytes:
        """``n`` bytes of a region; what holds nothing reads as zero.

        :raises IndexError: outside the region.
        """
        size = self.regions.get(region, 0)
        if offset > size or n > size - offset:
            raise IndexError(f'region {region}: {offset:#x}+{n:#x} is outside {size:#x}')
        if region == self.CONFIG:
            return self.config.read(offset, n)
        return self.bar0.read(offset, n)

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Write to a region; what holds nothing ignores it.

        :raises IndexError: outside the region.
        """
        size, n = self.regions.get(region, 0), len(data)
        if offset > size or n > size - offset:
            raise IndexError(f'region {region}: {offset:#x}+{n:#x} is outside {size:#x}')
        if region == self.CONFIG:
            if self.config.write(offset, data):
                self.reset()
            self._place()
        else:
            self.bar0.write(offset, data)

    # ---- initialization segment

    def _segment_read(self, offset: int, n: int) -> bytes:
        if offset + n > TIMERS:
            self._refresh()
        return bytes(self.iseg.buf[offset:offset + n])

    def _refresh(self) -> None:
        now = self.card.now()
        s = self.iseg
        s['internal_timer'] = self.card.timestamp(now)
        s['real_time_h'], s['real_time_l'] = divmod(now, 10**9)
        s['health_counter'] = now // 10**6 & 0xffffff

    def _segment_write(self, offset: int, data: bytes) -> None:
        s = self.iseg
        value = int.from_bytes(data[:4], 'big')
        if len(data) == 8 and offset == 0x10:
            self._segment_write(0x10, data[:4])
            self._segment_write(0x14, data[4:])
        elif len(data) != 4:
            return
        elif offset == 0x10:
            s['cmdq_addr_h'] = value
        elif offset == 0x14:
            interface = value >> 8 & 7
            if interface == NIC_SW_RESET:
                self.card.reset()
                self._fresh()
                return
            s['cmdq_addr_l_sz'] = value & 0xfffff700 | LOG_SIZE << 4 | LOG_STRIDE
            self.cmdq.address = s['cmdq_addr_h'] << 32 | value & 0xfffff000
        elif offset == 0x18:
            if self.config.bus_master and s['cmdq_addr_l_sz'] >> 8 & 7 != NIC_DISABLED:
                self.cmdq.doorbell(value)
