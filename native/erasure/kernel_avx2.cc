// 32 bytes at a time by table lookups in AVX2 registers.
#include <immintrin.h>

#include "native/erasure/lane_loop.h"
#include "native/erasure/nibble_tables.h"

namespace ostraka::erasure {

namespace {

struct Vector256 {
  using Register = __m256i;
  static constexpr size_t kBytes = 32;
  static constexpr int kMaxRows = 4;
  static constexpr int VectorsOf(int rows) { return rows <= 2 ? 2 : 1; }

  static Register Load(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static void Store(uint8_t* to, Register value) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value); }
  static Register Xor(Register a, Register b) { return _mm256_xor_si256(a, b); }
  static Register Low(Register value) { return _mm256_and_si256(value, _mm256_set1_epi8(15)); }
  static Register High(Register value) { return Low(_mm256_srli_epi64(value, 4)); }
  // The shuffle looks up in each half of the register by itself, so the table is in both.
  static Register Lookup(const uint8_t* table, Register indices) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(half), indices);
  }
};

}  // namespace

constinit const Kernel kAvx2Kernel = KernelOf<NibbleLane<Vector256>>("avx2");

}  // namespace ostraka::erasure
