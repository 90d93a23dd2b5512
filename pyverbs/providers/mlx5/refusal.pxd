# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3

from libc.errno cimport EAGAIN, EBUSY, EINVAL, EIO, ENODEV, ENOMEM, ENXIO, ETIMEDOUT


cdef inline str device_trouble(int err):
    """
    What errnos mean with which any command of the device can end, whatever it was for: the kernel
    makes them of the firmware's statuses and of the state of the device.
    :param err: The errno
    :return: A sentence to append, with what to do; empty for an errno that is the call's own
    """
    if err in (EIO, ENODEV, ENXIO):
        return '. The firmware failed, or the device is gone or in its error state: see dmesg. ' \
               'What is open stays to be closed; open the device again once it is back'
    if err == ETIMEDOUT:
        return '. The firmware did not answer in time: see dmesg'
    if err == EAGAIN:
        return '. The device has no resources left for it: close others and try again'
    return ''


cdef inline str devx_lacking():
    """
    :return: A sentence to append where neither device nor driver knows DEVX
    """
    return '. The device has no DEVX: its firmware offers no user contexts (log_max_uctx is 0), ' \
           'or the driver is too old'


cdef inline str release_trouble(int err, str user):
    """
    The same for giving something back.
    :param err: The errno
    :param user: What uses the thing, as a rule, when the device refuses to let go of it
    :return: A sentence to append
    """
    if err in (EBUSY, EINVAL):
        return f'. Most likely {user} is still alive: close that first'
    if err == ENOMEM:
        return '. The kernel has no memory to ask the device with: try again'
    return device_trouble(err)
