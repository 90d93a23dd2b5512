# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Firmware-managed steering: flow tables, groups, entries, the root table of a namespace, flow
counters.

The objects are kept whole; ``steering`` walks packets through them.
"""
from bisect import insort
from typing import TYPE_CHECKING

from .. import prm
from ..firmware.dispatch import Command, command
from ..firmware.flow_namespace import FDB, OWN_PORT, TRANSPORT_RX, TRANSPORT_TX, UPLINK, properties
from ..firmware.status import Status
from ..firmware.tables import Object, declare
from ..firmware.uctx import RDMA_CTRL
from . import sw_steering
from .packet import criteria_mask

if TYPE_CHECKING:
    from ..card import Card
    from .header_rewrite import ModifyHeader, PacketReformat

#: Destination types of a flow table entry.
TO_VPORT, TO_TABLE, TO_TIR, TO_SAMPLER = 0, 1, 2, 6
TO_UPLINK, TO_PORT, TO_COUNTER, TO_TABLE_TYPE = 8, 0x99, 0x100, 0xa
ALLOW, DROP, FORWARD, COUNT = 0x1, 0x2, 0x4, 0x8
REFORMAT, DECAP, MODIFY, VLAN_POP = 0x10, 0x20, 0x40, 0x80
VLAN_PUSH, VLAN_POP_2, VLAN_PUSH_2 = 0x100, 0x400, 0x800
#: Capability of the table type that each action other than the first four needs.
ACTION_CAPS = {
    REFORMAT: 'reformat', DECAP: 'decap', MODIFY: 'max_modify_header_actions', VLAN_POP: 'pop_vlan',
    VLAN_PUSH: 'push_vlan', VLAN_POP_2: 'pop_vlan_2', VLAN_PUSH_2: 'push_vlan_2'}
#: table_miss_action.
MISS_DEFAULT, MISS_FORWARD, MISS_NEXT_DOMAIN = 0, 1, 2
_COUNTER = (1 << 64) - 1
MAX_GROUPS, MAX_ENTRIES = 1 << 12, 1 << 16
#: Bytes that an entry is taken to keep.
ENTRY_COST = 1024
#: The same of a counter; counters of the smallest bulk.
COUNTER_COST, BULK_UNIT = 64, 128


class FlowGroup(Object):
    """Indexes of a table that share their match criteria."""

    kind = 'flow_group'

    def __init__(self, number: int, start: int, end: int, enable: int, criteria: bytes) -> None:
        super().__init__()
        self.number, self.start, self.end = number, start, end
        self.enable, self.criteria = enable, criteria
        self.mask = criteria_mask(criteria, enable)
        #: Indexes of the entries by what they match under the criteria, the first counts.
        self.by_key: dict[int, list[int]] = {}

    def add(self, entry: 'FlowEntry') -> None:
        """An entry is set."""
        insort(self.by_key.setdefault(entry.key, []), entry.number)

    def remove(self, entry: 'FlowEntry') -> None:
        """An entry is deleted."""
        indexes = self.by_key[entry.key]
        indexes.remove(entry.number)
        if not indexes:
            del self.by_key[entry.key]


class FlowEntry(Object):
    """One rule: what to match under its group's criteria, and what to do."""

    kind = 'flow_entry'

    def __init__(self, index: int, group: FlowGroup, action: int, tag: int, value: bytes,
                 destinations: list[tuple[int, int]], counters: list[int]) -> None:
        super().__init__()
        self.number, self.group, self.action = index, group, action
        self.tag, self.value = tag, value
        self.destinations, self.counters = destinations, counters
        self.key = int.from_bytes(value, 'big') & group.mask
        self.modify_header: ModifyHeader | None = None
        self.reformat: PacketReformat | None = None
        #: (Ethertype, TCI) of the tags to push.
        self.vlans: list[tuple[int, int]] = []


class FlowTable(Object):
    """A table: its level in the namespace, groups and entries by number and index."""

    kind = declare('flow_table', 'flow_tables', 1, 1 << 12)

    def __init__(self, table_type: int, level: int, log_size: int,
                 miss: 'FlowTable | None') -> None:
        super().__init__()
        self.table_type, self.level, self.log_size, self.miss = table_type, level, log_size, miss
        #: ICM addresses of a table whose entries software writes, of its receive and of its
        #: transmit side.
        self.icm_roots: tuple[int, int] | None = None
        self.groups: dict[int, FlowGroup] = {}
        self.entries: dict[int, FlowEntry] = {}
        self.next_group = 1


