// erasure: encode, reconstruct, parity check, and the block checksums of stripes and cells.
// The shapes are those of ts/native/erasure.ts, with records passed as separate numbers.
#include <string>

#include "native/addon/args.h"
#include "native/addon/module.h"
#include "native/erasure/stripe.h"

namespace ostraka::addon {

namespace {

using erasure::Code;
using erasure::kMaxShards;
using hash::kBlockChecksumBytes;
using hash::kDataIdBytes;

constexpr int64_t kMaxBlockSize = int64_t{1} << 30;
constexpr int64_t kMaxStride = int64_t{1} << 31;
constexpr int64_t kMaxCells = int64_t{1} << 24;
constexpr int64_t kMaxBlockNumber = UINT32_MAX;

bool Geometry(Args& args, size_t index, int64_t* k, int64_t* m) {
  if (!args.Integer(index, "k", 1, kMaxShards, k) || !args.Integer(index + 1, "m", 0, kMaxShards - 1, m)) return false;
  if (!erasure::IsGeometry(*k, *m)) {
    return args.Range("k + m: expected at most " + std::to_string(kMaxShards) + ", got " + std::to_string(*k + *m));
  }
  return true;
}

// Takes the pointers of a list of blocks, each `size` bytes long; null is allowed where `nullable`, and becomes null.
bool Blocks(Args& args, const List& list, const char* name, size_t size, bool nullable, View* views) {
  for (size_t i = 0; i < list.length; i++) {
    if (nullable && args.IsNull(list.items[i])) {
      views[i] = View{};
      continue;
    }
    const std::string element = std::string(name) + "[" + std::to_string(i) + "]";
    if (!args.BytesOf(list.items[i], element.c_str(), size, &views[i])) return false;
  }
  return true;
}

// Outputs may share no byte with an input or with one another.
bool Apart(Args& args, const View* inputs, size_t input_count, const View* outputs, size_t output_count) {
  for (size_t i = 0; i < output_count; i++) {
    for (size_t j = 0; j < input_count; j++) {
      if (inputs[j].data != nullptr && Overlap(outputs[i], inputs[j])) {
        return args.Range("an output overlaps an input");
      }
    }
    for (size_t j = 0; j < i; j++) {
      if (Overlap(outputs[i], outputs[j])) return args.Range("two outputs overlap");
    }
  }
  return true;
}

template <typename Pointer>
void Pointers(const View* views, size_t count, Pointer* out) {
  for (size_t i = 0; i < count; i++) out[i] = views[i].data;
}

// encode(k, m, blockSize, data, parity)
Napi::Value Encode(const Napi::CallbackInfo& info) {
  Args args(info);
  const Napi::Value undefined = info.Env().Undefined();
  int64_t k, m, size;
  List data, parity;
  if (!Geometry(args, 0, &k, &m) || !args.Integer(2, "blockSize", 1, kMaxBlockSize, &size) ||
      !args.ReadList(3, "data", k, k, &data) || !args.ReadList(4, "parity", m, m, &parity)) {
    return undefined;
  }
  View in[kMaxShards], out[kMaxShards];
  if (!Blocks(args, data, "data", size, false, in) || !Blocks(args, parity, "parity", size, false, out) ||
      !Apart(args, in, k, out, m)) {
    return undefined;
  }
  const uint8_t* sources[kMaxShards];
  uint8_t* targets[kMaxShards];
  Pointers(in, k, sources);
  Pointers(out, m, targets);
  Code::Get(k, m).Encode(size, sources, targets);
  return undefined;
}

// Reads `wanted`: shard numbers, none twice.
bool Wanted(Args& args, const List& list, int64_t total, int* wanted) {
  uint32_t seen = 0;
  for (size_t i = 0; i < list.length; i++) {
    int64_t shard;
    if (!args.IntegerOf(list.items[i], "wanted", 0, total - 1, &shard)) return false;
    if ((seen & 1u << shard) != 0) return args.Range("wanted: shard " + std::to_string(shard) + " is there twice");
    seen |= 1u << shard;
    wanted[i] = static_cast<int>(shard);
  }
  return true;
}

// reconstruct(k, m, blockSize, blocks, wanted, out)
Napi::Value Reconstruct(const Napi::CallbackInfo& info) {
  Args args(info);
  const Napi::Value undefined = info.Env().Undefined();
  int64_t k, m, size;
  List blocks, wanted, out;
  if (!Geometry(args, 0, &k, &m) || !args.Integer(2, "blockSize", 1, kMaxBlockSize, &size) ||
      !args.ReadList(3, "blocks", k + m, k + m, &blocks) || !args.ReadList(4, "wanted", 0, k + m, &wanted) ||
      !args.ReadList(5, "out", wanted.length, wanted.length, &out)) {
    return undefined;
  }
  int shards[kMaxShards];
  View in[kMaxShards], views[kMaxShards];
  if (!Wanted(args, wanted, k + m, shards) || !Blocks(args, blocks, "blocks", size, true, in) ||
      !Blocks(args, out, "out", size, false, views) || !Apart(args, in, k + m, views, out.length)) {
    return undefined;
  }
  const uint8_t* sources[kMaxShards];
  uint8_t* targets[kMaxShards];
  Pointers(in, k + m, sources);
  Pointers(views, out.length, targets);
  if (!Code::Get(k, m).Reconstruct(size, sources, shards, static_cast<int>(wanted.length), targets)) {
    args.Range("blocks: at least " + std::to_string(k) + " of them are needed");
  }
  return undefined;
}

// parityAgrees(k, m, blockSize, blocks): boolean
Napi::Value ParityAgrees(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t k, m, size;
  List blocks;
  View in[kMaxShards];
  if (!Geometry(args, 0, &k, &m) || !args.Integer(2, "blockSize", 1, kMaxBlockSize, &size) ||
      !args.ReadList(3, "blocks", k + m, k + m, &blocks) || !Blocks(args, blocks, "blocks", size, false, in)) {
    return info.Env().Undefined();
  }
  const uint8_t* sources[kMaxShards];
  Pointers(in, k + m, sources);
  return Napi::Boolean::New(info.Env(), Code::Get(k, m).ParityAgrees(size, sources));
}

// Takes the pieces of a stripe: at most `room` bytes together, and none of them in the slab.
bool Pieces(Args& args, const List& list, size_t room, const View& slab, hash::Part* pieces) {
  for (size_t i = 0; i < list.length; i++) {
    View piece;
    if (!args.BytesOf(list.items[i], "pieces", Args::kAnyLength, &piece)) return false;
    if (Overlap(piece, slab)) return args.Range("pieces: one overlaps the slab");
    if (piece.length > room) return args.Range("pieces: longer together than the data blocks");
    room -= piece.length;
    pieces[i] = {piece.data, piece.length};
  }
  return true;
}

// sealStripe(slab, k, m, blockSize, stride, dataId, blockNumber, pieces?)
Napi::Value SealStripe(const Napi::CallbackInfo& info) {
  Args args(info);
  const Napi::Value undefined = info.Env().Undefined();
  int64_t k, m, size, stride, number;
  View slab, id;
  List list;
  hash::Part pieces[List::kMaxList];
  const bool split = info.Length() > 7 && !info[7].IsUndefined();
  if (!Geometry(args, 1, &k, &m) || (split && !args.ReadList(7, "pieces", 0, List::kMaxList, &list)) ||
      !args.Integer(3, "blockSize", 1, kMaxBlockSize, &size) ||
      !args.Integer(4, "stride", size + static_cast<int64_t>(kBlockChecksumBytes), kMaxStride, &stride) ||
      !args.Integer(6, "blockNumber", 0, kMaxBlockNumber, &number) ||
      !args.Bytes(0, "slab", Args::kAnyLength, &slab) || !args.Bytes(5, "dataId", kDataIdBytes, &id)) {
    return undefined;
  }
  const auto needed = static_cast<size_t>((k + m - 1) * stride + static_cast<int64_t>(kBlockChecksumBytes) + size);
  if (slab.length < needed) {
    args.Range("slab: expected at least " + std::to_string(needed) + " bytes, got " + std::to_string(slab.length));
    return undefined;
  }
  if (Overlap(slab, id)) {
    args.Range("dataId: overlaps the slab");
    return undefined;
  }
  if (split) {
    if (!Pieces(args, list, static_cast<size_t>(k * size), slab, pieces)) return undefined;
    erasure::SplitStripe(pieces, list.length, static_cast<int>(k), slab.data, size, stride);
  }
  erasure::SealStripe(Code::Get(k, m), slab.data, size, stride, id.data, static_cast<uint32_t>(number));
  return undefined;
}

// sealBlock(cell, dataId, shard, blockNumber)
Napi::Value SealBlock(const Napi::CallbackInfo& info) {
  Args args(info);
  const Napi::Value undefined = info.Env().Undefined();
  int64_t shard, number;
  View cell, id;
  if (!args.Integer(2, "shard", 0, kMaxShards - 1, &shard) ||
      !args.Integer(3, "blockNumber", 0, kMaxBlockNumber, &number) ||
      !args.Bytes(0, "cell", Args::kAnyLength, &cell) || !args.Bytes(1, "dataId", kDataIdBytes, &id)) {
    return undefined;
  }
  if (cell.length <= kBlockChecksumBytes) {
    args.Range("cell: expected more than 16 bytes, got " + std::to_string(cell.length));
    return undefined;
  }
  if (Overlap(cell, id)) {
    args.Range("dataId: overlaps the cell");
    return undefined;
  }
  hash::BlockChecksum(cell.data + kBlockChecksumBytes, cell.length - kBlockChecksumBytes, id.data,
                      static_cast<uint8_t>(shard), static_cast<uint32_t>(number), cell.data);
  return undefined;
}

// verifyCells(cells, blockSize, cellCount, lastBlockSize, dataId, shard, firstBlock): number
Napi::Value VerifyCells(const Napi::CallbackInfo& info) {
  Args args(info);
  const Napi::Value undefined = info.Env().Undefined();
  int64_t size, count, last, shard, first;
  View cells, id;
  if (!args.Integer(1, "blockSize", 1, kMaxBlockSize, &size) || !args.Integer(2, "cellCount", 0, kMaxCells, &count) ||
      !args.Integer(3, "lastBlockSize", count == 0 ? 0 : 1, size, &last) ||
      !args.Integer(5, "shard", 0, kMaxShards - 1, &shard) ||
      !args.Integer(6, "firstBlock", 0, kMaxBlockNumber - (count > 0 ? count - 1 : 0), &first)) {
    return undefined;
  }
  const auto checksum = static_cast<int64_t>(kBlockChecksumBytes);
  const int64_t needed = count == 0 ? 0 : (count - 1) * (checksum + size) + checksum + last;
  if (!args.Bytes(0, "cells", static_cast<size_t>(needed), &cells) || !args.Bytes(4, "dataId", kDataIdBytes, &id)) {
    return undefined;
  }
  const int64_t bad = erasure::VerifyCells(cells.data, size, count, last, id.data, static_cast<uint8_t>(shard),
                                           static_cast<uint32_t>(first));
  return Napi::Number::New(info.Env(), static_cast<double>(bad));
}

// erasureKernel(k, m): string
Napi::Value KernelName(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t k, m;
  if (!Geometry(args, 0, &k, &m)) return info.Env().Undefined();
  return Napi::String::New(info.Env(), erasure::ActiveKernel(static_cast<int>(k), static_cast<int>(m)).name);
}

}  // namespace

void InitErasure(Napi::Env env, Napi::Object exports) {
  Export<Encode>(env, exports, "encode");
  Export<Reconstruct>(env, exports, "reconstruct");
  Export<ParityAgrees>(env, exports, "parityAgrees");
  Export<SealStripe>(env, exports, "sealStripe");
  Export<SealBlock>(env, exports, "sealBlock");
  Export<VerifyCells>(env, exports, "verifyCells");
  Export<KernelName>(env, exports, "erasureKernel");
}

}  // namespace ostraka::addon
