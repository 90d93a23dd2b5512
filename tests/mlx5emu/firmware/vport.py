# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The function's virtual port: HCA and NIC vport contexts, GIDs, P_Keys, RoCE addresses, port
counters."""
from typing import TYPE_CHECKING

from .. import prm
from .dispatch import Command, command
from .status import Status

if TYPE_CHECKING:
    from ..card import Card

#: Entries of the InfiniBand GID and P_Key tables, as gid_table_size 0 and pkey_table_size 0 encode.
GIDS, PKEYS = 8, 128
DOWN, INITIALIZE, ACTIVE = 1, 2, 4
PHYSICAL_UP, DISABLED = 5, 3
#: Port capabilities that software may change: IsCommunicationManagementSupported.
SETTABLE_CAP_MASK1 = 1 << 16
#: Longest address lists by type: unicast, multicast, VLAN.
ADDRESS_LISTS = {0: 1 << 7, 1: 1 << 14, 2: 1 << 12}
GID_PREFIX = 0xfe80 << 48


class Vport:
    """State of the port that commands read and write.

    ``roce_addresses`` {index: bytes of roce_addr_layout}; ``address_lists`` {type: [MAC or VLAN,
    ...]}; ``counters`` {(name, unit): n} with the names of query_vport_counter_out and unit
    'packets' or 'octets', counted by the data path.
    """

    def __init__(self, card: 'Card') -> None:
        self.card = card
        self.lid, self.sm_lid = card.subnet.lid, card.subnet.sm_lid
        self.up = True
        self.pkeys = [*card.subnet.pkeys, *[0] * (PKEYS - len(card.subnet.pkeys))]
        #: Packets that were dropped for their P_Key or Q_Key.
        self.pkey_violations = self.qkey_violations = 0
        self.mac = 0x506b4b_c0de00 + (card.index << 4)
        self.mtu = 1500
        self.roce_enabled = False
        self.flags: dict[str, int] = {}
        self.roce_addresses: dict[int, bytes] = {}
        self.address_lists: dict[int, list[int]] = {0: [], 1: [], 2: []}
        self.counters: dict[tuple[str, str], int] = {}
        self.cap_mask1 = 0x2651e848
        self.node_description = b'mlx5emu'.ljust(64, b'\0')

    @property
    def state(self) -> int:
        """Down, or until the subnet manager has given a LID initialized, or active."""
        return DOWN if not self.up else ACTIVE if self.lid else INITIALIZE

    def gid(self, index: int) -> bytes:
        """InfiniBand GID: the port's at index 0, none elsewhere."""
        return (GID_PREFIX << 64 | self.card.guid).to_bytes(16, 'big') if index == 0 else bytes(16)

    def source_gid(self, index: int) -> tuple[bytes, int, int]:
        """(GID, RoCE version, l3 type) at an index of the function's table."""
        if self.card.link_layer == 'ib':
            return self.gid(index), 0, 0
        raw = self.roce_addresses.get(index)
        if raw is None:
            return bytes(16), 0, 1
        v = prm.view('roce_addr_layout', raw)
        return v['source_l3_address'], v['roce_version'], v['roce_l3_type']

    def count(self, name: str, octets: int, packets: int = 1) -> None:
        """Packets of ``octets`` bytes together in the counter pair ``name`` of
        query_vport_counter_out."""
        self.counters[name, 'packets'] = self.counters.get((name, 'packets'), 0) + packets
        self.counters[name, 'octets'] = self.counters.get((name, 'octets'), 0) + octets


def _own_port(cmd: Command) -> None:
    """Refuse another function's vport; port numbers are 0 (does not matter) or 1."""
    if cmd.inp['vport_number'] or (cmd.inp.has('port_num') and cmd.inp['port_num'] > 1):
        raise Status('BAD_PARAM', 'no such vport or port')


