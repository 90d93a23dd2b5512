/* SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB) */
/* What lifetime.pyx needs of C: a bell on which threads wait, and a count of forks. One module
 * includes it, so that there is one of each in a process. */
#ifndef MLX5_LIFETIME_BELL_H
#define MLX5_LIFETIME_BELL_H

#include <pthread.h>

static pthread_mutex_t lifetime_bell_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t lifetime_bell_rung = PTHREAD_COND_INITIALIZER;

/* How often the bell was rung. Rung with the GIL held, so that whoever has the GIL may read it. */
static unsigned int lifetime_bell_count;

/* How many fork()s lie between this process and the one that loaded the module. Asking for the
 * process's number instead is a system call each time, and with it half the price of a short
 * copy. */
static unsigned int lifetime_forks;

static void lifetime_in_child(void)
{
	lifetime_forks++;
	/* A thread that the child does not have may have held the lock. */
	pthread_mutex_init(&lifetime_bell_lock, NULL);
	pthread_cond_init(&lifetime_bell_rung, NULL);
}

static void __attribute__((constructor)) lifetime_watch_forks(void)
{
	pthread_atfork(NULL, NULL, lifetime_in_child);
}

static inline void lifetime_ring(void)
{
	pthread_mutex_lock(&lifetime_bell_lock);
	lifetime_bell_count++;
	pthread_cond_broadcast(&lifetime_bell_rung);
	pthread_mutex_unlock(&lifetime_bell_lock);
}

/* Until the bell was rung more often than heard. Without the GIL: who rings has it. */
static inline void lifetime_await(unsigned int heard)
{
	pthread_mutex_lock(&lifetime_bell_lock);
	while (lifetime_bell_count == heard)
		pthread_cond_wait(&lifetime_bell_rung, &lifetime_bell_lock);
	pthread_mutex_unlock(&lifetime_bell_lock);
}

#endif
