// The loop shared by the SIMD kernels: a matrix of coefficients times blocks, some rows and some vectors at a time.
//
// A kernel file gives a `Lane`, the operations of one vector register of its instruction set:
//   Register, kBytes, Load, Store           an unaligned vector and its size
//   Entry, MakeEntry(coefficient)           what a coefficient becomes in memory
//   Source, Split(register)                 an input vector, made ready to be multiplied
//   Multiply(source, entry)                 source * coefficient
//   Add(register, source, entry, source2, entry2)   register + source * entry + source2 * entry2
//   kMaxRows, VectorsOf(rows)               rows computed together, and vectors of each, which fill the registers
// Everything is in an unnamed namespace, since each file that includes this is compiled for another instruction set.
//
// Prepared tables: groups of up to kMaxRows rows; in a group, for each input, one entry for each row.
// Ends: the last vector is moved back so that it ends with the block, and computes some bytes a second time. Blocks
// shorter than a vector go through memory of our own. So no byte outside a block is read or written.
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "native/erasure/kernel.h"

namespace ostraka::erasure {

namespace {

constexpr int kMostShards = 16;
constexpr size_t kCacheBytes = size_t{1} << 20;

// How far ahead of the loads to prefetch what does not fit into a second-level cache. One or two rows read so fast that
// the CPU's own prefetching is in time where a third-level cache holds the blocks; further ahead would get in its way.
// Where none holds them, or a stream changes its page while the others do not, it still helps.
constexpr size_t AheadOf(int rows) { return rows <= 2 ? 384 : 512; }

// kAhead: how many bytes ahead of the loads to prefetch, 0 for not at all.
template <typename Lane, int kRows, int kVectors, size_t kAhead = 0>
inline __attribute__((always_inline)) void MultiplyAt(size_t at, int inputs, const typename Lane::Entry* entries,
                                                      const uint8_t* const* in, uint8_t* const* out) {
  typename Lane::Register sum[kRows][kVectors];
  typename Lane::Source a[kVectors], b[kVectors];
  int input = inputs & 1;
  if (input != 0) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++) {
      const auto source = Lane::Split(Lane::Load(in[0] + at + static_cast<size_t>(v) * Lane::kBytes));
#pragma GCC unroll 8
      for (int row = 0; row < kRows; row++) sum[row][v] = Lane::Multiply(source, entries[row]);
    }
    entries += kRows;
  } else {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++) {
#pragma GCC unroll 8
      for (int row = 0; row < kRows; row++) sum[row][v] = typename Lane::Register{};
    }
  }
  for (; input < inputs; input += 2, entries += 2 * kRows) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++) {
      a[v] = Lane::Split(Lane::Load(in[input] + at + static_cast<size_t>(v) * Lane::kBytes));
      b[v] = Lane::Split(Lane::Load(in[input + 1] + at + static_cast<size_t>(v) * Lane::kBytes));
      if constexpr (kAhead > 0) {
        __builtin_prefetch(in[input] + at + static_cast<size_t>(v) * Lane::kBytes + kAhead);
        __builtin_prefetch(in[input + 1] + at + static_cast<size_t>(v) * Lane::kBytes + kAhead);
      }
    }
#pragma GCC unroll 8
    for (int row = 0; row < kRows; row++) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; v++) {
        sum[row][v] = Lane::Add(sum[row][v], a[v], entries[row], b[v], entries[kRows + row]);
      }
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < kRows; row++) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; v++) {
      Lane::Store(out[row] + at + static_cast<size_t>(v) * Lane::kBytes, sum[row][v]);
    }
  }
}

