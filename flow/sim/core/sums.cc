#include "sums.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace vta {
namespace {

constexpr GemmRow kFirstRow = {0, 0};

int32_t Sum(int32_t a, int32_t b) {
  return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
}

// Terms with products that are the same for every row, or the others.
std::vector<const SumTerm*> Terms(const PendingSum& sum, bool same) {
  std::vector<const SumTerm*> terms;
  for (const SumTerm& term : sum.terms) {
    if (term.same == same && !term.taps.empty()) terms.push_back(&term);
  }
  return terms;
}

// Whether two sums have terms that read the same inp.
bool ReadAlike(const PendingSum& a, const PendingSum& b, bool same) {
  const auto alike = [](const SumTerm* x, const SumTerm* y) {
    return x->least == y->least && x->src == y->src && x->taps.size() == y->taps.size() &&
           std::equal(x->taps.begin(), x->taps.end(), y->taps.begin(),
                      [](const PlacedTap& s, const PlacedTap& t) { return s.src == t.src; });
  };
  const std::vector<const SumTerm*> x = Terms(a, same), y = Terms(b, same);
  return x.size() == y.size() && std::equal(x.begin(), x.end(), y.begin(), alike);
}

// Where the src of a term's rows counts from.
int32_t Base(const SumTerm& term) {
  return *std::find_if(term.src.begin(), term.src.end(),
                       [](int32_t s) { return s != PendingSum::kNone; });
}

}  // namespace

void SumWriter::Write(const std::vector<const PendingSum*>& sums) {
  std::vector<Column> columns;
  for (const PendingSum* sum : sums) columns.push_back({sum, 0});
  for (size_t at = 1; at < config_.block() / kColumn; ++at) columns.push_back({sums[0], at});
  for (size_t c = 0; c < columns.size(); c += kMostColumns) {
    const auto first = columns.begin() + static_cast<ptrdiff_t>(c);
    Emit({first, first + static_cast<ptrdiff_t>(std::min(columns.size() - c, kMostColumns))});
  }
}

