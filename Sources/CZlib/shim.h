// zlib, as it is, for crc32.
#pragma once
#include <zlib.h>
