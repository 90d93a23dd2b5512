# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""Hostile inputs by entrance: each class has a card of its own and takes one random input a step,
deterministic by its generator.

A step may take any status and any error completion; that no exception escaped and nothing grew is
looked at by :meth:`Entrance.check`.
"""
import os
import random
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from emulator.driver.ethernet import EthernetBench
from emulator.driver.frames import PLAIN
from emulator.driver.guest import (
    DCI,
    PAGE,
    RC,
    REG_UMR,
    UC,
    UD,
    XRC,
    Guest,
    GuestCq,
    GuestQp,
    GuestRmp,
    GuestXrcSrq,
    inline,
    raddr,
    sge,
)
from emulator.driver.guest import av as address_vector
from emulator.driver.memory import GUEST_BASE
from emulator.driver.random_commands import CommandBench, paths, random_command, some
from emulator.driver.raw_queues import READY, RESET, GuestSq
from emulator.driver.recipes import DESTROY, NAMING, RECIPES, World
from emulator.driver.signatures import (
    CRC32,
    CRC32C,
    CRC64,
    MASK_BSF,
    MASK_FREE,
    MASK_KEY,
    MASK_LEN,
    MASK_RIGHTS,
    MASK_SIGERR,
    NO_DOMAIN,
    crypto_bsf,
    domain_crc,
    domain_dif,
    indirect_key,
    signature_bsf,
)
from emulator.driver.steering_entries import SteBench
from emulator.driver.virtqueue import READY as VIRTQUEUE_READY
from emulator.driver.virtqueue import Virtqueue, everything_to
from mlx5emu import prm
from mlx5emu.bus import vfio_user as vu
from mlx5emu.bus.bar0 import doorbell
from mlx5emu.bus.pci import Function
from mlx5emu.bus.server import Server
from mlx5emu.card import Card
from mlx5emu.firmware import caps, dispatch
from mlx5emu.firmware.general_object import TYPES
from mlx5emu.prm.wqe import CTRL, UMR_INLINE, Op

OPS = [v for k, v in vars(Op).items() if not k.startswith('_')]


class Entrance:
    """What every entrance has: its generator, its card and the check of it."""

    card: Card

    def __init__(self, rng: random.Random, directory: Path) -> None:
        self.rng, self.directory = rng, directory
        #: Tracebacks of commands, each once.
        self.start()

    def start(self) -> None:
        """Make the card and what the inputs aim at."""
        raise NotImplementedError

    def step(self) -> None:
        """One input."""
        raise NotImplementedError

    def check(self) -> None:
        """No exception escaped, and the card's memory is within its limit."""
        assert self.card.defects == [] and self.card.internal_errors == 0
        assert 0 <= self.card.memory.used <= self.card.memory.limit

    def stop(self) -> None:
        """Let go of what the entrance holds outside Python's memory."""


