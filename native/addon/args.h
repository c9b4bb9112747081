// Reading JavaScript arguments strictly: everything has exactly the type and range it should have, else a typed error
// is thrown (TypeError or RangeError, `code` 'ERR_OSTRAKA_ARGUMENT') and the reader returns false.
//
// Order matters. Reading the elements of a list can run JavaScript (getters), and JavaScript can detach or resize any
// buffer. So a function reads its lists and numbers first and takes data pointers last; after the first pointer no
// JavaScript runs until the function has finished with all of them.
#pragma once

#include <napi.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace ostraka::addon {

/// Bytes of a Uint8Array (or Buffer), also one over a SharedArrayBuffer. `data` is never null, but may point nowhere
/// useful when length is 0.
struct View {
  uint8_t* data = nullptr;
  size_t length = 0;
};

bool Overlap(const View& a, const View& b);

/// A list of at most kMaxList values, read by Args::List.
struct List {
  static constexpr size_t kMaxList = 256;
  napi_value items[kMaxList];
  size_t length = 0;
};

class Args {
 public:
  explicit Args(const Napi::CallbackInfo& info) : info_(info), env_(info.Env()) {}

  /// Reads an array of exactly `least`..`most` elements, which are not looked at.
  bool ReadList(size_t index, const char* name, size_t least, size_t most, List* out);

  /// Reads a whole number in [least, most].
  bool Integer(size_t index, const char* name, int64_t least, int64_t most, int64_t* out);
  bool IntegerOf(napi_value value, const char* name, int64_t least, int64_t most, int64_t* out);

  /// Reads a BigInt in [0, 2^64).
  bool BigUint64(size_t index, const char* name, uint64_t* out);

  /// Takes the bytes of a Uint8Array; `length` is what it must be, or kAnyLength.
  static constexpr size_t kAnyLength = SIZE_MAX;
  bool Bytes(size_t index, const char* name, size_t length, View* out);
  bool BytesOf(napi_value value, const char* name, size_t length, View* out);
  bool IsNull(napi_value value);

  /// Throw; both return false so that a reader can end with them.
  bool Type(const std::string& message);
  bool Range(const std::string& message);

 private:
  bool NotBytes(napi_value value, const char* name);

  const Napi::CallbackInfo& info_;
  Napi::Env env_;
};

/// Throws an Error with a code of its own (for failures that are not the caller's arguments).
void ThrowWithCode(Napi::Env env, const char* code, const std::string& message);

}  // namespace ostraka::addon
