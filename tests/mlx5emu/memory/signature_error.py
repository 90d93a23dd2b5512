# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Signatures that do not match: which part, the CQE that tells of it, and the send queue that stops
for it."""
from typing import TYPE_CHECKING, NamedTuple

from ..prm.wqe import SIG_ERROR_CQE, CqeOp
from .bsf import Domain

if TYPE_CHECKING:
    from ..card import Card
    from ..queues.queue import Queue
    from .mkey import Mkey

#: Syndrome bits: the part that is wrong; one is told, in this order.
BAD_GUARD, BAD_APP_TAG, BAD_REF_TAG = 1 << 13, 1 << 12, 1 << 11
WIRE, MEMORY = 0, 1
_BLOCK = 0


class SignatureError(NamedTuple):
    """The first wrong signature of an access."""
    syndrome: int
    #: What the signature's field has, and what was computed.
    expected: int
    actual: int
    #: Where the block begins in its domain's stream.
    offset: int
    domain: int


def byte_mask(bits: int) -> int:
    """64 bits from a mask of eight bytes, the greatest first."""
    return sum(0xff << 8 * k for k in range(8) if bits >> k & 1)


def compare(domain: Domain, check: int, there: int, computed: int, offset: int,
            in_memory: bool) -> SignatureError | None:
    """Compare a block's signature with what it should be; None when it is right."""
    wrong = (there ^ computed) & byte_mask(check)
    if domain.dif:
        wrong &= ~((domain.app_mask ^ 0xffff) << 32)
    if not wrong:
        return None
    syndrome = BAD_GUARD
    if domain.dif and not wrong >> 48:
        syndrome = BAD_APP_TAG if wrong >> 32 else BAD_REF_TAG
    return SignatureError(syndrome, there, computed, offset, MEMORY if in_memory else WIRE)


def report(card: 'Card', mkey: 'Mkey', bad: SignatureError, qpn: int, sending: bool) -> None:
    """Tell the user of the queue of the first error since the key was armed, and stop a send queue
    that is to stop.

    A key is armed while its context expects another count, modulo two, than there were errors.
    """
    queue: Queue | None = card.queue_numbers.lookup(qpn)
    if queue is None:
        return
    if mkey.sigerr_count != mkey.expected_sigerr_count:
        cq = queue.scq if sending else queue.rcq
        if cq is not None:
            mkey.sigerr_count ^= 1
            body = SIG_ERROR_CQE.pack(bad.expected >> 32, bad.actual >> 32,
                                      bad.expected & 0xffffffff, bad.actual & 0xffffffff,
                                      bad.syndrome, _BLOCK, bad.domain,
                                      mkey.number << 8 | mkey.variant, bad.offset, queue.number)
            cq.push(body, CqeOp.SIG_ERR << 4, True)
    if sending:
        queue.signature_error()
