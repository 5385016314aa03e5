#include "tokens.h"

#include <algorithm>
#include <cassert>
#include <deque>
#include <random>
#include <string>

#include "error.h"

namespace vta {
namespace {

constexpr int kFrom[kFifos] = {0, 1, 1, 2};
constexpr int kTo[kFifos] = {1, 0, 2, 1};

size_t ModuleOf(const Insn& insn) { return static_cast<size_t>(insn.module); }

const char* ModuleName(int module) { return kModuleNames[module]; }

std::string FifoName(int fifo) {
  return std::string(ModuleName(kFrom[fifo])) + " to " + ModuleName(kTo[fifo]);
}

// The stream indices of each module's instructions.
std::array<std::vector<uint32_t>, kModules> Queues(const std::vector<Insn>& insns) {
  std::array<std::vector<uint32_t>, kModules> queues;
  for (size_t i = 0; i < insns.size(); ++i) {
    queues[ModuleOf(insns[i])].push_back(static_cast<uint32_t>(i));
  }
  return queues;
}

void CheckNeighbours(const std::vector<Insn>& insns, const OriginFn& origin) {
  for (size_t i = 0; i < insns.size(); ++i) {
    const Insn& insn = insns[i];
    const char* name = kOpcodeNames[static_cast<int>(insn.op)];
    if (insn.module == Module::kLoad && (insn.pop_prev || insn.push_prev)) {
      Fail(ErrorKind::kDecode, std::string(name) + (insn.pop_prev ? ".pop_prev" : ".push_prev"),
           "must be 0, as LOAD has no previous module", "1", Locate(i, origin));
    }
    if (insn.module == Module::kStore && (insn.pop_next || insn.push_next)) {
      Fail(ErrorKind::kDecode, std::string(name) + (insn.pop_next ? ".pop_next" : ".push_next"),
           "must be 0, as STORE has no next module", "1", Locate(i, origin));
    }
  }
}

class Scheduler {
 public:
  Scheduler(const std::vector<Insn>& insns, bool strict, const OriginFn& origin)
      : insns_(insns), strict_(strict), origin_(origin), queues_(Queues(insns)) {
    schedule_.order.reserve(insns.size());
    schedule_.clocks.resize(insns.size());
    schedule_.position.resize(insns.size());
    for (const auto& queue : queues_) {
      for (size_t p = 0; p < queue.size(); ++p)
        schedule_.position[queue[p]] = static_cast<uint32_t>(p);
    }
  }

  Schedule Run() {
    while (schedule_.order.size() < insns_.size()) {
      Fetch();
      int best = -1;
      for (int m = 0; m < kModules; ++m) {
        if (Ready(m) && (best < 0 || Head(m) < Head(best))) best = m;
      }
      if (best < 0) Deadlock();
      Start(best);
    }
    if (strict_) {
      CheckBalance();
      CheckOutstanding();
    }
    return std::move(schedule_);
  }

 private:
  bool Done(int m) const { return next_[m] == queues_[m].size(); }
  uint32_t Head(int m) const { return queues_[m][next_[m]]; }

  // FETCH hands instructions to the queues in stream order and stops at the first full one.
  void Fetch() {
    while (fetched_ < insns_.size()) {
      uint32_t& waiting = waiting_[ModuleOf(insns_[fetched_])];
      if (strict_ && waiting == kQueueInsns) return;
      ++waiting;
      ++fetched_;
    }
  }

  // The FIFO that the head of module m waits for; -1 when it can start.
  int WaitsFor(int m) const {
    for (int fifo : TokensOf(insns_[Head(m)]).pop) {
      if (fifo >= 0 && tokens_[fifo].empty()) return fifo;
    }
    return -1;
  }

  bool Ready(int m) const { return !Done(m) && Head(m) < fetched_ && WaitsFor(m) < 0; }

  void Start(int m) {
    const uint32_t index = Head(m);
    const TokenUse use = TokensOf(insns_[index]);
    Clock& now = clock_[m];
    for (int fifo : use.pop) {
      if (fifo < 0) continue;
      for (int k = 0; k < kModules; ++k) now[k] = std::max(now[k], tokens_[fifo].front()[k]);
      tokens_[fifo].pop_front();
    }
    schedule_.clocks[index] = now;
    ++now[m];
    for (int fifo : use.push) {
      if (fifo >= 0) tokens_[fifo].push_back(now);
    }
    ++next_[m];
    --waiting_[m];
    schedule_.order.push_back(index);
  }

  [[noreturn]] void Deadlock() const {
    std::string who;
    std::string where;
    for (int m = 0; m < kModules; ++m) {
      if (Done(m)) continue;
      const uint32_t index = Head(m);
      if (where.empty()) where = Describe(index, insns_[index], origin_);
      who += who.empty() ? "" : "; ";
      who += std::string(ModuleName(m)) + " at " + Describe(index, insns_[index], origin_);
      if (index >= fetched_) {
        who += " waits for FETCH, which a full queue of " + std::to_string(kQueueInsns) +
               " instructions blocks";
        continue;
      }
      const int from = kFrom[WaitsFor(m)];
      who += std::string(" waits for a token of ") + ModuleName(from);
      if (Done(from)) who += ", which has ended";
    }
    Fail(ErrorKind::kDeadlock, where, "must get its tokens, but no module can go on", "", who);
  }

