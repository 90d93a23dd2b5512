# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
What device memory an mlx5 device has, and what stands in the way of an allocation: asked of its
firmware by DEVX QUERY_HCA_CAP, current values.

The module is loaded by Mlx5DM.query_caps() and needs no privilege. As a program it prints a table
or JSON, and what mlx5_trial found out by trying:

    python3 -m pyverbs.providers.mlx5.mlx5dv_dm_caps [--dev NAME] [--json] [--need WHAT]
"""
import argparse
import errno
import json
import sys
from typing import NamedTuple

from pyverbs.device import Context, get_device_list
from pyverbs.pyverbs_error import PyverbsError, PyverbsRDMAError

from pyverbs.providers.mlx5.mlx5dv_dm import _max_memic_length, mlx5dv_alloc_dm_type, query_hca_cap

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


class Mlx5MemicCaps(NamedTuple):
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
    missing: 'str | None'


class Mlx5SwIcmCaps(NamedTuple):
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
    missing: 'str | None'


class Mlx5DMCaps(NamedTuple):
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
        if kind == mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_MEMIC:
            return self.memic.missing
        return self.sw_icm[kind].missing

    def as_dict(self):
        """
        All of it for a program.
        :return: What json can write: numbers in bytes or log2, types by their C names, operations
            by their numbers
        """
        return {
            'device': self.device,
            'memic': dict(self.memic._asdict()),
            'sw_icm': {kind.name: dict(caps._asdict()) for kind, caps in self.sw_icm.items()},
        }

    def __str__(self):
        memic = self.memic
        lines = [f'{self.device}: device memory']
        if memic.missing:
            lines.append(f'  MEMIC  none: {memic.missing}')
        else:
            lines += [
                f'  MEMIC  {_bytes(memic.size)}, up to {_bytes(memic.max_length)} each '
                f'in steps of {_bytes(memic.granularity)}, '
                f'aligned to {_bytes(1 << memic.max_log_align_req)} at most '
                f'(log_align_req {memic.max_log_align_req})'
            ]
            for op, widths in memic.operations.items():
                of = 'of ' + ', '.join(
                    map(str,
                        widths)) + ' bytes' if widths else 'of widths that the device does not tell'
                lines.append(f'         operation {op} ({OPERATIONS.get(op, "no name")}) {of}')
        lines.append(f'  {"SW ICM":28} {"start":>18} {"size":>10} {"block":>8}')
        for kind, icm in self.sw_icm.items():
            name = kind.name.replace('MLX5DV_DM_TYPE_', '')
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
        _max_memic_length(context), 1 << _LOG_MIN_MEMIC_ALLOC_SIZE.of(memory),
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


def refusal(context, kind, length, log_align_req, largest, error, trouble=''):
    """
    Explain why device memory was not allocated; the classes raise what it returns.
    :param context: The context that was asked; it may be closed by now
    :param kind: The type that was asked for, a number
    :param length: How many bytes were asked for
    :param log_align_req: Log2 of the alignment in bytes that was asked for
    :param largest: The longest MEMIC of the device in bytes, 0 where it has none, more than 63 bits
                    if it is unknown
    :param error: The errno
    :param trouble: What the errno says of the device, if it is none of the call's own
    :return: PyverbsRDMAError with that errno, EOPNOTSUPP for MEMIC of a device that has none
    """
    known = {number.value: number for number in mlx5dv_alloc_dm_type}
    is_memic = kind == mlx5dv_alloc_dm_type.MLX5DV_DM_TYPE_MEMIC
    if is_memic and error == errno.EINVAL and largest == 0:
        # libmlx5 only sees a length above the limit where there is no MEMIC at all.
        error = errno.EOPNOTSUPP
    text = f'Failed to allocate device memory of size {length}'
    if is_memic:
        text += f'. Max available size {largest if largest < 1 << 63 else "unknown"}'
    else:
        text += f' ({known[kind].name if kind in known else f"type {kind}"})'
    if error == errno.EPERM:
        text += f'. SW ICM is for CAP_SYS_RAWIO and CAP_NET_RAW: {_capabilities_lacking()}'
    elif error == errno.EOPNOTSUPP:
        text += f'. {_type_lacking(context, known.get(kind))}'
    elif error == errno.ENOMEM:
        text += ('. No room is left on the device: close other DMs, each takes whole '
                 f'{"pages" if is_memic else "blocks"}')
    elif error == errno.EINVAL:
        text += (f". Check the length, log_align_req ({log_align_req}) against the device's "
                 'limits, and that both comp_masks are 0')
    else:
        text += trouble
    return PyverbsRDMAError(text, error)


def _type_lacking(context, kind):
    # EOPNOTSUPP comes from library, kernel and device alike: ask the device to tell which it was.
    if kind is None:
        return 'The library does not know the type'
    try:
        missing = Mlx5DMCaps.query(context).missing(kind)
    except PyverbsError:
        return ('The device lacks the type, the kernel is too old for it, or this is not an mlx5 '
                'device')
    if missing is None:
        return 'The device has the type, so the kernel is too old for it'
    return f'The reason: {missing}'


def process_capabilities():
    """
    Ask what this thread may do, whatever user namespace it may do it in.
    :return: The effective capabilities, a bit for each, as the kernel numbers them; -1, all of
             them, if they cannot be known
    """
    try:
        with open('/proc/thread-self/status') as status:
            return int(status.read().partition('CapEff:')[2].split()[0], 16)
    except (OSError, IndexError):
        return -1


def _capabilities_lacking():
    # Which of the two that SW ICM needs this thread has not, in words.
    effective = process_capabilities()
    if effective < 0:
        return 'run privileged or grant both'
    needed = (('CAP_SYS_RAWIO', 17), ('CAP_NET_RAW', 13))
    lacking = [name for name, bit in needed if not effective >> bit & 1]
    if lacking:
        return f'this thread lacks {" and ".join(lacking)}'
    return 'this thread has them in a user namespace only, they must be of the initial one'


def main(argv=None):
    """
    Print the capabilities and what works here, and on the error stream what could not be asked.
    :param argv: The command line after the program's name (default: the process's)
    :return: Exit status: 0, or 1 if a device could not be opened, or 2 if there is no such device,
             or 3 if something does not work that --need names
    """
    # Late: it tries the classes, whose module imports this one.
    from pyverbs.providers.mlx5 import mlx5_trial
    parser = argparse.ArgumentParser(
        prog='python3 -m pyverbs.providers.mlx5.mlx5dv_dm_caps',
        description='Device memory that mlx5 devices have, MEMIC and SW ICM, and what of the two '
        'classes works here, by trying it: nothing of it stays.')
    parser.add_argument('--dev', metavar='NAME', help='this device only (default: all of mlx5)')
    parser.add_argument('--json', action='store_true',
                        help='a list for programs: numbers in bytes or log2')
    parser.add_argument('--need', metavar='WHAT', action='append', default=[],
                        choices=mlx5_trial.names(),
                        help='exit status 3 if it does not work; may be repeated: ' +
                        ', '.join(mlx5_trial.names()))
    options = parser.parse_args(argv)
    try:
        names = [device.name.decode() for device in get_device_list()]
    except PyverbsRDMAError:
        # libibverbs answers so when the kernel has no RDMA at all.
        names = []
    chosen = [
        name for name in names
        if name == options.dev or not options.dev and name.startswith('mlx5')]
    if not chosen:
        print(f'no RDMA device {options.dev or "of mlx5"}; there are: {", ".join(names) or "none"}',
              file=sys.stderr)
        return 2
    status, found, texts = 0, [], []
    for name in chosen:
        try:
            with Context(name=name) as context:
                trials = mlx5_trial.try_all(context)
                # Without DEVX there is nobody to ask; the trials say so.
                caps = Mlx5DMCaps.query(context) if trials[0].works else None
        except PyverbsError as ex:
            print(f'{name}: {ex}', file=sys.stderr)
            status = 1
            continue
        if not status and any(trial.name in options.need and not trial.works for trial in trials):
            status = 3
        found.append(dict(caps.as_dict() if caps else {'device': name},
                          works={trial.name: dict(trial._asdict()) for trial in trials}))
        texts += ([str(caps)] if caps else []) + [mlx5_trial.table(name, trials)]
    if options.json:
        print(json.dumps(found, indent=2))
    elif texts:
        print('\n\n'.join(texts))
    return status


__all__ = ['Mlx5DMCaps', 'Mlx5MemicCaps', 'Mlx5SwIcmCaps', 'main', 'process_capabilities',
           'refusal']

if __name__ == '__main__':
    sys.exit(main())