class Commands(Entrance):
    """Commands that are right in most fields, and ones that are right but for a few and so get
    far."""

    def start(self) -> None:
        """A world of one object of each kind; the numbers that commands made."""
        self.world = World()
        self.card = self.world.card
        self.names = dispatch.names()
        self.uids = [self.world.mine, self.world.yours]
        self.made: list[tuple[str, int, int]] = []

    def _numbers(self) -> list[int]:
        return [n for _, n, _ in self.made[-8:]] + list(self.world.numbers.values())

    def _execute(self, command: str, tail: bytes, uid: int, op_mod: int, fields: dict[str,
                                                                                      Any]) -> None:
        rng = self.rng
        layout = prm.command_layouts(command)[0]
        view = prm.new(layout, len(tail))
        if tail:
            view.buf[-len(tail):] = tail
        view['opcode'] = prm.OPCODES[command]
        view.buf[2:8] = struct.pack('>HHH', uid, 0, op_mod)
        for path, value in fields.items():
            view[path] = (value(self.world) if callable(value) else value) & view._find(path)[3]
        for path in rng.sample(paths(layout),
                               min(len(paths(layout)), rng.choice((0, 0, 0, 1, 1, 2, 3)))):
            mask = view._find(path)[3]
            view[path] = rng.choice(self._numbers()) & mask if rng.random() < 0.3 else some(
                rng, mask.bit_length())
        least = dispatch._bind(prm.OPCODES[command]).min_out
        room = max(16, least) + rng.choice(
            (0, 0, 64, 0x1000)) if rng.random() < 0.9 else rng.choice((16, 64, 0x110))
        out = self.card.execute(bytes(view.buf), room)
        assert len(out) == room
        if not out[0] and command in _RESULTS:
            kind, field = _RESULTS[command]
            at = prm.View(prm.command_layouts(command)[1], out)
            self.made.append((kind, at[field], uid))

    def step(self) -> None:
        """One command."""
        rng, g = self.rng, self.world.g
        g.used = self.floor if hasattr(self, 'floor') else g.used
        self.floor = g.used
        if self.card.state != self.card.READY or len(self.made) > 3000:
            self.start()
            self.floor = self.world.g.used
            return
        kind = rng.random()
        uid = rng.choice((self.world.mine, self.world.mine, 0, self.world.yours))
        if kind < 0.3:
            raw = random_command(rng, self.names, self.uids)
            if raw[:2] not in (b'\x01\x03', b'\x01\x05') or rng.random() < 0.001:
                self.card.execute(raw, rng.choice((16, 16, 64, 0x110, 0x1010, 8, 3)))
        elif kind < 0.4:
            # Nearly empty, with an op_mod that the command has.
            command = rng.choice(self.names)
            if command not in _LIFE or rng.random() < 0.001:
                number = rng.choice(sorted(TYPES))
                if command.endswith('GENERAL_OBJECT'):
                    tail, op_mod = bytearray(rng.choice(
                        (0, prm.layout_bits(TYPES[number][0]) >> 3))), number
                    if tail:
                        for path, value in _GENERAL.get(number, {}).items():
                            prm.View(TYPES[number][0], tail)[path] = value
                    for _ in range(rng.choice((0, 0, 1, 2, 6)) if tail else 0):
                        tail[rng.randrange(len(tail))] = rng.choice(
                            (0, 1, 2, 3, 8, rng.getrandbits(8)))
                else:
                    op_mods = dispatch._bind(prm.OPCODES[command]).entry.op_mods or (0, 1)
                    tail, op_mod = bytearray(rng.choice(
                        (0, 0, 16, 64))), rng.choice(sorted(op_mods))
                self._execute(command, bytes(tail), uid, op_mod, {})
        elif kind < 0.65:
            name = rng.choice(list(RECIPES))
            command, _, fields, tail = RECIPES[name]
            self._execute(command, tail(self.world) if tail else b'', uid, 0, fields)
        elif kind < 0.88:
            command, field, kind_of_it, more = rng.choice(NAMING)
            there = [(n, owner) for k, n, owner in self.made[-200:] if k == kind_of_it]
            there.append((self.world.numbers[kind_of_it], self.world.mine))
            number, owner = rng.choice(there) if rng.random() < 0.8 else (rng.choice(
                self._numbers()), uid)
            fields = {k: v for k, v in more.items() if k not in ('op_mod', 'out_len')}
            op_mods = dispatch._bind(prm.OPCODES[command]).entry.op_mods or (0,)
            tail = rng.randbytes(rng.choice((0, 0, 0, 8, 64)))
            self._execute(command, tail, owner, rng.choice(sorted(op_mods)),
                          {**fields, field: number})
        elif self.made:
            name, number, owner = self.made.pop(rng.randrange(len(self.made)))
            command, field = DESTROY[name]
            more = {'scheduling_hierarchy': 3} if 'SCHED' in command else {}
            self._execute(command, b'', owner, 0, {field: number, **more})
        g.run(1)


#: What makes general objects of a type good, but for numbers.
_GENERAL: dict[int, dict[str, int]] = {
    8: {'log_sw_icm_size': 12, 'sw_icm_start_addr': 0x1000_0000_0000}, 0x26: {
        'scheduling_hierarchy': 3}}
_LIFE = ('TEARDOWN_HCA', 'DISABLE_HCA', 'DESTROY_UCTX')
_RESULTS = {command: (kind, field) for kind, (command, field, _, _) in RECIPES.items()}


