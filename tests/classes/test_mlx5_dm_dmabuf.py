# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
r"""
MEMIC as a dma-buf, imported as an MR and as a umem.

It takes rdma-core 65, whose library has the call, and Linux 7, whose kernel has the object:

    bash buildlib/quickstart.sh test --rdma-core sid --kernel backports \
        tests/classes/test_mlx5_dm_dmabuf.py

Where either is older each test asserts the refusal that the documentation promises, and ends there.
"""
import errno
import fcntl
import os
import threading

from pyverbs.device import DM, AllocDmAttr, Context
from pyverbs.libibverbs_enums import ibv_access_flags, ibv_wc_status
from pyverbs.mr import DMMR, DmaBufMR
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsRDMAError, PyverbsUserError
from tests.mlx5_mem_base import Mlx5MemTestCase
from tests.mlx5_mem_traffic import REMOTE, Loopback

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5DM, Mlx5DMOpAddr

LENGTH = 4096
PATTERN = bytes((11 * i + i // 256) & 0xff for i in range(LENGTH))
MR_ACCESS = ibv_access_flags.IBV_ACCESS_ZERO_BASED | REMOTE
INCREMENT = 0
SUCCESS = ibv_wc_status.IBV_WC_SUCCESS
LIBRARY_HAS_IT = hasattr(DM, 'export_dmabuf_fd')
KERNEL = tuple(int(part) for part in os.uname().release.split('-')[0].split('+')[0].split('.')[:2])


class Mlx5DMDmabufTest(Mlx5MemTestCase):
    def memic(self, length=LENGTH, ctx=None):
        return Mlx5DM(ctx or self.ctx, AllocDmAttr(length=length))

    def export(self, dm):
        """ The dma-buf's fd, closed at the end of the test unless it is before; None where library
        or kernel is too old, after it was asserted that exactly this is said.
        """
        if LIBRARY_HAS_IT and KERNEL >= (7, 1):
            fd = dm.export_dmabuf_fd()
            self.addCleanup(close_if_open, fd)
            return fd
        if LIBRARY_HAS_IT:
            text = self.refused(errno.EPROTONOSUPPORT, dm.export_dmabuf_fd)
            self.assertIn('The kernel is too old to export DMs', text)
        else:
            text = self.refused(errno.EOPNOTSUPP, dm.export_dmabuf_fd)
            self.assertIn('it needs a newer rdma-core', text)
        self.assertTrue(text.startswith('Failed to export dmabuf FD for DM'), text)
        return None

    def assert_holds(self, pd, mr, data, address=0):
        """What an RDMA READ brings through a key."""
        with Loopback(self.ctx, pd, len(data)) as loopback:
            self.assertEqual(loopback.read(mr.rkey, address), (SUCCESS, data))

    def test_mr_on_it_is_the_memory(self):
        """RDMA through a key on the dma-buf and the CPU's copies see the same bytes, both ways; a
        neighbour stays as it was."""
        with self.memic() as before, self.memic() as dm, self.memic() as behind:
            for each in (before, behind):
                each.copy_to_dm(0, PATTERN)
            fd = self.export(dm)
            if fd is None:
                return
            self.assertEqual((os.lseek(fd, 0, os.SEEK_END), os.readlink(f'/proc/self/fd/{fd}')),
                             (LENGTH, '/dmabuf:'))
            self.assertTrue(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)
            with PD(self.ctx) as pd, DmaBufMR(pd, LENGTH, REMOTE, fd, 0) as mr, Loopback(
                    self.ctx, pd, LENGTH) as loopback:
                dm.copy_to_dm(0, PATTERN[::-1])
                self.assertEqual(loopback.read(mr.rkey, 0), (SUCCESS, PATTERN[::-1]))
                self.assertEqual(loopback.write(mr.rkey, 0, PATTERN), SUCCESS)
                self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN)
                # An MR on the DM itself beside it.
                with DMMR(pd, LENGTH, MR_ACCESS, dm=dm, offset=0) as direct:
                    self.assertEqual(loopback.read(direct.rkey, 0), (SUCCESS, PATTERN))
            for each in (before, behind):
                self.assertEqual(each.copy_from_dm(0, LENGTH), PATTERN)

    def test_d12_export_after_an_operation_was_mapped(self):
        """D12: the dma-buf is the memory's page, whatever was mapped before; the operation still
        works afterwards."""
        with self.memic() as dm, dm.map_op_addr(INCREMENT) as increment:
            dm.copy_to_dm(0, PATTERN)
            fd = self.export(dm)
            self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN)
            if fd is not None:
                with PD(self.ctx) as pd, DmaBufMR(pd, LENGTH, REMOTE, fd, 0) as mr:
                    self.assert_holds(pd, mr, PATTERN)
            dm.copy_to_dm(0, bytes(4))
            increment.write(b'\x05')
            self.assertEqual(dm.copy_from_dm(0, 4), b'\x05\0\0\0')

    def test_closing_the_dm_revokes_it(self):
        """After close() of the DM new MRs on the dma-buf are ENODEV, those there no longer reach
        it, and nothing reaches the next DM."""
        dm = self.memic()
        dm.copy_to_dm(0, PATTERN)
        fd = self.export(dm)
        if fd is None:
            dm.close()
            self.assert_live('memic', 0)
            return
        with PD(self.ctx) as pd, DmaBufMR(pd, LENGTH, REMOTE, fd, 0) as mr:
            self.assert_holds(pd, mr, PATTERN)
            dm.close()
            self.assertTrue(dm.closed)
            with self.memic() as other, Loopback(self.ctx, pd, LENGTH) as loopback:
                other.copy_to_dm(0, PATTERN)
                status, data = loopback.read(mr.rkey, 0)
                self.assertNotEqual(status, SUCCESS)
                self.assertEqual(data, bytes(LENGTH))
                self.refused(errno.ENODEV, DmaBufMR, pd, LENGTH, REMOTE, fd, 0)
                self.assertEqual(other.copy_from_dm(0, LENGTH), PATTERN)
        os.close(fd)
        self.assert_live('memic', 0)

    def test_the_owners_context_takes_it_along(self):
        """When the exporting context is closed the dma-buf is revoked: new MRs are ENODEV, those
        there are no longer reach it."""
        owner = self.open_context()
        dm = self.memic(ctx=owner)
        dm.copy_to_dm(0, PATTERN)
        fd = self.export(dm)
        if fd is None:
            owner.close()
            return
        with PD(self.ctx) as pd, DmaBufMR(pd, LENGTH, REMOTE, fd, 0) as mr:
            self.assert_holds(pd, mr, PATTERN)
            owner.close()
            self.assertTrue(dm.closed)
            with Loopback(self.ctx, pd, LENGTH) as loopback:
                status, data = loopback.read(mr.rkey, 0)
                self.assertNotEqual(status, SUCCESS)
                self.assertEqual(data, bytes(LENGTH))
            self.refused(errno.ENODEV, DmaBufMR, pd, LENGTH, REMOTE, fd, 0)
        self.assert_live('memic', 0)

    def test_umem_of_it_is_refused(self):
        """A umem pins; the kernel's exporter of device memory does not let itself be pinned:
        EOPNOTSUPP, and the text says that."""
        with self.memic() as dm:
            fd = self.export(dm)
            if fd is None:
                return
            text = self.refused(errno.EOPNOTSUPP, Mlx5DevxUmem, self.ctx, LENGTH, access=1,
                                dmabuf_fd=fd)
            self.assertIn('exporter cannot pin', text)
            self.assert_live('umem', 0)
            os.fstat(fd)

    def test_sizes(self):
        """The dma-buf is of whole pages; MRs beyond it are refused, parts of it taken."""
        for length in (4, 64, LENGTH, LENGTH + 4, self.attr_ex.max_dm_size):
            with self.subTest(length=length), self.memic(length) as dm:
                fd = self.export(dm)
                if fd is None:
                    continue
                whole = -(-length // 4096) * 4096
                self.assertEqual(os.lseek(fd, 0, os.SEEK_END), whole)
                data = bytes((5 * i + 1) & 0xff for i in range(length))
                dm.copy_to_dm(0, data)
                with PD(self.ctx) as pd:
                    with DmaBufMR(pd, length, REMOTE, fd, 0) as mr:
                        self.assert_holds(pd, mr, data)
                    if length > LENGTH:
                        with DmaBufMR(pd, 4, REMOTE, fd, LENGTH) as mr:
                            self.assert_holds(pd, mr, data[LENGTH:LENGTH + 4], LENGTH)
                    for wrong, offset in ((whole + 1, 0), (4, whole), (4, whole - 2)):
                        self.refused(errno.EINVAL, DmaBufMR, pd, wrong, REMOTE, fd, offset)

    def test_of_an_import(self):
        """An import exports the same memory."""
        with self.memic() as dm:
            with Mlx5DM.import_dm(self.ctx, dm.handle) as twin:
                fd = self.export(twin)
            if fd is None:
                return
            dm.copy_to_dm(0, PATTERN)
            with PD(self.ctx) as pd, DmaBufMR(pd, LENGTH, REMOTE, fd, 0) as mr:
                self.assert_holds(pd, mr, PATTERN)

    def test_exports_leave_no_fd_and_a_closed_dm_has_none(self):
        """Succeeding or not, an export leaves no fd and the DM as it was; a closed DM is the
        caller's fault."""
        with self.memic() as dm:
            dm.copy_to_dm(0, PATTERN)
            fds = len(os.listdir('/proc/self/fd'))
            for _ in range(50):
                fd = self.export(dm)
                if fd is not None:
                    os.close(fd)
            self.assertEqual(len(os.listdir('/proc/self/fd')), fds)
            self.assertEqual(dm.copy_from_dm(0, LENGTH), PATTERN)
        self.wrong(dm.export_dmabuf_fd)
        self.wrong(Mlx5DM.__new__(Mlx5DM).export_dmabuf_fd)

    def test_threads(self):
        """Exports, operations and a close() in other threads: each succeeds or says why not."""
        for _ in range(10):
            dm, failures = self.memic(), []

            def use(dm=dm, failures=failures):
                try:
                    while True:
                        try:
                            os.close(dm.export_dmabuf_fd())
                        except PyverbsRDMAError as ex:
                            if ex.error_code not in (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
                                raise
                        Mlx5DMOpAddr(dm, INCREMENT).close()
                except PyverbsUserError:
                    pass
                except BaseException as ex:
                    failures.append(ex)
            threads = [threading.Thread(target=use) for _ in range(3)]
            for thread in threads:
                thread.start()
            dm.close()
            for thread in threads:
                thread.join()
            self.assertEqual((failures, dm.closed), ([], True))
        self.assert_live('memic', 0)

    def test_plain_context(self):
        """No DEVX is needed for it."""
        with Context(name=self.dev_name) as ctx, self.memic(ctx=ctx) as dm:
            dm.copy_to_dm(0, PATTERN)
            fd = self.export(dm)
            if fd is not None:
                with PD(self.ctx) as pd, DmaBufMR(pd, LENGTH, REMOTE, fd, 0) as mr:
                    self.assert_holds(pd, mr, PATTERN)


def close_if_open(fd):
    """Close an fd that the test may have closed."""
    try:
        os.close(fd)
    except OSError:
        pass