@command('QUERY_HCA_VPORT_CONTEXT')
def query_hca_vport_context(card: 'Card', cmd: Command) -> None:
    """Tell the InfiniBand port's state, LIDs and GUIDs."""
    _own_port(cmd)
    v, c = card.vport, cmd.out.sub('hca_vport_context')
    c.set(vport_state=v.state, port_state=v.state, port_physical_state=PHYSICAL_UP if v.up else 3,
          system_image_guid=card.system_image_guid, port_guid=card.guid, node_guid=card.guid,
          cap_mask1=v.cap_mask1, cap_mask1_field_select=SETTABLE_CAP_MASK1, lid=v.lid,
          sm_lid=v.sm_lid, subnet_timeout=18, has_smi=1, pkey_violation_counter=v.pkey_violations,
          qkey_violation_counter=v.qkey_violations)


@command('MODIFY_HCA_VPORT_CONTEXT', min_in=0x50, kernel=True)
def modify_hca_vport_context(card: 'Card', cmd: Command) -> None:
    """Port capabilities by cap_mask1_field_select; GUIDs and the state policy are the card's."""
    _own_port(cmd)
    c = cmd.inp.sub('hca_vport_context')
    select = c['cap_mask1_field_select']
    if c['field_select']:
        raise Status('BAD_PARAM', 'GUIDs and state policy are fixed')
    if select & ~SETTABLE_CAP_MASK1:
        raise Status('BAD_PARAM', 'port capability cannot be changed')
    card.vport.cap_mask1 = card.vport.cap_mask1 & ~select | c['cap_mask1'] & select


def check_addresses(card: 'Card', pkey_index: int, gid_index: int) -> None:
    """Refuse an index beyond the port's table of P_Keys or of GIDs.

    :raises Status: BAD_INDEX
    """
    if pkey_index >= PKEYS:
        raise Status('BAD_INDEX', 'pkey_index')
    if gid_index >= (GIDS if card.link_layer == 'ib' else
                     card.caps.page('roce')['roce_address_table_size']):
        raise Status('BAD_INDEX', 'src_addr_index')


@command('QUERY_HCA_VPORT_GID', min_out=16)
def query_hca_vport_gid(card: 'Card', cmd: Command) -> None:
    """Tell one GID, or all of them for index 0xffff. Refused beyond the table."""
    _own_port(cmd)
    index = cmd.inp['gid_index']
    indexes = range(GIDS) if index == 0xffff else [index]
    if index != 0xffff and index >= GIDS:
        raise Status('BAD_INDEX', 'GID index')
    if cmd.out_len < 16 + 16 * len(indexes):
        raise Status('BAD_OUTP_LEN', 'no room for the GIDs')
    cmd.out['gids_num'] = len(indexes)
    for k, i in enumerate(indexes):
        cmd.out.buf[16 + 16 * k:32 + 16 * k] = card.vport.gid(i)


@command('QUERY_HCA_VPORT_PKEY', min_out=16)
def query_hca_vport_pkey(card: 'Card', cmd: Command) -> None:
    """Tell one P_Key, or all of them for index 0xffff. Refused beyond the table."""
    _own_port(cmd)
    index = cmd.inp['pkey_index']
    indexes = range(PKEYS) if index == 0xffff else [index]
    if index != 0xffff and index >= PKEYS:
        raise Status('BAD_INDEX', 'P_Key index')
    if cmd.out_len < 16 + 4 * len(indexes):
        raise Status('BAD_OUTP_LEN', 'no room for the P_Keys')
    for k, i in enumerate(indexes):
        cmd.out.buf[16 + 4 * k:20 + 4 * k] = card.vport.pkeys[i].to_bytes(4, 'big')


@command('QUERY_NIC_VPORT_CONTEXT', min_out=16)
def query_nic_vport_context(card: 'Card', cmd: Command) -> None:
    """Tell the Ethernet addresses, MTU, flags and one address list."""
    _own_port(cmd)
    v, c = card.vport, cmd.out.sub('nic_vport_context')
    list_type = cmd.inp['allowed_list_type']
    if list_type not in ADDRESS_LISTS:
        raise Status('BAD_PARAM', 'allowed_list_type')
    addresses = v.address_lists[list_type]
    room = max(0, cmd.out_len - c.offset('current_uc_mac_address')) // 8
    c.set(system_image_guid=card.system_image_guid, port_guid=card.guid, node_guid=v.flags.get(
        'node_guid', card.guid), mtu=v.mtu, roce_en=int(v.roce_enabled),
          allowed_list_type=list_type)
    for flag, value in v.flags.items():
        c[flag] = value
    c['permanent_address.mac_addr_47_32'], c[
        'permanent_address.mac_addr_31_0'] = v.mac >> 32, v.mac & 0xffffffff
    if room >= len(addresses):
        c['allowed_list_size'] = len(addresses)
        for k, address in enumerate(addresses):
            c[f'current_uc_mac_address[{k}]'] = address


