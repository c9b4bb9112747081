#include "native/cpu/cpu.h"

#include <cstdlib>
#include <cstring>

namespace ostraka::cpu {

namespace {

struct Name {
  const char* name;
  Level level;
};

// From the narrowest to the widest.
constexpr Name kNames[] = {
    {"portable", Level::kPortable}, {"ssse3", Level::kSsse3},     {"avx2", Level::kAvx2},
    {"gfni256", Level::kGfni256},   {"gfni512", Level::kGfni512}, {"neon", Level::kNeon},
};

Level Widest() {
  Level widest = Level::kPortable;
  for (const Name& name : kNames) {
    if (Has(name.level)) widest = name.level;
  }
  return widest;
}

}  // namespace

bool Has(Level level) {
  if (level == Level::kPortable) return true;
#if defined(__x86_64__)
  __builtin_cpu_init();
  switch (level) {
    case Level::kSsse3:
      return __builtin_cpu_supports("ssse3");
    case Level::kAvx2:
      return __builtin_cpu_supports("avx2");
    case Level::kGfni256:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("gfni");
    case Level::kGfni512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("gfni");
    default:
      return false;
  }
#elif defined(__aarch64__)
  return level == Level::kNeon;
#else
  return false;
#endif
}

Choice Choose(const char* wanted) {
  Choice choice;
  choice.level = Widest();
  if (wanted != nullptr && *wanted != '\0' && std::strcmp(wanted, "native") != 0) {
    const Name* found = nullptr;
    for (const Name& name : kNames) {
      if (std::strcmp(wanted, name.name) == 0) found = &name;
    }
    choice.isal = std::strcmp(wanted, "isal") == 0;
    if (found == nullptr && !choice.isal) {
      choice.mistake = "expected native, isal, gfni512, gfni256, avx2, ssse3, neon or portable, got ";
      choice.mistake += wanted;
      return choice;
    }
    if (found != nullptr && !Has(found->level)) {
      choice.mistake = std::string("this CPU lacks ") + wanted;
      return choice;
    }
    if (found != nullptr) {
      choice.level = found->level;
      choice.forced = true;
    }
  }
  choice.portable = choice.level == Level::kPortable;
#if defined(__x86_64__)
  const bool wide = !choice.forced || choice.level == Level::kGfni512;
  choice.pclmul =
      choice.level >= Level::kSsse3 && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
  choice.avx2 = choice.level >= Level::kAvx2;
  choice.avx512 = wide && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512vl");
  choice.vpclmul = choice.avx512 && __builtin_cpu_supports("vpclmulqdq");
#endif
  return choice;
}

const Choice& Get() {
  static const Choice choice = Choose(std::getenv("OSTRAKA_CPU"));
  return choice;
}

}  // namespace ostraka::cpu
