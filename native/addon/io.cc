// io: the drives. The shapes are those of ts/native/io.ts.
//
// Completions of all drives reach a JavaScript thread through one thread-safe function, called once for all that came
// together. The bytes of a batch are its own (see native/io/drive.h): written data is copied in by ioSubmit, read
// data is copied out by ioTake while completions are delivered. So a thread that hangs in a system call never holds
// memory of an environment, and an environment can be torn down at any time.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <unistd.h>

#include "native/addon/args.h"
#include "native/addon/module.h"
#include "native/io/drive.h"

namespace ostraka::addon {

namespace {

/// Numbers that describe one operation: kind, file, offset, size, flags, count of buffers.
constexpr size_t kNumbers = 6;
constexpr size_t kMaxOperations = 1024;
constexpr int64_t kMaxBytes = int64_t{256} << 20;
constexpr double kMaxInteger = 9007199254740991.0;
constexpr size_t kMaxPaths = size_t{2} << 20;

std::atomic<uint64_t> last_client{0};

/// Where completed batches of one environment wait for it. Outlives the environment while threads hang.
class Channel : public io::Sink {
 public:
  void Completed(std::shared_ptr<io::Batch> batch) override {
    {
      const std::lock_guard lock(mutex_);
      completed_.push_back(std::move(batch));
      if (completed_.size() > 1) return;  // called for what came before, and not yet taken
    }
    // The thread that this wakes goes straight for what is completed, and must not find it locked.
    const std::lock_guard open(function_mutex_);
    if (!closed_) napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking);
  }

  std::vector<std::shared_ptr<io::Batch>> Take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(completed_, {});
  }

  void Open(napi_threadsafe_function function) { function_ = function; }

  /// On the environment's thread, before its thread-safe function goes away.
  void Close() {
    {
      const std::lock_guard open(function_mutex_);
      if (closed_) return;
      closed_ = true;
      napi_release_threadsafe_function(function_, napi_tsfn_abort);
    }
    Take();
  }

 private:
  std::mutex mutex_;
  std::vector<std::shared_ptr<io::Batch>> completed_;
  /// Guards the use of the function against its end. Never taken inside of `mutex_`, nor around it.
  std::mutex function_mutex_;
  bool closed_ = false;
  napi_threadsafe_function function_ = nullptr;
};

}  // namespace

/// Used on the environment's thread only.
struct IoEnvironment {
  std::shared_ptr<Channel> channel = std::make_shared<Channel>();
  napi_threadsafe_function function = nullptr;
  std::unordered_map<uint64_t, std::shared_ptr<io::Drive>> clients;
  /// Submitted and not delivered, by id. Not empty: the function is referenced, which keeps the event loop alive.
  std::unordered_map<uint64_t, std::shared_ptr<io::Batch>> pending;
  /// During a call of the receiver: what ioTake finds.
  std::unordered_map<uint64_t, std::shared_ptr<io::Batch>> delivering;

  void Add(Napi::Env env, std::shared_ptr<io::Batch> batch) {
    if (pending.empty()) napi_ref_threadsafe_function(env, function);
    pending.emplace(batch->id, std::move(batch));
  }

  void Remove(Napi::Env env, uint64_t id) {
    if (pending.erase(id) > 0 && pending.empty()) napi_unref_threadsafe_function(env, function);
  }

  void CloseClient(uint64_t client) {
    const auto found = clients.find(client);
    if (found == clients.end()) return;
    found->second->CloseClient(client);
    io::Registry::Get().Release(found->second);
    clients.erase(found);
  }
};

