# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3
"""
The life of an object that holds something of an mlx5 context: made once, used by many threads
without the GIL, closed once, after its users and before its context.

The rules that all of this stands on:

- State and users change with the GIL held, and what changes them allocates nothing, so that no
  finalizer comes between. Only waiting gives up the GIL.
- In LIFE_BUSY, and between enter() and leave(), there is nothing but C: a finalizer could come back
  to the same object and wait for itself. In LIFE_CLOSING any Python may run.
- Joining and leaving the parent is nothing but C, and cannot fail. Who is in the parent's ring is
  there, or is being freed and has no reference left: he leaves before his memory goes.
- Whoever has the GIL and finds life_usable() has the C object until he gives up the GIL: closing
begins with the GIL held.
- After the GIL was given up, or any Python may have run, everything may have been closed: ask
again.
- After fork() the object is the parent's: in the child nothing of it is used or freed.

tests/classes/test_mlx5_lifetime.py puts them under stress.
"""

import warnings
import weakref

cimport cython
from cpython.object cimport PyObject

cimport pyverbs.libibverbs as v
from pyverbs.base cimport PyverbsCM
from pyverbs.device cimport Context

from pyverbs.pyverbs_error import PyverbsUserError

include "mlx5_mem_upstream.pxi"


cdef extern from 'Python.h':
    Py_ssize_t Py_REFCNT(PyObject *obj)

cdef extern from 'pythread.h':
    unsigned long PyThread_get_thread_ident()

cdef extern from 'lifetime_bell.h':
    unsigned int lifetime_bell_count
    unsigned int lifetime_forks
    void lifetime_ring() nogil
    void lifetime_await(unsigned int heard) nogil


cdef class Family:
    """Whether the close() of a context has begun; all sets of the context share it."""


# The collector must not break what a context closes by, even if it tears both down.
@cython.no_gc_clear
@cython.final
cdef class Children:
    """
    The open children of an object, weakly, by what a WeakSet has that pyverbs uses.

    It takes the place of each WeakSet of a context in which an object of ours is made. The
    collector clears a WeakSet that is in a cycle with its context, whose close() then fails and
    crashes the process; it does not clear this. And it tells that the context's close() has begun,
    from when on nothing of ours is made in it: pyverbs' close() empties one set after the other and
    looks at none twice.

    Objects of ours are in a ring, where they cost nothing and nothing can go wrong; pyverbs' are
    known by weak references.
    """
    def __cinit__(self):
        self.ring.before = self.ring.after = &self.ring
        self.enough = 64

    cdef void join(self, Place *place, obj):
        """Know an object of ours, which is in no ring."""
        place.whose = <PyObject *> obj
        place.before = self.ring.before
        place.after = &self.ring
        self.ring.before.after = place
        self.ring.before = place

    def add(self, obj):
        """
        Know a child of pyverbs.
        :param obj: The child
        """
        cdef dict refs = self.refs
        if refs is None:
            refs = self.refs = {}
        if len(refs) >= self.enough:
            # Those that died without a word. So many must join before it is done again that it
            # costs nothing per child.
            for key, ref in list(refs.items()):
                if ref() is None and refs.get(key) is ref:
                    del refs[key]
            self.enough = max(64, 2 * len(refs))
        refs[id(obj)] = weakref.ref(obj)

    def discard(self, obj):
        """
        Forget a child of pyverbs, known or not. An object of ours leaves by itself.
        :param obj: The child
        """
        if self.refs is not None:
            self.refs.pop(id(obj), None)

    def pop(self):
        """
        Take a child out, to be closed: so do pyverbs' contexts up to 63.
        :return: A child
        :raises KeyError: There is none
        """
        cdef Place *place = self.ring.after
        if self.family is not None:
            self.family.closing = True
        while place != &self.ring:
            if Py_REFCNT(place.whose) > 0:
                obj = <object> place.whose
                leave_ring(place)
                return obj
            place = place.after
        while self.refs:
            obj = self.refs.popitem()[1]()
            if obj is not None:
                return obj
        raise KeyError('no child is left')

    def clear(self):
        """
        Do nothing. pyverbs' contexts from 64 on clear a set before they close what was in it: a
        child that follows one whose close() raised would be forgotten, and its context closed
        underneath it. Children that are closed leave by themselves.
        """

    def __iter__(self):
        if self.family is not None:
            self.family.closing = True
        found = self.ours()
        if self.refs:
            found += [obj for obj in [ref() for ref in list(self.refs.values())] if obj is not None]
        return iter(found)

    cdef list ours(self):
        """
        :return: The objects of the ring
        """
        cdef Place *place
        cdef list found
        cdef Py_ssize_t room = 0, count
        while True:
            # Making the list may run any Python. Filling it does not.
            found = [None] * room
            count = 0
            place = self.ring.after
            while place != &self.ring:
                if Py_REFCNT(place.whose) > 0:
                    if count < room:
                        found[count] = <object> place.whose
                    count += 1
                place = place.after
            if count <= room:
                del found[count:]
                return found
            room = count

    def __len__(self):
        return len(self.ours()) + (len(self.refs) if self.refs else 0)


