# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The document of the emulated card names what the card has, and nothing else."""
import re
from pathlib import Path

from emulator.driver.documents import kinds_of
from mlx5emu import prm
from mlx5emu.card import Card
from mlx5emu.firmware import caps, dispatch, general_object, registers, tables

Card()      # registers the commands
TEXT = (Path(__file__).parents[2] / 'Documentation' / 'emulated_card.md').read_text()


def section(title: str) -> str:
    """The text below a heading, up to the next."""
    return re.split(r'^## ', TEXT, flags=re.M)[[
        line.split('\n')[0] for line in re.split(r'^## ', TEXT, flags=re.M)].index(title)]


def test_commands() -> None:
    """Each registered command once in the table; every other opcode of the header is not there."""
    table = [
        line for line in section('Firmware commands').splitlines() if line.startswith('| ')][2:]
    found = [
        name for line in table for name in re.findall(r'[A-Z0-9][A-Z0-9_]{2,}',
                                                      line.split('|')[2]) if name in prm.OPCODES]
    assert sorted(found) == dispatch.names()


def test_kinds() -> None:
    """Each declared kind has its line, as its declaration says it."""
    assert kinds_of(TEXT) == sorted(kind.line() for kind in tables.KINDS.values())


def test_general_objects_registers_and_pages() -> None:
    """Types, registers and capability pages likewise."""
    text = section('Firmware commands')
    listed = re.search(r'General objects by type: (.*?)\.\n\n', text, flags=re.S)
    assert {int(n, 16) for n in re.findall(r'0x[0-9a-f]+', listed.group(1))} == set(
        general_object.TYPES)
    listed = re.search(r'ACCESS_REG: ([A-Z_, ]+)', text)
    assert set(listed.group(1).replace(' ', '').split(',')) == set(registers._REGISTERS)
    listed = re.search(r'Capability pages: (.*?)\. A page', text, flags=re.S)
    assert set(re.findall(r'\w+', listed.group(1))) == set(caps.PAGES)
