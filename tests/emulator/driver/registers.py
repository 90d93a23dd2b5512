# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Configuration registers, as the driver reads and writes them."""
from mlx5emu import prm

from .commands import run, status


def register(card, name: str, write: bool = False, **fields) -> prm.View:
    """ACCESS_REG; the register as answered."""
    layout = {'NODE_DESC': 'node_desc_reg', 'HOST_ENDIANNESS': 'host_endianness_reg'}.get(
        name,
        name.lower() + '_reg')
    r = prm.new(layout)
    r.set(**fields)
    out = run(card, 'ACCESS_REG', {'register_id': prm.REGISTERS[name]}, op_mod=0 if write else 1,
              extra=bytes(r.buf), out_len=16 + len(r.buf))
    return prm.View(layout, out.buf, 16)


def register_status(card, name: str, write: bool = True, **fields) -> str:
    r = prm.new(name.lower() + '_reg')
    r.set(**fields)
    return status(card, 'ACCESS_REG', {'register_id': prm.REGISTERS[name]},
                  op_mod=0 if write else 1, extra=bytes(r.buf), out_len=16 + len(r.buf))
