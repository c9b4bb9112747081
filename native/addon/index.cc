// The shard index. The shapes are those of ts/native/shard_index.ts.
//
// A thread attaches to a region once and gets a small number for it. Single operations take their id from a mailbox,
// a Uint8Array of that thread over shared memory, so that a call has no buffer argument to unwrap, and a get leaves
// its answer there: they are a few comparisons away from an empty call. Region and mailbox are referenced until the
// thread detaches from the region or the environment ends; a SharedArrayBuffer cannot be detached. Numbers of which
// nothing is attached any more are given out again.
#include <cmath>
#include <cstring>
#include <deque>
#include <vector>

#include "native/addon/args.h"
#include "native/addon/module.h"
#include "native/index/shard_index.h"

namespace ostraka::addon {

using index::Form;
using index::Id;
using index::Outcome;
using index::ShardIndex;

struct IndexEnvironment {
  struct Attached {
    ShardIndex index;
    /// nullptr: the number is free.
    uint8_t* mailbox = nullptr;
    Napi::ObjectReference region_reference;
    Napi::ObjectReference mailbox_reference;
  };
  // A deque does not move its elements. Its references end with the environment.
  std::deque<Attached> attached;
  std::vector<uint32_t> free_numbers;

  Attached* Find(size_t number) {
    return number < attached.size() && attached[number].mailbox != nullptr ? &attached[number] : nullptr;
  }
  std::vector<ShardIndex::Entry> piece;
};

void FreeIndexEnvironment(IndexEnvironment* environment) { delete environment; }

namespace {

// The id, and room for one location (a double) that is answered.
constexpr size_t kMailboxBytes = 24;
constexpr int64_t kMaxLocation = (int64_t{1} << 53) - 1;
constexpr int64_t kMaxEntries = int64_t{1} << 33;

Id ReadId(const uint8_t* bytes) {
  Id id;
  std::memcpy(&id.high, bytes, 8);
  std::memcpy(&id.low, bytes + 8, 8);
  return id;
}

// JavaScript wrote words of 32 bits just before. Read as such they are forwarded from its stores; read as 64 bits they
// would have to reach the cache first.
Id ReadMailbox(const uint8_t* bytes) {
  const auto* words = reinterpret_cast<const volatile uint32_t*>(bytes);
  const uint64_t at[4] = {words[0], words[1], words[2], words[3]};
  return {at[0] | at[1] << 32, at[2] | at[3] << 32};
}

IndexEnvironment& Of(Napi::Env env) {
  auto& slot = env.GetInstanceData<Environment>()->index;
  if (!slot) slot.reset(new IndexEnvironment());
  return *slot;
}

// ---- One call, one id: straight on Node-API, because every nanosecond here is paid per object --------------------

struct Call {
  napi_env env;
  napi_value arguments[4];
  size_t count = 4;
  IndexEnvironment::Attached* attached = nullptr;

  // The first argument is the number that attach gave. What is not asked for need not be filled with undefined.
  bool Begin(napi_env environment, napi_callback_info info, size_t most = 4) {
    env = environment;
    count = most;
    void* data = nullptr;
    napi_get_cb_info(env, info, &count, arguments, nullptr, &data);
    auto* own = static_cast<IndexEnvironment*>(data);
    uint32_t number = 0;
    if (count >= 1 && napi_get_value_uint32(env, arguments[0], &number) == napi_ok) attached = own->Find(number);
    if (attached == nullptr) {
      napi_throw_type_error(env, "ERR_OSTRAKA_ARGUMENT", "index: expected a number given by indexAttach");
      return false;
    }
    return true;
  }

  Id FromMailbox() const { return ReadMailbox(attached->mailbox); }

  // A location is a whole number from 0 to 2^53 - 1.
  bool Location(size_t at, uint64_t* out) const {
    double value = -1;
    if (at >= count || napi_get_value_double(env, arguments[at], &value) != napi_ok || !(value >= 0) ||
        value > static_cast<double>(kMaxLocation) || value != std::floor(value)) {
      napi_throw_range_error(env, "ERR_OSTRAKA_ARGUMENT", "location: expected a whole number from 0 to 2^53 - 1");
      return false;
    }
    *out = static_cast<uint64_t>(value);
    return true;
  }

