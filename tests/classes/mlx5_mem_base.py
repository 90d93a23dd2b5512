# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" What the tests of device memory and umems share: a DEVX context, a DEVX object on umems, and
what the card says of it.

On the emulated card the control channel tells what the card holds; on a real one there is no such
channel and only those assertions are left out.
"""
import array
import ctypes
import gc
import os
import socket
import sys
import time
import unittest

# First: rdma-core's test modules import each other in a circle, which only opens from here.
import tests.utils  # noqa: F401, I001
from pyverbs.device import get_device_list
from pyverbs.providers.mlx5.mlx5_enums import _MLX5DV_UAR_ALLOC_TYPE_NC, mlx5dv_context_attr_flags
from pyverbs.providers.mlx5.mlx5dv import Mlx5Context, Mlx5DevxObj, Mlx5DVContextAttr, Mlx5UAR
from pyverbs.pyverbs_error import PyverbsRDMAError, PyverbsUserError
from tests.mlx5_base import Mlx5PyverbsAPITestCase

# Where the guest of the emulated card finds what asks the card; rdma-core's own runner has it not
# on its path.
if 'MLX5EMU_TESTS' in os.environ:
    sys.path.append(os.environ['MLX5EMU_TESTS'])
try:
    from mlx5emu.vm import control
except Exception as ex:
    control = None
    # Its absence leaves out what the emulated card is asked: nobody shall think that it was asked.
    if os.path.exists('/run/mlx5emu/control'):
        print(f'the emulated card is not asked what it holds: {ex!r}', file=sys.stderr)

#: Seconds after which something counts as hanging. No test depends on how fast the machine is.
PATIENCE = 120


def pass_fd(link, data, fd):
    """Send data and a descriptor to the process at the other end; socket.send_fds() is Python
    3.9's."""
    link.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [fd]))])


class Number:
    """An integer argument that does something when it is asked for its value."""

    def __init__(self, value, then):
        self.value, self.then = value, then

    def __index__(self):
        then, self.then = self.then, lambda: None
        then()
        return self.value


