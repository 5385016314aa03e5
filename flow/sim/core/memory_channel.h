// The read channel of the memory: one request a cycle by fixed priority, data in request order.
#ifndef FLOW_SIM_CORE_MEMORY_CHANNEL_H_
#define FLOW_SIM_CORE_MEMORY_CHANNEL_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "timing.h"

namespace vta {

// Read clients by falling priority.
enum Client : int { kFetchClient, kUopClient, kInpClient, kWgtClient, kAccClient, kClients };

// The bursts of one LOAD (or one chunk of instructions), in order.
class BurstList {
 public:
  BurstList() = default;
  // Rows of `row_bytes` every `stride_bytes` from `address`. A wide client reads whole bus words.
  BurstList(uint64_t address, uint64_t row_bytes, uint64_t stride_bytes, uint64_t rows,
            uint32_t log_bus_bytes, uint32_t log_burst_beats, bool wide);
  bool empty() const { return rows_ == 0; }
  // Takes the next burst; returns its beats and whether it ends a row.
  std::pair<uint32_t, bool> Take();

 private:
  void StartRow();

  uint64_t address_ = 0, row_bytes_ = 0, stride_bytes_ = 0, rows_ = 0;
  uint32_t log_bus_ = 3;
  uint64_t burst_ = 16;
  bool wide_ = false;
  uint64_t beats_left_ = 0;     // of this row
  uint64_t beats_to_edge_ = 0;  // until a burst must end
};

// When a burst was asked for and moves.
struct BurstTime {
  int64_t grant;  // the request leaves its client's queue
  int64_t ready;  // the memory takes it up; its beats follow, one a cycle
};

// A stream of requests of one client.
struct ReadStream {
  bool active = false;
  int64_t valid = 0;  // the cycle in which its next request may be granted
  BurstList bursts;
};

class MemoryChannel {
 public:
  explicit MemoryChannel(const TimingParams& params) : params_(params), lasts_(params.tags) {}

  ReadStream& stream(int client) { return streams_[client]; }
  // The client to be granted next, -1 when none asks; `*cycle` is when.
  int Next(int64_t* cycle);
  // Grants the next burst of `client` in `cycle`.
  BurstTime Grant(int client, int64_t cycle, uint32_t beats);

 private:
  int64_t Unblocked(int64_t cycle);

  TimingParams params_;
  ReadStream streams_[kClients];
  std::vector<int64_t> lasts_;  // ring: the cycle of the last beat of each burst in flight
  size_t head_ = 0, count_ = 0;
  int64_t last_grant_ = -1;
  int64_t last_ready_ = -2;  // when the memory took up the burst before, and can take the next
  int64_t free_ = 0;
  int64_t spell_ = 0;  // since when the memory has had requests without a gap
};

}  // namespace vta

#endif  // FLOW_SIM_CORE_MEMORY_CHANNEL_H_
