// hash: XXH3, CRC32C, CRC64NVME, MD5. The shapes are those of ts/native/hash.ts.
#include <cstring>
#include <string>
#include <vector>

#include "native/addon/args.h"
#include "native/addon/module.h"
#include "native/hash/crc.h"
#include "native/hash/md5.h"
#include "native/hash/xxh3.h"

namespace ostraka::addon {

namespace {

constexpr int64_t kMaxOffset = int64_t{1} << 40;
constexpr int64_t kMaxSeed = (int64_t{1} << 53) - 1;

// xxh3_64(data, seed: bigint): bigint
Napi::Value Xxh3Of64(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t seed;
  View data;
  if (!args.BigUint64(1, "seed", &seed) || !args.Bytes(0, "data", Args::kAnyLength, &data)) {
    return info.Env().Undefined();
  }
  return Napi::BigInt::New(info.Env(), hash::Xxh3Of64(data.data, data.length, seed));
}

// xxh3_128(data, seed: bigint, out)
Napi::Value Xxh3Of128(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t seed;
  View data, out;
  if (args.BigUint64(1, "seed", &seed) && args.Bytes(0, "data", Args::kAnyLength, &data) &&
      args.Bytes(2, "out", 16, &out)) {
    uint8_t digest[16];
    hash::Xxh3Of128(data.data, data.length, seed, digest);
    std::memcpy(out.data, digest, sizeof digest);
  }
  return info.Env().Undefined();
}

// crc32c(data, running): number
Napi::Value Crc32c(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t running;
  View data;
  if (!args.Integer(1, "running", 0, UINT32_MAX, &running) || !args.Bytes(0, "data", Args::kAnyLength, &data)) {
    return info.Env().Undefined();
  }
  return Napi::Number::New(info.Env(), hash::Crc32c(static_cast<uint32_t>(running), data.data, data.length));
}

// crc64nvme(data, running: bigint): bigint
Napi::Value Crc64Nvme(const Napi::CallbackInfo& info) {
  Args args(info);
  uint64_t running;
  View data;
  if (!args.BigUint64(1, "running", &running) || !args.Bytes(0, "data", Args::kAnyLength, &data)) {
    return info.Env().Undefined();
  }
  return Napi::BigInt::New(info.Env(), hash::Crc64Nvme(running, data.data, data.length));
}

// The common part of the two below: (place, offset, parts, seed). `place` are the eight bytes at the offset.
bool Checksum(Args& args, uint8_t** place, uint64_t* checksum) {
  int64_t offset, seed;
  List list;
  View target;
  if (!args.ReadList(2, "parts", 0, List::kMaxList, &list) || !args.Integer(1, "offset", 0, kMaxOffset, &offset) ||
      !args.Integer(3, "seed", 0, kMaxSeed, &seed) || !args.Bytes(0, "checksum", Args::kAnyLength, &target)) {
    return false;
  }
  if (target.length < 8 || static_cast<size_t>(offset) > target.length - 8) {
    return args.Range("offset: eight bytes at " + std::to_string(offset) + " do not fit into " +
                      std::to_string(target.length));
  }
  hash::Part parts[List::kMaxList];
  for (size_t i = 0; i < list.length; i++) {
    View view;
    if (!args.BytesOf(list.items[i], "parts", Args::kAnyLength, &view)) return false;
    parts[i] = {view.data, view.length};
  }
  *place = target.data + offset;
  *checksum = hash::Xxh3Of64Parts(parts, list.length, static_cast<uint64_t>(seed));
  return true;
}

// checksum64(out, outOffset, parts, seed)
Napi::Value Checksum64(const Napi::CallbackInfo& info) {
  Args args(info);
  uint8_t* place;
  uint64_t checksum;
  if (Checksum(args, &place, &checksum)) hash::Store64(place, checksum);
  return info.Env().Undefined();
}

// checksum64Behind(bytes, from, to, seed)
Napi::Value Checksum64Behind(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t from, to, seed;
  View bytes;
  if (!args.Integer(1, "from", 0, kMaxOffset, &from) || !args.Integer(2, "to", from, kMaxOffset, &to) ||
      !args.Integer(3, "seed", 0, kMaxSeed, &seed) || !args.Bytes(0, "bytes", Args::kAnyLength, &bytes)) {
    return info.Env().Undefined();
  }
  if (bytes.length < 8 || static_cast<size_t>(to) > bytes.length - 8) {
    args.Range("to: eight bytes at " + std::to_string(to) + " do not fit into " + std::to_string(bytes.length));
    return info.Env().Undefined();
  }
  const auto length = static_cast<size_t>(to - from);
  hash::Store64(bytes.data + to, hash::Xxh3Of64(bytes.data + from, length, static_cast<uint64_t>(seed)));
  return info.Env().Undefined();
}

// checksum64Matches(expected, expectedOffset, parts, seed): boolean
Napi::Value Checksum64Matches(const Napi::CallbackInfo& info) {
  Args args(info);
  uint8_t* place;
  uint64_t checksum;
  if (!Checksum(args, &place, &checksum)) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), hash::Load64(place) == checksum);
}

