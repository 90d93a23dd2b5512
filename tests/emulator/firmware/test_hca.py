# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Dispatch of commands, the function's life cycle, capabilities, pages, user contexts."""
import pytest
from emulator.driver.commands import encode, run, status
from emulator.driver.memory import GuestMemory
from mlx5emu import prm
from mlx5emu.card import Card
from mlx5emu.firmware import caps, dispatch
from mlx5emu.firmware.hca import SPECIAL_KEYS
from mlx5emu.firmware.pages import BOOT_PAGES, INIT_PAGES


@pytest.fixture
def card() -> Card:
    card = Card('connectx6dx', 'eth')
    card.boot()
    yield card
    assert card.internal_errors == 0


@pytest.fixture
def cold() -> Card:
    card = Card('connectx6dx', 'ib')
    yield card
    assert card.internal_errors == 0


# ---- dispatch

def test_unknown_opcodes(card) -> None:
    known = {prm.OPCODES[n] for n in dispatch.names()}
    for opcode in set(range(0x1000)) | set(range(0, 0x10000, 0x101)):
        if opcode not in known:
            out = card.execute(opcode.to_bytes(2, 'big') + bytes(30), 32)
            assert out[0] == 2 and out[1:4] == bytes(3) and any(out[4:8]) and not any(out[8:])
    assert card.objects() == {}


def test_lengths(card) -> None:
    raw = bytes(encode('ALLOC_PD'))
    for n in range(16):
        assert card.execute(raw[:n], 16)[0] == (2 if n < 2 else 0x50)
        out = card.execute(raw, n)
        assert len(out) == n and out[:1] == b'\x51'[:n] and not any(out[8:])
    assert card.objects() == {}
    assert card.execute(raw, dispatch.MAX_OUTPUT + 1)[0] == 0x51
    assert card.execute(raw, 16) == bytes.fromhex('00000000 00000000 00000001 00000000')
    assert card.execute(raw, 64) == bytes.fromhex('00000000 00000000 00000002 00000000') + bytes(48)
    assert card.objects() == {'pd': [1, 2]}
    # Shorter than the layout, though every field that the command reads is there.
    whole = bytes(encode('MODIFY_MEMIC'))
    assert len(whole) == 64 and card.execute(whole, 64)[0] == 5 and card.execute(whole[:-1],
                                                                                 64)[0] == 0x50


def test_foreign_and_dead_uids(card) -> None:
    assert status(card, 'ALLOC_PD', uid=5) == 'BAD_RES'
    uid, other = (run(card, 'CREATE_UCTX')['uid'] for _ in range(2))
    pd = run(card, 'ALLOC_PD', uid=uid)['pd']
    assert status(card, 'DEALLOC_PD', {'pd': pd}, uid=other) == 'BAD_RES'
    assert card.objects() == {'uctx': [uid, other], 'pd': [pd]}
    run(card, 'DEALLOC_PD', {'pd': pd}, uid=uid)
    run(card, 'DESTROY_UCTX', {'uid': uid})
    assert status(card, 'ALLOC_PD', uid=uid) == 'BAD_RES'


def test_injected_faults(card) -> None:
    card.faults.add('ALLOC_PD', 'NO_RES', count=1, syndrome=0xabc)
    out = card.execute(bytes(encode('ALLOC_PD')), 16)
    assert out == bytes.fromhex('0f000000 00000abc') + bytes(8)
    assert card.objects() == {}
    run(card, 'ALLOC_PD')
    assert card.failure_counts == {'ALLOC_PD NO_RES': 1} and card.command_counts['ALLOC_PD'] == 2


