# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
Two commands by their byte offsets, for the demo, which runs where no kernel header is: fields are
big-endian and lie where the PRM has them. Scripts have mlx5_ifc.py, by the names of fields.

A field is named by its byte offset in the mailbox, the number of bits to its right in that 32-bit
word, and its width.
"""
import struct

OPCODE_CREATE_MKEY = 0x200
OPCODE_CREATE_CQ = 0x400

#: Bytes of an answer that has nothing but status, syndrome and a number.
OUT_LENGTH = 16


class Mailbox:
    """A command on its way to the device."""

    def __init__(self, opcode: int, length: int) -> None:
        """
        :param opcode: What to do
        :param length: Length of the command in bytes
        """
        self.data = bytearray(length)
        struct.pack_into('>H', self.data, 0, opcode)

    def set(self, offset: int, value: int, shift: int = 0) -> 'Mailbox':
        """
        Put a value into a 32-bit word, beside what is there.
        :param offset: Byte offset of the word
        :param value: The value
        :param shift: How many bits are to its right
        """
        word, = struct.unpack_from('>I', self.data, offset)
        struct.pack_into('>I', self.data, offset, word | value << shift)
        return self

    def __bytes__(self) -> bytes:
        return bytes(self.data)


def number_of(answer: bytes) -> int:
    """The number of the object that a command made: 24 bits behind status and syndrome."""
    return int.from_bytes(answer[9:12], 'big')


def create_cq(umem_id: int, dbr_umem_id: int, log_size: int, uar_page: int, eqn: int,
              dbr_offset: int = 0) -> Mailbox:
    """
    CREATE_CQ with entries and doorbell record in umems.
    :param umem_id: Umem of the entries, 64 bytes each, from its start
    :param dbr_umem_id: Umem of the doorbell record, 8 bytes
    :param log_size: log2 of the number of entries
    :param uar_page: Page id of the UAR that arms it
    :param eqn: Event queue
    :param dbr_offset: Where in its umem the doorbell record is, in bytes
    """
    cqc = 0x10
    box = Mailbox(OPCODE_CREATE_CQ, 0x110)
    box.set(cqc, 1, shift=25)                                           # dbr_umem_valid
    box.set(cqc + 0x04, dbr_umem_id)
    box.set(cqc + 0x0c, log_size, shift=24).set(cqc + 0x0c, uar_page)
    box.set(cqc + 0x14, eqn)
    box.set(cqc + 0x3c, dbr_offset)
    box.set(0x58, umem_id)
    box.set(0x5c, 1, shift=31)                                          # cq_umem_valid
    return box


def create_mkey(umem_id: int, address: int, length: int, pdn: int,
                local_write: bool = True) -> Mailbox:
    """
    CREATE_MKEY over the memory of a umem.
    :param umem_id: The umem, from its start
    :param address: Address by which work requests name its first byte
    :param length: Its bytes
    :param pdn: Protection domain
    :param local_write: Whether receives may write to it
    """
    mkc = 0x10
    box = Mailbox(OPCODE_CREATE_MKEY, 0x110)
    box.set(0x0c, 1, shift=30)                                          # mkey_umem_valid
    # MTT, local read, local write
    box.set(mkc, 1, shift=8).set(mkc, 1, shift=10).set(mkc, int(local_write), shift=11)
    box.set(mkc + 0x04, 0xffffff, shift=8)                              # any queue pair
    box.set(mkc + 0x0c, pdn)
    box.set(mkc + 0x10, address >> 32).set(mkc + 0x14, address & 0xffffffff)
    box.set(mkc + 0x18, length >> 32).set(mkc + 0x1c, length & 0xffffffff)
    # Two 8-byte entries, one a 4 KiB page, in each octword.
    octwords = (((address & 4095) + length + 4095) // 4096 + 1) // 2
    box.set(mkc + 0x34, octwords)
    box.set(mkc + 0x38, 12)                                             # pages of 4 KiB
    box.set(0x60, octwords)
    box.set(0x64, umem_id)
    return box
