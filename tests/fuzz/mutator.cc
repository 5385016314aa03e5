#include "mutator.h"

#include <algorithm>
#include <cstring>

#include "config.h"
#include "encode.h"
#include "program.h"

namespace vta {
namespace {

using Random = std::mt19937_64;

uint64_t Below(Random* random, uint64_t limit) { return limit == 0 ? 0 : (*random)() % limit; }
bool OneIn(Random* random, uint64_t times) { return Below(random, times) == 0; }

void Append(std::string* text, uint64_t value, int bytes) {
  for (int b = 0; b < bytes; ++b) text->push_back(static_cast<char>(value >> (8 * b)));
}

uint64_t Word(const std::string& bytes, size_t at, int size) {
  uint64_t value = 0;
  for (int b = size - 1; b >= 0; --b) {
    value = value << 8 | (at + b < bytes.size() ? static_cast<uint8_t>(bytes[at + b]) : 0);
  }
  return value;
}

void SetWord(std::string* bytes, size_t at, int size, uint64_t value) {
  for (int b = 0; b < size && at + b < bytes->size(); ++b) {
    (*bytes)[at + b] = static_cast<char>(value >> (8 * b));
  }
}

// Numbers that programs get wrong, near `value` or anywhere.
uint64_t Interesting(Random* random, uint64_t value, int bits) {
  const uint64_t mask = bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  switch (Below(random, 8)) {
    case 0:
      return 0;
    case 1:
      return mask;
    case 2:
      return uint64_t{1} << Below(random, static_cast<uint64_t>(bits));
    case 3:
      return (*random)() & mask;
    case 4:
      return (value + 1) & mask;
    case 5:
      return (value - 1) & mask;
    case 6:
      return Below(random, 40) & mask;
    default:
      return (value ^ uint64_t{1} << Below(random, static_cast<uint64_t>(bits))) & mask;
  }
}

std::string* Find(Sections* sections, const char* tag) {
  for (auto& [name, data] : *sections) {
    if (name == tag) return &data;
  }
  return nullptr;
}

Config ConfigOf(Sections* sections) {
  Config config;
  const std::string* data = Find(sections, "CONFIG");
  if (data == nullptr || data->size() != kConfigWords * 4) return config;
  uint32_t words[kConfigWords];
  for (size_t i = 0; i < kConfigWords; ++i) {
    words[i] = static_cast<uint32_t>(Word(*data, i * 4, 4));
  }
  try {
    return Config::FromWords(words);
  } catch (const std::exception&) {
    return config;
  }
}

void MutateInsn(Sections* sections, std::string* insns, const std::string& others, Random* random) {
  const size_t count = insns->size() / kInsnBytes;
  if (count == 0) return;
  const size_t at = Below(random, count) * kInsnBytes;
  switch (Below(random, 16)) {
    case 0:
      insns->erase(at, kInsnBytes);
      return;
    case 1:
      insns->insert(at, insns->substr(Below(random, count) * kInsnBytes, kInsnBytes));
      return;
    case 2: {
      if (others.size() < kInsnBytes) return;
      const size_t from = Below(random, others.size() / kInsnBytes) * kInsnBytes;
      insns->replace(at, kInsnBytes, others.substr(from, kInsnBytes));
      return;
    }
    case 3:
      for (size_t b = 0; b < kInsnBytes; ++b) (*insns)[at + b] = static_cast<char>((*random)());
      return;
    case 4:
      (*insns)[at + Below(random, kInsnBytes)] ^= static_cast<char>(1 << Below(random, 8));
      return;
    case 5: {
      const size_t to = Below(random, count) * kInsnBytes;
      const std::string moved = insns->substr(at, kInsnBytes);
      insns->erase(at, kInsnBytes);
      insns->insert(std::min(to, insns->size()), moved);
      return;
    }
    case 6:  // tokens alone
      (*insns)[at] ^= static_cast<char>(8 << Below(random, 4));
      return;
    default: {
      const std::vector<FieldPlace> places =
          PlacesOf(static_cast<uint32_t>((*insns)[at]) & 7, ConfigOf(sections));
      if (places.empty()) return;
      const FieldPlace& place = places[Below(random, places.size())];
      uint8_t bytes[kInsnBytes];
      std::memcpy(bytes, insns->data() + at, kInsnBytes);
      PutField(place, Interesting(random, GetField(place, bytes), place.bits), bytes);
      insns->replace(at, kInsnBytes, reinterpret_cast<const char*>(bytes), kInsnBytes);
      return;
    }
  }
}

void MutateText(std::string* text, Random* random) {
  static const char* const kParts[] = {"null", "true", "-1",       "1e300", "[]",  "{}",
                                       "\"\"", "0.5",  "1e999",    "NaN",   "[[[", "]]]",
                                       "\"\\", "\"",   "\xff\xfe", ","};
  const size_t at = Below(random, text->size() + 1);
  switch (Below(random, 4)) {
    case 0:
      text->insert(at, kParts[Below(random, std::size(kParts))]);
      return;
    case 1:
      text->erase(at, Below(random, 8));
      return;
    case 2:
      text->insert(at, std::string(Below(random, 80), OneIn(random, 2) ? '[' : '{'));
      return;
    default:
      if (at < text->size()) (*text)[at] ^= static_cast<char>(1 << Below(random, 8));
  }
}

void MutateSections(Sections* sections, Sections* others, Random* random) {
  std::string* insns = Find(sections, "INSNS");
  std::string* consts = Find(sections, "CONSTS");
  const uint64_t kind = Below(random, 32);
  if (kind < 16 && insns != nullptr) {
    const std::string* from = Find(others, "INSNS");
    MutateInsn(sections, insns, from == nullptr ? std::string() : *from, random);
  } else if (kind < 22 && consts != nullptr && !consts->empty()) {
    // Micro-ops lie first in the programs that we make ourselves, anywhere in others.
    const size_t range = OneIn(random, 2) ? std::min<size_t>(consts->size(), 128) : consts->size();
    const size_t at = Below(random, range) & ~size_t{3};
    SetWord(consts, at, 4, Interesting(random, Word(*consts, at, 4), 32));
  } else if (kind < 25) {
    // Fills are few, and words like those of tensors.
    std::string* fills = Find(sections, "FILLS");
    std::string* tensors = fills != nullptr && OneIn(random, 3) ? fills : Find(sections, "TENSORS");
    if (tensors == nullptr || tensors->empty()) return;
    const size_t at = Below(random, tensors->size() / 4) * 4;
    SetWord(tensors, at, 4, Interesting(random, Word(*tensors, at, 4), 32));
  } else if (kind < 28) {
    std::string* config = Find(sections, "CONFIG");
    if (config == nullptr || config->empty()) return;
    const size_t at = Below(random, config->size() / 4) * 4;
    SetWord(config, at, 4, Interesting(random, Word(*config, at, 4), 32));
  } else if (kind < 30) {
    std::string* meta = Find(sections, "META");
    if (meta != nullptr) MutateText(meta, random);
  } else if (!sections->empty()) {
    std::string& data = (*sections)[Below(random, sections->size())].second;
    if (OneIn(random, 2)) {
      data.resize(Below(random, data.size() + 40));
    } else {
      data.append(Below(random, 40), static_cast<char>((*random)()));
    }
  }
}

void FixTable(std::string* file) {
  const uint64_t bytes = std::min<uint64_t>(Word(*file, 12, 4) * 32, file->size() - 32);
  const auto* table = reinterpret_cast<const uint8_t*>(file->data()) + 32;
  SetWord(file, 24, 4, Crc32(table, static_cast<size_t>(bytes)));
}

void MutateContainer(std::string* file, Random* random) {
  if (file->size() < 64) return;
  switch (Below(random, 4)) {
    case 0:
      file->resize(Below(random, file->size()));
      return;
    case 1:
      (*file)[Below(random, file->size())] ^= static_cast<char>(1 << Below(random, 8));
      return;
    case 2: {  // a row of the table, its checksum right
      const size_t at = 32 + Below(random, 40) * 4;
      SetWord(file, at, 4, Interesting(random, Word(*file, at, 4), 32));
      FixTable(file);
      return;
    }
    default: {  // the header
      const size_t at = Below(random, 8) * 4;
      SetWord(file, at, 4, Interesting(random, Word(*file, at, 4), 32));
      if (OneIn(random, 2)) FixTable(file);
    }
  }
}

// Collects the instructions of a program that is legal on its machine.
struct Maker {
  Config config;
  std::string insns;

