# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
Device memory of mlx5 devices: MEMIC, the on-chip memory that RDMA traffic can use, and the SW ICM
types, in which software writes steering tables, header modification and encapsulation data.

Who frees what: Context.close() closes its DMs, Mlx5DM.close() first closes the MRs and op addresses
on it. Each object keeps what it was made from alive.
"""

import enum
import logging

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_CheckBuffer, \
    PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear, PyErr_Occurred
from cpython.number cimport PyNumber_Index
from libc.errno cimport EBUSY, EFAULT, EINVAL, EOPNOTSUPP, EPROTONOSUPPORT, EREMOTEIO, errno
from libc.stdint cimport UINT32_MAX, UINT64_MAX, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memcpy
from posix.mman cimport munmap
from posix.unistd cimport _SC_PAGESIZE, sysconf

cimport pyverbs.libibverbs as v
cimport pyverbs.providers.mlx5.libmlx5_mem as mem
from pyverbs.base cimport PyverbsCM, PyverbsObject
from pyverbs.device cimport AllocDmAttr, Context, DM
from pyverbs.pd cimport PD
from pyverbs.providers.mlx5.arguments cimport PyLong_AsUnsignedLongLong, checked_number
from pyverbs.providers.mlx5.refusal cimport devx_lacking, device_trouble, release_trouble
from pyverbs.providers.mlx5.lifetime cimport Children, ContextUse, check_life, dms_of, \
    life_usable, log_closing, new_life

from pyverbs.mr import DMMR
from pyverbs.pyverbs_error import PyverbsRDMAError, PyverbsUserError


cdef extern from 'dm_access.h':
    enum: MLX5_HCA_CAP_LENGTH

    int mlx5_dm_query_hca_cap(v.ibv_context *context, unsigned int page, uint8_t *out) nogil
    int mlx5_dm_max_length(v.ibv_context *context, uint64_t *length) nogil
    uint8_t mlx5_dm_op_widths(v.ibv_context *context, uint8_t op) nogil
    v.ibv_dm *mlx5_dm_closed() nogil
    int mlx5_dm_describe(v.ibv_dm *dm, void **buf, uint64_t *length, uint64_t *remote_va) nogil
    void mlx5_dm_access(void *dm, void *host, size_t width, bint store) nogil
    size_t mlx5_dm_whole_pages(size_t length) nogil


# From these sizes on copies give up the GIL. Giving it up and taking it back was measured to cost
# 0.05 us on two cores and 0.7 us in a VM while nobody else wants it, but 460 us and 35 us on
# average beside a thread that computes: now and then that one takes it, and keeps it for its 5 ms
# (test_giving_up_the_gil of the benchmarks). A copy that takes less than that does nobody a favour
# by giving up the GIL. Over PCIe reading waits for each word, taken as 1 us, and writes are posted,
# so that below these sizes the GIL is held for about a quarter of a millisecond at most.
cdef size_t RELEASE_GIL_READING = 1024
cdef size_t RELEASE_GIL_WRITING = 16384

cdef size_t PAGE_SIZE = sysconf(_SC_PAGESIZE)
cdef uint32_t ZERO_BASED = mem.IBV_ACCESS_ZERO_BASED

cdef object LOGGER = logging.getLogger('Mlx5DM')
cdef object OPERATION_LOGGER = logging.getLogger('Mlx5DMOpAddr')


# Only what the library at hand knows: a name that is here can be allocated as far as libmlx5 is
# concerned.
_TYPES = {
    'MLX5DV_DM_TYPE_MEMIC': mem.MLX5DV_DM_TYPE_MEMIC,
    'MLX5DV_DM_TYPE_STEERING_SW_ICM': mem.MLX5DV_DM_TYPE_STEERING_SW_ICM,
    'MLX5DV_DM_TYPE_HEADER_MODIFY_SW_ICM': mem.MLX5DV_DM_TYPE_HEADER_MODIFY_SW_ICM,
}
if mem.MLX5_MEM_HAVE_DM_TYPE_HEADER_MODIFY_PATTERN:
    _TYPES['MLX5DV_DM_TYPE_HEADER_MODIFY_PATTERN_SW_ICM'] = \
        mem.MLX5DV_DM_TYPE_HEADER_MODIFY_PATTERN_SW_ICM
if mem.MLX5_MEM_HAVE_DM_TYPE_ENCAP:
    _TYPES['MLX5DV_DM_TYPE_ENCAP_SW_ICM'] = mem.MLX5DV_DM_TYPE_ENCAP_SW_ICM

mlx5dv_alloc_dm_type = enum.IntEnum('mlx5dv_alloc_dm_type', _TYPES, module=__name__)
mlx5dv_alloc_dm_type.__doc__ = """Types of device memory, with the values of the C enum. See
mlx5dv_alloc_dm(3)."""


class Mlx5DMError(PyverbsUserError, PyverbsRDMAError):
    """
    An access to device memory that was refused before it reached the library, because the arguments
    are wrong. It is a PyverbsUserError, and as libmlx5 has an errno for the same mistakes, a
    PyverbsRDMAError with that error_code.
    """
    def __init__(self, msg, error_code):
        """
        Make one; the classes of this module do.
        :param msg: What was refused and why
        :param error_code: The errno that the C library has for it
        """
        PyverbsRDMAError.__init__(self, msg, error_code)


# By number, as they have no gaps.
cdef tuple _KINDS = tuple(mlx5dv_alloc_dm_type)


cdef _kind(unsigned int number):
    """
    :param number: A type of device memory
    :return: The mlx5dv_alloc_dm_type, or the bare number if it is none
    """
    return _KINDS[number] if number < len(_KINDS) else number


def _type_name(value):
    kind = _kind(value)
    return kind.name if isinstance(kind, mlx5dv_alloc_dm_type) else f'type {value}'


cdef uint64_t _byte_count(object value, str action, str name) except? -1:
    """
    Narrow an offset or a length to the C type, whatever it is.
    :param value: Anything with __index__
    :param action: What is being done, for the error text
    :param name: The argument's name, for the error text
    :return: It, if it fits 64 bits without a sign
    """
    cdef uint64_t count
    number = value if type(value) is int else PyNumber_Index(value)
    count = PyLong_AsUnsignedLongLong(number)
    if count == UINT64_MAX and PyErr_Occurred():
        PyErr_Clear()
        raise Mlx5DMError(f'Failed to {action}: {name} {number} is not a number of bytes', EINVAL)
    return count


cdef _get_buffer(obj, Py_buffer *view, bint writable, str action):
    if not PyObject_CheckBuffer(obj):
        raise TypeError(f'{action}: a bytes-like object is required, not {type(obj).__name__}')
    try:
        PyObject_GetBuffer(obj, view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
    except (BufferError, ValueError) as ex:
        kind = 'writable C-contiguous' if writable else 'C-contiguous'
        raise Mlx5DMError(f'Failed to {action}: the buffer is not {kind} memory ({ex})',
                          EINVAL) from ex


def query_hca_cap(Context context not None, page):
    """
    Query the current values of a capability page of the device's firmware.
    :param context: An open context with DEVX. Its close() waits for the answer
    :param page: Number of the capability type, 0 to 0x7fff, as in the device specification
    :return: The page, 4096 bytes, big-endian
    :raises PyverbsUserError: The context is closed or being closed, or page is no such number
    :raises PyverbsRDMAError: No DEVX (EOPNOTSUPP, EPROTONOSUPPORT or EINVAL), or the firmware
                              refused (EREMOTEIO)

    See mlx5dv_devx_general_cmd(3).
    """
    cdef unsigned int number = checked_number(page, 'page', 0x7fff)
    cdef bytearray answer = bytearray(MLX5_HCA_CAP_LENGTH)
    cdef uint8_t *out = answer
    cdef ContextUse use = ContextUse.__new__(ContextUse)
    cdef v.ibv_context *owner = use.begin(context)
    cdef int rc
    with nogil:
        rc = mlx5_dm_query_hca_cap(owner, number, out)
    use.end()
    if rc or out[0]:
        text = f'Failed to query capability page {number:#x}'
        if out[0]:
            syndrome = int.from_bytes((<char *> out)[4:8], 'big')
            text += f' (status {out[0]:#x}, syndrome {syndrome:#x})'
        elif rc in (EOPNOTSUPP, EPROTONOSUPPORT):
            text += devx_lacking()
        elif rc == EINVAL:
            text += '. The kernel takes the question from a context that was opened with DEVX only'
        else:
            text += device_trouble(rc)
        raise PyverbsRDMAError(text, rc or EREMOTEIO)
    return (<char *> out)[16:MLX5_HCA_CAP_LENGTH]


def _max_memic_length(Context context not None):
    """
    Ask the library for the longest MEMIC, for mlx5dv_dm_caps.
    :param context: An open context. Its close() waits for the answer
    :return: Bytes, 0 where there is no MEMIC
    :raises PyverbsUserError: The context is closed or being closed
    :raises PyverbsRDMAError: The kernel refused
    """
    cdef uint64_t length = 0
    cdef ContextUse use = ContextUse.__new__(ContextUse)
    cdef v.ibv_context *owner = use.begin(context)
    cdef int rc
    with nogil:
        rc = mlx5_dm_max_length(owner, &length)
    use.end()
    if rc:
        raise PyverbsRDMAError(f'Failed to query the device{device_trouble(rc)}', rc)
    return length


cdef class Mlx5AllocDmAttr(PyverbsObject):
    """Mlx5AllocDmAttr(type=..., comp_mask=0)\n--\n
    The mlx5 part of an allocation of device memory, struct mlx5dv_alloc_dm_attr.
    """
    def __init__(self, type=mem.MLX5DV_DM_TYPE_MEMIC, comp_mask=0):
        """
        Describe an allocation.
        :param type: What to allocate, one of mlx5dv_alloc_dm_type; the library refuses others with
                     EOPNOTSUPP
        :param comp_mask: Reserved: the library refuses anything but 0 with EINVAL
        :raises PyverbsUserError: A value does not fit the C field

        See mlx5dv_alloc_dm(3).
        """
        super().__init__()
        self.type = type
        self.comp_mask = comp_mask

    @property
    def type(self):
        """Type of the device memory: a mlx5dv_alloc_dm_type, or the bare number if it is none."""
        return _kind(self.attr.type)

    @type.setter
    def type(self, value):
        self.attr.type = checked_number(value, 'type', UINT32_MAX)

    @property
    def comp_mask(self):
        """Compatibility mask, reserved."""
        return self.attr.comp_mask

    @comp_mask.setter
    def comp_mask(self, value):
        self.attr.comp_mask = checked_number(value, 'comp_mask', UINT64_MAX)

    def __repr__(self):
        return f'Mlx5AllocDmAttr(type={_type_name(self.attr.type)}, ' \
               f'comp_mask={self.attr.comp_mask:#x})'


# The collector must not clear the reference to the context: the DM is freed through it.
@cython.no_gc_clear
cdef class Mlx5DM(DM):
    """Mlx5DM(context, dm_attr=None, mlx5_dm_attr=None, *, handle=None)\n--\n
    Device memory of an mlx5 device, allocated by mlx5dv_alloc_dm or imported. It is a pyverbs DM,
    so DMMR takes it.

    It keeps its Context alive and is closed by it. MRs and op addresses on it keep it alive, and
    are closed by it first. All methods may be called from several threads; close() waits for copies
    that are under way in other threads. After fork() it belongs to the parent: in the child,
    methods raise, and closing it frees nothing.
    """
    def __cinit__(self):
        self.life = new_life('Mlx5DM')
        # pyverbs' DMMR takes the pointer of a DM without asking whether it is open.
        self.dm = mlx5_dm_closed()
        self.children = Children.__new__(Children)

    def __init__(self, Context context not None, AllocDmAttr dm_attr=None,
                 Mlx5AllocDmAttr mlx5_dm_attr=None, *,
                 handle=None):
        """
        Allocate device memory, or import it.
        :param context: The context to allocate in. It is kept alive, and closes the DM when it is
                        closed
        :param dm_attr: AllocDmAttr: length in bytes (MEMIC is rounded up to 64, SW ICM to a power
                        of two of blocks), log2 of the alignment, comp_mask 0
        :param mlx5_dm_attr: Mlx5AllocDmAttr: type of memory (default: MEMIC), comp_mask 0
        :param handle: Import the MEMIC of this kernel handle instead, see import_dm()
        :raises PyverbsUserError: No dm_attr, a closed context, or already initialized
        :raises PyverbsRDMAError: Refused by library, kernel or device, error_code says why: EINVAL
                                  (length 0 or more than the largest MEMIC, alignment, comp_mask),
                                  ENOMEM (no room left on the device), EOPNOTSUPP (device or kernel
                                  lacks the type; the text says what), EPERM (SW ICM without
                                  CAP_SYS_RAWIO and CAP_NET_RAW)

        See ibv_alloc_dm(3), mlx5dv_alloc_dm(3).
        """
        cdef v.ibv_alloc_dm_attr attr
        cdef mem.mlx5dv_alloc_dm_attr mlx5_attr
        if type(self) is Mlx5DM:
            # What PyverbsObject does with the name, looked up once.
            self.logger = LOGGER
        else:
            PyverbsObject.__init__(self)
        if self._is_dead():
            raise PyverbsUserError('This Mlx5DM is gone')
        if handle is not None:
            if dm_attr is not None or mlx5_dm_attr is not None:
                raise PyverbsUserError('A DM is either allocated, by dm_attr, or imported, by '
                                       'handle')
            self._create(context, NULL, NULL, checked_number(handle, 'handle', UINT32_MAX))
            return
        if dm_attr is None:
            raise PyverbsUserError('dm_attr is needed: AllocDmAttr(length in bytes)')
        # Copies: the attributes are the caller's, who may change them while the call runs.
        attr = dm_attr.alloc_dm_attr
        mlx5_attr.type = mem.MLX5DV_DM_TYPE_MEMIC
        mlx5_attr.comp_mask = 0
        if mlx5_dm_attr is not None:
            mlx5_attr = mlx5_dm_attr.attr
        self._create(context, &attr, &mlx5_attr, 0)

    @classmethod
    def import_dm(cls, Context context not None, handle):
        """
        Import MEMIC that was allocated through the same command fd.
        :param context: A context that shares the owner's command fd: Context(cmd_fd=...), or the
                        owner itself
        :param handle: The owner's `handle`
        :return: A Mlx5DM with is_imported True. Closing it unmaps the memory and leaves the owner's
                 allocation alone
        :raises PyverbsUserError: A closed context, or handle does not fit 32 bits
        :raises PyverbsRDMAError: The kernel knows no such DM (ENOENT or EINVAL), or it is SW ICM
                                  (EOPNOTSUPP)

        See ibv_import_dm(3).
        """
        return cls(context, handle=handle)

    @staticmethod
    def query_caps(Context context not None):
        """
        Tell what device memory a device has, before anything is allocated. Needs no privilege.
        :param context: An open context with DEVX, which every ordinary one has
        :return: Mlx5DMCaps: size, longest allocation, alignment and operations of MEMIC; start,
                 size and block size of each type of SW ICM; for each type, what is missing. Its str
                 is a table, its as_dict() is for json
        :raises PyverbsUserError: The context is closed
        :raises PyverbsRDMAError: Device or kernel has no DEVX (EOPNOTSUPP), or refused
        """
        # Late: the module of the class imports this one.
        from pyverbs.providers.mlx5.mlx5dv_dm_caps import Mlx5DMCaps
        return Mlx5DMCaps.query(context)

    cdef _create(self, Context context, v.ibv_alloc_dm_attr *attr,
                 mem.mlx5dv_alloc_dm_attr *mlx5_attr,
                 uint32_t handle):
        cdef v.ibv_context *owner
        cdef v.ibv_dm *dm
        cdef int err
        cdef void *buf = NULL
        cdef uint64_t length = 0, icm_address = 0, largest = 0
        cdef size_t in_page
        self.life.begin_create(self, context, dms_of(context))
        owner = self.life.owner
        with nogil:
            if attr == NULL:
                dm = mem.ibv_import_dm(owner, handle)
            else:
                dm = mem.mlx5dv_alloc_dm(owner, attr, mlx5_attr)
            err = errno
            if dm != NULL:
                err = mlx5_dm_describe(dm, &buf, &length, &icm_address)
                if err:
                    if attr == NULL:
                        mem.ibv_unimport_dm(dm)
                    else:
                        mem.ibv_free_dm(dm)
                    dm = NULL
            if dm == NULL and attr != NULL and mlx5_dm_max_length(owner, &largest):
                # The refusal itself is what the caller must hear of.
                largest = UINT64_MAX
        if dm == NULL:
            self.life.end_create(self, False)
            if attr == NULL:
                trouble = device_trouble(err) or '. The context must share the command fd of the ' \
                    'one that allocated it, and the memory must be MEMIC'
                raise PyverbsRDMAError(f'Failed to import DM {handle}{trouble}', err)
            # Late: the module of the class imports this one.
            from pyverbs.providers.mlx5.mlx5dv_dm_caps import refusal
            raise refusal(context, mlx5_attr.type, attr.length, attr.log_align_req, largest, err,
                          device_trouble(err))
        self.dm = dm
        self.context = context
        self.imported = attr == NULL
        self.dm_type = mem.MLX5DV_DM_TYPE_MEMIC if attr == NULL else mlx5_attr.type
        self.log_align = 0 if attr == NULL else attr.log_align_req
        self.dm_length = length
        self.dm_handle = dm.handle
        self.mapped = buf
        self.icm_address = icm_address
        if buf != NULL:
            # libmlx5 maps whole pages from the one that the memory starts in.
            in_page = <uintptr_t> buf & (PAGE_SIZE - 1)
            self.reachable = min(self.dm_length, mlx5_dm_whole_pages(self.dm_length) - in_page)
        self.life.end_create(self, True)
        self._is_imported = bool(self.imported)

    cdef bint _is_dead(self):
        # Whether its memory is being given back: Cython has dropped what this class adds, and
        # upstream's __dealloc__ calls close(), which may be any Python of a subclass.
        return <void *> self.life == NULL

    cdef int _check_open(self) except -1:
        if self._is_dead():
            raise PyverbsUserError('This Mlx5DM is gone')
        return check_life(self.life, self)

    cdef int _check_mapped(self, str action) except -1:
        if _is_mapped(self):
            return 0
        self._check_open()
        raise Mlx5DMError(f'Failed to {action}: {_type_name(self.dm_type)} is not mapped, it is '
                          'reached by its remote_va through the device', EOPNOTSUPP)

    cdef add_ref(self, obj):
        if isinstance(obj, (DMMR, Mlx5DMOpAddr)) and not self._is_dead():
            self.children.add(obj)

    cdef _release_children(self):
        # Every child is given its chance and stays known until it has closed, whatever its siblings
        # do.
        failure = None
        for child in self.children:
            try:
                child.close()
                self.children.discard(child)
            except Exception as ex:
                failure = failure or ex
        if failure is not None:
            raise failure

    cdef void _unmap(self):
        # A mapping keeps the device file, and with it every kernel object of its context, alive.
        cdef void *page = <void *> (<uintptr_t> self.mapped & ~(PAGE_SIZE - 1))
        if self.mapped != NULL:
            with nogil:
                munmap(page, mlx5_dm_whole_pages(self.dm_length))

    cdef int _release(self):
        # The C side of closing, 0 or an errno. After an error everything is as it was.
        cdef v.ibv_dm *dm = self.dm
        cdef int rc = 0
        self.dm = mlx5_dm_closed()
        if self.life.gone():
            # The library's handle died with the context. What is left is its mapping.
            self._unmap()
        elif self.imported:
            with nogil:
                mem.ibv_unimport_dm(dm)
        else:
            with nogil:
                rc = mem.ibv_free_dm(dm)
        if rc:
            self.dm = dm
        else:
            self.mapped = NULL
        return rc

    cpdef close(self):
        """
        Close the MRs and op addresses on it, then free the memory. Does nothing if closed already.
        Waits for copies that run in other threads. An import only loses its mapping, the owner
        keeps the memory.
        :raises PyverbsRDMAError: An MR, or the DM itself, could not be freed (EBUSY: something is
                                  still registered on it). It stays open and can be used and closed
                                  again

        See ibv_free_dm(3).
        """
        cdef int rc
        if self._is_dead() or not self.life.begin_close():
            return
        try:
            log_closing(self.logger, 'Closing Mlx5DM')
            if not self.life.gone():
                self._release_children()
        except BaseException:
            self.life.end_close(self, EBUSY)
            raise
        self.life.begin_release()
        rc = self._release()
        self.life.end_close(self, rc)
        if rc:
            trouble = release_trouble(rc, 'what was registered or made on it')
            raise PyverbsRDMAError(f'Failed to free dm{trouble}. It stays allocated', rc)
        self.context = None

    def __del__(self):
        self.life.dropped(self)

    def __dealloc__(self):
        if self.life is not None and self.life.end_unseen() and self._release():
            # So that it goes with its context.
            self._unmap()
            self.life.leaked()
        # DM's own __dealloc__ calls close() once more, that of a subclass too, when there is no
        # life any more.
        self.dm = mlx5_dm_closed()

    def unimport(self):
        """
        Close an imported DM: unmap it and release the library's handle. The owner keeps the memory.
        :raises PyverbsUserError: It is closed, or it was not imported: close() frees it then

        See ibv_unimport_dm(3).
        """
        self._check_open()
        if not self.imported:
            raise PyverbsUserError('This Mlx5DM owns its memory: close() frees it')
        self.close()

    def copy_to_dm(self, dm_offset, data, length=None):
        """
        Write to MEMIC.
        :param dm_offset: Where in the DM, in bytes, a multiple of 4
        :param data: What to write: any C-contiguous object with the buffer protocol. Held until the
                     copy is done
        :param length: How many bytes of data, a multiple of 4 (default: all)
        :raises Mlx5DMError: Misaligned, negative or not contiguous (EINVAL), outside of the DM or
                             of data (EFAULT), not mapped since it is SW ICM (EOPNOTSUPP)
        :raises PyverbsUserError: The DM is closed
        :raises TypeError: data has no buffer protocol

        See ibv_memcpy_to_dm(3).
        """
        cdef Py_buffer view
        cdef uint64_t offset, count = UINT64_MAX
        if not _is_mapped(self):
            self._check_mapped('copy to dm')
        offset = _byte_count(dm_offset, 'copy to dm', 'offset')
        if length is not None:
            count = _byte_count(length, 'copy to dm', 'length')
        if type(data) is bytes:
            # The caller's reference holds it, and nothing can change or move it.
            _write(self, offset, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), count, length)
            return
        _get_buffer(data, &view, False, 'copy to dm')
        try:
            _write(self, offset, view.buf, view.len, count, length)
        finally:
            PyBuffer_Release(&view)

    def copy_from_dm(self, dm_offset, length):
        """
        Read MEMIC.
        :param dm_offset: Where in the DM, in bytes, a multiple of 4
        :param length: How many bytes, a multiple of 4
        :return: The bytes
        :raises Mlx5DMError: Misaligned or negative (EINVAL), outside of the DM (EFAULT), not mapped
                             since it is SW ICM (EOPNOTSUPP)
        :raises PyverbsUserError: The DM is closed

        See ibv_memcpy_from_dm(3).
        """
        cdef uint64_t offset, count
        if not _is_mapped(self):
            self._check_mapped('copy from dm')
        offset = _byte_count(dm_offset, 'copy from dm', 'offset')
        count = _byte_count(length, 'copy from dm', 'length')
        # Bounded by the DM before anything is allocated.
        _check_range(self, 'copy from dm', offset, count)
        data = PyBytes_FromStringAndSize(NULL, count)
        if count:
            _copy(self, offset, PyBytes_AS_STRING(data), count, False)
        return data

    def copy_from_dm_into(self, dm_offset, buffer):
        """
        Read MEMIC into memory at hand, without a copy between. As many bytes as the buffer has.
        :param dm_offset: Where in the DM, in bytes, a multiple of 4
        :param buffer: A writable C-contiguous object with the buffer protocol, its size a multiple
                       of 4 bytes
        :return: The number of bytes read
        :raises Mlx5DMError: Misaligned, negative, read-only or not contiguous (EINVAL), outside of
                             the DM (EFAULT), not mapped since it is SW ICM (EOPNOTSUPP)
        :raises PyverbsUserError: The DM is closed
        :raises TypeError: buffer has no buffer protocol

        See ibv_memcpy_from_dm(3).
        """
        cdef Py_buffer view
        cdef uint64_t offset
        if not _is_mapped(self):
            self._check_mapped('copy from dm')
        offset = _byte_count(dm_offset, 'copy from dm', 'offset')
        _get_buffer(buffer, &view, True, 'copy from dm')
        try:
            _check_range(self, 'copy from dm', offset, view.len)
            _copy(self, offset, view.buf, view.len, False)
            return view.len
        finally:
            PyBuffer_Release(&view)

    def reg_mr(self, PD pd not None, access, offset=0, length=None):
        """
        Register an MR on it, MEMIC or SW ICM. The key's addresses begin at 0, as those of every MR
        on device memory do: IBV_ACCESS_ZERO_BASED is added.
        :param pd: The PD of the MR, of the DM's own context
        :param access: Who may do what, of ibv_access_flags
        :param offset: Where in the DM the MR begins, in bytes
        :param length: How many bytes (default: up to the end of the DM)
        :return: A DMMR. It keeps DM and PD alive, and either's close() closes it first
        :raises Mlx5DMError: Outside of the DM (EFAULT), or a negative number (EINVAL)
        :raises PyverbsUserError: The DM or pd is closed, pd is of another context, or access does
                                  not fit 32 bits
        :raises PyverbsRDMAError: The kernel refused: EINVAL (an access flag that device memory does
                                  not take), or the device did

        See ibv_reg_dm_mr(3).
        """
        cdef uint32_t flags
        cdef uint64_t start, count = 0
        _check_dm(self)
        flags = checked_number(access, 'access', UINT32_MAX)
        start = _byte_count(offset, 'register an MR', 'offset')
        if length is not None:
            count = _byte_count(length, 'register an MR', 'length')
        # The arguments' Python may have closed either.
        _check_dm(self)
        if pd.pd == NULL:
            raise PyverbsUserError('Failed to register an MR: the PD is closed')
        if pd.pd.context != self.life.owner:
            raise PyverbsUserError('Failed to register an MR: the PD is of another context than the'
                                   ' DM')
        if start > self.dm_length or count > self.dm_length - start:
            raise Mlx5DMError(f'Failed to register an MR: {count} bytes at offset {start} do not '
                              f'fit in {self.dm_length} bytes', EFAULT)
        if length is None:
            count = self.dm_length - start
        return DMMR(pd, count, flags | ZERO_BASED, self, start)

    def map_op_addr(self, op):
        """
        Map the address through which accesses carry out an operation on MEMIC, such as an atomic
        increment.
        :param op: Number of the operation, 0 to 255, as in the device specification (0 increment, 1
                   test and set)
        :return: A Mlx5DMOpAddr, which owns the mapping
        :raises Mlx5DMError: This is SW ICM (EOPNOTSUPP)
        :raises PyverbsUserError: The DM is closed, or op does not fit 8 bits
        :raises PyverbsRDMAError: The device has no such operation (EOPNOTSUPP), or no room to map
                                  it (ENOMEM)

        See mlx5dv_dm_map_op_addr(3).
        """
        return Mlx5DMOpAddr(self, op)

    def export_dmabuf_fd(self):
        """
        Export MEMIC as a dma-buf of whole pages, for an MR (DmaBufMR) or another driver. A umem
        cannot be made of it: the kernel does not pin device memory (EOPNOTSUPP).
        :return: A new file descriptor, the caller's to close. Closing the DM or its context revokes
                 it: registrations on it then no longer reach the memory, new ones are refused with
                 ENODEV
        :raises Mlx5DMError: This is SW ICM (EOPNOTSUPP)
        :raises PyverbsUserError: The DM is closed
        :raises PyverbsRDMAError: The library (EOPNOTSUPP) or the kernel (EPROTONOSUPPORT) is too
                                  old, or the kernel refused

        See ibv_dm_export_dmabuf_fd(3).
        """
        cdef v.ibv_context *owner
        cdef v.ibv_dm *twin
        cdef int fd = -1, err
        self._check_mapped('export a dma-buf')
        if not mem.MLX5_MEM_HAVE_DM_EXPORT_DMABUF_FD:
            raise PyverbsRDMAError('Failed to export dmabuf FD for DM: it needs a newer rdma-core, '
                                   '65 has it', EOPNOTSUPP)
        self.life.enter(self)
        owner = self.life.owner
        with nogil:
            # libmlx5 remembers one page offset in its handle, of whatever was mapped last through
            # it, and exports that: after an op address was mapped, the operation's page. A fresh
            # handle knows the memory's own only.
            twin = mem.ibv_import_dm(owner, self.dm_handle)
            err = errno
            if twin != NULL:
                fd = mem.ibv_dm_export_dmabuf_fd(twin)
                err = errno
                mem.ibv_unimport_dm(twin)
        self.life.leave()
        if fd < 0:
            hint = ''
            if err in (EOPNOTSUPP, EPROTONOSUPPORT):
                hint = '. The kernel is too old to export DMs'
            raise PyverbsRDMAError(f'Failed to export dmabuf FD for DM'
                                   f'{hint or device_trouble(err)}', err)
        return fd

    @property
    def type(self):
        """Type of the memory, a mlx5dv_alloc_dm_type."""
        _check_dm(self)
        return _kind(self.dm_type)

    @property
    def length(self):
        """Length in bytes, as asked for; the device may have rounded it up."""
        _check_dm(self)
        return self.dm_length

    @property
    def log_align_req(self):
        """Log2 of the alignment asked for; 0 for an import, which does not know it."""
        _check_dm(self)
        return self.log_align

    @property
    def handle(self):
        """The kernel's handle, for import_dm() in a context that shares the command fd."""
        _check_dm(self)
        return self.dm_handle

    @property
    def remote_va(self):
        """ICM address of SW ICM, which steering objects refer to; None for MEMIC."""
        _check_dm(self)
        return None if self.dm_type == mem.MLX5DV_DM_TYPE_MEMIC else self.icm_address

    @property
    def addr(self):
        """Address at which MEMIC is mapped in this process; None for SW ICM, which is not."""
        _check_dm(self)
        return None if self.mapped == NULL else <uintptr_t> self.mapped

    @property
    def is_imported(self):
        """Whether the memory is another object's: closing this one does not free it."""
        _check_dm(self)
        return bool(self.imported)

    @property
    def closed(self):
        """Whether there is nothing to use: closed, never allocated, the parent's after fork(), or
        its context is gone."""
        return bool(self._is_dead() or self.life.closed())

    def __repr__(self):
        name = type(self).__name__
        if self.closed:
            return f'<{name} closed>'
        where = f'remote_va={self.icm_address:#x}' if self.mapped == NULL else \
                f'addr={<uintptr_t> self.mapped:#x}'
        origin = 'imported' if self.imported else 'open'
        return f'<{name} {_type_name(self.dm_type)} length={self.dm_length} ' \
               f'handle={self.dm_handle} {where} {origin}>'

    def __reduce__(self):
        raise TypeError(f'cannot pickle {type(self).__name__}: device memory belongs to one '
                        'process')


