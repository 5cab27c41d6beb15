// CRC-32C (Castagnoli; RFC 3720, appendix B.4) by the processor's own instruction, which Swift has no name for.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Whether this processor has the instruction. `inventoryfs_crc32c` must not be called where it has not.
// Returns the checksum of what `crc` is the checksum of, followed by `count` bytes at `bytes`.
#if defined(__x86_64__)

static inline int inventoryfs_has_crc32c(void) { return __builtin_cpu_supports("sse4.2") ? 1 : 0; }

__attribute__((target("sse4.2")))
static inline uint32_t inventoryfs_crc32c(uint32_t crc, const uint8_t *bytes, size_t count) {
  uint64_t state = ~crc;
  for (; count >= 8; count -= 8, bytes += 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    state = __builtin_ia32_crc32di(state, word);
  }
  for (; count > 0; count--, bytes++) state = __builtin_ia32_crc32qi((uint32_t)state, *bytes);
  return ~(uint32_t)state;
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

// HWCAP_CRC32 of asm/hwcap.h.
static inline int inventoryfs_has_crc32c(void) { return (getauxval(AT_HWCAP) >> 7) & 1; }

__attribute__((target("crc")))
static inline uint32_t inventoryfs_crc32c(uint32_t crc, const uint8_t *bytes, size_t count) {
  uint32_t state = ~crc;
  for (; count >= 8; count -= 8, bytes += 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    state = __builtin_arm_crc32cd(state, word);
  }
  for (; count > 0; count--, bytes++) state = __builtin_arm_crc32cb(state, *bytes);
  return ~state;
}

#else

static inline int inventoryfs_has_crc32c(void) { return 0; }

static inline uint32_t inventoryfs_crc32c(uint32_t crc, const uint8_t *bytes, size_t count) { return 0; }

#endif