  void CheckBalance() const {
    for (int fifo = 0; fifo < kFifos; ++fifo) {
      if (tokens_[fifo].empty()) continue;
      // The last push is one that nothing pops.
      uint32_t last = 0;
      for (uint32_t index : queues_[kFrom[fifo]]) {
        for (int f : TokensOf(insns_[index]).push) {
          if (f == fifo) last = index;
        }
      }
      Fail(ErrorKind::kHazard, "tokens " + FifoName(fifo),
           "must all be popped before the program ends",
           std::to_string(tokens_[fifo].size()) + " left",
           "the last push is " + Describe(last, insns_[last], origin_));
    }
  }

  // The most tokens a FIFO can hold: its producer runs ahead while its consumer has done only what
  // the producer needed.
  void CheckOutstanding() const {
    for (int fifo = 0; fifo < kFifos; ++fifo) {
      std::vector<uint32_t> pops{0};  // pops[n]: by the first n instructions of the consumer
      for (uint32_t index : queues_[kTo[fifo]]) {
        const TokenUse use = TokensOf(insns_[index]);
        pops.push_back(pops.back() + (use.pop[0] == fifo || use.pop[1] == fifo ? 1 : 0));
      }
      uint32_t pushes = 0;
      for (uint32_t index : queues_[kFrom[fifo]]) {
        const TokenUse use = TokensOf(insns_[index]);
        if (use.push[0] != fifo && use.push[1] != fifo) continue;
        ++pushes;
        const uint32_t held =
            pushes - pops[schedule_.clocks[index][static_cast<size_t>(kTo[fifo])]];
        if (held > kMaxTokens) {
          Fail(ErrorKind::kHazard, "tokens " + FifoName(fifo),
               "must be at most " + std::to_string(kMaxTokens) + " outstanding in any order",
               std::to_string(held), "at " + Describe(index, insns_[index], origin_));
        }
      }
    }
  }

  const std::vector<Insn>& insns_;
  const bool strict_;
  const OriginFn& origin_;
  std::array<std::vector<uint32_t>, kModules> queues_;
  size_t next_[kModules] = {0, 0, 0};
  uint32_t waiting_[kModules] = {0, 0, 0};
  size_t fetched_ = 0;
  Clock clock_[kModules] = {};
  std::deque<Clock> tokens_[kFifos];
  Schedule schedule_;
};

}  // namespace

TokenUse TokensOf(const Insn& insn) {
  TokenUse use{{-1, -1}, {-1, -1}};
  switch (insn.module) {
    case Module::kLoad:
      if (insn.pop_next) use.pop[1] = 1;
      if (insn.push_next) use.push[1] = 0;
      break;
    case Module::kCompute:
      if (insn.pop_prev) use.pop[0] = 0;
      if (insn.pop_next) use.pop[1] = 3;
      if (insn.push_prev) use.push[0] = 1;
      if (insn.push_next) use.push[1] = 2;
      break;
    case Module::kStore:
      if (insn.pop_prev) use.pop[0] = 2;
      if (insn.push_prev) use.push[0] = 3;
      break;
  }
  return use;
}

Schedule MakeSchedule(const std::vector<Insn>& insns, bool strict, const OriginFn& origin) {
  if (strict) CheckNeighbours(insns, origin);
  return Scheduler(insns, strict, origin).Run();
}

std::vector<uint32_t> RandomOrder(const std::vector<Insn>& insns, uint64_t seed) {
  const auto queues = Queues(insns);
  size_t next[kModules] = {0, 0, 0};
  uint64_t tokens[kFifos] = {0, 0, 0, 0};
  std::mt19937_64 random(seed);
  uint64_t weight[kModules] = {1, 1, 1};
  std::vector<uint32_t> order;
  order.reserve(insns.size());
  while (order.size() < insns.size()) {
    // Now and then one module gets far ahead of the others.
    if (random() % 16 == 0) {
      for (uint64_t& w : weight) w = uint64_t{1} << random() % 12;
    }
    int ready[kModules];
    int count = 0;
    uint64_t total = 0;
    for (int m = 0; m < kModules; ++m) {
      if (next[m] == queues[m].size()) continue;
      bool can = true;
      for (int fifo : TokensOf(insns[queues[m][next[m]]]).pop) {
        can = can && (fifo < 0 || tokens[fifo] > 0);
      }
      if (can) {
        ready[count++] = m;
        total += weight[m];
      }
    }
    assert(count > 0);  // MakeSchedule has found no deadlock, and any order is as good
    uint64_t pick = random() % total;
    int chosen = 0;
    while (pick >= weight[ready[chosen]]) pick -= weight[ready[chosen++]];
    const int m = ready[chosen];
    const uint32_t index = queues[m][next[m]++];
    const TokenUse use = TokensOf(insns[index]);
    for (int fifo : use.pop) {
      if (fifo >= 0) --tokens[fifo];
    }
    for (int fifo : use.push) {
      if (fifo >= 0) ++tokens[fifo];
    }
    order.push_back(index);
  }
  return order;
}

}  // namespace vta
