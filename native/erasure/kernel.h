// The inner loop of Reed-Solomon, behind a table of functions so that each instruction set can bring its own.
//
// A kernel multiplies a matrix of GF(2^8) coefficients with a column of equally long byte blocks:
//   out[r][i] = sum over c of coefficients[r * inputs + c] * in[c][i]
// Its `prepare` turns the coefficients into tables in a form of its own; tables of one kernel mean nothing to another.
// Blocks need no alignment. Outputs must not overlap inputs or each other. All functions are safe in any thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ostraka::cpu {
enum class Level;
}

namespace ostraka::erasure {

struct Kernel {
  const char* name;
  /// Bytes of prepared tables for each coefficient.
  size_t table_bytes;
  void (*prepare)(int inputs, int outputs, const uint8_t* coefficients, uint8_t* tables);
  void (*multiply)(size_t length, int inputs, int outputs, const uint8_t* tables, const uint8_t* const* in,
                   uint8_t* const* out);
};

/// The slow reference: plain C++, one product table row per coefficient.
const Kernel& PortableKernel();

/// ISA-L, which picks the widest instruction set that the CPU has by itself.
const Kernel& IsalKernel();

#if defined(__x86_64__)
// Only to be called on a CPU that has the instruction set; each file says which that is.
extern const Kernel kSsse3Kernel;
extern const Kernel kAvx2Kernel;
extern const Kernel kGfni256Kernel;
extern const Kernel kGfni512Kernel;
#elif defined(__aarch64__)
extern const Kernel kNeonKernel;
#endif

/// The kernel of one level (see native/cpu/cpu.h), which the CPU must have.
const Kernel& KernelOfLevel(cpu::Level level);

/// The kernel that this process uses to make `outputs` blocks (0 to kMaxShards) of `inputs` (1 to kMaxShards). By
/// default the one that is faster on this CPU, of its own widest kernel and ISA-L: measured once for each shape that
/// the process comes to use, for blocks that a second-level cache can hold together and for those that it cannot
/// (`far`). All kernels give the same bytes.
const Kernel& ActiveKernel(int inputs, int outputs, bool far = false);

/// True for blocks of so many bytes altogether that they count as far.
constexpr bool IsFar(size_t total) { return total > size_t{1} << 20; }

}  // namespace ostraka::erasure
