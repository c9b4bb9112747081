// 32 bytes at a time by GFNI on AVX2, for CPUs that have the one without AVX-512.
#include <immintrin.h>

#include "native/erasure/gfni_matrix.h"
#include "native/erasure/lane_loop.h"

namespace ostraka::erasure {

namespace {

struct Vector256 {
  using Register = __m256i;
  static constexpr size_t kBytes = 32;
  static constexpr int kMaxRows = 6;
  static constexpr int VectorsOf(int rows) { return rows <= 2 ? 4 : rows == 3 ? 3 : rows == 4 ? 2 : 1; }

  static Register Load(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }
  static void Store(uint8_t* to, Register value) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), value); }
  static Register Affine(Register value, uint64_t matrix) {
    return _mm256_gf2p8affine_epi64_epi8(value, _mm256_set1_epi64x(static_cast<long long>(matrix)), 0);
  }
  static Register Xor3(Register a, Register b, Register c) { return _mm256_xor_si256(a, _mm256_xor_si256(b, c)); }
};

}  // namespace

constinit const Kernel kGfni256Kernel = KernelOf<GfniLane<Vector256>>("gfni256");

}  // namespace ostraka::erasure