class Registers(Entrance):
    """Command queue, mailboxes, initialization segment, configuration space, doorbells and control
    pages, over scribbled memory."""

    def start(self) -> None:
        """A booted function and its command queue."""
        self.bench = CommandBench(self.rng.choice(('ib', 'eth')))
        self.card = self.bench.card
        self.names = dispatch.names()
        self.steps = 0

    def step(self) -> None:
        """One access."""
        rng, b = self.rng, self.bench
        kind = rng.random()
        self.steps += 1
        if self.steps % 20000 == 0:
            b.function.reset()
            b.prepare()
        if kind < 0.35:
            b.guest.used = max(0, b.queue.ring - b.guest.base + 4096)
            overrides = {}
            if rng.random() < 0.5:
                field = rng.choice(
                    ('type', 'inlen', 'in_ptr', 'outlen', 'out_ptr', 'token', 'status_own'))
                overrides[field] = some(rng, prm.fields('cmd_layout')[field][1])
            b.queue.post(random_command(rng, self.names, b.uids), rng.choice((8, 16, 600, 0x1010)),
                         rng.randrange(32), **overrides)
        elif kind < 0.45:
            b.guest.write(b.guest.base + rng.randrange(b.guest.size - 64), rng.randbytes(64))
        elif kind < 0.5:
            offset = rng.choice(
                (0, 4, 0x10, 0x14, 0x18, 0x1fc, 0x1010, 0x200, rng.randrange(0x2100)))
            b.function.write(
                0, offset,
                rng.choice((rng.randbytes(4), rng.randbytes(8), b'\0\0\0\0', rng.randbytes(1))))
        elif kind < 0.7:
            page = rng.choice(
                (0x100, 0x101, 0x102, 0x7ff, caps.VIRTIO_START >> 12, rng.randrange(0x2000)))
            offset = page * PAGE + rng.choice(
                (0x20, 0x24, 0x40, 0x48, 0x800, 0x808, 0x900, 0xa00, rng.randrange(PAGE - 64)))
            noise = rng.randbytes(rng.choice((1, 2, 3, 4, 8, 16, 64)))
            b.function.write(0, offset,
                             noise if rng.random() < 0.5 else some(rng, 64).to_bytes(8, 'big'))
        elif kind < 0.8:
            n = rng.choice((1, 2, 4, 8, 64))
            b.function.read(rng.choice((0, 7)), rng.randrange(4096 - 64), n)
            b.function.read(0, caps.MEMIC_OPERATION_START + rng.randrange(2 * caps.MEMIC_SIZE - 64),
                            n)
            at = caps.MEMIC_OPERATION_START + rng.randrange(2 * caps.MEMIC_SIZE - 64)
            b.function.write(0, at,
                             rng.randbytes(n))
        elif kind < 0.85:
            b.function.write(
                7, rng.choice((0x10, 0x40, 0x60, 0x9c, 0xc0, 0xc4, 0xcc, rng.randrange(4092))),
                rng.randbytes(4))
        else:
            b.function.write(0, 0x10, (b.queue.ring >> 32).to_bytes(4, 'big'))
            b.function.write(0, 0x14, (b.queue.ring & 0xfffff000).to_bytes(4, 'big'))
            b.function.write(7, 4, b'\6\0')
            b.queue.ring_doorbell(1 << rng.randrange(32) if rng.random() <
                                  0.9 else rng.getrandbits(32))
            b.card.run_timers()
        if b.card.state != b.card.READY:
            b.card.reset()
            b.prepare()


