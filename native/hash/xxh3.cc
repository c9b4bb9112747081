#include "native/hash/xxh3.h"

#include <cstring>
#include <new>

// Shows the state's layout, so that it can live on the stack.
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#if defined(__x86_64__)
#define XXH_DISPATCH_DISABLE_REPLACE
#include <xxh_x86dispatch.h>
#endif

#include "native/cpu/cpu.h"
#include "native/hash/xxh3_kernel.h"

namespace ostraka::hash {

namespace {

struct Functions {
  XXH64_hash_t (*of64)(const void*, size_t, XXH64_hash_t);
  XXH128_hash_t (*of128)(const void*, size_t, XXH64_hash_t);
  XXH_errorcode (*update64)(XXH3_state_t*, const void*, size_t);
  XXH_errorcode (*update128)(XXH3_state_t*, const void*, size_t);
};

Functions Choose() {
  Functions plain{XXH3_64bits_withSeed, XXH3_128bits_withSeed, XXH3_64bits_update, XXH3_128bits_update};
#if defined(__x86_64__)
  if (cpu::Get().portable) return plain;
  // The dispatcher detects the CPU at its first call, without a lock: let that happen here, under the lock of the
  // static below. The length must pass the one below which it takes a short cut.
  static const uint8_t zeros[512] = {};
  XXH3_64bits_withSeed_dispatch(zeros, sizeof zeros, 1);
  return {XXH3_64bits_withSeed_dispatch, XXH3_128bits_withSeed_dispatch, XXH3_64bits_update_dispatch,
          XXH3_128bits_update_dispatch};
#else
  return plain;
#endif
}

const Functions& Active() {
  static const Functions functions = Choose();
  return functions;
}

void Canonical(XXH128_hash_t hash, uint8_t out[16]) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  std::memcpy(out, canonical.digest, sizeof canonical.digest);
}

// Shorter inputs are hashed in other ways, which are the library's.
constexpr size_t kLongBytes = 241;

#if defined(__x86_64__)

constexpr uint64_t kPrime32[] = {0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D};
constexpr uint64_t kPrime64[] = {0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63,
                                 0x27D4EB2F165667C5};
// Where in the secret the keys of the last stripe and of the two halves of the result begin.
constexpr size_t kLastKey = 121;
constexpr size_t kLowKey = 11;
constexpr size_t kHighKey = 117;

struct SecretWords {
  uint64_t words[kXxh3Secret / 8];
  SecretWords() { XXH3_generateSecret_fromSeed(words, 0); }
};

// The sums of a long input and the secret of its seed: what xxh3_kernel.h works on.
struct Sums {
  alignas(64) uint64_t sums[8];
  alignas(64) uint8_t secret[kXxh3Secret];

  explicit Sums(uint64_t seed) {
    alignas(64) static constexpr uint64_t kBegin[8] = {kPrime32[2], kPrime64[0], kPrime64[1], kPrime64[2],
                                                       kPrime64[3], kPrime32[1], kPrime64[4], kPrime32[0]};
    static const SecretWords plain;
    Xxh3BeginAvx512(sums, secret, kBegin, plain.words, seed);
  }

  // Everything from the whole block after `done` bytes to the end.
  void TakeRest(const uint8_t* data, size_t length, size_t done) {
    const size_t before_last = (length - 1) / kXxh3Block * kXxh3Block;
    Xxh3BlocksAvx512(sums, secret, data + done, (before_last - done) / kXxh3Block, 0);
    Xxh3StripesAvx512(sums, secret, data + before_last, (length - 1 - before_last) / kXxh3Stripe);
    Xxh3StripesAvx512(sums, secret + kLastKey, data + length - kXxh3Stripe, 1);
  }

  uint64_t Merge(size_t key, uint64_t start) const {
    uint64_t result = start;
    for (int i = 0; i < 4; i++) {
      uint64_t keys[2];
      std::memcpy(keys, secret + key + 16 * i, sizeof keys);
      const auto product = static_cast<unsigned __int128>(sums[2 * i] ^ keys[0]) * (sums[2 * i + 1] ^ keys[1]);
      result += static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
    }
    result = (result ^ result >> 37) * 0x165667919E3779F9;
    return result ^ result >> 32;
  }

