# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
User memory registered for DEVX: memory of this process or a dma-buf, pinned and known to the device by a umem id, which
DEVX commands take in place of a list of physical addresses.

Who frees what: Context.close() closes the DEVX objects first and then the umems. The memory behind a umem, own or borrowed,
is let go only once the kernel has let go of it.
"""

import operator
import zlib

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, \
    PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_SetName
from cpython.ref cimport Py_INCREF
from libc.errno cimport EBADF, EFAULT, EINVAL, ENOMEM, ENOSYS, EOPNOTSUPP, EPROTONOSUPPORT, errno
from libc.stddef cimport size_t
from libc.stdint cimport INT32_MAX, INT32_MIN, SIZE_MAX, UINT32_MAX, UINT64_MAX, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset
from posix.mman cimport MADV_HUGEPAGE, MAP_ANONYMOUS, MAP_FAILED, MAP_PRIVATE, PROT_READ, PROT_WRITE, madvise, mmap, munmap
from posix.unistd cimport _SC_PAGESIZE, sysconf

cimport pyverbs.libibverbs as v
cimport pyverbs.providers.mlx5.libmlx5 as dv
cimport pyverbs.providers.mlx5.libmlx5_mem as mem
from pyverbs.base cimport PyverbsCM
from pyverbs.device cimport Context
from pyverbs.providers.mlx5.dlpack cimport MLX5_DLPACK_CPU, MLX5_DLPACK_CUDA_HOST, MLX5_DLPACK_READ_ONLY, \
    MLX5_DLPACK_ROCM_HOST, mlx5_dlpack_managed, mlx5_dlpack_tensor, mlx5_dlpack_versioned
from pyverbs.providers.mlx5.object_gate cimport MLX5_GATE_CLOSED, MLX5_GATE_NEW, MLX5_GATE_OPEN, \
    mlx5_gate_abandon, mlx5_gate_begin_close, mlx5_gate_begin_create, mlx5_gate_end, mlx5_gate_enter, \
    mlx5_gate_forked, mlx5_gate_init, mlx5_gate_leave, mlx5_gate_state

include "mlx5_mem_upstream.pxi"

from pyverbs.libibverbs_enums import ibv_access_flags
from pyverbs.providers.mlx5.still_in_use import keep, retry
from pyverbs.pyverbs_error import PyverbsRDMAError, PyverbsUserError


cdef size_t PAGE_SIZE = sysconf(_SC_PAGESIZE)
cdef size_t HUGE_PAGE_SIZE = 1 << 21

# libmlx5's own choice for the plain call: every size from the device's smallest page, 4 KiB, up.
cdef uint64_t ALL_PAGE_SIZES = UINT64_MAX & ~<uint64_t> 4095

# With one of these the kernel pins the pages for writing.
cdef uint32_t WRITING = (ibv_access_flags.IBV_ACCESS_LOCAL_WRITE | ibv_access_flags.IBV_ACCESS_REMOTE_WRITE |
                         ibv_access_flags.IBV_ACCESS_REMOTE_ATOMIC | ibv_access_flags.IBV_ACCESS_MW_BIND)

# What export() adds behind the library's data: a checksum, since the library takes any bytes for a handle.
cdef enum:
    CHECKSUM_LENGTH = 4


cdef object _number(value, str name, object largest, object smallest=0):
    """
    Check an integer argument before it is narrowed to a C type.
    :param value: Anything with __index__
    :param name: The argument's name, for the error text
    :param largest: Largest value that the C type holds
    :param smallest: Smallest one
    :return: It, as an int in that range
    """
    number = operator.index(value)
    if number < smallest or number > largest:
        raise PyverbsUserError(f'{name} {number} is out of range, {smallest} to {largest}')
    return number


cdef uint64_t _page_size_bits(sizes) except? 0:
    """
    :param sizes: A bitmap, or an iterable of page sizes in bytes, each a power of two
    :return: The bitmap: for a power of two, size and bit are the same number
    """
    cdef uint64_t bits = 0
    if hasattr(sizes, '__index__'):
        return _number(sizes, 'pgsz_bitmap', UINT64_MAX)
    for size in sizes:
        number = _number(size, 'page size', UINT64_MAX)
        if number == 0 or number & (number - 1):
            raise PyverbsUserError(f'page size {number} is not a power of two')
        bits |= number
    if bits == 0:
        raise PyverbsUserError('pgsz_bitmap names no page size: give at least one, or 0 to leave the choice to the kernel')
    return bits


cdef bint _lacks_devx(v.ibv_context *context) noexcept nogil:
    """
    Whether a refusal is due to the context: asked by QUERY_ISSI, a command that changes nothing and that the kernel, unlike
    QUERY_HCA_CAP, only takes from a context with DEVX.
    """
    cdef uint8_t box[16]
    cdef uint8_t out[112]
    memset(box, 0, sizeof(box))
    box[0], box[1] = 1, 0x0a
    return mem.mlx5dv_devx_general_cmd(context, box, sizeof(box), out, sizeof(out)) != 0 and errno == EINVAL


cdef str _contiguous_bytes(mlx5_dlpack_tensor *tensor, size_t *size):
    """
    :param size: Out: bytes of a tensor of DLPack; 0 beforehand
    :return: Why it cannot be registered: not C-contiguous, or it describes more than there can be. Else None
    """
    cdef size_t bits = <size_t> tensor.type_bits * tensor.type_lanes
    cdef size_t element = bits // 8
    cdef size_t count = 1
    cdef int64_t dim
    cdef int i
    if tensor.ndim < 0 or tensor.ndim > 0 and tensor.shape == NULL:
        return 'The tensor has no shape'
    if bits % 8:
        return 'The tensor has elements that are no whole bytes: view it as bytes first'
    for i in range(tensor.ndim):
        if tensor.shape[i] == 0:
            return None
    for i in range(tensor.ndim - 1, -1, -1):
        dim = tensor.shape[i]
        # The stride of a dimension that has one element is never used.
        if tensor.strides != NULL and dim != 1 and tensor.strides[i] != <int64_t> count:
            return 'The tensor is not C-contiguous memory: make a contiguous copy of it first'
        if element == 0 or dim < 0 or <size_t> dim > SIZE_MAX // element // count:
            return 'The tensor has a type or shape that no memory can have'
        count *= dim
    size[0] = count * element
    return None


# The collector must not clear the borrowed view without releasing it.
@cython.no_gc_clear
@cython.final
cdef class UmemMemory:
    """
    Memory behind a umem: mapped here, or borrowed from an exporter of the buffer protocol or of DLPack. It lives until the
    umem and every view of it have let go.
    """
    def __init__(self):
        """
        :raises TypeError: Always: it comes with a Mlx5DevxUmem
        """
        raise TypeError('UmemMemory comes with a Mlx5DevxUmem')

    cdef _map(self, size_t size, size_t alignment):
        # Pages of its own rather than of the heap: nothing else of the process lives in pages that the device writes
        # to, or that fork() may have to leave out.
        cdef size_t length, extra = 0, head
        cdef char *base
        cdef int err
        if alignment > PAGE_SIZE:
            extra = alignment - PAGE_SIZE
        if size > SIZE_MAX - PAGE_SIZE or (size + PAGE_SIZE - 1) // PAGE_SIZE > (SIZE_MAX - extra) // PAGE_SIZE - 1:
            raise PyverbsRDMAError(f'Failed to allocate {size} bytes aligned to {alignment}', ENOMEM)
        length = max((size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1), PAGE_SIZE)
        with nogil:
            base = <char *> mmap(NULL, length + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            err = errno
        if <void *> base == MAP_FAILED:
            raise PyverbsRDMAError(f'Failed to allocate {size} bytes aligned to {alignment}', err)
        if extra:
            head = (alignment - <uintptr_t> base % alignment) % alignment
            if head:
                munmap(base, head)
            if extra - head:
                munmap(base + head + length, extra - head)
            base += head
        if alignment >= HUGE_PAGE_SIZE:
            # A wish: without huge pages the memory is as good, only in smaller pages.
            madvise(base, length, MADV_HUGEPAGE)
        self.start = base
        self.size = size
        self.mapping = base
        self.mapping_length = length

    cdef _borrow(self, exporter, bint writable):
        if not PyObject_CheckBuffer(exporter):
            if not hasattr(exporter, '__dlpack__'):
                raise TypeError(f'buffer: an object with the buffer protocol or DLPack is required, not '
                                f'{type(exporter).__name__}')
            self._borrow_tensor(exporter, writable)
            return
        try:
            PyObject_GetBuffer(exporter, &self.view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        except (BufferError, ValueError) as ex:
            kind = 'writable C-contiguous' if writable else 'C-contiguous'
            hint = '; without a write bit in access it may be read-only' if writable else ''
            raise PyverbsUserError(f'The buffer is not {kind} memory ({ex}){hint}') from ex
        # For the collector: a view alone would hide a cycle through the exporter from it.
        self.exporter = exporter
        self.borrowed = True
        self.start = self.view.buf
        self.size = self.view.len
        self.readonly = self.view.readonly

    cdef _borrow_tensor(self, exporter, bint writable):
        cdef mlx5_dlpack_versioned *versioned = NULL
        cdef mlx5_dlpack_managed *managed = NULL
        cdef mlx5_dlpack_tensor *tensor
        cdef bint readonly = False
        cdef size_t size = 0
        # Asked first: for a tensor in another memory, __dlpack__ might copy or wait for the device.
        try:
            device = exporter.__dlpack_device__()
            if not isinstance(device, tuple) or len(device) != 2:
                raise TypeError(f'buffer: __dlpack_device__() of {type(exporter).__name__} gave no pair')
            kind = device[0]
            if kind not in (MLX5_DLPACK_CPU, MLX5_DLPACK_CUDA_HOST, MLX5_DLPACK_ROCM_HOST):
                raise PyverbsUserError(f'The tensor is not in host memory (DLPack device {int(kind)}): export it as a dma-buf, '
                                       f'and give its fd as dmabuf_fd')
            try:
                capsule = exporter.__dlpack__(max_version=(1, 0))
            except TypeError:
                # A producer from before version 1, which has no way to say read-only: it refuses to export such memory.
                capsule = exporter.__dlpack__()
        except (BufferError, ValueError) as ex:
            raise PyverbsUserError(f'The tensor cannot be exported by DLPack: {ex}') from ex
        # Until its name is changed, the capsule itself gives the tensor back. That may run Python, so it is dropped before
        # anything is raised.
        problem = None
        if PyCapsule_IsValid(capsule, 'dltensor_versioned'):
            versioned = <mlx5_dlpack_versioned *> PyCapsule_GetPointer(capsule, 'dltensor_versioned')
            tensor = &versioned.tensor
            readonly = versioned.flags & MLX5_DLPACK_READ_ONLY != 0
        elif PyCapsule_IsValid(capsule, 'dltensor'):
            managed = <mlx5_dlpack_managed *> PyCapsule_GetPointer(capsule, 'dltensor')
            tensor = &managed.tensor
        else:
            capsule = None
            raise TypeError(f'buffer: __dlpack__() of {type(exporter).__name__} gave no DLPack capsule')
        if versioned != NULL and versioned.major != 1:
            problem = f'The tensor comes by version {versioned.major} of DLPack, 1 and older are known'
        elif tensor.device_type not in (MLX5_DLPACK_CPU, MLX5_DLPACK_CUDA_HOST, MLX5_DLPACK_ROCM_HOST):
            problem = f'The tensor is not in host memory (DLPack device {tensor.device_type})'
        elif writable and readonly:
            problem = 'The tensor is read-only; without a write bit in access it may be'
        else:
            problem = _contiguous_bytes(tensor, &size)
        if problem is None and PyCapsule_SetName(capsule, 'used_dltensor_versioned' if versioned != NULL else 'used_dltensor'):
            problem = 'The tensor could not be taken over'
        capsule = None
        if problem is not None:
            raise PyverbsUserError(problem)
        self.versioned = versioned
        self.managed = managed
        self.exporter = exporter
        self.start = <char *> tensor.data + tensor.byte_offset
        self.size = size
        self.readonly = readonly

    cdef _lend(self, keeper, Py_buffer *view, int flags):
        if flags & PyBUF_WRITABLE and self.readonly:
            raise BufferError('The memory behind this umem is read-only')
        self.shape = self.size
        self.stride = 1
        view.buf = self.start
        view.obj = keeper
        view.len = self.size
        view.readonly = self.readonly
        view.itemsize = 1
        view.format = NULL
        if flags & PyBUF_FORMAT:
            view.format = b'B'
        view.ndim = 1
        view.shape = &self.shape if flags & PyBUF_ND else NULL
        view.strides = &self.stride if (flags & PyBUF_STRIDES) == PyBUF_STRIDES else NULL
        view.suboffsets = NULL
        view.internal = NULL

    def __dealloc__(self):
        if self.borrowed:
            PyBuffer_Release(&self.view)
        if self.versioned != NULL and self.versioned.deleter != NULL:
            self.versioned.deleter(self.versioned)
        if self.managed != NULL and self.managed.deleter != NULL:
            self.managed.deleter(self.managed)
        if self.mapping != NULL:
            munmap(self.mapping, self.mapping_length)

    def __reduce__(self):
        raise TypeError('cannot pickle UmemMemory')


# The collector must clear neither the context, through which the umem is deregistered, nor the memory.
@cython.no_gc_clear
cdef class Mlx5DevxUmem(PyverbsCM):
    """
    Memory registered for DEVX by mlx5dv_devx_umem_reg or _reg_ex.

    It keeps its Context alive and is closed by it, after the DEVX objects. What keeps the memory alive depends on
    the source: own memory and a buffer's view are held until the kernel has let go and no view of the umem is left; memory
    given by addr is the caller's to keep; a dma-buf is held by the kernel, and the caller may close the fd at once.

    memoryview(umem) gives own and borrowed memory to Python. A view keeps the memory, not the registration. All methods may
    be called from several threads; registration and deregistration run without the GIL. After fork() the umem belongs to
    the parent: in the child, methods raise, and closing it deregisters nothing.

    If it is dropped while a DEVX object still uses it, it is kept, memory and all, until it can be closed.
    """
    def __cinit__(self):
        mlx5_gate_init(&self.gate)

    def __init__(self, Context context not None, size=None, addr=None, alignment=PAGE_SIZE, access=0, pgsz_bitmap=0,
                 comp_mask=0, dmabuf_fd=None, *, buffer=None):
        """
        Register memory. With neither addr, buffer nor dmabuf_fd, memory is allocated: zeroed, page-aligned pages.
        :param context: A context opened with DEVX. It is kept alive, and closes the umem when it is closed
        :param size: Bytes to register (default: all of buffer)
        :param addr: Address of memory that the caller keeps alive; with dmabuf_fd, the offset in the dma-buf in bytes
                     (default: 0)
        :param alignment: Alignment in bytes of allocated memory, a power of two (default: a page). From 2 MiB up huge
                          pages are asked for
        :param access: ibv_access_flags; the driver takes LOCAL_WRITE, REMOTE_READ, REMOTE_WRITE with LOCAL_WRITE, and
                       RELAXED_ORDERING
        :param pgsz_bitmap: Page sizes that the device may use: a bitmap, bit n for 2**n bytes, or an iterable of sizes in
                            bytes. 0 leaves the choice to the kernel, and the umem must then be used from its start
        :param comp_mask: MLX5DV_UMEM_MASK_DMABUF or 0; a dmabuf_fd implies it
        :param dmabuf_fd: A dma-buf to register in place of memory; the caller may close it once this returns
        :param buffer: An object with the buffer protocol, or a tensor in host memory with DLPack, to register: C-contiguous,
                       and writable if access has a write bit. Its view is held, so that it can be neither freed nor
                       resized until the umem is closed
        :raises PyverbsUserError: Arguments that contradict each other or do not fit, a closed context, or already
                                  initialized
        :raises PyverbsRDMAError: Refused by library or kernel, error_code says why: EINVAL (no DEVX, access, size 0, a
                                  range that wraps, no page size that fits, not a dma-buf), EFAULT (memory not mapped, or
                                  not writable), ENOMEM (over RLIMIT_MEMLOCK, or no memory), EBADF (dmabuf_fd),
                                  EOPNOTSUPP (comp_mask, or not an mlx5 device)
        :raises TypeError: buffer has neither the buffer protocol nor DLPack

        See mlx5dv_devx_umem_reg(3).
        """
        cdef dv.mlx5dv_devx_umem_in umem_in
        cdef uint64_t mask
        cdef bint extended
        super().__init__()
        if mlx5_gate_state(&self.gate) != MLX5_GATE_NEW:
            raise PyverbsUserError('This Mlx5DevxUmem has been initialized already: make another one')
        if context.context == NULL:
            raise PyverbsUserError('The context is closed: open one to register memory with it')
        length = None if size is None else _number(size, 'size', SIZE_MAX)
        where = None if addr is None else _number(addr, 'addr', UINT64_MAX)
        unit = _number(alignment, 'alignment', SIZE_MAX)
        if unit == 0 or unit & (unit - 1):
            raise PyverbsUserError(f'alignment {unit} is not a power of two')
        umem_in.access = _number(access, 'access', UINT32_MAX)
        umem_in.pgsz_bitmap = _page_size_bits(pgsz_bitmap)
        mask = _number(comp_mask, 'comp_mask', UINT64_MAX)
        if dmabuf_fd is None:
            umem_in.dmabuf_fd = -1
            if mask & mem.MLX5DV_UMEM_MASK_DMABUF:
                raise PyverbsUserError('comp_mask has MLX5DV_UMEM_MASK_DMABUF: dmabuf_fd is needed')
        else:
            umem_in.dmabuf_fd = _number(dmabuf_fd, 'dmabuf_fd', INT32_MAX, INT32_MIN)
            mask |= mem.MLX5DV_UMEM_MASK_DMABUF
        if buffer is not None and (addr is not None or dmabuf_fd is not None):
            raise PyverbsUserError('buffer, addr and dmabuf_fd are different sources of memory: give one')
        if length is None and buffer is None:
            raise PyverbsUserError('size is needed, in bytes, unless a buffer is given')
        umem_in.comp_mask = mask
        extended = umem_in.pgsz_bitmap != 0 or mask != 0
        if extended and umem_in.pgsz_bitmap == 0:
            umem_in.pgsz_bitmap = ALL_PAGE_SIZES
        memory = None
        if dmabuf_fd is not None:
            where = where or 0
        elif buffer is not None:
            memory = UmemMemory.__new__(UmemMemory)
            (<UmemMemory> memory)._borrow(buffer, umem_in.access & WRITING != 0)
            where = <uintptr_t> (<UmemMemory> memory).start
            if length is None:
                length = (<UmemMemory> memory).size
            elif length > (<UmemMemory> memory).size:
                raise PyverbsUserError(f'size {length} is more than the {(<UmemMemory> memory).size} bytes of the buffer')
        elif where is None:
            memory = UmemMemory.__new__(UmemMemory)
            (<UmemMemory> memory)._map(length, unit)
            where = <uintptr_t> (<UmemMemory> memory).start
        umem_in.addr = <void *> <uintptr_t> where
        umem_in.size = length
        self._register(context, &umem_in, extended, memory)

    cdef _track(self, Context context):
        # Known to the context before the GIL is released: a close() of the context meanwhile waits for us.
        self.closed_early = False
        umems = devx_umems_of(context)
        if umems is not None:
            umems.add(self)
        if context.dr_domains is not None:
            # The set that a context closes last. A plain Context of an older rdma-core has no set for umems; and in all of
            # them it also finds what another thread adds while the context closes.
            context.dr_domains.add(self)

    cdef _untrack(self, Context context):
        # Another context may be tried next, and this one must not close what that one made.
        umems = devx_umems_of(context)
        if umems is not None:
            umems.discard(self)
        if context.dr_domains is not None:
            context.dr_domains.discard(self)

    cdef bint _begin_create(self, Context context, v.ibv_context *owner) except -1:
        # All of it without giving up the GIL. Arguments, and tracking, may have run any Python: another registration of this
        # object, or a close() of the context, which takes what it closes from its sets and found nothing to close here yet.
        if owner == NULL or context.context != owner or self.closed_early or mlx5_gate_begin_create(&self.gate):
            raise PyverbsUserError('The context or this object was used meanwhile, by another thread or an argument')
        return True

    cdef _register(self, Context context, dv.mlx5dv_devx_umem_in *umem_in, bint extended, UmemMemory memory):
        cdef v.ibv_context *owner = context.context
        cdef dv.mlx5dv_devx_umem *umem
        cdef bint no_devx = False
        cdef int err
        retry()
        self._track(context)
        self._begin_create(context, owner)
        with nogil:
            if extended:
                umem = mem.mlx5dv_devx_umem_reg_ex(owner, umem_in)
            else:
                umem = mem.mlx5dv_devx_umem_reg(owner, umem_in.addr, umem_in.size, umem_in.access)
            err = errno
            if umem == NULL and err == EINVAL:
                no_devx = _lacks_devx(owner)
        if umem == NULL:
            mlx5_gate_end(&self.gate, MLX5_GATE_NEW)
            self._untrack(context)
            self._raise_refused(umem_in, err, no_devx)
        self.memory = memory
        self.umem = umem
        self.owner = owner
        self.context = context
        self.number = umem.umem_id
        self.registered = umem_in.size
        self.start = <uintptr_t> umem_in.addr
        self.access_flags = umem_in.access
        self.bitmap = umem_in.pgsz_bitmap
        self.is_dmabuf = umem_in.comp_mask & mem.MLX5DV_UMEM_MASK_DMABUF != 0
        mlx5_gate_end(&self.gate, MLX5_GATE_OPEN)
        self.logger.debug('Mlx5DevxUmem: %r', self)

    cdef _raise_refused(self, dv.mlx5dv_devx_umem_in *umem_in, int err, bint no_devx):
        cdef bint dmabuf = umem_in.comp_mask & mem.MLX5DV_UMEM_MASK_DMABUF != 0
        what = f'dma-buf {umem_in.dmabuf_fd} at offset {<uintptr_t> umem_in.addr}' if dmabuf else \
               f'address {<uintptr_t> umem_in.addr:#x}'
        text = f'Failed to register a UMEM of {umem_in.size} bytes, {what}, access {umem_in.access:#x}'
        if err == EPROTONOSUPPORT:
            text += '. The device has no DEVX: its firmware offers no user contexts (log_max_uctx is 0), or the driver is too old'
        elif no_devx:
            text += '. The context was not opened with DEVX: use Mlx5Context with MLX5DV_CONTEXT_FLAGS_DEVX'
        elif dmabuf and mem.ibv_is_fork_initialized() == mem.IBV_FORK_ENABLED:
            text += ('. Fork support is on, and libmlx5 then takes the offset in a dma-buf for an address in this process: '
                     'unset RDMAV_FORK_SAFE and IBV_FORK_SAFE, and do not call ibv_fork_init()')
        elif err == ENOMEM:
            text += '. The memory to be pinned is over the limit (see `ulimit -l`, or grant CAP_IPC_LOCK), or none is left'
        elif err == EFAULT:
            text += ('. Part of the range is not mapped, or it is read-only while access asks for writing'
                     if not dmabuf else '. The range does not fit in the dma-buf')
        elif err == EBADF:
            text += '. It is not an open file descriptor'
        elif dmabuf and err in (EOPNOTSUPP, ENOSYS):
            text += ('. The exporter cannot pin its memory, or keeps it from other devices: ask it for a buffer in system memory; or '
                     'the kernel has no such dma-buf support')
        elif err == EOPNOTSUPP:
            text += f'. comp_mask {umem_in.comp_mask:#x} is not supported, or this is not an mlx5 device'
        elif err == EINVAL:
            text += ('. Check that access has no other bits than LOCAL_WRITE, REMOTE_READ, RELAXED_ORDERING, and REMOTE_WRITE only '
                     'with LOCAL_WRITE, and that the size is not 0')
            if umem_in.pgsz_bitmap and umem_in.pgsz_bitmap != ALL_PAGE_SIZES:
                text += f'; that a page size of {umem_in.pgsz_bitmap:#x} fits the memory: it is contiguous and aligned to it'
            if dmabuf:
                text += '; that the fd is a dma-buf, and the range is inside'
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
            raise PyverbsRDMAError('Failed to export a UMEM: it needs a newer rdma-core, 65 has it', EOPNOTSUPP)
        mem.mlx5dv_get_export_sizes(&sizes)
        return sizes.devx_umem_attrs_size + CHECKSUM_LENGTH

    def export(self):
        """
        Describe the umem to another process that shares the command fd.
        :return: Bytes for import_umem(), get_export_size() long: the library's data, which also Mlx5UMEM and C programs can
                 import, and a checksum
        :raises PyverbsUserError: It is closed
        :raises PyverbsRDMAError: The library cannot export (EOPNOTSUPP)

        See mlx5dv_devx_umem_export(3).
        """
        cdef bytearray data
        cdef char *buf
        cdef int rc
        self._check_open()
        size = Mlx5DevxUmem.get_export_size() - CHECKSUM_LENGTH
        data = bytearray(size)
        buf = data
        with nogil:
            rc = mlx5_gate_enter(&self.gate, True)
            if not rc:
                rc = mem.mlx5dv_devx_umem_export(self.umem, buf)
                mlx5_gate_leave(&self.gate)
        if rc:
            self._check_open()
            raise PyverbsRDMAError('Failed to export UMEM', rc)
        return bytes(data) + _checksum(data)

    @classmethod
    def import_umem(cls, Context context not None, data not None):
        """
        Import a umem that another process exported.
        :param context: A context that shares the exporter's command fd: Context(cmd_fd=...)
        :param data: What export() returned
        :return: A Mlx5DevxUmem with is_imported True, which knows only the umem id: size, addr and access are 0. Closing it
                 leaves the registration to its owner
        :raises PyverbsUserError: A closed context, or data that export() did not make
        :raises PyverbsRDMAError: The library cannot import (EOPNOTSUPP)

        See mlx5dv_devx_umem_import(3).
        """
        size = Mlx5DevxUmem.get_export_size()
        blob = bytes(memoryview(data))
        if len(blob) != size:
            raise PyverbsUserError(f'Failed to import a UMEM: export() makes {size} bytes, these are {len(blob)}')
        if _checksum(blob[:-CHECKSUM_LENGTH]) != blob[-CHECKSUM_LENGTH:]:
            raise PyverbsUserError('Failed to import a UMEM: export() did not make these bytes, the checksum is wrong')
        cdef Mlx5DevxUmem umem = <Mlx5DevxUmem?> cls.__new__(cls)
        PyverbsCM.__init__(umem)
        umem._import(context, blob)
        return umem

    cdef _import(self, Context context, bytes data):
        cdef v.ibv_context *owner = context.context
        cdef char *buf = PyBytes_AS_STRING(data)
        cdef dv.mlx5dv_devx_umem *umem
        cdef int err
        if owner == NULL:
            raise PyverbsUserError('The context is closed: open one to import a UMEM into it')
        self._track(context)
        self._begin_create(context, owner)
        with nogil:
            umem = mem.mlx5dv_devx_umem_import(owner, buf)
            err = errno
        if umem == NULL:
            mlx5_gate_end(&self.gate, MLX5_GATE_NEW)
            self._untrack(context)
            raise PyverbsRDMAError('Failed to import UMEM', err)
        self.umem = umem
        self.owner = owner
        self.context = context
        self.number = umem.umem_id
        self.imported = True
        mlx5_gate_end(&self.gate, MLX5_GATE_OPEN)

    cdef bint _context_gone(self):
        return self.context is None or self.context.context != self.owner

    cdef _check_open(self):
        if mlx5_gate_forked(&self.gate):
            raise PyverbsUserError('This Mlx5DevxUmem belongs to the process that was forked from: register one here')
        if mlx5_gate_state(&self.gate) == MLX5_GATE_NEW:
            raise PyverbsUserError('This Mlx5DevxUmem was never registered: its __init__ did not run or failed')
        if mlx5_gate_state(&self.gate) == MLX5_GATE_OPEN and self._context_gone():
            self.close()
            raise PyverbsUserError('This Mlx5DevxUmem is closed: its context was closed underneath it')
        if mlx5_gate_state(&self.gate) == MLX5_GATE_CLOSED:
            raise PyverbsUserError('This Mlx5DevxUmem is closed')

    cdef int _release(self):
        # The C side of closing, 0 or an errno; the gate is ours. After an error everything is as it was.
        cdef dv.mlx5dv_devx_umem *umem = self.umem
        cdef int rc = 0
        if not self._context_gone():
            with nogil:
                if self.imported:
                    mem.mlx5dv_devx_umem_unimport(umem)
                else:
                    rc = mem.mlx5dv_devx_umem_dereg(umem)
        # Else the kernel let go of it with the context, and the library's handle is of no use any more.
        if not rc:
            self.umem = NULL
        return rc

    cpdef close(self):
        """
        Deregister. Does nothing if closed already. Own memory is freed, or the borrowed view released, when no view of the
        umem is left. An import only releases the library's handle.
        :raises PyverbsRDMAError: The device refused since a DEVX object still uses the umem (error_code as the kernel says,
                                  EBUSY or EINVAL as a rule). The umem stays open, its memory allocated and pinned; close
                                  the object first, then this again

        See mlx5dv_devx_umem_dereg(3).
        """
        cdef int rc
        if mlx5_gate_state(&self.gate) == MLX5_GATE_NEW or mlx5_gate_state(&self.gate) == MLX5_GATE_CLOSED:
            self.closed_early = True
            return
        if mlx5_gate_forked(&self.gate):
            # The registration is shared with the parent. The memory here is a copy, part of which fork() may have left
            # out: it goes with the process.
            mlx5_gate_abandon(&self.gate)
            if self.memory is not None:
                Py_INCREF(self.memory)
            self.memory = None
            self.context = None
            return
        if self.logger:
            self.logger.debug('Closing Mlx5DevxUmem')
        with nogil:
            rc = mlx5_gate_begin_close(&self.gate)
        if rc:
            return
        rc = self._release()
        mlx5_gate_end(&self.gate, MLX5_GATE_OPEN if rc else MLX5_GATE_CLOSED)
        if rc:
            raise PyverbsRDMAError('Failed to dereg UMEM. A DEVX object made on it is still alive: close that first. The '
                                   'umem stays open and its memory allocated', rc)
        self.memory = None
        self.context = None

    def __del__(self):
        if mlx5_gate_state(&self.gate) != MLX5_GATE_OPEN:
            return
        try:
            self.close()
        except Exception:
            keep(self)

    def __dealloc__(self):
        # Reached open only if __del__ did not run or was refused, and nobody is left to tell. Memory that the device may
        # still write to is never freed.
        if mlx5_gate_state(&self.gate) == MLX5_GATE_OPEN:
            if mlx5_gate_forked(&self.gate) or self._release():
                if self.memory is not None:
                    Py_INCREF(self.memory)
        mlx5_gate_abandon(&self.gate)

    def __getbuffer__(self, Py_buffer *view, int flags):
        memory = self.memory
        self._check_open()
        if memory is None:
            raise BufferError('The memory behind this umem is not this object\'s: it was given by address or dma-buf')
        # The view holds the memory, not this object, so that it does not hold the registration either.
        memory._lend(memory, view, flags)

    @property
    def umem_id(self):
        """The id by which DEVX commands name the memory."""
        self._check_open()
        return self.number

    @property
    def size(self):
        """Registered bytes; 0 for an import, which does not know them."""
        self._check_open()
        return self.registered

    @property
    def addr(self):
        """Address in this process, or the offset in the dma-buf, in bytes; 0 for an import."""
        self._check_open()
        return self.start

    @property
    def umem_addr(self):
        """The same as addr, by its name in Mlx5UMEM."""
        self._check_open()
        return self.start

    @property
    def access(self):
        """ibv_access_flags asked for; 0 for an import."""
        self._check_open()
        return self.access_flags

    @property
    def pgsz_bitmap(self):
        """Page sizes that were allowed, bit n for 2**n bytes; 0 if the kernel chose freely."""
        self._check_open()
        return self.bitmap

    @property
    def page_sizes(self):
        """The same as a list of sizes in bytes, smallest first; empty if the kernel chose freely."""
        self._check_open()
        return [1 << bit for bit in range(64) if self.bitmap >> bit & 1]

    @property
    def is_imported(self):
        """Whether the registration is another object's: closing this one leaves it."""
        self._check_open()
        return bool(self.imported)

    @property
    def closed(self):
        """Whether there is nothing to use: closed, never registered, the parent's after fork(), or its context is gone."""
        return bool(mlx5_gate_state(&self.gate) in (MLX5_GATE_NEW, MLX5_GATE_CLOSED) or mlx5_gate_forked(&self.gate) or
                    self._context_gone())

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
        raise TypeError(f'cannot pickle {type(self).__name__}: a registration belongs to one process')


cdef bytes _checksum(data):
    return zlib.crc32(data).to_bytes(CHECKSUM_LENGTH, 'big')
