# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)
"""
What works here and what stands in the way, found by trying it: the smallest allocation or
registration of each kind, given back at once. The texts are those of the classes, so that who reads
them before he starts reads what a script would have failed with.

python3 -m pyverbs.providers.mlx5.mlx5dv_dm_caps prints them.
"""
import errno
import os
import resource
import textwrap
from typing import NamedTuple

from pyverbs.device import AllocDmAttr
from pyverbs.fork import is_fork_initialized
from pyverbs.pyverbs_error import PyverbsError, PyverbsRDMAError

from pyverbs.providers.mlx5.mlx5dv_devx_umem import Mlx5DevxUmem
from pyverbs.providers.mlx5.mlx5dv_dm import Mlx5AllocDmAttr, Mlx5DM, mlx5dv_alloc_dm_type
from pyverbs.providers.mlx5.mlx5dv_dm_caps import process_capabilities

PAGE = os.sysconf('SC_PAGESIZE')
#: enum ibv_fork_status, which pyverbs has no names for.
FORK_DISABLED, FORK_ENABLED = 0, 1
CAP_IPC_LOCK = 14


class Mlx5Trial(NamedTuple):
    """
    What became of one trial.
    :ivar name: What was tried, one of names()
    :ivar works: Whether it works
    :ivar error: Name of the errno that refused it, or None
    :ivar why: What is in the way and what to do about it; what is to be known if it works
    """

    name: str
    works: bool
    error: 'str | None'
    why: str


def names():
    """
    What can be tried.
    :return: A list of names: devx, memic, the types of SW ICM, umem, umem_bitmap, umem_dmabuf,
        memic_dmabuf, memlock, fork
    """
    return list(_trials())


def try_all(context):
    """
    Try everything on a device. Nothing of it stays, on the device or in the process.
    :param context: An open context
    :return: A list of Mlx5Trial, one for each of names()
    :raises PyverbsUserError: The context is closed
    """
    return [_one(name, trial, context) for name, trial in _trials().items()]


def table(device, trials):
    """
    Write it for people.
    :param device: Name of the device
    :param trials: What try_all() returned
    :return: A table, with each text wrapped to 100 columns
    """
    width = max(len(trial.name) for trial in trials)
    lines = [f'{device}: what works here']
    for trial in trials:
        head = f'  {trial.name:{width}}  {"yes" if trial.works else "no":3}  '
        lines += textwrap.wrap(f'{trial.error}: {trial.why}' if trial.error else trial.why, 100,
                               initial_indent=head, subsequent_indent=' ' * len(head)) or [
                                   head.rstrip()]
    return '\n'.join(lines)


def _trials():
    """Name and function of each trial; a function returns what is to be known, or raises."""
    trials = {'devx': _ask}
    for kind in mlx5dv_alloc_dm_type:
        name = kind.name.replace('MLX5DV_DM_TYPE_', '').lower()
        trials[name] = lambda context, kind=kind: _allocate(context, kind)
    trials.update(umem=lambda context: _register(context, size=PAGE),
                  umem_bitmap=lambda context: _register(context, size=PAGE, pgsz_bitmap=PAGE),
                  umem_dmabuf=_dmabuf, memic_dmabuf=_export, memlock=_memlock, fork=_fork)
    return trials


def _one(name, trial, context):
    try:
        return Mlx5Trial(name, True, None, trial(context) or '')
    except _InTheWay as ex:
        return Mlx5Trial(name, False, None, str(ex))
    except PyverbsRDMAError as ex:
        # pyverbs appends the errno in words, which stands in front here.
        return Mlx5Trial(name, False, errno.errorcode.get(ex.error_code, str(ex.error_code)),
                         str(ex).partition('. Errno:')[0])


class _InTheWay(PyverbsError):
    """A setting of the process that will be in the way, though nothing was refused."""


def _ask(context):
    Mlx5DM.query_caps(context)


def _allocate(context, kind):
    Mlx5DM(context, AllocDmAttr(length=64), Mlx5AllocDmAttr(kind)).close()


def _register(context, **arguments):
    Mlx5DevxUmem(context, **arguments).close()


def _dmabuf(context):
    # No dma-buf is at hand everywhere. What knows of them refuses a file that is none by EINVAL.
    _ask(context)
    with open(os.devnull) as file:
        try:
            _register(context, size=PAGE, dmabuf_fd=file.fileno())
        except PyverbsRDMAError as ex:
            if ex.error_code != errno.EINVAL:
                raise
    return 'of an exporter that can pin its memory'


def _export(context):
    with Mlx5DM(context, AllocDmAttr(length=64)) as dm:
        os.close(dm.export_dmabuf_fd())


def _memlock(_context):
    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit == resource.RLIM_INFINITY:
        return 'no limit of pinned memory'
    if process_capabilities() >> CAP_IPC_LOCK & 1:
        return f'the limit of {limit} bytes does not count: this thread has CAP_IPC_LOCK'
    raise _InTheWay(f'All umems and MRs of this process together may pin {limit} bytes, then they '
                    'are refused with ENOMEM: raise `ulimit -l`, or grant CAP_IPC_LOCK')


def _fork(_context):
    status = is_fork_initialized()
    if status == FORK_DISABLED:
        raise _InTheWay('After a fork() the device and this process may see different pages: call '
                        'pyverbs.fork.fork_init() before anything is opened, or set '
                        'IBV_FORK_SAFE=1')
    if status == FORK_ENABLED:
        return 'fork support is on: a child has no copy of the memory of umems, and dma-bufs are ' \
               'not taken at an offset'
    return 'the kernel copies pinned pages for a child'


__all__ = ['Mlx5Trial', 'names', 'table', 'try_all']
