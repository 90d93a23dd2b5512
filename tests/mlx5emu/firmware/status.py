# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Command status: how a firmware command says no."""
import zlib

#: Status codes of the PRM by name.
CODES = {
    'OK': 0x00,
    'INT_ERR': 0x01,
    'BAD_OP': 0x02,
    'BAD_PARAM': 0x03,
    'BAD_SYS_STATE': 0x04,
    'BAD_RES': 0x05,
    'RES_BUSY': 0x06,
    'NOT_READY': 0x07,
    'EXCEED_LIM': 0x08,
    'BAD_RES_STATE': 0x09,
    'BAD_INDEX': 0x0a,
    'NO_RES': 0x0f,
    'BAD_QP_STATE': 0x10,
    'BAD_PKT': 0x30,
    'BAD_SIZE_OUTS_CQES': 0x40,
    'BAD_INP_LEN': 0x50,
    'BAD_OUTP_LEN': 0x51, }
NAMES = {v: k for k, v in CODES.items()}


class Status(Exception):
    """Ends a command with a status other than OK.

    :param name: a key of :data:`CODES`, or the number.
    :param reason: the syndrome (int), or words, from which a stable 24-bit syndrome is made and
        which the log prints.
    """

    def __init__(self, name: str | int, reason: str | int = '') -> None:
        self.code = CODES[name] if isinstance(name, str) else name & 0xff
        self.name = NAMES.get(self.code, f'{self.code:#x}')
        self.reason = reason if isinstance(reason, str) else f'{reason:#x}'
        self.syndrome = (zlib.crc32(reason.encode()) & 0xffffff or 1) if isinstance(
            reason, str) else reason & 0xffffffff
        super().__init__(f'{self.name}: {self.reason}')
