// System calls that Swift's Glibc module lacks: it is built without _GNU_SOURCE, and Swift cannot
// call variadic functions. Defining _GNU_SOURCE here would give this module other definitions than
// Glibc's, so what it hides is declared by hand.
#pragma once
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <syslog.h>
#include <unistd.h>

// statfs(2) fills a structure whose name Swift takes for the function. Whether a path is on a file
// system that is itself stacked on another: overlayfs or ecryptfs (linux/magic.h).
static inline int inventoryfs_is_on_stacked(const char *path) {
  struct statfs info;
  if (statfs(path, &info) != 0) return 0;
  return info.f_type == 0x794c7630 || info.f_type == 0xf15f;
}

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

// A name as long as its record, which Swift takes for 256 bytes. Valid until the next readdir(3).
static inline const char *inventoryfs_entry_name(const struct dirent *entry) { return entry->d_name; }

// posix_spawn_file_actions_addchdir_np(3) and posix_spawn_file_actions_addclosefrom_np(3).
int posix_spawn_file_actions_addchdir_np(posix_spawn_file_actions_t *actions, const char *path);
static inline void inventoryfs_change_folder(posix_spawn_file_actions_t *actions, const char *path) {
  posix_spawn_file_actions_addchdir_np(actions, path);
}
int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int from);
static inline void inventoryfs_close_from(posix_spawn_file_actions_t *actions, int from) {
  posix_spawn_file_actions_addclosefrom_np(actions, from);
}

// pidfd_open(2) has no wrapper in glibc before 2.36, and syscall(2) is variadic. Returns a
// descriptor or -1.
static inline int inventoryfs_pidfd_open(pid_t pid) { return (int)syscall(SYS_pidfd_open, pid, 0); }

// umount2(2) takes its flags from an enumeration that Swift does not import as integers. A symbolic
// link is not followed: the path was resolved before. Returns 0 or an errno.
static inline int inventoryfs_unmount(const char *path, int lazily) {
  return umount2(path, UMOUNT_NOFOLLOW | (lazily ? MNT_DETACH : 0)) == 0 ? 0 : errno;
}

// memfd_create(2) is hidden. A file in memory, closed by exec; flag 1 is MFD_CLOEXEC. Returns a
// descriptor or -1.
int memfd_create(const char *name, unsigned int flags);
static inline int inventoryfs_memory_file(const char *name) { return memfd_create(name, 1); }

// mount(2) takes its flags from an enumeration too. For a mount that only reads. Returns 0 or an
// errno.
static inline int inventoryfs_mount_read_only(
    const char *source, const char *path, const char *type, const char *options) {
  unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOATIME;
  return mount(source, path, type, flags, options) == 0 ? 0 : errno;
}

// ioctl(2) is variadic. FUSE_DEV_IOC_BACKING_OPEN and _CLOSE of linux/fuse.h since 6.9, which
// Debian 12's lacks: the kernel's id for a file that it may read by itself, or an errno, negative.
struct inventoryfs_backing_file { int32_t fd; uint32_t flags; uint64_t padding; };
static inline int inventoryfs_open_backing(int device, int file) {
  struct inventoryfs_backing_file backing = { file, 0, 0 };
  int id = ioctl(device, _IOW(229, 1, struct inventoryfs_backing_file), &backing);
  return id >= 0 ? id : -errno;
}
static inline void inventoryfs_close_backing(int device, uint32_t id) {
  ioctl(device, _IOW(229, 2, uint32_t), &id);
}

// fcntl(2) is variadic, and leases are hidden. Whether a file is open or mapped by anyone but
// through this descriptor, which must be open for writing: a write lease (fcntl(2), F_SETLEASE) is
// given to the only user of a file, and is given back at once. Returns 1 or 0, or -1 where the file
// system has no leases.
static inline int inventoryfs_is_open_elsewhere(int fd) {
  // F_SETSIG, F_SETLEASE. A process that opens the file in between waits, and we would get SIGIO,
  // which ends the process; SIGURG (23) is ignored by default.
  fcntl(fd, 10, 23);
  if (fcntl(fd, 1024, F_WRLCK) != 0) return errno == EAGAIN ? 1 : -1;
  fcntl(fd, 1024, F_UNLCK);
  return 0;
}

// O_PATH and O_DIRECT of open(2) are hidden. O_DIRECT is another bit on arm64.
static const int inventoryfs_o_path = 010000000;
#if defined(__aarch64__)
static const int inventoryfs_o_direct = 0200000;
#else
static const int inventoryfs_o_direct = 040000;
#endif

// openat2(2) has no wrapper in glibc, and syscall(2) is variadic. Opens what lies beneath a folder,
// with O_CLOEXEC: neither ".." nor a link leads out of it, and no link has an absolute target.
// Returns a descriptor or an errno, negative.
static inline int inventoryfs_open_beneath(int folder, const char *path, int flags) {
  // struct open_how of linux/openat2.h, and its RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS.
  struct { uint64_t flags, mode, resolve; } how = { (uint64_t)(flags | O_CLOEXEC), 0, 0x08 | 0x02 };
  int fd = (int)syscall(SYS_openat2, folder, path, &how, sizeof how);
  return fd >= 0 ? fd : -errno;
}

// A second descriptor, closed by exec like the first. Returns -1 on failure.
static inline int inventoryfs_duplicate(int fd) { return fcntl(fd, F_DUPFD_CLOEXEC, 0); }

// malloc.h is not in Swift's Glibc. See mallopt(3).
static inline void inventoryfs_limit_malloc_arenas(int count) { mallopt(M_ARENA_MAX, count); }

// Gives memory back that was freed. See malloc_trim(3).
static inline void inventoryfs_release_freed_memory(void) { malloc_trim(0); }
