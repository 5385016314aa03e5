#include "timing.h"

#include <algorithm>
#include <array>
#include <numeric>
#include <string>

#include "error.h"
#include "memory_channel.h"
#include "tokens.h"

namespace vta {
namespace {

constexpr int kFrom[kFifos] = {0, 1, 1, 2};
constexpr int kTo[kFifos] = {1, 0, 2, 1};
// Cycles from the take-up of a burst by the memory until its client counts the last beat, besides
// the beats: one into the tag look-up, one into the client's register; elements narrower than the
// bus have one register less (TensorLoadNarrowVME, TensorLoadWideVME).
constexpr int64_t kNarrowTail = 3, kWideTail = 2;
// From the start of a LOAD until its first request can be granted: state, queue (GenVMECmd).
constexpr int64_t kRequest = 2;
// From the start of a LOAD until the first padding element is written (ZeroPadding).
constexpr int64_t kNarrowPad = 2, kWidePad = 1;
// STORE: address phase and answer of a burst besides its beats (VME, TensorStore).
constexpr int64_t kStoreBurst = 4;

// What the address of the first instruction is a multiple of (FetchWideVME asserts it).
constexpr uint64_t kFetchAlign = 8;
// Instructions between the buffer of the wide fetch unit and the queues (FetchWideVME).
constexpr size_t kFetchStage = 2;

uint64_t CeilDiv(uint64_t a, uint64_t b) { return (a + b - 1) / b; }

Client ClientOf(const Insn& insn) {
  switch (insn.memory) {
    case Memory::kUop:
      return kUopClient;
    case Memory::kInp:
      return kInpClient;
    case Memory::kWgt:
      return kWgtClient;
    default:
      return kAccClient;
  }
}

// Elements of the padding of a LOAD in the order they are written: before, beside, below the data.
// Rows without padding beside them take a cycle each when there are rows below.
struct Padding {
  int64_t top = 0, side = 0, bottom = 0;
  bool side_stalls = true;  // data beats stall it
  int64_t total() const { return top + side + bottom; }
};

Padding PaddingOf(const Insn& insn) {
  Padding p;
  const int64_t width = static_cast<int64_t>(insn.columns());
  const int64_t beside = insn.x_pad_0 + insn.x_pad_1;
  p.top = insn.y_pad_0 * width;
  p.bottom = insn.y_pad_1 * width;
  p.side = insn.y_size * beside;
  if (beside == 0 && insn.y_pad_1 != 0) {
    p.side = insn.y_size;
    p.side_stalls = false;
  }
  return p;
}

// Cycles of the data of a LOAD in its client, [first, last].
struct Span {
  int64_t first, last;
};

// The first cycle after `steps` cycles from `cycle` on that no span covers.
int64_t Advance(int64_t cycle, int64_t steps, bool stalls, const std::vector<Span>& spans) {
  if (!stalls || steps == 0) return cycle + steps;
  for (const Span& s : spans) {
    if (s.last < cycle) continue;
    if (s.first >= cycle + steps) break;
    const int64_t before = std::max<int64_t>(s.first - cycle, 0);
    steps -= before;
    cycle = s.last + 1;
  }
  return cycle + steps;
}

class Simulation {
 public:
  Simulation(const std::vector<Insn>& insns, const Config& config, const TimingParams& params,
             const OriginFn& origin, uint64_t stream_address)
      : insns_(insns),
        config_(config),
        p_(params),
        origin_(origin),
        stream_address_(stream_address),
        memory_(params) {
    while ((uint64_t{8} << log_bus_) < config.bus_bits) ++log_bus_;
    while ((uint64_t{1} << log_burst_) < config.burst_beats) ++log_burst_;
    bus_ = uint64_t{1} << log_bus_;
    line_.insns.resize(insns.size());
    for (size_t i = 0; i < insns.size(); ++i) {
      queue_[static_cast<size_t>(insns[i].module)].push_back(static_cast<uint32_t>(i));
    }
    // Buses of an instruction's width and more use a fetch unit with room for as many instructions
    // as a burst has beats.
    const bool wide = bus_ >= kInsnBytes;
    const size_t beats = config.burst_beats;
    chunk_ = wide ? beats : std::max<size_t>(beats * bus_ / kInsnBytes, 1);
    wide_fetch_ = wide && !p_.simple_memory;
  }

