#include "plan.h"

#include <algorithm>
#include <bitset>
#include <map>
#include <tuple>

namespace vta {
namespace {

constexpr size_t kMaxTaps = size_t{1} << 15;
constexpr size_t kMaxRows = size_t{1} << 16;
// acc elements of machines whose ALU nests are put into a faster order.
constexpr size_t kMaxReordered = size_t{1} << 16;
// A plan or a group of one without what its vectors hold.
constexpr uint64_t kPlanBytes = 512;
constexpr uint64_t kGroupBytes = 256;

// Offsets in elements.
struct Row {
  int32_t dst, src;
};
struct Tap {
  int32_t src, wgt;
};

struct Loop {
  uint32_t count;
  int32_t dst, src, wgt;
};

struct Group {
  std::vector<Row> rows;
  std::vector<Tap> taps;
  std::vector<Uop> bases{Uop{}};
};

// Groups micro-ops into rows that sum the same steps: all micro-ops of one dst, sorted, are the
// row's steps, and rows whose steps differ only by a constant inp offset belong together. Sums are
// associative modulo 2^32, so order is free.
std::vector<Group> GroupUops(std::vector<Uop> uops, Budget* memory) {
  std::sort(uops.begin(), uops.end(), [](const Uop& a, const Uop& b) {
    return std::tie(a.dst, a.wgt, a.src) < std::tie(b.dst, b.wgt, b.src);
  });
  std::vector<Group> groups;
  std::map<std::vector<int32_t>, size_t> known;
  for (size_t begin = 0, end; begin < uops.size(); begin = end) {
    end = begin;
    std::vector<int32_t> key;
    while (end < uops.size() && uops[end].dst == uops[begin].dst) {
      key.push_back(uops[end].src - uops[begin].src);
      key.push_back(uops[end].wgt);
      ++end;
    }
    const auto [found, added] = known.emplace(std::move(key), groups.size());
    if (added) {
      memory->Take(kGroupBytes + 3 * (end - begin) * sizeof(Tap));  // its key, its taps
      groups.emplace_back();
      for (size_t i = begin; i < end; ++i) {
        groups.back().taps.push_back({uops[i].src - uops[begin].src, uops[i].wgt});
      }
    }
    groups[found->second].rows.push_back({uops[begin].dst, uops[begin].src});
  }
  return groups;
}

bool Distinct(const std::vector<Row>& rows) {
  std::vector<int32_t> dst;
  dst.reserve(rows.size());
  for (const Row& r : rows) dst.push_back(r.dst);
  std::sort(dst.begin(), dst.end());
  return std::adjacent_find(dst.begin(), dst.end()) == dst.end();
}

// Merges one loop of the nest into the group: into its steps where dst stays, into its rows where
// wgt stays and the rows remain distinct, else into its bases.
void Merge(const Loop& loop, Group* group, Budget* memory) {
  if (loop.count == 1) return;
  if (loop.dst == 0 && group->taps.size() * loop.count <= kMaxTaps) {
    memory->Take(group->taps.size() * loop.count * sizeof(Tap));
    const std::vector<Tap> taps = std::move(group->taps);
    group->taps.clear();
    group->taps.reserve(taps.size() * loop.count);
    for (uint32_t n = 0; n < loop.count; ++n) {
      const int32_t k = static_cast<int32_t>(n);
      for (const Tap& t : taps) group->taps.push_back({t.src + k * loop.src, t.wgt + k * loop.wgt});
    }
    return;
  }
  if (loop.dst != 0 && loop.wgt == 0 && group->rows.size() * loop.count <= kMaxRows) {
    memory->Take(group->rows.size() * loop.count * sizeof(Row));
    std::vector<Row> rows;
    rows.reserve(group->rows.size() * loop.count);
    for (uint32_t n = 0; n < loop.count; ++n) {
      const int32_t k = static_cast<int32_t>(n);
      for (const Row& r : group->rows) rows.push_back({r.dst + k * loop.dst, r.src + k * loop.src});
    }
    if (Distinct(rows)) {
      group->rows = std::move(rows);
      return;
    }
  }
  memory->Take(group->bases.size() * loop.count * sizeof(Uop));
  std::vector<Uop> bases;
  bases.reserve(group->bases.size() * loop.count);
  for (uint32_t n = 0; n < loop.count; ++n) {
    const int32_t k = static_cast<int32_t>(n);
    for (const Uop& b : group->bases) {
      bases.push_back({b.dst + k * loop.dst, b.src + k * loop.src, b.wgt + k * loop.wgt});
    }
  }
  group->bases = std::move(bases);
}

// A set of signed offsets below a depth.
class OffsetSet {
 public:
  explicit OffsetSet(size_t depth) : depth_(static_cast<int32_t>(depth)), words_(depth / 32 + 1) {}
  void Add(int32_t offset) {
    const size_t at = static_cast<size_t>(offset + depth_);
    if (at < words_.size() * 64) words_[at / 64] |= uint64_t{1} << at % 64;
  }
  // The offsets, ascending; their memory is taken.
  std::vector<int32_t> List(Budget* memory) const {
    size_t count = 0;
    for (uint64_t word : words_) count += std::bitset<64>(word).count();
    memory->Take(count * sizeof(int32_t));
    std::vector<int32_t> list;
    list.reserve(count);
    for (size_t w = 0; w < words_.size(); ++w) {
      for (uint64_t word = words_[w]; word != 0; word &= word - 1) {
        list.push_back(static_cast<int32_t>(w) * 64 + __builtin_ctzll(word) - depth_);
      }
    }
    return list;
  }

