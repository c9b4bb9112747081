#include "native/addon/module.h"

#include <string>

#include "native/addon/args.h"
#include "native/cpu/cpu.h"

namespace ostraka::addon {

namespace {

Napi::Object Init(Napi::Env env, Napi::Object exports) {
  if (const char* mistaken = cpu::Get().mistaken) {
    ThrowWithCode(env, "ERR_OSTRAKA_CPU",
                  std::string("OSTRAKA_CPU: expected native or portable, got ") + mistaken);
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
