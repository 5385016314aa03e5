#include "tape.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "machine.h"
#include "stream.h"
#include "sums.h"

namespace vta {
namespace {

// Sums that wait at a time, parts of a GEMM that may wait, and terms of a sum: more is run at once.
constexpr size_t kMostPending = 64, kMostParts = 256, kMostTerms = 64;

}  // namespace

class TapeMaker {
 public:
  TapeMaker(const Stream& stream, Machine* machine, uint64_t most_bytes, Tape* tape)
      : stream_(stream),
        config_(stream.config()),
        kernels_(stream.kernels()),
        weights_(machine->weights()),
        most_bytes_(most_bytes),
        tape_(tape),
        writer_(config_, kernels_, machine, tape),
        inp_bytes_(static_cast<ptrdiff_t>(config_.lanes() * kernels_.inp_lane_bytes)),
        owner_(config_.acc_depth(), 0),
        cleared_(config_.acc_depth(), false),
        places_(config_.wgt_depth(), Weights::kNowhere) {}

  // Returns whether memory sufficed.
  bool Make() {
    weights_.StartCopies(most_bytes_ / 2);
    tape_->done_.reserve(tape_->order_.size());
    for (const uint32_t index : tape_->order_) {
      Add(index);
      tape_->done_.push_back(tape_->steps_.size());
      if (Bytes() > most_bytes_) return false;
    }
    Touch(0, config_.acc_depth());
    if (!loads_.empty()) Step(Tape::Step::kPlaces, 0);
    tape_->places_ = std::move(places_);
    for (size_t n = 0; n + 1 < tape_->gemms_.size(); ++n) {
      tape_->gemms_[n].args.next = &tape_->gemms_[n + 1].args;
    }
    if (!tape_->done_.empty()) tape_->done_.back() = tape_->steps_.size();
    return true;
  }

 private:
  uint64_t Bytes() const {
    return tape_->pool_.bytes() + weights_.copied_bytes() +
           tape_->gemms_.size() * sizeof(TapeGemm) + tape_->steps_.size() * sizeof(Tape::Step);
  }

  size_t ElementOf(ptrdiff_t lane) const { return static_cast<size_t>(lane) / config_.lanes(); }
  PendingSum& At(uint32_t id) { return *pending_[id - 1]; }

  void Step(Tape::Step::Kind kind, size_t index, size_t count = 1) {
    tape_->steps_.push_back({kind, static_cast<uint32_t>(index), static_cast<uint32_t>(count)});
  }

  void Add(uint32_t index) {
    const Insn& insn = stream_.insns()[index];
    switch (insn.op) {
      case Opcode::kLoad:
        return Load(index, insn);
      case Opcode::kStore:
        if (insn.is_nop()) return;
        Touch(insn.sram_base, insn.dram_elems());
        return Step(Tape::Step::kInsn, index);
      case Opcode::kGemm:
        return Gemm(index, insn);
      case Opcode::kAlu:
        return Alu(index, insn);
      case Opcode::kFinish:
        return;
    }
  }

  void Load(uint32_t index, const Insn& insn) {
    if (insn.is_nop() || insn.memory == Memory::kUop) return;
    const size_t begin = insn.sram_base, count = insn.sram_elems();
    if (insn.memory == Memory::kInp) {
      const ptrdiff_t from = static_cast<ptrdiff_t>(begin) * inp_bytes_;
      RunReaders(from, from + static_cast<ptrdiff_t>(count) * inp_bytes_);
    } else if (insn.memory == Memory::kWgt) {
      return Place(index, insn);
    } else {
      for (size_t e = begin; e < begin + count; ++e) {
        if (owner_[e] != 0) Run(owner_[e]);
        cleared_[e] = false;
      }
    }
    Step(Tape::Step::kInsn, index);
  }

  // Notes where the weights that a LOAD writes lie. The scratchpad itself needs to
  // know only when an instruction reads it, and at the end.
  void Place(uint32_t index, const Insn& insn) {
    bool constant = true;
    const auto at = places_.begin() + insn.sram_base;
    std::fill_n(at, insn.sram_elems(), weights_.zeros());
    auto row = at + static_cast<ptrdiff_t>(insn.y_pad_0 * insn.columns() + insn.x_pad_0);
    for (uint64_t y = 0; y < insn.y_size; ++y, row += static_cast<ptrdiff_t>(insn.columns())) {
      uint32_t place = weights_.Find(insn.dram_base + y * insn.x_stride, insn.x_size);
      constant = constant && place != Weights::kNowhere;
      for (uint32_t x = 0; x < insn.x_size; ++x) {
        row[x] = place;
        if (place != Weights::kNowhere) place += weights_.lines();
      }
    }
    if (constant) return loads_.push_back(index);
    RunLoads();
    Step(Tape::Step::kInsn, index);
  }

