# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""On-demand paging on the emulated card: faults as events of both schemes, resumes, and bounds; no
VM."""
import struct

import pytest
from emulator.driver.commands import CommandFailed
from emulator.driver.guest import (
    PAGE,
    XRC,
    Guest,
    GuestQp,
    GuestRmp,
    atomic,
    av,
    connected,
    raddr,
    sge,
)
from mlx5emu import prm
from mlx5emu.bus.bar0 import doorbell
from mlx5emu.firmware.caps import PAGE_SIZE
from mlx5emu.memory.mkey import INDIRECT_LOOKS, KSM, NULL_KEY
from mlx5emu.prm.wqe import Op, Syndrome
from mlx5emu.queues import page_fault
from mlx5emu.queues.queue import ERR, RTS

ANY = 0xffffff
SEND_EVENT, SHARED_EVENT, RECEIVE_EVENT, FETCH_EVENT = 1, 0, 2, 3


class PagedGuest(Guest):
    """A guest with an EQ of its own for page faults, as the driver has."""

    def __init__(self, memory_scheme: bool = False, serve: bool = True, log_eq_size: int = 6,
                 **options) -> None:
        super().__init__(profile='connectx7' if memory_scheme else 'connectx6dx', **options)
        if memory_scheme:
            self.card.caps.page('odp')['mem_page_fault'] = 1
        self.fault_ring, self.fault_consumer, self.log_eq_size = self.alloc(PAGE), 0, log_eq_size
        if serve:
            self.fault_eqn = self.cmd('CREATE_EQ', struct.pack('>Q', self.fault_ring), **{
                'eq_context_entry.log_eq_size': log_eq_size, 'eq_context_entry.uar_page': self.uar,
                'event_bitmask[0]': 1 << prm.EVENTS['PAGE_FAULT']})['eq_number']

    def fault(self) -> tuple[int, bytes] | None:
        """Subtype and data of the next page fault event."""
        size = 1 << self.log_eq_size
        e = self.read(self.fault_ring + self.fault_consumer % size * 64, 64)
        if e[1] != prm.EVENTS['PAGE_FAULT'] or e[63] & 1 != self.fault_consumer // size & 1:
            return None
        self.fault_consumer += 1
        doorbell(self.card, 0x40, self.uar, (self.fault_eqn << 24 | self.fault_consumer).to_bytes(
            4, 'big'))
        return e[3], e[32:60]

    def wqe_fault(self) -> tuple[int, int, int, int]:
        """Type, queue, WQE index and token of a fault of subtype WQE."""
        subtype, data = self.fault()
        assert subtype == page_fault.WQE
        _, index, _, token, where = struct.unpack('>I2xH2xHI8xI', data)
        return where >> 24, where & 0xffffff, index, token

    def resume(self, kind: int, number: int, token: int, error: bool = False) -> str:
        """PAGE_FAULT_RESUME of the transport scheme; name of the status."""
        return self._resume(struct.pack('>II', error << 31 | kind << 24 | number, token))

    def resume_memory(self, token: int, error: bool = False) -> str:
        """PAGE_FAULT_RESUME of the memory scheme; name of the status."""
        return self._resume(struct.pack('>HHI', error << 15, token >> 32, token & 0xffffffff))

    def _resume(self, info: bytes, uid: int = 0) -> str:
        raw = struct.pack('>HHHH', prm.OPCODES['PAGE_FAULT_RESUME'], uid, 0, 0) + info
        return {0: 'OK', 3: 'BAD_PARAM', 5: 'BAD_RES'}[self.card.execute(raw, 16)[0]]

    def paged(self, entries: list[int], va: int = 0x40000000, **entry) -> int:
        """A key over pages, present by the low bits of each entry."""
        entries = entries + [0] * (len(entries) & 1)
        return self.create_mkey(
            struct.pack(f'>{len(entries)}Q', *entries),
            len(entries) // 2, command={'pg_access': 1}, **{
                'access_mode_1_0': 1, 'pd': self.pd, 'start_addr': va, 'len': PAGE * len(entries),
                'log_page_size': 12, 'qpn': ANY, 'mkey_7_0': 0x33, 'lr': 1, 'lw': 1, 'rr': 1, 'rw':
                1, 'a': 1, 'umr_en': 1, **entry})

    def bring(self, key: int, page: int, entry: int) -> None:
        """What the driver's UMR does to one translation entry."""
        self.card.mkeys.find(key >> 8).entries[page] = entry


VA = 0x40000000


GUEST = PagedGuest


