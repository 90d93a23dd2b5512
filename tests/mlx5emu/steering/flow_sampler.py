# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Flow samplers (general object FLOW_SAMPLER): every packet goes on in one table, and a copy of
some in another."""
from typing import TYPE_CHECKING

from .. import prm
from ..firmware import firmware_icm
from ..firmware.flow_namespace import properties
from ..firmware.general_object import object_type
from ..firmware.status import Status
from ..firmware.tables import Object
from . import sw_steering

if TYPE_CHECKING:
    from ..card import Card
    from .flow import FlowTable

FLOW_SAMPLER = 0x20

prm.declare('flow_sampler', [('modify_field_select', 64), ('table_type', 8), ('level', 8), ('', 15),
                             ('ignore_flow_level', 1), ('sample_ratio', 32), ('', 8),
                             ('sample_table_id', 24), ('', 8), ('default_table_id', 24),
                             ('sw_steering_icm_address_rx', 64),
                             ('sw_steering_icm_address_tx', 64)])


class FlowSampler(Object):
    """A sampler: where packets go and how many of them are copied."""

    kind = 'flow_sampler'

    def __init__(self, card: 'Card', view: prm.View, default: 'FlowTable',
                 sample: 'FlowTable') -> None:
        super().__init__()
        self.card, self.table_type, self.ratio = card, view['table_type'], view['sample_ratio']
        self.level, self.ignore_flow_level = view['level'], view['ignore_flow_level']
        self.default, self.sample = default, sample
        self._seen = 0

    def takes(self) -> bool:
        """Whether the next packet is copied: one of ``ratio``, the last of each lot."""
        self._seen = (self._seen + 1) % self.ratio
        return self._seen == 0

    def describe(self, view: prm.View) -> None:
        """What it was made with, and its ICM addresses."""
        view.set(table_type=self.table_type, sample_ratio=self.ratio, level=self.level,
                 ignore_flow_level=self.ignore_flow_level, sample_table_id=self.sample.number,
                 default_table_id=self.default.number)
        address = sw_steering.address_of(self.card, firmware_icm.SAMPLER, self.number)
        for side in sw_steering.sides(self.table_type):
            view[f'sw_steering_icm_address_{"tx" if side else "rx"}'] = address


@object_type(FLOW_SAMPLER, 'flow_sampler')
def create_flow_sampler(card: 'Card', view: prm.View, uid: int) -> FlowSampler:
    """Both tables must be of the sampler's type, and behind it unless levels are to be ignored.

    :raises Status: BAD_PARAM, BAD_RES.
    """
    properties(card, view['table_type'])
    if not view['sample_ratio']:
        raise Status('BAD_PARAM', 'sample_ratio')
    tables = [
        card.flow_tables.get(view[f'{which}_table_id'], uid) for which in ('default', 'sample')]
    for table in tables:
        if table.table_type != view['table_type'] or (table.level <= view['level'] and
                                                      not view['ignore_flow_level']):
            raise Status('BAD_PARAM', 'table of the sampler')
    sampler = FlowSampler(card, view, *tables)
    sampler.use(*tables)
    return sampler