 private:
  int32_t depth_;
  std::vector<uint64_t> words_;
};

}  // namespace

void PlanCache::BuildGemm(const Insn& insn, const std::vector<Uop>& uops, NestPlan* plan) const {
  const Loop in{insn.iter_in, static_cast<int32_t>(insn.dst_in), static_cast<int32_t>(insn.src_in),
                static_cast<int32_t>(insn.wgt_in)};
  const Loop out{insn.iter_out, static_cast<int32_t>(insn.dst_out),
                 static_cast<int32_t>(insn.src_out), static_cast<int32_t>(insn.wgt_out)};
  const int32_t lanes = static_cast<int32_t>(config_.lanes());
  const int32_t block = static_cast<int32_t>(config_.block());
  const int32_t lane_bytes = static_cast<int32_t>(kernels_.inp_lane_bytes);
  const int32_t inp_bytes = lanes * lane_bytes;
  OffsetSet dst(config_.acc_depth()), src(config_.inp_depth()), wgt(config_.wgt_depth());
  const uint64_t used = memory_->used();
  uint64_t kept = 0;
  for (Group& g : GroupUops(uops, memory_)) {
    const uint64_t before = memory_->used();
    Merge(in, &g, memory_);
    Merge(out, &g, memory_);
    // Twice: vectors that grow have room for as much again.
    const uint64_t bytes =
        2 * (sizeof(GemmGroup) + g.rows.size() * config_.batch() * sizeof(GemmRow) +
             g.taps.size() * sizeof(PlanTap) + g.bases.size() * sizeof(GemmBase));
    memory_->Take(bytes);
    GemmGroup group;
    group.row_begin = static_cast<uint32_t>(plan->rows.size());
    group.tap_begin = static_cast<uint32_t>(plan->taps.size());
    group.base_begin = static_cast<uint32_t>(plan->bases.size());
    std::sort(g.rows.begin(), g.rows.end(),
              [](const Row& a, const Row& b) { return a.dst < b.dst; });
    for (const Row& r : g.rows) {
      for (int32_t b = 0; b < static_cast<int32_t>(config_.batch()); ++b) {
        plan->rows.push_back(
            {r.dst * lanes + b * block, r.src * inp_bytes + b * block * lane_bytes});
      }
    }
    for (const Tap& t : g.taps) plan->taps.push_back({t.src * inp_bytes, t.wgt});
    for (const Uop& b : g.bases) {
      plan->bases.push_back({b.dst * lanes, b.src * inp_bytes, b.wgt});
      for (const Row& r : g.rows) {
        dst.Add(b.dst + r.dst);
        for (const Tap& t : g.taps) src.Add(b.src + r.src + t.src);
      }
      for (const Tap& t : g.taps) wgt.Add(b.wgt + t.wgt);
    }
    group.row_count = static_cast<uint32_t>(plan->rows.size()) - group.row_begin;
    group.tap_count = static_cast<uint32_t>(plan->taps.size()) - group.tap_begin;
    group.base_count = static_cast<uint32_t>(plan->bases.size()) - group.base_begin;
    plan->groups.push_back(group);
    g = Group();
    memory_->Reset(before);
    memory_->Take(bytes);
    kept += bytes;
  }
  memory_->Reset(used);
  memory_->Take(kept);
  plan->dst = dst.List(memory_);
  plan->src = src.List(memory_);
  plan->wgt = wgt.List(memory_);
}

namespace {

// An order of the steps of an ALU nest: the number of the step that comes first, and how far a step
// of each of the three loops leads.
struct StepOrder {
  const Insn& insn;
  size_t uops;
  bool uops_first;  // the loop over micro-ops outside instead of inside

