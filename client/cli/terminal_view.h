// Shows a stream of events in place: committed text plain, the draft behind it dim, a tested token in colour as it
// changes (accepted: old struck through, new green, and green for good once committed; rejected: yellow until the next
// event).
//
//   TerminalView view({.width = 80, .height = 24, .colour = true}, [](absl::string_view text) { std::cout << text <<
//   std::flush; }); view.OnEvent(event); view.End();
//
// Committed text is printed once and never touched again, only the draft is erased and redrawn, and a draft longer than
// the screen is cut, so scrolling cannot spoil the picture. Without `redraw` (no terminal) it writes the committed
// bytes as they come and nothing else. Not thread-safe; blocks as long as its output does.
#ifndef NABLA_CLIENT_CLI_TERMINAL_VIEW_H_
#define NABLA_CLIENT_CLI_TERMINAL_VIEW_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>

#include "absl/strings/string_view.h"
#include "client/cli/screen_text.h"
#include "nabla/v1/reasoner.pb.h"

namespace nabla {

struct TerminalOptions {
  int width = 80;      // columns
  int height = 24;     // rows
  bool redraw = true;  // the output is a terminal that knows ANSI cursor movement
  bool colour = true;  // it may be coloured (NO_COLOR is not set)
};

class TerminalView {
 public:
  using Output = std::function<void(absl::string_view)>;

  TerminalView(const TerminalOptions& options, Output output);

  void OnEvent(const v1::ReasonEvent& event);

  // Leaves the committed text on the screen, without a draft, the cursor on a new line. Call once, however the stream
  // has ended.
  void End();

 private:
  enum class Style { kPlain, kDim, kAccepted, kReplaced, kRejected };

  void OnCommitted(const v1::Committed& committed);
  void OnDraft(const v1::Draft& draft);
  void OnRevision(const v1::Revision& revision);

  std::string Styled(Style style, absl::string_view printable) const;
  std::string EraseDraft();
  std::string PrintDraft();
  std::string PrintSettled(Style style, absl::string_view text);
  bool AppendDraftPiece(Style style, absl::string_view text, int max_rows, std::string* out);

  const TerminalOptions options_;
  const Output output_;
  uint32_t committed_tokens_ = 0;
  std::deque<std::string> draft_;              // texts of the tail's tokens, the first at committed_tokens_
  std::map<uint32_t, v1::Revision> accepted_;  // by position, until committed
  const v1::Revision* flash_ = nullptr;        // shown with the draft this once
  Cursor settled_;                             // behind the committed text; only the column lasts
  Cursor drawn_;                               // behind the draft
  bool wrapped_ = false;                       // a full row was ended by us: a newline that follows is there already
  bool ends_line_ = true;                      // the committed text is empty or ends in a newline
};

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_TERMINAL_VIEW_H_
