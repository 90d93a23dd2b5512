# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3

from cpython.number cimport PyNumber_Index


cdef inline object checked_number(value, str name, object largest, object smallest=0):
    """
    Check an integer argument before it is narrowed to a C type.
    :param value: Anything with __index__
    :param name: The argument's name, for the error text
    :param largest: Largest value that the C type holds
    :param smallest: Smallest one
    :return: It, as an int in that range
    :raises PyverbsUserError: It is out of range
    :raises TypeError: It is no integer
    """
    number = PyNumber_Index(value)
    if number < smallest or number > largest:
        from pyverbs.pyverbs_error import PyverbsUserError
        raise PyverbsUserError(f'{name} {number} is out of range, {smallest} to {largest}')
    return number
