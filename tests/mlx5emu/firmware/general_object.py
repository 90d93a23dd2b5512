# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""General objects: CREATE, QUERY, MODIFY and DESTROY_GENERAL_OBJECT by object type.

A file of objects registers its type when it is imported::

    @object_type(SCHEDULING_ELEMENT, 'sched_elem')
    def create(card, view, uid):
        return SchedulingElement(...)

The object may have ``describe(view)``, which fills the layout for QUERY_GENERAL_OBJECT, and
``modify(card, view, uid)``; what it has not, the card refuses.
"""
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .. import prm
from .dispatch import TAILS, Command, check_reserved, command
from .status import Status
from .tables import Object, Table, declare

if TYPE_CHECKING:
    from ..card import Card

#: Bytes of the general header before the object's own layout.
HEADER = 16

Create = Callable[['Card', prm.View, int], Object]

#: How their owner destroys them, for kinds with a table of their own.
DESTROY = ('DESTROY_GENERAL_OBJECT', 'obj_id')
#: The kind of those that have none.
KIND = declare('general_object', 'general_objects', 1, 0xffff, destroy=DESTROY)
#: {object type: (layout, constructor)}; an object keeps its type as ``obj_type``.
TYPES: dict[int, tuple[str, Create]] = {}
_KINDS: dict[int, str] = {}


def object_type(number: int, layout: str, kind: str = KIND) -> Callable[[Create], Create]:
    """Register the constructor ``(card, view of the layout, uid)`` of an object type.

    :param kind: a kind that the class declares, where the numbers mean something elsewhere too.
    :raises ValueError: the type is registered twice.
    """
    def register(create: Create) -> Create:
        if number in TYPES:
            raise ValueError(f'general object type {number:#x} is registered twice')
        TYPES[number], _KINDS[number] = (layout, create), kind
        return create
    return register


def _layout(raw: bytes) -> str | None:
    """Layout of the object that a command brings."""
    return TYPES[number][0] if (number := int.from_bytes(raw[6:8], 'big')) in TYPES else None


TAILS |= dict.fromkeys(('CREATE_GENERAL_OBJECT', 'MODIFY_GENERAL_OBJECT'), _layout)


def _table(card: 'Card', number: int) -> Table:
    return card.tables[_KINDS[number]]


def _type(card: 'Card', cmd: Command) -> int:
    number = cmd.inp['obj_type']
    offered = card.caps.get(
        'general_obj_types') | card.caps.page('general_2')['general_obj_types_127_64'] << 64
    if number not in TYPES or not offered >> number & 1:
        raise Status('BAD_PARAM', 'general object type is not supported')
    return number


def _object(card: 'Card', cmd: Command) -> Any:
    number = _type(card, cmd)
    obj = _table(card, number).get(cmd.inp['obj_id'], cmd.uid)
    if obj.obj_type != number:
        raise Status('BAD_RES', 'no such object of that type')
    return obj


def _given(cmd: Command, layout: str) -> prm.View:
    if len(cmd.raw) < HEADER + (prm.layout_bits(layout) >> 3):
        raise Status('BAD_INP_LEN', 'general object is incomplete')
    check_reserved(cmd.raw, HEADER, prm.reserved(layout), prm.layout_bits(layout) >> 3)
    return prm.View(layout, cmd.raw, HEADER)


def add(card: 'Card', obj: Any, obj_type: int, uid: int) -> int:
    """Number a new object and keep it.

    :raises Status: EXCEED_LIM when there are too many; the object has then let go of what it used.
    """
    obj.obj_type = obj_type
    return _table(card, obj_type).alloc(obj, uid)


@command('CREATE_GENERAL_OBJECT', op_mods=None)
def create_general_object(card: 'Card', cmd: Command) -> None:
    """Make an object of the type in the header. Refused for a type that the card does not offer,
    and by the type itself."""
    number = _type(card, cmd)
    layout, create = TYPES[number]
    cmd.out['obj_id'] = add(card, create(card, _given(cmd, layout), cmd.uid), number, cmd.uid)


@command('QUERY_GENERAL_OBJECT', op_mods=None)
def query_general_object(card: 'Card', cmd: Command) -> None:
    """Tell the object as it is now. Refused when there is no room for it, or it is of another
    type."""
    obj = _object(card, cmd)
    cmd.out['obj_id'] = obj.number
    describe = getattr(obj, 'describe', None)
    if describe is not None:
        layout = TYPES[obj.obj_type][0]
        if cmd.out_len < HEADER + (prm.layout_bits(layout) >> 3):
            raise Status('BAD_OUTP_LEN', 'no room for the object')
        describe(prm.View(layout, cmd.out.buf, HEADER))


@command('MODIFY_GENERAL_OBJECT', op_mods=None)
def modify_general_object(card: 'Card', cmd: Command) -> None:
    """What the type lets one change; an object that cannot change refuses."""
    obj = _object(card, cmd)
    modify = getattr(obj, 'modify', None)
    if modify is None:
        raise Status('BAD_PARAM', 'objects of that type cannot be modified')
    modify(card, _given(cmd, TYPES[obj.obj_type][0]), cmd.uid)


@command('DESTROY_GENERAL_OBJECT', op_mods=None)
def destroy_general_object(card: 'Card', cmd: Command) -> None:
    """Destroy an object. Refused while something uses it, or when it is of another type."""
    obj = _object(card, cmd)
    _table(card, obj.obj_type).free(obj.number, cmd.uid)
