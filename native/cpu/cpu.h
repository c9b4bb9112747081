// Which instruction sets the kernels may use: decided once, at load.
//
// OSTRAKA_CPU in the environment forces the choice (for tests and benchmarks):
//   native     (the default) everything this CPU has
//   portable   plain C++ everywhere
#pragma once

namespace ostraka::cpu {

struct Choice {
  bool portable;         // only plain C++ kernels
  bool pclmul;           // carry-less multiplication
  const char* mistaken;  // the value of OSTRAKA_CPU when it is not one of the above, else null
};

const Choice& Get();

}  // namespace ostraka::cpu
