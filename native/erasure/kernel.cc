#include "native/erasure/kernel.h"

#include "native/cpu/cpu.h"

namespace ostraka::erasure {

const Kernel& ActiveKernel() {
  static const Kernel& active = cpu::Get().portable ? PortableKernel() : IsalKernel();
  return active;
}

}  // namespace ostraka::erasure
