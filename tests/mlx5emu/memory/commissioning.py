# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What a crypto officer put into the card before it was sold: an import KEK and a credential, the
only ones, number 0.

The card is for tests, so they are no secret; :func:`test_details` writes them down as rdma-core's
crypto tests want them.
"""
import json
import struct
from typing import Any

from . import aes

#: Import KEKs and credentials by number.
IMPORT_KEKS = (bytes.fromhex('b7a1c04e5d2f93688e1577d6f03a9c42'),)
CREDENTIALS = (bytes.fromhex(
    '51c3f8a9027be64d9f10b85e2ad4c76318ef5b0a96d27c41e3b5f6088c19da724e60aa35bd97f10c'), )

#: Keys of the tests: key of the data, key of the tweak.
_KEY_128 = bytes.fromhex('0f1e2d3c4b5a69788796a5b4c3d2e1f0112233445566778899aabbccddeeff00')
_KEY_256 = bytes.fromhex('603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4'
                         'f69f2445df4f9b17ad2b417be66c3710aa4c81f2d0e5b6973c184f7e2d90a365')
_UNIT = 512


def test_details() -> str:
    """The file that rdma-core's test_mlx5_crypto reads: JSON, 64-bit integers big-endian, plaintext
    keys as the host's 32-bit ones.

    :raises Status: NO_RES when the machine has no ciphers.
    """
    kek = IMPORT_KEKS[0]

    def longs(raw: bytes) -> list[int]:
        return list(struct.unpack(f'!{len(raw) // 8}Q', raw))

    def encrypted(n: int) -> list[int]:
        return longs(aes.xts(_KEY_128, True, _UNIT, 0, b'c' * n))
    details: dict[str, Any] = {
        'credential': longs(aes.wrap(kek, CREDENTIALS[0])),
        'wrapped_key': longs(aes.wrap(kek, _KEY_128)),
        'wrapped_256_bits_key': longs(aes.wrap(kek, _KEY_256)),
        'plaintext_key': list(struct.unpack('8I', _KEY_128)),
        'plaintext_256_bits_key': list(struct.unpack('16I', _KEY_256)),
        'encrypted_data_for_512_c': encrypted(512),
        'encrypted_data_for_1024_c': encrypted(1024),
    }
    return json.dumps([details])
