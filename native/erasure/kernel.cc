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

// All blocks of a measurement together: so much fits into any second-level cache, or into none.
constexpr size_t kNearBytes = size_t{192} << 10;
constexpr size_t kFarBytes = size_t{4} << 20;

// A figure depends by up to a third on where the blocks lie (CPUs guess the way of a cache from the address), and not
// by the same for both kernels. So several places are tried, and the median of the quotients decides. In each place the
// kernels take turns, and the best turn counts: what disturbs one does not decide. A turn is long enough for the clock.
constexpr size_t kPlaces = 7;
constexpr int kRounds = 3;
constexpr size_t kTurnBytes = size_t{2} << 20;
constexpr size_t kLine = 64;
constexpr size_t kPlaceStep = 37 * 4096;
constexpr size_t kGapStep = 4096 + kLine;

// What the CPU's own prefetching does for a kernel changes from second to second, by up to a third where it is all that
// fetches, and a measurement sees one moment of it. Our own kernel fetches for itself and so is the safer one: it is
// taken unless it is slower by more than this, several times. ISA-L then wins by this much at most.
constexpr double kMargin = 1.08;
constexpr int kTries = 3;

// A kernel that takes this many times as long is slower in any case, and where kernels are slow (an emulator, a
// sanitizer, a CPU without the wide ones) the places that were measured until this time are enough.
constexpr double kClearly = 1.5;
constexpr std::chrono::milliseconds kEnough{8};

class Measured {
 public:
  Measured(const Kernel& kernel, int inputs, int outputs) : kernel_(kernel), inputs_(inputs), outputs_(outputs) {
    const std::vector<uint8_t> coefficients(static_cast<size_t>(inputs * outputs), 3);
    tables_.resize(coefficients.size() * kernel.table_bytes);
    kernel.prepare(inputs, outputs, coefficients.data(), tables_.data());
  }

  // Seconds of one turn, or of the least before where that is less.
  double Least(double before, size_t length, const uint8_t* const* in, uint8_t* const* out) const {
    const auto start = std::chrono::steady_clock::now();
    for (size_t done = 0; done < kTurnBytes; done += length * static_cast<size_t>(inputs_)) {
      kernel_.multiply(length, inputs_, outputs_, tables_.data(), in, out);
    }
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    return std::min(before, taken.count());
  }

 private:
  const Kernel& kernel_;
  const int inputs_;
  const int outputs_;
  std::vector<uint8_t> tables_;
};

// How many times as long as the other our own kernel takes for one shape. Takes two milliseconds or three.
double Quotient(const Kernel& own, const Kernel& other, int inputs, int outputs, size_t total) {
  const auto blocks = static_cast<size_t>(inputs + outputs);
  const size_t length = total / blocks / kLine * kLine;
  std::vector<uint8_t> memory(total + kPlaces * (kPlaceStep + blocks * kGapStep), 1);
  const Measured first(own, inputs, outputs), second(other, inputs, outputs);
  std::vector<double> quotients;
  const auto until = std::chrono::steady_clock::now() + kEnough;
  for (size_t place = 0; place < kPlaces && (place == 0 || std::chrono::steady_clock::now() < until); place++) {
    // Other pages and another distance between the blocks each time.
    uint8_t* const base = memory.data() + place * kPlaceStep;
    const uint8_t* in[kMaxShards];
    uint8_t* out[kMaxShards];
    for (size_t i = 0; i < blocks; i++) {
      uint8_t* const block = base + i * (length + place * kGapStep) + 16;
      if (i < static_cast<size_t>(inputs)) in[i] = block;
      else out[i - static_cast<size_t>(inputs)] = block;
    }
    double least[2] = {1e9, 1e9};
    for (int round = 0; round < kRounds && (round == 0 || std::chrono::steady_clock::now() < until); round++) {
      least[0] = first.Least(least[0], length, in, out);
      least[1] = second.Least(least[1], length, in, out);
    }
    quotients.push_back(least[0] / least[1]);
  }
  std::sort(quotients.begin(), quotients.end());
  return quotients[quotients.size() / 2];
}

const Kernel& Faster(const Kernel& own, const Kernel& other, int inputs, int outputs, size_t total) {
  for (int turn = 0; turn < kTries; turn++) {
    const double quotient = Quotient(own, other, inputs, outputs, total);
    if (quotient <= kMargin) return own;
    if (quotient > kClearly) break;
  }
  return other;
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

const Kernel& ActiveKernel(int inputs, int outputs, bool far) {
  const cpu::Choice& choice = cpu::Get();
  if (choice.isal) return IsalKernel();
  const Kernel& own = KernelOfLevel(choice.level);
  if (choice.forced || outputs == 0) return own;
  constexpr auto kShapes = static_cast<size_t>(2 * (kMaxShards + 1) * (kMaxShards + 1));
  static std::array<const Kernel*, kShapes> chosen{};
  static std::array<std::once_flag, kShapes> once;
  const auto index = static_cast<size_t>(2 * (inputs * (kMaxShards + 1) + outputs) + (far ? 1 : 0));
  std::call_once(once[index], [&] {
    chosen[index] = &Faster(own, IsalKernel(), inputs, outputs, far ? kFarBytes : kNearBytes);
  });
  return *chosen[index];
}

}  // namespace ostraka::erasure