  Timeline Run() {
    RequestChunk(1);
    for (bool changed = true;;) {
      while (changed) changed = Progress();
      if (done_ == insns_.size()) break;
      int64_t cycle = 0;
      const int client = memory_.Next(&cycle);
      if (client < 0) Deadlock();
      changed = Grant(client, cycle);
    }
    CheckTokens();
    for (const InsnTiming& t : line_.insns) line_.cycles = std::max(line_.cycles, t.done);
    line_.order.resize(insns_.size());
    std::iota(line_.order.begin(), line_.order.end(), 0U);
    std::stable_sort(line_.order.begin(), line_.order.end(), [&](uint32_t a, uint32_t b) {
      return line_.insns[a].start < line_.insns[b].start;
    });
    return std::move(line_);
  }

 private:
  struct ModuleState {
    size_t next = 0;        // position of the next instruction to start
    size_t dispatched = 0;  // instructions in the queue so far
    int64_t free = 0;       // since when the module is idle
    bool loading = false;   // its instruction waits for the memory
    int64_t start = 0;
    std::vector<Span> spans;
  };

  uint32_t Head(int m) const { return queue_[m][state_[m].next]; }

  // ---- fetch ----------------------------------------------------------------------------------
  void RequestChunk(int64_t cycle) {
    if (drained_ >= insns_.size()) return;
    request_ = cycle;
    chunk_insns_ = std::min(chunk_, insns_.size() - drained_);
    ReadStream& s = memory_.stream(kFetchClient);
    s.active = true;
    s.valid = p_.simple_memory ? cycle : cycle + 1;
    // The narrow unit asks for its chunk at once, wherever it lies.
    const uint64_t address = wide_fetch_ ? stream_address_ + drained_ * kInsnBytes : 0;
    s.bursts = BurstList(address, chunk_insns_ * kInsnBytes, 0, 1, log_bus_, log_burst_, true);
  }

  void ChunkArrived(int64_t last_beat) {
    // The reader leaves its state a cycle after it has seen the last beat.
    drain_ = p_.simple_memory ? last_beat + 1 : last_beat + (wide_fetch_ ? 4 : 2);
    to_drain_ = chunk_insns_;
  }

  // Takes instructions out of the fetch buffer, one a cycle, and puts them into the queues until
  // one is full. The wide unit has a stage for two instructions between, and asks for the next
  // chunk when its buffer is empty, whatever is in the stage.
  bool Dispatch() {
    bool any = false;
    while (Drain() || Enqueue()) any = true;
    return any;
  }

  // Takes the next instruction out of the buffer; of the narrow unit when its queue has room.
  bool Drain() {
    if (to_drain_ == 0) return false;
    int64_t cycle = drain_;
    if (!wide_fetch_) {
      const int64_t room = Room(insns_[drained_]);
      if (room < 0) return false;
      cycle = std::max(cycle, room);
    } else if (drained_ >= kFetchStage) {
      if (drained_ - kFetchStage >= fetched_) return false;
      cycle = std::max(cycle, line_.insns[drained_ - kFetchStage].dispatch + 1);
    }
    InsnTiming& t = line_.insns[drained_];
    t.request = request_;
    if (wide_fetch_) {
      t.dispatch = cycle + 1;  // at the earliest
    } else {
      Enqueue(&t, cycle, drain_);
    }
    ++drained_;
    drain_ = cycle + 1;
    // The wide unit spends a cycle on the start of its reader.
    if (--to_drain_ == 0) RequestChunk(drain_ + (wide_fetch_ ? 2 : 1));
    return true;
  }

  // Puts the next instruction of the wide unit's stage into its queue when there is room.
  bool Enqueue() {
    if (fetched_ == drained_) return false;
    const int64_t room = Room(insns_[fetched_]);
    if (room < 0) return false;
    InsnTiming& t = line_.insns[fetched_];
    int64_t ready = t.dispatch;
    if (fetched_ != 0) ready = std::max(ready, line_.insns[fetched_ - 1].dispatch + 1);
    Enqueue(&t, std::max(ready, room), ready);
    return true;
  }

