#include "native/erasure/kernel.h"

#include <array>
#include <chrono>
#include <mutex>
#include <vector>

#include "native/cpu/cpu.h"
#include "native/erasure/gf256.h"

namespace ostraka::erasure {

namespace {

// The shapes that are measured: 8 inputs of 16 KiB and their outputs fit into any second-level cache, as a slice of a
// stripe does that is being sealed; 8 of 512 KiB do not.
constexpr int kInputs = 8;
constexpr size_t kNear = size_t{16} << 10;
constexpr size_t kFar = size_t{512} << 10;
constexpr int kRounds = 6;

// ISA-L has to be this much faster to be taken, so that noise does not decide.
constexpr double kMargin = 0.97;

class Measured {
 public:
  Measured(const Kernel& kernel, int outputs) : kernel_(kernel), outputs_(outputs) {
    const std::vector<uint8_t> coefficients(static_cast<size_t>(kInputs * outputs), 3);
    tables_.resize(coefficients.size() * kernel.table_bytes);
    kernel.prepare(kInputs, outputs, coefficients.data(), tables_.data());
  }

  void Once(size_t length, const uint8_t* const* in, uint8_t* const* out) {
    const auto start = std::chrono::steady_clock::now();
    kernel_.multiply(length, kInputs, outputs_, tables_.data(), in, out);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    if (taken.count() < best_) best_ = taken.count();
  }

  double best() const { return best_; }

 private:
  const Kernel& kernel_;
  const int outputs_;
  std::vector<uint8_t> tables_;
  double best_ = 1e9;
};

// The faster of two kernels for a number of outputs; takes some ten microseconds when near, some milliseconds when far.
const Kernel& Faster(const Kernel& own, const Kernel& other, int outputs, size_t length) {
  std::vector<uint8_t> memory((kInputs + static_cast<size_t>(outputs)) * length, 1);
  const uint8_t* in[kMaxShards];
  uint8_t* out[kMaxShards];
  for (int i = 0; i < kInputs; i++) in[i] = memory.data() + static_cast<size_t>(i) * length;
  for (int i = 0; i < outputs; i++) out[i] = memory.data() + static_cast<size_t>(kInputs + i) * length;
  Measured first(own, outputs), second(other, outputs);
  for (int round = 0; round < kRounds; round++) {
    first.Once(length, in, out);
    second.Once(length, in, out);
  }
  return second.best() < first.best() * kMargin ? other : own;
}

}  // namespace

const Kernel& KernelOfLevel(cpu::Level level) {
  switch (level) {
#if defined(__x86_64__)
    case cpu::Level::kSsse3:
      return kSsse3Kernel;
    case cpu::Level::kAvx2:
      return kAvx2Kernel;
    case cpu::Level::kGfni256:
      return kGfni256Kernel;
    case cpu::Level::kGfni512:
      return kGfni512Kernel;
#elif defined(__aarch64__)
    case cpu::Level::kNeon:
      return kNeonKernel;
#endif
    default:
      return PortableKernel();
  }
}

const Kernel& ActiveKernel(int outputs, bool far) {
  const cpu::Choice& choice = cpu::Get();
  if (choice.isal) return IsalKernel();
  const Kernel& own = KernelOfLevel(choice.level);
  if (choice.forced || outputs == 0) return own;
  static std::array<const Kernel*, 2 * (kMaxShards + 1)> chosen{};
  static std::array<std::once_flag, 2 * (kMaxShards + 1)> once;
  const auto index = static_cast<size_t>(2 * outputs + (far ? 1 : 0));
  std::call_once(once[index], [&] { chosen[index] = &Faster(own, IsalKernel(), outputs, far ? kFar : kNear); });
  return *chosen[index];
}

}  // namespace ostraka::erasure
