# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Sockets that nobody but the user who runs this can connect to."""

import os
import socket


def private_socket() -> socket.socket:
    """Return a UNIX stream socket; whatever it is bound to has mode 0600 from the first moment."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Before it has a name: the name gets these permissions.
    os.fchmod(made.fileno(), 0o600)
    return made
