// A program in one order, prepared to run often: GEMMs that sum into the same rows run as one,
// several at a time where they read the same inp, with clears before them and clips after them.
//
// A tape gives the same memory and scratchpads as its instructions one by one. It only delays
// GEMMs, and what changes their sums, until something reads or writes what they touch; GEMMs whose
// weights are not constants of the program are not delayed.
#ifndef FLOW_SIM_CORE_TAPE_H_
#define FLOW_SIM_CORE_TAPE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "decode.h"
#include "kernels.h"
#include "plan.h"
#include "pool.h"

namespace vta {

class Machine;
class Stream;

// GEMMs as one call of the kernel.
struct TapeGemm {
  GemmArgs args;
  // Terms that are the same for every row of a column, as a GEMM of one row whose sums become the
  // init of the columns; without terms where there are none.
  GemmArgs same;
};

class Tape {
 public:
  // What happens: instruction `index`; clearing `count` acc elements from `index` on; GEMM `index`;
  // or the wgt scratchpad becomes places().
  struct Step {
    enum Kind : uint32_t { kInsn, kClear, kGemm, kPlaces } kind;
    uint32_t index, count;
  };

  // Prepares the bound `stream` in `order`, to run on `machine`, whose constants are packed.
  // Returns null when that takes more than `most_bytes`.
  static std::unique_ptr<Tape> Make(const Stream& stream, const std::vector<uint32_t>& order,
                                    Machine* machine, uint64_t most_bytes);

  const std::vector<uint32_t>& order() const { return order_; }
  const std::vector<Step>& steps() const { return steps_; }
  const TapeGemm& gemm(size_t index) const { return gemms_[index]; }
  // Where the elements of the wgt scratchpad lie, or Weights::kNowhere for those that stay.
  const std::vector<uint32_t>& places() const { return places_; }
  // Steps after which DRAM is as after the first n + 1 instructions of the order.
  size_t done(size_t n) const { return done_[n]; }

 private:
  friend class TapeMaker;
  friend class SumWriter;

  std::vector<uint32_t> order_;
  std::vector<Step> steps_;
  std::vector<TapeGemm> gemms_;
  std::vector<uint32_t> places_;
  std::vector<size_t> done_;
  Pool pool_;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_TAPE_H_