# Fields of the context that a bit of field_select covers.
_SELECTED = {
    'disable_uc_local_lb': ('disable_uc_local_lb', ),
    'disable_mc_local_lb': ('disable_mc_local_lb', ),
    'node_guid': ('node_guid', ),
    'min_inline': ('min_wqe_inline_mode', ),
    'promisc': ('promisc_uc', 'promisc_mc', 'promisc_all'),
    'change_event':
    ('arm_change_event', 'event_on_mtu', 'event_on_promisc_change', 'event_on_vlan_change',
     'event_on_mc_address_change', 'event_on_uc_address_change'), }


@command('MODIFY_NIC_VPORT_CONTEXT', min_in=0x100, kernel=True)
def modify_nic_vport_context(card: 'Card', cmd: Command) -> None:
    """Set what field_select names, and leave the rest."""
    _own_port(cmd)
    v, c, select = card.vport, cmd.inp.sub('nic_vport_context'), cmd.inp.sub('field_select')
    if select['affiliation']:
        raise Status('BAD_PARAM', 'no port to affiliate with')
    if select['mtu'] and not 68 <= c['mtu'] <= 10218:
        raise Status('BAD_PARAM', 'mtu')
    if select['roce_en'] and c['roce_en'] and not card.caps.get('roce'):
        raise Status('BAD_PARAM', 'RoCE is off')
    addresses = None
    if select['addresses_list']:
        if c['allowed_list_size'] > ADDRESS_LISTS.get(c['allowed_list_type'], -1):
            raise Status('BAD_PARAM', 'address list')
        addresses = [c[f'current_uc_mac_address[{k}]'] for k in range(c['allowed_list_size'])]
    for bit, fields in _SELECTED.items():
        if select[bit]:
            for field in fields:
                v.flags[field] = c[field]
    if select['mtu']:
        v.mtu = c['mtu']
    if select['roce_en']:
        v.roce_enabled = bool(c['roce_en'])
    if select['permanent_address']:
        v.mac = c['permanent_address.mac_addr_47_32'] << 32 | c['permanent_address.mac_addr_31_0']
    if addresses is not None:
        v.address_lists[c['allowed_list_type']] = addresses


@command('QUERY_VPORT_STATE', op_mods=(0, 1, 2))
def query_vport_state(card: 'Card', cmd: Command) -> None:
    """Tell whether the port is up or down."""
    _own_port(cmd)
    cmd.out['admin_state'] = cmd.out['state'] = int(card.vport.up)


@command('QUERY_VPORT_COUNTER')
def query_vport_counter(card: 'Card', cmd: Command) -> None:
    """Packets and octets by kind; ``clear`` zeroes them after reading."""
    _own_port(cmd)
    for (name, unit), value in card.vport.counters.items():
        cmd.out[f'{name}.{unit}'] = value
    if cmd.inp['clear']:
        card.vport.counters.clear()


@command('SET_ROCE_ADDRESS', kernel=True)
def set_roce_address(card: 'Card', cmd: Command) -> None:
    """An entry of the RoCE address table: GID, MAC, VLAN, version; all zero clears it."""
    index = cmd.inp['roce_address_index']
    if not card.caps.get('roce'):
        raise Status('BAD_SYS_STATE', 'RoCE is off')
    if index >= card.caps.page('roce')['roce_address_table_size']:
        raise Status('BAD_INDEX', 'RoCE address index')
    entry = cmd.inp['roce_address']
    if any(entry):
        card.vport.roce_addresses[index] = entry
    else:
        card.vport.roce_addresses.pop(index, None)

