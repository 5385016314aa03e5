// The cycle-level simulator: the functional simulator in the order, and with the cycles, of the
// timing model.
#ifndef FLOW_SIM_CORE_TSIM_H_
#define FLOW_SIM_CORE_TSIM_H_

#include <string>
#include <utility>
#include <vector>

#include "engine.h"
#include "fsim.h"
#include "timing.h"

namespace vta {

class TSim {
 public:
  // Times the stream of `sim`, which must outlive this, as if it lay at `stream_address`. Throws as
  // Simulate.
  TSim(FSim* sim, const TimingParams& params, uint64_t stream_address = 0)
      : sim_(sim),
        timeline_(Simulate(sim->stream().insns(), sim->stream().config(), params,
                           sim->stream().origin(), stream_address)) {}

  const Timeline& timeline() const { return timeline_; }
  // Executes every instruction when it starts. Returns one snapshot a tap.
  std::vector<std::vector<uint8_t>> Run(const std::vector<Tap>& taps) {
    return sim_->RunOrder(timeline_.order, taps);
  }

 private:
  FSim* sim_;
  Timeline timeline_;
};

// Reads a timing profile from its numbers, separated by commas; the default one from nothing.
// Throws ConfigError.
TimingParams ParseTiming(const std::string& numbers);

// The cycle-level simulator as the engine of a compiled module.
class TSimEngine : public FSimEngine {
 public:
  TSimEngine(const Program& program, OriginFn origin, const std::string& timing,
             const Limits& limits = Limits())
      : FSimEngine(program, std::move(origin), "", limits), tsim_(&sim_, ParseTiming(timing)) {}
  void Run() override { tsim_.Run({}); }
  std::vector<std::vector<uint8_t>> RunTapped(const std::vector<Tap>& taps) override {
    return tsim_.Run(taps);
  }
  int64_t cycles() const { return tsim_.timeline().cycles; }

 private:
  TSim tsim_;
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_TSIM_H_
