# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""A guest without a driver: memory, firmware commands and queues by hand, for tests that drive the
card's model directly."""
import struct

from emulator.driver.commands import CommandFailed, run
from emulator.driver.memory import PAGE, GuestMemory
from mlx5emu import prm
from mlx5emu.bus.bar0 import doorbell
from mlx5emu.card import Card
from mlx5emu.prm.wqe import ATOMIC, CTRL, DATA, INLINE, RADDR, TERMINATOR

RC, UC, UD, XRC, DCI, REG_UMR = 0, 1, 2, 3, 5, 0xc
FULL_ACCESS = {'lr': 1, 'lw': 1, 'rr': 1, 'rw': 1, 'a': 1}
CQE_REQ, CQE_REQ_ERR, CQE_RESP_ERR = 0, 13, 14


class Clock:
    """Time that passes when a test lets it, and not before."""

    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


class Guest(GuestMemory):
    """A booted card, memory that it can reach, an EQ, a UAR and a PD."""

    def __init__(self, **card_options) -> None:
        self.clock = Clock()
        super().__init__(Card(clock=self.clock, **card_options))
        self.card.boot()
        self.interrupts: list[int] = []
        self.card.raise_irq = self.interrupts.append
        self.uar = self.cmd('ALLOC_UAR')['uar']
        self.pd = self.cmd('ALLOC_PD')['pd']
        self.eq_ring = self.alloc(PAGE)
        self.eq_consumer = 0
        pages = struct.pack('>Q', self.eq_ring)
        events = sum(
            1 << prm.EVENTS[n]
            for n in ('CQ_ERROR', 'WQ_CATAS_ERROR', 'WQ_INVAL_REQ_ERROR', 'WQ_ACCESS_ERROR',
                      'SRQ_RQ_LIMIT', 'SRQ_LAST_WQE', 'DCT_DRAINED', 'DCT_KEY_VIOLATION'))
        self.eqn = self.cmd(
            'CREATE_EQ', pages, **{
                'eq_context_entry.log_eq_size': 6, 'eq_context_entry.uar_page': self.uar,
                'event_bitmask[0]': events})['eq_number']

    # ---- commands

    def cmd(self, name: str, tail: bytes = b'', op_mod: int = 0, uid: int = 0,
            out_len: int | None = None, **fields) -> prm.View:
        """Run a command.

        :param tail: bytes after the fixed part of the input.
        :raises CommandFailed: status other than OK.
        """
        return run(self.card, name, fields, extra=tail, op_mod=op_mod, uid=uid, out_len=out_len)

    def fails(self, name: str, tail: bytes = b'', **options) -> str:
        """Name of the status that a command ends with; 'OK' when it succeeds."""
        try:
            self.cmd(name, tail, **options)
        except CommandFailed as e:
            return e.status
        return 'OK'

    # ---- keys

    def mkey(self, addr: int, length: int, va: int | None = None, log_page: int = 12,
             pages: list[int] | None = None, pd: int | None = None, variant: int = 0x5a,
             **rights) -> int:
        """An MTT key over contiguous memory, or over ``pages``; the key."""
        va = addr if va is None else va
        first = addr & ~((1 << log_page) - 1)
        count = (addr + length - first + (1 << log_page) - 1) >> log_page
        pas = pages or [first + (k << log_page) for k in range(count)]
        pas += [0] * (len(pas) & 1)
        tail = struct.pack(f'>{len(pas)}Q', *pas)
        entry = {
            'access_mode_1_0': 1, 'mkey_7_0': variant, 'pd': self.pd if pd is None else pd,
            'start_addr': va, 'len': length, 'log_page_size': log_page, 'qpn': 0xffffff, 'umr_en':
            1, **(rights or FULL_ACCESS)}
        return self.create_mkey(tail, len(pas) // 2, **entry)

    def create_mkey(self, tail: bytes, octowords: int, uid: int = 0, command: dict | None = None,
                    **entry) -> int:
        """CREATE_MKEY; the key."""
        fields = {f'memory_key_mkey_entry.{k}': v for k, v in entry.items()}
        fields['memory_key_mkey_entry.translations_octword_size'] = entry.get(
            'translations_octword_size', octowords)
        out = self.cmd('CREATE_MKEY', tail, uid=uid, translations_octword_actual_size=octowords,
                       **fields, **(command or {}))
        return out['mkey_index'] << 8 | entry.get('mkey_7_0', 0)

    # ---- events

    def events(self) -> list[tuple[int, int]]:
        """(type, number in the last doubleword) of every EQE since the last call."""
        out = []
        while True:
            at = self.eq_ring + (self.eq_consumer & 63) * 64
            e = self.read(at, 64)
            if (e[63] & 1) != (self.eq_consumer >> 6 & 1) or (e == bytes(64)):
                break
            out.append(
                (e[1], int.from_bytes(e[56:60], 'big') &
                 0xffffff if e[1] != prm.EVENTS['CQ_ERROR'] else int.from_bytes(e[32:36], 'big')))
            self.write(at, bytes(63) + b'\1' if not self.eq_consumer >> 6 & 1 else bytes(64))
            self.eq_consumer += 1
            doorbell(self.card, 0x40, self.uar,
                               (self.eqn << 24 | self.eq_consumer & 0xffffff).to_bytes(4, 'big'))
        return out

    def run(self, ms: float = 1000) -> None:
        """Let so many milliseconds pass, from timer to timer."""
        end = self.clock.ns + int(ms * 1e6)
        while True:
            due = self.card.run_timers()
            if due is None or due > end - self.clock.ns:
                break
            self.clock.ns += due
        self.clock.ns = end


class GuestCq:
    """A CQ in page-listed memory."""

    def __init__(self, guest: Guest, log_size: int = 6, cqe_sz: int = 0, **context) -> None:
        self.g, self.log_size, self.stride = guest, log_size, 128 if cqe_sz else 64
        size = self.stride << log_size
        self.buf, self.dbr = guest.alloc(size), guest.alloc(8, 64)
        self.consumer = 0
        for k in range(1 << log_size):
            guest.write(self.buf + k * self.stride + self.stride - 1, b'\xf1')
        pages = [self.buf + k for k in range(0, size, PAGE)]
        self.number = guest.cmd(
            'CREATE_CQ', struct.pack(f'>{len(pages)}Q', *pages), **{
                'cq_context.log_cq_size': log_size, 'cq_context.cqe_sz': cqe_sz,
                'cq_context.c_eqn_or_apu_element': guest.eqn, 'cq_context.uar_page': guest.uar,
                'cq_context.dbr_addr': self.dbr, **{
                    f'cq_context.{k}': v for k, v in context.items()}})['cqn']

    def poll(self, free: bool = True) -> list[prm.View]:
        """CQEs that came since the last call."""
        out = []
        while True:
            slot = self.buf + (self.consumer & ((1 << self.log_size) - 1)) * self.stride
            raw = self.g.read(slot + self.stride - 64, 64)
            if raw[63] >> 4 == 15 or raw[63] & 1 != self.consumer >> self.log_size & 1:
                break
            view = prm.view('error_cqe' if raw[63] >> 4 in (CQE_REQ_ERR, CQE_RESP_ERR) else 'cqe64',
                            raw)
            out.append(view)
            self.consumer += 1
        if free:
            self.g.write(self.dbr, (self.consumer & 0xffffff).to_bytes(4, 'big'))
        return out

    def arm(self, solicited: bool = False) -> None:
        """Ring the CQ doorbell."""
        word = (1 << 24 if solicited else 0) | self.consumer & 0xffffff
        doorbell(self.g.card, 0x20, self.g.uar,
                             word.to_bytes(4, 'big') + self.number.to_bytes(4, 'big'))


class GuestQp:
    """A QP with its rings."""

    def __init__(self, guest: Guest, st: int = RC, scq: GuestCq | None = None,
                 rcq: GuestCq | None = None, log_sq: int = 6, log_rq: int = 5, log_stride: int = 2,
                 srqn: int | None = None, pd: int | None = None, **context) -> None:
        self.g, self.st = guest, st
        self.scq = scq or GuestCq(guest)
        self.rcq = rcq or self.scq
        self.log_sq, self.log_rq, self.stride = log_sq, log_rq, 16 << log_stride
        rq_type = 1 if srqn is not None else 3 if st in (REG_UMR, DCI, XRC) else 0
        self.rq_bytes = self.stride << log_rq if rq_type == 0 else 0
        size = self.rq_bytes + (64 << log_sq)
        self.buf, self.dbr = guest.alloc(size), guest.alloc(8, 64)
        self.posted = self.received = 0
        pages = [self.buf + k for k in range(0, size, PAGE)]
        fields = {
            'st': st, 'pd': guest.pd if pd is None else pd, 'log_rq_size': log_rq, 'log_rq_stride':
            log_stride, 'log_sq_size': log_sq, 'cqn_snd': self.scq.number, 'cqn_rcv':
            self.rcq.number, 'uar_page': guest.uar, 'dbr_addr': self.dbr, 'rq_type': rq_type,
            'srqn_rmpn_xrqn': srqn or 0, 'user_index': 0x123, **context}
        self.number = guest.cmd('CREATE_QP', struct.pack(f'>{len(pages)}Q', *pages), **{
            f'qpc.{k}': v for k, v in fields.items()})['qpn']

    @property
    def model(self):
        """The card's object."""
        return self.g.card.qps.find(self.number)

    def modify(self, name: str, mask: int = 0, **qpc) -> None:
        """One transition."""
        self.g.cmd(name, qpn=self.number, opt_param_mask=mask, **{
            f'qpc.{k}': v for k, v in qpc.items()})

    def to_init(self, **kw) -> None:
        """RST to INIT, all remote operations enabled."""
        self.modify('RST2INIT_QP', **{'rre': 1, 'rwe': 1, 'rae': 1, 'q_key': 0x11111111,
                                      'primary_address_path.vhca_port_num': 1, **kw})

    def to_rtr(self, remote: int, **kw) -> None:
        """INIT to RTR."""
        self.modify(
            'INIT2RTR_QP', **{
                'mtu': 5, 'log_msg_max': 30, 'remote_qpn': remote, 'min_rnr_nak': 1,
                'primary_address_path.rlid': 1, **kw})

    def to_rts(self, **kw) -> None:
        """RTR to RTS."""
        self.modify(
            'RTR2RTS_QP', **{
                'retry_count': 2, 'rnr_retry': 2, 'primary_address_path.ack_timeout': 8, **kw})

    def connect(self, remote: int, **kw) -> None:
        """All the way to RTS."""
        self.to_init()
        self.to_rtr(remote)
        self.to_rts(**kw)

    # ---- work

    def post_send(self, op: int, *segments: bytes, flags: int = 8, imm: int = 0, ring: bool = True,
                  doorbell: bytes = b'') -> int:
        """Post a WQE; its index."""
        body = b''.join(segments)
        assert len(body) % 16 == 0
        ds = 1 + len(body) // 16
        index = self.posted
        wqe = CTRL.pack((index & 0xffff) << 8 | op, self.number << 8 | ds & 0x3f, flags, imm) + body
        ring_size = 64 << self.log_sq
        for k in range(0, len(wqe), 16):
            self.g.write(self.buf + self.rq_bytes + (index * 64 + k) % ring_size, wqe[k:k + 16])
        self.posted += (ds + 3) // 4
        self.g.write(self.dbr + 4, (self.posted & 0xffff).to_bytes(4, 'big'))
        if ring:
            self.ring(wqe[:8])
        return index & 0xffff

    def ring(self, data: bytes = b'') -> None:
        """Ring the SQ doorbell."""
        doorbell(self.g.card, 0x800, self.g.uar, data or
                             bytes(4) + (self.number << 8 | 1).to_bytes(4, 'big'))

    def post_recv(self, *sges: tuple[int, int, int]) -> None:
        """Post a receive WQE of (address, length, key) buffers."""
        raw = b''.join(DATA.pack(n, key, addr) for addr, n, key in sges)
        if len(raw) < self.stride:
            raw += DATA.pack(0, TERMINATOR, 0)
        self.g.write(self.buf + (self.received % (1 << self.log_rq)) * self.stride,
                     raw[:self.stride])
        self.received += 1
        self.g.write(self.dbr, (self.received & 0xffff).to_bytes(4, 'big'))


def sge(addr: int, n: int, key: int) -> bytes:
    """A data segment."""
    return DATA.pack(n, key, addr)


def inline(data: bytes) -> bytes:
    """Inline data, padded."""
    raw = (INLINE | len(data)).to_bytes(4, 'big') + data
    return raw + bytes(-len(raw) % 16)


def raddr(addr: int, key: int) -> bytes:
    """A remote address segment."""
    return RADDR.pack(addr, key)


def atomic(first: int, second: int = 0) -> bytes:
    """An atomic segment."""
    return ATOMIC.pack(first, second)


def av(qpn: int, qkey: int = 0x11111111, rlid: int = 1, gid: bytes = bytes(16),
       grh: bool = False) -> bytes:
    """An address vector of 48 bytes."""
    return struct.pack('>IIIBBH4x6sBBI16s', qkey, 0, 1 << 31 | qpn, 0, 0, rlid, bytes(6), 0, 1,
                       1 << 30 if grh else 0, gid)


def connected(guest: Guest, st: int = RC, **kw) -> tuple[GuestQp, GuestQp]:
    """Two QPs of a connected transport, at RTS."""
    a, b = GuestQp(guest, st, **kw), GuestQp(guest, st, **kw)
    a.connect(b.number)
    b.connect(a.number)
    return a, b


class GuestSrq:
    """A ring of receive WQEs that many share, linked as the driver keeps it.

    :param skip: bytes before the first data segment of a WQE.
    """

    def __init__(self, guest: Guest, log_size: int, log_stride: int, skip: int = 16) -> None:
        self.g, self.log_size, self.stride, self.skip = guest, log_size, 1 << log_stride, skip
        size = self.stride << log_size
        self.buf, self.dbr = guest.alloc(size), guest.alloc(8, 64)
        self.posted = 0
        for k in range(1 << log_size):
            guest.write(self.buf + k * self.stride + 2, ((k + 1) % (1 << log_size)).to_bytes(
                2, 'big'))
        self.pages = struct.pack(f'>{-(-size // PAGE)}Q', *range(self.buf, self.buf + size, PAGE))

    def post(self, *sges: tuple[int, int, int], index: int | None = None) -> None:
        """Post a receive WQE of (address, length, key) buffers, at ``index`` when the list was
        re-linked."""
        at = self.buf + (self.posted %
                         (1 << self.log_size) if index is None else index) * self.stride + self.skip
        raw = b''.join(DATA.pack(n, key, addr)
                       for addr, n, key in sges) + DATA.pack(0, TERMINATOR, 0)
        self.g.write(at, raw[:self.stride - self.skip])
        self.posted += 1
        self.g.write(self.dbr, (self.posted & 0xffff).to_bytes(4, 'big'))


class GuestRmp(GuestSrq):
    """A receive memory pool, as verbs' SRQs are."""

    def __init__(self, guest: Guest, log_size: int = 4, log_stride: int = 6, skip: int = 16,
                 **context) -> None:
        super().__init__(guest, log_size, log_stride, skip)
        self.number = guest.cmd(
            'CREATE_RMP', self.pages, **{
                f'ctx.{k}': v for k, v in {
                    'state': 1, 'wq.log_wq_sz': log_size, 'wq.log_wq_stride': log_stride, 'wq.pd':
                    guest.pd, 'wq.dbr_addr': self.dbr, **context}.items()})['rmpn']


class GuestXrcSrq(GuestSrq):
    """An XRC SRQ with a CQ of its own."""

    def __init__(self, guest: Guest, xrcd: int, log_size: int = 4, log_stride: int = 6) -> None:
        super().__init__(guest, log_size, log_stride)
        self.cq = GuestCq(guest)
        self.number = guest.cmd(
            'CREATE_XRC_SRQ', self.pages, **{
                f'xrc_srq_context_entry.{k}': v for k, v in {
                    'log_xrc_srq_size': log_size, 'log_rq_stride': log_stride - 4, 'xrcd': xrcd,
                    'cqn': self.cq.number, 'pd': guest.pd, 'user_index': 0x77, 'db_record_addr_h':
                    self.dbr >> 32, 'db_record_addr_l': (self.dbr & 0xffffffff) >> 2}.items()
            })['xrc_srqn']
