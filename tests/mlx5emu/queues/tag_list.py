# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The list of posted tags that an XRQ matches messages against, and its agreement with software on
unexpected messages.

Software numbers the entries and links the free ones: the segment of an append names the entry that
the *next* append takes.  Each side counts the unexpected messages that it knows of.  While the
counts differ, a new tag may be meant for a message that software has yet to find, so it is kept but
not matched.
"""
from ..prm.wqe import TERMINATOR, ZERO_COUNT

APPEND, REMOVE, NOP = 1, 2, 0
#: opcode of the header of a message.
NO_TAG, RENDEZVOUS, FIN, EAGER = 0, 1, 2, 3
_COUNT = 0xffff


class Tag:
    """A posted tag and the buffer of its message.

    :param matching: the two sides agreed when it was posted.
    """

    __slots__ = ('index', 'tag', 'mask', 'count', 'key', 'addr', 'matching')

    def __init__(self, index: int, tag: int, mask: int, segment: tuple[int, int, int],
                 matching: bool) -> None:
        self.index, self.tag, self.mask, self.matching = index, tag, mask, matching
        count, self.key, self.addr = segment
        self.count = count or (0 if self.key == TERMINATOR else ZERO_COUNT)


class TagList:
    """Tags in the order in which they were posted.

    :param size: of the list in entries.
    :param first: entry that the first append takes.
    :param rendezvous: the card fetches the data of rendezvous messages itself.
    """

    def __init__(self, size: int, first: int, rendezvous: bool) -> None:
        self.size, self.next, self.rendezvous = size, first, rendezvous
        self.hw_phase = self.sw_phase = 0
        self._tags: dict[int, Tag] = {}
        #: Entries that messages took and whose data are still on their way.
        self.busy: set[int] = set()

    def __len__(self) -> int:
        return len(self._tags)

    def synchronize(self, count: int) -> None:
        """Software knows of so many unexpected messages."""
        self.sw_phase = count
        if self.sw_phase == self.hw_phase:
            for tag in self._tags.values():
                tag.matching = True

    def unexpected(self) -> None:
        """A message went to software."""
        self.hw_phase = (self.hw_phase + 1) & _COUNT

    def append(self, following: int, tag: int, mask: int, segment: tuple[int, int, int]) -> bool:
        """Post a tag; False when the entry is in use, or there is none of the number
        ``following``."""
        index = self.next
        if (following >= self.size or following == index or index in self._tags or
                index in self.busy):
            return False
        self.next = following
        self._tags[index] = Tag(index, tag, mask, segment, self.sw_phase == self.hw_phase)
        return True

    def remove(self, index: int) -> bool:
        """Take a tag back; False when a message has taken it, or there is none."""
        return self._tags.pop(index, None) is not None

    def find(self, tag: int) -> Tag | None:
        """The first tag that a message matches."""
        for entry in self._tags.values():
            if tag & entry.mask == entry.tag and entry.matching:
                return entry
        return None

    def take(self, entry: Tag) -> None:
        """A message got the entry."""
        del self._tags[entry.index]
