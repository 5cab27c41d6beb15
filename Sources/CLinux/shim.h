// System calls that Swift's Glibc module lacks: it is built without _GNU_SOURCE, and Swift cannot call variadic
// functions. Defining _GNU_SOURCE here would give this module other definitions than Glibc's, so what it hides is
// declared by hand.
#pragma once
#include <errno.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <syslog.h>

// fallocate(2). Returns 0 or an errno.
int fallocate(int fd, int mode, off_t offset, off_t length);
static inline int inventoryfs_punch_hole(int fd, off_t offset, off_t length) {
  // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from linux/falloc.h.
  return fallocate(fd, 0x02 | 0x01, offset, length) == 0 ? 0 : errno;
}

// syslog(3) is variadic.
static inline void inventoryfs_syslog(int priority, const char *message) { syslog(priority, "%s", message); }

// pthread_setname_np(3).
int pthread_setname_np(pthread_t thread, const char *name);
static inline void inventoryfs_name_this_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

// umount2(2) takes its flags from an enumeration that Swift does not import as integers. Returns 0 or an errno.
static inline int inventoryfs_unmount(const char *path, int lazily) {
  return umount2(path, lazily ? MNT_DETACH : 0) == 0 ? 0 : errno;
}
