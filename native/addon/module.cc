#include "native/addon/module.h"

#include <string>

#include "native/addon/args.h"
#include "native/cpu/cpu.h"

namespace ostraka::addon {

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  if (const std::string& mistake = cpu::Get().mistake; !mistake.empty()) {
    ThrowWithCode(env, "ERR_OSTRAKA_CPU", "OSTRAKA_CPU: " + mistake);
    return exports;
  }
  env.SetInstanceData(new Environment());
  InitErasure(env, exports);
  InitHash(env, exports);
  InitCodec(env, exports);
  InitIndex(env, exports);
  InitIo(env, exports);
  InitSocket(env, exports);
  return exports;
}

NODE_API_MODULE(ostraka, Init)

}  // namespace

}  // namespace ostraka::addon
