#include "native/cpu/cpu.h"

#include <cstdlib>
#include <cstring>

namespace ostraka::cpu {

namespace {

Choice Detect() {
  Choice choice{};
  const char* forced = std::getenv("OSTRAKA_CPU");
  if (forced != nullptr && *forced != '\0') {
    if (std::strcmp(forced, "portable") == 0) {
      choice.portable = true;
      return choice;
    }
    if (std::strcmp(forced, "native") != 0) choice.mistaken = forced;
  }
#if defined(__x86_64__)
  __builtin_cpu_init();
  choice.pclmul = __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1");
#endif
  return choice;
}

}  // namespace

const Choice& Get() {
  static const Choice choice = Detect();
  return choice;
}

}  // namespace ostraka::cpu
