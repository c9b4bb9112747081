// Eight streams, one in each lane of 32 bits.
#include <immintrin.h>

#include "native/hash/md5_lanes.h"

namespace ostraka::hash {

namespace {

struct Lanes256 {
  using Register = __m256i;
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
};

// words[w] gets word w of the 32 bytes of every lane: a transposition of 8 x 8.
inline __attribute__((always_inline)) void LoadHalf(const uint8_t* const* data, size_t at, __m256i* words) {
  __m256i rows[8], pairs[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) rows[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data[i] + at));
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    rows[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
    rows[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
    rows[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    rows[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    words[i] = _mm256_permute2x128_si256(rows[i], rows[4 + i], 0x20);
    words[4 + i] = _mm256_permute2x128_si256(rows[i], rows[4 + i], 0x31);
  }
}

}  // namespace

void Md5LanesAvx2(uint32_t* chain, const uint8_t* const* data, size_t blocks) {
  __m256i state[4], words[16], out[4];
  for (int i = 0; i < 4; i++) state[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(chain + 8 * i));
  for (size_t block = 0; block < blocks; block++) {
    LoadHalf(data, block * 64, words);
    LoadHalf(data, block * 64 + 32, words + 8);
    Md5Steps<Lanes256>(state[0], state[1], state[2], state[3], words, out);
    for (int i = 0; i < 4; i++) state[i] = _mm256_add_epi32(state[i], out[i]);
  }
  for (int i = 0; i < 4; i++) _mm256_storeu_si256(reinterpret_cast<__m256i*>(chain + 8 * i), state[i]);
}

}  // namespace ostraka::hash
