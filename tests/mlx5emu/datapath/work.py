# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What all work of the data path shares: a guard against its defects, the moment at which
completions that wait for others are written, the clock of CQEs, and the count of errors."""
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ..prm.wqe import SYNDROME_NAMES
from ..prm.wqe_decode import OP_NAMES

if TYPE_CHECKING:
    from ..card import Card
    from ..queues.cq import Cq
    from ..queues.queue import Queue

QueueT = TypeVar('QueueT', bound='Queue')


class Work:
    """The work of one function."""

    def __init__(self, card: 'Card') -> None:
        self.card = card
        #: Errors that CQEs told of: {syndrome: n}.
        self.errors: dict[int, int] = {}
        #: CQs with completions that wait for more to be compressed with, while work is done that
        #: may bring them.
        self.open_cqs: list[Cq] | None = None
        self._khz = card.caps.get('device_frequency_khz')

    def guarded(self, call: Callable[[QueueT], object], queue: QueueT) -> None:
        """Run a piece of work; a defect of the emulator is counted and stops the queue, not the
        card."""
        outermost = self.begin()
        try:
            call(queue)
        except Exception as e:  # the guest must not be able to end the server
            self.card.defect()
            self.note(queue, 0, 0, 0, f'internal error: {e!r}')
            try:
                queue.fail('WQ_CATAS_ERROR')
            except Exception:  # the same defect once more: the state is set, which is what counts
                self.card.defect()
        self.done(outermost)

    def begin(self) -> bool:
        """Work begins; whether it is not part of other work."""
        if self.open_cqs is not None:
            return False
        self.open_cqs = []
        return True

    def done(self, outermost: bool) -> None:
        """Work is done: write the completions that waited for more."""
        if outermost:
            cqs, self.open_cqs = self.open_cqs, None
            for cq in cqs or ():
                if cq.session is not None:
                    cq.session.end()

    def timestamp(self) -> int:
        """The free-running counter that CQEs show."""
        return self.card.now() * self._khz // 1_000_000

    def count(self, syndrome: int) -> None:
        """Count an error that a CQE tells of."""
        self.errors[syndrome] = self.errors.get(syndrome, 0) + 1

    def note(self, qp: 'Queue', index: int, op: int, syndrome: int, why: str) -> None:
        """Count an error that no work request stands for, and put it into the trace."""
        self.count(syndrome)
        if self.card.trace is not None:
            self.card.trace({
                'kind': 'error', 'name': OP_NAMES.get(op, f'{op:#x}'), 'uid': qp.uid, 'queue':
                qp.kind, 'number': qp.number, 'index': index, 'in': {}, 'out': {}, 'status':
                SYNDROME_NAMES.get(syndrome, 'ERROR'), 'syndrome': syndrome, 'reason': why})
