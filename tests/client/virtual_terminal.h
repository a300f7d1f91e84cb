// A terminal in memory: just the ANSI that TerminalView writes, with the deferred wrap of real ones.
//
//   VirtualTerminal terminal(20, 5);
//   terminal.Write("\x1b[1;32mgreen\x1b[0m");
//   terminal.Text();          // "green", rows joined by newlines, blanks at row ends cut
//   terminal.StyleAt(0, 0);   // "1;32"
//
// An unknown sequence or a movement out of the grid is a test failure. Not thread-safe.
#ifndef NABLA_TESTS_CLIENT_VIRTUAL_TERMINAL_H_
#define NABLA_TESTS_CLIENT_VIRTUAL_TERMINAL_H_

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace nabla {

class VirtualTerminal {
 public:
  VirtualTerminal(int width, int height) : width_(width), height_(height) { rows_.resize(1); }

  void Write(absl::string_view bytes) {
    while (!bytes.empty()) {
      if (bytes.front() == '\x1b') {
        bytes.remove_prefix(Escape(bytes));
      } else if (bytes.front() == '\r') {
        column_ = 0;
        bytes.remove_prefix(1);
      } else if (bytes.front() == '\n') {
        MoveDown();
        column_ = std::min(column_, width_ - 1);
        bytes.remove_prefix(1);
      } else {
        utf8proc_int32_t code_point = 0;
        const auto length = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(bytes.data()),
                                             static_cast<utf8proc_ssize_t>(bytes.size()), &code_point);
        ASSERT_GT(length, 0) << "not UTF-8";
        Put(std::string(bytes.substr(0, static_cast<size_t>(length))), utf8proc_charwidth(code_point));
        bytes.remove_prefix(static_cast<size_t>(length));
      }
    }
  }

  // Everything from the first row on, scrolled-off rows included.
  std::string Text() const {
    std::string text;
    for (const auto& row : rows_) {
      std::string line;
      for (const Cell& cell : row) line += cell.text;
      line.erase(line.find_last_not_of(' ') + 1);
      text += line + "\n";
    }
    while (text.size() > 1 && text[text.size() - 2] == '\n') text.pop_back();
    text.pop_back();
    return text;
  }

  // SGR parameters of a cell, "" where plain.
  std::string StyleAt(size_t row, size_t column) const {
    return row < rows_.size() && column < rows_[row].size() ? rows_[row][column].style : "";
  }

  size_t row() const { return row_; }
  int column() const { return column_; }

 private:
  struct Cell {
    std::string text = " ";
    std::string style;
  };

  void Put(const std::string& text, int width) {
    if (width == 0) {
      if (column_ > 0) rows_[row_][static_cast<size_t>(column_ - 1)].text += text;
      return;
    }
    if (column_ + width > width_) {
      MoveDown();
      column_ = 0;
    }
    auto& row = rows_[row_];
    if (row.size() < static_cast<size_t>(column_ + width)) row.resize(static_cast<size_t>(column_ + width));
    row[static_cast<size_t>(column_)] = {text, style_};
    if (width == 2) row[static_cast<size_t>(column_) + 1] = {"", style_};
    column_ += width;
  }

  void MoveDown() {
    ++row_;
    if (rows_.size() <= row_) rows_.resize(row_ + 1);
  }

  size_t Escape(absl::string_view bytes) {
    size_t end = 2;
    while (end < bytes.size() && (std::isdigit(static_cast<unsigned char>(bytes[end])) || bytes[end] == ';')) ++end;
    const std::string parameters(bytes.substr(2, end - 2));
    const int count = parameters.empty() ? 1 : std::atoi(parameters.c_str());
    switch (bytes[end]) {
      case 'm':
        style_ = parameters == "0" ? "" : parameters;
        break;
      case 'A':
        EXPECT_LT(rows_.size() - row_ + static_cast<size_t>(count), static_cast<size_t>(height_) + 1)
            << "above the screen";
        EXPECT_LE(static_cast<size_t>(count), row_);
        row_ -= static_cast<size_t>(count);
        break;
      case 'C':
        EXPECT_LT(column_ + count, width_);
        column_ += count;
        break;
      case 'J':
        rows_.resize(row_ + 1);
        if (rows_[row_].size() > static_cast<size_t>(column_)) rows_[row_].resize(static_cast<size_t>(column_));
        break;
      default:
        ADD_FAILURE() << "unknown sequence " << bytes.substr(1, end);
    }
    return end + 1;
  }

  const int width_;
  const int height_;
  std::vector<std::vector<Cell>> rows_;
  size_t row_ = 0;
  int column_ = 0;
  std::string style_;
};

}  // namespace nabla

#endif  // NABLA_TESTS_CLIENT_VIRTUAL_TERMINAL_H_
