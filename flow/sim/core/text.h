// Text from elsewhere, such as a layer's name, made fit for a terminal; vta_config/text.py does the
// same.
#ifndef FLOW_SIM_CORE_TEXT_H_
#define FLOW_SIM_CORE_TEXT_H_

#include <cstddef>
#include <string>

namespace vta {

// Characters of a name that errors show.
constexpr size_t kNameChars = 80;

// Returns UTF-8 text as one line: control characters (U+0000 to U+001F, U+007F to U+009F), line and
// paragraph separators and marks that turn the direction of writing are escaped, and so are bytes
// that are no UTF-8.
std::string Printable(const std::string& text);

// Returns at most kNameChars characters of a name: of more, the beginning and the end.
std::string Shortened(const std::string& name);

}  // namespace vta

#endif  // FLOW_SIM_CORE_TEXT_H_
