// 32 bytes at a time by GFNI on AVX2, for CPUs that have the one without AVX-512.
#include <immintrin.h>

#include "native/erasure/gfni_matrix.h"
#include "native/erasure/lane_loop.h"

namespace ostraka::erasure {

namespace {

struct Gfni256 {
  using Register = __m256i;
  using Source = __m256i;
  using Entry = uint64_t;
  static constexpr size_t kBytes = 32;
  static constexpr int kMaxRows = 6;
  static constexpr int VectorsOf(int rows) { return rows <= 2 ? 4 : rows == 3 ? 3 : rows == 4 ? 2 : 1; }

  static Register Load(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static void Store(uint8_t* to, Register value) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value); }
  static Source Split(Register value) { return value; }
  static Entry MakeEntry(uint8_t coefficient) { return GfniMatrix(coefficient); }
  static Register Multiply(Source source, Entry entry) {
    return _mm256_gf2p8affine_epi64_epi8(source, _mm256_set1_epi64x(static_cast<long long>(entry)), 0);
  }
  static Register Add(Register sum, Source a, Entry of_a, Source b, Entry of_b) {
    return _mm256_xor_si256(sum, _mm256_xor_si256(Multiply(a, of_a), Multiply(b, of_b)));
  }
};

}  // namespace

constinit const Kernel kGfni256Kernel = KernelOf<Gfni256>("gfni256");

}  // namespace ostraka::erasure
