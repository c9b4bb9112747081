#include "native/erasure/code.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>

#include "native/erasure/plan_cache.h"

namespace ostraka::erasure {

namespace {

constexpr size_t kPlanLimit = 512;
constexpr size_t kCompareBytes = 4096;

// Process-wide and never destroyed: worker threads may still be encoding while the process exits.
PlanCache& Plans() {
  static PlanCache& plans = *new PlanCache(kPlanLimit);
  return plans;
}

// The coefficients that give each wanted shard from the blocks of the k `present` shards.
std::vector<uint8_t> DecodeCoefficients(int k, const int* present, const int* wanted, int wanted_count) {
  std::array<uint8_t, kMaxShards * kMaxShards> known;
  std::array<uint8_t, kMaxShards * kMaxShards> solved;
  for (int row = 0; row < k; row++) {
    for (int column = 0; column < k; column++) {
      known[row * k + column] = MatrixCoefficient(k, present[row], column);
    }
  }
  // Any k rows of the matrix are independent, so this cannot fail.
  InvertMatrix(known.data(), solved.data(), k);
  std::vector<uint8_t> coefficients(static_cast<size_t>(wanted_count * k), 0);
  for (int row = 0; row < wanted_count; row++) {
    for (int column = 0; column < k; column++) {
      uint8_t sum = 0;
      for (int i = 0; i < k; i++) {
        sum ^= Multiply(MatrixCoefficient(k, wanted[row], i), solved[i * k + column]);
      }
      coefficients[static_cast<size_t>(row * k + column)] = sum;
    }
  }
  return coefficients;
}

}  // namespace

const Code& Code::Get(int k, int m) {
  static std::array<std::atomic<const Code*>, (kMaxShards + 1) * (kMaxShards + 1)> codes{};
  static std::mutex making;
  std::atomic<const Code*>& slot = codes[static_cast<size_t>(k * (kMaxShards + 1) + m)];
  if (const Code* known = slot.load(std::memory_order_acquire)) return *known;
  const std::lock_guard<std::mutex> guard(making);
  if (slot.load(std::memory_order_relaxed) == nullptr) {
    slot.store(new Code(k, m, nullptr), std::memory_order_release);
  }
  return *slot.load(std::memory_order_relaxed);
}

Code::Code(int k, int m, const Kernel* kernel)
    : k_(k), m_(m), kernel_(kernel), near_(MakeEncoder(false)), far_(MakeEncoder(true)) {}

Code::Encoder Code::MakeEncoder(bool far) const {
  std::vector<uint8_t> coefficients;
  for (int row = k_; row < k_ + m_; row++) {
    for (int column = 0; column < k_; column++) coefficients.push_back(MatrixCoefficient(k_, row, column));
  }
  Encoder encoder{For(m_, far), {}};
  encoder.tables.resize(coefficients.size() * encoder.kernel.table_bytes);
  if (m_ > 0) encoder.kernel.prepare(k_, m_, coefficients.data(), encoder.tables.data());
  return encoder;
}

void Code::Encode(size_t length, const uint8_t* const* data, uint8_t* const* parity) const {
  if (m_ == 0) return;
  const Encoder& encoder = IsFar(length * static_cast<size_t>(k_ + m_)) ? far_ : near_;
  encoder.kernel.multiply(length, k_, m_, encoder.tables.data(), data, parity);
}

bool Code::Reconstruct(size_t length, const uint8_t* const* blocks, const int* wanted, int wanted_count,
                       uint8_t* const* out) const {
  int present[kMaxShards];
  const uint8_t* in[kMaxShards];
  int found = 0;
  uint64_t present_mask = 0;
  for (int shard = 0; shard < k_ + m_ && found < k_; shard++) {
    if (blocks[shard] == nullptr) continue;
    present[found] = shard;
    in[found++] = blocks[shard];
    present_mask |= uint64_t{1} << shard;
  }
  if (found < k_) return false;
  if (wanted_count == 0) return true;

  // In ascending order, so that one loss pattern is one plan however the caller lists it.
  int shards[kMaxShards];
  uint8_t* targets[kMaxShards];
  uint64_t wanted_mask = 0;
  for (int j = 0; j < wanted_count; j++) wanted_mask |= uint64_t{1} << wanted[j];
  int rows = 0;
  for (int shard = 0; shard < k_ + m_; shard++) {
    for (int j = 0; j < wanted_count; j++) {
      if (wanted[j] != shard) continue;
      shards[rows] = shard;
      targets[rows++] = out[j];
    }
  }

  const Kernel& kernel = For(rows, IsFar(length * static_cast<size_t>(k_ + rows)));
  const PlanCache::Key key{present_mask | wanted_mask << 16 | static_cast<uint64_t>(k_) << 32, &kernel};
  const PlanCache::Plan plan = Plans().Get(key, [&] {
    const std::vector<uint8_t> coefficients = DecodeCoefficients(k_, present, shards, rows);
    std::vector<uint8_t> tables(coefficients.size() * kernel.table_bytes);
    kernel.prepare(k_, rows, coefficients.data(), tables.data());
    return tables;
  });
  kernel.multiply(length, k_, rows, plan->data(), in, targets);
  return true;
}

bool Code::ParityAgrees(size_t length, const uint8_t* const* blocks) const {
  if (m_ == 0) return true;
  std::array<uint8_t, kMaxShards * kCompareBytes> expected;
  const uint8_t* in[kMaxShards];
  uint8_t* out[kMaxShards];
  for (int i = 0; i < m_; i++) out[i] = expected.data() + static_cast<size_t>(i) * kCompareBytes;
  for (size_t start = 0; start < length; start += kCompareBytes) {
    const size_t piece = std::min(kCompareBytes, length - start);
    for (int i = 0; i < k_; i++) in[i] = blocks[i] + start;
    Encode(piece, in, out);
    for (int i = 0; i < m_; i++) {
      if (std::memcmp(out[i], blocks[k_ + i] + start, piece) != 0) return false;
    }
  }
  return true;
}

}  // namespace ostraka::erasure