@pytest.fixture
def memory():
    """The memory scheme."""
    g = PagedGuest(memory_scheme=True)
    yield g
    assert g.card.internal_errors == 0


def test_capabilities() -> None:
    """What the driver has to ask for is off until SET_HCA_CAP; only ConnectX-7 has the memory
    scheme."""
    for profile, has in (('connectx5', 0), ('connectx6dx', 0), ('connectx7', 1)):
        caps = Guest(profile=profile).card.caps
        assert caps.get('pg') == 1
        assert caps.maximal['odp']['mem_page_fault'] == has and caps.page(
            'odp')['mem_page_fault'] == 0
        assert caps.maximal['odp']['memory_page_fault_scheme_cap.page_prefetch'] == has
        scheme = 'transport_page_fault_scheme_cap.'
        assert caps.page('odp')[scheme + 'rc_odp_caps.send'] == 1 and caps.page('odp')[
            scheme + 'rc_odp_caps.atomic'] == 1
        assert caps.page('odp')[scheme + 'ud_odp_caps.send'] == 1 and caps.maximal['odp'][
            scheme + 'ud_odp_caps.srq_receive'] == 0
        assert caps.page('odp')[scheme + 'xrc_odp_caps.write'] == 0
        wanted = prm.View('odp_cap', bytearray(PAGE_SIZE))
        wanted[scheme + 'xrc_odp_caps.write'] = 1
        caps.set('odp', bytes(wanted.buf))
        assert caps.page('odp')[scheme + 'xrc_odp_caps.write'] == 1


def test_send_waits_for_its_page(guest: PagedGuest) -> None:
    """The event names the WQE; nothing completes until the resume, then the data are those of the
    page brought in."""
    base, into = guest.alloc(2 * PAGE), guest.alloc(PAGE)
    key, sink = guest.paged([base | 3, 0]), guest.mkey(into, PAGE)
    guest.write(base, b'x' * PAGE + b'y' * PAGE)
    a, b = connected(guest)
    b.post_recv((into, 100, sink))
    index = a.post_send(Op.SEND, sge(VA + PAGE - 50, 100, key))
    assert guest.wqe_fault() == (SEND_EVENT, a.number, index, 1)
    assert a.scq.poll() == [] == b.rcq.poll() and guest.read(into, 100) == bytes(100)
    a.ring()
    guest.run(50)
    assert guest.fault() is None, 'one event a fault, however often the doorbell rings'
    guest.bring(key, 1, base + PAGE | 1)
    assert guest.resume(SEND_EVENT, a.number, 1) == 'OK'
    assert [c['opcode'] for c in a.scq.poll()] == [0] and [c['byte_cnt']
                                                           for c in b.rcq.poll()] == [100]
    assert guest.read(into, 100) == b'x' * 50 + b'y' * 50
    assert len(guest.card.datapath.port.page_faults) == 0 and a.model.sq.faults == 0


def test_resume_without_the_page_faults_again(guest: PagedGuest) -> None:
    """A driver that raced with an invalidation resumes early: there is another fault with another
    token."""
    base = guest.alloc(PAGE)
    key = guest.paged([0, 0])
    a, b = connected(guest)
    b.post_recv((base, 8, guest.mkey(base, PAGE)))
    a.post_send(Op.SEND, sge(VA, 8, key))
    first = guest.wqe_fault()
    assert guest.resume(SEND_EVENT, a.number, first[3]) == 'OK'
    second = guest.wqe_fault()
    assert second[3] != first[3] and guest.resume(SEND_EVENT, a.number, first[3]) == 'BAD_RES'
    guest.bring(key, 0, base | 3)
    assert guest.resume(SEND_EVENT, a.number, second[3]) == 'OK'
    assert a.scq.poll()[0]['opcode'] == 0


def test_resume_with_error(guest: PagedGuest) -> None:
    """The WQE completes with a local protection error and the QP is in error."""
    key = guest.paged([0, 0])
    a, b = connected(guest)
    a.post_send(Op.SEND, sge(VA, 8, key))
    token = guest.wqe_fault()[3]
    assert guest.resume(SEND_EVENT, a.number, token, error=True) == 'OK'
    assert [c['syndrome'] for c in a.scq.poll()] == [Syndrome.LOCAL_PROT]
    assert a.model.state == ERR and guest.fault() is None


