// MD5 of whole blocks in all lanes of a register. No C++ library: kernel files are compiled with flags other CPUs lack.
// chain[w * lanes + i] is chaining value w of lane i; data[i] are `blocks` blocks of 64 bytes, at least one.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace ostraka::hash {

void Md5LanesAvx512(uint32_t* chain, const uint8_t* const* data, size_t blocks);  // 16 lanes
void Md5LanesAvx2(uint32_t* chain, const uint8_t* const* data, size_t blocks);    // 8 lanes

namespace {

/// floor(2^32 * abs(sin(step + 1))), as RFC 1321 defines them.
constexpr uint32_t kMd5Sines[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};

constexpr int kMd5Shifts[4][4] = {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
constexpr int kMd5Factors[4] = {1, 5, 3, 7};
constexpr int kMd5Starts[4] = {0, 1, 5, 0};

/// Which word of the block a step takes.
constexpr int Md5Word(int step) { return (kMd5Factors[step / 16] * step + kMd5Starts[step / 16]) % 16; }

/// The 64 steps over `words`, for any type `Lane` of registers with Add, Rotate<n>, Constant and the four functions.
template <typename Lane, int kStep = 0>
inline __attribute__((always_inline)) void Md5Steps(typename Lane::Register a, typename Lane::Register b,
                                                    typename Lane::Register c, typename Lane::Register d,
                                                    const typename Lane::Register* words,
                                                    typename Lane::Register* out) {
  if constexpr (kStep == 64) {
    out[0] = a;
    out[1] = b;
    out[2] = c;
    out[3] = d;
  } else {
    // The word and the constant first: they wait for nothing.
    auto sum = Lane::Add(Lane::Add(a, words[Md5Word(kStep)]), Lane::Constant(kMd5Sines[kStep]));
    if constexpr (kStep < 16) {
      sum = Lane::Add(sum, Lane::Choose(b, c, d));
    } else if constexpr (kStep < 32) {
      sum = Lane::AddSecond(sum, b, c, d);
    } else if constexpr (kStep < 48) {
      sum = Lane::Add(sum, Lane::Parity(b, c, d));
    } else {
      sum = Lane::Add(sum, Lane::Last(b, c, d));
    }
    const auto next = Lane::Add(b, Lane::template Rotate<kMd5Shifts[kStep / 16][kStep % 4]>(sum));
    Md5Steps<Lane, kStep + 1>(d, next, b, c, words, out);
  }
}

/// The first half of turning rows into columns, four by four words: of rows 4i to 4i + 3 and each quarter of the
/// registers, row 4i + w gets word w of all four.
template <typename Lane, int kRows>
inline __attribute__((always_inline)) void Md5Quads(typename Lane::Register* rows) {
  typename Lane::Register pairs[kRows];
#pragma GCC unroll 8
  for (int i = 0; i < kRows; i += 2) {
    pairs[i] = Lane::UnpackLow32(rows[i], rows[i + 1]);
    pairs[i + 1] = Lane::UnpackHigh32(rows[i], rows[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < kRows; i += 4) {
    rows[i] = Lane::UnpackLow64(pairs[i], pairs[i + 2]);
    rows[i + 1] = Lane::UnpackHigh64(pairs[i], pairs[i + 2]);
    rows[i + 2] = Lane::UnpackLow64(pairs[i + 1], pairs[i + 3]);
    rows[i + 3] = Lane::UnpackHigh64(pairs[i + 1], pairs[i + 3]);
  }
}

/// All blocks of all lanes. Of `Lane` also kLanes, Load, Store, and LoadWords(data, at, words): words[w] gets word w of
/// the block that begins at data[i] + at, for every lane i.
template <typename Lane>
inline __attribute__((always_inline)) void Md5Lanes(uint32_t* chain, const uint8_t* const* data, size_t blocks) {
  typename Lane::Register state[4], words[16], out[4];
  for (int i = 0; i < 4; i++) state[i] = Lane::Load(chain + Lane::kLanes * i);
  for (size_t block = 0; block < blocks; block++) {
    Lane::LoadWords(data, block * 64, words);
    Md5Steps<Lane>(state[0], state[1], state[2], state[3], words, out);
    for (int i = 0; i < 4; i++) state[i] = Lane::Add(state[i], out[i]);
  }
  for (int i = 0; i < 4; i++) Lane::Store(chain + Lane::kLanes * i, state[i]);
}

}  // namespace

}  // namespace ostraka::hash
