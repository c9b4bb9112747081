// Eight streams, one in each lane of 32 bits.
#include <immintrin.h>

#include "native/hash/md5_lanes.h"

namespace ostraka::hash {

namespace {

struct Lanes256 {
  using Register = __m256i;
  static constexpr int kLanes = 8;
  static Register Load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static void Store(void* to, Register a) { _mm256_storeu_si256(static_cast<__m256i*>(to), a); }
  static Register UnpackLow32(Register a, Register b) { return _mm256_unpacklo_epi32(a, b); }
  static Register UnpackHigh32(Register a, Register b) { return _mm256_unpackhi_epi32(a, b); }
  static Register UnpackLow64(Register a, Register b) { return _mm256_unpacklo_epi64(a, b); }
  static Register UnpackHigh64(Register a, Register b) { return _mm256_unpackhi_epi64(a, b); }

  static Register Add(Register a, Register b) { return _mm256_add_epi32(a, b); }
  static Register Constant(uint32_t value) { return _mm256_set1_epi32(static_cast<int>(value)); }
  template <int kBits>
  static Register Rotate(Register a) {
    return _mm256_or_si256(_mm256_slli_epi32(a, kBits), _mm256_srli_epi32(a, 32 - kBits));
  }
  static Register Choose(Register b, Register c, Register d) {
    return _mm256_xor_si256(d, _mm256_and_si256(b, _mm256_xor_si256(c, d)));
  }
  // The two halves have no bit in common, so they can be added one after the other: one waits for less.
  static Register AddSecond(Register sum, Register b, Register c, Register d) {
    return Add(Add(sum, _mm256_andnot_si256(d, c)), _mm256_and_si256(d, b));
  }
  static Register Parity(Register b, Register c, Register d) { return _mm256_xor_si256(b, _mm256_xor_si256(c, d)); }
  static Register Last(Register b, Register c, Register d) {
    return _mm256_xor_si256(c, _mm256_or_si256(b, _mm256_xor_si256(d, _mm256_set1_epi32(-1))));
  }

  // Half a block at a time, a transposition of 8 x 8 words.
  static inline __attribute__((always_inline)) void LoadWords(const uint8_t* const* data, size_t at, Register* words) {
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++) {
      Register rows[8];
#pragma GCC unroll 8
      for (int i = 0; i < 8; i++) rows[i] = Load(data[i] + at + static_cast<size_t>(32 * half));
      Md5Quads<Lanes256, 8>(rows);
#pragma GCC unroll 4
      for (int i = 0; i < 4; i++) {
        words[8 * half + i] = _mm256_permute2x128_si256(rows[i], rows[4 + i], 0x20);
        words[8 * half + 4 + i] = _mm256_permute2x128_si256(rows[i], rows[4 + i], 0x31);
      }
    }
  }
};

}  // namespace

void Md5LanesAvx2(uint32_t* chain, const uint8_t* const* data, size_t blocks) {
  Md5Lanes<Lanes256>(chain, data, blocks);
}

}  // namespace ostraka::hash
