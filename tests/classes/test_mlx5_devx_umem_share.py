# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
""" A umem known to two processes, by export() and import_umem(). rdma-core has the calls from 65
on; with an older one every part of it is refused, which is asserted in their place.
"""
import array
import errno
import os
import socket
import subprocess
import sys

from pyverbs.device import Context
from pyverbs.providers.mlx5.mlx5dv import Mlx5UMEM
from pyverbs.pyverbs_error import PyverbsRDMAError
from tests.mlx5_mem_base import PATIENCE, pass_fd
from tests.mlx5_mem_umem import LENGTH, PATTERN, WRITE, Mlx5DevxUmemTestCase

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem

#: Bytes of an export besides the library's: see export().
CHECKSUM = 4

#: Gets the command fd and the data over a socket, imports, and ends as it is told. It prints what
#: it has, and what the card reads in it.
IMPORTER = """
import array, os, socket, sys
from pyverbs.device import Context
from pyverbs.pyverbs_error import PyverbsUserError
from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
try:
    from mlx5emu.vm import control
except Exception:
    control = None
link = socket.socket(fileno=int(sys.argv[1]))
data, ((_, _, fds),), _, _ = link.recvmsg(4096, socket.CMSG_SPACE(4))
ctx = Context(cmd_fd=array.array('i', fds)[0])
umem = Mlx5DevxUmem.import_umem(ctx, data)
try:
    memoryview(umem)
except BufferError:
    print(umem.umem_id, umem.is_imported, umem.size, umem.addr, umem.access, umem.pgsz_bitmap,
          umem.page_sizes)
print(control.call('umem_read', umem_id=umem.umem_id, offset=8192 - 8, length=16)
      if control is not None and control.available() else '')
print(umem, repr(umem), flush=True)
exec(link.recv(4096).decode())
"""
#: Ways for the importing process to end.
ENDS = ('umem.close(); umem.close(); ctx.close()', 'ctx.close(); assert umem.closed', 'del umem',
        'del ctx', 'os._exit(0)', 'pass', 'os.kill(os.getpid(), 9)',
        'again = [Mlx5DevxUmem.import_umem(ctx, data) for _ in range(3)]; again.pop().close()')


class Mlx5DevxUmemShareTest(Mlx5DevxUmemTestCase):
    def exported(self, umem):
        """
        What export() makes.
        :return: Bytes, or None where the library has none of it, once it is seen to refuse all of
            it
        """
        try:
            data = umem.export()
        except PyverbsRDMAError as ex:
            self.assertEqual(ex.error_code, errno.EOPNOTSUPP)
            self.assertFalse(hasattr(Mlx5UMEM, 'export'))
            for call in (Mlx5DevxUmem.get_export_size,
                         lambda: Mlx5DevxUmem.import_umem(self.ctx, bytes(8)), umem.export):
                self.assertIn('65', self.refused(errno.EOPNOTSUPP, call))
            return None
        self.assertEqual(len(data), Mlx5DevxUmem.get_export_size())
        self.assertTrue(hasattr(Mlx5UMEM, 'export'))
        return data

    def test_u9_wrong_data(self):
        """U9: short, long, garbled and other data is refused before the library sees it; nothing is
        imported."""
        with self.umem(LENGTH) as umem:
            data = self.exported(umem)
            if data is None:
                return
            # Four zero bytes are a right checksum of nothing: only the length tells.
            for wrong in (b'', bytes(4), data[:-1], data + b'\0', data * 2, bytes(
                    len(data)), b'\xff' * len(data), data[::-1], data[CHECKSUM:] + data[:CHECKSUM],
                          *(os.urandom(len(data))
                            for _ in range(20)), *(bytes(b ^ (1 << bit) * (i == at)
                                                         for i, b in enumerate(data))
                                                   for at in range(len(data)) for bit in (0, 7))):
                with self.subTest(data=wrong):
                    self.wrong(Mlx5DevxUmem.import_umem, self.ctx, wrong)
            for thing in (None, 7, 'text'):
                self.assertRaises(TypeError, Mlx5DevxUmem.import_umem, self.ctx, thing)
            self.assertRaises(TypeError, Mlx5DevxUmem.import_umem, None, data)
            closed = self.open_context()
            closed.close()
            self.wrong(Mlx5DevxUmem.import_umem, closed, data)
        self.wrong(umem.export)

    def test_u10_owner_and_import(self):
        """U10: an import closes without touching the owner's registration, in either order, and an
        owner has no way to forget its own."""
        with self.assert_freed_once(1):
            umem = self.umem(LENGTH, access=WRITE)
            data = self.exported(umem)
            if data is None:
                umem.close()
                return
            self.assertEqual(umem.export(), data)
            ctx = Context(cmd_fd=os.dup(self.ctx.cmd_fd))
            for blob in (data, bytearray(data), memoryview(data), array.array('B', data)):
                twin = Mlx5DevxUmem.import_umem(ctx, blob)
                self.assertEqual((twin.umem_id, twin.is_imported, twin.size, twin.addr),
                                 (umem.umem_id, True, 0, 0))
                self.assertIn('imported', repr(twin))
                self.assertRaises(BufferError, memoryview, twin)
                self.wrong(twin.__init__, ctx, 64)
                twin.close()
                self.assertTrue(twin.closed)
            self.assertFalse(hasattr(umem, 'dereg') or hasattr(umem, 'unimport_umem'))
            late, by_context = Mlx5DevxUmem.import_umem(ctx, data), Mlx5DevxUmem.import_umem(
                ctx, data)
            self.assertEqual(late.export(), data)
            memoryview(umem)[:] = PATTERN
            self.assert_card_sees(umem)
            umem.close()
            late.close()
            ctx.close()
            self.assertTrue(by_context.closed)

    def test_another_process(self):
        """The importer knows the id, by which the card reads the owner's memory; however it ends,
        the owner's registration stays."""
        for end in ENDS:
            with self.subTest(end=end), self.assert_freed_once(1):
                umem = self.umem(LENGTH, access=WRITE)
                data = self.exported(umem)
                if data is None:
                    umem.close()
                    return
                memoryview(umem)[:] = PATTERN
                ours, theirs = socket.socketpair()
                process = subprocess.Popen(
                    [sys.executable, '-X', 'faulthandler', '-c', IMPORTER,
                     str(theirs.fileno())], universal_newlines=True, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, pass_fds=[theirs.fileno()],
                    env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
                theirs.close()
                pass_fd(ours, data, self.ctx.cmd_fd)
                known, read, *texts = (process.stdout.readline() for _ in range(3))
                ours.send(end.encode())
                _, said = process.communicate(timeout=PATIENCE)
                ours.close()
                self.assertEqual((process.returncode, said), (-9 if 'kill' in end else 0, ''))
                self.assertEqual(known, f'{umem.umem_id} True 0 0 0 0 []\n')
                self.assertIn('umem', texts[0].lower())
                if self.card:
                    self.assertEqual(read.strip(), PATTERN[8192 - 8:8192 + 8].hex())
                self.assertFalse(umem.closed)
                self.assert_card_sees(umem)
                umem.close()

    def test_upstream_imports_ours(self):
        """What export() makes begins with the library's own data, which pyverbs' class takes as it
        is."""
        with self.umem(LENGTH) as umem:
            data = self.exported(umem)
            if data is None:
                return
            ctx = Context(cmd_fd=os.dup(self.ctx.cmd_fd))
            theirs = Mlx5UMEM.import_umem(ctx, data)
            self.assertEqual(theirs.umem_id, umem.umem_id)
            theirs.unimport_umem()
            ctx.close()
            self.assert_live('umem', 1)
