/* SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB) */
/* What lifetime.pyx needs of C: a bell on which threads wait, and a count of forks. One module
 * includes it, so that there is one of each in a process. */
#ifndef MLX5_LIFETIME_BELL_H
#define MLX5_LIFETIME_BELL_H

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

/* How often the bell was rung. Rung with the GIL held, so that whoever has the GIL may read it. */
static unsigned int lifetime_bell_count;

/* How many fork()s lie between this process and the one that loaded the module. Asking for the
 * process's number instead is a system call each time, and with it half the price of a short
 * copy. */
static unsigned int lifetime_forks;

static void lifetime_in_child(void)
{
	lifetime_forks++;
}

static void __attribute__((constructor)) lifetime_watch_forks(void)
{
	pthread_atfork(NULL, NULL, lifetime_in_child);
}

/* A futex, not a condition variable: that of glibc before 2.41 can lose a wake-up (its bug 25847),
 * and then a thread sleeps for ever. */
static inline void lifetime_ring(void)
{
	int before = errno;

	__atomic_add_fetch(&lifetime_bell_count, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &lifetime_bell_count, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
	errno = before;
}

/* Until the bell was rung more often than heard. Without the GIL: who rings has it. */
static inline void lifetime_await(unsigned int heard)
{
	int before = errno;

	while (__atomic_load_n(&lifetime_bell_count, __ATOMIC_SEQ_CST) == heard)
		syscall(SYS_futex, &lifetime_bell_count, FUTEX_WAIT_PRIVATE, heard, NULL, NULL, 0);
	errno = before;
}

#endif