class WorkRequests(Entrance):
    """Send and receive WQEs on every kind of queue, from noise to nearly right, over keys of every
    kind."""

    KINDS = (RC, UC, UD, XRC, DCI, REG_UMR, 'raw')

    def start(self) -> None:
        """Queues connected to themselves, shared receive queues, a DC target and keys."""
        rng = self.rng
        self.g = g = Guest(link_layer=rng.choice(('ib', 'eth')))
        self.card = g.card
        self.cq = GuestCq(g, 10, oi=1)
        self.rcq = GuestCq(g, 10, cqe_sz=1, oi=1)
        self.buf = g.alloc(16 * PAGE)
        pa = {
            'access_mode_1_0': 1, 'pd': g.pd, 'qpn': 0xffffff, 'umr_en': 1, 'lr': 1, 'lw': 1, 'rr':
            1, 'rw': 1, 'a': 1}
        self.keys = [
            g.mkey(self.buf, 16 * PAGE),
            g.mkey(self.buf, PAGE, lr=1),
            g.mkey(1 << 50, PAGE)]
        for mode in (1, 2, 3):
            for size in (4, 16):
                self.keys.append(
                    g.create_mkey(
                        b'', 0, **{
                            **pa, 'access_mode_1_0': mode, 'free': 1, 'translations_octword_size':
                            size, 'log_page_size': 12}))
        #: Keys with room for byte stream formats, and PSVs.
        self.signed = [indirect_key(g, k) for k in (4, 4, 8)]
        self.psvs = [g.cmd('CREATE_PSV', num_psv=1, pd=g.pd)['psv0_index'] for _ in range(2)]
        self.keys += self.signed
        self.keys += [0x100, 0x300, 0x500, 0]
        self.rmp = GuestRmp(g)
        self.xrcd = g.cmd('ALLOC_XRCD')['xrcd']
        self.xrc_srq = GuestXrcSrq(g, self.xrcd)
        self.dct = g.cmd(
            'CREATE_DCT', **{
                'dct_context_entry.pd': g.pd, 'dct_context_entry.cqn': self.cq.number,
                'dct_context_entry.rre': 1, 'dct_context_entry.srqn_xrqn': self.rmp.number,
                'dct_context_entry.rwe': 1, 'dct_context_entry.mtu': 5})['dctn']
        self.queues: dict[Any, Any] = {}
        #: Immediate of the next WQE, which for a UMR is its key.
        self.imm = 0
        self.floor = g.used

    def _queue(self, kind: Any) -> Any:
        q = self.queues.get(kind)
        g = self.g
        if q is None:
            g.used = max(g.used, self.floor)
            if kind == 'raw':
                q = GuestSq(g)
                q.modify(RESET, READY)
            else:
                q = GuestQp(
                    g, kind, scq=self.cq, rcq=self.rcq, log_sq=5, log_rq=3,
                    cs_res=0x22 if self.rng.random() < 0.5 else 0,
                    srqn=self.rmp.number if kind == RC and self.rng.random() < 0.3 else None,
                    xrcd=self.xrcd if kind == XRC else 0)
                q.connect(q.number)
            self.queues[kind] = q
        elif kind == 'raw':
            if g.card.sqs.find(q.number).wq_state != READY:
                g.fails('MODIFY_SQ', sqn=q.number, sq_state=g.card.sqs.find(q.number).wq_state, **{
                    'ctx.state': RESET})
                q.modify(RESET, READY)
                q.posted = 0
        elif q.model.state != 3:
            g.fails('2RST_QP', qpn=q.number)
            q.posted = q.received = 0
            q.connect(q.number)
        return q

    def _address(self) -> int:
        rng = self.rng
        return self.buf + rng.choice(
            (0, 8, 64, 4088, 4090, 8 * PAGE)) if rng.random() < 0.8 else some(rng, 64)

    def _data(self) -> bytes:
        """Data segments: pointers, inline data, or both."""
        rng, out = self.rng, b''
        for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
            if rng.random() < 0.2:
                out += inline(rng.randbytes(rng.randrange(100)))
            else:
                out += sge(self._address(), rng.choice((0, 8, 8, 64, 1024, 4096, some(rng, 32))),
                           self._key())
        return out

    def _key(self) -> int:
        rng = self.rng
        return self.keys[0] if rng.random() < 0.5 else rng.choice(self.keys)

    def _update(self) -> bytes:
        """Segments of a UMR: control, key context, and a list of translations or a BSF."""
        rng = self.rng
        entries = rng.choice((1, 4, 8, 16))
        flags = rng.choice((0x80, 0x80, 0xc0, 0xa0, rng.getrandbits(8)))
        most = sum(1 << k for k in (0, 6, 13, 14, 17, 18, 19, 20, 29))
        mask = rng.choice((most, 1 << 29, rng.getrandbits(64)))
        out = struct.pack('>BxxxHHQI28x', flags, entries, rng.choice((0, 0, 4, 8, 0xffff)), mask,
                          rng.choice((0, 0, some(rng, 32))))
        rights = rng.choice((0x1f << 10, rng.getrandbits(6) << 10)) | rng.choice((0, 1, 2)) << 8
        key = 0xffffff00 | rng.choice(self.keys) & 0xff
        out += struct.pack('>IIIIQQ32x', rights, key, self.g.pd, 0, self._address(),
                           rng.choice((64, 4096)))
        shape = rng.random()
        if shape < 0.6:
            for _ in range(entries):
                out += struct.pack('>IIQ', rng.choice((64, 4096, some(rng, 32))), self._key(),
                                   self._address())
        elif shape < 0.8:
            out += rng.randbytes(16 * entries)
        else:
            out += struct.pack('>IIQ', entries * 16, self._key(), self._address())
        return out + (rng.randbytes(64) if rng.random() < 0.2 else b'')

    def _formats(self) -> bytes:
        """A UMR that puts byte stream formats behind a key."""
        rng = self.rng
        bsf = b''
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            if rng.random() < 0.7:
                domains = [
                    rng.choice((NO_DOMAIN,
                                domain_crc(rng.choice(self.psvs), rng.choice(
                                    (CRC32, CRC32C, CRC64))),
                                domain_dif(rng.choice(self.psvs), checksum=rng.random() < 0.5,
                                           escape=rng.randrange(4)))) for _ in range(2)]
                bsf += signature_bsf(domains[0], domains[1], check=rng.choice(
                    (0xff, rng.getrandbits(8))), same=rng.random() < 0.5, copy=rng.choice(
                        (0, 0xff, rng.getrandbits(8))))
            else:
                bsf += crypto_bsf(rng.choice((0, 1, some(rng, 24))), order=rng.randrange(4),
                                  unit=rng.choice((512, 4096)))
        if bsf and rng.random() < 0.4:
            noise = bytearray(bsf)
            for _ in range(rng.choice((1, 3))):
                noise[rng.randrange(len(noise))] = rng.getrandbits(8)
            bsf = bytes(noise)
        control = prm.new('wqe_umr_ctrl')
        control.buf[0] = UMR_INLINE
        control.set(
            xlt_octowords=4, xlt_offset=len(bsf) // 16 if rng.random() < 0.9 else rng.randrange(16),
            mkey_mask=MASK_LEN | MASK_KEY | MASK_FREE | MASK_RIGHTS | MASK_SIGERR | MASK_BSF)
        context = prm.new('mkc')
        n = rng.choice((512, 520, 1024, 4096, 8))
        self.imm = rng.choice(self.signed)
        context.set(len=n * 2, qpn=0xffffff, lr=1, lw=1, rr=1, rw=1, bsf_en=int(rng.random() < 0.9),
                    expected_sigerr_count=rng.randrange(2), mkey_7_0=self.imm & 0xff)
        entries = sge(self.buf, n, self.keys[0]) + sge(self.buf + 8 * PAGE, n, self._key())
        return bytes(control.buf) + bytes(context.buf) + entries.ljust(64, b'\0') + bsf

    def _body(self, q: Any, kind: Any, op: int) -> bytes:
        """Segments that the opcode wants on that kind of queue."""
        rng, out = self.rng, b''
        self.imm = rng.choice((0, self.keys[3], self.keys[6], rng.getrandbits(32)))
        if op == Op.UMR:
            return self._formats() if rng.random() < 0.4 else self._update()
        if op == Op.SET_PSV:
            number = rng.choice((*self.psvs, some(rng, 24)))
            return struct.pack('>IH2xQ', number, rng.getrandbits(16),
                               rng.getrandbits(64)) * rng.choice((1, 2))
        if kind == 'raw':
            size = rng.choice((0, 0, 14, 18, 54))
            mss = rng.choice((0, 64, 1460))
            head = struct.pack('>4xBxHIH', rng.choice((0, 0xc0, rng.getrandbits(8))), mss, 0,
                               rng.choice((size, size, some(rng, 16))))
            out = head + PLAIN[:size]
            return out + bytes(-len(out) % 16) + self._data()
        if kind in (UD, DCI):
            target = rng.choice((q.number, self.dct, self.dct, 0xffffff, 0, 1))
            out = address_vector(target, rng.choice((0x11111111, 0, 1 << 31)), grh=rng.random()
                                 < 0.3)
        if kind == XRC:
            out = struct.pack('>I12x', rng.choice((self.xrc_srq.number, some(rng, 24))))
        if op in (Op.WRITE, Op.WRITE_IMM, Op.READ, Op.CS, Op.FA, Op.MASKED_CS, Op.MASKED_FA):
            out += raddr(self._address(), self._key())
        if op in (Op.CS, Op.FA, Op.MASKED_FA):
            out += rng.randbytes(16)
        if op == Op.MASKED_CS:
            out += rng.randbytes(32)
        return out + self._data()

    def step(self) -> None:
        """One WQE, a doorbell, or a receive WQE."""
        rng = self.rng
        kind = rng.choice(self.KINDS)
        q = self._queue(kind)
        g = self.g
        if kind not in ('raw', REG_UMR, DCI, XRC) and rng.random() < 0.3:
            where = rng.randrange(4)
            if where == 0 and q.rq_bytes:
                q.post_recv((self.buf + rng.randrange(PAGE), rng.choice(
                    (0, 64, 4096, 1 << 31)), rng.choice(self.keys)))
            elif where == 1 and q.rq_bytes:
                g.write(q.buf + q.stride * rng.randrange(8), rng.randbytes(16))
                g.write(q.dbr, rng.randrange(1 << 16).to_bytes(4, 'big'))
            else:
                self.rmp.post((self.buf, 64, rng.choice(self.keys)), index=rng.randrange(16))
        ops = [Op.NOP, Op.UMR] if kind == REG_UMR else [
            Op.NOP, Op.SEND, Op.LSO, Op.ENHANCED_MPSW
        ] if kind == 'raw' else [Op.SEND, Op.SEND_IMM] if kind == UD else [
            Op.SEND, Op.SEND_IMM, Op.SEND_INVAL, Op.WRITE, Op.WRITE_IMM, *(
                (Op.READ, Op.CS, Op.FA, Op.MASKED_CS, Op.MASKED_FA, Op.UMR,
                 Op.SET_PSV) if kind != UC else ())]
        op = rng.choice(ops) if rng.random() < 0.85 else rng.choice(
            OPS) if rng.random() < 0.7 else rng.randrange(256)
        body = self._body(q, kind, op) if rng.random() < 0.9 else rng.randbytes(16 *
                                                                                rng.randrange(20))
        if body and rng.random() < 0.2:
            noise = bytearray(body)
            noise[rng.randrange(len(noise))] = rng.getrandbits(8)
            body = bytes(noise)
        body = body[:16 * 62]
        body += bytes(-len(body) % 16)
        size = 1 + len(body) // 16 if rng.random() < 0.95 else rng.randrange(64)
        ring, base, entries = (q.buf, 0, 64) if kind == 'raw' else (q.buf, q.rq_bytes, 32)
        wqe = CTRL.pack(
            rng.randrange(4) << 24 | (q.posted & 0xffff) << 8 | op, q.number << 8 | size,
            rng.getrandbits(8), self.imm) + body
        for k in range(0, len(wqe), 16):
            g.write(ring + base + (q.posted * 64 + k) % (entries * 64), wqe[k:k + 16])
        q.posted += (len(wqe) + 63) // 64 if rng.random() < 0.99 else rng.randrange(1 << 16)
        g.write(q.dbr + 4, (q.posted & 0xffff).to_bytes(4, 'big'))
        doorbell(g.card, 0x800, g.uar, wqe[:8])
        if rng.random() < 0.1:
            doorbell(g.card, rng.choice((0x20, 0x800, 0x808, 0x900)), g.uar, rng.randbytes(8))
        g.run(1)


