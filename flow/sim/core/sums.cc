#include "sums.h"

#include <algorithm>
#include <iterator>

namespace vta {
namespace {

int32_t Sum(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}

// Terms that need more than an addition for each row.
std::vector<const SumTerm*> Full(const PendingSum& sum) {
  std::vector<const SumTerm*> full;
  for (const SumTerm& term : sum.terms) {
    if (!term.same && !term.taps.empty()) full.push_back(&term);
  }
  return full;
}

// Where the src of a term's rows counts from.
int32_t Base(const SumTerm& term) {
  return *std::find_if(term.src.begin(), term.src.end(),
                       [](int32_t s) { return s != PendingSum::kNone; });
}

}  // namespace

void SumWriter::Write(const PendingSum& sum, const PendingSum* other) {
  if (other != nullptr) return Emit(sum, other, 0, 2);
  const size_t columns = std::max<size_t>(config_.block() / kColumn, 1);
  for (size_t c = 0; c < columns; c += 2) Emit(sum, nullptr, c, std::min<size_t>(columns - c, 2));
}

bool SumWriter::Pairs(const PendingSum& a, const PendingSum& b) const {
  if (config_.block() != kColumn || a.dst.size() != b.dst.size() || a.fresh != b.fresh ||
      a.clipped != b.clipped || a.clip.shift != b.clip.shift || a.clip.low != b.clip.low ||
      a.clip.high != b.clip.high) {
    return false;
  }
  const std::vector<const SumTerm*> x = Full(a), y = Full(b);
  if (x.size() != y.size()) return false;
  for (size_t n = 0; n < x.size(); ++n) {
    if (x[n]->taps.size() != y[n]->taps.size() || x[n]->least != y[n]->least) return false;
    for (size_t t = 0; t < x[n]->taps.size(); ++t) {
      if (x[n]->taps[t].src != y[n]->taps[t].src) return false;
    }
    if (x[n]->src != y[n]->src) return false;
  }
  for (size_t r = 1; r < a.dst.size(); ++r) {
    if (a.dst[r] - a.dst[0] != b.dst[r] - b.dst[0]) return false;
  }
  return true;
}

void SumWriter::AddCorrections(const std::vector<PlacedTap>& taps, size_t column,
                               int32_t* init) const {
  if (!kernels_.corrected) return;
  for (const PlacedTap& tap : taps) {
    const int32_t* corrections = weights_.corrections(tap.place) + column * kColumn;
    for (size_t o = 0; o < kColumn; ++o) init[o] = Sum(init[o], corrections[o]);
  }
}

void SumWriter::Emit(const PendingSum& sum, const PendingSum* other, size_t column,
                     size_t columns) {
  Pool& pool = tape_->pool_;
  TapeGemm gemm = {};
  GemmArgs& args = gemm.args;
  args.block = config_.block();
  args.columns = columns;
  args.rows = RowsOf(sum, std::vector<int32_t>(sum.dst.size(), 0), 0, 0);
  args.row_count = sum.dst.size();
  args.wgt = weights_.data();
  args.fresh = sum.fresh;
  if (sum.clipped != 0) {
    Clip* clip = pool.Array<Clip>(1);
    *clip = sum.clip;
    args.clip = clip;
  }
  std::vector<GemmDiagonal> diagonals;
  for (size_t c = 0; c < columns; ++c) {
    const PendingSum& own = c == 1 && other != nullptr ? *other : sum;
    const size_t at = other != nullptr ? 0 : column + c;
    args.acc[c] = machine_->acc() + own.dst[0] + at * kColumn;
    int32_t* init = pool.Array<int32_t>(kColumn);
    std::fill_n(init, kColumn, 0);
    for (const SumTerm& term : own.terms) {
      if (term.same) continue;
      AddCorrections(term.taps, at, init);
      AddCorrections(term.diagonals, at, init);
      AddDiagonals(own, term, at, c, &diagonals);
    }
    args.init[c] = init;
    gemm.same_count += SameTerms(own, at, init, &gemm.same[c]);
  }
  args.diagonals = Kept(diagonals);
  args.diagonal_count = diagonals.size();
  const std::vector<const SumTerm*> first = Full(sum);
  const std::vector<const SumTerm*> second = other == nullptr ? first : Full(*other);
  GemmTerm* terms = pool.Array<GemmTerm>(first.size());
  for (size_t n = 0; n < first.size(); ++n) {
    const uint32_t beside = other == nullptr ? column_lines_ : 0;
    terms[n] =
        Taps(sum, *first[n], *second[n], static_cast<uint32_t>(column) * column_lines_, beside);
  }
  args.terms = terms;
  args.term_count = first.size();
  tape_->steps_.push_back({Tape::Step::kGemm, static_cast<uint32_t>(tape_->gemms_.size()), 1});
  tape_->gemms_.push_back(gemm);
}

const GemmRow* SumWriter::RowsOf(const PendingSum& sum, const SumTerm& term) {
  return RowsOf(sum, term.src, Base(term), term.least);
}

const GemmRow* SumWriter::RowsOf(const PendingSum& sum, const std::vector<int32_t>& src,
                                 int32_t base, int32_t least) {
  const int32_t zeros = static_cast<int32_t>(config_.inp_depth()) *
                            static_cast<int32_t>(config_.lanes() * kernels_.inp_lane_bytes) -
                        base - least;
  std::vector<GemmRow> rows;
  for (size_t r = 0; r < src.size(); ++r) {
    rows.push_back({sum.dst[r] - sum.dst[0], src[r] == PendingSum::kNone ? zeros : src[r] - base});
  }
  const std::string key(reinterpret_cast<const char*>(rows.data()), rows.size() * sizeof(GemmRow));
  const auto [known, added] = rows_.emplace(key, nullptr);
  if (added) known->second = Kept(rows);
  return known->second;
}

GemmTerm SumWriter::Taps(const PendingSum& sum, const SumTerm& a, const SumTerm& b, uint32_t first,
                         uint32_t beside) {
  std::vector<GemmTap> taps;
  for (size_t t = 0; t < a.taps.size(); ++t) {
    const uint32_t x = a.taps[t].place, y = b.taps[t].place;
    if (weights_.IsZero(x) && weights_.IsZero(y)) continue;
    taps.push_back({a.taps[t].src, {x + first, y + first + beside}});
  }
  return {RowsOf(sum, a), machine_->inp() + Base(a), Kept(taps), taps.size()};
}

void SumWriter::AddDiagonals(const PendingSum& sum, const SumTerm& term, size_t at, size_t column,
                             std::vector<GemmDiagonal>* diagonals) {
  const size_t lanes = std::min(kColumn, config_.block());
  const GemmRow* rows = term.diagonals.empty() ? nullptr : RowsOf(sum, term);
  for (const PlacedTap& tap : term.diagonals) {
    const uint8_t* inp =
        machine_->inp() + Base(term) + tap.src + at * kColumn * kernels_.inp_lane_bytes;
    const int32_t* own = weights_.Diagonal(tap.place) + at * kColumn;
    const auto known = std::find_if(diagonals->begin(), diagonals->end(), [&](const auto& d) {
      return d.rows == rows && d.inp == inp && d.column == column;
    });
    if (known != diagonals->end()) {
      int32_t* factors = const_cast<int32_t*>(known->factors);
      for (size_t o = 0; o < lanes; ++o) factors[o] = Sum(factors[o], own[o]);
      continue;
    }
    int32_t* factors = tape_->pool_.Array<int32_t>(kColumn);
    std::copy(own, own + lanes, factors);
    diagonals->push_back({rows, inp, factors, column});
  }
}

bool SumWriter::SameTerms(const PendingSum& sum, size_t at, const int32_t* init, GemmArgs* once) {
  std::vector<GemmTerm> terms;
  int32_t* own = nullptr;
  for (const SumTerm& term : sum.terms) {
    if (!term.same) continue;
    if (own == nullptr) {
      own = tape_->pool_.Array<int32_t>(kColumn);
      std::copy(init, init + kColumn, own);
    }
    AddCorrections(term.taps, at, own);
    GemmTerm all = Taps(sum, term, term, static_cast<uint32_t>(at) * column_lines_, 0);
    all.rows = Kept(std::vector<GemmRow>{{0, 0}});
    terms.push_back(all);
  }
  if (own == nullptr) return false;
  once->block = config_.block();
  once->columns = 1;
  once->init[0] = own;
  once->rows = terms[0].rows;
  once->row_count = 1;
  once->wgt = weights_.data();
  once->terms = Kept(terms);
  once->term_count = terms.size();
  once->fresh = true;
  return true;
}

}  // namespace vta