  napi_value Said(Outcome outcome) const {
    napi_value result;
    napi_create_int32(env, static_cast<int32_t>(outcome), &result);
    return result;
  }
};

// indexGet(number); the location, or -1, goes to the mailbox, which is quicker than making a number of it
napi_value Get(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Begin(env, info, 1)) return nullptr;
  uint64_t location;
  const double answer = call.attached->index.Get(call.FromMailbox(), &location) ? static_cast<double>(location) : -1;
  std::memcpy(call.attached->mailbox + sizeof(Id), &answer, sizeof answer);
  return nullptr;
}

// indexInsert(number, location): outcome
napi_value Insert(napi_env env, napi_callback_info info) {
  Call call;
  uint64_t location;
  if (!call.Begin(env, info) || !call.Location(1, &location)) return nullptr;
  return call.Said(call.attached->index.Insert(call.FromMailbox(), location));
}

// indexCompareAndSet(number, expected, location): outcome
napi_value CompareAndSet(napi_env env, napi_callback_info info) {
  Call call;
  uint64_t expected;
  uint64_t location;
  if (!call.Begin(env, info) || !call.Location(1, &expected) || !call.Location(2, &location)) return nullptr;
  ShardIndex& index = call.attached->index;
  const Id id = call.FromMailbox();
  return call.Said(index.form() == Form::kIds ? index.CompareAndSet(id, expected, location)
                                              : index.CompareAndSetHashed(id.high, expected, location));
}

// indexRemove(number, expected?): outcome
napi_value Remove(napi_env env, napi_callback_info info) {
  Call call;
  if (!call.Begin(env, info)) return nullptr;
  uint64_t expected = 0;
  if (call.count > 1 && !call.Location(1, &expected)) return nullptr;
  ShardIndex& index = call.attached->index;
  const Id id = call.FromMailbox();
  return call.Said(index.form() == Form::kIds ? index.Remove(id, call.count > 1 ? &expected : nullptr)
                                              : index.RemoveHashed(id.high, expected));
}

// ---- The rest ------------------------------------------------------------------------------------------------------

class IndexArgs : public Args {
 public:
  explicit IndexArgs(const Napi::CallbackInfo& info) : Args(info), own_(Of(info.Env())) {}

  bool Attached(IndexEnvironment::Attached** out) {
    int64_t number;
    if (!Integer(0, "number", 0, static_cast<int64_t>(own_.attached.size()) - 1, &number)) return false;
    *out = own_.Find(static_cast<size_t>(number));
    return *out != nullptr || Range("number: nothing is attached");
  }
  IndexEnvironment& own() { return own_; }

