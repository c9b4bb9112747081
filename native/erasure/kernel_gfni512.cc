// 64 bytes at a time by GFNI on AVX-512.
#include <immintrin.h>

#include "native/erasure/gfni_matrix.h"
#include "native/erasure/lane_loop.h"

namespace ostraka::erasure {

namespace {

struct Vector512 {
  using Register = __m512i;
  static constexpr size_t kBytes = 64;
  static constexpr int kMaxRows = 8;
  // One or two rows are bound by loads, for which two vectors of each block at a time measured best.
  static constexpr int VectorsOf(int rows) { return rows <= 2 ? 2 : rows <= 4 ? 4 : rows == 5 ? 3 : 2; }

  static Register Load(const uint8_t* from) { return _mm512_loadu_si512(from); }
  static void Store(uint8_t* to, Register value) { _mm512_storeu_si512(to, value); }
  static Register Affine(Register value, uint64_t matrix) {
    return _mm512_gf2p8affine_epi64_epi8(value, _mm512_set1_epi64(static_cast<long long>(matrix)), 0);
  }
  static Register Xor3(Register a, Register b, Register c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
};

}  // namespace

constinit const Kernel kGfni512Kernel = KernelOf<GfniLane<Vector512>>("gfni512");

}  // namespace ostraka::erasure
