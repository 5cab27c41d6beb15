// libfuse 3, the low-level API. Without _FILE_OFFSET_BITS, which would give this module other types
// than Glibc's; on the 64-bit systems that we build for, off_t has 64 bits anyway, and libfuse's
// header insists on it.
#pragma once
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

// fuse_session_custom_io.
#if FUSE_VERSION < FUSE_MAKE_VERSION(3, 13)
#error "inventoryfs needs libfuse 3.13 or newer: Debian 12, Ubuntu 24.04 and later have it"
#endif
