// The loops of folding (see crc_fold.h), for registers of any width: four at a time over the message, then those into
// one, and what is left one at a time.
//
// A kernel file gives the `Fold`:
//   Register, kBytes, Load(data)
//   Constants(pair)                        the pair of constants in every 128 bits, that of the low half first
//   Step(value, constants, next)           value, moved up the message, plus next
//   MixIn(value, state)                    value with 64 bits added to its beginning
// It is compiled for another instruction set in each file, hence the unnamed namespace.
#pragma once

#include <immintrin.h>

#include "native/hash/crc_fold.h"

namespace ostraka::hash {

namespace {

struct Fold128 {
  using Register = __m128i;
  static constexpr size_t kBytes = 16;
  static Register Load(const void* data) { return _mm_loadu_si128(static_cast<const __m128i*>(data)); }
  static Register Constants(const uint64_t pair[2]) { return Load(pair); }
  static Register Step(Register value, Register constants, Register next) {
    const Register low = _mm_clmulepi64_si128(value, constants, 0x00);
    const Register high = _mm_clmulepi64_si128(value, constants, 0x11);
    return _mm_xor_si128(_mm_xor_si128(low, high), next);
  }
  static Register MixIn(Register value, uint64_t state) {
    return _mm_xor_si128(value, _mm_cvtsi64_si128(static_cast<long long>(state)));
  }
};

/// Takes in register after register from data + *done on, and counts them there.
template <typename Fold>
inline typename Fold::Register FoldRest(const uint8_t* data, size_t length, size_t* done,
                                        typename Fold::Register value, typename Fold::Register by_one) {
  for (; length - *done >= Fold::kBytes; *done += Fold::kBytes) {
    value = Fold::Step(value, by_one, Fold::Load(data + *done));
  }
  return value;
}

/// Folds all whole registers of a message of four at least into one. `by_four` and `by_one` are the constants for
/// moving a value by so many registers; *done gets the number of bytes folded.
template <typename Fold>
inline typename Fold::Register FoldMessage(const uint8_t* data, size_t length, uint64_t state, const uint64_t* by_four,
                                           const uint64_t* by_one, size_t* done) {
  const auto far = Fold::Constants(by_four);
  const auto near = Fold::Constants(by_one);
  auto a = Fold::MixIn(Fold::Load(data), state);
  auto b = Fold::Load(data + Fold::kBytes);
  auto c = Fold::Load(data + 2 * Fold::kBytes);
  auto d = Fold::Load(data + 3 * Fold::kBytes);
  size_t at = 4 * Fold::kBytes;
  for (; length - at >= 4 * Fold::kBytes; at += 4 * Fold::kBytes) {
    a = Fold::Step(a, far, Fold::Load(data + at));
    b = Fold::Step(b, far, Fold::Load(data + at + Fold::kBytes));
    c = Fold::Step(c, far, Fold::Load(data + at + 2 * Fold::kBytes));
    d = Fold::Step(d, far, Fold::Load(data + at + 3 * Fold::kBytes));
  }
  *done = at;
  a = Fold::Step(Fold::Step(Fold::Step(a, near, b), near, c), near, d);
  return FoldRest<Fold>(data, length, done, a, near);
}

}  // namespace

}  // namespace ostraka::hash
