#include "native/hash/xxh3.h"

#include <new>

// Shows the state's layout, so that it can live on the stack.
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#if defined(__x86_64__)
#define XXH_DISPATCH_DISABLE_REPLACE
#include <xxh_x86dispatch.h>
#endif

#include "native/cpu/cpu.h"

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

}  // namespace

uint64_t Xxh3Of64(const uint8_t* data, size_t length, uint64_t seed) { return Active().of64(data, length, seed); }

void Xxh3Of128(const uint8_t* data, size_t length, uint64_t seed, uint8_t out[16]) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, Active().of128(data, length, seed));
  for (int i = 0; i < 16; i++) out[i] = canonical.digest[i];
}

uint64_t Xxh3Of64Parts(const Part* parts, size_t count, uint64_t seed) {
  if (count == 1) return Xxh3Of64(parts[0].data, parts[0].length, seed);
  XXH3_state_t state;
  XXH3_INITSTATE(&state);
  XXH3_64bits_reset_withSeed(&state, seed);
  for (size_t i = 0; i < count; i++) Active().update64(&state, parts[i].data, parts[i].length);
  return XXH3_64bits_digest(&state);
}

static_assert(sizeof(XXH3_state_t) == 576 && alignof(XXH3_state_t) <= 64, "the state fits Xxh3Stream128");

void Xxh3Stream128::Start(uint64_t seed) {
  auto* state = new (state_) XXH3_state_t;
  XXH3_INITSTATE(state);
  XXH3_128bits_reset_withSeed(state, seed);
}

void Xxh3Stream128::Update(const uint8_t* data, size_t length) {
  Active().update128(reinterpret_cast<XXH3_state_t*>(state_), data, length);
}

void Xxh3Stream128::Finish(uint8_t out[16]) const {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(reinterpret_cast<const XXH3_state_t*>(state_)));
  for (int i = 0; i < 16; i++) out[i] = canonical.digest[i];
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
