// A region of the shard index for tests, and one attached view of it.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "native/index/shard_index.h"

struct FreeMemory {
  void operator()(void* memory) const { std::free(memory); }
};

/// The memory is zero, as shared memory is.
struct Region {
  explicit Region(uint64_t max_entries, ostraka::index::Form form = ostraka::index::Form::kIds)
      : bytes((ostraka::index::ShardIndex::RegionBytes(max_entries) + 63) / 64 * 64),
        memory(std::aligned_alloc(64, bytes)) {
    std::fill_n(static_cast<uint8_t*>(memory.get()), bytes, uint8_t{0});
    REQUIRE(ostraka::index::ShardIndex::Format(memory.get(), bytes, max_entries, form));
    REQUIRE(index.Attach(memory.get(), bytes));
  }
  size_t bytes;
  std::unique_ptr<void, FreeMemory> memory;
  ostraka::index::ShardIndex index;
};
