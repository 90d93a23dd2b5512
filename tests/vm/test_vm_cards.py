# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Cards without a capability: what device memory they have, and what a refusal says. Each needs a
guest of its own."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from vm.runs import PATIENCE, argv, environment, in_a_guest, machine_or_skip

machine_or_skip()

STEERING, MODIFY, PATTERN, ENCAP = (f'MLX5DV_DM_TYPE_{kind}_SW_ICM'
                                    for kind in ('STEERING', 'HEADER_MODIFY',
                                                 'HEADER_MODIFY_PATTERN', 'ENCAP'))
MEMIC = 'MLX5DV_DM_TYPE_MEMIC'
FLOW = 'flow_table.flow_table_properties_nic'

#: Allocates each type, then maps each operation, and tells what happened and what the device says
#: of itself.
SCRIPT = """
import json
from pyverbs.device import AllocDmAttr, Context
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5AllocDmAttr, Mlx5DM, mlx5dv_alloc_dm_type as kinds

def attempt(call):
    try:
        call().close()
        return [0, '']
    except PyverbsRDMAError as ex:
        return [ex.error_code, str(ex)]

def access(address, width):
    try:
        address.read(width)
        return 0
    except PyverbsRDMAError as ex:
        return ex.error_code

widths = {}
with Context(name='mlx5_0') as ctx:
    out = {kind.name: attempt(lambda: Mlx5DM(ctx, AllocDmAttr(4096), Mlx5AllocDmAttr(kind)))
           for kind in kinds}
    if not out['MLX5DV_DM_TYPE_MEMIC'][0]:
        dm = Mlx5DM(ctx, AllocDmAttr(4096))
        out |= {f'op {op}': attempt(lambda: dm.map_op_addr(op)) for op in (0, 1)}
        for op in (0, 1):
            if not out[f'op {op}'][0]:
                with dm.map_op_addr(op) as address:
                    found = [access(address, width) for width in (1, 2, 4, 8)]
                    widths[op] = [address.widths, found]
        dm.close()
    caps = Mlx5DM.query_caps(ctx)
    print(json.dumps([out, caps.as_dict(), str(caps), widths]))
"""

NO_OWNER, NO_V2 = 'neither sw_owner nor sw_owner_v2', 'lack sw_owner_v2'
NO_OBJECTS, NO_RANGE = 'general_obj_types lacks SW_ICM', 'no ICM range of this type (its size is 0)'


def card(tmp: Path, *words: str) -> Any:
    """Run the script on a card; return what it printed."""
    return json.loads(in_a_guest(tmp, [*words], sys.executable, '-c', SCRIPT).stdout)


@pytest.mark.parametrize(('words', 'lacking'), [
    pytest.param(
        [
            'device_memory.memic=0', f'{FLOW}_receive.sw_owner_v2=0',
            f'{FLOW}_transmit.sw_owner_v2=0'], {
                MEMIC: 'the device has no MEMIC', STEERING: NO_OWNER, MODIFY: NO_OWNER, PATTERN:
                f'RX and TX {NO_V2}', ENCAP: NO_OWNER}, id='no MEMIC, no owner'),
    pytest.param([
        'general.general_obj_types=0', 'device_memory.memic_operations=2',
        'device_memory.memic_test_and_set_size=5'],
                 dict.fromkeys(
                     (STEERING, MODIFY, PATTERN, ENCAP), NO_OBJECTS) | {'op 0': 'no operation 0'},
                 id='no SW ICM objects, no increment'),
    pytest.param([
        'device_memory.steering_sw_icm_start_address=0',
        'device_memory.log_indirect_encap_sw_icm_size=0', f'{FLOW}_transmit.sw_owner_v2=0',
        'device_memory.memic_operations=1', 'device_memory.memic_increment_size=17'
    ], {STEERING: NO_RANGE, ENCAP: NO_RANGE, PATTERN: f'of TX {NO_V2}', 'op 1': 'no operation 1'},
                 id='no ranges, no v2 on one side'),
    pytest.param(
        ['general.device_memory=0'], {
            MEMIC: 'the device has no MEMIC', STEERING: NO_RANGE, MODIFY: NO_RANGE, PATTERN:
            NO_RANGE, ENCAP: NO_RANGE}, id='no device memory at all'), ])
def test_lacking(words: list[str], lacking: dict[str, str], tmp_path: Path) -> None:
    """What a card lacks is EOPNOTSUPP and says which capability it is; the query knew; the rest
    works."""
    out, caps, text, widths = card(tmp_path, *(w for cap in words for w in ('--cap', cap)))
    for name, (code, said) in out.items():
        reason = lacking.get(name)
        assert code == (errno.EOPNOTSUPP if reason else 0), (name, said)
        assert (reason or '') in said, name
        if not name.startswith('op '):
            told = caps['memic' if name == MEMIC else 'sw_icm']
            told = (told if name == MEMIC else told[name])['missing']
            assert (told in said and told in text) if reason else told is None
    # Of 16 bytes there is no single access.
    for op, told in caps['memic']['operations'].items():
        assert widths[op] == [[w for w in told if w <= 8],
                              [0 if w in told else errno.EOPNOTSUPP for w in (1, 2, 4, 8)]]
    assert {f'op {op}' for op in caps['memic']['operations']} == {
        n for n, (code, _) in out.items() if n.startswith('op ') and not code}


@pytest.mark.parametrize(('cap', 'says'), [
    ('device_memory.memic', 'PAGE.FIELD=VALUE'),
    ('memic=0', 'PAGE.FIELD=VALUE'),
    ('elsewhere.memic=0', 'the pages are general'),
    ('device_memory.cimem=0', 'device_mem_cap has no field cimem'),
    ('device_memory.memic=2', 'does not fit 1 bits'),
    ('device_memory.memic=-1', 'does not fit 1 bits'),
    ('device_memory.memic=yes', 'yes is not a number'),
])
def test_no_such_capability(cap: str, says: str, tmp_path: Path) -> None:
    """A capability that cannot be given is named, before anything is started."""
    done = subprocess.run(argv('--cap', cap, '--', 'true'), env=environment(tmp_path), text=True,
                          capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    assert says in done.stderr
