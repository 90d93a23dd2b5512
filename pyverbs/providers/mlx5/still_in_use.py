# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
Objects that were dropped while the kernel still refused to free them.

A umem goes out of scope while a DEVX queue still uses it: its memory must stay until the queue is
gone. Its finalizer puts it here, and it is closed as soon as that succeeds: at the end of a garbage
collection, when the next object of these modules is made, or by its context's close(), which still
knows it.
"""
import gc
import warnings

_kept = {}


def keep(obj):
    """
    Keep an object whose close() has just been refused.
    :param obj: The object; its close() is tried again later
    """
    if not _kept and _at_collection not in gc.callbacks:
        gc.callbacks.append(_at_collection)
    _kept[id(obj)] = obj
    warnings.warn(f'{obj!r} was dropped while it is in use; it is kept until it can be closed',
                  ResourceWarning, stacklevel=2)


def retry():
    """Close the kept objects that can be closed by now."""
    for key, obj in list(_kept.items()):
        try:
            obj.close()
        except Exception:
            continue
        _kept.pop(key, None)


def _at_collection(phase, info):
    # A cycle that holds a umem together with the queue on it is torn down within one collection.
    del info
    if _kept and phase == 'stop':
        retry()
