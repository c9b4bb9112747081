// XXH3's loop with the sixteen keys of a block in registers.
//
// Sums are added up in an order of our own, since addition does not care: the products of a block in two chains and the
// data in two more, which are swapped once for the whole block instead of at every stripe. So a block waits for its
// own scrambling only, and a stripe costs five instructions. The empty asm statements keep the compiler from undoing
// this by loading data twice and adding everything to one register.
#include <immintrin.h>

#include "native/hash/xxh3_kernel.h"

namespace ostraka::hash {

namespace {

constexpr int kStripes = 16;

inline __m512i Load(const void* from) { return _mm512_loadu_si512(from); }

inline __m512i SwapPairs(__m512i value) {
  return _mm512_shuffle_epi32(value, static_cast<_MM_PERM_ENUM>(_MM_SHUFFLE(1, 0, 3, 2)));
}

inline __m512i Product(__m512i data, __m512i key) {
  const __m512i mixed = _mm512_xor_si512(data, key);
  return _mm512_mul_epu32(mixed, _mm512_srli_epi64(mixed, 32));
}

inline __m512i Scramble(__m512i sums, __m512i key) {
  const __m512i prime = _mm512_set1_epi32(static_cast<int>(0x9E3779B1));
  const __m512i mixed = _mm512_ternarylogic_epi64(sums, _mm512_srli_epi64(sums, 47), key, 0x96);
  const __m512i high = _mm512_mul_epu32(_mm512_srli_epi64(mixed, 32), prime);
  return _mm512_add_epi64(_mm512_mul_epu32(mixed, prime), _mm512_slli_epi64(high, 32));
}

// keys[i] gets the 64 bytes of the secret from 8 * i on, without loads that cross cache lines.
template <int kFrom>
inline __attribute__((always_inline)) void ShiftKeys(const __m512i* thirds, __m512i* keys) {
  if constexpr (kFrom < 8) {
    keys[kFrom] = _mm512_alignr_epi64(thirds[1], thirds[0], kFrom);
    keys[8 + kFrom] = _mm512_alignr_epi64(thirds[2], thirds[1], kFrom);
    asm("" : "+v"(keys[kFrom]), "+v"(keys[8 + kFrom]));
    ShiftKeys<kFrom + 1>(thirds, keys);
  }
}

template <bool kFetch>
inline __attribute__((always_inline)) void Blocks(uint64_t* sums, const uint8_t* secret, const uint8_t* data,
                                                  size_t blocks, size_t ahead) {
  const __m512i thirds[3] = {Load(secret), Load(secret + 64), Load(secret + 128)};
  __m512i keys[kStripes];
  ShiftKeys<0>(thirds, keys);
  __m512i sum = Load(sums);
  for (; blocks > 0; blocks--, data += kXxh3Block) {
    __m512i products[2] = {}, plain[2] = {};
#pragma GCC unroll 16
    for (int i = 0; i < kStripes; i++) {
      if constexpr (kFetch) _mm_prefetch(data + ahead + kXxh3Stripe * i, _MM_HINT_T0);
      __m512i stripe = Load(data + kXxh3Stripe * i);
      asm("" : "+v"(stripe));
      products[i % 2] = _mm512_add_epi64(products[i % 2], Product(stripe, keys[i]));
      plain[i % 2] = _mm512_add_epi64(plain[i % 2], stripe);
      asm("" : "+v"(products[i % 2]), "+v"(plain[i % 2]));
    }
    __m512i all = _mm512_add_epi64(SwapPairs(_mm512_add_epi64(plain[0], plain[1])),
                                   _mm512_add_epi64(products[0], products[1]));
    asm("" : "+v"(all));
    sum = Scramble(_mm512_add_epi64(sum, all), thirds[2]);
  }
  _mm512_storeu_si512(sums, sum);
}

}  // namespace

void Xxh3BeginAvx512(uint64_t sums[8], uint8_t secret[kXxh3Secret], const uint64_t begin[8],
                     const uint64_t plain[kXxh3Secret / 8], uint64_t seed) {
  const __m512i added = _mm512_set1_epi64(static_cast<long long>(seed));
  const __m512i change = _mm512_mask_sub_epi64(added, 0xaa, _mm512_setzero_si512(), added);
  _mm512_storeu_si512(sums, Load(begin));
  for (size_t i = 0; i < kXxh3Secret / 64; i++) {
    _mm512_storeu_si512(secret + 64 * i, _mm512_add_epi64(Load(plain + 8 * i), change));
  }
}

void Xxh3BlocksAvx512(uint64_t sums[8], const uint8_t secret[kXxh3Secret], const uint8_t* data, size_t blocks,
                      size_t ahead) {
  if (ahead > 0) return Blocks<true>(sums, secret, data, blocks, ahead);
  Blocks<false>(sums, secret, data, blocks, 0);
}

void Xxh3StripesAvx512(uint64_t sums[8], const uint8_t* keys, const uint8_t* data, size_t stripes) {
  __m512i sum = Load(sums);
  for (size_t i = 0; i < stripes; i++) {
    const __m512i stripe = Load(data + kXxh3Stripe * i);
    sum = _mm512_add_epi64(sum, _mm512_add_epi64(SwapPairs(stripe), Product(stripe, Load(keys + 8 * i))));
  }
  _mm512_storeu_si512(sums, sum);
}

}  // namespace ostraka::hash
