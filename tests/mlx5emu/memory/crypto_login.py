# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Crypto login: a session in which a user context may bring and query wrapped keys."""
import hmac
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.general_object import object_type
from ..firmware.status import Status
from ..firmware.tables import Object
from . import aes
from .commissioning import CREDENTIALS, IMPORT_KEKS

if TYPE_CHECKING:
    from ..card import Card

CRYPTO_LOGIN = 0x1f
#: Bytes of a wrapped credential.
WRAPPED_CREDENTIAL = 48
#: Bit of wrapped_import_method: keys of AES-XTS come wrapped.
WRAPPED_AES_XTS = 0x4
STATE_VALID = 0

prm.declare('crypto_login_obj', [('modify_field_select', 64), ('@', 0x84), ('state', 4),
                                 ('credential_pointer', 24), ('', 8),
                                 ('session_import_kek_ptr', 24), ('@', 0x200),
                                 ('credential', 8, WRAPPED_CREDENTIAL)], size=0x800)


class CryptoLogin(Object):
    """A session: which credential opened it, and which import KEK its keys are wrapped by."""

    def __init__(self, credential: int, kek: int) -> None:
        super().__init__()
        self.credential, self.kek = credential, kek

    def describe(self, view: prm.View) -> None:
        """Fill the layout; the credential is not told."""
        view.set(state=STATE_VALID, credential_pointer=self.credential,
                 session_import_kek_ptr=self.kek)


def wants_wrapped(card: 'Card') -> bool:
    """Whether the card takes keys only wrapped; else it takes them only in plaintext."""
    return bool(card.caps.page('crypto')['wrapped_import_method'] & WRAPPED_AES_XTS)


def session(card: 'Card', uid: int) -> CryptoLogin | None:
    """The session of a user context."""
    for obj in card.general_objects.owned_by(uid):
        if isinstance(obj, CryptoLogin):
            return obj
    return None


@object_type(CRYPTO_LOGIN, 'crypto_login_obj')
def create_crypto_login(card: 'Card', view: prm.View, uid: int) -> CryptoLogin:
    """Check the credential against the one that the card keeps; a user context has one session at a
    time."""
    if not wants_wrapped(card):
        raise Status('BAD_PARAM', 'keys come in plaintext: there is nothing to log in to')
    credential, kek = view['credential_pointer'], view['session_import_kek_ptr']
    if credential >= len(CREDENTIALS) or kek >= len(IMPORT_KEKS):
        raise Status('BAD_PARAM', 'no such credential or import KEK')
    if session(card, uid) is not None:
        raise Status('EXCEED_LIM', 'a session is open')
    try:
        given = aes.unwrap(IMPORT_KEKS[kek], view['credential'])
    except aes.WrapError as e:
        raise Status('BAD_PARAM', f'credential: {e}') from e
    if not hmac.compare_digest(given, CREDENTIALS[credential]):
        raise Status('BAD_PARAM', 'credential')
    return CryptoLogin(credential, kek)
