# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""AES as the card's crypto engine uses it: XTS for data, key wrap (NIST SP 800-38F) for what is
secret.

The ciphers are those of the package ``cryptography``, imported when the first key is made: a card
that is asked for no encryption works without it.
"""
import importlib
from typing import Any

from ..firmware.status import Status

_MODULES = ('ciphers', 'keywrap')


class WrapError(Exception):
    """What is wrapped was not wrapped by this key."""


def _module(name: str) -> Any:
    """A module of the package.

    :raises Status: NO_RES when the package is not installed.
    """
    try:
        return importlib.import_module(f'cryptography.hazmat.primitives.{name}')
    except ImportError as e:
        raise Status('NO_RES', f'no crypto engine: {e}') from e


def require() -> None:
    """Make sure that the ciphers are there.

    :raises Status: NO_RES when the package is not installed.
    """
    for name in _MODULES:
        _module(name)


def wrap(kek: bytes, secret: bytes) -> bytes:
    """Wrap a secret of whole 64-bit words: 8 bytes longer afterwards.

    :raises Status: NO_RES when the package is not installed.
    """
    return _module('keywrap').aes_key_wrap(kek, secret)


def unwrap(kek: bytes, wrapped: bytes) -> bytes:
    """The secret in ``wrapped``.

    :raises WrapError: another key wrapped it, or it was changed.
    :raises Status: NO_RES when the package is not installed.
    """
    keywrap = _module('keywrap')
    try:
        return keywrap.aes_key_unwrap(kek, wrapped)
    except keywrap.InvalidUnwrap:
        raise WrapError('wrapped by another key') from None


def xts(key: bytes, encrypt: bool, unit: int, tweak: int, stream: bytes) -> bytes:
    """AES-XTS of consecutive data units.

    :param key: key of the data and key of the tweak, which differ: 32 or 64 bytes.
    :param unit: bytes of a data unit; the last may be shorter, but not shorter than 16.
    :param tweak: number of the first data unit; each is one more than the one before.
    """
    ciphers = _module('ciphers')
    aes = ciphers.algorithms.AES(key)
    out = []
    for k in range(0, len(stream), unit):
        mode = ciphers.modes.XTS((tweak & (1 << 128) - 1).to_bytes(16, 'little'))
        cipher = ciphers.Cipher(aes, mode)
        engine = cipher.encryptor() if encrypt else cipher.decryptor()
        out.append(engine.update(stream[k:k + unit]) + engine.finalize())
        tweak += 1
    return b''.join(out)
