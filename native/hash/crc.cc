#include "native/hash/crc.h"

#include <bit>
#include <cstring>

#include "native/cpu/cpu.h"
#include "native/hash/crc_fold.h"

namespace ostraka::hash {

namespace {

static_assert(std::endian::native == std::endian::little, "the slices below read words little-endian");

// Below this length folding costs more than it saves.
constexpr size_t kFoldBytes = 128;
constexpr size_t kWideBytes = 512;

// One CRC of up to 64 bits, reflected: states are kept in the low `width` bits of 64.
struct Engine {
  uint64_t slices[8][256];
  FoldConstants constants;

  Engine(int width, uint64_t polynomial) {
    for (uint64_t byte = 0; byte < 256; byte++) {
      uint64_t state = byte;
      for (int bit = 0; bit < 8; bit++) state = TimesX(state, polynomial);
      slices[0][byte] = state;
    }
    for (int slice = 1; slice < 8; slice++) {
      for (int byte = 0; byte < 256; byte++) {
        const uint64_t before = slices[slice - 1][byte];
        slices[slice][byte] = (before >> 8) ^ slices[0][before & 0xff];
      }
    }
    constants = {{Power(2111, width, polynomial), Power(2047, width, polynomial)},
                 {Power(575, width, polynomial), Power(511, width, polynomial)},
                 {Power(191, width, polynomial), Power(127, width, polynomial)}};
  }

  static uint64_t TimesX(uint64_t value, uint64_t polynomial) {
    return (value >> 1) ^ ((value & 1) != 0 ? polynomial : 0);
  }

  // x^exponent modulo the polynomial, as a 64-bit half of the register described in crc_fold.h.
  static uint64_t Power(int exponent, int width, uint64_t polynomial) {
    uint64_t value = uint64_t{1} << (width - 1);
    for (int i = 0; i < exponent; i++) value = TimesX(value, polynomial);
    return value << (64 - width);
  }

  uint64_t Slices(uint64_t state, const uint8_t* data, size_t length) const {
    for (; length >= 8; data += 8, length -= 8) {
      uint64_t word;
      std::memcpy(&word, data, 8);
      word ^= state;
      state = 0;
      for (int i = 0; i < 8; i++) state ^= slices[7 - i][(word >> (8 * i)) & 0xff];
    }
    for (; length > 0; data++, length--) state = (state >> 8) ^ slices[0][(state ^ *data) & 0xff];
    return state;
  }

  uint64_t Fast(uint64_t state, const uint8_t* data, size_t length) const {
#if defined(__x86_64__)
    if (length >= kFoldBytes && cpu::Get().pclmul) {
      uint8_t folded[16];
      const size_t done = length >= kWideBytes && cpu::Get().vpclmul
                              ? FoldVpclmul(data, length, state, &constants, folded)
                              : FoldPclmul(data, length, state, &constants, folded);
      return Slices(Slices(0, folded, sizeof folded), data + done, length - done);
    }
#endif
    return Slices(state, data, length);
  }
};

const Engine& EngineOf32c() {
  static const Engine engine(32, 0x82F63B78);
  return engine;
}

const Engine& EngineOf64Nvme() {
  static const Engine engine(64, 0x9A6C9329AC4BC9B5);
  return engine;
}

}  // namespace

uint32_t Crc32c(uint32_t running, const uint8_t* data, size_t length) {
  return ~static_cast<uint32_t>(EngineOf32c().Fast(static_cast<uint32_t>(~running), data, length));
}

uint64_t Crc64Nvme(uint64_t running, const uint8_t* data, size_t length) {
  return ~EngineOf64Nvme().Fast(~running, data, length);
}

uint32_t Crc32cPortable(uint32_t running, const uint8_t* data, size_t length) {
  return ~static_cast<uint32_t>(EngineOf32c().Slices(static_cast<uint32_t>(~running), data, length));
}

uint64_t Crc64NvmePortable(uint64_t running, const uint8_t* data, size_t length) {
  return ~EngineOf64Nvme().Slices(~running, data, length);
}

}  // namespace ostraka::hash