 private:
  IndexEnvironment& own_;
};

// indexRegionBytes(maxEntries): number
Napi::Value RegionBytes(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t entries;
  if (!args.Integer(0, "maxEntries", 1, kMaxEntries, &entries)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(ShardIndex::RegionBytes(static_cast<uint64_t>(entries))));
}

// indexPadding(bytes): how far the next address that a region may start at is
Napi::Value Padding(const Napi::CallbackInfo& info) {
  Args args(info);
  View view;
  if (!args.Bytes(0, "bytes", Args::kAnyLength, &view)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>((64 - reinterpret_cast<uintptr_t>(view.data) % 64) % 64));
}

// indexFormat(region, maxEntries, hashed: 0 | 1)
Napi::Value Format(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t entries;
  int64_t hashed;
  View region;
  if (args.Integer(1, "maxEntries", 1, kMaxEntries, &entries) && args.Integer(2, "hashed", 0, 1, &hashed) &&
      args.Bytes(0, "region", Args::kAnyLength, &region) &&
      !ShardIndex::Format(region.data, region.length, static_cast<uint64_t>(entries),
                          hashed == 1 ? Form::kHashed : Form::kIds)) {
    args.Range("region: expected indexRegionBytes(maxEntries) bytes at an address that is a multiple of 64");
  }
  return info.Env().Undefined();
}

// indexAttach(region, mailbox): number
Napi::Value Attach(const Napi::CallbackInfo& info) {
  IndexArgs args(info);
  View region;
  View mailbox;
  if (!args.Bytes(0, "region", Args::kAnyLength, &region) || !args.Bytes(1, "mailbox", kMailboxBytes, &mailbox)) {
    return info.Env().Undefined();
  }
  if (reinterpret_cast<uintptr_t>(mailbox.data) % alignof(double) != 0) {
    args.Range("mailbox: not aligned to 8 bytes");
    return info.Env().Undefined();
  }
  ShardIndex index;
  if (!index.Attach(region.data, region.length)) {
    args.Range("region: not a formatted index");
    return info.Env().Undefined();
  }
  IndexEnvironment& own = args.own();
  if (own.free_numbers.empty()) {
    own.free_numbers.push_back(static_cast<uint32_t>(own.attached.size()));
    own.attached.emplace_back();
  }
  const uint32_t number = own.free_numbers.back();
  own.free_numbers.pop_back();
  IndexEnvironment::Attached& attached = own.attached[number];
  attached.index = index;
  attached.mailbox = mailbox.data;
  attached.region_reference = Napi::Persistent(info[0].As<Napi::Object>());
  attached.mailbox_reference = Napi::Persistent(info[1].As<Napi::Object>());
  // Of what outlives the environment nothing may be asked of it any more.
  attached.region_reference.SuppressDestruct();
  attached.mailbox_reference.SuppressDestruct();
  return Napi::Number::New(info.Env(), number);
}

// indexDetach(number)
Napi::Value Detach(const Napi::CallbackInfo& info) {
  IndexArgs args(info);
  IndexEnvironment::Attached* attached;
  int64_t number;
  if (!args.Attached(&attached) || !args.Integer(0, "number", 0, UINT32_MAX, &number)) return info.Env().Undefined();
  attached->index = ShardIndex();
  attached->mailbox = nullptr;
  attached->region_reference.Reset();
  attached->mailbox_reference.Reset();
  args.own().free_numbers.push_back(static_cast<uint32_t>(number));
  return info.Env().Undefined();
}

double AsLocation(uint64_t location) { return location == UINT64_MAX ? -1 : static_cast<double>(location); }

void StoreNumber(const View& numbers, size_t at, double value) {
  std::memcpy(numbers.data + at * sizeof value, &value, sizeof value);
}

// indexGetMany(number, ids, locations): found. ids: 16 bytes each; locations: a Float64Array's bytes, -1 for missing
Napi::Value GetMany(const Napi::CallbackInfo& info) {
  IndexArgs args(info);
  IndexEnvironment::Attached* attached;
  View ids;
  View locations;
  if (!args.Attached(&attached) || !args.Bytes(1, "ids", Args::kAnyLength, &ids) ||
      !args.Bytes(2, "locations", Args::kAnyLength, &locations)) {
    return info.Env().Undefined();
  }
  const size_t count = ids.length / 16;
  if (ids.length % 16 != 0 || locations.length != count * 8) {
    args.Range("ids, locations: expected 16 bytes and one location each");
    return info.Env().Undefined();
  }
  constexpr size_t kBatch = 64;
  Id batch[kBatch];
  uint64_t answers[kBatch];
  size_t found = 0;
  for (size_t start = 0; start < count; start += kBatch) {
    const size_t size = std::min(kBatch, count - start);
    for (size_t i = 0; i < size; i++) batch[i] = ReadId(ids.data + (start + i) * 16);
    found += attached->index.GetMany(batch, size, UINT64_MAX, answers);
    for (size_t i = 0; i < size; i++) StoreNumber(locations, start + i, AsLocation(answers[i]));
  }
  return Napi::Number::New(info.Env(), static_cast<double>(found));
}

// indexCandidates(number, locations): count; hashed form, the hash in the first 8 bytes of the mailbox
Napi::Value Candidates(const Napi::CallbackInfo& info) {
  IndexArgs args(info);
  IndexEnvironment::Attached* attached;
  View locations;
  if (!args.Attached(&attached) || !args.Bytes(1, "locations", ShardIndex::kMaxCandidates * 8, &locations)) {
    return info.Env().Undefined();
  }
  const Id id = ReadId(attached->mailbox);
  uint64_t found[ShardIndex::kMaxCandidates];
  const size_t count = attached->index.Candidates(id.high, found);
  for (size_t i = 0; i < std::min(count, ShardIndex::kMaxCandidates); i++)
    StoreNumber(locations, i, AsLocation(found[i]));
  return Napi::Number::New(info.Env(), static_cast<double>(count));
}

// indexInsertHashed(number, location, seen, seenCount): outcome
Napi::Value InsertHashed(const Napi::CallbackInfo& info) {
  IndexArgs args(info);
  IndexEnvironment::Attached* attached;
  int64_t location;
  int64_t count;
  View seen;
  if (!args.Attached(&attached) || !args.Integer(1, "location", 0, kMaxLocation, &location) ||
      !args.Integer(3, "seenCount", 0, ShardIndex::kMaxCandidates, &count) ||
      !args.Bytes(2, "seen", ShardIndex::kMaxCandidates * 8, &seen)) {
    return info.Env().Undefined();
  }
  uint64_t locations[ShardIndex::kMaxCandidates];
  for (int64_t i = 0; i < count; i++) {
    double value;
    std::memcpy(&value, seen.data + i * 8, 8);
    locations[i] = value >= 0 && value <= static_cast<double>(kMaxLocation) ? static_cast<uint64_t>(value) : UINT64_MAX;
  }
  const Id id = ReadId(attached->mailbox);
  const Outcome outcome =
      attached->index.InsertHashed(id.high, static_cast<uint64_t>(location), locations, static_cast<size_t>(count));
  return Napi::Number::New(info.Env(), static_cast<double>(static_cast<int>(outcome)));
}

// indexIterate(number, cursor: bigint, ids, locations): { count, cursor }, or null at the end
Napi::Value Iterate(const Napi::CallbackInfo& info) {
  IndexArgs args(info);
  IndexEnvironment::Attached* attached;
  uint64_t cursor;
  View ids;
  View locations;
  if (!args.Attached(&attached) || !args.BigUint64(1, "cursor", &cursor) ||
      !args.Bytes(2, "ids", ShardIndex::kPieceSlots * 16, &ids) ||
      !args.Bytes(3, "locations", ShardIndex::kPieceSlots * 8, &locations)) {
    return info.Env().Undefined();
  }
  auto& piece = args.own().piece;
  piece.resize(ShardIndex::kPieceSlots);
  size_t count;
  if (!attached->index.Iterate(&cursor, piece.data(), &count)) return info.Env().Null();
  for (size_t i = 0; i < count; i++) {
    std::memcpy(ids.data + i * 16, &piece[i].id.high, 8);
    std::memcpy(ids.data + i * 16 + 8, &piece[i].id.low, 8);
    StoreNumber(locations, i, AsLocation(piece[i].location));
  }
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("count", static_cast<double>(count));
  result.Set("cursor", Napi::BigInt::New(info.Env(), cursor));
  return result;
}

// indexLength(number): number
Napi::Value Length(const Napi::CallbackInfo& info) {
  IndexArgs args(info);
  IndexEnvironment::Attached* attached;
  if (!args.Attached(&attached)) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(attached->index.Length()));
}

