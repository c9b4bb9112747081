// One init function for each concern: it sets its functions on the module's exports.
//
// The module is initialised once in every environment (the main thread and each worker), so an init function keeps no
// state of its own; what an environment needs is in Environment, what the process needs is in the core.
#pragma once

#include <napi.h>

#include <memory>

#include "native/codec/zstd.h"

namespace ostraka::addon {

struct IoEnvironment;
struct IndexEnvironment;
void FreeIndexEnvironment(IndexEnvironment* environment);

/// What belongs to one JavaScript thread; freed when its environment ends.
struct Environment {
  codec::Zstd zstd;
  /// Made by the first ioConnect.
  std::shared_ptr<IoEnvironment> io;
  std::unique_ptr<IndexEnvironment, void (*)(IndexEnvironment*)> index{nullptr, FreeIndexEnvironment};
};

void InitErasure(Napi::Env env, Napi::Object exports);
void InitHash(Napi::Env env, Napi::Object exports);
void InitCodec(Napi::Env env, Napi::Object exports);
void InitIndex(Napi::Env env, Napi::Object exports);
void InitIo(Napi::Env env, Napi::Object exports);
void InitSocket(Napi::Env env, Napi::Object exports);

/// Adds a function to the exports under `name`.
template <Napi::Value (*function)(const Napi::CallbackInfo&)>
void Export(Napi::Env env, Napi::Object exports, const char* name) {
  exports.Set(name, Napi::Function::New<function>(env, name));
}

}  // namespace ostraka::addon
