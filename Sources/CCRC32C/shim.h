// CRC-32C (Castagnoli; RFC 3720, appendix B.4) by the processor's own instruction, which Swift has
// no name for.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)

static inline int inventoryfs_has_crc32c(void) { return __builtin_cpu_supports("sse4.2") ? 1 : 0; }
#define INVENTORYFS_CRC32C_FUNCTION __attribute__((target("sse4.2"))) static inline
#define INVENTORYFS_CRC32C_WORD(state, word) ((uint32_t)__builtin_ia32_crc32di(state, word))
#define INVENTORYFS_CRC32C_BYTE(state, byte) __builtin_ia32_crc32qi(state, byte)

#elif defined(__aarch64__)
#include <sys/auxv.h>

// HWCAP_CRC32 of asm/hwcap.h.
static inline int inventoryfs_has_crc32c(void) { return (getauxval(AT_HWCAP) >> 7) & 1; }
#define INVENTORYFS_CRC32C_FUNCTION __attribute__((target("crc"))) static inline
#define INVENTORYFS_CRC32C_WORD(state, word) __builtin_arm_crc32cd(state, word)
#define INVENTORYFS_CRC32C_BYTE(state, byte) __builtin_arm_crc32cb(state, byte)

#else

static inline int inventoryfs_has_crc32c(void) { return 0; }
#define INVENTORYFS_CRC32C_FUNCTION static inline
#define INVENTORYFS_CRC32C_WORD(state, word) (state)
#define INVENTORYFS_CRC32C_BYTE(state, byte) (state)

#endif

// The checksum of what `crc` is the checksum of, followed by `count` bytes at `bytes`. Must not be
// called on a processor that has no instruction for it (`inventoryfs_has_crc32c`).
INVENTORYFS_CRC32C_FUNCTION uint32_t inventoryfs_crc32c(uint32_t crc, const uint8_t *bytes, size_t count) {
  uint32_t state = ~crc;
  for (; count >= 8; count -= 8, bytes += 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    state = INVENTORYFS_CRC32C_WORD(state, word);
  }
  for (; count > 0; count--, bytes++) state = INVENTORYFS_CRC32C_BYTE(state, *bytes);
  return ~state;
}
