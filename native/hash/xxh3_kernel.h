// The loop of XXH3 over long inputs, eight sums of 64 bits side by side.
//
// The input is taken in stripes of 64 bytes, sixteen to a block of 1,024, with a key of 64 bytes for each stripe of a
// block: the 192 bytes of the secret, eight bytes further each time. For every pair of lanes (i, i ^ 1) a stripe adds
//   sum[i] += low32(data[i] ^ key[i]) * high32(data[i] ^ key[i]) + data[i ^ 1]
// and after a block all sums are scrambled with the last 64 bytes of the secret.
//
// This header has no C++ library in it: kernel files are compiled with flags that other CPUs lack.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace ostraka::hash {

constexpr size_t kXxh3Stripe = 64;
constexpr size_t kXxh3Block = 1024;
constexpr size_t kXxh3Secret = 192;

/// What a long input begins with: `begin` as the sums, and as its secret `plain` with the seed added to every other
/// word and taken off those between. Needs AVX-512, and writes as widely as the others read: what was written in
/// small pieces could not be read at once as a whole.
void Xxh3BeginAvx512(uint64_t sums[8], uint8_t secret[kXxh3Secret], const uint64_t begin[8],
                     const uint64_t plain[kXxh3Secret / 8], uint64_t seed);

/// Takes in `blocks` whole blocks and scrambles after each. Fetches what lies `ahead` bytes further into the cache on
/// the way, unless that is 0: addresses behind the input do no harm. Needs AVX-512.
void Xxh3BlocksAvx512(uint64_t sums[8], const uint8_t secret[kXxh3Secret], const uint8_t* data, size_t blocks,
                      size_t ahead);

/// Takes in `stripes` stripes (at most 15) with the first keys. Needs AVX-512.
void Xxh3StripesAvx512(uint64_t sums[8], const uint8_t* keys, const uint8_t* data, size_t stripes);

}  // namespace ostraka::hash
