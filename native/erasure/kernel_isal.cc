#include <erasure_code.h>

#include <algorithm>
#include <cstring>
#include <mutex>

#include "native/erasure/gf256.h"
#include "native/erasure/kernel.h"

namespace ostraka::erasure {

namespace {

// ISA-L takes lengths as int; longer blocks are done in pieces.
constexpr size_t kPieceBytes = size_t{1} << 30;

// ISA-L 2.31.1's kernel for five outputs on AVX-512 with GFNI reads (and ignores) bytes 40-47 of the first output
// even when the output is shorter than that. Outputs shorter than this therefore go through memory of our own.
constexpr size_t kShortBytes = 64;

// ISA-L's functions take non-const pointers, but only write to the tables (prepare) and the outputs (multiply).
void Prepare(int inputs, int outputs, const uint8_t* coefficients, uint8_t* tables) {
  ec_init_tables(inputs, outputs, const_cast<uint8_t*>(coefficients), tables);
}

void MultiplyBlocks(size_t length, int inputs, int outputs, const uint8_t* tables, const uint8_t* const* in,
                    uint8_t* const* out) {
  if (outputs == 0) return;
  uint8_t* sources[kMaxShards];
  uint8_t* targets[kMaxShards];
  for (size_t start = 0; start < length; start += kPieceBytes) {
    const size_t piece = std::min(kPieceBytes, length - start);
    const bool is_short = piece < kShortBytes;
    uint8_t room[kMaxShards][kShortBytes];
    for (int i = 0; i < inputs; i++) sources[i] = const_cast<uint8_t*>(in[i]) + start;
    for (int i = 0; i < outputs; i++) targets[i] = is_short ? room[i] : out[i] + start;
    ec_encode_data(static_cast<int>(piece), inputs, outputs, const_cast<uint8_t*>(tables), sources, targets);
    for (int i = 0; is_short && i < outputs; i++) std::memcpy(out[i] + start, room[i], piece);
  }
}

// ISA-L resolves each function at its first call by writing a pointer without any lock: let that happen once, here,
// before any thread can use the kernel.
void Resolve() {
  uint8_t coefficient = 1;
  uint8_t tables[32];
  uint8_t block[64] = {};
  uint8_t result[64];
  const uint8_t* in[1] = {block};
  uint8_t* out[1] = {result};
  Prepare(1, 1, &coefficient, tables);
  MultiplyBlocks(sizeof block, 1, 1, tables, in, out);
}

}  // namespace

const Kernel& IsalKernel() {
  static const Kernel kernel{"isal", 32, Prepare, MultiplyBlocks};
  static std::once_flag resolved;
  std::call_once(resolved, Resolve);
  return kernel;
}

}  // namespace ostraka::erasure
