# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""AES as the card's crypto engine uses it: XTS for data, key wrap (NIST SP 800-38F) for what is
secret.

The ciphers are those of OpenSSL's libcrypto, which Python's own ssl module stands on; it is loaded
when the first key is made, by ctypes, as CPython and PyPy both have that.
"""
import ctypes
import ctypes.util
import functools
from ctypes import POINTER, byref, c_char_p, c_int, c_void_p
from typing import Any

from ..firmware.status import Status

#: Lets EVP_*Init take a cipher of key wrapping: EVP_CIPHER_CTX_FLAG_WRAP_ALLOW.
_WRAP_ALLOW = 1
#: Bytes that key wrapping adds.
_WRAP_ADDS = 8


class WrapError(Exception):
    """What is wrapped was not wrapped by this key."""


@functools.cache
def _library() -> Any:
    """libcrypto with the types of what is called.

    :raises Status: NO_RES when the machine has none.
    """
    names = ['libcrypto.so.3', 'libcrypto.so.1.1', ctypes.util.find_library('crypto')]
    for name in filter(None, names):
        try:
            library = ctypes.CDLL(name)
            break
        except OSError:
            pass
    else:
        raise Status('NO_RES', 'no crypto engine: this machine has no OpenSSL (libcrypto.so.3)')
    library.EVP_get_cipherbyname.argtypes = [c_char_p]
    library.EVP_get_cipherbyname.restype = c_void_p
    library.EVP_CIPHER_CTX_new.restype = c_void_p
    library.EVP_CIPHER_CTX_free.argtypes = [c_void_p]
    library.EVP_CIPHER_CTX_free.restype = None
    library.EVP_CIPHER_CTX_set_flags.argtypes = [c_void_p, c_int]
    library.EVP_CIPHER_CTX_set_flags.restype = None
    library.EVP_CipherInit_ex.argtypes = [c_void_p, c_void_p, c_void_p, c_char_p, c_char_p, c_int]
    library.EVP_CipherUpdate.argtypes = [c_void_p, c_void_p, POINTER(c_int), c_char_p, c_int]
    return library


def require() -> None:
    """Make sure that the ciphers are there.

    :raises Status: NO_RES when they are not.
    """
    _library()


class _Cipher:
    """One key in one direction, for any number of messages."""

    def __init__(self, name: str, key: bytes, encrypt: bool, flags: int = 0) -> None:
        self._library = library = _library()
        self._encrypt = int(encrypt)
        self._context = library.EVP_CIPHER_CTX_new()
        library.EVP_CIPHER_CTX_set_flags(self._context, flags)
        if not library.EVP_CipherInit_ex(self._context, library.EVP_get_cipherbyname(name.encode()),
                                         None, key, None, self._encrypt):
            self.close()
            raise Status('BAD_PARAM', f'OpenSSL refuses this key for {name}')

    def close(self) -> None:
        self._library.EVP_CIPHER_CTX_free(self._context)

    def message(self, data: bytes, tweak: bytes | None = None) -> bytes | None:
        """A whole message; None when it is none of this key's."""
        library, length = self._library, c_int()
        out = ctypes.create_string_buffer(len(data) + _WRAP_ADDS)
        if not (library.EVP_CipherInit_ex(self._context, None, None, None, tweak, self._encrypt) and
                library.EVP_CipherUpdate(self._context, out, byref(length), data, len(data)) > 0):
            return None
        return out.raw[:length.value]


def _wrapping(kek: bytes, data: bytes, encrypt: bool) -> bytes | None:
    cipher = _Cipher(f'id-aes{8 * len(kek)}-wrap', kek, encrypt, _WRAP_ALLOW)
    try:
        return cipher.message(data)
    finally:
        cipher.close()


def wrap(kek: bytes, secret: bytes) -> bytes:
    """Wrap a secret of whole 64-bit words: 8 bytes longer afterwards.

    :raises Status: NO_RES when the machine has no ciphers.
    """
    wrapped = _wrapping(kek, secret, True)
    if wrapped is None:
        raise ValueError(f'{len(secret)} bytes cannot be wrapped')
    return wrapped


def unwrap(kek: bytes, wrapped: bytes) -> bytes:
    """The secret in ``wrapped``.

    :raises WrapError: another key wrapped it, or it was changed.
    :raises Status: NO_RES when the machine has no ciphers.
    """
    # OpenSSL takes nothing at all for nothing wrapped.
    secret = _wrapping(kek, wrapped, False) if wrapped else None
    if secret is None:
        raise WrapError('wrapped by another key')
    return secret


def xts(key: bytes, encrypt: bool, unit: int, tweak: int, stream: bytes) -> bytes:
    """AES-XTS of consecutive data units.

    :param key: key of the data and key of the tweak, which differ: 32 or 64 bytes.
    :param unit: bytes of a data unit; the last may be shorter, but not shorter than 16.
    :param tweak: number of the first data unit; each is one more than the one before.
    """
    cipher = _Cipher(f'aes-{4 * len(key)}-xts', key, encrypt)
    try:
        out = []
        for k in range(0, len(stream), unit):
            number = (tweak & (1 << 128) - 1).to_bytes(16, 'little')
            done = cipher.message(stream[k:k + unit], number)
            if done is None:
                raise ValueError(f'a data unit of {len(stream) - k} bytes is shorter than 16')
            out.append(done)
            tweak += 1
        return b''.join(out)
    finally:
        cipher.close()
