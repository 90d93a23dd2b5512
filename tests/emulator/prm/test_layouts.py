# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Layouts read from the kernel's header, views over bytes, the cache of the parsed header."""
import json
import os
import random

import pytest
from mlx5emu import prm
from mlx5emu.prm import ifc_header, layouts


@pytest.fixture(autouse=True, scope='module')
def loaded() -> None:
    prm.load()


def test_sizes_are_those_of_the_prm() -> None:
    """Sizes in bytes that the programmer's reference manual states."""
    for name, size in {
            'cmd_hca_cap': 0x100, 'eqc': 0x40, 'cqc': 0x40, 'qpc': 0xe8, 'mkc': 0x40,
            'create_eq_in': 0x110, 'create_cq_in': 0x110, 'create_mkey_in': 0x110,
            'query_hca_cap_out': 0x1010, 'fte_match_param': 0x200}.items():
        assert prm.layout_bits(name) == 8 * size, name


def test_known_offsets() -> None:
    v = prm.new('create_mkey_in', 64)
    assert v.offset('memory_key_mkey_entry') == 0x10
    assert v.offset('klm_pas_mtt') == 0x110
    v['memory_key_mkey_entry.qpn'] = 0xabcdef
    assert v.buf[0x14:0x18] == b'\xab\xcd\xef\x00'
    e = prm.new('eqc')
    e['log_eq_size'] = 5
    assert e.buf[0x0c] == 5


def test_opcodes_registers_events() -> None:
    assert prm.OPCODES['CREATE_UMEM'] == 0xa08 and prm.OPCODE_NAMES[0x400] == 'CREATE_CQ'
    assert prm.REGISTERS['PTYS'] == 0x5004 and prm.REGISTER_NAMES[0x5003] == 'PMTU'
    assert prm.EVENTS['CMD'] == 0x0a and prm.EVENTS['PAGE_REQUEST'] == 0x0b


def test_every_registered_command_has_a_layout() -> None:
    from mlx5emu import card
    from mlx5emu.firmware import dispatch
    card.Card()
    for name in dispatch.names():
        assert name in prm.OPCODES, name
        layout = prm.command_layouts(name)[0]
        assert prm.has(layout) and (
            layout != 'general_obj_in_cmd_hdr') != name.endswith('GENERAL_OBJECT'), name


def test_fields_do_not_touch_their_neighbours() -> None:
    """Random values into every plain field of a layout, then all are read back."""
    rng = random.Random(1)
    for layout in ('qpc', 'cqc', 'mkc', 'flow_context'):
        v = prm.View(layout, bytearray(rng.randbytes(prm.Layout(layout).size)))
        plain = [
            f for f, (_, bits, sub, count) in prm.fields(layout).items()
            if sub is None and count is None and not f.startswith('reserved')]
        values = {f: rng.getrandbits(prm.fields(layout)[f][1]) for f in plain}
        for f, value in values.items():
            v[f] = value
        assert {f: v[f] for f in plain} == values


def test_paths_arrays_and_subviews() -> None:
    v = prm.new('create_cq_in', 32)
    v['pas[2]'] = 0x1122334455667000
    assert v.array('pas') == (0, 0, 0x1122334455667000, 0)
    assert v.array('pas', limit=1) == (0,)
    sub = v.sub('cq_context')
    sub['log_cq_size'] = 9
    assert v['cq_context.log_cq_size'] == 9
    assert v['cq_context'] == bytes(v.buf[0x10:0x50])
    g = prm.new('query_hca_vport_gid_out', 16)
    g['gid[0]'] = bytes(range(16))
    assert g.buf[16:] == bytes(range(16))


def test_unknown_names_and_values_that_do_not_fit_are_errors() -> None:
    v = prm.new('create_cq_in')
    with pytest.raises(prm.LayoutError):
        v['no_such_field']
    with pytest.raises(prm.LayoutError):
        v['cq_context[1]']
    with pytest.raises(prm.LayoutError):
        prm.view('no_such_layout', b'')
    with pytest.raises(prm.FieldError):
        v['pas[0]']
    with pytest.raises(prm.FieldError):
        v['pas[0]'] = 1
    with pytest.raises(ValueError):
        v['cq_context.log_cq_size'] = 32
    with pytest.raises(ValueError):
        v['cq_context.log_cq_size'] = -1
    with pytest.raises(ValueError):
        v['cq_context'] = b'short'
    event = prm.new('create_eq_in')
    event['event_bitmask[3]'] = 1
    with pytest.raises(prm.LayoutError):
        event['event_bitmask[4]']


def test_declare() -> None:
    prm.declare('test_layout', [('a', 4), ('b', 12), ('@', 64), ('c', 8, 3), ('nested', 'mtt')],
                size=256)
    v = prm.new('test_layout')
    assert v.size == 32
    v['a'], v['b'], v['c[1]'], v['nested.wr_en'] = 0xf, 0x123, 7, 1
    assert v.buf[:2] == b'\xf1\x23' and v.buf[9] == 7 and v['nested.wr_en'] == 1
    with pytest.raises(prm.LayoutError):
        prm.declare('test_layout', [('a', 4), ('a', 4)])
    with pytest.raises(prm.LayoutError):
        prm.declare('test_layout', [('a', 64), ('@', 32)])