// indexClear(number)
Napi::Value Clear(const Napi::CallbackInfo& info) {
  IndexArgs args(info);
  IndexEnvironment::Attached* attached;
  if (args.Attached(&attached)) attached->index.Clear();
  return info.Env().Undefined();
}

// indexReserve(number, entries): boolean
Napi::Value Reserve(const Napi::CallbackInfo& info) {
  IndexArgs args(info);
  IndexEnvironment::Attached* attached;
  int64_t entries;
  if (!args.Attached(&attached) || !args.Integer(1, "entries", 1, kMaxEntries, &entries)) {
    return info.Env().Undefined();
  }
  return Napi::Boolean::New(info.Env(), attached->index.Reserve(static_cast<uint64_t>(entries)));
}

// indexStatistics(number): object of numbers
Napi::Value Statistics(const Napi::CallbackInfo& info) {
  IndexArgs args(info);
  IndexEnvironment::Attached* attached;
  if (!args.Attached(&attached)) return info.Env().Undefined();
  const index::Stats stats = attached->index.Statistics();
  Napi::Object result = Napi::Object::New(info.Env());
  const auto set = [&](const char* name, uint64_t value) { result.Set(name, static_cast<double>(value)); };
  set("entries", stats.entries);
  set("tombstones", stats.tombstones);
  set("slots", stats.slots);
  set("pieces", stats.pieces);
  set("depth", stats.depth);
  set("regionBytes", stats.region_bytes);
  set("splits", stats.splits);
  set("enlargements", stats.enlargements);
  set("cleanings", stats.cleanings);
  set("probesTotal", stats.probes_total);
  set("probesMost", stats.probes_most);
  set("sameHashMost", stats.same_hash_most);
  return result;
}

// indexNothing(): the empty call that benchmarks compare with
napi_value Nothing(napi_env, napi_callback_info) { return nullptr; }

}  // namespace

void InitIndex(Napi::Env env, Napi::Object exports) {
  IndexEnvironment& own = Of(env);
  const auto single = [&](const char* name, napi_callback callback) {
    napi_value function;
    if (napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, &own, &function) == napi_ok) {
      exports.Set(name, Napi::Value(env, function));
    }
  };
  single("indexGet", Get);
  single("indexInsert", Insert);
  single("indexCompareAndSet", CompareAndSet);
  single("indexRemove", Remove);
  single("indexNothing", Nothing);
  Export<RegionBytes>(env, exports, "indexRegionBytes");
  Export<Padding>(env, exports, "indexPadding");
  Export<Format>(env, exports, "indexFormat");
  Export<Attach>(env, exports, "indexAttach");
  Export<Detach>(env, exports, "indexDetach");
  Export<GetMany>(env, exports, "indexGetMany");
  Export<Candidates>(env, exports, "indexCandidates");
  Export<InsertHashed>(env, exports, "indexInsertHashed");
  Export<Iterate>(env, exports, "indexIterate");
  Export<Length>(env, exports, "indexLength");
  Export<Clear>(env, exports, "indexClear");
  Export<Reserve>(env, exports, "indexReserve");
  Export<Statistics>(env, exports, "indexStatistics");
}

}  // namespace ostraka::addon
