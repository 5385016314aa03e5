// GEMM: acc[dst] += inp[src] . wgt[wgt]^T over the nest, or acc[dst] = 0 with reset.
#include <algorithm>
#include <cstring>

#include "machine.h"

namespace vta {

// One group of rows at one base: all columns of a block. `wgt`: the base, in elements.
void Machine::GemmTaps(GemmArgs args, GemmTerm* term, const PlanTap* taps, size_t wgt) {
  const size_t block = config_.block(), lanes = std::min(block, kColumn), all = block / lanes;
  const uint32_t column_lines = weights_.column_lines();
  int32_t* init = reinterpret_cast<int32_t*>(init_.data());
  std::memset(init, 0, block * sizeof(int32_t));
  int32_t* const acc = args.acc[0];
  src_.resize(term->tap_count);
  wgt_.resize(term->tap_count * std::min(all, kMostColumns));
  term->src = src_.data();
  term->wgt = wgt_.data();
  term->in_order = false;
  for (size_t first = 0; first < all; first += args.columns) {
    args.columns = std::min(kMostColumns, all - first);
    for (size_t t = 0; t < term->tap_count; ++t) {
      const uint32_t place =
          weights_.place(static_cast<size_t>(static_cast<ptrdiff_t>(wgt) + taps[t].wgt));
      src_[t] = taps[t].src;
      for (size_t c = 0; c < args.columns; ++c) {
        wgt_[t * args.columns + c] = place + static_cast<uint32_t>(first + c) * column_lines;
      }
      if (!kernels_.corrected || first != 0) continue;
      const int32_t* corrections = weights_.corrections(place);
      for (size_t o = 0; o < block; ++o) {
        init[o] = static_cast<int32_t>(static_cast<uint32_t>(init[o]) +
                                       static_cast<uint32_t>(corrections[o]));
      }
    }
    for (size_t c = 0; c < args.columns; ++c) {
      args.acc[c] = acc + (first + c) * lanes;
      args.init[c] = init + (first + c) * lanes;
    }
    kernels_.gemm(args);
  }
}

void Machine::Gemm(const Insn& insn, const NestRef& nest) {
  if (nest.plan == nullptr) return;  // no steps
  const NestPlan& plan = *nest.plan;
  const size_t lanes = config_.lanes();
  if (insn.reset) {
    for (const AluRun& run : plan.runs) {
      Clear(static_cast<size_t>(nest.base.dst + run.dst), static_cast<size_t>(run.count));
    }
    return;
  }
  const size_t base_src = static_cast<size_t>(nest.base.src) * inp_packed_;
  for (const GemmGroup& group : plan.groups) {
    for (uint32_t b = 0; b < group.base_count; ++b) {
      const GemmBase& base = plan.bases[group.base_begin + b];
      GemmTerm term;
      term.rows = plan.rows.data() + group.row_begin;
      term.inp = inp_bytes_.data() + base_src + base.src;
      term.tap_count = group.tap_count;
      GemmArgs args;
      args.block = config_.block();
      args.acc[0] = acc_ + static_cast<size_t>(nest.base.dst) * lanes + base.dst;
      args.rows = term.rows;
      args.row_count = group.row_count;
      args.wgt = weights_.data();
      args.terms = &term;
      args.term_count = 1;
      GemmTaps(args, &term, plan.taps.data() + group.tap_begin,
               static_cast<size_t>(nest.base.wgt + base.wgt));
    }
  }
}

void Machine::Execute(const TapeGemm& gemm) {
  if (gemm.same.term_count != 0) kernels_.gemm(gemm.same);
  kernels_.gemm(gemm.args);
}

}  // namespace vta
