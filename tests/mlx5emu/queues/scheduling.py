# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Scheduling elements of the NIC hierarchy: TSARs and the queue groups below them, as commands and
as general objects.

A queue that belongs to a queue group sends no faster than max_average_bw of the group and of every
TSAR above it.  The weights of the TSARs (bw_share) are kept and shown; the card has no contention
among queues that they could decide.
"""
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.dispatch import Command, command
from ..firmware.general_object import add, object_type
from ..firmware.status import Status
from ..firmware.tables import Object
from .rate_limit import RateLimit

if TYPE_CHECKING:
    from ..card import Card
    from .queue import Queue

SCHEDULING_ELEMENT = 0x26
HIERARCHY_NIC = 3
TSAR, QUEUE_GROUP = 0, 4
DWRR = 0
#: Bits of modify_bitmask and modify_field_select.
BW_SHARE, MAX_AVERAGE_BW = 1, 2
#: Levels below the root that the card schedules.
MAX_DEPTH = 4

prm.declare('sched_elem', [('modify_field_select', 64), ('scheduling_hierarchy', 8), ('@', 0x100),
                           ('sched_context', 8, 0x40)], size=0x400)
# The rest of a QP's context, which commands carry behind the queue pair context when their qpc_ext
# is set.
prm.declare('qpc_ext', [('', 2), ('mmo', 1), ('', 13), ('dci_stream_channel_id', 16),
                        ('qos_queue_group_id_requester', 32), ('qos_queue_group_id_responder', 32)],
            size=0x600)


class SchedulingElement(Object):
    """A TSAR or a queue group: its context, its parent and its rate."""

    def __init__(self, context: bytes, parent: 'SchedulingElement | None') -> None:
        super().__init__()
        self.context, self.parent = bytearray(context), parent
        c = prm.view('scheduling_context', self.context)
        self.element_type = c['element_type']
        self.depth: int = 0 if parent is None else parent.depth + 1
        # Megabits a second.
        self.limit = RateLimit(c['max_average_bw'] * 1_000_000)
        self.use(parent)

    def limits(self) -> tuple[RateLimit, ...]:
        """Of the element and of all above it."""
        out, element = [], self
        while True:
            out.append(element.limit)
            if element.parent is None:
                return tuple(out)
            element = element.parent

    def change(self, card: 'Card', context: bytes, select: int) -> None:
        """Take over what ``select`` names.

        :raises Status: BAD_PARAM for what cannot be changed, or a value that cannot be.
        """
        if select & ~(BW_SHARE | MAX_AVERAGE_BW):
            raise Status('BAD_PARAM', 'only bw_share and max_average_bw can be modified')
        new, kept = prm.view('scheduling_context', context), prm.view('scheduling_context',
                                                                      self.context)
        if select & BW_SHARE:
            _check_share(card, new)
            kept['bw_share'] = new['bw_share']
        if select & MAX_AVERAGE_BW:
            kept['max_average_bw'] = new['max_average_bw']
            self.limit.change(new['max_average_bw'] * 1_000_000)

    # ---- as a general object

    def describe(self, view: prm.View) -> None:
        """Fill the object's layout."""
        view.set(scheduling_hierarchy=HIERARCHY_NIC, sched_context=bytes(self.context))

    def modify(self, card: 'Card', view: prm.View, uid: int) -> None:
        """MODIFY_GENERAL_OBJECT."""
        _check_hierarchy(view['scheduling_hierarchy'])
        self.change(card, view['sched_context'], view['modify_field_select'])


def _check_hierarchy(hierarchy: int) -> None:
    if hierarchy != HIERARCHY_NIC:
        raise Status('BAD_PARAM', 'scheduling hierarchy is not supported')


def _check_share(card: 'Card', context: prm.View) -> None:
    if context['bw_share'] > card.caps.page('qos')['max_tsar_bw_share']:
        raise Status('BAD_PARAM', 'bw_share')


