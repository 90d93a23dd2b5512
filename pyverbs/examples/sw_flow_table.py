# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A receive flow table whose entries software writes, and the rule that leads frames to it."""
from typing import Dict

from devx_object import create
from mlx5_ifc import answer, answer_size, command, layout
from pyverbs.providers.mlx5.mlx5_enums import mlx5dv_flow_action_type
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context
from pyverbs.providers.mlx5.mlx5dv_flow import (
    Mlx5Flow,
    Mlx5FlowActionAttr,
    Mlx5FlowMatcher,
    Mlx5FlowMatcherAttr,
    Mlx5FlowMatchParameters,
)

#: Higher than every table from which a rule leads here.
NIC_RX, LEVEL = 0, 63
#: What is compared begins with the source address and the EtherType; this is the part that is the
#: outer headers'.
AFTER_SOURCE, OUTER_SIZE, OUTER = 6, 64, 1
CURRENT, CAP = 1, 'capability.cmd_hca_cap.'


def steering_caps(ctx: Mlx5Context) -> Dict[str, int]:
    """What entries depend on: steering_format_version and vhca_id."""
    data = ctx.devx_general_cmd(command('QUERY_HCA_CAP', {'op_mod': CURRENT}),
                                answer_size('QUERY_HCA_CAP'))
    caps = answer('QUERY_HCA_CAP', data)
    return {name: caps[CAP + name] for name in ('steering_format_version', 'vhca_id')}


class SwFlowTable:
    """
    The table and the rule.
    :param root: ICM address of the first entry
    :param ethertype: Of the frames that it gets; all others go on as before
    """

    def __init__(self, ctx: Mlx5Context, root: int, ethertype: int) -> None:
        # Headers before Linux 6.10 have the field elsewhere.
        field = next(f for f in layout('flow_table_context_bits')[0]
                     if f.endswith('sw_owner_icm_root_0'))
        self.table, _ = create(ctx, 'CREATE_FLOW_TABLE', {
            'table_type': NIC_RX, 'flow_table_context.sw_owner': 1, 'flow_table_context.level':
            LEVEL, f'flow_table_context.{field}': root})
        mask, value = (
            Mlx5FlowMatchParameters(OUTER_SIZE, (bytes(AFTER_SOURCE) + word.to_bytes(2, 'big')).
                                    ljust(OUTER_SIZE, b'\0')) for word in (0xffff, ethertype))
        self.matcher = Mlx5FlowMatcher(ctx, Mlx5FlowMatcherAttr(mask, match_criteria_enable=OUTER))
        leads = Mlx5FlowActionAttr(mlx5dv_flow_action_type.MLX5DV_FLOW_ACTION_DEST_DEVX,
                                   obj=self.table)
        self.rule = Mlx5Flow(self.matcher, value, [leads], 1)

    def close(self) -> None:
        """What uses a thing goes first."""
        for obj in (self.rule, self.matcher, self.table):
            obj.close()
