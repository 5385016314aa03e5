// The AMX kernel on a software model of tiles, to test it on any processor; never chosen by itself.
#include "kernels_amx.h"

namespace vta {
namespace {

struct Model : ModelTiles {
  using ModelTiles::Load;
  using ModelTiles::Store;
  struct Vec {
    int32_t lane[16];
  };
  template <typename F>
  static Vec Each(F f) {
    Vec v;
    for (int i = 0; i < 16; ++i) v.lane[i] = f(i);
    return v;
  }
  static Vec Load(const int32_t* p) {
    return Each([=](int i) { return p[i]; });
  }
  static void Store(int32_t* p, const Vec& v) { __builtin_memcpy(p, v.lane, sizeof(v)); }
  static Vec Widen(const uint8_t* p) {
    return Each([=](int i) { return SignExtend(p[i]); });
  }
  static Vec Add(const Vec& a, const Vec& b) {
    return Each([&](int i) {
      return Wrap(static_cast<uint32_t>(a.lane[i]) + static_cast<uint32_t>(b.lane[i]));
    });
  }
  static Vec Mul(const Vec& a, const Vec& b) {
    return Each([&](int i) {
      return Wrap(static_cast<uint32_t>(a.lane[i]) * static_cast<uint32_t>(b.lane[i]));
    });
  }
  static Vec Shr(const Vec& a, int32_t n) {
    return Each([&](int i) { return a.lane[i] >> n; });
  }
  static Vec Min(const Vec& a, const Vec& b) {
    return Each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static Vec Max(const Vec& a, const Vec& b) {
    return Each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static Vec Set(int32_t value) {
    return Each([=](int) { return value; });
  }
  template <size_t kCount>
  static void Join(const uint8_t* const (&pieces)[kCount], uint8_t* to) {
    for (size_t p = 0; p < kCount; ++p) __builtin_memcpy(to + 16 * p, pieces[p], 16);
    __builtin_memset(to + 16 * kCount, 0, 64 - 16 * kCount);
  }
};

}  // namespace

const Kernels kAmxModelKernels = {"amx_model",
                                  1,
                                  0,
                                  PackedWgtBytes<AmxLanes>,
                                  false,
                                  CopyInp,
                                  PackVectorWgt<AmxLanes>,
                                  TileGemm<Model>,
                                  Alu,
                                  Narrow,
                                  Unpack4,
                                  Narrow4};

}  // namespace vta
