# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Where an Ethernet port is reached."""
from typing import Tuple

from pyverbs.device import Context

PORT = 1


def gid_and_mac(ctx: Context) -> Tuple[bytes, bytes]:
    """The port's first GID, which is link-local, and the MAC address that it is made of."""
    gid = bytes.fromhex(str(ctx.query_gid(PORT, 0).gid).replace(':', ''))
    # One bit of the address is inverted in it.
    return gid, bytes([gid[8] ^ 2]) + gid[9:11] + gid[13:16]
