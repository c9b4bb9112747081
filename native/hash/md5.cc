#include "native/hash/md5.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "native/cpu/cpu.h"
#include "native/hash/md5_lanes.h"

namespace ostraka::hash {

namespace {

static_assert(std::endian::native == std::endian::little, "words are read and digests written little-endian");

constexpr size_t kBlock = 64;
constexpr size_t kMostLanes = 16;

// A call for all lanes takes about as long as this many single streams.
constexpr size_t kWorthwhile = 3;

struct Single {
  using Register = uint32_t;
  static Register Add(Register a, Register b) { return a + b; }
  static Register Constant(uint32_t value) { return value; }
  template <int kBits>
  static Register Rotate(Register a) {
    return std::rotl(a, kBits);
  }
  static Register Choose(Register b, Register c, Register d) { return d ^ (b & (c ^ d)); }
  // The two halves have no bit in common, so they can be added one after the other: one waits for less.
  static Register AddSecond(Register sum, Register b, Register c, Register d) { return sum + (~d & c) + (d & b); }
  static Register Parity(Register b, Register c, Register d) { return b ^ c ^ d; }
  static Register Last(Register b, Register c, Register d) { return c ^ (b | ~d); }
};

void OneStream(uint32_t chain[4], const uint8_t* data, size_t blocks) {
  for (; blocks > 0; blocks--, data += kBlock) {
    uint32_t words[16], out[4];
    std::memcpy(words, data, kBlock);
    Md5Steps<Single>(chain[0], chain[1], chain[2], chain[3], words, out);
    for (int i = 0; i < 4; i++) chain[i] += out[i];
  }
}

// Fills up the unfinished block and starts the next with what is left over; what lies between are whole blocks, for
// the caller: returns how many, and where in *data.
size_t TakeEnds(Md5State& state, const uint8_t** data, size_t length) {
  const auto begun = static_cast<size_t>(state.length % kBlock);
  state.length += length;
  if (begun > 0) {
    const size_t fill = std::min(kBlock - begun, length);
    std::memcpy(state.block + begun, *data, fill);
    if (begun + fill < kBlock) return 0;
    OneStream(state.chain, state.block, 1);
    *data += fill;
    length -= fill;
  }
  if (length % kBlock > 0) std::memcpy(state.block, *data + length / kBlock * kBlock, length % kBlock);
  return length / kBlock;
}

// Streams side by side. A stream keeps its lane until its pieces are used up, then the next one takes it.
class Scheduler {
 public:
  Scheduler(const Md5Piece* pieces, size_t count, size_t lanes, void (*run)(uint32_t*, const uint8_t* const*, size_t))
      : pieces_(pieces), count_(count), lanes_(lanes), run_(run) {
    // next_[i] is the next piece of the same stream; a stream begins where no piece before is of its state.
    for (size_t i = 0; i < count; i++) {
      next_[i] = count;
      first_[i] = true;
      for (size_t before = i; before-- > 0;) {
        if (pieces[before].state != pieces[i].state) continue;
        next_[before] = i;
        first_[i] = false;
        break;
      }
    }
  }

  void Run() {
    while (Fill() >= kWorthwhile) Step();
    for (size_t lane = 0; lane < lanes_; lane++) {
      while (busy_[lane]) {
        uint32_t chain[4];
        for (size_t w = 0; w < 4; w++) chain[w] = chain_[w * lanes_ + lane];
        OneStream(chain, data_[lane], blocks_[lane]);
        for (size_t w = 0; w < 4; w++) chain_[w * lanes_ + lane] = chain[w];
        blocks_[lane] = 0;
        Advance(lane);
      }
    }
  }

 private:
  // Gives every free lane a stream while there are some; returns the number of busy lanes.
  size_t Fill() {
    size_t busy = 0;
    for (size_t lane = 0; lane < lanes_; lane++) {
      while (!busy_[lane] && waiting_ < count_) {
        const size_t piece = waiting_++;
        if (first_[piece]) Begin(lane, piece);
      }
      if (busy_[lane]) busy++;
    }
    return busy;
  }