  void Result(size_t length, uint8_t out[16]) const {
    Store64(out, Merge(kHighKey, ~(length * kPrime64[1])));
    Store64(out + 8, Merge(kLowKey, length * kPrime64[0]));
  }
};

bool OwnLoop() { return cpu::Get().avx512; }

#else

bool OwnLoop() { return false; }

#endif

}  // namespace

uint64_t Xxh3Of64(const uint8_t* data, size_t length, uint64_t seed) {
  // Short inputs are hashed by plain code in any case: without the way through the dispatcher.
  if (length < kLongBytes) return XXH3_64bits_withSeed(data, length, seed);
  return Active().of64(data, length, seed);
}

void Xxh3Of128(const uint8_t* data, size_t length, uint64_t seed, uint8_t out[16]) {
#if defined(__x86_64__)
  if (length >= kLongBytes && OwnLoop()) {
    Sums sums(seed);
    sums.TakeRest(data, length, 0);
    return sums.Result(length, out);
  }
#endif
  Canonical(Active().of128(data, length, seed), out);
}

void Xxh3Of128Library(const uint8_t* data, size_t length, uint64_t seed, uint8_t out[16]) {
  Canonical(XXH3_128bits_withSeed(data, length, seed), out);
}

uint64_t Xxh3Of64Parts(const Part* parts, size_t count, uint64_t seed) {
  if (count == 1) return Xxh3Of64(parts[0].data, parts[0].length, seed);
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_64bits_reset_withSeed(&state, seed);
  for (size_t i = 0; i < count; i++) Active().update64(&state, parts[i].data, parts[i].length);
  return XXH3_64bits_digest(&state);
}

void Xxh3Block128::Start(const uint8_t* block, uint64_t seed) {
  static_assert(sizeof(XXH3_state_t) == kLibraryState && alignof(XXH3_state_t) <= 64);
  block_ = block;
  seed_ = seed;
  done_ = 0;
#if defined(__x86_64__)
  static_assert(sizeof(Sums) <= kLibraryState);
  if (OwnLoop()) {
    new (state_) Sums(seed);
    return;
  }
#endif
  auto* state = new (state_) XXH3_state_t;
  XXH3_INITSTATE(state);
  XXH3_128bits_reset_withSeed(state, seed);
}

void Xxh3Block128::Advance(size_t ready, bool fetch) {
#if defined(__x86_64__)
  if (OwnLoop()) {
    // The last block of the input is not scrambled, and nobody knows yet which that is.
    if (ready <= done_ + kXxh3Block) return;
    const size_t blocks = (ready - 1 - done_) / kXxh3Block;
    auto* own = reinterpret_cast<Sums*>(state_);
    Xxh3BlocksAvx512(own->sums, own->secret, block_ + done_, blocks, fetch ? ready - done_ : 0);
    done_ += blocks * kXxh3Block;
    return;
  }
#endif
  (void)fetch;
  Active().update128(reinterpret_cast<XXH3_state_t*>(state_), block_ + done_, ready - done_);
  done_ = ready;
}

void Xxh3Block128::Finish(size_t length, uint8_t out[16]) {
#if defined(__x86_64__)
  if (OwnLoop()) {
    if (length < kLongBytes) return Xxh3Of128(block_, length, seed_, out);
    auto* own = reinterpret_cast<Sums*>(state_);
    own->TakeRest(block_, length, done_);
    return own->Result(length, out);
  }
#endif
  Advance(length);
  Canonical(XXH3_128bits_digest(reinterpret_cast<const XXH3_state_t*>(state_)), out);
}

size_t Xxh3Block128::SliceBytes() {
  // Our own loop takes up its work again at once, so slices can be small enough for sixteen of them to stay in a
  // first-level cache; the library takes its time, and slices of twelve blocks stay in a second-level cache of 1 MiB.
  return OwnLoop() ? 2048 : 65536;
}

void Store64(uint8_t out[8], uint64_t value) {
  for (int i = 0; i < 8; i++) out[i] = static_cast<uint8_t>(value >> (56 - 8 * i));
}

uint64_t Load64(const uint8_t in[8]) {
  uint64_t value = 0;
  for (int i = 0; i < 8; i++) value = value << 8 | in[i];
  return value;
}

}  // namespace ostraka::hash
