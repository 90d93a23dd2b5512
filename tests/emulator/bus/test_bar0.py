# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""The table of BAR0's windows: what the capability pages say of them, and what lies between."""
from __future__ import annotations

from mlx5emu.bus import bar0
from mlx5emu.bus.pci import Function
from mlx5emu.card import Card


def by_name(function: Function) -> dict[str, bar0.Window]:
    """The windows by their names."""
    return {window.name: window for window in function.bar0.windows}


def test_windows_follow_each_other_inside_the_bar() -> None:
    windows = Function(Card()).bar0.windows
    assert windows[0].start == 0 and windows[-1].end <= bar0.SIZE
    for a, b in zip(windows, windows[1:], strict=False):
        assert a.start < a.end <= b.start, (a.name, b.name)


def test_the_pages_tell_the_driver_where_they_are() -> None:
    function = Function(Card(link_layer='eth'))
    windows, caps = by_name(function), function.card.caps
    memory, virtio = caps.page('device_memory'), caps.page('virtio_emulation')
    memic, operations = windows['MEMIC'], windows['operations on MEMIC']
    assert (memic.start, memic.end - memic.start) == (memory['memic_bar_start_addr'],
                                                      memory['memic_bar_size'])
    # One alias of MEMIC for each bit of memic_operations.
    assert operations.end - operations.start == memory['memic_bar_size'] * memory[
        'memic_operations'].bit_length()
    doorbells = windows['doorbells of virtqueues']
    assert (doorbells.start, doorbells.end - doorbells.start) == (
        virtio['doorbell_bar_offset'],
        1 << virtio['log_doorbell_bar_size'] + virtio['log_doorbell_stride'])
    uars = windows['UARs']
    for page in (uars.start >> bar0.LOG_UAR, (uars.end >> bar0.LOG_UAR) - 1):
        assert function.bar0.find(page << bar0.LOG_UAR).name == 'UARs'


def test_each_end_belongs_to_the_next() -> None:
    table = Function(Card()).bar0
    for window in table.windows:
        for offset, inside in ((window.start, True), (window.end - 1, True), (window.end, False)):
            found = table.find(offset)
            assert (found is not None and found.name == window.name) == inside, (window, offset)


def test_what_holds_nothing_reads_as_zero_and_ignores_writes() -> None:
    function = Function(Card())
    windows = function.bar0.windows
    gaps = [a.end for a, b in zip(windows, windows[1:], strict=False) if a.end < b.start]
    for offset in [*gaps, windows[-1].end, bar0.MSIX_TABLE, bar0.UAR_START]:
        function.write(0, offset, b'\xff' * 8)
        assert function.read(0, offset, 8) == bytes(8)
    assert len(gaps) >= 3 and not function.card.internal_errors


def test_every_uar_has_a_page() -> None:
    card = Card()
    first, last = bar0.UAR_START >> bar0.LOG_UAR, (bar0.UAR_END >> bar0.LOG_UAR) - 1
    space = card.uars.space
    assert (space.first, space.first + space.limit - 1) == (first, last)
