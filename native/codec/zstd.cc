#include "native/codec/zstd.h"

#include <zstd.h>

namespace ostraka::codec {

Zstd::~Zstd() {
  ZSTD_freeCCtx(compressing_);
  ZSTD_freeDCtx(decompressing_);
}

size_t Zstd::CompressBound(size_t length) {
  const size_t bound = ZSTD_compressBound(length);
  return ZSTD_isError(bound) != 0 ? 0 : bound;
}

Zstd::Result Zstd::Compress(uint8_t* out, size_t room, const uint8_t* data, size_t length, int level) {
  if (compressing_ == nullptr) compressing_ = ZSTD_createCCtx();
  if (compressing_ == nullptr) return {0, "out of memory"};
  const size_t written = ZSTD_compressCCtx(compressing_, out, room, data, length, level);
  if (ZSTD_isError(written) != 0) return {0, ZSTD_getErrorName(written)};
  return {written, nullptr};
}

Zstd::Result Zstd::ContentSize(const uint8_t* data, size_t length) {
  const unsigned long long size = ZSTD_getFrameContentSize(data, length);
  if (size == ZSTD_CONTENTSIZE_ERROR) return {0, "not a zstd frame"};
  if (size == ZSTD_CONTENTSIZE_UNKNOWN) return {0, "the frame does not say its content size"};
  const size_t frame = ZSTD_findFrameCompressedSize(data, length);
  if (ZSTD_isError(frame) != 0) return {0, ZSTD_getErrorName(frame)};
  if (frame != length) return {0, "there are bytes after the frame"};
  return {static_cast<size_t>(size), nullptr};
}

Zstd::Result Zstd::Decompress(uint8_t* out, size_t size, const uint8_t* data, size_t length) {
  if (decompressing_ == nullptr) decompressing_ = ZSTD_createDCtx();
  if (decompressing_ == nullptr) return {0, "out of memory"};
  const size_t written = ZSTD_decompressDCtx(decompressing_, out, size, data, length);
  if (ZSTD_isError(written) != 0) return {0, ZSTD_getErrorName(written)};
  if (written != size) return {0, "the content is not as long as the frame says"};
  return {written, nullptr};
}

}  // namespace ostraka::codec