class SteeringEntries(Entrance):
    """Steering table entries of every format in ICM, nearly right or noise, with frames through
    them; and frames that make no sense."""

    def start(self) -> None:
        """Tables of 64 entries for both directions, whose entries lead to each other."""
        self.bench = b = SteBench(self.rng.choice(('connectx5', 'connectx6dx', 'connectx7')))
        self.card = b.card
        self.base = b.alloc(64 * 64)
        for k in range(64):
            b.put(b.always_miss(), self.base + 64 * k)
        self.tir = b.tir()[1]
        b.table(self.base)
        b.table(self.base + 64, kind=1)

    def _target(self) -> int:
        rng = self.rng
        return rng.choice((self.base + 64 * rng.randrange(64), self.tir, some(rng, 40)))

    def step(self) -> None:
        """One entry, and one frame each way."""
        rng, b = self.rng, self.bench
        at = self.base + 64 * rng.choice((0, 1, rng.randrange(64)))
        if rng.random() < 0.7:
            actions = rng.randbytes(8) if rng.random() < 0.6 else bytes([
                rng.randrange(32)]) + rng.randbytes(3) + bytes(4)
            entry = bytearray(
                b.entry(rng.choice((0x0f, rng.randrange(256))), hit=self._target(),
                        miss=self._target(), entries=rng.choice((1, 2, 64)),
                        actions=b'' if b.v0 else actions, counter=some(rng, 24) & 0xffff))
            for _ in range(rng.choice((0, 1, 4))):
                entry[rng.randrange(64)] = rng.getrandbits(8)
        else:
            entry = bytearray(rng.randbytes(64))
        b.put(bytes(entry), at)
        frame = bytearray(PLAIN if rng.random() < 0.5 else rng.randbytes(rng.randrange(200)))
        if frame and rng.random() < 0.5:
            frame[rng.randrange(len(frame))] = rng.getrandbits(8)
        (b.receive if rng.random() < 0.6 else b.transmit)(bytes(frame))
        b.g.run(1)


