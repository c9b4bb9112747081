// Which instruction sets the kernels may use: decided once, at load.
//
// OSTRAKA_CPU in the environment forces the choice (for tests and benchmarks):
//   native     (the default) everything this CPU has; erasure coding measures its own kernel against ISA-L
//   isal       the same, but erasure coding by ISA-L alone
//   gfni512, gfni256, avx2, ssse3 (x86-64), neon (arm64)
//              the kernels of this level and nothing wider; refused where the CPU lacks it
//   portable   plain C++ everywhere
// XXH3 brings its own choice and knows native and portable only.
#pragma once

#include <string>

namespace ostraka::cpu {

enum class Level { kPortable, kSsse3, kAvx2, kGfni256, kGfni512, kNeon };

struct Choice {
  Level level = Level::kPortable;  // the widest level that may be used
  bool portable = false;           // only plain C++ kernels
  bool forced = false;             // `level` is what OSTRAKA_CPU asked for, so ISA-L may not be used
  bool isal = false;               // erasure coding by ISA-L alone
  bool pclmul = false;             // carry-less multiplication, 128 bits wide
  bool vpclmul = false;            // the same on AVX-512
  bool avx2 = false;
  bool avx512 = false;  // F, BW and VL
  std::string mistake;  // what is wrong with OSTRAKA_CPU, else empty
};

const Choice& Get();

/// What `wanted` (the value of OSTRAKA_CPU, null or empty when it is not set) makes of this CPU.
Choice Choose(const char* wanted);

/// True when this CPU can run the kernels of a level, whatever was chosen.
bool Has(Level level);

}  // namespace ostraka::cpu