// The common part of the two below: a record (its first eight bytes are the checksum) and its key.
bool RecordChecksum(Args& args, uint8_t** place, uint64_t* checksum) {
  View record, key;
  if (!args.Bytes(0, "record", Args::kAnyLength, &record) || !args.Bytes(1, "key", Args::kAnyLength, &key)) {
    return false;
  }
  if (record.length < 8) return args.Range("record: expected at least 8 bytes, got " + std::to_string(record.length));
  const hash::Part parts[] = {{key.data, key.length}, {record.data + 8, record.length - 8}};
  *place = record.data;
  *checksum = hash::Xxh3Of64Parts(parts, 2, 0);
  return true;
}

// sealRecord(record, key)
Napi::Value SealRecord(const Napi::CallbackInfo& info) {
  Args args(info);
  uint8_t* place;
  uint64_t checksum;
  if (RecordChecksum(args, &place, &checksum)) hash::Store64(place, checksum);
  return info.Env().Undefined();
}

// recordMatches(record, key): boolean
Napi::Value RecordMatches(const Napi::CallbackInfo& info) {
  Args args(info);
  uint8_t* place;
  uint64_t checksum;
  if (!RecordChecksum(args, &place, &checksum)) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), hash::Load64(place) == checksum);
}

// The common part of the two below: (place, offset, bytes). `place` are the eight bytes at the offset.
bool Link(Args& args, uint8_t** place, uint64_t* checksum) {
  int64_t offset;
  View target, key;
  if (!args.Integer(1, "offset", 0, kMaxOffset, &offset) || !args.Bytes(0, "record", Args::kAnyLength, &target) ||
      !args.Bytes(2, "key", Args::kAnyLength, &key)) {
    return false;
  }
  if (target.length < 8 || static_cast<size_t>(offset) > target.length - 8) {
    return args.Range("offset: eight bytes at " + std::to_string(offset) + " do not fit into " +
                      std::to_string(target.length));
  }
  *place = target.data + offset;
  *checksum = hash::Xxh3Of64(key.data, key.length, 0);
  return true;
}

// linkRecord(record, offset, key)
Napi::Value LinkRecord(const Napi::CallbackInfo& info) {
  Args args(info);
  uint8_t* place;
  uint64_t checksum;
  if (Link(args, &place, &checksum)) hash::Store64(place, checksum);
  return info.Env().Undefined();
}

// linkMatches(record, offset, key): boolean
Napi::Value LinkMatches(const Napi::CallbackInfo& info) {
  Args args(info);
  uint8_t* place;
  uint64_t checksum;
  if (!Link(args, &place, &checksum)) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), hash::Load64(place) == checksum);
}

// A state as JavaScript holds it: the bytes of Md5State.
constexpr size_t kMd5StateBytes = sizeof(hash::Md5State);

// md5Start(state)
Napi::Value Md5Start(const Napi::CallbackInfo& info) {
  Args args(info);
  View state;
  if (args.Bytes(0, "state", kMd5StateBytes, &state)) {
    const hash::Md5State fresh;
    std::memcpy(state.data, &fresh, sizeof fresh);
  }
  return info.Env().Undefined();
}

