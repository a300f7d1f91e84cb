#include "client/cli/terminal_view.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace nabla {
namespace {

constexpr char kReset[] = "\x1b[0m";
constexpr char kEraseBelow[] = "\x1b[J";

// Rows a draft may fill, so that erasing it never reaches above the screen.
int DraftRows(int height) { return std::max(1, height - 2); }

}  // namespace

TerminalView::TerminalView(const TerminalOptions& options, Output output)
    : options_(options), output_(std::move(output)) {}

void TerminalView::OnEvent(const v1::ReasonEvent& event) {
  flash_ = nullptr;
  switch (event.event_case()) {
    case v1::ReasonEvent::kCommitted:
      return OnCommitted(event.committed());
    case v1::ReasonEvent::kDraft:
      return OnDraft(event.draft());
    case v1::ReasonEvent::kRevision:
      return OnRevision(event.revision());
    default:
      return;
  }
}

void TerminalView::End() {
  if (!options_.redraw) {
    if (!ends_line_) output_("\n");
    return;
  }
  draft_.clear();
  output_(absl::StrCat(EraseDraft(), settled_.column > 0 ? "\r\n" : ""));
}

void TerminalView::OnCommitted(const v1::Committed& committed) {
  const auto count = static_cast<uint32_t>(committed.token_ids_size());
  if (!committed.text().empty()) ends_line_ = absl::EndsWith(committed.text(), "\n");
  if (!options_.redraw) {
    output_(committed.text());
    committed_tokens_ += count;
    return;
  }
  // The draft tells where each token's text ends, if it still is about these tokens.
  std::vector<std::string> texts;
  for (uint32_t i = 0; i < count && i < draft_.size(); ++i) texts.push_back(draft_[i]);
  std::string joined;
  for (const std::string& text : texts) joined += text;
  if (texts.size() != count || joined != committed.text()) texts = {committed.text()};
  std::string out = EraseDraft();
  for (uint32_t i = 0; i < texts.size(); ++i) {
    const auto revision = accepted_.find(committed_tokens_ + i);
    const bool revised = revision != accepted_.end() && revision->second.new_text() == texts[i];
    out += PrintSettled(revised ? Style::kAccepted : Style::kPlain, texts[i]);
  }
  committed_tokens_ += count;
  draft_.erase(draft_.begin(),
               draft_.begin() + std::min<std::ptrdiff_t>(count, static_cast<std::ptrdiff_t>(draft_.size())));
  accepted_.erase(accepted_.begin(), accepted_.lower_bound(committed_tokens_));
  output_(absl::StrCat(out, PrintDraft()));
}

void TerminalView::OnDraft(const v1::Draft& draft) {
  if (!options_.redraw) return;
  draft_.clear();
  for (int i = 0; i < draft.token_texts_size(); ++i) {
    if (draft.position() + static_cast<uint32_t>(i) >= committed_tokens_) draft_.push_back(draft.token_texts(i));
  }
  const std::string erase = EraseDraft();
  output_(absl::StrCat(erase, PrintDraft()));
}

void TerminalView::OnRevision(const v1::Revision& revision) {
  if (!options_.redraw || revision.position() < committed_tokens_) return;
  flash_ = &revision;
  if (revision.accepted()) accepted_[revision.position()] = revision;
  const std::string erase = EraseDraft();
  output_(absl::StrCat(erase, PrintDraft()));
  const uint32_t index = revision.position() - committed_tokens_;
  if (revision.accepted() && index < draft_.size()) draft_[index] = revision.new_text();
  flash_ = nullptr;
}

std::string TerminalView::Styled(Style style, absl::string_view printable) const {
  if (!options_.colour || style == Style::kPlain || printable.empty()) return std::string(printable);
  const char* code = style == Style::kDim        ? "\x1b[2m"
                     : style == Style::kAccepted ? "\x1b[1;32m"
                     : style == Style::kReplaced ? "\x1b[2;9m"
                                                 : "\x1b[9;33m";
  return absl::StrCat(code, printable, kReset);
}

std::string TerminalView::EraseDraft() {
  std::string out;
  if (drawn_.row > settled_.row) absl::StrAppend(&out, "\x1b[", drawn_.row - settled_.row, "A");
  if (drawn_.row != settled_.row || drawn_.column != settled_.column) {
    absl::StrAppend(&out, "\r");
    if (settled_.column > 0) absl::StrAppend(&out, "\x1b[", settled_.column, "C");
    absl::StrAppend(&out, kEraseBelow);
  }
  drawn_ = settled_;
  return out;
}

std::string TerminalView::PrintSettled(Style style, absl::string_view text) {
  if (text.empty()) return "";
  if (wrapped_ && text.front() == '\n') text.remove_prefix(1);
  wrapped_ = false;
  std::string out = Styled(style, Advance(text, options_.width, &settled_));
  if (settled_.column == options_.width) {
    // A pending wrap would be lost by the next cursor movement.
    out += "\r\n";
    settled_.column = 0;
    wrapped_ = true;
  }
  settled_.row = 0;
  drawn_ = settled_;
  return out;
}

std::string TerminalView::PrintDraft() {
  std::string out;
  const int max_rows = DraftRows(options_.height);
  drawn_ = settled_;
  for (uint32_t i = 0; i < draft_.size(); ++i) {
    const uint32_t position = committed_tokens_ + i;
    bool fits = true;
    if (flash_ != nullptr && flash_->position() == position) {
      const bool accepted = flash_->accepted();
      fits = AppendDraftPiece(accepted ? Style::kReplaced : Style::kRejected,
                              accepted ? flash_->old_text() : flash_->new_text(), max_rows, &out) &&
             AppendDraftPiece(accepted ? Style::kAccepted : Style::kDim,
                              accepted ? flash_->new_text() : flash_->old_text(), max_rows, &out);
    } else {
      const auto revision = accepted_.find(position);
      const bool revised = revision != accepted_.end() && revision->second.new_text() == draft_[i];
      fits = AppendDraftPiece(revised ? Style::kAccepted : Style::kDim, draft_[i], max_rows, &out);
    }
    if (!fits) break;
  }
  return out;
}

// False if the piece had to be cut.
bool TerminalView::AppendDraftPiece(Style style, absl::string_view text, int max_rows, std::string* out) {
  const absl::string_view head = HeadThatFits(text, options_.width, max_rows, drawn_);
  *out += Styled(style, Advance(head, options_.width, &drawn_));
  return head.size() == text.size();
}

}  // namespace nabla
