// The inner loop of Reed-Solomon, behind a table of functions so that each instruction set can bring its own.
//
// A kernel multiplies a matrix of GF(2^8) coefficients with a column of equally long byte blocks:
//   out[r][i] = sum over c of coefficients[r * inputs + c] * in[c][i]
// Its `prepare` turns the coefficients into tables in a form of its own; tables of one kernel mean nothing to another.
// Blocks need no alignment. Outputs must not overlap inputs or each other. All functions are safe in any thread.
#pragma once

#include <cstddef>
#include <cstdint>

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

/// The kernel chosen for this process (see native/cpu/cpu.h).
const Kernel& ActiveKernel();

}  // namespace ostraka::erasure
