# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
User memory registered for DEVX: memory of this process or a dma-buf, pinned and known to the device
by a umem id, which DEVX commands take in place of a list of physical addresses.

Who frees what: Context.close() closes the DEVX objects first and then the umems. The memory behind
a umem, own or borrowed, is let go only once the kernel has let go of it.
"""

import logging
import zlib

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.ref cimport Py_INCREF
from libc.errno cimport EBADF, EBUSY, EFAULT, EINVAL, ENOMEM, ENOSYS, EOPNOTSUPP, EPERM, \
    EPROTONOSUPPORT, errno
from libc.stddef cimport size_t
from libc.stdint cimport SIZE_MAX, UINT32_MAX, UINT64_MAX, \
    uint32_t, uint64_t, uintptr_t
from posix.unistd cimport _SC_PAGESIZE, sysconf

cimport pyverbs.libibverbs as v
cimport pyverbs.providers.mlx5.libmlx5 as dv
cimport pyverbs.providers.mlx5.libmlx5_mem as mem
from pyverbs.base cimport PyverbsCM
from pyverbs.device cimport Context
from pyverbs.providers.mlx5.arguments cimport checked_descriptor, checked_number
from pyverbs.providers.mlx5.refusal cimport devx_lacking, device_trouble, release_trouble
from pyverbs.providers.mlx5.lifetime cimport check_life, log_closing, new_life, umems_of
from pyverbs.providers.mlx5.umem_memory cimport BorrowedMemory, UmemMemory

from pyverbs.pyverbs_error import PyverbsRDMAError, PyverbsUserError

cdef extern from 'devx_probe.h':
    bint mlx5_devx_is_missing(v.ibv_context *context) nogil


cdef size_t PAGE_SIZE = sysconf(_SC_PAGESIZE)

cdef object LOGGER = logging.getLogger('Mlx5DevxUmem')

# libmlx5's own choice for the plain call: every size from the device's smallest page, 4 KiB, up.
cdef uint64_t ALL_PAGE_SIZES = UINT64_MAX & ~<uint64_t> 4095

# With one of these the kernel pins the pages for writing.
cdef uint32_t WRITING = (mem.IBV_ACCESS_LOCAL_WRITE | mem.IBV_ACCESS_REMOTE_WRITE |
                         mem.IBV_ACCESS_REMOTE_ATOMIC | mem.IBV_ACCESS_MW_BIND)

# What export() adds behind the library's data: a checksum, since the library takes any bytes for a
# handle.
cdef enum:
    CHECKSUM_LENGTH = 4


cdef uint64_t _page_size_bits(sizes) except? 0:
    """
    :param sizes: A bitmap, or an iterable of page sizes in bytes, each a power of two
    :return: The bitmap: for a power of two, size and bit are the same number
    """
    cdef uint64_t bits = 0
    if hasattr(sizes, '__index__'):
        return checked_number(sizes, 'pgsz_bitmap', UINT64_MAX)
    for size in sizes:
        number = checked_number(size, 'page size', UINT64_MAX)
        if number == 0 or number & (number - 1):
            raise PyverbsUserError(f'page size {number} is not a power of two')
        bits |= number
    if bits == 0:
        raise PyverbsUserError('pgsz_bitmap names no page size: give at least one, or 0 to leave '
                               'the choice to the kernel')
    return bits


# The collector must clear neither the context, through which the umem is deregistered, nor the
# memory.
@cython.no_gc_clear
cdef class Mlx5DevxUmem(PyverbsCM):
    """Mlx5DevxUmem(context, size=None, addr=None, alignment=..., access=0, pgsz_bitmap=0, \
comp_mask=0, dmabuf_fd=None, *, buffer=None)\n--\n
    Memory registered for DEVX by mlx5dv_devx_umem_reg or _reg_ex.

    It keeps its Context alive and is closed by it, after the DEVX objects. What keeps the memory
    alive depends on the source: own memory and a buffer's view are held until the kernel has let go
    and no view of the umem is left; memory given by addr is the caller's to keep; a dma-buf is held
    by the kernel, and the caller may close the fd at once.

    memoryview(umem) gives own and borrowed memory to Python. A view keeps the memory, not the
    registration. All methods may be called from several threads; registration and deregistration
    run without the GIL. After fork() the umem belongs to the parent: in the child, methods raise,
    and closing it deregisters nothing.

    If it is dropped while a DEVX object still uses it, with a ResourceWarning, it stays registered
    until its context is closed, and its memory, which the device may write to, is never freed.
    """
    def __cinit__(self):
        self.life = new_life('Mlx5DevxUmem')

    def __init__(self, Context context not None, size=None, addr=None, alignment=PAGE_SIZE,
                 access=0, pgsz_bitmap=0, comp_mask=0, dmabuf_fd=None, *, buffer=None):
        """
        Register memory. With neither addr, buffer nor dmabuf_fd, memory is allocated: zeroed,
        page-aligned pages.
        :param context: A context opened with DEVX. It is kept alive, and closes the umem when it is
                        closed
        :param size: Bytes to register (default: all of buffer)
        :param addr: Address of memory that the caller keeps alive; with dmabuf_fd, the offset in
                     the dma-buf in bytes (default: 0)
        :param alignment: Alignment in bytes of allocated memory, a power of two (default: a page).
                          From 2 MiB up huge pages are asked for
        :param access: ibv_access_flags; the driver takes LOCAL_WRITE, REMOTE_READ, REMOTE_WRITE
                       with LOCAL_WRITE, and RELAXED_ORDERING
        :param pgsz_bitmap: Page sizes that the device may use: a bitmap, bit n for 2**n bytes, or
                            an iterable of sizes in bytes. 0 leaves the choice to the kernel, and
                            the umem must then be used from its start
        :param comp_mask: MLX5DV_UMEM_MASK_DMABUF or 0; a dmabuf_fd implies it
        :param dmabuf_fd: A dma-buf to register in place of memory; the caller may close it once
                          this returns
        :param buffer: An object with the buffer protocol, or a tensor in host memory with DLPack,
                       to register: C-contiguous, and writable if access has a write bit. Its view
                       is held, so that it can be neither freed nor resized until the umem is closed
        :raises PyverbsUserError: Arguments that contradict each other or do not fit, a closed
                                  context, or already initialized
        :raises PyverbsRDMAError: Refused by library or kernel, error_code says why: EINVAL (no
                                  DEVX, access, size 0, a range that wraps, no page size that fits,
                                  not a dma-buf), EFAULT (memory not mapped, not writable, or of
                                  another device), EIO (the firmware failed, or the device is gone),
                                  ENOMEM (over RLIMIT_MEMLOCK, or no memory), EPERM
                                  (RLIMIT_MEMLOCK is 0), EBADF (dmabuf_fd),
                                  EOPNOTSUPP (comp_mask, or not an mlx5 device)
        :raises TypeError: buffer has neither the buffer protocol nor DLPack

        See mlx5dv_devx_umem_reg(3).
        """
        cdef dv.mlx5dv_devx_umem_in umem_in
        cdef uint64_t mask, where = 0
        cdef size_t length = 0, unit
        cdef bint extended
        cdef UmemMemory memory = None
        if type(self) is Mlx5DevxUmem:
            # What PyverbsObject does with the name, looked up once.
            self.logger = LOGGER
        else:
            super().__init__()
        if size is not None:
            length = checked_number(size, 'size', SIZE_MAX)
        if addr is not None:
            where = checked_number(addr, 'addr', UINT64_MAX)
        unit = checked_number(alignment, 'alignment', SIZE_MAX)
        if unit == 0 or unit & (unit - 1):
            raise PyverbsUserError(f'alignment {unit} is not a power of two')
        umem_in.access = checked_number(access, 'access', UINT32_MAX)
        umem_in.pgsz_bitmap = _page_size_bits(pgsz_bitmap)
        mask = checked_number(comp_mask, 'comp_mask', UINT64_MAX)
        if dmabuf_fd is None:
            umem_in.dmabuf_fd = -1
            if mask & mem.MLX5DV_UMEM_MASK_DMABUF:
                raise PyverbsUserError('comp_mask has MLX5DV_UMEM_MASK_DMABUF: dmabuf_fd is needed')
        else:
            umem_in.dmabuf_fd = checked_descriptor(dmabuf_fd, 'dmabuf_fd')
            mask |= mem.MLX5DV_UMEM_MASK_DMABUF
        if buffer is not None and (addr is not None or dmabuf_fd is not None):
            raise PyverbsUserError('buffer, addr and dmabuf_fd are different sources of memory: '
                                   'give one')
        if size is None and buffer is None:
            raise PyverbsUserError('size is needed, in bytes, unless a buffer is given')
        umem_in.comp_mask = mask
        extended = umem_in.pgsz_bitmap != 0 or mask != 0
        if extended and umem_in.pgsz_bitmap == 0:
            umem_in.pgsz_bitmap = ALL_PAGE_SIZES
        if buffer is not None:
            memory = BorrowedMemory.__new__(BorrowedMemory)
            (<BorrowedMemory> memory)._borrow(buffer, umem_in.access & WRITING != 0)
            where = <uintptr_t> memory.start
            if size is None:
                length = memory.size
            elif length > memory.size:
                raise PyverbsUserError(f'size {length} is more than the {memory.size} bytes of the '
                                       'buffer')
        elif addr is None and dmabuf_fd is None:
            memory = UmemMemory.__new__(UmemMemory)
            memory._map(length, unit)
            where = <uintptr_t> memory.start
        umem_in.addr = <void *> <uintptr_t> where
        umem_in.size = length
        self._register(context, &umem_in, extended, memory)

    cdef _register(self, Context context, dv.mlx5dv_devx_umem_in *umem_in, bint extended,
                   UmemMemory memory):
        cdef v.ibv_context *owner
        cdef dv.mlx5dv_devx_umem *umem
        cdef bint no_devx = False
        cdef int err
        self.life.begin_create(self, context, umems_of(context))
        owner = self.life.owner
        with nogil:
            if extended:
                umem = mem.mlx5dv_devx_umem_reg_ex(owner, umem_in)
            else:
                umem = mem.mlx5dv_devx_umem_reg(owner, umem_in.addr, umem_in.size, umem_in.access)
            err = errno
            if umem == NULL and err == EINVAL:
                no_devx = mlx5_devx_is_missing(owner)
        if umem == NULL:
            self.life.end_create(self, False)
            self._raise_refused(umem_in, err, no_devx)
        self.memory = memory
        self.umem = umem
        self.number = umem.umem_id
        self.registered = umem_in.size
        self.start = <uintptr_t> umem_in.addr
        self.access_flags = umem_in.access
        self.bitmap = umem_in.pgsz_bitmap
        self.is_dmabuf = umem_in.comp_mask & mem.MLX5DV_UMEM_MASK_DMABUF != 0
        self.life.end_create(self, True)

    cdef _raise_refused(self, dv.mlx5dv_devx_umem_in *umem_in, int err, bint no_devx):
        cdef bint dmabuf = umem_in.comp_mask & mem.MLX5DV_UMEM_MASK_DMABUF != 0
        what = f'dma-buf {umem_in.dmabuf_fd} at offset {<uintptr_t> umem_in.addr}' if dmabuf else \
               f'address {<uintptr_t> umem_in.addr:#x}'
        text = f'Failed to register a UMEM of {umem_in.size} bytes, {what}, ' \
               f'access {umem_in.access:#x}'
        if err == EPROTONOSUPPORT:
            text += devx_lacking()
        elif no_devx:
            text += ('. The context was not opened with DEVX: use Mlx5Context with '
                     'MLX5DV_CONTEXT_FLAGS_DEVX')
        elif dmabuf and mem.ibv_is_fork_initialized() == mem.IBV_FORK_ENABLED:
            text += ('. Fork support is on, and libmlx5 then takes the offset in a dma-buf for an '
                     'address in this process: unset RDMAV_FORK_SAFE and IBV_FORK_SAFE, and do not '
                     'call ibv_fork_init()')
        elif err == ENOMEM:
            text += ('. The memory to be pinned is over the limit (see `ulimit -l`, or grant '
                     'CAP_IPC_LOCK), or none is left, or the device has no umem left')
        elif err == EPERM:
            text += ('. This process may pin no memory at all: raise `ulimit -l`, which is 0, or '
                     'grant CAP_IPC_LOCK')
        elif err == EFAULT and dmabuf:
            text += '. The range does not fit in the dma-buf'
        elif err == EFAULT:
            text += ('. Part of the range is not mapped, or is read-only while access asks for '
                     'writing, or is memory that cannot be pinned by its address: that of another '
                     'device (GPU, BAR, MEMIC) goes as a dma-buf, which its owner exports, by '
                     'dmabuf_fd; a shared mapping of a file that is to be written must be of tmpfs '
                     'or a memfd since Linux 6.5')
        elif err == EBADF:
            text += '. It is not an open file descriptor'
        elif dmabuf and err in (EOPNOTSUPP, ENOSYS):
            text += ('. The exporter cannot pin its memory, or keeps it from other devices: ask it '
                     'for a buffer in system memory; or the kernel has no such dma-buf support')
        elif err == EOPNOTSUPP:
            text += (f'. comp_mask {umem_in.comp_mask:#x} is not supported, or this is not an mlx5 '
                     'device, or the memory is a file of a DAX file system, which cannot be pinned')
        elif err == EINVAL:
            text += ('. Check that access has no other bits than LOCAL_WRITE, REMOTE_READ, '
                     'RELAXED_ORDERING, and REMOTE_WRITE only with LOCAL_WRITE, and that the size '
                     'is not 0')
            if umem_in.pgsz_bitmap and umem_in.pgsz_bitmap != ALL_PAGE_SIZES:
                text += (f'; that a page size of {umem_in.pgsz_bitmap:#x} fits the memory: it is '
                         'contiguous and aligned to it')
            if dmabuf:
                text += '; that the fd is a dma-buf, and the range is inside'
        else:
            text += device_trouble(err)
        raise PyverbsRDMAError(text, err)

    @staticmethod
    def get_export_size():
        """
        The length of what export() returns.
        :return: Bytes
        :raises PyverbsRDMAError: The library cannot export (EOPNOTSUPP)

        See mlx5dv_get_export_sizes(3).
        """
        cdef mem.mlx5dv_export_sizes sizes
        if not mem.MLX5_MEM_HAVE_DEVX_UMEM_EXPORT:
            raise PyverbsRDMAError('Failed to export a UMEM: it needs a newer rdma-core, 65 has it',
                                   EOPNOTSUPP)
        mem.mlx5dv_get_export_sizes(&sizes)
        return sizes.devx_umem_attrs_size + CHECKSUM_LENGTH

    def export(self):
        """
        Describe the umem to another process that shares the command fd.
        :return: Bytes for import_umem(), get_export_size() long: the library's data, which also
                 Mlx5UMEM and C programs can import, and a checksum
        :raises PyverbsUserError: It is closed
        :raises PyverbsRDMAError: The library cannot export (EOPNOTSUPP)

        See mlx5dv_devx_umem_export(3).
        """
        cdef bytearray data
        cdef char *buf
        cdef int rc
        check_life(self.life, self)
        size = Mlx5DevxUmem.get_export_size() - CHECKSUM_LENGTH
        data = bytearray(size)
        buf = data
        self.life.enter(self)
        with nogil:
            rc = mem.mlx5dv_devx_umem_export(self.umem, buf)
        self.life.leave()
        if rc:
            raise PyverbsRDMAError(f'Failed to export UMEM{device_trouble(rc)}', rc)
        return bytes(data) + _checksum(data)

    @classmethod
    def import_umem(cls, Context context not None, data not None):
        """
        Import a umem that another process exported.
        :param context: A context that shares the exporter's command fd: Context(cmd_fd=...)
        :param data: What export() returned
        :return: A Mlx5DevxUmem with is_imported True, which knows only the umem id: size, addr and
                 access are 0. Closing it leaves the registration to its owner
        :raises PyverbsUserError: A closed context, or data that export() did not make
        :raises PyverbsRDMAError: The library cannot import (EOPNOTSUPP)
        :raises TypeError: data has no buffer protocol

        See mlx5dv_devx_umem_import(3).
        """
        size = Mlx5DevxUmem.get_export_size()
        try:
            blob = bytes(memoryview(data))
        except (BufferError, ValueError) as ex:
            raise PyverbsUserError(f'Failed to import a UMEM: the buffer cannot be read ({ex})'
                                   ) from ex
        if len(blob) != size:
            raise PyverbsUserError(f'Failed to import a UMEM: export() makes {size} bytes, these '
                                   f'are {len(blob)}')
        if _checksum(blob[:-CHECKSUM_LENGTH]) != blob[-CHECKSUM_LENGTH:]:
            raise PyverbsUserError('Failed to import a UMEM: export() did not make these bytes, '
                                   'the checksum is wrong')
        cdef Mlx5DevxUmem umem = <Mlx5DevxUmem?> cls.__new__(cls)
        PyverbsCM.__init__(umem)
        umem._import(context, blob)
        return umem

    cdef _import(self, Context context, bytes data):
        cdef v.ibv_context *owner
        cdef char *buf = PyBytes_AS_STRING(data)
        cdef dv.mlx5dv_devx_umem *umem
        cdef int err
        self.life.begin_create(self, context, umems_of(context))
        owner = self.life.owner
        with nogil:
            umem = mem.mlx5dv_devx_umem_import(owner, buf)
            err = errno
        if umem == NULL:
            self.life.end_create(self, False)
            raise PyverbsRDMAError(f'Failed to import UMEM{device_trouble(err)}', err)
        self.umem = umem
        self.number = umem.umem_id
        self.imported = True
        self.life.end_create(self, True)

    cdef int _release(self):
        # The C side of closing, 0 or an errno. After an error everything is as it was.
        cdef dv.mlx5dv_devx_umem *umem = self.umem
        cdef int rc = 0
        if not self.life.gone():
            with nogil:
                if self.imported:
                    mem.mlx5dv_devx_umem_unimport(umem)
                else:
                    rc = mem.mlx5dv_devx_umem_dereg(umem)
        # Else the kernel let go of it with the context, and the library's handle is of no use any
        # more.
        if not rc:
            self.umem = NULL
        return rc

    cpdef close(self):
        """
        Deregister. Does nothing if closed already. Own memory is freed, or the borrowed view
        released, when no view of the umem is left. An import only releases the library's handle.
        :raises PyverbsRDMAError: The device refused: a DEVX object still uses the umem (EBUSY or
                                  EINVAL), the firmware failed or the device is gone (EIO). The umem
                                  stays open, its memory allocated and pinned; close the object
                                  first, then this again

        See mlx5dv_devx_umem_dereg(3).
        """
        cdef int rc
        if not self.life.begin_close():
            return
        try:
            log_closing(self.logger, 'Closing Mlx5DevxUmem')
        except BaseException:
            self.life.end_close(self, EBUSY)
            raise
        self.life.begin_release()
        rc = self._release()
        self.life.end_close(self, rc)
        if rc:
            trouble = release_trouble(rc, 'a DEVX object made on it')
            raise PyverbsRDMAError(f'Failed to dereg UMEM{trouble}. The umem stays open and its '
                                   'memory allocated', rc)
        self.memory = None

    def __del__(self):
        self.life.dropped(self)

    def __dealloc__(self):
        if self.life is None:
            return
        if self.life.end_unseen() and self._release():
            # The device may still write to the memory.
            Py_INCREF(self.memory)
            self.life.leaked()
        elif self.life.forked():
            # It is a copy, part of which fork() may have left out.
            Py_INCREF(self.memory)

    def __getbuffer__(self, Py_buffer *view, int flags):
        memory = self.memory
        check_life(self.life, self)
        if memory is None:
            raise BufferError('The memory behind this umem is not this object\'s: it was given by '
                              'address or dma-buf')
        # The view holds the memory, not this object, so that it does not hold the registration
        # either.
        memory._lend(memory, view, flags)

    @property
    def umem_id(self):
        """The id by which DEVX commands name the memory."""
        check_life(self.life, self)
        return self.number

    @property
    def size(self):
        """Registered bytes; 0 for an import, which does not know them."""
        check_life(self.life, self)
        return self.registered

    @property
    def addr(self):
        """Address in this process, or the offset in the dma-buf, in bytes; 0 for an import."""
        check_life(self.life, self)
        return self.start

    @property
    def umem_addr(self):
        """
        The same as addr, by its name in Mlx5UMEM, unless it was set: a program that has mapped a
        dma-buf itself may note here where, in bytes. It is a note, which neither the device nor any
        other method looks at.
        """
        check_life(self.life, self)
        return self.start if self.noted is None else self.noted

    @umem_addr.setter
    def umem_addr(self, address):
        check_life(self.life, self)
        self.noted = None if address is None else checked_number(address, 'umem_addr', UINT64_MAX)

    @property
    def access(self):
        """ibv_access_flags asked for; 0 for an import."""
        check_life(self.life, self)
        return self.access_flags

    @property
    def pgsz_bitmap(self):
        """Page sizes that were allowed, bit n for 2**n bytes; 0 if the kernel chose freely."""
        check_life(self.life, self)
        return self.bitmap

    @property
    def page_sizes(self):
        """The same as a list of sizes in bytes, smallest first; empty if the kernel chose."""
        check_life(self.life, self)
        return [1 << bit for bit in range(64) if self.bitmap >> bit & 1]

    @property
    def is_imported(self):
        """Whether the registration is another object's: closing this one leaves it."""
        check_life(self.life, self)
        return bool(self.imported)

    @property
    def closed(self):
        """Whether there is nothing to use: closed, never registered, the parent's after fork(), or
        its context is gone."""
        return bool(self.life.closed())

    def __repr__(self):
        name = type(self).__name__
        if self.closed:
            return f'<{name} closed>'
        if self.imported:
            return f'<{name} umem_id={self.number} imported>'
        source = 'dma-buf offset' if self.is_dmabuf else 'addr'
        return f'<{name} umem_id={self.number} size={self.registered} {source}={self.start:#x} ' \
               f'access={self.access_flags:#x} pgsz_bitmap={self.bitmap:#x} open>'

    def __str__(self):
        if self.closed:
            return repr(self)
        return f'{"umem id":20}: {self.number:<20}\n{"reg addr":20}: {self.start:<20}\n'

    def __reduce__(self):
        raise TypeError(f'cannot pickle {type(self).__name__}: a registration belongs to one '
                        f'process')


cdef bytes _checksum(data):
    return zlib.crc32(data).to_bytes(CHECKSUM_LENGTH, 'big')