cdef inline bint _is_mapped(Mlx5DM dm):
    return dm.mapped != NULL and <void *> dm.life != NULL and life_usable(dm.life)


cdef inline int _check_dm(Mlx5DM dm) except -1:
    return 0 if <void *> dm.life != NULL and life_usable(dm.life) else dm._check_open()


cdef inline int _check_range(Mlx5DM dm, str action, uint64_t dm_offset, uint64_t length) except -1:
    if not (dm_offset | length) & 3 and dm_offset <= dm.reachable and \
            length <= dm.reachable - dm_offset:
        return 0
    if (dm_offset | length) & 3:
        raise Mlx5DMError(f'Failed to {action}: offset {dm_offset} and length {length} must be '
                          f'multiples of 4 bytes',
                          EINVAL)
    raise Mlx5DMError(f'Failed to {action}: {length} bytes at offset {dm_offset} do not fit in '
                      f'{dm.reachable} bytes', EFAULT)


cdef inline int _copy(Mlx5DM dm, uint64_t dm_offset, void *host, size_t length,
                      bint to_dm) except -1:
    cdef int rc
    if length < (RELEASE_GIL_WRITING if to_dm
                 else RELEASE_GIL_READING) and life_usable(dm.life):
        # The GIL keeps close() out, and nothing up to the end of the copy gives it up.
        if to_dm:
            rc = mem.ibv_memcpy_to_dm(dm.dm, dm_offset, host, length)
        else:
            rc = mem.ibv_memcpy_from_dm(host, dm.dm, dm_offset, length)
    else:
        dm.life.enter(dm)
        with nogil:
            if to_dm:
                rc = mem.ibv_memcpy_to_dm(dm.dm, dm_offset, host, length)
            else:
                rc = mem.ibv_memcpy_from_dm(host, dm.dm, dm_offset, length)
        dm.life.leave()
    if rc:
        raise PyverbsRDMAError('Failed to copy to dm' if to_dm else 'Failed to copy from dm',
                               rc)
    return 0