  // Runs the LOADs of constant weights that wait.
  void RunLoads() {
    for (const uint32_t index : loads_) Step(Tape::Step::kInsn, index);
    loads_.clear();
  }

  void Gemm(uint32_t index, const Insn& insn) {
    const NestRef& nest = stream_.nests()[index];
    if (nest.plan == nullptr) return;
    const NestPlan& plan = *nest.plan;
    if (insn.reset) {
      for (const int32_t d : plan.dst) {
        const size_t e = static_cast<size_t>(nest.base.dst + d);
        if (owner_[e] != 0) Run(owner_[e]);
        cleared_[e] = true;
      }
      return;
    }
    size_t parts = 0;
    for (const GemmGroup& group : plan.groups) parts += group.base_count;
    const bool constant = std::all_of(plan.wgt.begin(), plan.wgt.end(), [&](int32_t w) {
      return places_[static_cast<size_t>(nest.base.wgt + w)] != Weights::kNowhere;
    });
    if (!constant || parts > kMostParts) {
      RunLoads();
      Touch(plan.dst, nest.base.dst);
      return Step(Tape::Step::kInsn, index);
    }
    for (const GemmGroup& group : plan.groups) {
      for (uint32_t b = 0; b < group.base_count; ++b) Part(plan, group, nest.base, b);
    }
  }

  // One group of rows of a GEMM at one of its bases.
  void Part(const NestPlan& plan, const GemmGroup& group, const Uop& nest, uint32_t number) {
    const GemmBase& base = plan.bases[group.base_begin + number];
    const GemmRow* rows = plan.rows.data() + group.row_begin;
    const int32_t to = nest.dst * static_cast<int32_t>(config_.lanes()) + base.dst;
    const int32_t from = nest.src * static_cast<int32_t>(inp_bytes_) + base.src;
    std::vector<int32_t> dst;
    SumTerm term;
    for (size_t r = 0; r < group.row_count; ++r) {
      dst.push_back(to + rows[r].dst);
      term.src.push_back(from + rows[r].src);
    }
    const auto [least, most] = std::minmax_element(term.src.begin(), term.src.end());
    term.same = dst.size() > 1 && *least == *most;
    term.begin = PTRDIFF_MAX;
    term.end = PTRDIFF_MIN;
    term.least = INT32_MAX;
    for (uint32_t t = 0; t < group.tap_count; ++t) {
      const PlanTap& tap = plan.taps[group.tap_begin + t];
      const uint32_t place = places_[static_cast<size_t>(nest.wgt + base.wgt + tap.wgt)];
      const bool diagonal = !term.same && weights_.Diagonal(place) != nullptr;
      (diagonal ? term.diagonals : term.taps).push_back({tap.src, place});
      term.begin = std::min<ptrdiff_t>(term.begin, *least + tap.src);
      term.end = std::max<ptrdiff_t>(term.end, *most + tap.src + inp_bytes_);
      term.least = std::min(term.least, tap.src);
    }
    uint32_t id = 0;
    for (const int32_t d : dst) {
      const uint32_t owner = owner_[ElementOf(d)];
      if (owner == 0 || owner == id) continue;
      if (id == 0 && Grow(owner, dst)) {
        id = owner;
      } else {
        Run(owner);
      }
    }
    if (id == 0 || !Contains(At(id).dst, dst)) {
      if (id != 0) Run(id);
      id = Begin(dst);
    }
    PendingSum& sum = At(id);
    if (sum.dst.size() != dst.size()) {
      term.src = Spread(term.src, dst, sum.dst);
      term.same = false;
    }
    sum.terms.push_back(std::move(term));
  }

  static bool Contains(const std::vector<int32_t>& all, const std::vector<int32_t>& some) {
    return std::includes(all.begin(), all.end(), some.begin(), some.end());
  }

  // Values of rows `some` for the rows `all`.
  static std::vector<int32_t> Spread(const std::vector<int32_t>& values,
                                     const std::vector<int32_t>& some,
                                     const std::vector<int32_t>& all) {
    std::vector<int32_t> spread;
    spread.reserve(all.size());
    size_t n = 0;
    for (const int32_t row : all) {
      const bool has = n < some.size() && some[n] == row;
      spread.push_back(has ? values[n++] : PendingSum::kNone);
    }
    return spread;
  }