namespace {

IoEnvironment* Io(Napi::Env env) { return env.GetInstanceData<Environment>()->io.get(); }

/// What one batch gave, appended to `numbers` and `names`: id, errno, index of the failed operation, count of
/// results, then three numbers for each result. The names of listings go to `names`.
void Describe(const io::Batch& batch, std::vector<double>* numbers, std::vector<std::string>* names) {
  const size_t count = batch.error == 0 ? batch.results.size() : 0;
  numbers->push_back(static_cast<double>(batch.id));
  numbers->push_back(batch.error);
  numbers->push_back(static_cast<double>(batch.failed_at));
  numbers->push_back(static_cast<double>(count));
  for (size_t i = 0; i < count; i++) {
    const io::Result& result = batch.results[i];
    numbers->push_back(static_cast<double>(result.a));
    numbers->push_back(static_cast<double>(result.b));
    numbers->push_back(static_cast<double>(result.c));
    if (batch.operations[i].kind == io::Kind::kList) names->push_back(result.names);
  }
}

/// Delivers everything completed: receiver(numbers: Float64Array, names: string[]).
void Deliver(napi_env raw, napi_value receiver, void* context, void*) {
  if (raw == nullptr) return;
  Napi::Env env(raw);
  const Napi::HandleScope scope(env);
  auto* channel = static_cast<Channel*>(context);
  IoEnvironment* io = Io(env);
  std::vector<double> numbers;
  std::vector<std::string> names;
  for (auto& batch : channel->Take()) {
    // What was given up meanwhile is no longer pending, and nobody waits for it.
    if (!io->pending.contains(batch->id)) continue;
    Describe(*batch, &numbers, &names);
    io->Remove(env, batch->id);
    io->delivering.emplace(batch->id, std::move(batch));
  }
  if (io->delivering.empty()) return;
  // Every call can fail here: the thread may be being stopped at this very moment. Then nobody waits for these.
  napi_value buffer, arguments[2], ignored;
  void* data = nullptr;
  bool made = napi_create_arraybuffer(env, numbers.size() * sizeof(double), &data, &buffer) == napi_ok &&
              napi_create_typedarray(env, napi_float64_array, numbers.size(), buffer, 0, &arguments[0]) == napi_ok &&
              napi_create_array_with_length(env, names.size(), &arguments[1]) == napi_ok;
  if (made) std::memcpy(data, numbers.data(), numbers.size() * sizeof(double));
  for (size_t i = 0; made && i < names.size(); i++) {
    napi_value name;
    made = napi_create_string_utf8(env, names[i].data(), names[i].size(), &name) == napi_ok &&
           napi_set_element(env, arguments[1], static_cast<uint32_t>(i), name) == napi_ok;
  }
  if (made) napi_call_function(env, env.Undefined(), receiver, 2, arguments, &ignored);
  io->delivering.clear();
}

void CleanUp(void* data) {
  auto* io = static_cast<IoEnvironment*>(data);
  while (!io->clients.empty()) io->CloseClient(io->clients.begin()->first);
  io->channel->Close();
}

// ioConnect(receiver): once in every environment
Napi::Value Connect(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Args args(info);
  auto* environment = env.GetInstanceData<Environment>();
  if (!info[0].IsFunction()) {
    args.Type("receiver: expected a function");
    return env.Undefined();
  }
  if (environment->io) {
    args.Type("ioConnect: already connected");
    return env.Undefined();
  }
  auto io = std::make_shared<IoEnvironment>();
  // The channel is kept by the function's finalizer as well: a last call may come after the environment's data is gone.
  auto* kept = new std::shared_ptr<Channel>(io->channel);
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<std::shared_ptr<Channel>*>(data); };
  const napi_status status = napi_create_threadsafe_function(
      env, info[0], nullptr, Napi::String::New(env, "ostraka:io"), 0, 1, kept, finalize, io->channel.get(), Deliver,
      &io->function);
  if (status != napi_ok) {
    delete kept;
    ThrowWithCode(env, "ERR_OSTRAKA_IO", "the drives cannot be connected to this thread");
    return env.Undefined();
  }
  napi_unref_threadsafe_function(env, io->function);
  io->channel->Open(io->function);
  // Hooks run last first: this one before that of the thread-safe function.
  napi_add_env_cleanup_hook(env, CleanUp, io.get());
  environment->io = std::move(io);
  return env.Undefined();
}

