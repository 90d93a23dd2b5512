# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
The memory behind a umem: mapped for it, or borrowed from an exporter of the buffer protocol or of
DLPack.
"""

cimport cython
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_SIMPLE, PyBUF_STRIDES, PyBUF_WRITABLE, \
    PyBuffer_Release, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_SetName
from libc.errno cimport ENOMEM, errno
from libc.stddef cimport size_t
from libc.stdint cimport SIZE_MAX, int64_t, uintptr_t
from posix.mman cimport MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, madvise, mmap, munmap
from posix.unistd cimport _SC_PAGESIZE, sysconf

from pyverbs.providers.mlx5.dlpack cimport MLX5_DLPACK_CPU, MLX5_DLPACK_CUDA_HOST, \
    MLX5_DLPACK_READ_ONLY, MLX5_DLPACK_ROCM_HOST, mlx5_dlpack_managed, mlx5_dlpack_tensor, \
    mlx5_dlpack_versioned

from pyverbs.pyverbs_error import PyverbsRDMAError, PyverbsUserError


cdef extern from '<sys/mman.h>':
    # Cython 0.26 lacks these two.
    enum: MADV_HUGEPAGE
    void *MAP_FAILED


cdef size_t PAGE_SIZE = sysconf(_SC_PAGESIZE)
cdef size_t HUGE_PAGE_SIZE = 1 << 21
# The stride of every view.
cdef Py_ssize_t ONE_BYTE = 1


cdef size_t _mapped_length(size_t size):
    # Whole pages, at least one.
    return max((size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1), PAGE_SIZE)


cdef str _contiguous_bytes(mlx5_dlpack_tensor *tensor, size_t *size):
    """
    :param size: Out: bytes of a tensor of DLPack; 0 beforehand
    :return: Why it cannot be registered: not C-contiguous, or it describes more than there can be.
             Else None
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


