// A stage for the shard index: threads that stop at chosen places in its code (native/index/internals.h), so that a
// test can force one order of steps and always gets the same one. The test moves on when an actor has stopped, has
// ended, or says that it waits for another; never because time has passed.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "native/index/internals.h"

namespace ostraka::index {

class Actor {
 public:
  enum class State { kRunning, kStopped, kWaiting, kEnded };

  /// Begins the program; it stops at the first passage of stops[0], then, after Go, of stops[1], and so on.
  explicit Actor(std::function<void()> program, std::vector<Point> stops = {})
      : program_(std::move(program)), stops_(std::move(stops)), thread_([this] {
          current_ = this;
          program_();
          Change(State::kEnded);
        }) {}

  ~Actor() { End(); }
  Actor(const Actor&) = delete;
  Actor& operator=(const Actor&) = delete;

  /// What keeps it, once something does. One that waits goes on by itself when it can.
  State Settled() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return state_ != State::kRunning; });
    return state_;
  }

  /// From a stop on to the next.
  void Go() {
    const std::lock_guard lock(mutex_);
    if (state_ != State::kStopped) return;
    state_ = State::kRunning;
    changed_.notify_all();
  }

  /// Lets it run to its end.
  void End() {
    {
      const std::lock_guard lock(mutex_);
      stops_.clear();
    }
    Go();
    if (thread_.joinable()) thread_.join();
  }

  /// Called by every thread of the program at every place.
  static void At(Point point) {
    if (current_ != nullptr) current_->Arrive(point);
  }

 private:
  void Arrive(Point point) {
    std::unique_lock lock(mutex_);
    if (next_ < stops_.size() && stops_[next_] == point) {
      next_++;
      state_ = State::kStopped;
      changed_.notify_all();
      changed_.wait(lock, [this] { return state_ != State::kStopped; });
    } else if (point == Point::kWaiting && state_ == State::kRunning) {
      state_ = State::kWaiting;
      changed_.notify_all();
    }
  }

  void Change(State state) {
    const std::lock_guard lock(mutex_);
    state_ = state;
    changed_.notify_all();
  }

  static inline thread_local Actor* current_ = nullptr;
  const std::function<void()> program_;
  std::mutex mutex_;
  std::condition_variable changed_;
  State state_ = State::kRunning;
  std::vector<Point> stops_;
  size_t next_ = 0;
  std::thread thread_;
};

}  // namespace ostraka::index
