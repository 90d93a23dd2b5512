/* SPDX-License-Identifier: (GPL-2.0 OR Linux-OpenIB) */
/* For LD_PRELOAD, in tests: fails the n-th allocation, ioctl() or mmap() that libibverbs, libmlx5
 * or a module of ours makes. The call that is failed is not made. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum { ALLOCATION, IOCTL, MMAP, KINDS };

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static int counting, failing = KINDS, nth, code;
static int counts[KINDS];

/* From here on calls are counted, and the n-th of a kind fails; no kind, none fails. */
void fault_arm(int kind, int n, int error)
{
	memset(counts, 0, sizeof(counts));
	failing = kind;
	nth = n;
	code = error;
	counting = 1;
}

void fault_disarm(void)
{
	counting = 0;
}

int fault_count(int kind)
{
	return counts[kind];
}

static int is_ours(const void *caller)
{
	static const char *const names[] = { "libmlx5", "libibverbs", "mlx5dv_devx_umem",
					     "mlx5dv_dm.", "umem_memory", "lifetime." };
	Dl_info info;
	size_t i;

	if (!dladdr(caller, &info) || !info.dli_fname)
		return 0;
	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (strstr(info.dli_fname, names[i]))
			return 1;
	return 0;
}

static int strikes(int kind, const void *caller)
{
	if (!counting || !is_ours(caller) || counts[kind]++ != nth || kind != failing)
		return 0;
	errno = code;
	return 1;
}

void *malloc(size_t size)
{
	return strikes(ALLOCATION, __builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return strikes(ALLOCATION, __builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
	return strikes(ALLOCATION, __builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}

int posix_memalign(void **made, size_t alignment, size_t size)
{
	if (strikes(ALLOCATION, __builtin_return_address(0)))
		return ENOMEM;
	*made = __libc_memalign(alignment, size);
	return *made ? 0 : ENOMEM;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list arguments;
	void *argument;

	va_start(arguments, request);
	argument = va_arg(arguments, void *);
	va_end(arguments);
	return strikes(IOCTL, __builtin_return_address(0)) ? -1 :
		(int)syscall(SYS_ioctl, fd, request, argument);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	return strikes(MMAP, __builtin_return_address(0)) ? (void *)-1 :
		(void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t length, int protection, int flags, int fd, off_t offset)
{
	return strikes(MMAP, __builtin_return_address(0)) ? (void *)-1 :
		(void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}
