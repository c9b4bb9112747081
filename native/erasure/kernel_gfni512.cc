// 64 bytes at a time by GFNI on AVX-512.
#include <immintrin.h>

#include "native/erasure/gfni_matrix.h"
#include "native/erasure/lane_loop.h"

namespace ostraka::erasure {

namespace {

struct Gfni512 {
  using Register = __m512i;
  using Source = __m512i;
  using Entry = uint64_t;
  static constexpr size_t kBytes = 64;
  static constexpr int kMaxRows = 8;
  // One or two rows are bound by loads, for which two vectors of each block at a time measured best.
  static constexpr int VectorsOf(int rows) { return rows <= 2 ? 2 : rows <= 4 ? 4 : rows == 5 ? 3 : 2; }

  static Register Load(const uint8_t* from) { return _mm512_loadu_si512(from); }
  static void Store(uint8_t* to, Register value) { _mm512_storeu_si512(to, value); }
  static Source Split(Register value) { return value; }
  static Entry MakeEntry(uint8_t coefficient) { return GfniMatrix(coefficient); }
  static Register Multiply(Source source, Entry entry) {
    return _mm512_gf2p8affine_epi64_epi8(source, _mm512_set1_epi64(static_cast<long long>(entry)), 0);
  }
  static Register Add(Register sum, Source a, Entry of_a, Source b, Entry of_b) {
    return _mm512_ternarylogic_epi64(sum, Multiply(a, of_a), Multiply(b, of_b), 0x96);
  }
};

}  // namespace

constinit const Kernel kGfni512Kernel = KernelOf<Gfni512>("gfni512");

}  // namespace ostraka::erasure
