#include "text.h"

#include <cstdint>
#include <cstdio>

namespace vta {
namespace {

constexpr uint32_t kNoCharacter = 0xFFFFFFFF;

// Returns the character that begins at `at` and its bytes, or kNoCharacter and 1.
uint32_t Character(const std::string& text, size_t at, size_t* bytes) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(at);
  *bytes = 1;
  if (lead < 0x80) return lead;
  const size_t count = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || at + count > text.size()) return kNoCharacter;
  uint32_t code = lead & (0x7F >> count);
  for (size_t i = 1; i < count; ++i) {
    if ((byte(at + i) & 0xC0) != 0x80) return kNoCharacter;
    code = code << 6 | (byte(at + i) & 0x3F);
  }
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < kLeast[count] || code > 0x10FFFF || surrogate) return kNoCharacter;
  *bytes = count;
  return code;
}

// Whether a terminal would obey a character rather than show it.
bool IsControl(uint32_t code) {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x061C ||
         (code >= 0x200B && code <= 0x200F) || (code >= 0x2028 && code <= 0x202E) ||
         (code >= 0x2060 && code <= 0x206F) || code == 0xFEFF ||
         (code >= 0xE0000 && code <= 0xE0FFF);
}

void Escape(uint32_t code, std::string* text) {
  char escaped[11];
  const char* format = code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x";
  std::snprintf(escaped, sizeof(escaped), format, code);
  *text += escaped;
}

}  // namespace

std::string Printable(const std::string& text) {
  std::string result;
  result.reserve(text.size());
  for (size_t at = 0, bytes = 0; at < text.size(); at += bytes) {
    const uint32_t code = Character(text, at, &bytes);
    if (code == kNoCharacter) {
      Escape(static_cast<uint8_t>(text[at]), &result);
    } else if (code == '\n' || code == '\r' || code == '\t') {
      result += code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t";
    } else if (IsControl(code)) {
      Escape(code, &result);
    } else {
      result.append(text, at, bytes);
    }
  }
  return result;
}

std::string Shortened(const std::string& name) {
  // A character takes one byte at least, so few bytes are few characters.
  if (name.size() <= kNameChars) return name;
  std::string head;
  size_t count = 0;
  size_t tail_at = 0;
  constexpr size_t kTail = kNameChars / 3;
  for (size_t at = 0, bytes = 0; at < name.size(); at += bytes) {
    Character(name, at, &bytes);
    if (count < kNameChars - kTail - 1) head.append(name, at, bytes);
    ++count;
  }
  if (count <= kNameChars) return name;
  for (size_t at = 0, bytes = 0, seen = 0; at < name.size() && seen < count - kTail; at += bytes) {
    Character(name, at, &bytes);
    tail_at = at + bytes;
    ++seen;
  }
  return head + "…" + name.substr(tail_at);
}

}  // namespace vta