  void Enqueue(InsnTiming* t, int64_t cycle, int64_t ready) {
    t->dispatch = cycle;
    t->wait_queue = cycle - ready;
    ++state_[static_cast<size_t>(insns_[fetched_].module)].dispatched;
    ++fetched_;
  }

  // Since when the queue of an instruction's module has room for it, -1 while that is not known.
  int64_t Room(const Insn& insn) const {
    const size_t m = static_cast<size_t>(insn.module);
    const ModuleState& s = state_[m];
    if (s.dispatched < p_.queue_insns) return 0;
    const size_t leaves = s.dispatched - p_.queue_insns;
    return leaves >= s.next ? -1 : line_.insns[queue_[m][leaves]].done + 1;
  }

  // ---- modules --------------------------------------------------------------------------------
  // Advances everything whose cycles are known; false when nothing could.
  bool Progress() {
    bool any = Dispatch();
    for (int m = 0; m < kModules; ++m) {
      while (Start(m)) any = true;
    }
    return any;
  }

  bool Start(int m) {
    ModuleState& s = state_[m];
    if (s.loading || s.next >= s.dispatched) return false;
    const uint32_t index = Head(m);
    const Insn& insn = insns_[index];
    const TokenUse use = TokensOf(insn);
    int64_t token[2] = {0, 0};
    for (int k = 0; k < 2; ++k) {
      const int fifo = use.pop[k];
      if (fifo < 0) continue;
      if (pops_[fifo].size() >= posts_[fifo].size()) return false;
      token[k] = line_.insns[posts_[fifo][pops_[fifo].size()]].done + 1;
    }
    InsnTiming& t = line_.insns[index];
    const int64_t here = std::max(s.free, t.dispatch + 1);
    t.start = std::max({here, token[0], token[1]});
    t.wait_fetch = here - s.free;
    t.wait_prev = std::max<int64_t>(token[0] - here, 0);
    t.wait_next = t.start - here - t.wait_prev;
    SetCause(m, use, token, &t);
    for (int fifo : use.pop) {
      if (fifo >= 0) pops_[fifo].push_back(t.start);
    }
    s.start = t.start;
    if (insn.op == Opcode::kLoad && !insn.is_nop()) {
      StartLoad(m, insn);
    } else {
      Finish(m, t.start + Cycles(insn, &t));
    }
    return true;
  }

  void SetCause(int m, const TokenUse& use, const int64_t (&token)[2], InsnTiming* t) const {
    const ModuleState& s = state_[m];
    for (int k = 0; k < 2; ++k) {
      if (use.pop[k] >= 0 && token[k] == t->start && t->start > s.free) {
        t->cause = static_cast<int64_t>(Cause::kToken);
        t->cause_insn = posts_[use.pop[k]][pops_[use.pop[k]].size()];
        return;
      }
    }
    if (t->start > s.free) {
      t->cause = static_cast<int64_t>(Cause::kFetch);
    } else if (s.next != 0) {
      t->cause_insn = queue_[m][s.next - 1];
    }
  }

  void Finish(int m, int64_t cycle) {
    ModuleState& s = state_[m];
    const uint32_t index = Head(m);
    line_.insns[index].done = cycle;
    for (int fifo : TokensOf(insns_[index]).push) {
      if (fifo >= 0) posts_[fifo].push_back(index);
    }
    s.free = cycle + 1;
    s.loading = false;
    ++s.next;
    ++done_;
  }

  // From start to done, of everything but LOAD.
  int64_t Cycles(const Insn& insn, InsnTiming* t) const {
    const int64_t steps = static_cast<int64_t>(insn.steps());
    switch (insn.op) {
      case Opcode::kGemm:
        return insn.reset ? steps * p_.gemm_reset_step + p_.gemm_reset_fixed
                          : steps * p_.gemm_step + p_.gemm_fixed;
      case Opcode::kAlu:
        return steps * (insn.use_imm ? p_.alu_imm_step : p_.alu_reg_step) + p_.alu_fixed;
      case Opcode::kStore:
        return insn.dram_elems() == 0 ? 1 : StoreCycles(insn, t);
      case Opcode::kLoad:
      case Opcode::kFinish:
        break;
    }
    return 1;
  }