def test_receive_buffer(guest: PagedGuest) -> None:
    """The receiver's WQE is named and not consumed while its page is absent."""
    base, into = guest.alloc(PAGE), guest.alloc(PAGE)
    guest.write(base, b'data')
    source, key = guest.mkey(base, PAGE), guest.paged([into | 1, 0])
    a, b = connected(guest)
    b.post_recv((VA, 64, key))
    a.post_send(Op.SEND, sge(base, 4, source))
    assert guest.wqe_fault() == (RECEIVE_EVENT, b.number, 0, 1), 'readable is not writable'
    assert b.model.rq.consumer == 0 and b.rcq.poll() == []
    guest.bring(key, 0, into | 3)
    assert guest.resume(RECEIVE_EVENT, b.number, 1) == 'OK'
    assert guest.read(into, 4) == b'data' and len(b.rcq.poll()) == 1 and len(a.scq.poll()) == 1


def test_receive_resumed_with_error(guest: PagedGuest) -> None:
    """Both sides complete in error."""
    base = guest.alloc(PAGE)
    a, b = connected(guest)
    b.post_recv((VA, 64, guest.paged([0, 0])))
    a.post_send(Op.SEND, sge(base, 4, guest.mkey(base, PAGE)))
    kind, number, _, token = guest.wqe_fault()
    assert guest.resume(kind, number, token, error=True) == 'OK'
    assert [c['syndrome'] for c in b.rcq.poll()] == [Syndrome.LOCAL_PROT]
    assert [c['syndrome'] for c in a.scq.poll()] == [Syndrome.REMOTE_OP]
    assert (a.model.state, b.model.state) == (ERR, ERR)


def test_shared_receive_queue(guest: PagedGuest) -> None:
    """A fault of an SRQ's WQE names the SRQ and the WQE's place in its ring."""
    base, into = guest.alloc(PAGE), guest.alloc(PAGE)
    rmp = GuestRmp(guest)
    key, good = guest.paged([0, 0]), guest.mkey(into, PAGE)
    a, b = GuestQp(guest), GuestQp(guest, srqn=rmp.number)
    a.connect(b.number)
    b.connect(a.number)
    rmp.post((into, 8, good))
    rmp.post((VA, 8, key))
    source = guest.mkey(base, PAGE)
    a.post_send(Op.SEND, sge(base, 8, source))
    a.post_send(Op.SEND, sge(base, 8, source))
    assert guest.wqe_fault() == (SHARED_EVENT, rmp.number, 1, 1)
    guest.bring(key, 0, into | 3)
    assert guest.resume(SHARED_EVENT, rmp.number, 1) == 'OK'
    assert len(b.rcq.poll()) == 2


@pytest.mark.parametrize(('op', 'kind'), [(Op.WRITE, 6), (Op.READ, 4), (Op.FA, 6)])
def test_remote_access(guest: PagedGuest, op: int, kind: int) -> None:
    """A fault behind a remote key tells key, range and kind of access."""
    base, far = guest.alloc(PAGE), guest.alloc(PAGE)
    guest.write(base, (5).to_bytes(8, 'little'))
    guest.write(far + 8, (7).to_bytes(8, 'little'))
    local, remote = guest.mkey(base, PAGE), guest.paged([0, 0])
    a, _ = connected(guest)
    segments = (raddr(VA + 8, remote), *((atomic(3),) if op == Op.FA else ()), sge(base, 8, local))
    a.post_send(op, *segments)
    subtype, data = guest.fault()
    committed, key, packet, length, va, where = struct.unpack('>II2xHIQI', data)
    assert (subtype, committed, key, packet, length, va, where) == (page_fault.RDMA, 0, remote, 8,
                                                                    8, VA + 8, kind << 24 | 1)
    guest.bring(remote, 0, far | 3)
    assert guest.resume(kind, 1, 1) == 'OK'
    assert a.scq.poll()[0]['opcode'] == 0
    values = tuple(int.from_bytes(guest.read(at, 8), 'little') for at in (base, far + 8))
    assert values == {Op.WRITE: (5, 5), Op.READ: (7, 7), Op.FA: (7, 10)}[op]


def test_remote_access_resumed_with_error(guest: PagedGuest) -> None:
    """A remote access error, and the target QP in error too."""
    base = guest.alloc(PAGE)
    remote = guest.paged([0, 0])
    a, b = connected(guest)
    a.post_send(Op.WRITE, raddr(VA, remote), sge(base, 8, guest.mkey(base, PAGE)))
    assert guest.fault()[0] == page_fault.RDMA
    assert guest.resume(6, 1, 1, error=True) == 'OK'
    assert [c['syndrome'] for c in a.scq.poll()] == [Syndrome.REMOTE_ACCESS]
    assert (a.model.state, b.model.state) == (ERR, ERR)


