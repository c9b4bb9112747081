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

  explicit PlanCache(size_t limit) : limit_(limit) {}

  /// The plan for `key`, made by `make` (outside the lock) when it is not there.
  template <typename Make>
  Plan Get(uint64_t key, Make make) {
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
  using Order = std::list<std::pair<uint64_t, Plan>>;

  Plan Find(uint64_t key) {
    const std::lock_guard<std::mutex> guard(mutex_);
    const auto found = index_.find(key);
    if (found == index_.end()) return nullptr;
    order_.splice(order_.begin(), order_, found->second);
    return found->second->second;
  }

  const size_t limit_;
  std::mutex mutex_;
  Order order_;  // most recently used first
  std::unordered_map<uint64_t, Order::iterator> index_;
};

}  // namespace ostraka::erasure