  int64_t StoreCycles(const Insn& insn, InsnTiming* t) const {
    const uint64_t bytes = config_.out_bytes();
    const bool wide = bus_ >= bytes;
    // Narrow: the scratchpad is read once for every row of an element, a cycle between the beats.
    const uint64_t words = std::max<uint64_t>((bytes >> config_.log_batch) / bus_, 1);
    BurstList bursts(insn.dram_base * bytes, insn.x_size * bytes, insn.x_stride * bytes,
                     insn.y_size, log_bus_, log_burst_, wide);
    int64_t cycles = 0;
    while (!bursts.empty()) {
      const uint64_t beats = bursts.Take().first;
      const uint64_t reads = wide ? 0 : CeilDiv(beats, words) - 1;
      cycles += static_cast<int64_t>(beats + reads) + kStoreBurst;
      t->beats += static_cast<int64_t>(beats);
      ++t->bursts;
    }
    return cycles;
  }

  // ---- loads ----------------------------------------------------------------------------------
  bool Wide(const Insn& insn) const { return bus_ >= config_.dram_bytes(insn.memory); }

  void StartLoad(int m, const Insn& insn) {
    ModuleState& s = state_[m];
    const uint64_t bytes = config_.dram_bytes(insn.memory);
    s.spans.clear();
    if (insn.dram_elems() == 0) {
      Finish(m, s.start + kNarrowPad + PaddingOf(insn).total());
      return;
    }
    ReadStream& stream = memory_.stream(ClientOf(insn));
    stream.active = true;
    stream.bursts = BurstList(insn.dram_base * bytes, insn.x_size * bytes, insn.x_stride * bytes,
                              insn.y_size, log_bus_, log_burst_, Wide(insn));
    stream.valid = s.start + kRequest + insn.y_pad_0;
    if (p_.simple_memory) {
      stream.valid = s.start + 1 + PadBeats(insn, insn.y_pad_0 * insn.columns() + insn.x_pad_0);
    }
    s.loading = true;
  }

  // The older generation writes padding a bus word a cycle.
  int64_t PadBeats(const Insn& insn, uint64_t elems) const {
    return static_cast<int64_t>(elems * CeilDiv(config_.dram_bytes(insn.memory), bus_));
  }

  // Grants one burst; true when it was the last one of what it belongs to.
  bool Grant(int client, int64_t cycle) {
    ReadStream& stream = memory_.stream(client);
    const auto [beats, row_ends] = stream.bursts.Take();
    const BurstTime burst = memory_.Grant(client, cycle, beats);
    const int64_t last = burst.ready + beats;
    stream.active = !stream.bursts.empty();
    if (client == kFetchClient) {
      if (!stream.active) ChunkArrived(last);
      return !stream.active;
    }
    const int m = client == kInpClient || client == kWgtClient ? 0 : 1;
    const Insn& insn = insns_[Head(m)];
    InsnTiming& t = line_.insns[Head(m)];
    t.beats += beats;
    ++t.bursts;
    if (p_.simple_memory) {
      SimpleLoad(m, insn, last, row_ends, &stream);
    } else {
      PipelinedLoad(m, insn, burst, beats, !stream.active);
    }
    return !stream.active;
  }

  void PipelinedLoad(int m, const Insn& insn, const BurstTime& burst, uint32_t beats, bool ends) {
    ModuleState& s = state_[m];
    const bool wide = Wide(insn);
    const int64_t tail = wide ? kWideTail : kNarrowTail;
    const bool pads = (insn.y_pad_0 | insn.y_pad_1 | insn.x_pad_0 | insn.x_pad_1) != 0;
    if (pads) s.spans.push_back({burst.ready + tail, burst.ready + tail + beats - 1});
    if (!ends) return;
    int64_t done = burst.ready + beats + tail;
    if (pads) {
      const Padding p = PaddingOf(insn);
      int64_t cycle = s.start + (wide ? kWidePad : kNarrowPad);
      cycle = Advance(cycle, p.top, true, s.spans);
      cycle = Advance(cycle, p.side, p.side_stalls, s.spans);
      cycle = Advance(cycle, p.bottom, true, s.spans);
      done = std::max(done, cycle);
    }
    Finish(m, done);
  }

