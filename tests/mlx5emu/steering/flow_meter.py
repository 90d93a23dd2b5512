# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Flow meters (general object FLOW_METER): packets get a colour by how many came before, and go on
in a table."""
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
    from .packet import Packet

FLOW_METER = 0xa
RED, YELLOW, GREEN, UNDEFINED = 0, 1, 2, 3
#: meter_mode: what a packet costs.
IP_LENGTH, WITH_L2, WITH_L2_IPG, PACKETS = 0, 1, 2, 3
#: Preamble, FCS and gap between frames on the wire.
_IPG = 24
#: modify_field_select: activity, parameters.
MODIFY_ACTIVE, MODIFY_PARAMETERS = 1, 2

prm.declare('flow_meter', [('modify_field_select', 64), ('active', 1), ('', 3),
                           ('return_reg_id', 4), ('table_type', 8), ('', 24),
                           ('destination_table_id', 24), ('@', 0x100), ('flow_meter_params', 8, 32),
                           ('@', 0x300), ('sw_steering_icm_address_rx', 64),
                           ('sw_steering_icm_address_tx', 64)])


class Bucket:
    """Tokens that come in at a rate, up to a burst.

    :param rate: tokens a second.
    """

    def __init__(self, rate: float, burst: int, now: int) -> None:
        self.rate, self.burst, self.tokens, self.last = rate, max(burst, 1), float(max(burst,
                                                                                       1)), now

    def fill(self, now: int) -> None:
        """What came in since the last time."""
        self.tokens = min(self.burst, self.tokens + (now - self.last) * self.rate / 1e9)
        self.last = now


class FlowMeter(Object):
    """A meter of two buckets: green while the first has tokens, yellow while the second has, red
    then."""

    kind = 'flow_meter'

    def __init__(self, card: 'Card', view: prm.View, table: 'FlowTable') -> None:
        super().__init__()
        self.card, self.table, self.table_type, self.register = card, table, view[
            'table_type'], view['return_reg_id']
        self.active = bool(view['active'])
        self.configure(view['flow_meter_params'])

    def configure(self, raw: bytes) -> None:
        """New parameters; the buckets are full."""
        p = prm.view('flow_meter_parameters', raw)
        self.parameters = raw
        self.valid, self.start_color, self.mode = bool(
            p['valid']), p['start_color'], p['meter_mode']
        scale = 1.0 if self.mode == PACKETS else 1e9
        now = self.card.now()
        self.buckets = [
            Bucket(p[f'{k}ir_mantissa'] * scale / (1 << p[f'{k}ir_exponent']),
                   p[f'{k}bs_mantissa'] << p[f'{k}bs_exponent'], now) for k in ('c', 'e')]
        self.excess = bool(p['eir_mantissa'] or p['ebs_mantissa'])

    def _cost(self, packet: 'Packet') -> int:
        n = len(packet.data)
        if self.mode == PACKETS:
            return 1
        if self.mode == IP_LENGTH:
            return n - max(packet.headers.l3, 0)
        return n + (_IPG if self.mode == WITH_L2_IPG else 0)

    def color(self, packet: 'Packet') -> int:
        """Take the packet's tokens; its colour."""
        if not (self.active and self.valid):
            return GREEN if self.start_color == UNDEFINED else self.start_color
        now = self.card.now()
        for bucket in self.buckets:
            bucket.fill(now)
        cost = self._cost(packet)
        if self.start_color in (GREEN, UNDEFINED) and self.buckets[0].tokens > 0:
            self.buckets[0].tokens -= cost
            return GREEN
        if self.start_color != RED and self.excess and self.buckets[1].tokens > 0:
            self.buckets[1].tokens -= cost
            return YELLOW
        return RED

    def describe(self, view: prm.View) -> None:
        """What it was made with, and its ICM addresses."""
        view.set(active=int(self.active), return_reg_id=self.register, table_type=self.table_type,
                 destination_table_id=self.table.number, flow_meter_params=self.parameters)
        address = sw_steering.address_of(self.card, firmware_icm.METER, self.number)
        for side in sw_steering.sides(self.table_type):
            view[f'sw_steering_icm_address_{"tx" if side else "rx"}'] = address

    def modify(self, card: 'Card', view: prm.View, uid: int) -> None:
        """Activity and parameters, as modify_field_select says.

        :raises Status: BAD_PARAM for other fields.
        """
        select = view['modify_field_select']
        if select & ~(MODIFY_ACTIVE | MODIFY_PARAMETERS):
            raise Status('BAD_PARAM', 'modify_field_select')
        if select & MODIFY_ACTIVE:
            self.active = bool(view['active'])
        if select & MODIFY_PARAMETERS:
            self.configure(view['flow_meter_params'])


@object_type(FLOW_METER, 'flow_meter')
def create_flow_meter(card: 'Card', view: prm.View, uid: int) -> FlowMeter:
    """The table must be of the meter's type, the register one that meters may write.

    :raises Status: BAD_PARAM, BAD_RES.
    """
    properties(card, view['table_type'])
    if not card.caps.page('qos')['flow_meter_reg_id'] >> view['return_reg_id'] & 1:
        raise Status('BAD_PARAM', 'return_reg_id')
    table = card.flow_tables.get(view['destination_table_id'], uid)
    if table.table_type != view['table_type']:
        raise Status('BAD_PARAM', 'table of the meter')
    meter = FlowMeter(card, view, table)
    meter.use(table)
    return meter