  void Mem(Opcode op, Memory memory, uint64_t address, uint32_t sram, uint32_t x,
           std::vector<std::pair<int, uint64_t>> more = {}) {
    more.insert(more.end(), {{mem::kMemoryType, static_cast<uint64_t>(memory)},
                             {mem::kSramBase, sram},
                             {mem::kDramBase, address / config.dram_bytes(memory)},
                             {mem::kYSize, 1},
                             {mem::kXSize, x},
                             {mem::kXStride, x}});
    Add(op, more);
  }
  void Add(Opcode op, const std::vector<std::pair<int, uint64_t>>& values) {
    uint8_t bytes[kInsnBytes] = {};
    const std::vector<FieldPlace> places = PlacesOf(static_cast<uint32_t>(op), config);
    PutField(places[mem::kOpcode], static_cast<uint64_t>(op), bytes);
    for (const auto& [index, value] : values) {
      PutField(places[static_cast<size_t>(index)], value, bytes);
    }
    insns.append(reinterpret_cast<const char*>(bytes), kInsnBytes);
  }
};

// Where the parts of a random program lie in its arena.
constexpr uint64_t kUopAt = 0, kWgtAt = 512, kInpAt = 8192, kOutAt = 12288, kArena = 16384;

}  // namespace

std::string JoinSections(const Sections& sections) {
  std::string table, body;
  const size_t start = 32 + 32 * sections.size();
  for (const auto& [tag, data] : sections) {
    body.append((64 - (start + body.size()) % 64) % 64, '\0');
    table += tag.substr(0, 8) + std::string(8 - std::min<size_t>(tag.size(), 8), '\0');
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

Sections SplitSections(const std::string& file) {
  Sections sections;
  const uint64_t count = Word(file, 12, 4);
  for (uint64_t i = 0; i < count && i < 64 && 64 + i * 32 <= file.size(); ++i) {
    const size_t row = 32 + i * 32;
    const uint64_t offset = Word(file, row + 8, 8), bytes = Word(file, row + 16, 8);
    if (offset > file.size() || bytes > file.size() - offset) return {};
    const std::string tag = file.substr(row, 8);
    sections.emplace_back(tag.substr(0, tag.find('\0')), file.substr(offset, bytes));
  }
  return sections;
}

std::string Mutate(const std::string& file, const std::string& other, Random* random) {
  Sections sections = SplitSections(file), others = SplitSections(other);
  const uint64_t changes = 1 + Below(random, 4);
  if (sections.empty()) {
    std::string damaged = file;
    MutateContainer(&damaged, random);
    return damaged;
  }
  for (uint64_t n = 0; n < changes; ++n) MutateSections(&sections, &others, random);
  std::string mutant = JoinSections(sections);
  if (OneIn(random, 16)) MutateContainer(&mutant, random);
  return mutant;
}

std::string RandomProgram(Random* random) {
  uint32_t words[kConfigWords] = {3, 3, 5};
  words[config_word::kLogBatch] = static_cast<uint32_t>(Below(random, 2));
  words[config_word::kLogBlock] = 2 + static_cast<uint32_t>(Below(random, 3));
  words[config_word::kLogUopBuffBytes] = 8;  // 64 micro-ops
  words[config_word::kLogInpBuffBytes] =
      words[config_word::kLogBatch] + words[config_word::kLogBlock] + 5;         // 32 inp elements
  words[config_word::kLogWgtBuffBytes] = 2 * words[config_word::kLogBlock] + 4;  // 16 wgt elements
  words[config_word::kLogAccBuffBytes] =
      words[config_word::kLogBatch] + words[config_word::kLogBlock] + 2 + 5;  // 32 acc elements
  words[config_word::kBusBits] = 32U << Below(random, 5);
  words[config_word::kCapabilities] = static_cast<uint32_t>(Below(random, 8));
  words[config_word::kClockHz] = 100000000;
  words[config_word::kArenaBytes] = kArena;
  words[config_word::kBurstBeats] = 2U << Below(random, 8);  // beats a burst
  Maker maker{Config::FromWords(words), {}};
  const Config& c = maker.config;
  const uint32_t tiles = 1 + static_cast<uint32_t>(Below(random, 4));
  const uint32_t pixels = 2 + static_cast<uint32_t>(Below(random, 6));
  const std::vector<FieldPlace> uop = UopPlaces(c);
  std::string consts(kWgtAt + 2 * c.wgt_bytes(), '\0');
  for (char& byte : consts) byte = static_cast<char>((*random)());
  for (uint64_t u = 0; u < 2; ++u) {
    uint8_t bytes[kUopBytes] = {};
    PutField(uop[0], u * pixels, bytes);
    PutField(uop[1], u * pixels, bytes);
    PutField(uop[2], Below(random, 2), bytes);
    consts.replace(kUopAt + u * kUopBytes, kUopBytes, reinterpret_cast<const char*>(bytes),
                   kUopBytes);
  }
  maker.Mem(Opcode::kLoad, Memory::kUop, kUopAt, 0, 2);
  const uint64_t tile_bytes = pixels * c.inp_bytes();
  for (uint32_t t = 0; t < tiles; ++t) {
    const uint64_t half = t % 2, last = t + 2 >= tiles;
    const uint32_t sram = static_cast<uint32_t>(half) * pixels;
    const std::pair<int, uint64_t> reused{mem::kPopNext, t >= 2};
    if (t == 0) maker.Mem(Opcode::kLoad, Memory::kWgt, kWgtAt, 0, 2);
    maker.Mem(Opcode::kLoad, Memory::kInp, kInpAt + t * tile_bytes, sram, pixels,
              {reused, {mem::kPushNext, 1}});
    const std::vector<std::pair<int, uint64_t>> nest = {{gemm::kUopBegin, half},
                                                        {gemm::kUopEnd, half + 1},
                                                        {gemm::kIterOut, 1},
                                                        {gemm::kIterIn, pixels},
                                                        {gemm::kDstFactorIn, 1}};
    const auto with = [&nest](std::vector<std::pair<int, uint64_t>> more) {
      more.insert(more.end(), nest.begin(), nest.end());
      return more;
    };
    maker.Add(Opcode::kGemm, with({{gemm::kReset, 1}, reused}));
    maker.Add(Opcode::kGemm,
              with({{gemm::kSrcFactorIn, 1}, {gemm::kPopPrev, 1}, {gemm::kPushPrev, last == 0}}));
    maker.Add(Opcode::kAlu, with({{alu::kAluOpcode, 3}, {alu::kUseImm, 1}, {alu::kImm, 4}}));
    maker.Add(Opcode::kAlu, with({{alu::kAluOpcode, Below(random, 3)},
                                  {alu::kUseImm, 1},
                                  {alu::kImm, Below(random, 200)},
                                  {alu::kPushNext, 1}}));
    maker.Mem(Opcode::kStore, Memory::kOut, kOutAt + t * tile_bytes, sram, pixels,
              {{mem::kPopPrev, 1}, {mem::kPushPrev, 1}});
  }
  if (tiles > 1) maker.Add(Opcode::kLoad, {{mem::kPopNext, 1}});
  maker.Add(Opcode::kFinish, {{gemm::kPopNext, 1}});
  std::string config, tensors;
  for (uint32_t word : words) Append(&config, word, 4);
  for (uint32_t role : {0U, 1U}) {
    const uint64_t row[] = {role,  0,         role == 0 ? kInpAt : kOutAt,
                            0,     c.batch(), c.block(),
                            tiles, pixels,    1,
                            1,     1,         1,
                            0,     0,         tiles,
                            pixels};
    for (uint64_t word : row) Append(&tensors, word, 4);
  }
  return JoinSections({{"CONFIG", config},
                       {"INSNS", maker.insns},
                       {"CONSTS", consts},
                       {"TENSORS", tensors},
                       {"META", "{\"symbol\":\"random\",\"layers\":[]}"}});
}

}  // namespace vta
