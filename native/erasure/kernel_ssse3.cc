// 16 bytes at a time by table lookups in SSE registers.
#include <tmmintrin.h>

#include "native/erasure/lane_loop.h"
#include "native/erasure/nibble_tables.h"

namespace ostraka::erasure {

namespace {

struct Halves128 {
  __m128i low, high;
};

struct Ssse3 {
  using Register = __m128i;
  using Source = Halves128;
  using Entry = NibbleTables;
  static constexpr size_t kBytes = 16;
  static constexpr int kMaxRows = 4;
  static constexpr int VectorsOf(int rows) { return rows <= 2 ? 2 : 1; }

  static Register Load(const uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
  static void Store(uint8_t* to, Register value) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), value); }
  static Source Split(Register value) {
    const __m128i nibble = _mm_set1_epi8(15);
    return {_mm_and_si128(value, nibble), _mm_and_si128(_mm_srli_epi64(value, 4), nibble)};
  }
  static Entry MakeEntry(uint8_t coefficient) { return MakeNibbleTables(coefficient); }
  static Register Multiply(const Source& source, const Entry& entry) {
    return _mm_xor_si128(_mm_shuffle_epi8(Load(entry.low), source.low),
                         _mm_shuffle_epi8(Load(entry.high), source.high));
  }
  static Register Add(Register sum, const Source& a, const Entry& of_a, const Source& b, const Entry& of_b) {
    return _mm_xor_si128(_mm_xor_si128(sum, Multiply(a, of_a)), Multiply(b, of_b));
  }
};

}  // namespace

constinit const Kernel kSsse3Kernel = KernelOf<Ssse3>("ssse3");

}  // namespace ostraka::erasure
