// Text on a character grid: what a piece of UTF-8 looks like once printed, and where it leaves the cursor.
//
//   Cursor cursor;
//   std::string printable = Advance("a\tb", /*width=*/80, &cursor);   // "a       b", cursor at row 0, column 9
//
// Wide characters take two columns, combining ones none; a character that does not fit moves to the next row, as
// terminals do it. Control characters and bytes that are not UTF-8 come out as U+FFFD, so no text can command the
// terminal. Pure functions.
#ifndef NABLA_CLIENT_CLI_SCREEN_TEXT_H_
#define NABLA_CLIENT_CLI_SCREEN_TEXT_H_

#include <string>

#include "absl/strings/string_view.h"

namespace nabla {

struct Cursor {
  int row = 0;
  int column = 0;  // equals the width behind a full row, whose wrap is still to come
};

// What to send to the terminal for `text`; newlines as "\r\n". Moves `cursor`.
std::string Advance(absl::string_view text, int width, Cursor* cursor);

// The longest head of `text` that stays above row `max_rows`, cut between characters.
absl::string_view HeadThatFits(absl::string_view text, int width, int max_rows, Cursor cursor);

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_SCREEN_TEXT_H_
