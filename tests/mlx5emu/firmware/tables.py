# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Object tables: numbers, owners and use counts of everything the card holds."""
from collections.abc import Iterator
from typing import Any

from .status import Status

#: Objects made with this uid serve every user context.
SHARED_UID = 0xffff


class Object:
    """Base of every object in a table.

    ``uid`` is the owner's user context (0: the kernel's), ``number`` what the table gave it,
    ``refs`` how many objects use it. An object that uses others names them in ``uses`` by
    :meth:`use`, and lets go of all of them by :meth:`release`.
    """

    kind = ''

    #: How many numbers the object has, from ``number`` on.
    span = 1

    def __init__(self) -> None:
        self.uid = 0
        self.number = -1
        self.refs = 0
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

    def destroyed(self) -> None:
        """Called once when the object leaves its table; frees what it holds.  Override and call
        super."""
        self.release()


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
    :param first: lowest number.
    :param limit: most objects at a time.
    :param space: numbers shared with other tables instead of ``first`` and ``limit``.
    """

    def __init__(self, kind: str, first: int = 1, limit: int = 1 << 16,
                 space: NumberSpace | None = None) -> None:
        self.kind = kind
        self.space = space or NumberSpace(first, limit)
        self._objects: dict[int, Any] = {}

    def alloc(self, obj: Any, uid: int = 0) -> int:
        """Number an object and keep it for ``uid``.

        :return: the number, also set as ``obj.number``.
        :raises Status: EXCEED_LIM when the table is full.
        """
        number = self.space.take(obj, getattr(obj, 'span', 1))
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
        destroyed = getattr(obj, 'destroyed', None)
        if destroyed is not None:
            destroyed()

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
