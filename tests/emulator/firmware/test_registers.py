# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Registers that ethtool and devlink ask for: pause frames, error correction, why a link is down,
the module in the cage, the firmware's components."""
from emulator.driver.commands import run, status
from emulator.driver.registers import register, register_status
from mlx5emu import prm
from mlx5emu.card import Card
from mlx5emu.prm.decode import decode


def test_what_there_is(eth, ib) -> None:
    for card in (eth, ib):
        ports, management = register(card, 'PCAM'), register(card, 'MCAM')
        # Bit 35 of the ports' registers, bits 0 and 1 of management's, and no feature.
        assert int.from_bytes(ports['port_access_reg_cap_mask'], 'big') == 1 << 35
        assert int.from_bytes(management['mng_access_reg_cap_mask'], 'big') == 3 << 96
        for r in (ports, management):
            assert sum(map(int.bit_count, r.buf[r.base:])) == (1 if r is ports else 2)
        assert not any(register(card, 'MCAM', access_reg_group=1)['mng_access_reg_cap_mask'])
        assert decode(register(card, 'QCAM')) == {}
        for name in ('PCAM', 'MCAM', 'QCAM'):
            assert register_status(card, name) == 'BAD_PARAM'


# ---- the link

def test_pause_frames(eth) -> None:
    """On at power-on; what a mask leaves out stays; TEARDOWN_HCA resets all."""
    r = register(eth, 'PFCC', local_port=1)
    assert (r['pptx'], r['pprx'], r['pfctx'], r['pfcrx']) == (1, 1, 0, 0)
    register(eth, 'PFCC', write=True, local_port=1, pptx=0, pprx=1)
    r = register(eth, 'PFCC', write=True, pptx_mask_n=1, pptx=1, pprx_mask_n=1, prio_mask_tx=0xf,
                 pfctx=0xff, prio_mask_rx=0x81, pfcrx=0xff)
    assert (r['pptx'], r['pprx'], r['pfctx'], r['pfcrx']) == (0, 1, 0x0f, 0x81)
    r = register(eth, 'PFCC', write=True, pptx_mask_n=1, pprx_mask_n=1, critical_stall_mask=1,
                 device_stall_critical_watermark=900, device_stall_minor_watermark=800)
    assert (r['device_stall_critical_watermark'], r['device_stall_minor_watermark']) == (900, 0)
    assert register_status(eth, 'PFCC', local_port=2) == 'BAD_PARAM'
    eth.teardown()
    assert register(eth, 'PFCC')['pptx'] == 1


def test_error_correction(eth, ib) -> None:
    r = register(eth, 'PPLM', local_port=1)
    assert (r['fec_override_cap_100g'], r['fec_override_admin_100g'], r['fec_mode_active']) == (
        5, 0, 4)
    r = register(eth, 'PPLM', write=True, fec_override_admin_100g=1)
    assert (r['fec_override_admin_100g'], r['fec_mode_active']) == (1, 1)
    for bad in (2, 5, 8):
        assert register_status(eth, 'PPLM', fec_override_admin_100g=bad) == 'BAD_PARAM'
    assert register(eth, 'PPLM')['fec_mode_active'] == 1
    assert register_status(ib, 'PPLM', write=False) == 'BAD_PARAM'


def test_why_the_link_is_down(eth) -> None:
    path = ('page_data.pddr_troubleshooting_page.status_opcode.pddr_monitor_opcode.'
            'monitor_opcode')
    assert register(eth, 'PDDR', page_select=1)[path] == 0
    register(eth, 'PAOS', write=True, ase=1, admin_status=2)
    assert register(eth, 'PDDR', page_select=1)[path] == 1
    assert register_status(eth, 'PDDR', write=False, page_select=2) == 'BAD_PARAM'
    assert register_status(eth, 'PDDR', page_select=1) == 'BAD_PARAM'


# ---- the board

def read_module(card: Card, address: int, size: int, **fields: int) -> bytes:
    """Some bytes of the module's EEPROM."""
    r = register(card, 'MCIA', i2c_device_address=0x50, device_address=address, size=size, **fields)
    assert r['status'] == 0
    return bytes(r.buf[r.base + 16:r.base + 16 + size])


def test_module(eth, ib) -> None:
    """Both checksums of SFF-8636 hold, and the names are where it has them."""
    page = b''.join(read_module(eth, k, min(48, 256 - k)) for k in range(0, 256, 48))
    assert len(page) == 256 and page[0] == page[128] == 0x11
    assert page[191] == sum(page[128:191]) & 0xff and page[223] == sum(page[192:223]) & 0xff
    assert page[148:164].strip() == b'mlx5emu' and int(page[196:212], 16) == eth.guid
    assert read_module(ib, 0, 1) == b'\x11'
    for fields in ({'page_number': 1}, {'i2c_device_address': 0x51}, {'device_address': 250}):
        r = register(eth, 'MCIA', **{'i2c_device_address': 0x50, 'size': 8} | fields)
        assert r['status'] == 4 and not any(r.buf[r.base + 16:])
    for bad in ({'size': 0}, {'size': 49}, {'size': 1, 'module': 1}):
        assert register_status(eth, 'MCIA', write=False, i2c_device_address=0x50,
                               **bad) == 'BAD_PARAM'
    assert register_status(eth, 'MCIA', size=1) == 'BAD_PARAM'


def component(card: Card, size: int, **fields: int) -> tuple[prm.View, bytes]:
    """MCQI's answer, and the bytes of information in it, for which the driver's question has no
    room."""
    r = prm.new('mcqi_reg')
    r.set(data_size=size, **fields)
    head = len(r.buf)
    out = run(card, 'ACCESS_REG', {'register_id': prm.REGISTERS['MCQI']}, op_mod=1,
              extra=bytes(r.buf), out_len=16 + head + size)
    return prm.View('mcqi_reg', out.buf, 16), bytes(out.buf[16 + head:16 + head + size])


def test_firmware_components(eth) -> None:
    """One component, whose version is the one of the initialization segment."""
    r = register(eth, 'MCQS')
    assert (r['last_index_flag'], r['identifier'], r['component_update_state']) == (1, 1, 0)
    p, size = eth.profile, prm.layout_bits('mcqi_version') >> 3
    r, data = component(eth, size, info_type=1)
    assert r['info_size'] == size
    version = prm.View('mcqi_version', data)
    assert version['version'] == p.fw_major << 24 | p.fw_minor << 16 | p.fw_subminor
    text = version['version_string'][:version['version_string_length']]
    assert text == f'{p.fw_major}.{p.fw_minor}.{p.fw_subminor:04}'.encode()
    assert component(eth, 4, info_type=1, offset=4)[1] == data[4:8]
    assert component(eth, 4)[1] == b'\0\0\0\x03'
    for bad in ({'component_index': 1}, {'info_type': 5}, {'offset': size + 1, 'info_type': 1},
                {'data_size': size + 1, 'info_type': 1}):
        assert register_status(eth, 'MCQI', write=False, **bad) == 'BAD_PARAM'
    assert register_status(eth, 'MCQI') == 'BAD_PARAM'
    assert register_status(eth, 'MCQS') == 'BAD_PARAM'
    assert register_status(eth, 'MCQS', write=False, component_index=1) == 'BAD_PARAM'


def test_functions_of_the_switch(eth, ib) -> None:
    """The host of the switch has no virtual functions."""
    assert decode(run(eth, 'QUERY_ESW_FUNCTIONS').sub('host_params_context')) == {
        'host_pci_bus': 1}
    assert status(ib, 'QUERY_ESW_FUNCTIONS') == 'BAD_OP'
