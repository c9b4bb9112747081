// 16 bytes at a time by table lookups in NEON registers.
#include <arm_neon.h>

#include "native/erasure/lane_loop.h"
#include "native/erasure/nibble_tables.h"

namespace ostraka::erasure {

namespace {

struct VectorNeon {
  using Register = uint8x16_t;
  static constexpr size_t kBytes = 16;
  static constexpr int kMaxRows = 6;
  static constexpr int VectorsOf(int rows) { return rows <= 4 ? 2 : 1; }

  static Register Load(const uint8_t* from) { return vld1q_u8(from); }
  static void Store(uint8_t* to, Register value) { vst1q_u8(to, value); }
  static Register Xor(Register a, Register b) { return veorq_u8(a, b); }
  static Register Low(Register value) { return vandq_u8(value, vdupq_n_u8(15)); }
  static Register High(Register value) { return vshrq_n_u8(value, 4); }
  static Register Lookup(const uint8_t* table, Register indices) { return vqtbl1q_u8(Load(table), indices); }
};

}  // namespace

constinit const Kernel kNeonKernel = KernelOf<NibbleLane<VectorNeon>>("neon");

}  // namespace ostraka::erasure