cdef inline int _write(Mlx5DM dm, uint64_t dm_offset, void *host, size_t held, uint64_t count,
                       object asked) except -1:
    # count of the held bytes, or all of them if nothing was asked for.
    if asked is None:
        count = held
    elif count > held:
        raise Mlx5DMError(f'Failed to copy to dm: length {count} is more than the {held} bytes '
                          'given', EFAULT)
    _check_range(dm, 'copy to dm', dm_offset, count)
    return _copy(dm, dm_offset, host, count, True)


@cython.no_gc_clear
cdef class Mlx5DMOpAddr(PyverbsCM):
    """Mlx5DMOpAddr(dm, op=0)\n--\n
    The address through which accesses carry out one operation on a Mlx5DM.

    It owns its mapping, keeps the DM alive and is closed by it. Loads and stores are single
    accesses of the width asked for. After fork() it belongs to the parent.
    """
    def __cinit__(self):
        self.life = new_life('Mlx5DMOpAddr')

    def __init__(self, Mlx5DM dm not None, op=0):
        """
        Map an operation; Mlx5DM.map_op_addr() does the same.
        :param dm: The MEMIC to operate on. It is kept alive, and closes this object when it is
                   closed
        :param op: Number of the operation, 0 to 255, as in the device specification
        :raises Mlx5DMError: The DM is SW ICM (EOPNOTSUPP)
        :raises PyverbsUserError: The DM is closed, op does not fit 8 bits, or already initialized
        :raises PyverbsRDMAError: The device has no such operation (EOPNOTSUPP), or no room to map
                                  it (ENOMEM)

        See mlx5dv_dm_map_op_addr(3).
        """
        cdef uint8_t operation = checked_number(op, 'op', 255)
        cdef void *address
        cdef uint8_t widths = 0
        cdef size_t in_page
        cdef int err
        if type(self) is Mlx5DMOpAddr:
            # As Mlx5DM: a lookup takes a lock of logging's, which stays taken if a signal's handler
            # raises there.
            self.logger = OPERATION_LOGGER
        else:
            PyverbsCM.__init__(self)
        dm._check_mapped('map an operation address')
        dm.life.enter_to_create(dm)
        try:
            self.life.begin_create(self, dm.life.context, dm.children)
        except BaseException:
            dm.life.leave()
            raise
        with nogil:
            address = mem.mlx5dv_dm_map_op_addr(dm.dm, operation)
            err = errno
            if address != NULL:
                widths = mlx5_dm_op_widths(dm.life.owner, operation)
        dm.life.leave()
        if address == NULL:
            self.life.end_create(self, False)
            hint = f'. The device has no operation {operation}' if err == EOPNOTSUPP else ''
            raise PyverbsRDMAError(f'Failed to get DM operation address'
                                   f'{hint or device_trouble(err)}', err)
        # libmlx5 maps whole pages and returns the address inside the first.
        in_page = <uintptr_t> address & (PAGE_SIZE - 1)
        self.address = address
        self.mapping = <void *> (<uintptr_t> address - in_page)
        self.mapping_length = mlx5_dm_whole_pages(dm.dm_length)
        self.reachable = min(dm.dm_length, self.mapping_length - in_page)
        self.operation = operation
        self.width_bits = widths
        self.dm = dm
        self.life.end_create(self, True)

    cdef int _access(self, void *host, size_t length, object offset, bint store) except -1:
        cdef uint64_t where
        action = 'write to the operation address' if store else 'read from the operation address'
        where = _byte_count(offset, action, 'offset')
        if length not in (1, 2, 4, 8):
            raise Mlx5DMError(f'Failed to {action}: one access is of 1, 2, 4 or 8 bytes, not '
                              f'{length}', EINVAL)
        if self.width_bits and not self.width_bits & length:
            raise Mlx5DMError(f'Failed to {action}: operation {self.operation} of this device '
                              f'takes widths of {", ".join(map(str, self.widths))} bytes, not '
                              f'{length}', EOPNOTSUPP)
        if where % length:
            raise Mlx5DMError(f'Failed to {action}: offset {where} is not a multiple of the width '
                              f'{length}', EINVAL)
        if where > self.reachable or length > self.reachable - where:
            raise Mlx5DMError(f'Failed to {action}: {length} bytes at offset {where} do not fit in '
                              f'{self.reachable} bytes', EFAULT)
        if not life_usable(self.life):
            # Wait for a close() that may be refused; then the GIL keeps it out.
            self.life.enter(self)
            self.life.leave()
        # One access takes no longer than giving up the GIL.
        mlx5_dm_access(<char *> self.address + where, host, length, store)
        return 0

    def read(self, length, offset=0):
        """
        Load from the operation address, which carries out the operation.
        :param length: Width of the access: 1, 2, 4 or 8 bytes
        :param offset: Where in the DM, in bytes, a multiple of length
        :return: The bytes loaded, as they are in memory
        :raises Mlx5DMError: A width or offset that cannot be (EINVAL), a width that the device does
                             not offer (EOPNOTSUPP), outside of the DM (EFAULT)
        :raises PyverbsUserError: It is closed
        """
        cdef uint64_t value = 0, width
        check_life(self.life, self)
        width = _byte_count(length, 'read from the operation address', 'length')
        self._access(&value, width, offset, False)
        return PyBytes_FromStringAndSize(<char *> &value, width)

    def write(self, data, offset=0):
        """
        Store to the operation address, which carries out the operation.
        :param data: The operand: 1, 2, 4 or 8 bytes, any C-contiguous object with the buffer
                     protocol
        :param offset: Where in the DM, in bytes, a multiple of the operand's size
        :raises Mlx5DMError: A width or offset that cannot be (EINVAL), a width that the device does
                             not offer (EOPNOTSUPP), outside of the DM (EFAULT)
        :raises PyverbsUserError: It is closed
        :raises TypeError: data has no buffer protocol
        """
        cdef Py_buffer view
        cdef uint64_t value = 0
        cdef size_t width
        check_life(self.life, self)
        _get_buffer(data, &view, False, 'write to the operation address')
        try:
            width = view.len
            if width in (1, 2, 4, 8):
                # An operand of its own: the caller's may be unaligned.
                memcpy(&value, view.buf, width)
        finally:
            PyBuffer_Release(&view)
        self._access(&value, width, offset, True)

    def unmap(self, length=None):
        """
        Close it, for scripts written for Mlx5DmOpAddr.
        :param length: Ignored: the object knows the length of its mapping
        """
        del length
        self.close()

    cpdef close(self):
        """
        Unmap it. Does nothing if closed already. Waits for an access that runs in another thread.
        """
        if not self.life.begin_close():
            return
        self.life.begin_release()
        with nogil:
            # Cannot fail: the range is page-aligned and ours.
            munmap(self.mapping, self.mapping_length)
        self.life.end_close(self, 0)
        self.dm = None

    def __dealloc__(self):
        if self.life is not None and self.life.end_unseen():
            munmap(self.mapping, self.mapping_length)

    @property
    def addr(self):
        """The address in this process. Accesses through it carry out the operation."""
        check_life(self.life, self)
        return <uintptr_t> self.address

    @property
    def op(self):
        """Number of the operation."""
        check_life(self.life, self)
        return self.operation

    @property
    def widths(self):
        """Widths in bytes that the device offers for the operation; 1, 2, 4 and 8 where it does not
        tell."""
        check_life(self.life, self)
        return tuple([width for width in (1, 2, 4, 8) if not self.width_bits
                      or self.width_bits & width])

    @property
    def length(self):
        """How many bytes can be reached through it."""
        check_life(self.life, self)
        return self.reachable

    @property
    def closed(self):
        """Whether it is unmapped, never mapped, the parent's after fork(), or its DM is closed."""
        return bool(self.life.closed())

    def __repr__(self):
        name = type(self).__name__
        if self.closed:
            return f'<{name} closed>'
        return f'<{name} op={self.operation} addr={<uintptr_t> self.address:#x} of {self.dm!r}>'

    def __reduce__(self):
        raise TypeError(f'cannot pickle {type(self).__name__}: a mapping belongs to one process')
