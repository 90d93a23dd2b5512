# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3

from cpython.exc cimport PyErr_Clear, PyErr_Occurred
from cpython.number cimport PyNumber_Index
from libc.stdint cimport INT32_MAX, INT32_MIN, UINT64_MAX, int32_t, uint64_t


cdef extern from 'Python.h':
    # Checked by hand: the errors are ours.
    unsigned long long PyLong_AsUnsignedLongLong(object number)


cdef inline uint64_t checked_number(value, str name, uint64_t largest) except? 0:
    """
    Check an integer argument before it is narrowed to a C type.
    :param value: Anything with __index__
    :param name: The argument's name, for the error text
    :param largest: Largest value that the C type holds
    :return: It, 0 to largest
    :raises PyverbsUserError: It is out of range
    :raises TypeError: It is no integer
    """
    cdef uint64_t found
    number = value if type(value) is int else PyNumber_Index(value)
    found = PyLong_AsUnsignedLongLong(number)
    if found == UINT64_MAX and PyErr_Occurred():
        PyErr_Clear()
    elif found <= largest:
        return found
    from pyverbs.pyverbs_error import PyverbsUserError
    raise PyverbsUserError(f'{name} {number} is out of range, 0 to {largest}')


cdef inline int32_t checked_descriptor(value, str name) except? 0:
    """
    The same for a file descriptor, which may be negative: the kernel says what it thinks of it.
    :return: It, an int of C
    """
    number = PyNumber_Index(value)
    if number < INT32_MIN or number > INT32_MAX:
        from pyverbs.pyverbs_error import PyverbsUserError
        raise PyverbsUserError(f'{name} {number} is out of range, {INT32_MIN} to {INT32_MAX}')
    return number
