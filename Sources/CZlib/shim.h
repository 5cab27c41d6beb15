// zlib, as it is: crc32 and, for reading gzip members, inflate.
#pragma once
#include <zlib.h>

// `inflateInit2` is a macro that passes zlib's version and the stream's size; Swift does not import macros with arguments.
static inline int inventoryfs_inflateInit2(z_streamp stream, int windowBits) {
  return inflateInit2(stream, windowBits);
}