class FlowCounters(Object):
    """Packets and octets of the entries that name a counter: one, or a bulk with numbers behind
    each other.

    :param span: how many.
    """

    kind = declare('flow_counter', 'flow_counters', 1, 1 << 16,
                   destroy=('DEALLOC_FLOW_COUNTER', 'flow_counter_id'))

    def __init__(self, span: int = 1) -> None:
        super().__init__()
        self.span = span
        #: Packets and octets by number, of counters that have counted.
        self._counts: dict[int, tuple[int, int]] = {}

    def count(self, number: int, octets: int) -> None:
        """One packet more; a counter wraps as 64 bits do."""
        packets, before = self.read(number)
        self._counts[number] = packets + 1 & _COUNTER, before + octets & _COUNTER

    def read(self, number: int) -> tuple[int, int]:
        """Packets and octets."""
        return self._counts.get(number, (0, 0))

    def clear(self, number: int) -> None:
        """Begin from zero."""
        self._counts.pop(number, None)


def _namespace(card: 'Card', cmd: Command) -> int:
    table_type = cmd.inp['table_type']
    if cmd.inp.has('vport_number') and cmd.inp['vport_number']:
        raise Status('BAD_PARAM', 'no such vport')
    properties(card, table_type)
    if table_type in (TRANSPORT_RX,
                      TRANSPORT_TX) and cmd.uid and not card.uctxs.get(cmd.uid).cap & RDMA_CTRL:
        raise Status('BAD_PARAM', 'the context may not control RDMA')
    return table_type


def _table(card: 'Card', cmd: Command) -> FlowTable:
    table_type = _namespace(card, cmd)
    table = card.flow_tables.get(cmd.inp['table_id'], cmd.uid)
    if table.table_type != table_type:
        raise Status('BAD_RES', 'no flow table of that type')
    return table


def _firmware_table(card: 'Card', cmd: Command) -> FlowTable:
    table = _table(card, cmd)
    if table.icm_roots is not None:
        raise Status('BAD_RES_STATE', 'entries of the flow table are written by software')
    return table


def _miss(card: 'Card', cmd: Command, table_type: int, level: int,
          c: prm.View) -> FlowTable | None:
    """The table that a miss goes to, from a table of ``level``; None for what the namespace does by
    default, which for RDMA is to go on in the next domain.

    :raises Status: there is no such table, or it is not of a higher level.
    """
    action = c['table_miss_action']
    if action == MISS_FORWARD:
        miss: FlowTable = card.flow_tables.get(c['table_miss_id'], cmd.uid)
        if miss.level <= level:
            raise Status('BAD_PARAM', 'the miss table is not of a higher level')
        return miss
    if action != MISS_DEFAULT and not (action == MISS_NEXT_DOMAIN and
                                       properties(card, table_type)['table_miss_action_domain']):
        raise Status('BAD_PARAM', 'table_miss_action')
    return None


@command('CREATE_FLOW_TABLE', min_in=0x28)
def create_flow_table(card: 'Card', cmd: Command) -> None:
    """A table of 2^log_size entries; the miss table must be of a higher level."""
    table_type = _namespace(card, cmd)
    c = cmd.inp.sub('flow_table_context')
    prop = properties(card, table_type)
    if c['log_size'] > prop['log_max_ft_size'] or c['level'] > 0xff:
        raise Status('BAD_PARAM', 'flow table size')
    miss = _miss(card, cmd, table_type, c['level'], c)
    table = FlowTable(table_type, c['level'], c['log_size'], miss)
    if c['sw_owner']:
        table.icm_roots = sw_steering.roots(card, table_type, c)
    cmd.out['table_id'] = card.flow_tables.alloc(table, cmd.uid)
    table.use(miss)


@command('DESTROY_FLOW_TABLE', min_in=0x18)
def destroy_flow_table(card: 'Card', cmd: Command) -> None:
    """Refused while groups are left, or an entry, table or root points to it."""
    table = _table(card, cmd)
    if table.groups:
        raise Status('BAD_RES_STATE', 'flow table has groups')
    if table.refs > (card.flow_roots.get(table.table_type) is table):
        raise Status('BAD_RES_STATE', 'flow table is in use')
    if card.flow_roots.get(table.table_type) is table:
        del card.flow_roots[table.table_type]
        table.drop()
    card.flow_tables.free(table.number, cmd.uid)


@command('MODIFY_FLOW_TABLE', min_in=0x28)
def modify_flow_table(card: 'Card', cmd: Command) -> None:
    """Change where a miss goes: the miss table must be of a higher level."""
    table = _firmware_table(card, cmd)
    if cmd.inp['modify_field_select'] != 1:
        raise Status('BAD_PARAM', 'modify_field_select')
    c = cmd.inp.sub('flow_table_context')
    miss = _miss(card, cmd, table.table_type, table.level, c)
    table.release()
    table.miss = miss
    table.use(miss)


@command('QUERY_FLOW_TABLE', min_in=0x18)
def query_flow_table(card: 'Card', cmd: Command) -> None:
    """Tell level, size and miss table."""
    table = _table(card, cmd)
    c = cmd.out.sub('flow_table_context')
    c.set(level=table.level, log_size=table.log_size)
    sw_steering.describe(card, table, c)
    if table.miss is not None:
        c.set(table_miss_action=1, table_miss_id=table.miss.number)


