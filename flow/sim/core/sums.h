// Sums that a tape delays, and how they become calls of the kernel.
#ifndef FLOW_SIM_CORE_SUMS_H_
#define FLOW_SIM_CORE_SUMS_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "config.h"
#include "kernels.h"
#include "machine.h"
#include "tape.h"
#include "weights.h"

namespace vta {

// A step of a sum, and where its packed weights lie.
struct PlacedTap {
  int32_t src;
  uint32_t place;
};
// What one GEMM adds to rows of a sum.
struct SumTerm {
  std::vector<int32_t> src;  // bytes of inp, for each row of the sum; kNone where it adds nothing
  std::vector<PlacedTap> taps, diagonals;
  bool same;             // every row reads the same inp
  ptrdiff_t begin, end;  // bytes of inp that are read lie in this range
  int32_t least;         // of the taps' src
};
// Rows whose sums wait. No two of these have a row in common.
struct PendingSum {
  static constexpr int32_t kNone = INT32_MIN;

  std::vector<int32_t> dst;  // lanes of acc, ascending
  bool fresh = false;
  std::vector<SumTerm> terms;
  Clip clip;
  int clipped = 0;  // how many of a clip's three steps are taken
};

// Writes sums to a tape.
class SumWriter {
 public:
  SumWriter(const Config& config, const Kernels& kernels, Machine* machine, Tape* tape)
      : config_(config),
        kernels_(kernels),
        machine_(machine),
        weights_(machine->weights()),
        tape_(tape),
        column_lines_(weights_.column_lines()) {}

  // Whether two sums may be columns of one call. Those of a larger block need no other sum.
  bool Pairs(const PendingSum& a, const PendingSum& b) const;
  // Runs sums that pair with the first of them, kMostColumns at most.
  void Write(const std::vector<const PendingSum*>& sums);

 private:
  // A column of a call: that with this number of a sum.
  struct Column {
    const PendingSum* sum;
    size_t at;
  };

  void AddCorrections(const std::vector<PlacedTap>& taps, size_t column, int32_t* init) const;
  void Emit(const std::vector<Column>& columns);
  // A product of a call: bytes of inp from the term's rows, and the lines of each column.
  struct JoinedTap {
    int32_t src;
    std::vector<uint32_t> lines;
  };
  // Terms whose rows read inp in the same way, as one.
  struct JoinedTerm {
    std::vector<int32_t> rows;  // src of each row from `base`, or kNone
    int32_t base, least;        // `least`: of the taps' src
    std::vector<JoinedTap> taps;
  };
  // Rows of a sum with their `src` from `base` on; rows without one read zeros behind the inp
  // scratchpad, where `least` is the first byte of inp that the row at `base` reads. The same rows
  // are kept once.
  const GemmRow* RowsOf(const PendingSum& sum, const std::vector<int32_t>& src, int32_t base,
                        int32_t least);
  // `same`: the terms that are the same for every row, as terms of one row; otherwise the others.
  void SetTerms(const std::vector<Column>& columns, bool same, GemmArgs* args);
  // Lets the weights of a column lie one behind the other; returns false where there is no room.
  bool Arrange(size_t column, std::vector<JoinedTap>* taps);
  // Column `at` of diagonal weights; those of the same inp become one.
  void AddDiagonals(const PendingSum& sum, const SumTerm& term, size_t at, size_t column,
                    std::vector<GemmDiagonal>* diagonals);
  // Makes the GEMM of one row that adds to args->init what is the same for all rows; without terms
  // where nothing is.
  void SetSame(const std::vector<Column>& columns, GemmArgs* args, GemmArgs* once);

  template <typename T>
  const T* Kept(const std::vector<T>& values) {
    T* kept = tape_->pool_.Array<T>(values.size());
    std::copy(values.begin(), values.end(), kept);
    return kept;
  }

  const Config& config_;
  const Kernels& kernels_;
  Machine* machine_;
  Weights& weights_;
  Tape* tape_;
  uint32_t column_lines_;  // of a column of a packed wgt element
  std::unordered_map<std::string, const GemmRow*> rows_;
  std::unordered_map<std::string, uint32_t> arranged_;  // the first line, by those copied
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_SUMS_H_
