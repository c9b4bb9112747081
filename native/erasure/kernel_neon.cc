// 16 bytes at a time by table lookups in NEON registers.
#include <arm_neon.h>

#include "native/erasure/lane_loop.h"
#include "native/erasure/nibble_tables.h"

namespace ostraka::erasure {

namespace {

struct HalvesNeon {
  uint8x16_t low, high;
};

struct Neon {
  using Register = uint8x16_t;
  using Source = HalvesNeon;
  using Entry = NibbleTables;
  static constexpr size_t kBytes = 16;
  static constexpr int kMaxRows = 6;
  static constexpr int VectorsOf(int rows) { return rows <= 4 ? 2 : 1; }

  static Register Load(const uint8_t* from) { return vld1q_u8(from); }
  static void Store(uint8_t* to, Register value) { vst1q_u8(to, value); }
  static Source Split(Register value) { return {vandq_u8(value, vdupq_n_u8(15)), vshrq_n_u8(value, 4)}; }
  static Entry MakeEntry(uint8_t coefficient) { return MakeNibbleTables(coefficient); }
  static Register Multiply(const Source& source, const Entry& entry) {
    return veorq_u8(vqtbl1q_u8(Load(entry.low), source.low), vqtbl1q_u8(Load(entry.high), source.high));
  }
  static Register Add(Register sum, const Source& a, const Entry& of_a, const Source& b, const Entry& of_b) {
    return veorq_u8(veorq_u8(sum, Multiply(a, of_a)), Multiply(b, of_b));
  }
};

}  // namespace

constinit const Kernel kNeonKernel = KernelOf<Neon>("neon");

}  // namespace ostraka::erasure