  // Puts the whole blocks of a piece, or of a later one of its stream, into the lane, which is free when there are
  // none.
  void Begin(size_t lane, size_t piece) {
    busy_[lane] = false;
    for (; piece < count_ && !busy_[lane]; piece = next_[piece]) {
      Md5State& state = *pieces_[piece].state;
      data_[lane] = pieces_[piece].data;
      blocks_[lane] = TakeEnds(state, &data_[lane], pieces_[piece].length);
      if (blocks_[lane] == 0) continue;
      busy_[lane] = true;
      piece_[lane] = piece;
      for (size_t w = 0; w < 4; w++) chain_[w * lanes_ + lane] = state.chain[w];
    }
  }

  // The lane's piece is used up: writes the state back and goes on with the stream.
  void Advance(size_t lane) {
    Md5State& state = *pieces_[piece_[lane]].state;
    for (size_t w = 0; w < 4; w++) state.chain[w] = chain_[w * lanes_ + lane];
    Begin(lane, next_[piece_[lane]]);
  }

  // As many blocks in all lanes as the shortest has; free lanes compute what nobody reads.
  void Step() {
    size_t blocks = SIZE_MAX;
    const uint8_t* any = nullptr;
    for (size_t lane = 0; lane < lanes_; lane++) {
      if (!busy_[lane]) continue;
      if (blocks_[lane] < blocks) any = nullptr;
      blocks = std::min(blocks, blocks_[lane]);
      if (any == nullptr) any = data_[lane];
    }
    for (size_t lane = 0; lane < lanes_; lane++) {
      if (!busy_[lane]) data_[lane] = any;
    }
    run_(chain_, data_, blocks);
    for (size_t lane = 0; lane < lanes_; lane++) {
      if (!busy_[lane]) continue;
      data_[lane] += blocks * kBlock;
      blocks_[lane] -= blocks;
      if (blocks_[lane] == 0) Advance(lane);
    }
  }

  const Md5Piece* const pieces_;
  const size_t count_;
  const size_t lanes_;
  void (*const run_)(uint32_t*, const uint8_t* const*, size_t);
  size_t next_[kMd5Pieces];
  bool first_[kMd5Pieces];
  size_t waiting_ = 0;
  bool busy_[kMostLanes] = {};
  size_t piece_[kMostLanes] = {};
  size_t blocks_[kMostLanes] = {};
  const uint8_t* data_[kMostLanes] = {};
  uint32_t chain_[4 * kMostLanes] = {};
};

}  // namespace

void Md5Update(const Md5Piece* pieces, size_t count) {
#if defined(__x86_64__)
  if (count >= kWorthwhile && cpu::Get().avx512) return Scheduler(pieces, count, 16, Md5LanesAvx512).Run();
  if (count >= kWorthwhile && cpu::Get().avx2) return Scheduler(pieces, count, 8, Md5LanesAvx2).Run();
#endif
  for (size_t i = 0; i < count; i++) {
    const uint8_t* data = pieces[i].data;
    Md5State& state = *pieces[i].state;
    const size_t blocks = TakeEnds(state, &data, pieces[i].length);
    OneStream(state.chain, data, blocks);
  }
}

void Md5Digest(const Md5State& state, uint8_t out[16]) {
  uint8_t last[2 * kBlock] = {};
  const auto begun = static_cast<size_t>(state.length % kBlock);
  std::memcpy(last, state.block, begun);
  last[begun] = 0x80;
  const size_t blocks = begun < 56 ? 1 : 2;
  const uint64_t bits = state.length * 8;
  std::memcpy(last + blocks * kBlock - 8, &bits, 8);
  uint32_t chain[4];
  std::memcpy(chain, state.chain, sizeof chain);
  OneStream(chain, last, blocks);
  std::memcpy(out, chain, 16);
}

}  // namespace ostraka::hash