  // Lets a sum take a term for rows `dst`, most of which it has: it gets the others, where they
  // belong to no sum. Returns false where that is not possible or not worth it.
  bool Grow(uint32_t id, const std::vector<int32_t>& dst) {
    PendingSum& sum = At(id);
    if (sum.clipped != 0 || sum.terms.size() >= kMostTerms) return false;
    if (sum.dst == dst) return true;
    std::vector<int32_t> all;
    std::set_union(sum.dst.begin(), sum.dst.end(), dst.begin(), dst.end(), std::back_inserter(all));
    if (all.size() > dst.size() + dst.size() / 2) return false;
    if (all.size() > sum.dst.size() + sum.dst.size() / 2) return false;
    if (all.size() != sum.dst.size()) {
      for (const int32_t d : dst) {
        const size_t e = ElementOf(d);
        if (owner_[e] != id && (owner_[e] != 0 || cleared_[e] != sum.fresh)) return false;
      }
      for (const int32_t d : dst) {
        owner_[ElementOf(d)] = id;
        cleared_[ElementOf(d)] = false;
      }
      for (SumTerm& term : sum.terms) {
        term.src = Spread(term.src, sum.dst, all);
        term.same = false;
      }
      sum.dst = std::move(all);
    }
    return true;
  }

  // Begins the sums of rows; returns their id.
  uint32_t Begin(const std::vector<int32_t>& dst) {
    size_t cleared = 0;
    for (const int32_t d : dst) {
      if (owner_[ElementOf(d)] != 0) Run(owner_[ElementOf(d)]);
      cleared += cleared_[ElementOf(d)];
    }
    const bool fresh = cleared == dst.size();
    for (size_t r = 0; r < dst.size() && cleared != 0; ++r) {
      const size_t e = ElementOf(dst[r]);
      if (fresh) {
        cleared_[e] = false;
      } else {
        Touch(e, 1);
      }
    }
    if (waiting_.size() >= kMostPending) Run(waiting_.front());
    if (free_.empty()) {
      pending_.push_back(std::make_unique<PendingSum>());
      free_.push_back(static_cast<uint32_t>(pending_.size()));
    }
    const uint32_t id = free_.back();
    free_.pop_back();
    waiting_.push_back(id);
    PendingSum& sum = At(id);
    sum = PendingSum();
    sum.dst = dst;
    sum.fresh = fresh;
    for (const int32_t d : dst) owner_[ElementOf(d)] = id;
    return id;
  }

  void Alu(uint32_t index, const Insn& insn) {
    const NestRef& nest = stream_.nests()[index];
    if (nest.plan == nullptr || Clips(insn, nest)) return;
    Touch(nest.plan->dst, nest.base.dst);
    if (!insn.use_imm) Touch(nest.plan->src, nest.base.src);
    Step(Tape::Step::kInsn, index);
  }

  // Where an ALU is the next step of a clip of whole sums that wait, they take it.
  bool Clips(const Insn& insn, const NestRef& nest) {
    if (!insn.use_imm || (insn.alu == AluOp::kShr && insn.imm < 0)) return false;
    const int step = insn.alu == AluOp::kShr   ? 1
                     : insn.alu == AluOp::kMax ? 2
                     : insn.alu == AluOp::kMin ? 3
                                               : 0;
    const NestPlan& plan = *nest.plan;
    size_t steps = 0;
    for (const AluRun& run : plan.runs) steps += static_cast<size_t>(run.count);
    if (step == 0 || steps != plan.dst.size()) return false;
    std::vector<std::pair<uint32_t, size_t>> sums;  // with the number of their elements seen
    for (const int32_t d : plan.dst) {
      const uint32_t id = owner_[static_cast<size_t>(nest.base.dst + d)];
      if (id == 0) return false;
      if (sums.empty() || sums.back().first != id) {
        const auto known =
            std::find_if(sums.begin(), sums.end(), [&](const auto& s) { return s.first == id; });
        if (known == sums.end()) {
          sums.emplace_back(id, 0);
        } else {
          std::swap(*known, sums.back());
        }
      }
      ++sums.back().second;
    }
    for (const auto& [id, seen] : sums) {
      const PendingSum& sum = At(id);
      if (seen * config_.batch() != sum.dst.size() || sum.clipped >= step) return false;
    }
    for (const auto& [id, seen] : sums) {
      PendingSum& sum = At(id);
      sum.clipped = step;
      if (step == 1) sum.clip.shift = std::min(insn.imm, 31);
      if (step == 2) sum.clip.low = insn.imm;
      if (step == 3) sum.clip.high = insn.imm;
    }
    return true;
  }

