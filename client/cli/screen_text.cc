#include "client/cli/screen_text.h"

#include <utf8proc.h>

#include <algorithm>

namespace nabla {
namespace {

constexpr int kTabStop = 8;
constexpr char kReplacement[] = "\xEF\xBF\xBD";

struct Character {
  size_t bytes = 1;
  int width = 1;
  bool printable = false;
};

Character Next(absl::string_view text) {
  utf8proc_int32_t code_point = 0;
  const auto bytes = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                      static_cast<utf8proc_ssize_t>(text.size()), &code_point);
  if (bytes <= 0) return {};
  Character character{static_cast<size_t>(bytes), utf8proc_charwidth(code_point), true};
  if (utf8proc_category(code_point) == UTF8PROC_CATEGORY_CC) character = {static_cast<size_t>(bytes), 1, false};
  return character;
}

void Place(int char_width, int width, Cursor* cursor) {
  if (cursor->column + char_width > width) {
    ++cursor->row;
    cursor->column = 0;
  }
  cursor->column += char_width;
}

// Prints the character at the head of `text`, returns its length.
size_t Print(absl::string_view text, int width, Cursor* cursor, std::string* out) {
  if (text.front() == '\n') {
    out->append("\r\n");
    *cursor = {cursor->row + 1, 0};
    return 1;
  }
  if (text.front() == '\t') {
    const int column = cursor->column >= width ? 0 : cursor->column;
    for (int spaces = std::min(kTabStop - column % kTabStop, width); spaces > 0; --spaces) {
      out->push_back(' ');
      Place(1, width, cursor);
    }
    return 1;
  }
  const Character character = Next(text);
  Place(character.width, width, cursor);
  if (character.printable) {
    out->append(text.data(), character.bytes);
  } else {
    out->append(kReplacement);
  }
  return character.bytes;
}

}  // namespace

std::string Advance(absl::string_view text, int width, Cursor* cursor) {
  std::string out;
  while (!text.empty()) text.remove_prefix(Print(text, width, cursor, &out));
  return out;
}

absl::string_view HeadThatFits(absl::string_view text, int width, int max_rows, Cursor cursor) {
  std::string ignored;
  size_t length = 0;
  while (length < text.size()) {
    const size_t bytes = Print(text.substr(length), width, &cursor, &ignored);
    if (cursor.row >= max_rows) break;
    length += bytes;
  }
  return text.substr(0, length);
}

}  // namespace nabla