def test_a_defect_is_an_answer_not_a_crash(monkeypatch) -> None:
    card = Card()
    card.boot()
    monkeypatch.setattr(card.pds, 'alloc', lambda *a: 1 // 0)
    assert status(card, 'ALLOC_PD') == 'INT_ERR'
    assert card.internal_errors == 1


# ---- life cycle

def test_boot_sequence_and_teardown(cold) -> None:
    card = cold
    assert status(card, 'QUERY_ISSI') == 'BAD_SYS_STATE'
    assert status(card, 'ENABLE_HCA', {'function_id': 1}) == 'BAD_PARAM'
    run(card, 'ENABLE_HCA')
    assert status(card, 'ENABLE_HCA') == 'BAD_SYS_STATE'
    assert run(card, 'QUERY_ISSI')['supported_issi_dw0'] == 2
    assert status(card, 'SET_ISSI', {'current_issi': 2}) == 'BAD_PARAM'
    run(card, 'SET_ISSI', {'current_issi': 1})
    assert run(card, 'QUERY_ISSI')['current_issi'] == 1
    assert status(card, 'INIT_HCA') == 'NO_RES'
    assert status(card, 'ALLOC_PD') == 'BAD_SYS_STATE'

    boot = run(card, 'QUERY_PAGES', op_mod=1)['num_pages']
    assert boot == BOOT_PAGES
    give(card, range(0x100000, 0x100000 + 4096 * boot, 4096))
    init = run(card, 'QUERY_PAGES', op_mod=2)['num_pages']
    assert init == INIT_PAGES
    give(card, range(0x200000, 0x200000 + 4096 * init, 4096))
    # As libmlx5's own driver has it, without a software owner's identity.
    assert card.execute(prm.OPCODES['INIT_HCA'].to_bytes(2, 'big') + bytes(14), 16)[0] == 0
    assert status(card, 'INIT_HCA') == 'BAD_SYS_STATE'
    assert status(card, 'DISABLE_HCA') == 'BAD_SYS_STATE'

    run(card, 'ALLOC_PD')
    assert status(card, 'TEARDOWN_HCA', {'profile': 7}) == 'BAD_PARAM'
    run(card, 'TEARDOWN_HCA')
    assert card.objects() == {} and status(card, 'ALLOC_PD') == 'BAD_SYS_STATE'
    out = run(card, 'MANAGE_PAGES', {'input_num_entries': 768}, op_mod=2, out_len=16 + 8 * 768)
    assert out['output_num_entries'] == boot + init
    back = set(out.array('pas', limit=boot + init))
    assert back == set(range(0x100000, 0x100000 + 4096 * boot, 4096)) | set(
        range(0x200000, 0x200000 + 4096 * init, 4096))
    assert card.pages.held == {}
    run(card, 'DISABLE_HCA')
    run(card, 'ENABLE_HCA')


def give(card, pages) -> None:
    """MANAGE_PAGES give."""
    pages = list(pages)
    out = run(card, 'MANAGE_PAGES', {'input_num_entries': len(pages)}, op_mod=1, extra=b''.join(
        p.to_bytes(8, 'big') for p in pages))
    assert out['output_num_entries'] == len(pages)


def test_bad_pages(cold) -> None:
    card = cold
    run(card, 'ENABLE_HCA')
    give(card, [0x1000])
    for pages, want in (([0x1000], 'BAD_PARAM'), ([0x2000,
                                                   0x2000], 'BAD_PARAM'), ([0x3001], 'BAD_PARAM')):
        assert status(card, 'MANAGE_PAGES', {'input_num_entries': len(pages)}, op_mod=1,
                      extra=b''.join(p.to_bytes(8, 'big') for p in pages)) == want
    assert status(card, 'MANAGE_PAGES', {'input_num_entries': 2}, op_mod=1,
                  extra=bytes(8)) == 'BAD_INP_LEN'
    assert status(card, 'MANAGE_PAGES', {'input_num_entries': 2}, op_mod=2,
                  out_len=16 + 8) == 'BAD_OUTP_LEN'
    assert status(card, 'MANAGE_PAGES', op_mod=3) == 'BAD_PARAM'
    assert status(card, 'QUERY_PAGES', op_mod=0) == 'BAD_PARAM'
    assert list(card.pages.held) == [0x1000]


def test_pages_taken_back_in_parts(cold) -> None:
    card = cold
    run(card, 'ENABLE_HCA')
    pages = [0x1000 * k for k in range(1, 6)]
    give(card, pages)
    out = run(card, 'MANAGE_PAGES', {'input_num_entries': 2}, op_mod=2, out_len=16 + 16)
    first = out.array('pas')
    assert out['output_num_entries'] == 2 and len(set(first)) == 2
    assert run(card, 'MANAGE_PAGES', op_mod=2, out_len=16)['output_num_entries'] == 0
    out = run(card, 'MANAGE_PAGES', {'input_num_entries': 9}, op_mod=2, out_len=16 + 72)
    assert out['output_num_entries'] == 3 and sorted(
        first + out.array('pas', limit=3)) == pages and card.pages.held == {}


def test_the_function_is_disabled_once_its_pages_are_given_back(cold) -> None:
    card = cold
    run(card, 'ENABLE_HCA')
    give(card, [0x1000])
    assert status(card, 'DISABLE_HCA') == 'BAD_RES_STATE'
    assert card.state == card.ENABLED and list(card.pages.held) == [0x1000]
    run(card, 'MANAGE_PAGES', {'input_num_entries': 1}, op_mod=2, out_len=16 + 8)
    run(card, 'DISABLE_HCA')
    assert card.state == card.RESET


def test_reset_forgets_everything_but_the_wiring(card) -> None:
    run(card, 'ALLOC_PD')
    run(card, 'CREATE_UCTX')
    card.faults.add('ALLOC_PD', 'NO_RES', count=-1)
    card.memic.write(16 << 20, b'secret')
    card.reset()
    assert card.objects() == {} and card.state == card.RESET and card.memory.used == 0
    assert card.memic.read(16 << 20, 6) == bytes(6)
    card.boot()
    assert status(card, 'ALLOC_PD') == 'NO_RES', 'injected faults outlive a reset'


# ---- capabilities

@pytest.mark.parametrize('profile', caps.PROFILES)
@pytest.mark.parametrize('link_layer', ['ib', 'eth'])
def test_capability_pages(profile, link_layer) -> None:
    card = Card(profile, link_layer)
    run(card, 'ENABLE_HCA')
    for name, (number, _) in caps.PAGES.items():
        for current in (0, 1):
            out = run(card, 'QUERY_HCA_CAP', op_mod=number << 1 | current)
            assert bytes(out.buf[16:]) == bytes(card.caps.by_type(number, bool(current)).buf), name
    general = prm.View('cmd_hca_cap', run(card, 'QUERY_HCA_CAP', op_mod=1).buf, 16)
    assert general['port_type'] == (1 if link_layer == 'eth' else 0) and general['num_ports'] == 1
    assert general['general_obj_types'] >> 8 & 1 and general['log_max_umem'] and general[
        'device_memory']
    assert general['roce'] == int(link_layer == 'eth')
    assert status(card, 'QUERY_HCA_CAP', op_mod=0x3f << 1) == 'BAD_PARAM'
    # A caller with a short buffer gets the beginning.
    assert run(card, 'QUERY_HCA_CAP', op_mod=1, out_len=0x110).buf[16:] == general.buf[16:0x110]


def test_no_capability_is_misspelt() -> None:
    """What a header of this version lacks is skipped when the pages are made: here it must not
    happen."""
    for profile in caps.PROFILES.values():
        for link_layer in ('ib', 'eth'):
            for page, values in caps._values(profile, link_layer).items():
                layout = prm.new(caps.PAGES[page][1])
                for field in values:
                    assert layout.has(field), f'{page}.{field}'


def test_profiles_differ_as_the_cards_do() -> None:
    five, six, seven = (Card(p) for p in ('connectx5', 'connectx6dx', 'connectx7'))
    assert [c.profile.device_id for c in (five, six, seven)] == [0x1017, 0x101d, 0x1021]
    assert [c.profile.fw_major for c in (five, six, seven)] == [16, 22, 28]
    assert [c.caps.get('steering_format_version') for c in (five, six, seven)] == [0, 1, 2]
    assert 'header_modify_pattern' not in five.icm.ranges(
    ) and 'header_modify_pattern' in six.icm.ranges()
    for c, v1, v2 in ((five, 1, 0), (six, 0, 1), (seven, 0, 1)):
        for d in ('receive', 'transmit'):
            p = c.caps.page('flow_table').sub(f'flow_table_properties_nic_{d}')
            assert (p['sw_owner'], p['sw_owner_v2']) == (v1, v2)


def set_caps(card, number, **fields) -> str:
    """SET_HCA_CAP of the current page with some fields changed."""
    name = caps.BY_TYPE[number]
    page = prm.View(card.caps.page(name).name, bytearray(card.caps.page(name).buf))
    page.set(**fields)
    raw = encode('SET_HCA_CAP', op_mod=number << 1)[:16] + page.buf
    return {0: 'OK', 3: 'BAD_PARAM', 4: 'BAD_SYS_STATE'}[card.execute(bytes(raw), 16)[0]]


def test_set_capabilities(cold) -> None:
    card = cold
    run(card, 'ENABLE_HCA')
    assert set_caps(card, 0, log_max_qp=12, cmdif_checksum=0) == 'OK'
    assert card.caps.get('log_max_qp') == 12
    assert card.caps.maximal['general']['log_max_qp'] == 17
    assert set_caps(card, 0, log_max_qp=18) == 'BAD_PARAM'
    assert card.caps.get('log_max_qp') == 12
    assert set_caps(card, 0, pg=0, log_max_umem=31) == 'OK'
    assert (card.caps.get('pg'),
            card.caps.get('log_max_umem')) == (1, 16), 'what cannot be set does not change'
    assert set_caps(card, 3, atomic_req_8B_endianness_mode=1, atomic_operations=0) == 'OK'
    assert card.caps.page('atomic')['atomic_req_8B_endianness_mode'] == 1 and card.caps.page(
        'atomic')['atomic_operations']
    card.boot()
    assert set_caps(card, 0) == 'BAD_SYS_STATE'


def test_adapter_special_contexts_and_driver_version(card) -> None:
    out = run(card, 'QUERY_ADAPTER')
    assert out['query_adapter_struct.ieee_vendor_id'] == 0x2c9
    assert out['query_adapter_struct.vsd_contd_psid'].rstrip(b'\0') == b'MT_0000000359'
    out = run(card, 'QUERY_SPECIAL_CONTEXTS')
    assert {f: out[f] for f in SPECIAL_KEYS} == SPECIAL_KEYS and len(set(
        SPECIAL_KEYS.values())) == len(SPECIAL_KEYS)
    run(card, 'SET_DRIVER_VERSION', {'driver_version': b'Linux,mlx5_core'.ljust(64, b'\0')})
    assert card.driver_version == 'Linux,mlx5_core'


# ---- user contexts

def test_uctx(card) -> None:
    uid = run(card, 'CREATE_UCTX', {'uctx.cap': 3})['uid']
    assert uid and card.uctxs.get(uid).cap == 3
    assert status(card, 'CREATE_UCTX', {'uctx.cap': 4}) == 'BAD_PARAM'
    pd = run(card, 'ALLOC_PD', uid=uid)['pd']
    card.pds.get(pd).hold()
    assert status(card, 'DESTROY_UCTX', {'uid': uid}) == 'BAD_RES_STATE'
    assert card.pds.numbers() == [pd] and uid in card.uctxs
    card.pds.get(pd).drop()
    run(card, 'DESTROY_UCTX', {'uid': uid})
    assert status(card, 'DESTROY_UCTX', {'uid': uid}) == 'BAD_RES'
    assert card.objects() == {}


def test_uctx_takes_what_its_process_left(card) -> None:
    """In an order in which nothing is in use: the queue before its umem, the key before its
    domain."""
    guest = GuestMemory(card)
    uid = run(card, 'CREATE_UCTX', {'uctx.cap': 3})['uid']
    kernels = run(card, 'ALLOC_PD')['pd']
    pd = run(card, 'ALLOC_PD', uid=uid)['pd']
    uar = run(card, 'ALLOC_UAR', uid=uid)['uar']
    page = guest.alloc(8192)
    umem = run(card, 'CREATE_UMEM', {'umem.num_of_mtt': 2},
               extra=(page | 3).to_bytes(8, 'big') + (page + 4096 | 3).to_bytes(8, 'big'),
               uid=uid)['umem_id']
    run(card, 'CREATE_EQ', {'eq_context_entry.log_eq_size': 2, 'eq_context_entry.uar_page': uar},
        extra=page.to_bytes(8, 'big'), uid=uid)
    key = {
        'access_mode_1_0': 1, 'pd': pd, 'len': 4096, 'qpn': 0xffffff, 'log_page_size': 12,
        'translations_octword_size': 1}
    run(card, 'CREATE_MKEY', {f'memory_key_mkey_entry.{k}': v
                              for k, v in key.items()} | {'translations_octword_actual_size': 1},
        extra=page.to_bytes(8, 'big') + bytes(8), uid=uid)
    icm = prm.new('sw_icm')
    icm.set(log_sw_icm_size=12, sw_icm_start_addr=card.icm.ranges()['steering'][0])
    run(card, 'CREATE_GENERAL_OBJECT', {'obj_type': 8}, extra=bytes(icm.buf), uid=uid)
    card.umems.get(umem).hold()
    assert status(card, 'DESTROY_UCTX', {'uid': uid}) == 'BAD_RES_STATE'
    assert card.objects() == {'uctx': [uid], 'pd': [kernels], 'umem': [umem]}
    card.umems.get(umem).drop()
    counts = dict(card.command_counts)
    run(card, 'DESTROY_UCTX', {'uid': uid})
    assert card.objects() == {'pd': [kernels]
                              } and card.memory.used == 0 and card.icm.allocations == {}
    assert {k for k, n in card.command_counts.items() if n != counts.get(k)} == {'DESTROY_UCTX'}


def test_uctx_table_is_finite(card) -> None:
    for _ in range(0xff):
        run(card, 'CREATE_UCTX')
    assert status(card, 'CREATE_UCTX') == 'EXCEED_LIM'


@pytest.mark.parametrize(('alloc', 'free', 'field', 'table'), [
    ('ALLOC_PD', 'DEALLOC_PD', 'pd', 'pds'),
    ('ALLOC_TRANSPORT_DOMAIN', 'DEALLOC_TRANSPORT_DOMAIN', 'transport_domain', 'transport_domains'),
    ('ALLOC_XRCD', 'DEALLOC_XRCD', 'xrcd', 'xrcds'), ('ALLOC_UAR', 'DEALLOC_UAR', 'uar', 'uars'),
    ('ALLOC_Q_COUNTER', 'DEALLOC_Q_COUNTER', 'counter_set_id', 'q_counters')])
def test_plain_objects(card, alloc, free, field, table) -> None:
    t = getattr(card, table)
    a, b = (run(card, alloc)[field] for _ in range(2))
    assert a != b and t.numbers() == [a, b]
    assert status(card, free, {field: b + 1}) == 'BAD_RES'
    if alloc != 'ALLOC_Q_COUNTER':
        t.get(a).hold()
        assert status(card, free, {field: a}) == 'BAD_RES_STATE'
        t.get(a).drop()
    run(card, free, {field: a})
    assert status(card, free, {field: a}) == 'BAD_RES'
    assert t.numbers() == [b]


def test_uars_are_bar_pages(card) -> None:
    numbers = [run(card, 'ALLOC_UAR')['uar'] for _ in range(0x700)]
    assert (min(numbers), max(numbers)) == (0x100, 0x7ff)
    assert status(card, 'ALLOC_UAR') == 'EXCEED_LIM'


def test_q_counter_values(card) -> None:
    n = run(card, 'ALLOC_Q_COUNTER')['counter_set_id']
    card.q_counters.get(n).count('rx_write_requests', 5)
    card.q_counters.get(n).count('out_of_buffer', 0xffffffff)
    card.q_counters.get(n).count('out_of_buffer', 2)
    out = run(card, 'QUERY_Q_COUNTER', {'counter_set_id': n, 'clear': 1})
    assert (out['rx_write_requests'], out['out_of_buffer']) == (5, 1)
    assert run(card, 'QUERY_Q_COUNTER', {'counter_set_id': n})['rx_write_requests'] == 0
    assert status(card, 'QUERY_Q_COUNTER', {'counter_set_id': n + 1}) == 'BAD_RES'
