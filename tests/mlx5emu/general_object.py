# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""General objects: CREATE, QUERY, MODIFY and DESTROY_GENERAL_OBJECT by object type."""
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import prm
from .firmware import Command, Status, command
from .icm import SwIcm, create_sw_icm
from .tables import Object

if TYPE_CHECKING:
    from .card import Card

SW_ICM = 8
#: Bytes of the general header before the object's own layout.
HEADER = 16

#: {object type: (layout, constructor)}; an object keeps its type as ``obj_type``.
TYPES: dict[int, tuple[str, Callable[['Card', prm.View], Object]]] = {SW_ICM: ('sw_icm', create_sw_icm)}


def _type(card: 'Card', cmd: Command) -> int:
    number = cmd.inp['obj_type']
    if number not in TYPES or not card.caps.get('general_obj_types') >> number & 1:
        raise Status('BAD_PARAM', 'general object type is not supported')
    return number


def _object(card: 'Card', cmd: Command) -> Any:
    obj = card.general_objects.get(cmd.inp['obj_id'], cmd.uid)
    if obj.obj_type != _type(card, cmd):
        raise Status('BAD_RES', 'no such object of that type')
    return obj


@command('CREATE_GENERAL_OBJECT')
def create_general_object(card: 'Card', cmd: Command) -> None:
    """A new object of the type in the header."""
    layout, create = TYPES[_type(card, cmd)]
    if len(cmd.raw) < HEADER + (prm.layout_bits(layout) >> 3):
        raise Status('BAD_INP_LEN', 'general object is incomplete')
    obj: Any = create(card, prm.View(layout, cmd.raw, HEADER))
    obj.obj_type = cmd.inp['obj_type']
    try:
        cmd.out['obj_id'] = card.general_objects.alloc(obj, cmd.uid)
    except Status:
        obj.destroyed()
        raise


@command('QUERY_GENERAL_OBJECT')
def query_general_object(card: 'Card', cmd: Command) -> None:
    """The object's layout as it was created."""
    obj = _object(card, cmd)
    cmd.out['obj_id'] = obj.number
    if isinstance(obj, SwIcm):
        if cmd.out_len < HEADER + (prm.layout_bits('sw_icm') >> 3):
            raise Status('BAD_OUTP_LEN', 'no room for the object')
        view = prm.View('sw_icm', cmd.out.buf, HEADER)
        view.set(log_sw_icm_size=obj.size.bit_length() - 1, sw_icm_start_addr=obj.start)


@command('DESTROY_GENERAL_OBJECT')
def destroy_general_object(card: 'Card', cmd: Command) -> None:
    """Refused while something uses the object."""
    card.general_objects.free(_object(card, cmd).number, cmd.uid)