  // Runs what waits for acc elements, so that they are what the program says.
  void Touch(size_t begin, size_t count) {
    size_t clear = begin;  // elements [clear, e) are to be cleared
    for (size_t e = begin; e < begin + count; ++e) {
      if (owner_[e] != 0) Run(owner_[e]);
      if (cleared_[e]) {
        cleared_[e] = false;
      } else {
        if (clear != e) Step(Tape::Step::kClear, clear, e - clear);
        clear = e + 1;
      }
    }
    if (clear < begin + count) Step(Tape::Step::kClear, clear, begin + count - clear);
  }

  void Touch(const std::vector<int32_t>& offsets, int32_t base) {
    for (size_t i = 0, end; i < offsets.size(); i = end) {
      end = i + 1;
      while (end < offsets.size() && offsets[end] == offsets[end - 1] + 1) ++end;
      Touch(static_cast<size_t>(base + offsets[i]), end - i);
    }
  }

  // Runs what reads bytes of inp in [begin, end): sums that have a partner, and of the others only
  // the terms that do, since these may have one, and the rest later.
  void RunReaders(ptrdiff_t begin, ptrdiff_t end) {
    const auto reads = [=](const SumTerm& term) { return term.begin < end && begin < term.end; };
    for (size_t n = 0; n < waiting_.size();) {
      const uint32_t id = waiting_[n];
      const std::vector<SumTerm>& terms = At(id).terms;
      if (std::any_of(terms.begin(), terms.end(), reads) &&
          (config_.block() != kColumn || Partners(id).size() > 1)) {
        Run(id);
        n = 0;
      } else {
        ++n;
      }
    }
    std::vector<PendingSum> parts;
    const std::vector<uint32_t> waiting = waiting_;
    for (const uint32_t id : waiting) {
      PendingSum& sum = At(id);
      const auto rest = std::stable_partition(sum.terms.begin(), sum.terms.end(), reads);
      if (rest == sum.terms.begin()) continue;
      if (sum.clipped != 0 || rest == sum.terms.end()) {
        Release(id);
        parts.push_back(std::move(sum));
        continue;
      }
      PendingSum part;
      part.dst = sum.dst;
      part.fresh = std::exchange(sum.fresh, false);
      part.terms.assign(std::make_move_iterator(sum.terms.begin()), std::make_move_iterator(rest));
      sum.terms.erase(sum.terms.begin(), rest);
      parts.push_back(std::move(part));
    }
    std::vector<bool> done(parts.size(), false);
    for (size_t n = 0; n < parts.size(); ++n) {
      if (done[n]) continue;
      std::vector<const PendingSum*> sums = {&parts[n]};
      for (size_t other = n + 1; other < parts.size() && sums.size() < kMostColumns; ++other) {
        if (done[other] || !writer_.Pairs(parts[n], parts[other])) continue;
        done[other] = true;
        sums.push_back(&parts[other]);
      }
      writer_.Write(sums);
    }
  }

  // Runs a sum, with others that read the same inp if there are any.
  void Run(uint32_t id) {
    std::vector<const PendingSum*> sums;
    for (const uint32_t partner : Partners(id)) {
      Release(partner);
      sums.push_back(&At(partner));
    }
    writer_.Write(sums);
  }

  // The sums that may run in one call, `id` first.
  std::vector<uint32_t> Partners(uint32_t id) {
    std::vector<uint32_t> all = {id};
    for (const uint32_t other : waiting_) {
      if (all.size() == kMostColumns) break;
      if (other != id && writer_.Pairs(At(id), At(other))) all.push_back(other);
    }
    return all;
  }

  void Release(uint32_t id) {
    waiting_.erase(std::find(waiting_.begin(), waiting_.end(), id));
    free_.push_back(id);
    for (const int32_t d : At(id).dst) owner_[ElementOf(d)] = 0;
  }

  const Stream& stream_;
  const Config& config_;
  const Kernels& kernels_;
  Weights& weights_;
  uint64_t most_bytes_;
  Tape* tape_;
  SumWriter writer_;
  ptrdiff_t inp_bytes_;           // of a packed element
  std::vector<uint32_t> owner_;   // of each acc element: the id of the sum that waits for it, or 0
  std::vector<bool> cleared_;     // acc elements that are zero, but not in memory
  std::vector<uint32_t> places_;  // of wgt elements that hold constants
  std::vector<std::unique_ptr<PendingSum>> pending_;  // by id - 1
  std::vector<uint32_t> free_, waiting_;
  std::vector<uint32_t> loads_;  // of constant weights, which wait
};

std::unique_ptr<Tape> Tape::Make(const Stream& stream, const std::vector<uint32_t>& order,
                                 Machine* machine, uint64_t most_bytes) {
  auto tape = std::make_unique<Tape>();
  tape->order_ = order;
  if (!TapeMaker(stream, machine, most_bytes, tape.get()).Make()) return nullptr;
  return tape;
}

}  // namespace vta
