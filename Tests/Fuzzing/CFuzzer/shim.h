#pragma once
#include <stddef.h>
#include <stdint.h>

// libFuzzer's own loop, for programs that have a main (LLVM's "LibFuzzer: Using libFuzzer as a
// library"). No header of the toolchain declares it.
int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*callback)(const uint8_t *data, size_t size));
