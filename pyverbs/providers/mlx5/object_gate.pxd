# SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB)

# cython: language_level=3

"""
A gate before one C object that several threads use without the GIL: users go in and out, whoever creates or closes the
object has it alone.

Rules for callers. Between begin and end, and between enter and leave, nothing but C: no Python allocation, so no
garbage collection, whose finalizers could come back to the same gate and wait for themselves. mlx5_gate_enter and
mlx5_gate_begin_close wait for other threads, which may want the GIL: call them without it.
After fork() the gate stays shut in the child: the object is the parent's, and the mutex may have been held by a thread
that the child does not have.
"""

cdef extern from *:
    """
    #include <errno.h>
    #include <pthread.h>

    enum mlx5_gate_state {
        MLX5_GATE_NEW,      /* nothing made yet, or making it failed */
        MLX5_GATE_BUSY,     /* one thread creates or closes */
        MLX5_GATE_OPEN,
        MLX5_GATE_CLOSED,
    };

    struct mlx5_gate {
        pthread_mutex_t lock;
        pthread_cond_t changed;
        int state;
        unsigned int users;
        unsigned int generation;
    };

    /* How many fork()s lie between this process and the one that loaded the module. Asking for the process's number
     * instead is a system call each time, and with it half the price of a short copy. */
    static unsigned int mlx5_gate_generation;

    static void mlx5_gate_count_fork(void)
    {
        mlx5_gate_generation++;
    }

    static void __attribute__((constructor)) mlx5_gate_watch_forks(void)
    {
        pthread_atfork(NULL, NULL, mlx5_gate_count_fork);
    }

    static inline void mlx5_gate_init(struct mlx5_gate *g)
    {
        pthread_mutex_init(&g->lock, NULL);
        pthread_cond_init(&g->changed, NULL);
        g->state = MLX5_GATE_NEW;
        g->users = 0;
        g->generation = mlx5_gate_generation;
    }

    static inline int mlx5_gate_forked(const struct mlx5_gate *g)
    {
        return g->generation != mlx5_gate_generation;
    }

    static inline int mlx5_gate_state(const struct mlx5_gate *g)
    {
        return __atomic_load_n(&g->state, __ATOMIC_ACQUIRE);
    }

    /* 0: this thread creates. EBUSY: it has been created already. */
    static inline int mlx5_gate_begin_create(struct mlx5_gate *g)
    {
        int rc = EBUSY;

        if (mlx5_gate_forked(g)) {
            if (mlx5_gate_state(g) != MLX5_GATE_NEW)
                return EBUSY;
            /* Made by __new__ in the parent, created here: it is this process's. */
            mlx5_gate_init(g);
        }
        pthread_mutex_lock(&g->lock);
        if (g->state == MLX5_GATE_NEW) {
            __atomic_store_n(&g->state, MLX5_GATE_BUSY, __ATOMIC_RELEASE);
            rc = 0;
        }
        pthread_mutex_unlock(&g->lock);
        return rc;
    }

    /* 0: this thread closes, alone. EBADF: there is nothing to close, or it is the parent's. Waits. */
    static inline int mlx5_gate_begin_close(struct mlx5_gate *g)
    {
        int rc = EBADF;

        if (mlx5_gate_forked(g))
            return EBADF;
        pthread_mutex_lock(&g->lock);
        while (g->state == MLX5_GATE_BUSY)
            pthread_cond_wait(&g->changed, &g->lock);
        if (g->state == MLX5_GATE_OPEN) {
            __atomic_store_n(&g->state, MLX5_GATE_BUSY, __ATOMIC_RELEASE);
            while (g->users)
                pthread_cond_wait(&g->changed, &g->lock);
            rc = 0;
        }
        pthread_mutex_unlock(&g->lock);
        return rc;
    }

    /* The same in steps, for objects that are also used with the GIL held and outside of the gate: whoever has the GIL and
     * sees the gate open has the object until it gives up the GIL, as the first step is taken with the GIL. Then, without
     * it, mlx5_gate_drain. EBUSY: another thread creates or closes; mlx5_gate_settle, without the GIL, and try again. */
    static inline int mlx5_gate_try_close(struct mlx5_gate *g)
    {
        int rc = EBADF;

        if (mlx5_gate_forked(g))
            return EBADF;
        pthread_mutex_lock(&g->lock);
        if (g->state == MLX5_GATE_OPEN) {
            __atomic_store_n(&g->state, MLX5_GATE_BUSY, __ATOMIC_RELEASE);
            rc = 0;
        } else if (g->state == MLX5_GATE_BUSY) {
            rc = EBUSY;
        }
        pthread_mutex_unlock(&g->lock);
        return rc;
    }

    static inline void mlx5_gate_drain(struct mlx5_gate *g)
    {
        pthread_mutex_lock(&g->lock);
        while (g->users)
            pthread_cond_wait(&g->changed, &g->lock);
        pthread_mutex_unlock(&g->lock);
    }

    static inline void mlx5_gate_settle(struct mlx5_gate *g)
    {
        pthread_mutex_lock(&g->lock);
        while (g->state == MLX5_GATE_BUSY)
            pthread_cond_wait(&g->changed, &g->lock);
        pthread_mutex_unlock(&g->lock);
    }

    /* Ends either of the above. */
    static inline void mlx5_gate_end(struct mlx5_gate *g, int state)
    {
        pthread_mutex_lock(&g->lock);
        __atomic_store_n(&g->state, state, __ATOMIC_RELEASE);
        pthread_cond_broadcast(&g->changed);
        pthread_mutex_unlock(&g->lock);
    }

    /* 0: in, the object stays until leave. EBADF: closed. EBUSY: would have to wait, only if asked not to. */
    static inline int mlx5_gate_enter(struct mlx5_gate *g, int wait)
    {
        int rc = EBADF;

        if (mlx5_gate_forked(g))
            return EBADF;
        pthread_mutex_lock(&g->lock);
        while (wait && g->state == MLX5_GATE_BUSY)
            pthread_cond_wait(&g->changed, &g->lock);
        if (g->state == MLX5_GATE_OPEN) {
            g->users++;
            rc = 0;
        } else if (g->state == MLX5_GATE_BUSY) {
            rc = EBUSY;
        }
        pthread_mutex_unlock(&g->lock);
        return rc;
    }

    static inline void mlx5_gate_leave(struct mlx5_gate *g)
    {
        pthread_mutex_lock(&g->lock);
        if (--g->users == 0)
            pthread_cond_broadcast(&g->changed);
        pthread_mutex_unlock(&g->lock);
    }

    /* No other thread can reach the object any more: nothing to wait for, and after fork() no lock to take. */
    static inline void mlx5_gate_abandon(struct mlx5_gate *g)
    {
        __atomic_store_n(&g->state, MLX5_GATE_CLOSED, __ATOMIC_RELEASE);
    }
    """
    enum: MLX5_GATE_NEW
    enum: MLX5_GATE_BUSY
    enum: MLX5_GATE_OPEN
    enum: MLX5_GATE_CLOSED

    cdef struct mlx5_gate:
        pass

    void mlx5_gate_init(mlx5_gate *gate) nogil
    bint mlx5_gate_forked(const mlx5_gate *gate) nogil
    int mlx5_gate_state(const mlx5_gate *gate) nogil
    int mlx5_gate_begin_create(mlx5_gate *gate) nogil
    int mlx5_gate_begin_close(mlx5_gate *gate) nogil
    int mlx5_gate_try_close(mlx5_gate *gate) nogil
    void mlx5_gate_drain(mlx5_gate *gate) nogil
    void mlx5_gate_settle(mlx5_gate *gate) nogil
    void mlx5_gate_end(mlx5_gate *gate, int state) nogil
    int mlx5_gate_enter(mlx5_gate *gate, bint wait) nogil
    void mlx5_gate_leave(mlx5_gate *gate) nogil
    void mlx5_gate_abandon(mlx5_gate *gate) nogil