class Mlx5MemTestCase(Mlx5PyverbsAPITestCase):
    """A test with a DEVX context that leaves nothing behind on the card and no error that nobody
    saw."""

    def setUp(self):
        try:
            get_device_list()
        except PyverbsRDMAError as ex:
            # libibverbs answers so when the kernel has no RDMA at all.
            raise unittest.SkipTest(f'No RDMA devices ({ex})') from ex
        self.unraisable = []
        # Before Python 3.8 nobody can know of them but who reads stderr.
        if hasattr(sys, 'unraisablehook'):
            self.addCleanup(setattr, sys, 'unraisablehook', sys.unraisablehook)
            # The text only: the exception's frames may refer to the object that is being torn down.
            sys.unraisablehook = lambda unraisable: self.unraisable.append(
                str(unraisable.exc_value))
        super().setUp()
        self.card = control is not None and control.available()
        self.before = self.live()

    def create_context(self):
        self.ctx = self.open_context()

    def open_context(self, kind=Mlx5Context):
        try:
            return kind(Mlx5DVContextAttr(mlx5dv_context_attr_flags.MLX5DV_CONTEXT_FLAGS_DEVX),
                        self.dev_name)
        except PyverbsUserError as ex:
            raise unittest.SkipTest(f'Could not open mlx5 context ({ex})') from ex
        except PyverbsRDMAError as ex:
            raise unittest.SkipTest(f'Opening mlx5 DevX context is not supported ({ex})') from ex

    def tearDown(self):
        if self.card:
            control.call('faults_clear')
        gc.collect()
        super().tearDown()
        if self.card:
            for kind in ('umem', 'memic', 'general_object'):
                self.assert_live(kind, 0)
        self.assertEqual(self.unraisable, [])

    def live(self):
        """Number of live objects on the card by kind; empty on a real card."""
        if not self.card:
            return {}
        return {kind: len(ids) for kind, ids in control.call('objects').items()}

    def assert_live(self, kind, count):
        if self.card:
            self.assertEqual(self.live().get(kind, 0) - self.before.get(kind, 0), count,
                             f'live {kind} on the card')

    def assert_card_reads(self, umem_id, offset, data):
        if self.card:
            self.assertEqual(
                bytes.fromhex(
                    control.call('umem_read', umem_id=umem_id, offset=offset, length=len(data))),
                bytes(data))

    def until(self, happened, what):
        """Wait until another thread or the card has done something."""
        end = time.monotonic() + PATIENCE
        while not happened():
            self.assertLess(time.monotonic(), end, f'hangs: {what}')
            time.sleep(0.005)

    def hold(self, opcode):
        """ Have the emulated card hold the answers of a command until release() or the end of the
        test. A real card answers when it does, and what happens meanwhile is left to chance.
        """
        if self.card:
            control.call('fault', opcode=opcode, count=-1, hold=True)

    def until_held(self, count=1):
        """Wait until so many commands are at the card that holds their answers."""
        if self.card:
            self.until(lambda: control.call('held') == count, f'{count} commands at the card')

    def release(self):
        """Have the card give the answers that it holds."""
        if self.card:
            control.call('release')

    def assert_no_growth(self, size, call, times, leak):
        """
        Calls leave the process as large as it was. What an allocator keeps for the next time shows
        in the first of two rounds at most, a leak in both.
        :param size: How large the process is, in bytes
        :param call: What is called
        :param times: How often in each round
        :param leak: The bytes that each call would leave
        """
        grown = []
        for _ in range(2):
            before = size()
            for _ in range(times):
                call()
            grown.append(size() - before)
        self.assertLess(min(grown), times * leak // 4, grown)

    def refused(self, code, call, *args, **kwargs):
        """A call that library, kernel or device refuses with this errno, and says more than
        that."""
        with self.assertRaises(PyverbsRDMAError) as caught:
            call(*args, **kwargs)
        self.assertEqual(caught.exception.error_code, code, caught.exception)
        return str(caught.exception)

    def wrong(self, call, *args, **kwargs):
        """A call that is the caller's fault."""
        with self.assertRaises(PyverbsUserError) as caught:
            call(*args, **kwargs)
        return str(caught.exception)

    def in_child(self, function):
        """Run in a forked child; its exception, as text, is the failure. A child that dies by a
        signal fails too."""
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reader)
            text = b''
            try:
                function()
            except BaseException as ex:
                text = f'{type(ex).__name__}: {ex}'.encode() or b'?'
            os.write(writer, text)
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, 'rb') as pipe:
            text = pipe.read().decode()
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertEqual(text, '')


def mappings_of_device():
    """How many mappings of a uverbs device this process has."""
    with open('/proc/self/maps') as maps:
        return sum('/dev/infiniband/uverbs' in line for line in maps)


def resident_bytes():
    """Resident memory of this process in bytes."""
    with open('/proc/self/statm') as statm:
        return int(statm.read().split()[1]) * os.sysconf('SC_PAGESIZE')


def drop_capability(number):
    """Give up one capability of this process, for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    if libc.capget(header, data):
        raise OSError(ctypes.get_errno(), 'capget')
    for word in (0, 1):
        data[word] &= ~(1 << number)
    if libc.capset(header, data):
        raise OSError(ctypes.get_errno(), 'capset')


def devx_cq(ctx, umem, dbr_umem, uars):
    """
    A DEVX completion queue of 64 entries.
    :param umem: Where its entries go, at least 4096 bytes
    :param dbr_umem: Where its doorbell record is
    :param uars: A list to which the UAR is added, for the caller to keep
    """
    from tests.mlx5_prm_structs import CreateCqIn, CreateCqOut, SwCqc
    uars.append(Mlx5UAR(ctx, _MLX5DV_UAR_ALLOC_TYPE_NC))
    return Mlx5DevxObj(
        ctx,
        CreateCqIn(
            cq_umem_valid=1, cq_umem_id=umem.umem_id,
            sw_cqc=SwCqc(c_eqn=ctx.devx_query_eqn(0), uar_page=uars[-1].page_id, log_cq_size=6,
                         dbr_umem_valid=1, dbr_umem_id=dbr_umem.umem_id)), len(CreateCqOut()))
