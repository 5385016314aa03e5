#include "memory_channel.h"

#include <algorithm>

namespace vta {

BurstList::BurstList(uint64_t address, uint64_t row_bytes, uint64_t stride_bytes, uint64_t rows,
                     uint32_t log_bus_bytes, uint32_t log_burst_beats, bool wide)
    : address_(address),
      row_bytes_(row_bytes),
      stride_bytes_(stride_bytes),
      rows_(row_bytes == 0 ? 0 : rows),
      log_bus_(log_bus_bytes),
      burst_(uint64_t{1} << log_burst_beats),
      wide_(wide) {
  if (rows_ != 0) StartRow();
}

void BurstList::StartRow() {
  const uint64_t word = (uint64_t{1} << log_bus_) - 1;
  const uint64_t offset = wide_ ? address_ & word : 0;
  beats_left_ = (offset + row_bytes_ + word) >> log_bus_;
  const uint64_t edge = burst_ << log_bus_;
  beats_to_edge_ = (edge - ((address_ - offset) & (edge - 1))) >> log_bus_;
}

std::pair<uint32_t, bool> BurstList::Take() {
  const uint64_t beats = std::min(beats_left_, beats_to_edge_);
  beats_left_ -= beats;
  beats_to_edge_ = burst_;
  const bool row_ends = beats_left_ == 0;
  if (row_ends && --rows_ != 0) {
    address_ += stride_bytes_;
    StartRow();
  }
  return {static_cast<uint32_t>(beats), row_ends};
}

// The first cycle from `cycle` on in which a request may be granted: a tag is free and no last beat
// arrives.
int64_t MemoryChannel::Unblocked(int64_t cycle) {
  for (;;) {
    while (count_ != 0 && lasts_[head_] < cycle) {
      head_ = head_ + 1 == lasts_.size() ? 0 : head_ + 1;
      --count_;
    }
    if (count_ == lasts_.size()) {
      cycle = lasts_[head_] + 1;
    } else if (count_ != 0 && lasts_[head_] == cycle) {
      ++cycle;
    } else {
      return cycle;
    }
  }
}

int MemoryChannel::Next(int64_t* cycle) {
  int64_t earliest = INT64_MAX;
  for (const ReadStream& s : streams_) {
    if (s.active) earliest = std::min(earliest, s.valid);
  }
  if (earliest == INT64_MAX) return -1;
  earliest = std::max(earliest, last_grant_ + 1);
  earliest = params_.simple_memory ? std::max(earliest, free_) : Unblocked(earliest);
  *cycle = earliest;
  for (int c = 0; c < kClients; ++c) {
    if (streams_[c].active && streams_[c].valid <= earliest) return c;
  }
  return -1;
}

BurstTime MemoryChannel::Grant(int client, int64_t cycle, uint32_t beats) {
  last_grant_ = cycle;
  if (params_.simple_memory) {
    // The request, its way to the memory and back, and its beats; then the next request.
    free_ = cycle + beats + params_.simple_burst;
    streams_[client].valid = free_;
    return {cycle, cycle + params_.simple_burst - 1};
  }
  // The queue of a client holds one request: the next one enters it a cycle after this one has
  // left.
  streams_[client].valid = cycle + 2;
  const int64_t arrival = cycle + 1;
  if (arrival > last_ready_ + 1) spell_ = arrival;  // the memory had nothing to do in between
  const int64_t ready = std::max({arrival, free_, spell_ + params_.memory_latency});
  last_ready_ = ready;
  free_ = ready + beats;
  size_t tail = head_ + count_;
  if (tail >= lasts_.size()) tail -= lasts_.size();
  lasts_[tail] = ready + beats;
  ++count_;
  return {cycle, ready};
}

}  // namespace vta
