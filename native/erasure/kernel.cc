#include "native/erasure/kernel.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <mutex>
#include <vector>

#include "native/cpu/cpu.h"
#include "native/erasure/gf256.h"

namespace ostraka::erasure {

namespace {

// The shapes that are measured: twice as many inputs as outputs, as most geometries have them. Blocks of 16 KiB and
// their outputs fit into any second-level cache together; those of 512 KiB do not.
constexpr int InputsFor(int outputs) { return std::min(2 * outputs, kMaxShards); }
constexpr size_t kNear = size_t{16} << 10;
constexpr size_t kFar = size_t{512} << 10;

// The kernels take turns, and the best of so many counts: what disturbs one turn does not decide. A turn is long enough
// for the clock.
constexpr int kRounds = 12;
constexpr size_t kTurnBytes = size_t{256} << 10;

// Our own kernel has to be this much faster to be taken, so that noise decides between equals at most.
constexpr double kMargin = 0.97;

class Measured {
 public:
  Measured(const Kernel& kernel, int inputs, int outputs) : kernel_(kernel), inputs_(inputs), outputs_(outputs) {
    const std::vector<uint8_t> coefficients(static_cast<size_t>(inputs * outputs), 3);
    tables_.resize(coefficients.size() * kernel.table_bytes);
    kernel.prepare(inputs, outputs, coefficients.data(), tables_.data());
  }

  void Once(size_t length, const uint8_t* const* in, uint8_t* const* out) {
    const auto start = std::chrono::steady_clock::now();
    for (size_t done = 0; done < kTurnBytes; done += length) {
      kernel_.multiply(length, inputs_, outputs_, tables_.data(), in, out);
    }
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    if (taken.count() < best_) best_ = taken.count();
  }

  double best() const { return best_; }

 private:
  const Kernel& kernel_;
  const int inputs_;
  const int outputs_;
  std::vector<uint8_t> tables_;
  double best_ = 1e9;
};

// The faster of two kernels for a number of outputs. Takes a millisecond when near and some when far, and only for the
// numbers of outputs that the process comes to make.
const Kernel& Faster(const Kernel& own, const Kernel& other, int outputs, size_t length) {
  const int inputs = InputsFor(outputs);
  std::vector<uint8_t> memory(static_cast<size_t>(inputs + outputs) * length, 1);
  const uint8_t* in[kMaxShards];
  uint8_t* out[kMaxShards];
  for (int i = 0; i < inputs; i++) in[i] = memory.data() + static_cast<size_t>(i) * length;
  for (int i = 0; i < outputs; i++) out[i] = memory.data() + static_cast<size_t>(inputs + i) * length;
  Measured first(own, inputs, outputs), second(other, inputs, outputs);
  for (int round = 0; round < kRounds; round++) {
    first.Once(length, in, out);
    second.Once(length, in, out);
  }
  return first.best() < second.best() * kMargin ? own : other;
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