class Virtqueues(Entrance):
    """What a virtio driver writes into its rings and descriptors."""

    def start(self) -> None:
        """A virtqueue each way; frames of one come to the other."""
        self.bench = EthernetBench()
        self.card = self.bench.card
        self.function = Function(self.card)
        self.queues = [Virtqueue(self.bench, k) for k in (0, 1)]
        for q in self.queues:
            assert q.create() == q.modify(VIRTQUEUE_READY) == 'OK'
        everything_to(self.bench, self.queues[0])
        self.counts = [0, 0]

    def step(self) -> None:
        """A descriptor or an index, and the doorbell."""
        rng = self.rng
        k = rng.randrange(2)
        q = self.queues[k]
        model = self.card.general_objects.find(q.number)
        if model.state != VIRTQUEUE_READY:
            # As after a new start of the driver.
            model.state, model.available, model.used, self.counts[k] = VIRTQUEUE_READY, 0, 0, 0
            q.g.write(q.avail + 2, b'\0\0')
        for _ in range(rng.randrange(3)):
            addr = rng.choice((q.mem + 0x400, q.mem + 0x1ff0, some(rng, 64)))
            q.describe(rng.randrange(8), addr, rng.choice((0, 12, 60, 4096, some(rng, 32))),
                       rng.choice((0, 1, 2, 3, 4, some(rng, 16))),
                       rng.choice((rng.randrange(8), some(rng, 16))))
        if rng.random() < 0.1:
            q.g.write(q.mem + 0x400, rng.randbytes(64) if rng.random() < 0.5 else bytes(12) + PLAIN)
        q.g.write(q.avail + 4 + 2 * rng.randrange(8),
                  struct.pack('<H', rng.choice((rng.randrange(8), some(rng, 16)))))
        self.counts[k] = self.counts[k] + rng.choice((1, 1, 1, 2, 8, 9)) & 0xffff
        q.g.write(q.avail + 2, struct.pack('<H', self.counts[k]))
        q.kick(self.function)
        q.g.run(1)


