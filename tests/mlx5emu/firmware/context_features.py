# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Features that a context asks for and that a card has only when its capabilities say so: refused,
never ignored."""
from typing import TYPE_CHECKING

from .status import Status

if TYPE_CHECKING:
    from ..card import Card
    from .dispatch import Command

# Not end_padding_mode: the driver asks for it whatever the capability says, and it is about how
# writes look on the bus only.
_WQ = {
    'wq.cd_slave': 'general.cd', 'wq.shampo_enable': 'general.shampo', 'wq.two_byte_shift_en': None,
    'wq.hds_skip_first_sge': None, 'wq.log2_hds_buf_size': None}

#: {command: {field of the input: PAGE.FIELD of the capability that it takes, or None when no
#: profile has it}}
FEATURES: dict[str, dict[str, str | None]] = {
    'CREATE_QP': {
        'qpc.cd_master': 'general.cd', 'qpc.cd_slave_send': 'general.cd', 'qpc.cd_slave_receive':
        'general.cd', 'qpc.drain_sigerr': 'general.drain_sigerr', 'qpc.end_padding_mode':
        'general.end_pad', 'qpc.offload_type': 'general.rndv_offload_rc',
        'qpc.ulp_stateless_offload_mode': 'general.ipoib_basic_offloads', 'qpc.isolate_vl_tc':
        'general.isolate_vl_tc_new'},
    'CREATE_CQ': {
        'cq_context.cqe_comp_en': 'general.cqe_compression',
        'cq_context.apu_cq': None, 'cq_context.cqe_compression_layout':
        'general.enhanced_cqe_compression'},
    'CREATE_EQ': {'eq_context_entry.ec': None},
    'CREATE_SQ': {
        'ctx.cd_master': 'general.cd', 'ctx.hairpin': 'general.hairpin', 'ctx.allow_swp':
        'ethernet.swp', 'ctx.non_wire': None, 'ctx.ts_cqe_to_dest_cqn':
        'general.ts_cqe_to_dest_cqn', 'ctx.wq.cd_slave': 'general.cd'},
    'CREATE_RQ': {
        'ctx.delay_drop_en': 'general.rq_delay_drop', 'ctx.hairpin': 'general.hairpin', **{
            f'ctx.{k}': v for k, v in _WQ.items()}},
    'CREATE_RMP': {f'ctx.{k}': v for k, v in _WQ.items()},
    'CREATE_TIS': {'ctx.tls_en': 'general.tls_tx'},
    'CREATE_TIR': {'ctx.tls_en': 'general.tls_rx', 'ctx.packet_merge_mask': 'ethernet.lro_cap'},
    # Matching by a definer, and tables of a bond or of hardware steering.
    'CREATE_FLOW_GROUP': {'match_definer_id': None},
    'CREATE_FLOW_TABLE': {
        'flow_table_context.lag_master_next_table_id': None, 'flow_table_context.rtc_valid': None},
    'MODIFY_TIR': {'ctx.packet_merge_mask': 'ethernet.lro_cap'}, }


def check(card: 'Card', cmd: 'Command') -> None:
    """Refuse a command that wants what the card has not.

    :raises Status: BAD_PARAM
    """
    for field, capability in FEATURES.get(cmd.name, {}).items():
        if not cmd.inp.has(field) or not cmd.inp[field]:
            continue
        page, _, name = (capability or '').partition('.')
        if not capability or not card.caps.page(page).has(name) or not card.caps.page(page)[name]:
            raise Status('BAD_PARAM', f'{field} is not supported')