// ioOpen(path, threads, queueLength): client
Napi::Value Open(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Args args(info);
  int64_t threads, queue_length;
  if (!args.Integer(1, "threads", 1, 64, &threads) || !args.Integer(2, "queueLength", 1, 1 << 20, &queue_length)) {
    return env.Undefined();
  }
  if (!info[0].IsString()) {
    args.Type("path: expected a string");
    return env.Undefined();
  }
  const std::string path = info[0].As<Napi::String>().Utf8Value();
  if (path.empty() || path[0] != '/' || path.find('\0') != std::string::npos) {
    args.Range("path: expected an absolute path");
    return env.Undefined();
  }
  IoEnvironment* io = Io(env);
  if (io == nullptr) {
    args.Type("ioOpen: not connected");
    return env.Undefined();
  }
  const uint64_t client = ++last_client;
  io->clients.emplace(client, io::Registry::Get().Acquire(path, static_cast<unsigned>(threads),
                                                          static_cast<size_t>(queue_length)));
  return Napi::Number::New(env, static_cast<double>(client));
}

/// '.' or names separated by single slashes, none of them '.' or '..'.
bool IsDrivePath(const std::string& path) {
  if (path == ".") return true;
  size_t start = 0;
  for (;;) {
    const size_t end = path.find('/', start);
    const std::string name = path.substr(start, end == std::string::npos ? end : end - start);
    if (name.empty() || name == "." || name == "..") return false;
    if (end == std::string::npos) return true;
    start = end + 1;
  }
}

/// The paths of a batch, separated by NUL, taken one after the other.
class Paths {
 public:
  explicit Paths(std::string all) : all_(std::move(all)) {}

  bool Next(std::string* path) {
    if (at_ > all_.size()) return false;
    size_t end = all_.find('\0', at_);
    if (end == std::string::npos) end = all_.size();
    *path = all_.substr(at_, end - at_);
    at_ = end + 1;
    return IsDrivePath(*path);
  }

 private:
  const std::string all_;
  size_t at_ = 0;
};

bool TakesPath(io::Kind kind) {
  return kind == io::Kind::kOpen || (kind >= io::Kind::kRename && kind <= io::Kind::kStat);
}

bool IsWhole(double value, double least, double most) {
  return value >= least && value <= most && std::trunc(value) == value;
}

/// Makes the operation that the six numbers describe; for a write, `views` are its buffers. Bytes are copied here.
bool Decode(Args& args, const double* numbers, Paths& paths, const std::vector<View>& views, size_t* view,
            int64_t* bytes, io::Operation* out) {
  const double kind = numbers[0], file = numbers[1], offset = numbers[2], size = numbers[3], flags = numbers[4];
  if (!IsWhole(kind, 1, io::kLastKind)) return args.Range("operation: unknown kind");
  if (!IsWhole(file, -1, kMaxInteger)) return args.Range("file: expected a handle");
  if (!IsWhole(offset, 0, kMaxInteger)) return args.Range("offset: expected a whole number");
  if (!IsWhole(size, 0, kMaxInteger)) return args.Range("size: expected a whole number");
  if (!IsWhole(flags, 0, 15) || static_cast<uint32_t>(flags) % 4 == 3) return args.Range("flags: out of range");
  out->kind = static_cast<io::Kind>(kind);
  out->file = static_cast<int64_t>(file);
  out->offset = static_cast<uint64_t>(offset);
  out->size = static_cast<uint64_t>(size);
  out->flags = static_cast<uint32_t>(flags);
  if (TakesPath(out->kind) && !paths.Next(&out->path)) return args.Range("path: not a path of the drive");
  if (out->kind == io::Kind::kRename && !paths.Next(&out->to)) return args.Range("to: not a path of the drive");
  const bool zeros = out->kind == io::Kind::kWriteZeros;
  const bool writes = out->kind == io::Kind::kWrite;
  if (!zeros && !writes && out->kind != io::Kind::kRead) return true;
  const size_t first = *view;
  if (writes) {
    if (!IsWhole(numbers[5], 0, static_cast<double>(views.size() - first))) return args.Range("buffers: too few");
    *view += static_cast<size_t>(numbers[5]);
    out->size = 0;
    for (size_t i = first; i < *view; i++) out->size += views[i].length;
  }
  if (out->size > static_cast<uint64_t>(kMaxBytes - *bytes)) return args.Range("batch: more than 256 MiB");
  *bytes += static_cast<int64_t>(out->size);
  if (zeros) return true;
  out->data = io::Bytes(static_cast<uint8_t*>(std::malloc(out->size + 1)));
  if (!out->data) return args.Range("batch: out of memory");
  size_t at = 0;
  for (size_t i = first; i < *view; i++) {
    std::memcpy(out->data.get() + at, views[i].data, views[i].length);
    at += views[i].length;
  }
  return true;
}

