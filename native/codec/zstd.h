// zstd in one call each way, with contexts that are kept between calls (one object per thread).
//
// Every frame written here carries its content size and is alone in its buffer; anything else is refused when read,
// so that a hostile frame cannot make the reader allocate or produce more than the caller's bound.
#pragma once

#include <cstddef>
#include <cstdint>

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace ostraka::codec {

constexpr int kMinLevel = -7;
constexpr int kMaxLevel = 19;

class Zstd {
 public:
  Zstd() = default;
  ~Zstd();
  Zstd(const Zstd&) = delete;
  Zstd& operator=(const Zstd&) = delete;

  struct Result {
    size_t length;
    const char* error;  // null when it worked; a static text otherwise
  };

  /// The room that Compress needs for `length` bytes; 0 when that is too much for zstd.
  static size_t CompressBound(size_t length);

  Result Compress(uint8_t* out, size_t room, const uint8_t* data, size_t length, int level);

  /// The size that `data` claims to expand to, when it is exactly one frame that says so.
  static Result ContentSize(const uint8_t* data, size_t length);

  /// Expands one frame into `out`, whose size must be what ContentSize said.
  Result Decompress(uint8_t* out, size_t size, const uint8_t* data, size_t length);

 private:
  ZSTD_CCtx_s* compressing_ = nullptr;
  ZSTD_DCtx_s* decompressing_ = nullptr;
};

}  // namespace ostraka::codec
