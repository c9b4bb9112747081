// Systematic Reed-Solomon for one geometry: k data shards and m parity shards, k >= 1, m >= 0, k + m <= 16.
//
// A Code is immutable but for its cache of decode plans and may be used by any number of threads at once. Shards are
// numbered 0..k-1 (data) and k..k+m-1 (parity). All blocks of one call have the same length and may be unaligned.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "native/erasure/gf256.h"
#include "native/erasure/kernel.h"

namespace ostraka::erasure {

constexpr bool IsGeometry(int64_t k, int64_t m) { return k >= 1 && m >= 0 && k + m <= kMaxShards; }

class Code {
 public:
  /// The process-wide code for a geometry over the active kernels; IsGeometry(k, m) must hold. Never freed.
  static const Code& Get(int k, int m);

  /// A code over one kernel, or where it is null over the active ones.
  Code(int k, int m, const Kernel* kernel);

  int k() const { return k_; }
  int m() const { return m_; }

  /// Computes the m parity blocks from the k data blocks.
  void Encode(size_t length, const uint8_t* const* data, uint8_t* const* parity) const;

  /// Rebuilds the blocks of the shards in `wanted` (no shard twice) from any k blocks: blocks[s] is the block of
  /// shard s or null. out[j] receives shard wanted[j]. False, with nothing written, when fewer than k blocks are given.
  bool Reconstruct(size_t length, const uint8_t* const* blocks, const int* wanted, int wanted_count,
                   uint8_t* const* out) const;

  /// True when the m parity blocks (blocks[k..k+m-1]) are what the data blocks encode to.
  bool ParityAgrees(size_t length, const uint8_t* const* blocks) const;

 private:
  struct Encoder {
    const Kernel& kernel;
    std::vector<uint8_t> tables;
  };

  const Kernel& For(int outputs, bool far) const {
    return kernel_ != nullptr ? *kernel_ : ActiveKernel(k_, outputs, far);
  }
  Encoder MakeEncoder(bool far) const;

  const int k_;
  const int m_;
  const Kernel* const kernel_;
  const Encoder near_;
  const Encoder far_;
};

}  // namespace ostraka::erasure
