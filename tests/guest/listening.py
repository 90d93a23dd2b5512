# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Who waits for connections: at a TCP port, or with the connection manager, as the kernel tells."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from pathlib import Path

#: In /proc/net/tcp.
TCP_LISTEN = '0A'
#: Of <rdma/rdma_netlink.h>, which Python has no module for.
NETLINK_RDMA, NLDEV = 20, 5
DEVICES, CM_IDS = 1, 11
DEVICE_INDEX, STATE, PID, CM_ID_TABLE = 1, 27, 28, 30
REQUEST_DUMP, DONE, ERROR = 0x301, 3, 2
#: The kernel's state of a connection manager's identifier.
CM_LISTEN = 8


def tcp(number: int) -> bool:
    """Tell whether somebody listens at a TCP port."""
    lines = [
        line.split() for name in ('tcp', 'tcp6')
        for line in Path(f'/proc/net/{name}').read_text().splitlines()[1:]]
    return any(fields[3] == TCP_LISTEN and int(fields[1].rpartition(':')[2], 16) == number
               for fields in lines)


def connection_manager(pid: int) -> bool:
    """Tell whether a process listens with the connection manager, on an address of a device."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_RDMA) as link:
        indexes = [dict(attributes(device))[DEVICE_INDEX] for device in dump(link, DEVICES)]
        for index in indexes:
            for answer in dump(link, CM_IDS, struct.pack('HHI', 8, DEVICE_INDEX,
                                                         number(index))):
                for _, entry in attributes(dict(attributes(answer)).get(CM_ID_TABLE, b'')):
                    about = dict(attributes(entry))
                    if number(about.get(PID, b'')) == pid and number(about[STATE]) == CM_LISTEN:
                        return True
    return False


def number(value: bytes) -> int:
    """Return the number that an attribute has."""
    return int.from_bytes(value, 'little')


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and value of each attribute."""
    while len(data) >= 4:
        length, kind = struct.unpack_from('HH', data)
        yield kind & 0x3fff, data[4:length]
        data = data[length + 3 & ~3:]


def dump(link: socket.socket, what: int, filters: bytes = b'') -> list[bytes]:
    """Ask for all there is of something; return what each message of the answer has."""
    link.send(struct.pack('IHHII', 16 + len(filters), NLDEV << 10 | what, REQUEST_DUMP, 0, 0) +
              filters)
    found: list[bytes] = []
    while True:
        data = link.recv(1 << 16)
        while data:
            length, kind = struct.unpack_from('IH', data)
            if kind == ERROR:
                raise OSError(-struct.unpack_from('i', data, 16)[0], 'RDMA netlink')
            if kind == DONE:
                return found
            found.append(data[16:length])
            data = data[length + 3 & ~3:]