// md5Update(states, pieces): piece i goes to state i. States are copied in and out, since they need not be aligned.
Napi::Value Md5Update(const Napi::CallbackInfo& info) {
  static_assert(List::kMaxList == hash::kMd5Pieces);
  Args args(info);
  const Napi::Value undefined = info.Env().Undefined();
  List states, data;
  if (!args.ReadList(0, "states", 0, List::kMaxList, &states) ||
      !args.ReadList(1, "pieces", states.length, states.length, &data)) {
    return undefined;
  }
  View places[List::kMaxList];
  hash::Md5Piece pieces[List::kMaxList];
  for (size_t i = 0; i < states.length; i++) {
    View view;
    if (!args.BytesOf(states.items[i], "states", kMd5StateBytes, &places[i]) ||
        !args.BytesOf(data.items[i], "pieces", Args::kAnyLength, &view)) {
      return undefined;
    }
    pieces[i] = {nullptr, view.data, view.length};
  }
  hash::Md5State copies[List::kMaxList];
  for (size_t i = 0; i < states.length; i++) {
    for (size_t before = 0; before < i && pieces[i].state == nullptr; before++) {
      if (places[before].data == places[i].data) pieces[i].state = pieces[before].state;
    }
    if (pieces[i].state != nullptr) continue;
    std::memcpy(&copies[i], places[i].data, kMd5StateBytes);
    pieces[i].state = &copies[i];
  }
  hash::Md5Update(pieces, states.length);
  for (size_t i = 0; i < states.length; i++) std::memcpy(places[i].data, pieces[i].state, kMd5StateBytes);
  return undefined;
}

// md5Digest(state, out)
Napi::Value Md5Digest(const Napi::CallbackInfo& info) {
  Args args(info);
  View state, out;
  if (args.Bytes(0, "state", kMd5StateBytes, &state) && args.Bytes(1, "out", 16, &out)) {
    hash::Md5State copy;
    std::memcpy(&copy, state.data, sizeof copy);
    uint8_t digest[16];
    hash::Md5Digest(copy, digest);
    std::memcpy(out.data, digest, sizeof digest);
  }
  return info.Env().Undefined();
}

// md5Of(pieces, out): out[16i..16i+16) is the digest of piece i.
Napi::Value Md5Of(const Napi::CallbackInfo& info) {
  Args args(info);
  const Napi::Value undefined = info.Env().Undefined();
  List list;
  View out;
  if (!args.ReadList(0, "pieces", 0, List::kMaxList, &list) || !args.Bytes(1, "out", 16 * list.length, &out)) {
    return undefined;
  }
  std::vector<hash::Md5State> states(list.length);
  hash::Md5Piece pieces[List::kMaxList];
  for (size_t i = 0; i < list.length; i++) {
    View view;
    if (!args.BytesOf(list.items[i], "pieces", Args::kAnyLength, &view)) return undefined;
    pieces[i] = {&states[i], view.data, view.length};
  }
  hash::Md5Update(pieces, list.length);
  for (size_t i = 0; i < list.length; i++) hash::Md5Digest(states[i], out.data + 16 * i);
  return undefined;
}

}  // namespace

void InitHash(Napi::Env env, Napi::Object exports) {
  Export<Xxh3Of64>(env, exports, "xxh3_64");
  Export<Xxh3Of128>(env, exports, "xxh3_128");
  Export<Crc32c>(env, exports, "crc32c");
  Export<Crc64Nvme>(env, exports, "crc64nvme");
  Export<Md5Start>(env, exports, "md5Start");
  Export<Md5Update>(env, exports, "md5Update");
  Export<Md5Digest>(env, exports, "md5Digest");
  Export<Md5Of>(env, exports, "md5Of");
  Export<Checksum64>(env, exports, "checksum64");
  Export<Checksum64Behind>(env, exports, "checksum64Behind");
  Export<Checksum64Matches>(env, exports, "checksum64Matches");
  Export<SealRecord>(env, exports, "sealRecord");
  Export<RecordMatches>(env, exports, "recordMatches");
  Export<LinkRecord>(env, exports, "linkRecord");
  Export<LinkMatches>(env, exports, "linkMatches");
}

}  // namespace ostraka::addon