cdef inline void leave_ring(Place *place):
    if place.after != NULL:
        place.before.after = place.after
        place.after.before = place.before
        place.after = NULL


cdef int _replace_sets(Context context) except -1:
    """Put a Children in the place of each WeakSet of a context."""
    cdef dict old = {}, new = {}
    cdef Family family = Family.__new__(Family)
    cdef Children children
    read_sets(context, old)
    for name, members in old.items():
        new[name] = members
        if type(members) is weakref.WeakSet:
            new[name] = children = Children.__new__(Children)
            children.family = family
    # Once before the exchange, so that a close() beside it finds them, and once after it for what
    # was added meanwhile.
    _add_members(old, new)
    # Adding ran Python: another thread may have been faster.
    if isinstance(context.dms, Children):
        return 0
    write_sets(context, new)
    _add_members(old, new)
    return 0


cdef int _add_members(dict old, dict new) except -1:
    for name, members in old.items():
        if members is not new[name]:
            for obj in members:
                new[name].add(obj)
    return 0


cdef Children dms_of(Context context):
    """
    :param context: An open context
    :return: The set of its DMs, which refuses no child and tells of the context's closing
    :raises PyverbsUserError: The collector has begun to tear the context down
    """
    return _set_of(context, False)


cdef Children umems_of(Context context):
    """
    :param context: An open context
    :return: The set of its umems, as dms_of(). Where pyverbs keeps none for this class of context
             it is that of the DMs, which every context closes after its DEVX objects
    :raises PyverbsUserError: The collector has begun to tear the context down
    """
    return _set_of(context, True)


cdef Children _set_of(Context context, bint umems):
    found = devx_umems_of(context) if umems else None
    if found is None:
        found = context.dms
    if not isinstance(found, Children):
        _replace_sets(context)
        found = devx_umems_of(context) if umems else None
        if found is None:
            found = context.dms
        if not isinstance(found, Children):
            raise PyverbsUserError('The context is being torn down: open one')
    return <Children> found


