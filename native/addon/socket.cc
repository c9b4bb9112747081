// net: sockets shared through SO_REUSEPORT, and thread priority. The shapes are those of ts/native/socket.ts.
#include "native/net/socket.h"

#include <cerrno>
#include <cstring>
#include <string>

#include "native/addon/args.h"
#include "native/addon/module.h"

namespace ostraka::addon {

namespace {

// The names callers tell apart; glibc's strerrorname_np is not in musl.
const char* NameOf(int error) {
  switch (error) {
    case EADDRINUSE: return "EADDRINUSE";
    case EADDRNOTAVAIL: return "EADDRNOTAVAIL";
    case EACCES: return "EACCES";
    case EPERM: return "EPERM";
    case EINVAL: return "EINVAL";
    case EMFILE: return "EMFILE";
    case ENOPROTOOPT: return "ENOPROTOOPT";
    default: return "EOTHER";
  }
}

void ThrowErrno(Napi::Env env, const char* call, int error) {
  ThrowWithCode(env, NameOf(error), std::string(call) + ": " + std::strerror(error));
}

// bindReusePort(host, port): { fd, port }
Napi::Value BindReusePort(const Napi::CallbackInfo& info) {
  Args args(info);
  const Napi::Env env = info.Env();
  int64_t port;
  if (!args.Integer(1, "port", 0, 65535, &port)) return env.Undefined();
  if (!info[0].IsString()) {
    args.Type("host: expected a string");
    return env.Undefined();
  }
  const std::string host = info[0].As<Napi::String>().Utf8Value();
  const net::Bound bound = net::BindReusePort(host, static_cast<uint16_t>(port));
  if (bound.fd < 0) {
    ThrowErrno(env, bound.call, bound.error);
    return env.Undefined();
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("fd", Napi::Number::New(env, bound.fd));
  result.Set("port", Napi::Number::New(env, bound.port));
  return result;
}

// setThreadNice(nice): void
Napi::Value SetThreadNice(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t nice;
  if (!args.Integer(0, "nice", 0, 19, &nice)) return info.Env().Undefined();
  const int error = net::SetThreadNice(static_cast<int>(nice));
  if (error != 0) ThrowErrno(info.Env(), "setpriority", error);
  return info.Env().Undefined();
}

}  // namespace

void InitSocket(Napi::Env env, Napi::Object exports) {
  Export<BindReusePort>(env, exports, "bindReusePort");
  Export<SetThreadNice>(env, exports, "setThreadNice");
}

}  // namespace ostraka::addon
