// libfuse 3, the low-level API.
#pragma once
#define FUSE_USE_VERSION 314
#define _FILE_OFFSET_BITS 64
#include <fuse_lowlevel.h>
