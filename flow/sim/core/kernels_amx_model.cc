// The AMX kernel on a software model of tiles, to test it on any processor; never chosen by itself.
#include "kernels_amx.h"

namespace vta {

const Kernels kAmxModelKernels = {"amx_model",
                                  1,
                                  0,
                                  PackedWgtBytes<AmxLanes>,
                                  false,
                                  CopyInp,
                                  PackVectorWgt<AmxLanes>,
                                  TileGemm<ModelTiles>,
                                  Alu,
                                  Narrow,
                                  Unpack4,
                                  Narrow4};

}  // namespace vta
