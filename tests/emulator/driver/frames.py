# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Frames of packets, as tests send and expect them."""
import struct

from mlx5emu.steering import packet

MAC_A, MAC_B = bytes.fromhex('0250000000a1'), bytes.fromhex('0250000000b2')


def ipv4(
    body: bytes, protocol: int = 17, source: bytes = bytes([1, 1, 1,
                                                            1]), destination: bytes = bytes([
                                                                2, 2, 2, 2])
) -> bytes:
    """A packet whose checksum is right."""
    head = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 20 + len(body), 7, 0, 64, protocol, 0, source,
                       destination)
    check = ~packet.ones_sum(head) & 0xffff
    return head[:10] + check.to_bytes(2, 'big') + head[12:] + body


def udp(body: bytes, sport: int = 1234, dport: int = 5678) -> bytes:
    """A datagram without a checksum."""
    return struct.pack('>HHHH', sport, dport, 8 + len(body), 0) + body


def ether(body: bytes, ethertype: int = 0x800, source: bytes = MAC_A, destination: bytes = MAC_B,
          tags: bytes = b'') -> bytes:
    """A frame."""
    return destination + source + tags + ethertype.to_bytes(2, 'big') + body


PLAIN = ether(ipv4(udp(b'data of a datagram')))


IPV6 = ether(b'\x61\x23\x45\x67\x00\x1c\x06\x40' + bytes(range(16)) + bytes(range(16, 32))
             + bytes.fromhex('1111222201020304050607085112abcd00000009') + b'tcp data', 0x86dd)
VXLAN = ether(ipv4(udp(bytes.fromhex('0800000012345600') + PLAIN, dport=4789)))
