// 32 bytes at a time by table lookups in AVX2 registers.
#include <immintrin.h>

#include "native/erasure/lane_loop.h"
#include "native/erasure/nibble_tables.h"

namespace ostraka::erasure {

namespace {

struct Halves256 {
  __m256i low, high;
};

struct Avx2 {
  using Register = __m256i;
  using Source = Halves256;
  using Entry = NibbleTables;
  static constexpr size_t kBytes = 32;
  static constexpr int kMaxRows = 4;
  static constexpr int VectorsOf(int rows) { return rows <= 2 ? 2 : 1; }

  static Register Load(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static void Store(uint8_t* to, Register value) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value); }
  static Source Split(Register value) {
    const __m256i nibble = _mm256_set1_epi8(15);
    return {_mm256_and_si256(value, nibble), _mm256_and_si256(_mm256_srli_epi64(value, 4), nibble)};
  }
  static Entry MakeEntry(uint8_t coefficient) { return MakeNibbleTables(coefficient); }
  static __m256i Table(const uint8_t* table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  }
  static Register Multiply(const Source& source, const Entry& entry) {
    return _mm256_xor_si256(_mm256_shuffle_epi8(Table(entry.low), source.low),
                            _mm256_shuffle_epi8(Table(entry.high), source.high));
  }
  static Register Add(Register sum, const Source& a, const Entry& of_a, const Source& b, const Entry& of_b) {
    return _mm256_xor_si256(_mm256_xor_si256(sum, Multiply(a, of_a)), Multiply(b, of_b));
  }
};

}  // namespace

constinit const Kernel kAvx2Kernel = KernelOf<Avx2>("avx2");

}  // namespace ostraka::erasure
