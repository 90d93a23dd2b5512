# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Kinds of objects, and the tables of each: numbers, owners, use counts and cost of everything that
the card holds.

A file of objects declares its kind on the class, which is all that the rest of the card needs::

    class Pd(Object):
        kind = declare('pd', 'pds', 1, 1 << 16, destroy=('DEALLOC_PD', 'pd'))
"""
from collections.abc import Iterator
from typing import Any, NamedTuple

from .status import Status

#: Objects made with this uid serve every user context.
SHARED_UID = 0xffff


class Kind(NamedTuple):
    """What there is to know of a kind of object without knowing the object."""
    name: str
    #: The card's attribute that has the table.
    table: str
    #: Lowest number and how many there are, of the space that has them.
    first: int
    limit: int
    #: Name of numbers that several kinds share, or the table's own.
    space: str
    #: The command by which its owner destroys one, and the field that names it; None for what the
    #: end of a user context leaves to its owner.
    destroy: tuple[str, str] | None

    def line(self) -> str:
        """Its line in the table of Documentation/emulated_card.md."""
        last = self.first + self.limit - 1
        numbers = f'{self.first:#x} to {last:#x}' + (f', {self.space}'
                                                      if self.space != self.table else '')
        return f'| {self.name} | {numbers} | {self.destroy[0] if self.destroy else "-"} |'


#: Every kind by name, as the files that are imported declare them.
KINDS: dict[str, Kind] = {}
#: Numbers that several kinds share: what doorbells and completions name, and what queues receive
#: from.
SPACES = {'queue_numbers': (0x40, 1 << 17), 'srq_numbers': (0x10, 1 << 16)}


def declare(name: str, table: str, first: int = 0, limit: int = 0, *, space: str | None = None,
            destroy: tuple[str, str] | None = None) -> str:
    """Declare a kind of object.

    :param name: for reports and logs.
    :param table: attribute of the card that becomes its table.
    :param first: lowest number.
    :param limit: most objects at a time.
    :param space: numbers of :data:`SPACES` instead of ``first`` and ``limit``.
    :param destroy: command and field, as :class:`Kind` has it.
    :return: the name, to be the ``kind`` of the class.
    :raises ValueError: the kind is declared twice.
    """
    if name in KINDS:
        raise ValueError(f'{name} is declared twice')
    if space is not None:
        first, limit = SPACES[space]
    KINDS[name] = Kind(name, table, first, limit, space or table, destroy)
    return name


class Object:
    """Base of every object in a table.

    ``uid`` is the owner's user context (0: the kernel's), ``number`` what the table gave it,
    ``refs`` how many objects use it. An object that uses others names them in ``uses`` by
    :meth:`use`, and lets go of all of them by :meth:`release`. ``cost`` are the bytes that it was
    charged; its end gives them back.
    """

    kind = ''

    #: How many numbers the object has, from ``number`` on.
    span = 1

    def __init__(self) -> None:
        self.uid = 0
        self.number = -1
        self.refs = 0
        self.cost = 0
        self._quota: Quota | None = None
        self.uses: list[Object] = []

    def hold(self) -> None:
        """One more user: destroying the object is refused until :meth:`drop`."""
        self.refs += 1

    def drop(self) -> None:
        """One user fewer."""
        self.refs -= 1

    def use(self, *others: 'Object | None') -> None:
        """Hold each of ``others`` (None is skipped) until :meth:`release`."""
        for o in others:
            if o is not None:
                o.hold()
                self.uses.append(o)

    def release(self) -> None:
        """Let go of everything that :meth:`use` took."""
        while self.uses:
            self.uses.pop().drop()

    def charge(self, quota: 'Quota', size: int) -> None:
        """Account for ``size`` bytes more, until the object's end.

        :raises Status: EXCEED_LIM when the card has no more.
        """
        quota.charge(size)
        self._quota, self.cost = quota, self.cost + size

    def recharge(self, size: int) -> None:
        """What it was charged is ``size`` bytes from now on, which the quota has already taken."""
        if self._quota is not None:
            self._quota.release(self.cost)
        self.cost = size

    def destroyed(self) -> None:
        """Called once when the object leaves its table; frees what it holds.  Override and call
        super."""
        self.release()
        if self._quota is not None:
            self._quota.release(self.cost)
            self._quota, self.cost = None, 0


class NumberSpace:
    """Numbers first .. first+limit-1; several tables may draw from one (QPs, SQs, RQs and DCTs
    share theirs).

    A freed number is given out again only after all the others have been, so that a stale number is
    found out.
    """

    def __init__(self, first: int, limit: int) -> None:
        self.first, self.limit = first, limit
        self.used: dict[int, Any] = {}
        self._next = 0

    def take(self, obj: Any, span: int = 1) -> int:
        """The next free number, or the first of the next ``span`` free ones (a power of two, and
        the numbers aligned to it).

        :raises Status: EXCEED_LIM when there are none.
        """
        if len(self.used) > self.limit - span:
            raise Status('EXCEED_LIM', 'number space is full')
        if span > 1:
            return self._take_span(obj, span)
        while self.first + self._next in self.used:
            self._next = (self._next + 1) % self.limit
        number = self.first + self._next
        self._next = (self._next + 1) % self.limit
        self.used[number] = obj
        return number

    def _take_span(self, obj: Any, span: int) -> int:
        top = self.first + self.limit
        lowest = -(-self.first // span) * span
        number = max(lowest, -(-(self.first + self._next) // span) * span)
        for _ in range(self.limit // span + 1):
            if number + span > top:
                number = lowest
            if not any(n in self.used for n in range(number, number + span)):
                self.used.update(dict.fromkeys(range(number, number + span), obj))
                self._next = (number + span - self.first) % self.limit
                return number
            number += span
        raise Status('EXCEED_LIM', 'no free range of numbers')

    def give(self, number: int, span: int = 1) -> None:
        """Numbers are free again."""
        for n in range(number, number + span):
            del self.used[n]

    def restart(self) -> None:
        """Count from the first number again once none is in use."""
        if not self.used:
            self._next = 0

    def lookup(self, number: int) -> Any | None:
        """Whatever object of any table has the number, or None."""
        return self.used.get(number)


class Table:
    """Objects of one kind by number.

    :param kind: name for logs and reports.
    :param space: numbers, its own or shared with other tables.
    :param quota: what the cost of its objects is charged to.
    """

    def __init__(self, kind: str, space: 'NumberSpace', quota: 'Quota') -> None:
        self.kind, self.space, self.quota = kind, space, quota
        self._objects: dict[int, Any] = {}

    def alloc(self, obj: Any, uid: int = 0, cost: int = 0) -> int:
        """Number an object and keep it for ``uid``.

        :param cost: bytes that the card keeps for it, until it leaves the table.
        :return: the number, also set as ``obj.number``.
        :raises Status: EXCEED_LIM when the table is full or the quota exhausted; the object has
            then let go of what it used.
        """
        try:
            if cost:
                obj.charge(self.quota, cost)
            number = self.space.take(obj, getattr(obj, 'span', 1))
        except Status:
            obj.destroyed()
            raise
        obj.number, obj.uid = number, uid
        if not getattr(obj, 'kind', ''):
            obj.kind = self.kind
        self._objects[number] = obj
        return number

    def get(self, number: int, uid: int = 0) -> Any:
        """The object, when ``uid`` may use it: its owner, the kernel, or anybody when it is shared
        (uid 0xffff).

        :raises Status: BAD_RES for a number that is free or another user's: the two cannot be told
            apart.
        """
        obj = self._objects.get(number)
        if obj is None or (uid and obj.uid != uid and obj.uid != SHARED_UID):
            raise Status('BAD_RES', f'no {self.kind} of that number')
        return obj

    def covering(self, number: int, uid: int = 0) -> Any:
        """As :meth:`get`, of an object that has the number among others.

        :raises Status: BAD_RES likewise.
        """
        obj = self.space.lookup(number)
        return self.get(number if obj is None else obj.number, uid)

    def find(self, number: int) -> Any | None:
        """The object or None, whoever owns it: for the data path."""
        return self._objects.get(number)

    def free(self, number: int, uid: int = 0) -> Any:
        """Take the object out of the table and let it go of what it uses.

        :return: the object.
        :raises Status: BAD_RES as :meth:`get`; BAD_RES_STATE while something uses it.
        """
        obj = self.get(number, uid)
        if obj.refs:
            raise Status('BAD_RES_STATE', f'{self.kind} is in use')
        self._remove(number, obj)
        return obj

    def _remove(self, number: int, obj: Any) -> None:
        del self._objects[number]
        self.space.give(number, getattr(obj, 'span', 1))
        obj.destroyed()

    def owned_by(self, uid: int) -> list[Any]:
        """The objects of a user, youngest first."""
        return [o for o in reversed(self._objects.values()) if o.uid == uid]

    def clear(self) -> None:
        """Drop everything without asking, as a reset does."""
        for number, obj in self._objects.items():
            self.space.give(number, getattr(obj, 'span', 1))
        self._objects.clear()
        self.space.restart()

    def numbers(self) -> list[int]:
        """Numbers in use, ascending."""
        return sorted(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._objects.values()))

    def __contains__(self, number: int) -> bool:
        return number in self._objects


class Quota:
    """Bytes that guest requests may make the card keep (page lists, patterns, written ICM).

    :param limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0

    def charge(self, size: int) -> None:
        """Account for ``size`` bytes.

        :raises Status: EXCEED_LIM when the limit would be passed.
        """
        if size > self.limit - self.used:
            raise Status('EXCEED_LIM', 'card memory is exhausted')
        self.used += size

    def release(self, size: int) -> None:
        """Give ``size`` bytes back."""
        self.used -= size

    def reset(self) -> None:
        """Everything is given back."""
        self.used = 0