bool SumWriter::Pairs(const PendingSum& a, const PendingSum& b) const {
  if (config_.block() != kColumn || a.dst.size() != b.dst.size() || a.fresh != b.fresh ||
      a.clipped != b.clipped || a.clip.shift != b.clip.shift || a.clip.low != b.clip.low ||
      a.clip.high != b.clip.high || !ReadAlike(a, b, false) || !ReadAlike(a, b, true)) {
    return false;
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

void SumWriter::Emit(const std::vector<Column>& columns) {
  Pool& pool = tape_->pool_;
  const PendingSum& sum = *columns[0].sum;
  TapeGemm gemm = {};
  GemmArgs& args = gemm.args;
  args.block = config_.block();
  args.columns = columns.size();
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
  for (size_t c = 0; c < columns.size(); ++c) {
    const auto& [own, at] = columns[c];
    args.acc[c] = machine_->acc() + own->dst[0] + at * kColumn;
    int32_t* init = pool.Array<int32_t>(kColumn);
    std::fill_n(init, kColumn, 0);
    for (const SumTerm& term : own->terms) {
      AddCorrections(term.taps, at, init);
      AddCorrections(term.diagonals, at, init);
      AddDiagonals(*own, term, at, c, &diagonals);
    }
    args.init[c] = init;
  }
  args.diagonals = Kept(diagonals);
  args.diagonal_count = diagonals.size();
  SetTerms(columns, false, &args);
  SetSame(columns, &args, &gemm.same);
  tape_->steps_.push_back({Tape::Step::kGemm, static_cast<uint32_t>(tape_->gemms_.size()), 1});
  tape_->gemms_.push_back(gemm);
}

const GemmRow* SumWriter::RowsOf(const PendingSum& sum, const std::vector<int32_t>& src,
                                 int32_t base, int32_t least) {
  const int32_t zeros = static_cast<int32_t>(config_.inp_depth()) *
                            static_cast<int32_t>(config_.lanes() * kernels_.inp_lane_bytes) -
                        least;
  std::vector<GemmRow> rows;
  for (size_t r = 0; r < src.size(); ++r) {
    rows.push_back({sum.dst[r] - sum.dst[0], src[r] == PendingSum::kNone ? zeros : src[r] - base});
  }
  const std::string key(reinterpret_cast<const char*>(rows.data()), rows.size() * sizeof(GemmRow));
  const auto [known, added] = rows_.emplace(key, nullptr);
  if (added) known->second = Kept(rows);
  return known->second;
}

void SumWriter::SetTerms(const std::vector<Column>& columns, bool same, GemmArgs* args) {
  std::vector<std::vector<const SumTerm*>> of_column;
  for (const Column& column : columns) of_column.push_back(Terms(*column.sum, same));
  std::vector<JoinedTerm> joined;
  for (size_t n = 0; n < of_column[0].size(); ++n) {
    const SumTerm& term = *of_column[0][n];
    const int32_t base = Base(term);
    std::vector<int32_t> rows = term.src;
    for (int32_t& row : rows) row -= row == PendingSum::kNone ? 0 : base;
    auto to = std::find_if(joined.begin(), joined.end(),
                           [&](const JoinedTerm& j) { return j.rows == rows; });
    if (to == joined.end()) to = joined.insert(to, {std::move(rows), base, INT32_MAX, {}});
    for (size_t t = 0; t < term.taps.size(); ++t) {
      JoinedTap tap;
      tap.src = term.taps[t].src + base - to->base;
      bool zeros = true;
      for (size_t c = 0; c < columns.size(); ++c) {
        const uint32_t place = of_column[c][n]->taps[t].place;
        zeros = zeros && weights_.IsZero(place);
        tap.lines.push_back(place + static_cast<uint32_t>(columns[c].at) * column_lines_);
      }
      if (!zeros) to->taps.push_back(std::move(tap));
    }
    to->least = std::min(to->least, term.least + base - to->base);
  }
  GemmTerm* terms = tape_->pool_.Array<GemmTerm>(joined.size());
  args->terms = terms;
  args->term_count = 0;
  for (JoinedTerm& j : joined) {
    if (j.taps.empty()) continue;
    std::sort(j.taps.begin(), j.taps.end(),
              [](const JoinedTap& a, const JoinedTap& b) { return a.lines < b.lines; });
    bool in_order = true;
    for (size_t c = 0; c < columns.size(); ++c) in_order &= Arrange(c, &j.taps);
    std::vector<int32_t> src;
    std::vector<uint32_t> wgt;
    for (const JoinedTap& tap : j.taps) {
      src.push_back(tap.src);
      wgt.insert(wgt.end(), tap.lines.begin(), tap.lines.end());
    }
    const GemmRow* rows = same ? &kFirstRow : RowsOf(*columns[0].sum, j.rows, 0, j.base + j.least);
    terms[args->term_count++] = {
        rows, machine_->inp() + j.base, Kept(src), Kept(wgt), src.size(), in_order};
  }
}

bool SumWriter::Arrange(size_t column, std::vector<JoinedTap>* taps) {
  std::vector<uint32_t> lines;
  for (const JoinedTap& tap : *taps) lines.push_back(tap.lines[column]);
  bool in_order = true;
  for (size_t t = 1; t < lines.size(); ++t) {
    in_order = in_order && lines[t] == lines[t - 1] + column_lines_;
  }
  if (in_order) return true;
  const std::string key(reinterpret_cast<const char*>(lines.data()),
                        lines.size() * sizeof(uint32_t));
  const auto [known, added] = arranged_.emplace(key, Weights::kNowhere);
  if (added) known->second = weights_.Copy(lines, column_lines_);
  if (known->second == Weights::kNowhere) return false;
  for (size_t t = 0; t < lines.size(); ++t) {
    (*taps)[t].lines[column] = known->second + static_cast<uint32_t>(t) * column_lines_;
  }
  return true;
}

void SumWriter::AddDiagonals(const PendingSum& sum, const SumTerm& term, size_t at, size_t column,
                             std::vector<GemmDiagonal>* diagonals) {
  const size_t lanes = std::min(kColumn, config_.block());
  const GemmRow* rows =
      term.diagonals.empty() ? nullptr : RowsOf(sum, term.src, Base(term), Base(term) + term.least);
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

void SumWriter::SetSame(const std::vector<Column>& columns, GemmArgs* args, GemmArgs* once) {
  SetTerms(columns, true, once);
  if (once->term_count == 0) return;
  once->block = args->block;
  once->columns = args->columns;
  once->rows = once->terms[0].rows;
  once->row_count = 1;
  once->wgt = args->wgt;
  once->fresh = true;
  for (size_t c = 0; c < columns.size(); ++c) {
    once->init[c] = args->init[c];
    args->init[c] = once->acc[c] = tape_->pool_.Array<int32_t>(kColumn);
  }
}

}  // namespace vta