def test_read_into_absent_page(guest: PagedGuest) -> None:
    """The reader's own sink faults as a WQE of the kind that fetches."""
    base = guest.alloc(PAGE)
    sink = guest.paged([0, 0])
    a, _ = connected(guest)
    a.post_send(Op.READ, raddr(base, guest.mkey(base, PAGE)), sge(VA, 8, sink))
    assert guest.wqe_fault()[:2] == (FETCH_EVENT, a.number)


def test_datagram(guest: PagedGuest) -> None:
    """A UD send waits; a UD receive does not: the capability is not there."""
    base = guest.alloc(PAGE)
    key, good = guest.paged([0, 0]), guest.mkey(base, PAGE)
    a, b = GuestQp(guest, 2), GuestQp(guest, 2)
    for q in (a, b):
        q.connect(0)
    b.post_recv((base, 200, good))
    a.post_send(Op.SEND, av(b.number), sge(VA, 8, key))
    kind, number, _, token = guest.wqe_fault()
    assert (kind, number) == (SEND_EVENT, a.number)
    guest.bring(key, 0, base | 3)
    assert guest.resume(kind, number, token) == 'OK'
    assert len(a.scq.poll()) == 1 and len(b.rcq.poll()) == 1
    guest.bring(key, 0, 0)
    b.post_recv((VA, 200, key))
    a.post_send(Op.SEND, av(b.number), sge(base, 8, good))
    assert guest.fault() is None
    assert [c['syndrome'] for c in b.rcq.poll()] == [Syndrome.LOCAL_PROT]


def test_resume_refused(guest: PagedGuest) -> None:
    """Unknown tokens, other queues and types, and users' commands; the fault is still there
    afterwards."""
    a, _ = connected(guest)
    base = guest.alloc(PAGE)
    key = guest.paged([0, 0])
    assert guest.resume(SEND_EVENT, a.number, 1) == 'BAD_RES', 'nothing is outstanding'
    a.post_send(Op.WRITE, raddr(base, guest.mkey(base, PAGE)), sge(VA, 8, key))
    token = guest.wqe_fault()[3]
    assert guest.resume(SEND_EVENT, a.number, token + 1) == 'BAD_RES'
    assert guest.resume(SEND_EVENT, a.number + 1, token) == 'BAD_PARAM'
    assert guest.resume(FETCH_EVENT, a.number, token) == 'BAD_PARAM'
    uid = guest.cmd('CREATE_UCTX')['uid']
    assert guest._resume(struct.pack('>II', SEND_EVENT << 24 | a.number, token), uid) == 'BAD_PARAM'
    assert len(guest.card.datapath.port.page_faults) == 1 and a.scq.poll() == []
    guest.bring(key, 0, base | 3)
    assert guest.resume(SEND_EVENT, a.number, token) == 'OK'
    assert guest.resume(SEND_EVENT, a.number, token) == 'BAD_RES', 'a token is good once'
    assert len(a.scq.poll()) == 1


def test_nobody_serves() -> None:
    """Without an EQ for page faults an absent page is an access error at once."""
    guest = PagedGuest(serve=False)
    a, _ = connected(guest)
    a.post_send(Op.SEND, sge(VA, 8, guest.paged([0, 0])))
    assert [c['syndrome'] for c in a.scq.poll()] == [Syndrome.LOCAL_PROT]
    assert guest.card.internal_errors == 0


def test_queue_that_went_away(guest: PagedGuest) -> None:
    """A resume for a QP that was reset or destroyed meanwhile succeeds and does nothing."""
    key = guest.paged([0, 0])
    a, b = connected(guest)
    a.post_send(Op.SEND, sge(VA, 8, key))
    kind, number, _, token = guest.wqe_fault()
    guest.cmd('2RST_QP', qpn=a.number)
    guest.cmd('DESTROY_QP', qpn=a.number)
    assert guest.resume(kind, number, token) == 'OK'
    assert a.scq.poll() == [] and guest.fault() is None and len(
        guest.card.datapath.port.page_faults) == 0


