// Memory for tests: bytes that end exactly where an unreadable page begins, so that reading or writing past the end
// crashes, also in assembler that no sanitizer sees; and seeded random bytes.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <random>

namespace ostraka::test {

class Guarded {
 public:
  explicit Guarded(size_t length) : length_(length) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t usable = (length + page - 1) / page * page;
    mapped_ = usable + page;
    base_ = static_cast<uint8_t*>(
        mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + usable, page, PROT_NONE);
    data_ = base_ + usable - length;
  }
  ~Guarded() { munmap(base_, mapped_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  uint8_t* data() { return data_; }
  size_t length() const { return length_; }

  void Fill(std::mt19937_64& random) {
    for (size_t i = 0; i < length_; i++) data_[i] = static_cast<uint8_t>(random());
  }

 private:
  size_t length_;
  size_t mapped_ = 0;
  uint8_t* base_ = nullptr;
  uint8_t* data_ = nullptr;
};

}  // namespace ostraka::test