  void SimpleLoad(int m, const Insn& insn, int64_t last, bool row_ends, ReadStream* stream) {
    if (!stream->active) {
      const uint64_t elems = insn.x_pad_1 + insn.y_pad_1 * insn.columns();
      Finish(m, last + PadBeats(insn, elems));
    } else if (row_ends) {
      stream->valid += PadBeats(insn, insn.x_pad_1 + insn.x_pad_0);
    }
  }

  // ---- checks ---------------------------------------------------------------------------------
  std::string Who(uint32_t index) const { return Describe(index, insns_[index], origin_); }

  [[noreturn]] void Deadlock() const {
    std::string who, where;
    for (int m = 0; m < kModules; ++m) {
      const ModuleState& s = state_[m];
      if (s.next >= queue_[m].size()) continue;
      if (where.empty()) where = Who(Head(m));
      who += (who.empty() ? "" : "; ") + std::string(kModuleNames[m]) + " at " + Who(Head(m));
      if (s.next >= s.dispatched) {
        who += " waits for FETCH, which a full queue of " + std::to_string(p_.queue_insns) +
               " instructions blocks";
        continue;
      }
      for (int fifo : TokensOf(insns_[Head(m)]).pop) {
        if (fifo < 0 || pops_[fifo].size() < posts_[fifo].size()) continue;
        who += std::string(" waits for a token of ") + kModuleNames[kFrom[fifo]] + " since cycle " +
               std::to_string(s.free);
      }
    }
    Fail(ErrorKind::kDeadlock, where, "must get its tokens, but no module can go on", "", who);
  }

  // The hardware counts tokens in 8 bits and loses what does not fit.
  void CheckTokens() const {
    for (int fifo = 0; fifo < kFifos; ++fifo) {
      size_t popped = 0;
      for (size_t k = 0; k < posts_[fifo].size(); ++k) {
        const int64_t cycle = line_.insns[posts_[fifo][k]].done;
        while (popped < pops_[fifo].size() && pops_[fifo][popped] <= cycle) ++popped;
        if (k + 1 - popped <= kMaxTokens) continue;
        Fail(ErrorKind::kHazard,
             std::string("tokens ") + kModuleNames[kFrom[fifo]] + " to " + kModuleNames[kTo[fifo]],
             "must be at most " + std::to_string(kMaxTokens) + " outstanding",
             std::to_string(k + 1 - popped),
             "at " + Who(posts_[fifo][k]) + " in cycle " + std::to_string(cycle));
      }
    }
  }

  const std::vector<Insn>& insns_;
  const Config& config_;
  const TimingParams p_;
  const OriginFn& origin_;
  const uint64_t stream_address_;
  MemoryChannel memory_;
  uint32_t log_bus_ = 0, log_burst_ = 0;
  uint64_t bus_ = 8;
  bool wide_fetch_ = false;
  size_t chunk_ = 8;
  std::array<std::vector<uint32_t>, kModules> queue_;
  ModuleState state_[kModules];
  // Instructions put into the queues; out of the fetch buffer; of this chunk; still in the buffer.
  size_t fetched_ = 0, drained_ = 0, chunk_insns_ = 0, to_drain_ = 0;
  size_t done_ = 0;
  int64_t request_ = 0, drain_ = 0;
  std::vector<uint32_t> posts_[kFifos];  // the instructions that posted, in order
  std::vector<int64_t> pops_[kFifos];    // the cycles of the pops, in order
  Timeline line_;
};

}  // namespace

Timeline Simulate(const std::vector<Insn>& insns, const Config& config, const TimingParams& params,
                  const OriginFn& origin, uint64_t stream_address) {
  if (stream_address % kFetchAlign != 0 || stream_address >> 32 != 0) {
    Fail(ErrorKind::kConfig, "stream_address",
         "must be a multiple of " + std::to_string(kFetchAlign) + " below 2^32",
         std::to_string(static_cast<int64_t>(stream_address)),
         "FETCH reads whole words of 64 bits");
  }
  return Simulation(insns, config, params, origin, stream_address).Run();
}

}  // namespace vta