bool ReadOperations(const Napi::CallbackInfo& info, Args& args, std::vector<io::Operation>* out) {
  List list;
  if (!args.ReadList(6, "buffers", 0, List::kMaxList, &list)) return false;
  if (!info[5].IsString()) return args.Type("paths: expected a string");
  std::string all = info[5].As<Napi::String>().Utf8Value();
  if (all.size() > kMaxPaths) return args.Range("paths: too long");
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  std::vector<View> views(list.length);
  for (size_t i = 0; i < list.length; i++) {
    if (!args.BytesOf(list.items[i], "buffers", Args::kAnyLength, &views[i])) return false;
  }
  if (napi_get_typedarray_info(info.Env(), info[4], &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_float64_array) {
    return args.Type("numbers: expected a Float64Array");
  }
  if (length == 0 || length % kNumbers != 0 || length / kNumbers > kMaxOperations) {
    return args.Range("numbers: expected six for each of 1 to 1024 operations");
  }
  const auto* numbers = static_cast<const double*>(data);
  Paths paths(std::move(all));
  size_t view = 0;
  int64_t bytes = 0;
  out->resize(length / kNumbers);
  for (size_t i = 0; i < out->size(); i++) {
    if (!Decode(args, numbers + i * kNumbers, paths, views, &view, &bytes, &(*out)[i])) return false;
  }
  return view == views.size() || args.Range("buffers: too many");
}

// ioSubmit(client, id, background, deadlineMs, numbers, paths, buffers): 0 or an errno
Napi::Value Submit(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Args args(info);
  int64_t client, id, background, deadline_ms;
  auto batch = std::make_shared<io::Batch>();
  if (!args.Integer(0, "client", 1, INT64_C(1) << 53, &client) || !args.Integer(1, "id", 1, INT64_C(1) << 53, &id) ||
      !args.Integer(2, "background", 0, 1, &background) ||
      !args.Integer(3, "deadlineMs", -1, INT64_C(1) << 40, &deadline_ms) ||
      !ReadOperations(info, args, &batch->operations)) {
    return env.Undefined();
  }
  IoEnvironment* io = Io(env);
  const auto found = io == nullptr ? decltype(io->clients.end()){} : io->clients.find(static_cast<uint64_t>(client));
  if (io == nullptr || found == io->clients.end()) return Napi::Number::New(env, ESHUTDOWN);
  if (io->pending.contains(static_cast<uint64_t>(id))) {
    args.Range("id: in use");
    return env.Undefined();
  }
  batch->id = static_cast<uint64_t>(id);
  batch->client = static_cast<uint64_t>(client);
  batch->background = background == 1;
  batch->sink = io->channel;
  if (deadline_ms >= 0) batch->deadline = io::SteadyNow() + deadline_ms * 1'000'000;
  const int error = found->second->Submit(batch);
  if (error == 0) io->Add(env, std::move(batch));
  return Napi::Number::New(env, error);
}

// ioTake(id, into: Uint8Array[]): while completions are delivered, copies what the reads of the batch found
Napi::Value Take(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Args args(info);
  int64_t id;
  List list;
  IoEnvironment* io = Io(env);
  if (!args.ReadList(1, "into", 0, List::kMaxList, &list) || !args.Integer(0, "id", 1, INT64_C(1) << 53, &id)) {
    return env.Undefined();
  }
  if (io == nullptr || !io->delivering.contains(static_cast<uint64_t>(id))) {
    args.Range("id: not being delivered");
    return env.Undefined();
  }
  const std::shared_ptr<io::Batch> batch = io->delivering[static_cast<uint64_t>(id)];
  size_t next = 0;
  for (size_t i = 0; i < batch->operations.size(); i++) {
    const io::Operation& operation = batch->operations[i];
    if (operation.kind != io::Kind::kRead || next == list.length) continue;
    View view;
    if (!args.BytesOf(list.items[next++], "into", operation.size, &view)) break;
    std::memcpy(view.data, operation.data.get(), batch->results[i].a);
  }
  return env.Undefined();
}

// ioReadNow(client, file, offset, into): true when `into` was filled from the page cache, without waiting
Napi::Value ReadNow(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Args args(info);
  int64_t client, file, offset;
  View into;
  if (!args.Integer(0, "client", 1, INT64_C(1) << 53, &client) ||
      !args.Integer(1, "file", 1, INT64_C(1) << 53, &file) ||
      !args.Integer(2, "offset", 0, INT64_C(1) << 53, &offset) || !args.Bytes(3, "into", Args::kAnyLength, &into)) {
    return env.Undefined();
  }
  IoEnvironment* io = Io(env);
  if (io == nullptr) return Napi::Boolean::New(env, false);
  const auto drive = io->clients.find(static_cast<uint64_t>(client));
  const bool read = drive != io->clients.end() &&
                    drive->second->ReadNow(static_cast<uint64_t>(client), file, static_cast<uint64_t>(offset),
                                           into.data, into.length) == 0;
  return Napi::Boolean::New(env, read);
}

// ioExpire(client, id): 0 it never started, 1 it was running, 2 it is complete and will be delivered, 3 unknown
Napi::Value Expire(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Args args(info);
  int64_t client, id;
  if (!args.Integer(0, "client", 1, INT64_C(1) << 53, &client) || !args.Integer(1, "id", 1, INT64_C(1) << 53, &id)) {
    return env.Undefined();
  }
  IoEnvironment* io = Io(env);
  if (io == nullptr) return Napi::Number::New(env, 3);
  const auto drive = io->clients.find(static_cast<uint64_t>(client));
  const auto batch = io->pending.find(static_cast<uint64_t>(id));
  if (drive == io->clients.end() || batch == io->pending.end()) return Napi::Number::New(env, 3);
  const io::State before = drive->second->Expire(*batch->second);
  if (before != io::State::kDone) io->Remove(env, static_cast<uint64_t>(id));
  return Napi::Number::New(env, static_cast<double>(before));
}

// ioClose(client): nothing that it had pending is delivered any more
Napi::Value Close(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Args args(info);
  int64_t client;
  IoEnvironment* io = Io(env);
  if (!args.Integer(0, "client", 1, INT64_C(1) << 53, &client) || io == nullptr) return env.Undefined();
  std::vector<uint64_t> given_up;
  for (auto& [id, batch] : io->pending) {
    if (batch->client == static_cast<uint64_t>(client)) given_up.push_back(id);
  }
  io->CloseClient(static_cast<uint64_t>(client));
  for (const uint64_t id : given_up) io->Remove(env, id);
  return env.Undefined();
}

// ioExit(code): ends the process at once, whatever its threads are waiting for
Napi::Value Exit(const Napi::CallbackInfo& info) {
  Args args(info);
  int64_t code;
  if (args.Integer(0, "code", 0, 255, &code)) {
    std::fflush(nullptr);
    _exit(static_cast<int>(code));
  }
  return info.Env().Undefined();
}

}  // namespace

void InitIo(Napi::Env env, Napi::Object exports) {
  Export<Connect>(env, exports, "ioConnect");
  Export<Open>(env, exports, "ioOpen");
  Export<Submit>(env, exports, "ioSubmit");
  Export<Take>(env, exports, "ioTake");
  Export<ReadNow>(env, exports, "ioReadNow");
  Export<Expire>(env, exports, "ioExpire");
  Export<Close>(env, exports, "ioClose");
  Export<Exit>(env, exports, "ioExit");
}

}  // namespace ostraka::addon
