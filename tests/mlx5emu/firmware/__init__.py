# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Commands and what all of them stand on: status, tables of objects, capabilities, faults; and the
function, its port and its contexts. The door is :func:`dispatch.execute`, from a command's bytes to
its answer's. A file anywhere that declares a kind of object or registers a command is found by
itself.
"""