class Messages(Entrance):
    """vfio-user messages with and without descriptors, over a socket; the server answers or hangs
    up, and serves the next."""

    def start(self) -> None:
        """A server and no client yet."""
        self.server = Server(str(self.directory / f'card{self.rng.getrandbits(32):x}'),
                             Card('connectx6dx', 'eth'))
        self.card = self.server.card
        self.server.start()
        self.memory = os.memfd_create('guest')
        os.ftruncate(self.memory, 1 << 20)
        self.pipe = os.pipe()
        self.client: socket.socket | None = None
        self.sent = 0

    def _connect(self) -> socket.socket:
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.settimeout(10)
        s.connect(self.server.path)
        s.sendall(vu.HEADER.pack(0, vu.VERSION, 20, 0, 0) + bytes(4))
        s.setblocking(False)
        self.client = s
        return s

    def _message(self) -> tuple[bytes, list[int]]:
        rng = self.rng
        code = rng.randrange(18)
        if code == vu.DEVICE_RESET and rng.random() < 0.95:
            code = vu.REGION_READ
        body = b''.join(some(rng, 64).to_bytes(8, 'little') for _ in range(rng.randrange(7)))
        if code in (vu.REGION_READ, vu.REGION_WRITE):
            n = rng.choice((0, 1, 4, 8, 64))
            body = vu.REGION_ACCESS.pack(
                rng.choice(
                    (0, 0x10, 0x18, 0x100800, caps.MEMIC_START, caps.VIRTIO_START, some(
                        rng, 64))), rng.choice((0, 7, some(rng, 32))), n)
            body += rng.randbytes(n) if code == vu.REGION_WRITE else b''
        elif code == vu.DMA_MAP and rng.random() < 0.5:
            where, size = GUEST_BASE + 4096 * rng.randrange(64), 4096 * rng.randrange(4)
            body = struct.pack('<IIQQQ', 32, rng.choice((1, 3)), rng.choice((0, 4096)), where, size)
        elif code == vu.DEVICE_SET_IRQS and rng.random() < 0.5:
            body = struct.pack('<IIIII', 20, rng.choice(
                (0x21, 0x22, 0x24)), 2, rng.randrange(33), rng.randrange(4)) + rng.randbytes(4)
        size = 16 + len(body)
        kind = rng.random()
        if kind < 0.001:
            size = some(rng, 32)
        flags = vu.NO_REPLY if kind < 0.3 else rng.getrandbits(32) if kind > 0.999 else 0
        fds = [
            rng.choice((self.memory, self.memory, self.pipe[1], self.pipe[0]))
            for _ in range(rng.choice((0, 0, 0, 0, 1, 2, 9)))]
        return vu.HEADER.pack(self.sent & 0xffff, code, size, flags, 0) + body, fds

    def step(self) -> None:
        """One message."""
        self.sent += 1
        try:
            s = self.client or self._connect()
            data, fds = self._message()
            while data:
                try:
                    n = socket.send_fds(s, [data], fds) if fds else s.send(data)
                    data, fds = data[n:], []
                except BlockingIOError:
                    self._drain(s)
            if self.sent % 64 == 0:
                self._drain(s)
        except OSError:
            if self.client is not None:
                self.client.close()
                self.client = None      # the server hung up, as it may
        if self.sent % 5000 == 0 and self.client is not None:
            self.client.close()
            self.client = None

    @staticmethod
    def _drain(s: socket.socket) -> None:
        try:
            if not s.recv(1 << 20):
                raise ConnectionError
        except BlockingIOError:
            pass

    def check(self) -> None:
        """The server is there, nothing escaped it."""
        assert self.server.call(lambda: self.server.card.state is not None, timeout=60)
        assert self.server.escaped == []
        super().check()

    def stop(self) -> None:
        """End the server, close all."""
        if self.client is not None:
            self.client.close()
        self.server.stop()
        for fd in (self.memory, *self.pipe):
            os.close(fd)


#: Entrances and their share of the inputs.
ENTRANCES: tuple[tuple[Callable[[random.Random, Path], Entrance], float],
                 ...] = ((Commands, 0.3), (Registers, 0.2), (WorkRequests, 0.25),
                         (SteeringEntries, 0.05), (Virtqueues, 0.05), (Messages, 0.15))