HEADER = """
enum { MLX5_CMD_OP_QUERY_HCA_CAP = 0x100, MLX5_CMD_OP_NEXT, MLX5_BIT = BIT(3),
      MLX5_SHIFT = (1ULL << 40), };
#define MLX5_LONG (2 + \\
	3)
struct mlx5_ifc_inner_bits { u8 x[0x4]; u8 y[0xc]; };
struct mlx5_ifc_cmd_hca_cap_bits { /* comment */
	u8 first[0x20]; // another
	union { struct mlx5_ifc_inner_bits one; u8 two[0x20]; } either;
	union { struct { u8 p[0x8]; u8 q[0x18]; }; u8 r[0x20]; };
	struct mlx5_ifc_inner_bits many[MLX5_LONG];
	u8 pas[][0x40];
};
"""


@pytest.fixture
def own_header(tmp_path, monkeypatch):
    """A directory with a header of ours; the real one is loaded again afterwards."""
    real = layouts.SOURCE
    cache = tmp_path / 'cache.json'
    (tmp_path / 'mlx5_ifc.h').write_text(HEADER)
    monkeypatch.setattr(ifc_header, '_cache_path', lambda directory: str(cache))
    yield tmp_path, cache
    monkeypatch.undo()
    layouts.SOURCE = None
    prm.load(real)


def test_parser(own_header) -> None:
    prm.load(str(own_header[0]))
    assert prm.OPCODES == {'QUERY_HCA_CAP': 0x100, 'NEXT': 0x101}
    assert prm.ENUM['MLX5_BIT'] == 8 and prm.ENUM['MLX5_SHIFT'] == 1 << 40
    f = prm.fields('cmd_hca_cap')
    assert f['either'][:2] == (0x20, 0x20) and f['q'][:2] == (0x48, 0x18) and f['r'][:2] == (0x40,
                                                                                             0x20)
    assert f['many'] == (0x60, 0x10, 'inner', 5) and f['pas'] == (0x60 + 5 * 0x10, 0x40, None, 0)
    v = prm.new('cmd_hca_cap')
    v['either.one.y'], v['many[4].x'] = 0x123, 5
    assert v['either.two'] >> 16 & 0xfff == 0x123 and v['many[4].x'] == 5


def test_cache_is_used_and_survives_damage(own_header) -> None:
    directory, cache = own_header
    prm.load(str(directory))
    good = cache.read_text()
    marked = json.loads(good)
    marked['enum']['MLX5_CMD_OP_FROM_CACHE'] = 0x999
    cache.write_text(json.dumps(marked))
    layouts.SOURCE = None
    prm.load(str(directory))
    assert prm.OPCODES['FROM_CACHE'] == 0x999, 'the cache was not read'
    for bad in ('', '{', '[]', 'null', good[:len(good) // 2], '{"stamp": 1}',
                json.dumps(dict(json.loads(good), types=[]))):
        cache.write_text(bad)
        layouts.SOURCE = None
        prm.load(str(directory))
        assert 'FROM_CACHE' not in prm.OPCODES and prm.OPCODES['QUERY_HCA_CAP'] == 0x100
    # A changed header is read again.
    (directory / 'mlx5_ifc.h').write_text(HEADER.replace('0x100', '0x200'))
    layouts.SOURCE = None
    prm.load(str(directory))
    assert prm.OPCODES['QUERY_HCA_CAP'] == 0x200


def test_headers_that_are_not_ours(own_header, monkeypatch) -> None:
    directory, _ = own_header
    (directory / 'mlx5_ifc.h').write_text('struct nothing;')
    with pytest.raises(prm.LayoutError):
        prm.load(str(directory))
    (directory / 'mlx5_ifc.h').write_text('struct mlx5_ifc_bad_bits { int x; };')
    with pytest.raises(prm.LayoutError):
        prm.load(str(directory))
    os.unlink(directory / 'mlx5_ifc.h')
    monkeypatch.setenv('MLX5_INCLUDE', str(directory))
    with pytest.raises(prm.LayoutError, match='MLX5_INCLUDE'):
        prm.find_headers()


def test_extensions_outlive_a_reload(own_header) -> None:
    """Fields that the header lacks are there again when the header is read anew."""
    real = layouts.SOURCE
    prm.extend('cqc', {'field_of_a_test': (0x20, 8)})
    prm.load(str(own_header[0]))
    prm.load(real)
    assert prm.fields('cqc')['field_of_a_test'][:2] == (0x20, 8)
    del layouts._EXTENDED['cqc']['field_of_a_test'], layouts._TYPES['cqc'][1]['field_of_a_test']
