# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3

from cpython.object cimport PyObject

from pyverbs.base cimport PyverbsCM
from pyverbs.device cimport Context
cimport pyverbs.libibverbs as v

cdef enum:
    LIFE_NEW        # nothing made yet, or making it failed
    LIFE_BUSY       # one thread makes or frees the C object: no Python runs in it
    LIFE_OPEN
    LIFE_CLOSING    # one thread closes children: any Python may run, the C object is there
    LIFE_CLOSED


cdef class Family:
    cdef bint closing


# A place in the ring of a parent's children.
cdef struct Place:
    Place *before
    Place *after
    PyObject *whose     # borrowed: it leaves the ring before it is freed


cdef class Children:
    cdef Place ring
    cdef dict refs
    cdef Py_ssize_t enough
    cdef Family family

    cdef void join(self, Place *place, obj)
    cdef list ours(self)


cdef class Lifetime:
    cdef int state
    cdef unsigned int users
    cdef unsigned int generation
    cdef const unsigned int *forks
    cdef bint awaited
    cdef unsigned long closer
    cdef str noun
    cdef v.ibv_context *owner
    cdef Context context
    cdef Children siblings
    cdef Place place

    cdef void leave_siblings(self)
    cdef int begin_create(self, PyverbsCM obj, Context context, Children siblings) except -1
    cdef int end_create(self, PyverbsCM obj, bint made) except -1
    cdef int check_open(self, PyverbsCM obj) except -1
    cdef int enter(self, PyverbsCM obj) except -1
    cdef int enter_to_create(self, PyverbsCM obj) except -1
    cdef int leave(self) except -1
    cdef bint begin_close(self) except -1
    cdef int begin_release(self) except -1
    cdef int end_close(self, PyverbsCM obj, int rc) except -1
    cdef int dropped(self, PyverbsCM obj) except -1
    cdef bint end_unseen(self)
    cdef int leaked(self) except -1
    cdef bint forked(self)
    cdef bint orphaned(self)
    cdef bint gone(self)
    cdef bint closed(self)
    cdef int wait(self) except -1
    cdef int wake(self) except -1


cdef class ContextUse(PyverbsCM):
    cdef Lifetime life
    cdef v.ibv_context *begin(self, Context context) except NULL
    cdef int end(self) except -1
    cpdef close(self)


# Whether there is a C object that can be used now. With the GIL held it stays so until the GIL is
# given up.
cdef inline bint life_usable(Lifetime life):
    return (life.state == LIFE_OPEN
            or life.state == LIFE_CLOSING) and life.generation == life.forks[0] and \
        life.context.context == life.owner


# The same for a method: Lifetime.check_open() says why not.
cdef inline int check_life(Lifetime life, PyverbsCM obj) except -1:
    return 0 if life_usable(life) else life.check_open(obj)


cdef Children dms_of(Context context)
cdef Children umems_of(Context context)
cdef Lifetime new_life(str noun)
cdef int log_closing(logger, str what) except -1