@command('SET_FLOW_TABLE_ROOT', min_in=0x18, op_mods=(0, 1))
def set_flow_table_root(card: 'Card', cmd: Command) -> None:
    """Where packets of a namespace start; op_mod 1 takes the root away."""
    table_type = _namespace(card, cmd)
    table = None if cmd.op_mod == 1 else _table(card, cmd)
    old = card.flow_roots.pop(table_type, None)
    if old is not None:
        old.drop()
    if table is not None:
        table.hold()
        card.flow_roots[table_type] = table


@command('CREATE_FLOW_GROUP')
def create_flow_group(card: 'Card', cmd: Command) -> None:
    """Make a group of a range of indexes. Refused when another group of the table has one of
    them."""
    table = _firmware_table(card, cmd)
    start, end = cmd.inp['start_flow_index'], cmd.inp['end_flow_index']
    if start > end or end >= 1 << table.log_size:
        raise Status('BAD_PARAM', 'flow group range')
    if any(start <= g.end and g.start <= end for g in table.groups.values()):
        raise Status('BAD_PARAM', 'flow group overlaps another')
    if len(table.groups) >= MAX_GROUPS:
        raise Status('EXCEED_LIM', 'too many flow groups')
    criteria = cmd.inp['match_criteria']
    group = FlowGroup(table.next_group, start, end, cmd.inp['match_criteria_enable'], criteria)
    group.charge(card.memory, len(criteria))
    table.next_group += 1
    table.groups[group.number] = group
    cmd.out['group_id'] = group.number


def _group(table: FlowTable, number: int) -> FlowGroup:
    group = table.groups.get(number)
    if group is None:
        raise Status('BAD_RES', 'no such flow group')
    return group


@command('DESTROY_FLOW_GROUP', min_in=0x1c)
def destroy_flow_group(card: 'Card', cmd: Command) -> None:
    """Destroy a group. Refused while entries are left in it."""
    table = _table(card, cmd)
    group = _group(table, cmd.inp['group_id'])
    if group.refs:
        raise Status('BAD_RES_STATE', 'flow group has entries')
    del table.groups[group.number]
    group.destroyed()


@command('QUERY_FLOW_GROUP', min_in=0x1c)
def query_flow_group(card: 'Card', cmd: Command) -> None:
    """Tell range and criteria of a group."""
    group = _group(_table(card, cmd), cmd.inp['group_id'])
    cmd.out.set(start_flow_index=group.start, end_flow_index=group.end,
                match_criteria_enable=group.enable, match_criteria=group.criteria)


def _destination(card: 'Card', cmd: Command, table: FlowTable, kind: int,
                 number: int) -> Object | None:
    if kind == TO_TABLE:
        return card.flow_tables.get(number, cmd.uid)
    if kind == TO_TIR:
        return card.tirs.get(number, cmd.uid)
    if kind in (TO_UPLINK, TO_PORT) or (kind == TO_VPORT and table.table_type == FDB and
                                        number in (OWN_PORT, UPLINK)):
        return None
    raise Status('BAD_PARAM', 'flow destination type')