@cython.no_gc_clear
@cython.final
cdef class Lifetime:
    """State, users and place in the ownership tree of one object. See the rules above."""

    def __cinit__(self):
        self.forks = &lifetime_forks
        self.generation = lifetime_forks

    def __dealloc__(self):
        leave_ring(&self.place)

    def __reduce__(self):
        raise TypeError('a Lifetime belongs to one object')

    # ---- making

    cdef int begin_create(self, PyverbsCM obj, Context context, Children siblings) except -1:
        """
        Join the parent, which from here on waits for us when it is closed, and have the object
        alone. Until end_create() there must be nothing but C.
        :param siblings: The parent's set of children
        :raises PyverbsUserError: The context or its close() came first, or another thread makes or
                                  has made this object
        """
        cdef v.ibv_context *owner = context.context
        if self.state == LIFE_NEW:
            # Made by __new__ in the parent process, created here: it is this process's.
            self.generation = lifetime_forks
        if self.state != LIFE_NEW or self.forked():
            raise PyverbsUserError(f'This {self.noun} has been initialized already: make another '
                                   f'one')
        if owner == NULL:
            raise PyverbsUserError(f'The context is closed: open one for this {self.noun}')
        if siblings.family is not None and siblings.family.closing:
            raise PyverbsUserError('The context is being closed, or its close() was refused')
        self.state = LIFE_BUSY
        self.owner = owner
        self.context = context
        self.siblings = siblings
        siblings.join(&self.place, obj)
        return 0

    cdef int end_create(self, PyverbsCM obj, bint made) except -1:
        """
        :param made: Whether there is a C object now. Else the object is as new, and its parent
                     forgets it
        """
        self.state = LIFE_OPEN if made else LIFE_NEW
        self.wake()
        if not made:
            self.leave_siblings()
            self.context = None
        return 0

    cdef void leave_siblings(self):
        leave_ring(&self.place)
        self.siblings = None

    # ---- using

    cdef int check_open(self, PyverbsCM obj) except -1:
        """
        :raises PyverbsUserError: There is nothing to use, and why. If the context was closed
                                  underneath, the object is closed too
        """
        if life_usable(self):
            return 0
        if self.forked():
            raise PyverbsUserError(f'This {self.noun} belongs to the process that was forked from: '
                                   f'make one here')
        if self.state == LIFE_NEW:
            raise PyverbsUserError(f'This {self.noun} was never made: its __init__ did not run or '
                                   f'failed')
        if self.orphaned():
            obj.close()
            raise PyverbsUserError(f'This {self.noun} is closed: its context was closed underneath '
                                   f'it')
        if self.state == LIFE_CLOSED:
            raise PyverbsUserError(f'This {self.noun} is closed')
        # Another thread is freeing it, and may be refused.
        return 0

    cdef int enter(self, PyverbsCM obj) except -1:
        """
        Keep the C object until leave(), without the GIL. Waits while another thread makes or frees
        it.
        :raises PyverbsUserError: As check_open()
        """
        while self.state == LIFE_BUSY and not self.forked():
            self.wait()
        self.check_open(obj)
        self.users += 1
        return 0

    cdef int enter_to_create(self, PyverbsCM obj) except -1:
        """
        The same to make a child of it: waits for a close() of another thread, which may be refused,
        and is refused by one of this thread.
        :raises PyverbsUserError: As check_open(), or it is being closed
        """
        while self.state == LIFE_CLOSING and not self.forked():
            if self.closer == PyThread_get_thread_ident():
                raise PyverbsUserError(f'This {self.noun} is being closed')
            self.wait()
        return self.enter(obj)

    cdef int leave(self) except -1:
        self.users -= 1
        if not self.users:
            self.wake()
        return 0

    # ---- closing

    cdef bint begin_close(self) except -1:
        """
        Have the closing of it alone. Children may be closed until begin_release(): the C object is
        there, and can be used.
        :return: False: there is nothing to close, another thread closed it meanwhile, or this
                 thread is at it further up
        """
        cdef unsigned long me = PyThread_get_thread_ident()
        if self.forked():
            return False
        while self.state == LIFE_BUSY or self.state == LIFE_CLOSING and self.closer != me:
            self.wait()
        if self.state != LIFE_OPEN:
            return False
        self.closer = me
        self.state = LIFE_CLOSING
        return True

    cdef int begin_release(self) except -1:
        """
        Wait for the last user, and have the C object alone. Until end_close() there must be nothing
        but C.
        """
        self.state = LIFE_BUSY
        while self.users:
            self.wait()
        return 0

    cdef int end_close(self, PyverbsCM obj, int rc) except -1:
        """
        :param rc: 0, or why it was refused: then it is open as before, and its parent knows it
        """
        if rc:
            self.state = LIFE_OPEN
            self.wake()
            # A parent that closes has taken it out of its ring.
            if self.place.after == NULL:
                self.siblings.join(&self.place, obj)
            return 0
        self.state = LIFE_CLOSED
        self.wake()
        self.leave_siblings()
        self.context = None
        return 0

    cdef int dropped(self, PyverbsCM obj) except -1:
        """
        For __del__: close it while everything that it refers to is there, which in a cycle is not
        so later.
        """
        if self.state == LIFE_OPEN and not self.forked():
            try:
                obj.close()
            except Exception:
                # What is in the way may be in the same cycle, and gone when __dealloc__ tries
                # again.
                pass
        return 0

    cdef bint end_unseen(self):
        """
        For __dealloc__, where nobody is left to tell.
        :return: Whether there is a C object that is ours to free: __del__ did not run, or was
                 refused
        """
        cdef bint left = (self.state == LIFE_OPEN
                          or self.state == LIFE_CLOSING) and not self.forked()
        # First: from here on it has a reference again, as long as it is freed.
        leave_ring(&self.place)
        self.state = LIFE_CLOSED
        return left

    cdef int leaked(self) except -1:
        """
        Say that __dealloc__ was refused too. The kernel frees it when the context is closed; memory
        that the device may write to until then is never freed.
        """
        warnings.warn(f'A {self.noun} was dropped while something on the device still uses it: '
                      f'close that first, then it. It stays there until its context is closed, '
                      f'and its memory until the process ends', ResourceWarning)
        return 0

    # ---- asking

    cdef bint forked(self):
        return self.generation != lifetime_forks

    cdef bint orphaned(self):
        """Whether its context was closed underneath it: the library's handle died with that."""
        return (self.state == LIFE_OPEN or self.state == LIFE_CLOSING) and not self.forked() and \
            self.gone()

    cdef bint gone(self):
        """Whether the context was closed, whatever the state of the object."""
        return self.context is None or self.context.context != self.owner

    cdef bint closed(self):
        """Whether there is nothing to use: closed, never made, the parent's after fork(), or its
        context is gone."""
        return self.state == LIFE_NEW or self.state == LIFE_CLOSED or self.forked() or \
            self.orphaned()

    # ---- waiting

    cdef int wait(self) except -1:
        # Whoever changes the state rings afterwards, and needs the GIL for both: what is heard here
        # cannot be stale. The bell is one for all, so that a waiter may wake for another's sake,
        # and looks at the state again.
        cdef unsigned int heard = lifetime_bell_count
        self.awaited = True
        with nogil:
            lifetime_await(heard)
        return 0

    cdef int wake(self) except -1:
        if self.awaited:
            self.awaited = False
            lifetime_ring()
        return 0


@cython.no_gc_clear
@cython.final
cdef class ContextUse(PyverbsCM):
    """A question to a context without the GIL: as its child, it makes the context's close() wait
    for the answer."""

    def __cinit__(self):
        self.life = new_life('question')

    cdef v.ibv_context *begin(self, Context context) except NULL:
        """
        Nothing but C until end().
        :return: The context, open
        :raises PyverbsUserError: It is closed, or being closed
        """
        self.life.begin_create(self, context, dms_of(context))
        return self.life.owner

    cdef int end(self) except -1:
        return self.life.end_create(self, False)

    cpdef close(self):
        """Wait for the answer: what the context's close() calls."""
        self.life.begin_close()


cdef Lifetime new_life(str noun):
    """
    :param noun: What the object is called in texts
    :return: A life that begins; the object that has it calls the rest
    """
    cdef Lifetime life = Lifetime.__new__(Lifetime)
    life.noun = noun
    return life


cdef int log_closing(logger, str what) except -1:
    """
    :param logger: The object's, None if its __init__ did not run
    :param what: What to say at level DEBUG, as pyverbs' classes do
    """
    if logger is not None:
        logger.debug(what)
    return 0
