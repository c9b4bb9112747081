// ISA-L is not cross-compiled for the tests of the arm64 kernels, which then have the portable one in its place.
#include "native/erasure/kernel.h"

namespace ostraka::erasure {

const Kernel& IsalKernel() { return PortableKernel(); }

}  // namespace ostraka::erasure