@command('SET_FLOW_TABLE_ENTRY', op_mods=(0, 1))
def set_flow_table_entry(card: 'Card', cmd: Command) -> None:
    """Set a new entry (op_mod 0), or change action, tag, destinations or counters of one that is
    set (op_mod 1)."""
    table = _table(card, cmd)
    index, c = cmd.inp['flow_index'], cmd.inp.sub('flow_context')
    old = table.entries.get(index)
    if cmd.op_mod == 0 and old is not None:
        raise Status('BAD_RES_STATE', 'flow index is in use')
    if cmd.op_mod == 1 and old is None:
        raise Status('BAD_RES', 'no flow entry at the index')
    group = _group(table, c['group_id'])
    if not group.start <= index <= group.end:
        raise Status('BAD_PARAM', 'flow index is outside its group')
    action = c['action']
    able = properties(card, table.table_type)
    known = ALLOW | DROP | FORWARD | COUNT
    for bit, cap in ACTION_CAPS.items():
        known |= bit if able[cap] else 0
    if action & ~known:
        raise Status('BAD_PARAM', 'flow action')
    n_dest = c['destination_list_size'] if action & FORWARD else 0
    n_count = c['flow_counter_list_size'] if action & COUNT else 0
    if n_dest > 512 or n_count > 16:
        raise Status('BAD_PARAM', 'destination list')
    step = 16 if c['extended_destination'] else 8
    at = c.offset('destination')
    uses: list[Object | None] = []
    destinations, counters = [], []
    for k in range(n_dest):
        word = cmd.raw[at + step * k:at + step * k + 5]
        if len(word) < 5:
            raise Status('BAD_INP_LEN', 'destination list')
        if word[4] & 0x40:
            raise Status('BAD_PARAM', 'packet reformat of one destination is not supported')
        word = word[:4]
        uses.append(_destination(card, cmd, table, word[0], int.from_bytes(word[1:], 'big')))
        destinations.append((word[0], int.from_bytes(word[1:], 'big')))
    for k in range(n_count):
        word = cmd.raw[at + step * n_dest + 8 * k:at + step * n_dest + 8 * k + 4]
        if len(word) < 4:
            raise Status('BAD_INP_LEN', 'flow counter list')
        uses.append(card.flow_counters.covering(int.from_bytes(word, 'big'), cmd.uid))
        counters.append(int.from_bytes(word, 'big'))
    modify_header = card.modify_headers.get(c['modify_header_id'],
                                            cmd.uid) if action & MODIFY else None
    reformat = card.packet_reformats.get(c['packet_reformat_id'],
                                         cmd.uid) if action & REFORMAT else None
    if old is None:
        if len(table.entries) >= MAX_ENTRIES:
            raise Status('EXCEED_LIM', 'too many flow entries')
    entry = FlowEntry(index, group, action, c['flow_tag'],
                      c['match_value'] if old is None else old.value, destinations, counters)
    entry.modify_header, entry.reformat = modify_header, reformat
    for bit, field in ((VLAN_PUSH, 'push_vlan'), (VLAN_PUSH_2, 'push_vlan_2')):
        if action & bit:
            v = c.sub(field)
            entry.vlans.append((v['ethtype'], v['prio'] << 13 | v['cfi'] << 12 | v['vid']))
    if old is not None:
        old.group.remove(old)
        old.destroyed()
    entry.charge(card.memory, ENTRY_COST)
    entry.use(group, modify_header, reformat, *uses)
    group.add(entry)
    table.entries[index] = entry


@command('DELETE_FLOW_TABLE_ENTRY', min_in=0x24)
def delete_flow_table_entry(card: 'Card', cmd: Command) -> None:
    """Take an entry out. Refused when there is none at the index."""
    table = _table(card, cmd)
    entry = table.entries.pop(cmd.inp['flow_index'], None)
    if entry is None:
        raise Status('BAD_RES', 'no flow entry at the index')
    entry.group.remove(entry)
    entry.destroyed()


@command('ALLOC_FLOW_COUNTER')
def alloc_flow_counter(card: 'Card', cmd: Command) -> None:
    """Make one counter, or a bulk of 128 times a power of two. Refused for more than the card
    tells, and for bulks by the logarithm of their size, which is another capability."""
    if cmd.inp.has('flow_counter_bulk_log_size') and cmd.inp['flow_counter_bulk_log_size']:
        raise Status('BAD_PARAM', 'flow_counter_bulk_log_size is not supported')
    bulk = cmd.inp['flow_counter_bulk']
    if bulk & bulk - 1 or bulk > card.caps.get('flow_counter_bulk_alloc'):
        raise Status('BAD_PARAM', 'flow_counter_bulk')
    counters = FlowCounters(bulk * BULK_UNIT or 1)
    cmd.out['flow_counter_id'] = card.flow_counters.alloc(counters, cmd.uid,
                                                          COUNTER_COST * counters.span)


@command('DEALLOC_FLOW_COUNTER')
def dealloc_flow_counter(card: 'Card', cmd: Command) -> None:
    """Free a counter. Refused while an entry counts by it."""
    card.flow_counters.free(cmd.inp['flow_counter_id'], cmd.uid)


@command('QUERY_FLOW_COUNTER')
def query_flow_counter(card: 'Card', cmd: Command) -> None:
    """Packets and octets of one counter or of a run of them; ``clear`` zeroes them after reading.

    The first of a run has to be the user's; the driver's may be free, as it begins a run at a
    multiple of four. Others that are free or another's read as zero.
    """
    first, n = cmd.inp['flow_counter_id'], max(1, cmd.inp['num_of_counters'])
    if cmd.out_len < 16 + 16 * n:
        raise Status('BAD_OUTP_LEN', 'no room for the counters')
    if n > 1 << card.caps.get('log_max_flow_counter_bulk'):
        raise Status('BAD_PARAM', 'num_of_counters')
    free_from = 1 if cmd.uid or not cmd.inp['num_of_counters'] else 0
    for k in range(n):
        try:
            counters = card.flow_counters.covering(first + k, cmd.uid)
        except Status:
            if k < free_from:
                raise
            continue
        packets, octets = counters.read(first + k)
        cmd.out.set(**{f'flow_statistics[{k}].packets': packets,
                       f'flow_statistics[{k}].octets': octets})
        if cmd.inp['clear']:
            counters.clear(first + k)