cdef class UmemMemory:
    """
    Memory behind a umem, mapped for it. It lives until the umem and every view of it have let go.
    """
    def __init__(self):
        """
        :raises TypeError: Always: it comes with a Mlx5DevxUmem
        """
        raise TypeError('UmemMemory comes with a Mlx5DevxUmem')

    cdef int _map(self, size_t size, size_t alignment) except -1:
        # Pages of its own rather than of the heap: nothing else of the process lives in pages that
        # the device writes to, or that fork() may have to leave out.
        cdef size_t length, extra = 0, head
        cdef char *base
        cdef int err
        if alignment > PAGE_SIZE:
            extra = alignment - PAGE_SIZE
        if size > SIZE_MAX - PAGE_SIZE or \
                (size + PAGE_SIZE - 1) // PAGE_SIZE > (SIZE_MAX - extra) // PAGE_SIZE - 1:
            raise PyverbsRDMAError(f'Failed to allocate {size} bytes aligned to {alignment}',
                                   ENOMEM)
        length = _mapped_length(size)
        with nogil:
            base = <char *> mmap(NULL, length + extra, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
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
        return 0

    cdef int _lend(self, object keeper, Py_buffer *view, int flags) except -1:
        if flags & PyBUF_WRITABLE and self.readonly:
            raise BufferError('The memory behind this umem is read-only')
        view.buf = self.start
        view.obj = keeper
        view.len = self.size
        view.readonly = self.readonly
        view.itemsize = 1
        view.format = NULL
        if flags & PyBUF_FORMAT:
            view.format = b'B'
        view.ndim = 1
        view.shape = <Py_ssize_t *> &self.size if flags & PyBUF_ND else NULL
        view.strides = &ONE_BYTE if (flags & PyBUF_STRIDES) == PyBUF_STRIDES else NULL
        view.suboffsets = NULL
        view.internal = NULL
        return 0

    def __dealloc__(self):
        if self.start != NULL:
            munmap(self.start, _mapped_length(self.size))

    def __reduce__(self):
        raise TypeError('cannot pickle UmemMemory')


# The collector must not clear the borrowed view without releasing it.
@cython.no_gc_clear
@cython.final
cdef class BorrowedMemory(UmemMemory):
    """The same, borrowed from an exporter of the buffer protocol or of DLPack."""
    cdef int _borrow(self, object exporter, bint writable) except -1:
        if not PyObject_CheckBuffer(exporter):
            if not hasattr(exporter, '__dlpack__'):
                if hasattr(exporter, '__cuda_array_interface__'):
                    raise PyverbsUserError(f'The {type(exporter).__name__} is in the memory of a '
                                           'GPU: export it as a dma-buf, and give its fd as '
                                           'dmabuf_fd')
                raise TypeError(f'buffer: an object with the buffer protocol or DLPack is '
                                f'required, not {type(exporter).__name__}')
            return self._borrow_tensor(exporter, writable)
        try:
            PyObject_GetBuffer(exporter, &self.view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
        except (BufferError, ValueError) as ex:
            kind = 'writable C-contiguous' if writable else 'C-contiguous'
            hint = '; without a write bit in access it may be read-only' if writable else ''
            raise PyverbsUserError(f'The buffer is not {kind} memory ({ex}){hint}') from ex
        # For the collector: a view alone would hide a cycle through the exporter from it.
        self.exporter = exporter
        self.viewed = True
        self.start = self.view.buf
        self.size = self.view.len
        self.readonly = self.view.readonly
        return 0

    cdef int _borrow_tensor(self, object exporter, bint writable) except -1:
        cdef mlx5_dlpack_versioned *versioned = NULL
        cdef mlx5_dlpack_managed *managed = NULL
        cdef mlx5_dlpack_tensor *tensor
        cdef bint readonly = False
        cdef size_t size = 0
        # Asked first: for a tensor in another memory, __dlpack__ might copy or wait for the device.
        try:
            device = exporter.__dlpack_device__()
            if not isinstance(device, tuple) or len(device) != 2:
                raise TypeError(f'buffer: __dlpack_device__() of {type(exporter).__name__} gave no '
                                f'pair')
            kind = device[0]
            if kind not in (MLX5_DLPACK_CPU, MLX5_DLPACK_CUDA_HOST, MLX5_DLPACK_ROCM_HOST):
                raise PyverbsUserError(f'The tensor is not in host memory (DLPack device '
                                       f'{int(kind)}): export it as a dma-buf, and give its fd as '
                                       'dmabuf_fd')
            try:
                capsule = exporter.__dlpack__(max_version=(1, 0))
            except TypeError:
                # A producer from before version 1, which has no way to say read-only: it refuses to
                # export such memory.
                capsule = exporter.__dlpack__()
        except (BufferError, ValueError) as ex:
            raise PyverbsUserError(f'The tensor cannot be exported by DLPack: {ex}') from ex
        # Until its name is changed, the capsule itself gives the tensor back. That may run Python,
        # so it is dropped before anything is raised.
        problem = None
        if PyCapsule_IsValid(capsule, 'dltensor_versioned'):
            versioned = <mlx5_dlpack_versioned *> \
                PyCapsule_GetPointer(capsule, 'dltensor_versioned')
            tensor = &versioned.tensor
            readonly = versioned.flags & MLX5_DLPACK_READ_ONLY != 0
        elif PyCapsule_IsValid(capsule, 'dltensor'):
            managed = <mlx5_dlpack_managed *> PyCapsule_GetPointer(capsule, 'dltensor')
            tensor = &managed.tensor
        else:
            capsule = None
            raise TypeError(f'buffer: __dlpack__() of {type(exporter).__name__} gave no DLPack '
                            f'capsule')
        if versioned != NULL and versioned.major != 1:
            problem = f'The tensor comes by version {versioned.major} of DLPack, ' \
                      '1 and older are known'
        elif tensor.device_type not in (MLX5_DLPACK_CPU, MLX5_DLPACK_CUDA_HOST,
                                        MLX5_DLPACK_ROCM_HOST):
            problem = f'The tensor is not in host memory (DLPack device {tensor.device_type})'
        elif writable and readonly:
            problem = 'The tensor is read-only; without a write bit in access it may be'
        else:
            problem = _contiguous_bytes(tensor, &size)
        if problem is None and PyCapsule_SetName(capsule, 'used_dltensor_versioned'
                                                 if versioned != NULL else 'used_dltensor'):
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
        return 0

    def __dealloc__(self):
        if self.viewed:
            PyBuffer_Release(&self.view)
        if self.versioned != NULL and self.versioned.deleter != NULL:
            self.versioned.deleter(self.versioned)
        if self.managed != NULL and self.managed.deleter != NULL:
            self.managed.deleter(self.managed)
        self.start = NULL
