// 16 bytes at a time by table lookups in SSE registers.
#include <tmmintrin.h>

#include "native/erasure/lane_loop.h"
#include "native/erasure/nibble_tables.h"

namespace ostraka::erasure {

namespace {

struct Vector128 {
  using Register = __m128i;
  static constexpr size_t kBytes = 16;
  static constexpr int kMaxRows = 4;
  static constexpr int VectorsOf(int rows) { return rows <= 2 ? 2 : 1; }

  static Register Load(const uint8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); }
  static void Store(uint8_t* to, Register value) { _mm_storeu_si128(reinterpret_cast<__m128i*>(to), value); }
  static Register Xor(Register a, Register b) { return _mm_xor_si128(a, b); }
  static Register Low(Register value) { return _mm_and_si128(value, _mm_set1_epi8(15)); }
  static Register High(Register value) { return Low(_mm_srli_epi64(value, 4)); }
  static Register Lookup(const uint8_t* table, Register indices) { return _mm_shuffle_epi8(Load(table), indices); }
};

}  // namespace

constinit const Kernel kSsse3Kernel = KernelOf<NibbleLane<Vector128>>("ssse3");

}  // namespace ostraka::erasure
