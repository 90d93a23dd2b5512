# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Layouts of the PRM: what the kernel's own header says, and what it lacks.

This is the only folder with bit offsets. Its door is the package itself: ``prm.View``, ``prm.new``,
``prm.EVENTS`` and the others below.
"""
from . import hca_caps, ste_layouts, wqe_layouts  # noqa: F401  they declare layouts
from .layouts import (
    ENUM,
    EVENTS,
    OPCODE_NAMES,
    OPCODES,
    REGISTER_NAMES,
    REGISTERS,
    FieldError,
    Layout,
    LayoutError,
    View,
    command_layouts,
    declare,
    extend,
    fields,
    find_headers,
    has,
    layout_bits,
    load,
    new,
    reserved,
    view,
)

__all__ = [
    'ENUM',
    'EVENTS',
    'OPCODES',
    'OPCODE_NAMES',
    'REGISTERS',
    'REGISTER_NAMES',
    'FieldError',
    'Layout',
    'LayoutError',
    'View',
    'command_layouts',
    'declare',
    'extend',
    'fields',
    'find_headers',
    'has',
    'layout_bits',
    'load',
    'new',
    'reserved',
    'view', ]
