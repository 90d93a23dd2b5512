# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""What the data path reads and writes in bulk: WQE segments and CQEs as precompiled structures, and
their constants.

``wqe_layouts`` declares the same layouts field by field; a test holds the two against each other.
Here speed decides: one unpack a segment.
"""
import struct

#: Bytes of a WQE basic block and of one data segment.
WQEBB, SEGMENT = 64, 16
#: Most bytes of a send WQE: DS counts segments in six bits.
MAX_SEND_WQE = 63 * SEGMENT


class Op:
    """Send WQE opcodes."""
    NOP, SEND_INVAL, WRITE, WRITE_IMM = 0x00, 0x01, 0x08, 0x09
    SEND, SEND_IMM, LSO = 0x0a, 0x0b, 0x0e
    READ, CS, FA, MASKED_CS, MASKED_FA = 0x10, 0x11, 0x12, 0x14, 0x15
    SET_PSV, UMR, ENHANCED_MPSW, MMO = 0x20, 0x25, 0x29, 0x2f
    TAG_MATCHING = 0x28
    FLOW_TBL_ACCESS = 0x2c


class CqeOp:
    """CQE opcodes."""
    REQ, RESP_WRITE_IMM, RESP_SEND, RESP_SEND_IMM = 0, 1, 2, 3
    RESP_SEND_INV, RESIZE, NO_PACKET = 4, 5, 6
    SIG_ERR = 12
    REQ_ERR, RESP_ERR, INVALID = 13, 14, 15


class Syndrome:
    """Syndromes of an error CQE."""
    LOCAL_LENGTH, LOCAL_QP_OP, LOCAL_PROT, FLUSH, MW_BIND = 0x01, 0x02, 0x04, 0x05, 0x06
    BAD_RESPONSE, LOCAL_ACCESS, REMOTE_INVALID = 0x10, 0x11, 0x12
    REMOTE_ACCESS, REMOTE_OP = 0x13, 0x14
    RETRY_EXCEEDED, RNR_EXCEEDED, REMOTE_ABORTED = 0x15, 0x16, 0x22


SYNDROME_NAMES = {value: name for name, value in vars(Syndrome).items() if isinstance(value, int)}

#: Vendor syndrome that cards report with each, as error reports in the field show them; (requester,
#: responder) where they differ.
VENDOR = {
    Syndrome.LOCAL_LENGTH: (0x69, 0x69),
    Syndrome.LOCAL_QP_OP: (0x61, 0x61),
    Syndrome.LOCAL_PROT: (0x51, 0x52),
    Syndrome.FLUSH: (0xf4, 0xf9),
    Syndrome.MW_BIND: (0x75, 0x75),
    Syndrome.BAD_RESPONSE: (0x80, 0x80),
    Syndrome.LOCAL_ACCESS: (0x54, 0x54),
    Syndrome.REMOTE_INVALID: (0x8a, 0x8a),
    Syndrome.REMOTE_ACCESS: (0x88, 0x88),
    Syndrome.REMOTE_OP: (0x89, 0x89),
    Syndrome.RETRY_EXCEEDED: (0x81, 0x81),
    Syndrome.RNR_EXCEEDED: (0x87, 0x87),
    Syndrome.REMOTE_ABORTED: (0x8b, 0x8b), }

#: Completion request of the control segment: a CQE when the bit is set, always one on error.
CTRL_CQ_UPDATE, CTRL_SOLICITED = 0x08, 0x02
#: Data segment that is inline data.
INLINE = 1 << 31
INLINE_COUNT = 0x3ff
#: Key that ends a list of data segments.
TERMINATOR = 0x100
#: A byte count of 0 in a data segment that is not the terminator.
ZERO_COUNT = 1 << 31
#: Bit of dqp_dct: the address vector has all 48 bytes, not the first 16 only.
EXTENDED_AV = 1 << 31
#: Bit of grh_gid_fl: there is a GRH.
AV_GRH = 1 << 30

#: opcode and index, qpn and DS, fm_ce_se, immediate.
CTRL = struct.Struct('>II3xBI')
#: byte count, key, address.
DATA = struct.Struct('>IIQ')
#: remote address, key.
RADDR = struct.Struct('>QI4x')
#: swap or add, compare.
ATOMIC = struct.Struct('>QQ')
#: swap or add, compare, swap mask, compare mask.
MASKED_ATOMIC = struct.Struct('>QQQQ')
#: Base of an address vector: qkey, low half of the DC key, destination, static rate and SL, source
#: path bits, rlid.
AV_BASE = struct.Struct('>IIIBBH')
#: The rest: MAC, traffic class, hop limit, GRH flag with source GID index and flow label,
#: destination GID.
AV_GRH_PART = struct.Struct('>4x6sBBI16s')
#: UMR control: flags, octowords, offset 15..0 (or BSF octowords), mask, offset 47..16.
UMR_CTRL = struct.Struct('>B3xHHQI28x')
#: SET_PSV segment: number of the PSV, syndrome, transient signature.
SET_PSV = struct.Struct('>IH2xQ')
#: Metadata of a memory to memory operation: control, key and address of its result; the result:
#: syndrome, bytes written and read.
MMO_METADATA, MMO_RESULT = struct.Struct('>IIQ'), struct.Struct('>I4xII')
#: SRQ next segment: index of the next WQE.
SRQ_NEXT = struct.Struct('>2xH12x')
#: XRC segment: number of the SRQ.
XRC = struct.Struct('>I12x')

#: The first 62 bytes of a CQE: path bits, slid, flags and remote QPN, srqn or user index,
#: immediate, app, app_op, app_info, byte count, timestamp, opcode and QPN, WQE counter.
CQE = struct.Struct('>17xB4xHI4xIIBBHIQIH')
#: The same bytes of the CQE of an Ethernet frame: tunneled, RSS hash and its type, checksum, header
#: flags and types, VLAN, user index, metadata, byte count, timestamp, flow tag, WQE counter.
ETH_CQE = struct.Struct('>B11xIB3xH6xBBHII4xIQIH')
#: The same bytes of an error CQE: user index, vendor syndrome, syndrome, opcode and QPN, WQE
#: counter.
ERROR_CQE = struct.Struct('>32xI18xBBIH')
#: The same bytes of a signature error CQE: upper half of the signature expected and of the actual
#: one, lower half of both, syndrome, kind of signature, domain, key, offset, QPN.
SIG_ERROR_CQE = struct.Struct('>16xIIIIHBBIQ8xI2x')
#: Format bits of a CQE's last byte: data in the CQE's first 32 bytes, or in the 64 before it.
INLINE_32, INLINE_64 = 0x4, 0x8

#: UMR control flags.
UMR_CHECK_QPN, UMR_OFFSET, UMR_CHECK_NOT_FREE = 0x08, 0x10, 0x20
UMR_CHECK_FREE, UMR_INLINE = 0x40, 0x80
