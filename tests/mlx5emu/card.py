# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""One emulated ConnectX function: its tables, its memories and the way to its parts."""
import heapq
import importlib
import pkgutil
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from . import prm
from .dma import Dma
from .firmware import caps, dispatch, eq, link_registers, pages, subnet, vport
from .firmware.faults import Faults
from .firmware.tables import KINDS, SPACES, NumberSpace, Quota, Table
from .memory import icm, memic
from .queues import packet_pacing

#: Folders whose files register commands and declare kinds of objects when they are imported.
FOLDERS = ('firmware', 'steering', 'memory', 'queues', 'datapath')


def import_all() -> None:
    """Import every file of the folders below, late, because object files may import this one."""
    for folder in FOLDERS:
        package = importlib.import_module(f'{__package__}.{folder}')
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):
            importlib.import_module(module.name)

#: Traces of defects that a card keeps.
MAX_DEFECTS = 16


class Card:
    """The function's whole state; knows nothing of PCI.

    Each kind of object has its table as an attribute, ``card.pds``, as the kind's class declares it
    (:func:`tables.declare`). Kinds may share numbers: ``card.queue_numbers.lookup(n)`` tells what a
    doorbell means.

    :param profile: name in :data:`caps.PROFILES`.
    :param link_layer: 'ib' or 'eth'.
    :param trace: called with a record for each command and work request, or None.
    :param index: number of the function, for GUIDs and MAC address.
    :param cap_overrides: capabilities other than the profile's, PAGE.FIELD=VALUE each.
    :param clock: nanoseconds from any start, which never go back.
    :raises KeyError: unknown profile.
    :raises ValueError: unknown link layer or capability.
    """

    #: Values of ``state``: before ENABLE_HCA, after it, after INIT_HCA.
    RESET, ENABLED, READY = 0, 1, 2

    def __init__(self, profile: str = 'connectx6dx', link_layer: str = 'ib',
                 trace: Callable[[dict[str, Any]], Any] | None = None, index: int = 0,
                 cap_overrides: Sequence[str] = (),
                 clock: Callable[[], int] = time.monotonic_ns) -> None:
        prm.load()
        import_all()
        if link_layer not in ('ib', 'eth'):
            raise ValueError(f'link layer {link_layer!r} is not ib or eth')
        self.profile = caps.PROFILES[profile]
        self.link_layer, self.trace, self.index = link_layer, trace, index
        self.cap_overrides = tuple(cap_overrides)
        #: Of the board, which all its functions share, and of the function's node and port.
        self.system_image_guid = 0x506b4b0300c0de00
        self.guid = self.system_image_guid + (index << 4)
        #: What the subnet manager gave the port.
        self.subnet = subnet.Assignment(index)
        self.dma = Dma()
        self.faults = Faults()
        self.raise_irq: Callable[[int], Any] = lambda vector: None
        #: Told that the next timer is earlier than the one before.
        self.wake: Callable[[], Any] = lambda: None
        self.command_counts: dict[str, int] = {}
        self.failure_counts: dict[str, int] = {}
        #: Defects of the emulator that were met, and the traces of the first of them.
        self.internal_errors = 0
        self.defects: list[str] = []
        #: Interrupt vectors of the function.
        self.vectors = 32
        self.resets = 0
        self._clock, self._start = clock, clock()
        self.memic = memic.Memic(self)
        self._make_tables()
        self._fresh()

    # ---- state

    def _make_tables(self) -> None:
        #: Bytes that guest requests may make the card keep.
        self.memory = Quota(256 << 20)
        self.queue_numbers = NumberSpace(*SPACES['queue_numbers'])
        self.srq_numbers = NumberSpace(*SPACES['srq_numbers'])
        spaces = {'queue_numbers': self.queue_numbers, 'srq_numbers': self.srq_numbers}
        #: Every table by kind.
        self.tables: dict[str, Table] = {}
        for kind in KINDS.values():
            space = spaces.get(kind.space) or NumberSpace(kind.first, kind.limit)
            self.tables[kind.name] = Table(kind.name, space, self.memory)
            setattr(self, kind.table, self.tables[kind.name])

    if TYPE_CHECKING:
        def __getattr__(self, name: str) -> Table:
            """The table of a kind."""

    def _fresh(self) -> None:
        self.state = self.RESET
        self.issi = 0
        self.driver_version = ''
        self.caps = caps.Capabilities(self.profile, self.link_layer, self.cap_overrides, self.index)
        self.pages = pages.Pages()
        self._drop_objects()

    def _drop_objects(self) -> None:
        self.memory.reset()
        for table in self.tables.values():
            table.clear()
        self.icm = icm.Icm(self)
        #: Virtqueues by (doorbell page, queue index).
        self.virtio_doorbells: dict[tuple[int, int], Any] = {}
        self.packet_pacing = packet_pacing.PacketPacing(self)
        #: Flow tables that packets start at, by table type.
        self.flow_roots: dict[int, Any] = {}
        #: The EQ that command completions go to.
        self.command_eq: eq.Eq | None = None
        self.vport = vport.Vport(self)
        self.port_mtu = 1522 if self.link_layer == 'eth' else 4096
        self.host_endianness = 0
        self.link_settings = link_registers.LinkSettings()
        self.memic.reset()
        self._timers: list[tuple[int, int, Callable[[], Any]]] = []
        self._timer_count = 0
        self.faults.held.clear()
        self.datapath = importlib.import_module(f'{__package__}.datapath.datapath').DataPath(self)

    def reset(self) -> None:
        """Function-level reset: every object, page and setting is gone; maps, interrupts, faults
        and counters stay."""
        self.resets += 1
        self._fresh()

    def teardown(self) -> None:
        """TEARDOWN_HCA: every object is dropped; pages and capabilities stay."""
        self.state = self.ENABLED
        self._drop_objects()

    def boot(self) -> None:
        """Straight to the state after INIT_HCA, for tests that do not go through the driver's
        sequence."""
        self.state = self.READY

    # ---- time

    def now(self) -> int:
        """Nanoseconds since the card was made."""
        return self._clock() - self._start

    def timestamp(self, now_ns: int | None = None) -> int:
        """The free-running counter that CQEs and the initialization segment show, in ticks of
        device_frequency_khz."""
        return (self.now()
                if now_ns is None else now_ns) * self.caps.get('device_frequency_khz') // 1000000

    def call_later(self, delay_ns: int, call: Callable[[], Any]) -> None:
        """Run ``call`` from the server's loop ``delay_ns`` from now, unless the card is reset
        before."""
        self._timer_count += 1
        heapq.heappush(self._timers, (self.now() + delay_ns, self._timer_count, call))
        if self._timers[0][1] == self._timer_count:
            self.wake()

    def run_timers(self) -> int | None:
        """Run what is due.

        :return: nanoseconds until the next timer, or None when there is none.
        """
        while self._timers:
            due = self._timers[0][0] - self.now()
            if due > 0:
                return due
            heapq.heappop(self._timers)[2]()
        return None

    def defect(self) -> None:
        """Keep what a handler of any exception caught: the guest must not be able to end the
        server, and tests assert that nothing was kept."""
        self.internal_errors += 1
        if len(self.defects) < MAX_DEFECTS:
            self.defects.append(traceback.format_exc())

    # ---- entrances

    def execute(self, raw: bytes, out_len: int = 16) -> bytes:
        """One firmware command, input bytes to output bytes; an injected delay is ignored."""
        return dispatch.execute(self, raw, out_len)[0]

    def post_eqe(self, eqn: int, event_type: int, subtype: int = 0, data: bytes = b'') -> bool:
        """Post an event.

        :param eqn: number of the EQ.
        :param event_type: MLX5_EVENT_TYPE_* value.
        :param data: at most 28 bytes of event data.
        :return: False when there is no such EQ or no room in it.
        """
        return eq.post(self, eqn, event_type, subtype, data)

    def post_event(self, event_type: int, subtype: int = 0, data: bytes = b'') -> int:
        """Post an event to every EQ that subscribed to its type.

        :return: how many EQs took it.
        """
        return eq.post_all(self, event_type, subtype, data)

    def set_port(self, up: bool) -> None:
        """Bring the port up or down, and tell the driver when that changes something."""
        if self.vport.up != up:
            self.vport.up = up
            # Subtype: 4 active, 1 down; the port number is in the top four bits of byte 8 of the
            # data.
            self.post_event(prm.EVENTS['PORT_CHANGE'], 4 if up else 1, bytes(8) + b'\x10')

    # ---- reports

    def objects(self) -> dict[str, list[int]]:
        """Live objects by kind: {kind: [number, ...]}; kinds with none are left out."""
        return {kind: t.numbers() for kind, t in self.tables.items() if len(t)}
