// Tests of the core without Python, to be run under sanitizers; reads nothing and needs no library.
// Every kernel is compared with a plain loop over random programs, damaged streams and files must
// fail with an Error, and orders must not matter.
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core_case.h"
#include "engine.h"
#include "error.h"
#include "fsim.h"
#include "program.h"
#include "text.h"

namespace vta {

int failures = 0;

namespace {

// Runs `body`; it may throw an Error and nothing else.
template <typename Body>
bool Refused(Body body) {
  try {
    body();
  } catch (const Error& error) {
    CHECK(std::strchr(error.what(), ':') != nullptr);
    return true;
  }
  return false;
}

void TestDamagedStreams() {
  Random random(2);
  const Config config = MakeConfig(0, 4);
  int refused = 0;
  for (int n = 0; n < 1000; ++n) {
    Case c = MakeCase(config, &random, 3);
    for (uint32_t k = 1 + Below(&random, 3); k > 0; --k) {
      // Instructions, and sometimes micro-ops.
      if (Below(&random, 4) == 0) {
        c.arena[kUop + Below(&random, kUops * 4)] ^= static_cast<uint8_t>(1U << Below(&random, 8));
      } else {
        c.stream[Below(&random, static_cast<uint32_t>(c.stream.size()))] ^=
            static_cast<uint8_t>(1U << Below(&random, 8));
      }
    }
    const bool strict = Below(&random, 2) == 0;
    refused += Refused([&] {
      FSim sim(config, c.stream.data(), c.stream.size(), {{0, config.arena_bytes}}, strict,
               nullptr);
      sim.Write(0, c.arena.data(), c.arena.size());
      sim.Verify();
      uint64_t steps = 0;
      for (const Insn& insn : sim.stream().insns()) steps += insn.steps();
      if (steps < 100000) sim.Run(std::nullopt, {});
    });
  }
  CHECK(refused > 200 && refused < 1000);
}

void Append(std::string* text, uint64_t value, int bytes) {
  for (int b = 0; b < bytes; ++b) text->push_back(static_cast<char>(value >> (8 * b)));
}

std::string Join(const std::vector<std::pair<std::string, std::string>>& sections) {
  std::string table, body;
  const size_t start = 32 + 32 * sections.size();
  for (const auto& [tag, data] : sections) {
    body.append((64 - (start + body.size()) % 64) % 64, '\0');
    table += tag + std::string(8 - tag.size(), '\0');
    Append(&table, start + body.size(), 8);
    Append(&table, data.size(), 8);
    Append(&table, Crc32(reinterpret_cast<const uint8_t*>(data.data()), data.size()), 4);
    Append(&table, 0, 4);
    body += data;
  }
  std::string file = "VTAFLOW1";
  Append(&file, kProgramVersion, 4);
  Append(&file, sections.size(), 4);
  Append(&file, start + body.size(), 8);
  Append(&file, Crc32(reinterpret_cast<const uint8_t*>(table.data()), table.size()), 4);
  Append(&file, 0, 4);
  return file + table + body;
}

void TestPrograms() {
  CHECK(Crc32(reinterpret_cast<const uint8_t*>("123456789"), 9) == 0xcbf43926U);
  Random random(3);
  const Case c = MakeCase(MakeConfig(0, 4), &random, 2);
  std::string config, tensors;
  for (uint32_t word :
       {3U, 3U, 5U, 0U, 4U, 8U, 9U, 12U, 11U, 64U, 3U, 100000000U, 1U << 20, 0U, 16U, 0U}) {
    Append(&config, word, 4);
  }
  for (uint32_t word :
       {1U, 0U, static_cast<uint32_t>(kOut), 0U, 1U, 16U, 4U, 8U, 1U, 1U, 1U, 1U, 0U, 0U, 4U, 8U})
    Append(&tensors, word, 4);
  const std::string file = Join({{"CONFIG", config},
                                 {"INSNS", std::string(c.stream.begin(), c.stream.end())},
                                 {"CONSTS", std::string(c.arena.begin(), c.arena.begin() + kInp)},
                                 {"TENSORS", tensors},
                                 {"META", "{}"}});
  Program program;
  ParseProgram(file, &program);
  CHECK(program.outputs.size() == 1 && program.inputs.empty());
  CHECK(program.outputs[0].packed_bytes(program.config) == 512);
  // inp and acc are neither constants nor inputs.
  CHECK(Refused([&] { FSimEngine engine(program, nullptr, ""); }));
  CHECK(Refused([&] { DriverEngine engine(program, "/nowhere/libvta.so", {}); }));
  for (int n = 0; n < 400; ++n) {
    std::string damaged = file;
    damaged[Below(&random, static_cast<uint32_t>(file.size()))] ^=
        static_cast<char>(1 << Below(&random, 8));
    CHECK(Refused([&] {
      Program p;
      ParseProgram(damaged, &p);
    }));
    damaged = file.substr(0, Below(&random, static_cast<uint32_t>(file.size())));
    CHECK(Refused([&] {
      Program p;
      ParseProgram(damaged, &p);
    }));
  }
}

void TestTensors() {
  Random random(4);
  const Config config = MakeConfig(1, 3);
  TensorInfo t;
  t.n = 3;
  t.c = 5;
  t.h = 7;
  t.w = 4;
  t.form.extent[0] = t.h;
  t.form.extent[1] = t.w;
  CHECK(t.keeps_pixels());
  std::vector<int8_t> nchw(t.elems()), back(t.elems());
  for (int8_t& v : nchw) v = static_cast<int8_t>(random());
  std::vector<uint8_t> packed(t.packed_bytes(config));
  PackTensor(t, config, nchw.data(), packed.data(), "input");
  UnpackTensor(t, config, packed.data(), back.data());
  CHECK(nchw == back);
  const std::vector<uint8_t> plane = packed;
  packed.clear();
  for (int p = 0; p < 4; ++p) packed.insert(packed.end(), plane.begin(), plane.end());
  t.is_int32 = true;
  t.SetPlanes(0);
  CHECK(packed.size() == t.packed_bytes(config));
  std::vector<int32_t> wide(t.elems());
  UnpackTensor(t, config, packed.data(), wide.data());
  for (size_t i = 0; i < wide.size(); ++i) {
    CHECK(static_cast<uint32_t>(wide[i]) == static_cast<uint8_t>(nchw[i]) * 0x01010101U);
  }
}

// A border around each channel: packed by the host, left out when it is read.
void TestBorders() {
  Random random(5);
  for (const int bits : {8, 4}) {
    Config config = MakeConfig(1, 3);
    if (bits == 4) config.log_inp_width = 2;
    TensorInfo t;
    t.n = 3;
    t.c = 5;
    t.h = 7;
    t.w = 4;
    t.form.padding[0] = 2;
    t.form.padding[1] = 1;
    t.form.extent[0] = t.h + 3;
    t.form.extent[1] = t.w + 1;
    t.form.fill = -128;
    t.SetPlanes(bits == 4 ? 2 : 1);
    CHECK(t.keeps_pixels());
    std::vector<int8_t> nchw(t.elems()), back(t.elems());
    for (int8_t& v : nchw) v = static_cast<int8_t>(Below(&random, 248) - 128);
    std::vector<uint8_t> packed(t.packed_bytes(config), 99);
    PackTensor(t, config, nchw.data(), packed.data(), "input");
    UnpackTensor(t, config, packed.data(), back.data());
    CHECK(nchw == back);
    // As a larger tensor without a border, it has the same numbers inside and -128 around them.
    TensorInfo whole = t;
    whole.h = whole.form.extent[0];
    whole.w = whole.form.extent[1];
    whole.form.padding[0] = whole.form.padding[1] = 0;
    std::vector<int8_t> all(whole.elems());
    UnpackTensor(whole, config, packed.data(), all.data());
    for (size_t i = 0; i < all.size(); ++i) {
      const size_t x = i % whole.w, y = i / whole.w % whole.h, picture = i / (whole.w * whole.h);
      const bool inside = y >= 2 && y < 2 + t.h && x >= 1;
      CHECK(all[i] == (inside ? nchw[(picture * t.h + y - 2) * t.w + x - 1] : -128));
    }
    t.form.extent[1] = t.w;
    CHECK(!t.keeps_pixels());
    t.form.extent[1] = t.w + 1;
    t.SetPlanes(1);
    if (bits == 4) {
      std::fill(nchw.begin(), nchw.end(), int8_t{0});  // -128 alone takes two digits
      CHECK(Refused([&] { PackTensor(t, config, nchw.data(), packed.data(), "input"); }));
    }
  }
}

// Lanes of 4 bits: int8 as signed digits, int32 as plain bits.
void TestNarrowTensors() {
  Config config = MakeConfig(1, 3);
  config.log_inp_width = 2;
  TensorInfo t;
  t.c = 256;
  t.form.extent[0] = t.form.extent[1] = 1;
  t.SetPlanes(3);
  CheckTensor(t, config, "input");
  std::vector<int8_t> nchw(256), back(256);
  for (int i = 0; i < 256; ++i) nchw[static_cast<size_t>(i)] = static_cast<int8_t>(i);
  std::vector<uint8_t> packed(t.packed_bytes(config));
  CHECK(packed.size() == 3 * 256 * 2 / 2);  // the second row of the batch is zero
  PackTensor(t, config, nchw.data(), packed.data(), "input");
  // 0x21 = 2 * 16 + 1, -1 = 0 * 16 - 1, 0x78 = 7 * 16 + 8 = 1 * 256 - 8 * 16 - 8.
  const auto digit = [&](size_t p, size_t c) {
    const size_t lane = c / 8 * 16 + c % 8;
    return packed[p * 256 + lane / 2] >> lane % 2 * 4 & 15;
  };
  CHECK(digit(0, 0x21) == 1 && digit(1, 0x21) == 2 && digit(2, 0x21) == 0);
  CHECK(digit(0, 0xff) == 15 && digit(1, 0xff) == 0 && digit(2, 0xff) == 0);
  CHECK(digit(0, 0x78) == 8 && digit(1, 0x78) == 8 && digit(2, 0x78) == 1);
  UnpackTensor(t, config, packed.data(), back.data());
  CHECK(nchw == back);
  t.SetPlanes(2);
  CHECK(Refused([&] { PackTensor(t, config, nchw.data(), packed.data(), "input"); }));
  for (int8_t& v : nchw) v = std::min<int8_t>(v, 119);
  PackTensor(t, config, nchw.data(), packed.data(), "input");
  UnpackTensor(t, config, packed.data(), back.data());
  CHECK(nchw == back);
  t.SetPlanes(4);
  CHECK(Refused([&] { CheckTensor(t, config, "input"); }));
  t.is_int32 = true;
  CHECK(Refused([&] { CheckTensor(t, config, "input"); }));
  t.c = 1;
  t.SetPlanes(8);
  CheckTensor(t, config, "output");
  packed.assign(t.packed_bytes(config), 0);
  for (size_t p = 0; p < 8; ++p) {
    packed[p * t.plane_bytes(config)] = static_cast<uint8_t>(0xa0 | (8 + p));
  }
  int32_t wide = 0;
  UnpackTensor(t, config, packed.data(), &wide);
  CHECK(static_cast<uint32_t>(wide) == 0xfedcba98U);
}

// Forms, against their definition: reaching beyond the picture, or not to its end.
void TestForms() {
  Random random(5);
  const Config config = MakeConfig(1, 3);
  for (int n = 0; n < 200; ++n) {
    TensorInfo t;
    t.n = 1 + Below(&random, 3);
    t.c = 1 + Below(&random, 4);
    t.h = 1 + Below(&random, 7);
    t.w = 1 + Below(&random, 7);
    for (int axis : {0, 1}) {
      t.form.patch[axis] = 1 + Below(&random, 4);
      t.form.stride[axis] = 1 + Below(&random, 3);
      t.form.padding[axis] = Below(&random, 6);
      t.form.extent[axis] = 1 + Below(&random, 9);
    }
    CheckTensor(t, config, "input");
    std::vector<int8_t> nchw(t.elems());
    for (int8_t& v : nchw) v = static_cast<int8_t>(random());
    std::vector<uint8_t> packed(t.packed_bytes(config), 0xee);
    PackTensor(t, config, nchw.data(), packed.data(), "input");
    const InputForm& f = t.form;
    const uint32_t block = config.block(), batch = config.batch();
    const uint32_t channels = t.c * f.patch[0] * f.patch[1];
    const uint32_t blocks = (channels + block - 1) / block;
    for (size_t at = 0; at < packed.size(); ++at) {
      const uint32_t lane = at % block, row = at / block % batch;
      size_t element = at / block / batch;
      const int64_t x = static_cast<int64_t>(element % f.extent[1]);
      element /= f.extent[1];
      const int64_t y = static_cast<int64_t>(element % f.extent[0]);
      element /= f.extent[0];
      const uint32_t channel = static_cast<uint32_t>(element % blocks) * block + lane;
      const uint32_t image = static_cast<uint32_t>(element / blocks) * batch + row;
      const uint32_t c = channel % t.c, tap = channel / t.c;
      const int64_t py = y * f.stride[0] - f.padding[0] + tap / f.patch[1];
      const int64_t px = x * f.stride[1] - f.padding[1] + tap % f.patch[1];
      const bool inside =
          image < t.n && channel < channels && py >= 0 && py < t.h && px >= 0 && px < t.w;
      const int8_t expected =
          inside ? nchw[((uint64_t{image} * t.c + c) * t.h + static_cast<uint64_t>(py)) * t.w +
                        static_cast<uint64_t>(px)]
                 : int8_t{0};
      CHECK(packed[at] == static_cast<uint8_t>(expected));
    }
  }
}

void TestText() {
  CHECK(Printable("größe 大 🙂 [b]$") == "größe 大 🙂 [b]$");
  CHECK(Printable("\x1b[31ma\n\t\r") == "\\x1b[31ma\\n\\t\\r");
  CHECK(Printable("\xc2\x9b"
                  "2J") == "\\x9b2J");
  CHECK(Printable("a\u202e\u2028") == "a\\u202e\\u2028");
  CHECK(Printable(std::string("\0", 1)) == "\\x00");
  // No UTF-8: a lead byte alone, one cut short, a long form, half a pair, beyond Unicode.
  CHECK(Printable("\xff") == "\\xff" && Printable("\xe5\xa4") == "\\xe5\\xa4");
  CHECK(Printable("\xc0\x80") == "\\xc0\\x80" && Printable("\xed\xa0\x80") == "\\xed\\xa0\\x80");
  CHECK(Printable("\xf4\x90\x80\x80") == "\\xf4\\x90\\x80\\x80");
  CHECK(Shortened(std::string(kNameChars, 'a')) == std::string(kNameChars, 'a'));
  const std::string cut = Shortened(std::string(5000, 'a') + std::string(5000, 'b'));
  CHECK(cut == std::string(53, 'a') + "…" + std::string(26, 'b'));
  std::string wide;
  for (int n = 0; n < 100; ++n) wide += "大";
  CHECK(Shortened(wide).size() == 3 * kNameChars);
}

}  // namespace
}  // namespace vta

// With an argument only the kernels run, on few programs: for an emulator.
int main(int argc, char**) {
  const bool quick = argc > 1;
  vta::TestKernels(quick ? 30 : 600);
  if (quick) {
    std::printf(vta::failures == 0 ? "kernels: ok\n" : "kernels: %d failures\n", vta::failures);
    return vta::failures == 0 ? 0 : 1;
  }
  vta::TestDamagedStreams();
  vta::TestPrograms();
  vta::TestTensors();
  vta::TestBorders();
  vta::TestNarrowTensors();
  vta::TestForms();
  vta::TestText();
  std::printf(vta::failures == 0 ? "core: ok\n" : "core: %d failures\n", vta::failures);
  return vta::failures == 0 ? 0 : 1;
}