// length >= Lane::kBytes.
template <typename Lane, int kRows>
void MultiplyRows(size_t length, int inputs, const typename Lane::Entry* entries, const uint8_t* const* in,
                  uint8_t* const* out) {
  constexpr int kVectors = Lane::VectorsOf(kRows);
  constexpr size_t kStep = kVectors * Lane::kBytes;
  size_t at = 0;
  if (length >= 2 * kStep) {
    // Blocks lie 16 bytes behind a boundary in a slab. Stores that do not cross cache lines are worth one more vector.
    MultiplyAt<Lane, kRows, 1>(0, inputs, entries, in, out);
    at = Lane::kBytes - reinterpret_cast<uintptr_t>(out[0]) % Lane::kBytes;
  }
  // Blocks that a second-level cache can hold together are read best without prefetching, others with it.
  constexpr size_t kAhead = AheadOf(kRows);
  if (length * static_cast<size_t>(inputs + kRows) > kCacheBytes) {
    for (; at + kStep + kAhead <= length; at += kStep) {
      MultiplyAt<Lane, kRows, kVectors, kAhead>(at, inputs, entries, in, out);
    }
  }
  for (; at + kStep <= length; at += kStep) MultiplyAt<Lane, kRows, kVectors>(at, inputs, entries, in, out);
  for (; at + Lane::kBytes <= length; at += Lane::kBytes) MultiplyAt<Lane, kRows, 1>(at, inputs, entries, in, out);
  if (at < length) MultiplyAt<Lane, kRows, 1>(length - Lane::kBytes, inputs, entries, in, out);
}

template <typename Lane, int kRows>
void MultiplyGroup(int rows, size_t length, int inputs, const typename Lane::Entry* entries, const uint8_t* const* in,
                   uint8_t* const* out) {
  if constexpr (kRows > 0) {
    if (rows == kRows) return MultiplyRows<Lane, kRows>(length, inputs, entries, in, out);
    MultiplyGroup<Lane, kRows - 1>(rows, length, inputs, entries, in, out);
  }
}

// Rows are shared out evenly: 10 rows in groups of at most 8 are 5 and 5.
template <typename Lane>
int RowsOfGroup(int first, int outputs) {
  const int left = outputs - first;
  const int groups = (left + Lane::kMaxRows - 1) / Lane::kMaxRows;
  return (left + groups - 1) / groups;
}

template <typename Lane>
void PrepareEntries(int inputs, int outputs, const uint8_t* coefficients, uint8_t* tables) {
  for (int first = 0, rows; first < outputs; first += rows) {
    rows = RowsOfGroup<Lane>(first, outputs);
    for (int input = 0; input < inputs; input++) {
      for (int row = first; row < first + rows; row++) {
        const typename Lane::Entry entry = Lane::MakeEntry(coefficients[row * inputs + input]);
        memcpy(tables, &entry, sizeof entry);
        tables += sizeof entry;
      }
    }
  }
}

template <typename Lane>
void MultiplyGroups(size_t length, int inputs, int outputs, const uint8_t* tables, const uint8_t* const* in,
                    uint8_t* const* out) {
  const auto* entries = reinterpret_cast<const typename Lane::Entry*>(tables);
  for (int first = 0, rows; first < outputs; first += rows) {
    rows = RowsOfGroup<Lane>(first, outputs);
    MultiplyGroup<Lane, Lane::kMaxRows>(rows, length, inputs, entries + first * inputs, in, out + first);
  }
}

template <typename Lane>
void MultiplyLanes(size_t length, int inputs, int outputs, const uint8_t* tables, const uint8_t* const* in,
                   uint8_t* const* out) {
  if (length >= Lane::kBytes) return MultiplyGroups<Lane>(length, inputs, outputs, tables, in, out);
  if (length == 0) return;
  alignas(64) uint8_t room[kMostShards][Lane::kBytes] = {};
  alignas(64) uint8_t results[kMostShards][Lane::kBytes];
  const uint8_t* sources[kMostShards] = {};
  uint8_t* targets[kMostShards] = {};
  for (int i = 0; i < inputs; i++) sources[i] = static_cast<const uint8_t*>(memcpy(room[i], in[i], length));
  for (int i = 0; i < outputs; i++) targets[i] = results[i];
  MultiplyGroups<Lane>(Lane::kBytes, inputs, outputs, tables, sources, targets);
  for (int i = 0; i < outputs; i++) memcpy(out[i], results[i], length);
}

template <typename Lane>
constexpr Kernel KernelOf(const char* name) {
  return {name, sizeof(typename Lane::Entry), PrepareEntries<Lane>, MultiplyLanes<Lane>};
}

}  // namespace

}  // namespace ostraka::erasure
