# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
What device memory an mlx5 device has: asked of its firmware by DEVX QUERY_HCA_CAP, current values.

The module is loaded by Mlx5DM.query_caps() and needs no privilege.
"""
import dataclasses

from pyverbs.providers.mlx5.mlx5dv_dm import mlx5dv_alloc_dm_type, query_hca_cap

#: Capability types of QUERY_HCA_CAP.
GENERAL, FLOW_TABLE, DEVICE_MEMORY = 0x0, 0x7, 0xf
#: Object type of SW ICM, a bit of general_obj_types.
OBJ_TYPE_SW_ICM = 8
#: Names of the bits of memic_operations; NVIDIA's published interface knows these two.
OPERATIONS = {0: 'increment', 1: 'test and set'}


class _Field:
    """Where a field is in its capability page: bits from the start, bits wide."""

    def __init__(self, offset, width):
        self.offset, self.width = offset, width

    def of(self, page):
        """Its value in a page, big-endian as the firmware gives it."""
        end = self.offset + self.width
        whole = int.from_bytes(page[self.offset // 8:(end + 7) // 8], 'big')
        return whole >> (-end % 8) & ((1 << self.width) - 1)


# cmd_hca_cap
_NIC_FLOW_TABLE = _Field(0x1a6, 1)
_DEVICE_MEMORY = _Field(0x1a8, 1)
_GENERAL_OBJ_TYPES = _Field(0x400, 64)
# flow_table_nic_cap: both owners of each direction's properties
_RX_SW_OWNER, _RX_SW_OWNER_V2 = _Field(0x211, 1), _Field(0x21e, 1)
_TX_SW_OWNER, _TX_SW_OWNER_V2 = _Field(0x811, 1), _Field(0x81e, 1)
# device_mem_cap
_MEMIC = _Field(0x0, 1)
_MEMIC_OPERATION_SIZES = {0: _Field(0x20, 8), 1: _Field(0x30, 8)}
_LOG_MIN_MEMIC_ALLOC_SIZE = _Field(0x2b, 5)
_LOG_MAX_MEMIC_ADDR_ALIGNMENT = _Field(0x38, 8)
_MEMIC_BAR_SIZE = _Field(0x80, 32)
_MEMIC_OPERATIONS = _Field(0x200, 32)
_LOG_SW_ICM_ALLOC_GRANULARITY = _Field(0x112, 6)
#: Start address and log2 of the size in bytes, by type's name.
_SW_ICM_RANGES = {
    'MLX5DV_DM_TYPE_STEERING_SW_ICM': (_Field(0xc0, 64), _Field(0x118, 8)),
    'MLX5DV_DM_TYPE_HEADER_MODIFY_SW_ICM': (_Field(0x140, 64), _Field(0x108, 8)),
    'MLX5DV_DM_TYPE_HEADER_MODIFY_PATTERN_SW_ICM': (_Field(0x1c0, 64), _Field(0x138, 8)),
    'MLX5DV_DM_TYPE_ENCAP_SW_ICM': (_Field(0x240, 64), _Field(0x120, 8)),
}
#: The command counts alignment from 64 bytes, AllocDmAttr from 1.
_LOG_BASE_ALIGNMENT = 6


@dataclasses.dataclass(frozen=True)
class Mlx5MemicCaps:
    """
    MEMIC of a device.
    :ivar size: All of it, in bytes; 0 if the device has none
    :ivar max_length: The longest that one allocation can be, in bytes
    :ivar granularity: What lengths are rounded up to, in bytes
    :ivar max_log_align_req: The greatest log_align_req, log2 of bytes
    :ivar operations: Widths in bytes that each operation takes, by the operation's number for
                      map_op_addr(); empty if the firmware does not tell
    :ivar missing: Why MEMIC cannot be allocated, or None
    """

    size: int
    max_length: int
    granularity: int
    max_log_align_req: int
    operations: dict
    missing: str | None


@dataclasses.dataclass(frozen=True)
class Mlx5SwIcmCaps:
    """
    One type of SW ICM of a device.
    :ivar start: First ICM address of the type's range
    :ivar size: Size of the range in bytes, 0 if the device has none
    :ivar block_size: What lengths are rounded up to, before they become a power of two, in bytes
    :ivar missing: Which capability the type lacks, or None. The kernel may still be too old for it,
                   and asks for CAP_SYS_RAWIO and CAP_NET_RAW
    """

    start: int
    size: int
    block_size: int
    missing: str | None


@dataclasses.dataclass(frozen=True)
class Mlx5DMCaps:
    """
    What device memory a device has, as Mlx5DM.query_caps() found it. str() of it is a table.
    :ivar device: Name of the device
    :ivar memic: Mlx5MemicCaps
    :ivar sw_icm: Mlx5SwIcmCaps of each type of SW ICM that the library knows, by
        mlx5dv_alloc_dm_type
    """

    device: str
    memic: Mlx5MemicCaps
    sw_icm: dict

    @classmethod
    def query(cls, context):
        """
        Ask a device; the same as Mlx5DM.query_caps().
        :param context: An open context with DEVX, which every ordinary one has
        :return: Mlx5DMCaps
        :raises PyverbsUserError: The context is closed
        :raises PyverbsRDMAError: The device or kernel has no DEVX, or refused
        """
        general = query_hca_cap(context, GENERAL)
        memory = query_hca_cap(context, DEVICE_MEMORY) if _DEVICE_MEMORY.of(general) else b''
        flow = query_hca_cap(context, FLOW_TABLE) if _NIC_FLOW_TABLE.of(general) else b''
        icm = {
            kind: _sw_icm(kind, general, flow, memory) for kind in mlx5dv_alloc_dm_type
            if kind.name in _SW_ICM_RANGES}
        return cls(context.name, _memic(context, memory), icm)

    def missing(self, kind):
        """
        Tell why a type of memory cannot be allocated.
        :param kind: One of mlx5dv_alloc_dm_type
        :return: The capability that is missing, in words, or None if the device has all of them
        """
        return self.memic.missing if kind == mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_MEMIC else self.sw_icm[
            kind].missing

    def as_dict(self):
        """
        All of it for a program.
        :return: What json can write: numbers in bytes or log2, types by their C names, operations
            by their numbers
        """
        return {
            'device': self.device,
            'memic': dataclasses.asdict(self.memic),
            'sw_icm': {kind.name: dataclasses.asdict(caps) for kind, caps in self.sw_icm.items()},
        }

    def __str__(self):
        memic = self.memic
        lines = [f'{self.device}: device memory']
        if memic.missing:
            lines.append(f'  MEMIC  none: {memic.missing}')
        else:
            lines += [
                f'  MEMIC  {_bytes(memic.size)}, up to {_bytes(memic.max_length)} each in steps of {_bytes(memic.granularity)}, '
                f'aligned to {_bytes(1 << memic.max_log_align_req)} at most (log_align_req {memic.max_log_align_req})'
            ]
            for op, widths in memic.operations.items():
                of = 'of ' + ', '.join(
                    map(str,
                        widths)) + ' bytes' if widths else 'of widths that the device does not tell'
                lines.append(f'         operation {op} ({OPERATIONS.get(op, "no name")}) {of}')
        lines.append(f'  {"SW ICM":28} {"start":>18} {"size":>10} {"block":>8}')
        for kind, icm in self.sw_icm.items():
            name = kind.name.removeprefix('MLX5DV_DM_TYPE_')
            lines.append(
                f'  {name:28} {icm.start:#18x} {_bytes(icm.size):>10} {_bytes(icm.block_size):>8}'
                if not icm.missing else f'  {name:28} none: {icm.missing}')
        return '\n'.join(lines)


def _bytes(number):
    """A number of bytes for people, exact."""
    for unit in ('B', 'KiB', 'MiB'):
        if number < 1024 or number % 1024:
            return f'{number} {unit}'
        number //= 1024
    return f'{number} GiB'


def _memic(context, memory):
    if not _MEMIC.of(memory):
        return Mlx5MemicCaps(
            0, 0, 0, 0, {},
            'the device has no MEMIC (memic of its device memory capabilities is 0)')
    operations = {}
    for op in range(_MEMIC_OPERATIONS.width):
        if _MEMIC_OPERATIONS.of(memory) >> op & 1:
            sizes = _MEMIC_OPERATION_SIZES[op].of(memory) if op in _MEMIC_OPERATION_SIZES else 0
            operations[op] = tuple(width for width in (1, 2, 4, 8, 16) if sizes & width)
    return Mlx5MemicCaps(
        _MEMIC_BAR_SIZE.of(memory),
        context.query_device_ex().max_dm_size, 1 << _LOG_MIN_MEMIC_ALLOC_SIZE.of(memory),
        _LOG_MAX_MEMIC_ADDR_ALIGNMENT.of(memory) + _LOG_BASE_ALIGNMENT, operations, None)


def _sw_icm(kind, general, flow, memory):
    start, log_size = (field.of(memory) for field in _SW_ICM_RANGES[kind.name])
    # The kernel decides by the address, of ENCAP by the size.
    present = log_size if kind.name == 'MLX5DV_DM_TYPE_ENCAP_SW_ICM' else start
    missing = None
    if not _GENERAL_OBJ_TYPES.of(general) >> OBJ_TYPE_SW_ICM & 1:
        missing = 'the device has no SW ICM objects (general_obj_types lacks SW_ICM)'
    elif kind.name == 'MLX5DV_DM_TYPE_HEADER_MODIFY_PATTERN_SW_ICM':
        lacking = [
            side for side, field in (('RX', _RX_SW_OWNER_V2), ('TX', _TX_SW_OWNER_V2))
            if not field.of(flow)]
        if lacking:
            missing = f'the flow tables of {" and ".join(lacking)} lack sw_owner_v2'
    elif not any(
            field.of(flow)
            for field in (_RX_SW_OWNER, _RX_SW_OWNER_V2, _TX_SW_OWNER, _TX_SW_OWNER_V2)):
        missing = 'the flow tables have neither sw_owner nor sw_owner_v2'
    if missing is None and not present:
        missing = 'the device has no ICM range of this type (its size is 0)'
    return Mlx5SwIcmCaps(start, 1 << log_size if present else 0,
                         1 << _LOG_SW_ICM_ALLOC_GRANULARITY.of(memory) if memory else 0, missing)


__all__ = ['Mlx5DMCaps', 'Mlx5MemicCaps', 'Mlx5SwIcmCaps']
