#include "native/addon/args.h"

#include <cmath>

namespace ostraka::addon {

namespace {

constexpr const char* kArgumentCode = "ERR_OSTRAKA_ARGUMENT";
uint8_t no_bytes;

void Throw(Napi::Error error, const char* code) {
  error.Value().Set("code", code);
  error.ThrowAsJavaScriptException();
}

}  // namespace

bool Overlap(const View& a, const View& b) {
  const auto a_start = reinterpret_cast<uintptr_t>(a.data);
  const auto b_start = reinterpret_cast<uintptr_t>(b.data);
  return a.length > 0 && b.length > 0 && a_start < b_start + b.length && b_start < a_start + a.length;
}

void ThrowWithCode(Napi::Env env, const char* code, const std::string& message) {
  Throw(Napi::Error::New(env, message), code);
}

bool Args::Type(const std::string& message) {
  if (!env_.IsExceptionPending()) Throw(Napi::TypeError::New(env_, message), kArgumentCode);
  return false;
}

bool Args::Range(const std::string& message) {
  if (!env_.IsExceptionPending()) Throw(Napi::RangeError::New(env_, message), kArgumentCode);
  return false;
}

bool Args::ReadList(size_t index, const char* name, size_t least, size_t most, List* out) {
  const napi_value value = info_[index];
  bool is_array = false;
  uint32_t length = 0;
  if (napi_is_array(env_, value, &is_array) != napi_ok || !is_array ||
      napi_get_array_length(env_, value, &length) != napi_ok) {
    return Type(std::string(name) + ": expected an array");
  }
  if (length < least || length > most) {
    return Range(std::string(name) + ": expected " + std::to_string(least) +
                 (least == most ? "" : " to " + std::to_string(most)) + " elements, got " + std::to_string(length));
  }
  for (uint32_t i = 0; i < length; i++) {
    // Fails with an exception pending when a getter throws or the thread is being stopped.
    if (napi_get_element(env_, value, i, &out->items[i]) != napi_ok) {
      return Type(std::string(name) + ": an element cannot be read");
    }
  }
  out->length = length;
  return true;
}

bool Args::Integer(size_t index, const char* name, int64_t least, int64_t most, int64_t* out) {
  return IntegerOf(info_[index], name, least, most, out);
}

bool Args::IntegerOf(napi_value value, const char* name, int64_t least, int64_t most, int64_t* out) {
  double number = 0;
  if (napi_get_value_double(env_, value, &number) != napi_ok) return Type(std::string(name) + ": expected a number");
  if (!(number >= static_cast<double>(least) && number <= static_cast<double>(most)) || std::trunc(number) != number) {
    return Range(std::string(name) + ": expected a whole number from " + std::to_string(least) + " to " +
                 std::to_string(most));
  }
  *out = static_cast<int64_t>(number);
  return true;
}

bool Args::BigUint64(size_t index, const char* name, uint64_t* out) {
  bool lossless = false;
  if (napi_get_value_bigint_uint64(env_, info_[index], out, &lossless) != napi_ok) {
    return Type(std::string(name) + ": expected a BigInt");
  }
  if (!lossless) return Range(std::string(name) + ": expected a BigInt from 0 to 2^64 - 1");
  return true;
}

bool Args::IsNull(napi_value value) {
  napi_valuetype type = napi_undefined;
  return napi_typeof(env_, value, &type) == napi_ok && type == napi_null;
}

bool Args::Bytes(size_t index, const char* name, size_t length, View* out) {
  return BytesOf(info_[index], name, length, out);
}

bool Args::BytesOf(napi_value value, const char* name, size_t length, View* out) {
  napi_typedarray_type type = napi_int8_array;
  void* data = nullptr;
  napi_value buffer = nullptr;
  bool is_typed_array = false;
  if (napi_is_typedarray(env_, value, &is_typed_array) != napi_ok || !is_typed_array) return NotBytes(value, name);
  if (napi_get_typedarray_info(env_, value, &type, &out->length, &data, &buffer, nullptr) != napi_ok ||
      type != napi_uint8_array) {
    return NotBytes(value, name);
  }
  out->data = data == nullptr ? &no_bytes : static_cast<uint8_t*>(data);
  if (out->length == 0 || data == nullptr) {
    // A view whose buffer was detached looks like an empty one.
    bool detached = false;
    if (napi_is_detached_arraybuffer(env_, buffer, &detached) != napi_ok || detached) {
      return Type(std::string(name) + ": the buffer of this Uint8Array is detached");
    }
  }
  if (length != kAnyLength && out->length != length) {
    return Range(std::string(name) + ": expected " + std::to_string(length) + " bytes, got " +
                 std::to_string(out->length));
  }
  return true;
}

bool Args::NotBytes(napi_value value, const char* name) {
  napi_value shared = nullptr;
  bool is_shared = false;
  if (napi_get_named_property(env_, env_.Global(), "SharedArrayBuffer", &shared) == napi_ok &&
      napi_instanceof(env_, value, shared, &is_shared) == napi_ok && is_shared) {
    return Type(std::string(name) + ": expected a Uint8Array, got a SharedArrayBuffer: pass a Uint8Array over it");
  }
  return Type(std::string(name) + ": expected a Uint8Array");
}

}  // namespace ostraka::addon