  // Calls step(micro-op, outer, inner) in this order.
  template <typename Step>
  void Each(Step step) const {
    for (size_t u = 0; uops_first && u < uops; ++u) {
      for (uint32_t o = 0; o < insn.iter_out; ++o) {
        for (uint32_t i = 0; i < insn.iter_in; ++i) step(u, o, i);
      }
    }
    for (uint32_t o = 0; !uops_first && o < insn.iter_out; ++o) {
      for (uint32_t i = 0; i < insn.iter_in; ++i) {
        for (size_t u = 0; u < uops; ++u) step(u, o, i);
      }
    }
  }
};

}  // namespace

void PlanCache::BuildRuns(const Insn& insn, const std::vector<Uop>& uops, bool use_src,
                          NestPlan* plan) const {
  const int32_t depth = static_cast<int32_t>(config_.acc_depth());
  OffsetSet dst(config_.acc_depth()), src(config_.acc_depth());
  const auto dst_of = [&](size_t u, uint32_t o, uint32_t i) {
    return uops[u].dst + static_cast<int32_t>(o * insn.dst_out + i * insn.dst_in);
  };
  const auto src_of = [&](size_t u, uint32_t o, uint32_t i) {
    return use_src ? uops[u].src + static_cast<int32_t>(o * insn.src_out + i * insn.src_in) : 0;
  };
  // With micro-ops outside, runs are longer. That order gives the same where all steps that touch
  // an element, one of them writing, keep their order: 1 plus the place in it of the latest one.
  bool same = uops.size() > 1 && config_.acc_depth() <= kMaxReordered;
  std::vector<uint32_t> wrote(same ? 2 * config_.acc_depth() : 0), touched(wrote);
  const uint32_t nest = same ? insn.iter_out * insn.iter_in : 0;
  int32_t last = -1;
  uint64_t step = 0;
  StepOrder{insn, uops.size(), false}.Each([&](size_t u, uint32_t o, uint32_t i) {
    const int32_t d = dst_of(u, o, i), s = src_of(u, o, i);
    if (step > 0 && plan->back_to_back == 0 && (d == last || (use_src && s == last))) {
      plan->back_to_back = step;
    }
    dst.Add(d);
    if (use_src) src.Add(s);
    last = d;
    ++step;
    if (!same) return;
    const uint32_t place = 1 + static_cast<uint32_t>(u) * nest + o * insn.iter_in + i;
    const size_t to = static_cast<size_t>(d + depth), from = static_cast<size_t>(s + depth);
    same = touched[to] < place && (!use_src || wrote[from] < place);
    wrote[to] = touched[to] = std::max(touched[to], place);
    if (use_src) touched[from] = std::max(touched[from], place);
  });
  int32_t last_src = 0;
  StepOrder{insn, uops.size(), same}.Each([&](size_t u, uint32_t o, uint32_t i) {
    const int32_t d = dst_of(u, o, i), s = src_of(u, o, i);
    if (!plan->runs.empty() && d == last + 1 && (!use_src || s == last_src + 1)) {
      ++plan->runs.back().count;
    } else {
      if (plan->runs.size() == plan->runs.capacity()) {
        const size_t more = std::max<size_t>(plan->runs.size(), 1);
        memory_->Take(more * sizeof(AluRun));
        plan->runs.reserve(plan->runs.size() + more);
      }
      plan->runs.push_back({d, s, 1});
    }
    last = d;
    last_src = s;
  });
  plan->dst = dst.List(memory_);
  plan->src = src.List(memory_);
}

NestRef PlanCache::Get(const Insn& insn, const Uop* uops) {
  const bool gemm = insn.op == Opcode::kGemm && !insn.reset;
  const bool use_src = insn.op == Opcode::kAlu && !insn.use_imm;
  const size_t count = insn.uop_end - insn.uop_begin;
  NestRef ref;
  ref.base = uops[0];
  if (!gemm) ref.base.wgt = 0;
  // Both operands of an ALU are acc elements: one base, so that offsets of src and dst compare.
  if (!gemm) ref.base.src = use_src ? ref.base.dst : 0;
  std::vector<Uop> relative(uops, uops + count);
  for (Uop& u : relative) {
    u.dst -= ref.base.dst;
    u.src = gemm || use_src ? u.src - ref.base.src : 0;
    u.wgt = gemm ? u.wgt - ref.base.wgt : 0;
  }
  const uint32_t shape[] = {gemm      ? 0U
                            : use_src ? 1U
                                      : 2U,
                            insn.iter_out,
                            insn.iter_in,
                            insn.dst_out,
                            insn.dst_in,
                            gemm || use_src ? insn.src_out : 0,
                            gemm || use_src ? insn.src_in : 0,
                            insn.wgt_out,
                            insn.wgt_in};
  std::string key(reinterpret_cast<const char*>(shape), sizeof(shape));
  key.append(reinterpret_cast<const char*>(relative.data()), relative.size() * sizeof(Uop));
  std::unique_ptr<NestPlan>& plan = plans_[key];
  if (plan == nullptr) {
    memory_->Take(kPlanBytes + relative.size() * sizeof(Uop));
    plan = std::make_unique<NestPlan>();
    if (gemm) {
      BuildGemm(insn, relative, plan.get());
    } else {
      BuildRuns(insn, relative, use_src, plan.get());
    }
  }
  ref.plan = plan.get();
  return ref;
}

}  // namespace vta