def _new(card: 'Card', hierarchy: int, context: bytes, uid: int) -> SchedulingElement:
    caps = card.caps.page('qos')
    if not card.caps.get('qos') or not caps['nic_element_type']:
        raise Status('BAD_PARAM', 'the card has no scheduling elements')
    _check_hierarchy(hierarchy)
    c = prm.view('scheduling_context', context)
    if c['element_type'] not in (
            TSAR, QUEUE_GROUP) or not caps['nic_element_type'] >> c['element_type'] & 1:
        raise Status('BAD_PARAM', 'element_type')
    if c['element_type'] == TSAR and prm.view('tsar_element', c['element_attributes'].to_bytes(
            4, 'big'))['tsar_type'] != DWRR:
        raise Status('BAD_PARAM', 'tsar_type')
    _check_share(card, c)
    parent = None
    if c['parent_element_id']:
        parent = element(card, c['parent_element_id'], uid)
        if parent.element_type != TSAR:
            raise Status('BAD_PARAM', 'a queue group has no children')
        if parent.depth + 1 > MAX_DEPTH:
            raise Status('EXCEED_LIM', 'scheduling hierarchy is too deep')
    elif c['element_type'] == QUEUE_GROUP:
        raise Status('BAD_PARAM', 'a queue group is below a TSAR')
    if c['element_type'] == QUEUE_GROUP:
        groups = sum(1 for o in card.general_objects
                     if isinstance(o, SchedulingElement) and o.element_type == QUEUE_GROUP)
        if groups >= 1 << caps['log_max_qos_nic_queue_group']:
            raise Status('EXCEED_LIM', 'queue groups')
    return SchedulingElement(context, parent)


def element(card: 'Card', number: int, uid: int) -> SchedulingElement:
    """The scheduling element of a number.

    :raises Status: BAD_RES when there is none that the user may use.
    """
    obj = card.general_objects.get(number, uid)
    if not isinstance(obj, SchedulingElement):
        raise Status('BAD_RES', 'no such scheduling element')
    return obj


# ---- which queues belong to a group

def group(card: 'Card', number: int, uid: int) -> SchedulingElement | None:
    """The queue group of a number; None for 0, which is no group.

    :raises Status: BAD_RES when there is none, BAD_PARAM when it is a TSAR.
    """
    if not number:
        return None
    found = element(card, number, uid)
    if found.element_type != QUEUE_GROUP:
        raise Status('BAD_PARAM', 'queues belong to queue groups only')
    return found


def join(queue: 'Queue', place: str, new: SchedulingElement | None) -> None:
    """Make a queue a member of a group in place of the one it was in.

    :param place: attribute of the queue that holds the group: ``queue_group`` of what it sends,
        ``responder_group`` of what it answers.
    """
    old = getattr(queue, place)
    if new is not None:
        queue.use(new)
    if old is not None:
        queue.uses.remove(old)
        old.drop()
    setattr(queue, place, new)
    if place == 'queue_group' and queue.sq is not None:
        queue.sq.scheduling = () if new is None else new.limits()


# ---- commands

@command('CREATE_SCHEDULING_ELEMENT')
def create_scheduling_element(card: 'Card', cmd: Command) -> None:
    """A TSAR below the root or another TSAR, or a queue group below a TSAR."""
    at, size = cmd.inp.offset('scheduling_context'), prm.layout_bits('scheduling_context') >> 3
    new = _new(card, cmd.inp['scheduling_hierarchy'], cmd.raw[at:at + size], cmd.uid)
    cmd.out['scheduling_element_id'] = add(card, new, SCHEDULING_ELEMENT, cmd.uid)


@command('MODIFY_SCHEDULING_ELEMENT')
def modify_scheduling_element(card: 'Card', cmd: Command) -> None:
    """Change weight and rate."""
    _check_hierarchy(cmd.inp['scheduling_hierarchy'])
    at, size = cmd.inp.offset('scheduling_context'), prm.layout_bits('scheduling_context') >> 3
    element(card, cmd.inp['scheduling_element_id'], cmd.uid).change(card, cmd.raw[at:at + size],
                                                                    cmd.inp['modify_bitmask'])


@command('QUERY_SCHEDULING_ELEMENT')
def query_scheduling_element(card: 'Card', cmd: Command) -> None:
    """Tell the element's context."""
    _check_hierarchy(cmd.inp['scheduling_hierarchy'])
    cmd.out['scheduling_context'] = bytes(
        element(card, cmd.inp['scheduling_element_id'], cmd.uid).context)


@command('DESTROY_SCHEDULING_ELEMENT')
def destroy_scheduling_element(card: 'Card', cmd: Command) -> None:
    """Destroy an element. Refused while there are elements below it or queues in it."""
    _check_hierarchy(cmd.inp['scheduling_hierarchy'])
    card.general_objects.free(
        element(card, cmd.inp['scheduling_element_id'], cmd.uid).number, cmd.uid)


@object_type(SCHEDULING_ELEMENT, 'sched_elem')
def create_sched_elem(card: 'Card', view: prm.View, uid: int) -> SchedulingElement:
    """The same as a general object."""
    return _new(card, view['scheduling_hierarchy'], view['sched_context'], uid)
