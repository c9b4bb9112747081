// A bounded cache of decode plans: the prepared tables that turn k present blocks into wanted ones.
//
// A set that lost a drive decodes with the same few patterns for hours, so the inversion is worth keeping; the number
// of possible patterns is large, so the cache forgets the plan that was used longest ago. One cache serves the process.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ostraka::erasure {

class PlanCache {
 public:
  using Plan = std::shared_ptr<const std::vector<uint8_t>>;

  /// What a plan is made from: the shapes and masks, and the kernel that understands its tables.
  struct Key {
    uint64_t pattern;
    const void* kernel;
    bool operator==(const Key&) const = default;
  };

  explicit PlanCache(size_t limit) : limit_(limit) {}

  /// The plan for `key`, made by `make` (outside the lock) when it is not there.
  template <typename Make>
  Plan Get(const Key& key, Make make) {
    if (Plan known = Find(key)) return known;
    Plan made = std::make_shared<const std::vector<uint8_t>>(make());
    const std::lock_guard<std::mutex> guard(mutex_);
    if (const auto found = index_.find(key); found != index_.end()) return found->second->second;
    order_.emplace_front(key, made);
    index_.emplace(key, order_.begin());
    if (index_.size() > limit_) {
      index_.erase(order_.back().first);
      order_.pop_back();
    }
    return made;
  }

  size_t size() {
    const std::lock_guard<std::mutex> guard(mutex_);
    return index_.size();
  }

 private:
  struct Hash {
    size_t operator()(const Key& key) const {
      return static_cast<size_t>((key.pattern ^ reinterpret_cast<uintptr_t>(key.kernel)) * 0x9E3779B97F4A7C15);
    }
  };
  using Order = std::list<std::pair<Key, Plan>>;

  Plan Find(const Key& key) {
    const std::lock_guard<std::mutex> guard(mutex_);
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    order_.splice(order_.begin(), order_, found->second);
    return found->second->second;
  }

  const size_t limit_;
  std::mutex mutex_;
  Order order_;  // most recently used first
  std::unordered_map<Key, Order::iterator, Hash> index_;
};

}  // namespace ostraka::erasure
