// codec: zstd. The shapes are those of ts/native/codec.ts.
#include <cstdlib>
#include <memory>
#include <string>

#include "native/addon/args.h"
#include "native/addon/module.h"

namespace ostraka::addon {

namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 31;

struct Free {
  void operator()(uint8_t* memory) const { std::free(memory); }
};

void ThrowCodec(Napi::Env env, const char* message) { ThrowWithCode(env, "ERR_OSTRAKA_CODEC", message); }

// zstdCompress(data, level): Buffer
Napi::Value ZstdCompress(const Napi::CallbackInfo& info) {
  Args args(info);
  const Napi::Env env = info.Env();
  int64_t level;
  View data;
  if (!args.Integer(1, "level", codec::kMinLevel, codec::kMaxLevel, &level) ||
      !args.Bytes(0, "data", Args::kAnyLength, &data)) {
    return env.Undefined();
  }
  if (data.length > static_cast<size_t>(kMaxBytes)) {
    args.Range("data: expected at most " + std::to_string(kMaxBytes) + " bytes");
    return env.Undefined();
  }
  // Compressed into memory of our own first: the result is smaller than the bound, and a Buffer cannot shrink.
  const size_t room = codec::Zstd::CompressBound(data.length);
  const std::unique_ptr<uint8_t, Free> scratch(static_cast<uint8_t*>(std::malloc(room)));
  if (scratch == nullptr) {
    ThrowCodec(env, "out of memory");
    return env.Undefined();
  }
  codec::Zstd& zstd = env.GetInstanceData<Environment>()->zstd;
  const auto result = zstd.Compress(scratch.get(), room, data.data, data.length, static_cast<int>(level));
  if (result.error != nullptr) {
    ThrowCodec(env, result.error);
    return env.Undefined();
  }
  return Napi::Buffer<uint8_t>::Copy(env, scratch.get(), result.length);
}

// zstdDecompress(data, maxSize): Buffer
Napi::Value ZstdDecompress(const Napi::CallbackInfo& info) {
  Args args(info);
  const Napi::Env env = info.Env();
  int64_t most;
  View data;
  if (!args.Integer(1, "maxSize", 0, kMaxBytes, &most) || !args.Bytes(0, "data", Args::kAnyLength, &data)) {
    return env.Undefined();
  }
  const auto size = codec::Zstd::ContentSize(data.data, data.length);
  if (size.error != nullptr) {
    ThrowCodec(env, size.error);
    return env.Undefined();
  }
  if (size.length > static_cast<size_t>(most)) {
    ThrowCodec(env, "the content is larger than allowed");
    return env.Undefined();
  }
  Napi::Buffer<uint8_t> out = Napi::Buffer<uint8_t>::New(env, size.length);
  if (env.IsExceptionPending()) return env.Undefined();
  // Making the buffer may have collected garbage, but runs no JavaScript: the pointer of `data` still stands.
  codec::Zstd& zstd = env.GetInstanceData<Environment>()->zstd;
  const auto result = zstd.Decompress(out.Data(), size.length, data.data, data.length);
  if (result.error != nullptr) {
    ThrowCodec(env, result.error);
    return env.Undefined();
  }
  return out;
}

}  // namespace

void InitCodec(Napi::Env env, Napi::Object exports) {
  Export<ZstdCompress>(env, exports, "zstdCompress");
  Export<ZstdDecompress>(env, exports, "zstdDecompress");
}

}  // namespace ostraka::addon
