# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Data encryption keys (DEKs): general objects that memory keys name, and what they do to a stream
of data."""
import hmac
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.general_object import object_type
from ..firmware.status import Status
from ..firmware.tables import Object
from . import aes
from .bsf import ENCRYPTS_ON_TX, Crypto
from .commissioning import IMPORT_KEKS
from .crypto_login import session, wants_wrapped
from .mkey import AccessError

if TYPE_CHECKING:
    from ..card import Card

DEK = 0xc
PURPOSE_AES_XTS = 3
#: Bytes of the two keys together by key_size, of a keytag, and what wrapping adds.
KEY_BYTES = {0: 32, 1: 64}
KEYTAG, WRAPPING = 8, 8
STATE_READY = 0

# The kernel's header has a longer one, with a second way to wrap; user contexts give this one.
prm.declare('data_encryption_key', [('modify_field_select', 64), ('state', 8), ('sw_wrapped', 1),
                                    ('', 11), ('key_size', 4), ('has_keytag', 1), ('', 3),
                                    ('key_purpose', 4), ('', 8), ('pd', 24), ('@', 0x180),
                                    ('opaque', 64), ('@', 0x200), ('key', 8, 128)], size=0x800)


class EncryptionKey(Object):
    """A DEK; the key itself is never told again."""

    def __init__(self, card: 'Card', view: prm.View, key: bytes, keytag: bytes | None,
                 wrapped: bool) -> None:
        super().__init__()
        self.card, self.pd, self.size, self.opaque = card, view['pd'], view['key_size'], view[
            'opaque']
        self.key, self.keytag, self.wrapped = key, keytag, wrapped

    def describe(self, view: prm.View) -> None:
        """Fill the layout.

        :raises Status: BAD_RES_STATE for a key that came wrapped, when its owner has no session.
        """
        if self.wrapped and session(self.card, self.uid) is None:
            raise Status('BAD_RES_STATE', 'no crypto login')
        view.set(state=STATE_READY, key_size=self.size, has_keytag=int(self.keytag is not None),
                 key_purpose=PURPOSE_AES_XTS, pd=self.pd, opaque=self.opaque)


@object_type(DEK, 'data_encryption_key')
def create_encryption_key(card: 'Card', view: prm.View, uid: int) -> EncryptionKey:
    """A key for AES-XTS, wrapped by the import KEK of the session, or in plaintext where the card
    takes them so."""
    if view['key_purpose'] != PURPOSE_AES_XTS or view['key_size'] not in KEY_BYTES or view[
            'sw_wrapped']:
        raise Status('BAD_PARAM', 'purpose or size of the key')
    aes.require()
    pd = card.pds.get(view['pd'], uid)
    if sum(isinstance(o, EncryptionKey)
           for o in card.general_objects) >> card.caps.page('crypto')['log_max_num_deks']:
        raise Status('EXCEED_LIM', 'encryption keys')
    size = KEY_BYTES[view['key_size']] + (KEYTAG if view['has_keytag'] else 0)
    wrapped = wants_wrapped(card)
    if wrapped:
        login = session(card, uid)
        if login is None:
            raise Status('BAD_PARAM', 'no crypto login')
        try:
            secret = aes.unwrap(IMPORT_KEKS[login.kek], view['key'][:size + WRAPPING])
        except aes.WrapError as e:
            raise Status('BAD_PARAM', f'key: {e}') from e
    else:
        secret = view['key'][:size]
    key, keytag = secret[:KEY_BYTES[view['key_size']]], secret[KEY_BYTES[view['key_size']]:]
    half = len(key) // 2
    if hmac.compare_digest(key[:half], key[half:]):
        raise Status('BAD_PARAM', 'the two keys of AES-XTS are the same')
    dek = EncryptionKey(card, view, key, keytag or None, wrapped)
    dek.use(pd)
    return dek


def find(card: 'Card', pd: int, crypto: Crypto) -> EncryptionKey:
    """The DEK that a format names.

    :raises AccessError: not there, of another protection domain, or its keytag is another.
    """
    dek = card.general_objects.find(crypto.dek)
    if not isinstance(dek, EncryptionKey) or dek.pd != pd:
        raise AccessError('no such encryption key')
    if dek.keytag is not None and not hmac.compare_digest(dek.keytag, crypto.keytag):
        raise AccessError('keytag')
    return dek


def crypt(card: 'Card', dek: EncryptionKey, crypto: Crypto, stream: bytes, first: int,
          sending: bool) -> bytes:
    """Encrypt or decrypt a stream.

    :param first: index of its first data unit under the memory key.
    :param sending: from memory to wire.
    """
    # A card that does many units in one go has the tweak with the greatest byte first.
    tweak = int.from_bytes(
        crypto.tweak, 'big' if card.caps.get('aes_xts_multi_block_be_tweak') else 'little') + first
    return aes.xts(dek.key, sending == (crypto.order in ENCRYPTS_ON_TX), crypto.unit, tweak, stream)