def test_faults_of_one_wqe_end(guest: PagedGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that resumes and never brings the page in does not keep the card busy for ever."""
    monkeypatch.setattr('mlx5emu.datapath.retries.MAX_PER_WQE', 3)
    a, _ = connected(guest)
    a.post_send(Op.SEND, sge(VA, 8, guest.paged([0, 0])))
    for _ in range(3):
        kind, number, _, token = guest.wqe_fault()
        assert guest.resume(kind, number, token) == 'OK'
    assert guest.fault() is None
    assert [c['syndrome'] for c in a.scq.poll()] == [Syndrome.LOCAL_PROT]


def test_outstanding_faults_are_bounded(guest: PagedGuest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit a queue waits for its turn; faults of queues that are gone make room."""
    monkeypatch.setattr(page_fault, 'MAX_OUTSTANDING', 2)
    base = guest.alloc(PAGE)
    key, good = guest.paged([0, 0]), guest.mkey(base, PAGE)
    senders = [connected(guest)[0] for _ in range(4)]
    for q in senders:
        q.post_send(Op.WRITE, raddr(base, good), sge(VA, 8, key))
    faults = [guest.wqe_fault(), guest.wqe_fault()]
    assert guest.fault() is None and len(guest.card.datapath.port.page_faults) == 2
    guest.cmd('2RST_QP', qpn=senders[0].number)
    guest.run(60)
    third = guest.wqe_fault()
    assert third[1] in (senders[2].number, senders[3].number) and len(
        guest.card.datapath.port.page_faults) == 2
    guest.bring(key, 0, base | 3)
    assert guest.resume(*faults[1][:2], faults[1][3]) == 'OK' and guest.resume(
        *third[:2], third[3]) == 'OK'
    guest.run(60)
    assert [len(q.scq.poll()) for q in senders] == [0, 1, 1, 1]


def test_full_event_queue() -> None:
    """An EQ without room: the queue reports its fault again when there is some."""
    guest = PagedGuest(log_eq_size=0)
    base = guest.alloc(PAGE)
    key, good = guest.paged([0, 0]), guest.mkey(base, PAGE)
    first, second = connected(guest)[0], connected(guest)[0]
    for q in (first, second):
        q.post_send(Op.WRITE, raddr(base, good), sge(VA, 8, key))
    assert len(guest.card.datapath.port.page_faults) == 1
    assert guest.wqe_fault()[1] == first.number
    guest.run(60)
    assert guest.wqe_fault()[1] == second.number
    assert guest.card.internal_errors == 0


def test_implicit_key(guest: PagedGuest) -> None:
    """The null key as a part of a KSM key is an absent page, and reads as nothing anywhere else;
    the event names the whole key."""
    base, far = guest.alloc(PAGE), guest.alloc(PAGE)
    child = guest.paged([far | 3, 0], va=1 << 30)
    tail = struct.pack('>IIQIIQ', 1 << 30, NULL_KEY, 0, 1 << 30, NULL_KEY, 0)
    whole = guest.create_mkey(tail, 2, access_mode_1_0=KSM, pd=guest.pd, length64=1,
                              log_page_size=30, qpn=ANY, mkey_7_0=9, lr=1, lw=1, rr=1, rw=1,
                              umr_en=1)
    guest.write(base, b'implicit')
    a, _ = connected(guest)
    a.post_send(Op.WRITE, raddr((1 << 30) + 5, whole), sge(base, 8, guest.mkey(base, PAGE)))
    subtype, data = guest.fault()
    assert subtype == page_fault.RDMA and struct.unpack_from('>4xI', data)[0] == whole
    guest.card.mkeys.find(whole >> 8).entries[2:4] = type(
        guest.card.mkeys.find(whole >> 8).entries)('Q', [1 << 62 | child, 1 << 30])
    assert guest.resume(6, 1, 1) == 'OK'
    assert a.scq.poll()[0]['opcode'] == 0 and guest.read(far + 5, 8) == b'implicit'


def test_memory_scheme(memory: PagedGuest) -> None:
    """The event names the key whose page is absent, from the first absent page to the end of the
    access."""
    base, into = memory.alloc(3 * PAGE), memory.alloc(PAGE)
    key = memory.paged([base | 3, 0, 0, base + 2 * PAGE | 3])
    a, b = connected(memory)
    a.post_send(Op.WRITE, raddr(VA + PAGE // 2, key),
                sge(into, 2 * PAGE, memory.mkey(into, 2 * PAGE)))
    subtype, data = memory.fault()
    flags, after, before, high, low, pages, mkey, va = struct.unpack('>BxHHHIIIQ', data)
    assert (subtype, flags, after, before, high, low) == (page_fault.MEMORY, 0x80, 0, 0, 0, 1)
    assert (pages >> 12, mkey, va) == (2, key, VA + PAGE)
    assert memory.resume_memory(2) == 'BAD_RES' == memory.resume_memory(1 << 32 | 1)
    memory.bring(key, 1, base + PAGE | 3)
    memory.bring(key, 2, base + 2 * PAGE | 3)
    assert memory.resume_memory(1) == 'OK'
    assert a.scq.poll()[0]['opcode'] == 0


def test_memory_scheme_error(memory: PagedGuest) -> None:
    """An access by the key itself is refused with the first error."""
    a, _ = connected(memory)
    a.post_send(Op.SEND, sge(VA, 8, memory.paged([0, 0])))
    assert memory.fault()[0] == page_fault.MEMORY
    assert memory.resume_memory(1, error=True) == 'OK'
    assert [c['syndrome'] for c in a.scq.poll()] == [Syndrome.LOCAL_PROT]


def _implicit(memory: PagedGuest) -> tuple[int, int]:
    """An implicit key of one part, which is the driver's own null key: (key, null key)."""
    null = memory.paged([0] * 8, va=0, len=0, length64=1, log_page_size=61)
    tail = struct.pack('>IIQIIQ', 1 << 30, null, 0, 1 << 30, null, 1 << 30)
    return memory.create_mkey(tail, 2, access_mode_1_0=KSM, pd=memory.pd, length64=1,
                              log_page_size=30, qpn=ANY, mkey_7_0=9, lr=1), null


def test_memory_scheme_implicit(memory: PagedGuest) -> None:
    """The driver's null key of one enormous absent page tells the address; errors are final after a
    number of looks."""
    whole, null = _implicit(memory)
    a, _ = connected(memory)
    a.post_send(Op.SEND, sge((1 << 30) + 0x5678, 8, whole))
    for look in range(INDIRECT_LOOKS):
        token, pages, mkey, va = struct.unpack('>8xIIIQ', memory.fault()[1])
        assert (pages >> 12, mkey, va) == (1, null, (1 << 30) + 0x5000)
        assert a.model.state == RTS and a.scq.poll() == []
        assert memory.resume_memory(token, error=True) == 'OK'
        if look < INDIRECT_LOOKS - 1:
            assert memory.fault() is None, 'not at once'
            memory.run(60)
    assert memory.fault() is None
    assert [c['syndrome'] for c in a.scq.poll()] == [Syndrome.LOCAL_PROT]


def test_page_sizes() -> None:
    """Of the sizes above the usual ones only the one of null keys is taken."""
    guest = PagedGuest()
    for shift in (60, 62, 63):
        with pytest.raises(CommandFailed) as e:
            guest.paged([0, 0], log_page_size=shift)
        assert e.value.status == 'BAD_PARAM'


def test_xrc_sender_is_paged(guest: PagedGuest) -> None:
    """An XRC initiator's own memory faults like RC's."""
    base = guest.alloc(PAGE)
    xrcd = guest.cmd('ALLOC_XRCD')['xrcd']
    target = GuestQp(guest, XRC, no_sq=1, xrcd=xrcd)
    q = GuestQp(guest, XRC)
    q.connect(target.number)
    target.to_init()
    target.to_rtr(q.number)
    q.post_send(Op.WRITE, (0).to_bytes(16, 'big'), raddr(base, guest.mkey(base, PAGE)),
                sge(VA, 8, guest.paged([0, 0])))
    assert guest.wqe_fault()[:2] == (SEND_EVENT, q.number)


def test_two_functions_wait_for_each_other() -> None:
    """The fault is the target's to report and to resume, though the sender's queue waits."""
    near, far = PagedGuest(), PagedGuest(index=1)
    far.card.datapath.port.connect(near.card.datapath.port.fabric)
    far.card.vport.lid = 2
    base, into = near.alloc(PAGE), far.alloc(PAGE)
    near.write(base, b'12345678')
    key = far.paged([0, 0])
    a, b = GuestQp(near), GuestQp(far)
    a.to_init()
    a.to_rtr(b.number, **{'primary_address_path.rlid': 2})
    a.to_rts()
    b.connect(a.number)
    a.post_send(Op.WRITE, raddr(VA, key), sge(base, 8, near.mkey(base, PAGE)))
    assert near.fault() is None and far.fault()[0] == page_fault.RDMA
    far.bring(key, 0, into | 3)
    assert near.resume(6, 1, 1) == 'BAD_RES' and far.resume(6, 1, 1) == 'OK'
    assert a.scq.poll()[0]['opcode'] == 0 and far.read(into, 8) == b'12345678'
    assert near.card.internal_errors == far.card.internal_errors == 0
