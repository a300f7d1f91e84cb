#include "client/cli/terminal_view.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/client/virtual_terminal.h"

namespace nabla {
namespace {

constexpr char kDim[] = "2";
constexpr char kAccepted[] = "1;32";
constexpr char kReplaced[] = "2;9";
constexpr char kRejected[] = "9;33";

v1::ReasonEvent Draft(uint32_t position, const std::vector<std::string>& texts) {
  v1::ReasonEvent event;
  v1::Draft* draft = event.mutable_draft();
  draft->set_position(position);
  for (const std::string& text : texts) {
    draft->add_token_ids(1);
    draft->add_token_texts(text);
    draft->mutable_text()->append(text);
  }
  return event;
}

v1::ReasonEvent Committed(int tokens, const std::string& text) {
  v1::ReasonEvent event;
  for (int i = 0; i < tokens; ++i) event.mutable_committed()->add_token_ids(1);
  event.mutable_committed()->set_text(text);
  return event;
}

v1::ReasonEvent Revision(uint32_t position, const std::string& old_text, const std::string& new_text, bool accepted) {
  v1::ReasonEvent event;
  event.mutable_revision()->set_position(position);
  event.mutable_revision()->set_old_text(old_text);
  event.mutable_revision()->set_new_text(new_text);
  event.mutable_revision()->set_accepted(accepted);
  return event;
}

class TerminalViewTest : public testing::Test {
 protected:
  void Open(int width, int height, bool colour = true) {
    terminal_ = std::make_unique<VirtualTerminal>(width, height);
    view_ = std::make_unique<TerminalView>(TerminalOptions{.width = width, .height = height, .colour = colour},
                                           [this](absl::string_view text) {
                                             terminal_->Write(text);
                                             raw_.append(text.data(), text.size());
                                           });
  }
  void Show(const v1::ReasonEvent& event) { view_->OnEvent(event); }
  void End() { view_->End(); }
  std::string Screen() const { return terminal_->Text(); }

  std::unique_ptr<VirtualTerminal> terminal_;
  std::unique_ptr<TerminalView> view_;
  std::string raw_;
};

TEST_F(TerminalViewTest, TheDraftIsDimAndReplacedInPlace) {
  Open(20, 10);
  Show(Draft(0, {"one", " two"}));
  EXPECT_EQ(Screen(), "one two");
  EXPECT_EQ(terminal_->StyleAt(0, 0), kDim);
  Show(Draft(0, {"un"}));
  EXPECT_EQ(Screen(), "un");
}

TEST_F(TerminalViewTest, CommittedTextIsPlainInFrontOfTheDraft) {
  Open(20, 10);
  Show(Draft(0, {"one", " two"}));
  Show(Committed(1, "one"));
  EXPECT_EQ(Screen(), "one two");
  EXPECT_EQ(terminal_->StyleAt(0, 0), "");
  EXPECT_EQ(terminal_->StyleAt(0, 4), kDim);
}

TEST_F(TerminalViewTest, AnAcceptedTokenIsSeenChangingAndStaysGreen) {
  Open(30, 10);
  Show(Draft(0, {"is", " 15", "."}));
  Show(Revision(1, " 15", " 14", true));
  EXPECT_EQ(Screen(), "is 15 14.");
  EXPECT_EQ(terminal_->StyleAt(0, 3), kReplaced);
  EXPECT_EQ(terminal_->StyleAt(0, 6), kAccepted);
  Show(Draft(0, {"is", " 14", "!"}));
  EXPECT_EQ(Screen(), "is 14!");
  EXPECT_EQ(terminal_->StyleAt(0, 3), kAccepted);
  Show(Committed(3, "is 14!"));
  End();
  EXPECT_EQ(Screen(), "is 14!");
  EXPECT_EQ(terminal_->StyleAt(0, 0), "");
  EXPECT_EQ(terminal_->StyleAt(0, 3), kAccepted);
  EXPECT_EQ(terminal_->StyleAt(0, 5), "");
}

TEST_F(TerminalViewTest, AnAcceptedTokenIsGreenEvenIfNoDraftFollows) {
  Open(30, 10);
  Show(Draft(0, {"is", " 15", "."}));
  Show(Committed(1, "is"));
  Show(Revision(1, " 15", " 14", true));
  Show(Committed(1, " 14"));
  EXPECT_EQ(Screen(), "is 14.");
  EXPECT_EQ(terminal_->StyleAt(0, 4), kAccepted);
}

TEST_F(TerminalViewTest, ARejectedTokenFlashes) {
  Open(30, 10);
  Show(Draft(0, {"is", " 15", "."}));
  Show(Revision(1, " 15", " 14", false));
  EXPECT_EQ(Screen(), "is 14 15.");
  EXPECT_EQ(terminal_->StyleAt(0, 3), kRejected);
  EXPECT_EQ(terminal_->StyleAt(0, 6), kDim);
  Show(Committed(1, "is"));
  EXPECT_EQ(Screen(), "is 15.");
}

TEST_F(TerminalViewTest, DraftsThatWrapAreErasedWhole) {
  Open(10, 10);
  Show(Committed(1, "abcdefg"));
  Show(Draft(1, {"hijklmn", "opqrstuvw", "xyz"}));
  EXPECT_EQ(Screen(), "abcdefghij\nklmnopqrst\nuvwxyz");
  Show(Draft(1, {"H"}));
  EXPECT_EQ(Screen(), "abcdefgH");
}

TEST_F(TerminalViewTest, DraftsWithNewlinesAreErasedWhole) {
  Open(10, 10);
  Show(Committed(1, "ab"));
  Show(Draft(1, {"c\n\nd", "\n"}));
  Show(Draft(1, {"x"}));
  EXPECT_EQ(Screen(), "abx");
}

TEST_F(TerminalViewTest, TextThatEndsAtTheEdgeGoesOnInTheNextRow) {
  Open(5, 10);
  Show(Committed(1, "abcde"));
  Show(Draft(1, {"f"}));
  Show(Draft(1, {"g"}));
  EXPECT_EQ(Screen(), "abcde\ng");
  Show(Committed(1, "\nh"));
  End();
  EXPECT_EQ(Screen(), "abcde\nh");
}

TEST_F(TerminalViewTest, WideCharactersTakeTwoColumns) {
  Open(5, 10);
  Show(Draft(0, {"日本", "語x"}));
  EXPECT_EQ(Screen(), "日本\n語x");
  Show(Committed(2, "日本語x"));
  Show(Draft(2, {"e\xCC\x81z"}));  // e with a combining accent
  End();
  EXPECT_EQ(Screen(), "日本\n語x");
}

TEST_F(TerminalViewTest, ADraftLongerThanTheScreenIsCut) {
  Open(5, 6);
  Show(Draft(0, {std::string(100, 'x')}));
  EXPECT_EQ(Screen(), "xxxxx\nxxxxx\nxxxxx\nxxxxx");
  Show(Draft(0, {"y"}));
  EXPECT_EQ(Screen(), "y");
}

TEST_F(TerminalViewTest, TextCannotCommandTheTerminal) {
  Open(20, 6);
  Show(Committed(1,
                 "a\x1b[2Jb\x07"
                 "c\xff"));
  End();
  EXPECT_EQ(Screen(),
            "a\xEF\xBF\xBD[2Jb\xEF\xBF\xBD"
            "c\xEF\xBF\xBD");
}

TEST_F(TerminalViewTest, WithoutColourThereIsNoStyle) {
  Open(20, 6, /*colour=*/false);
  Show(Draft(0, {"is", " 15"}));
  Show(Revision(1, " 15", " 14", true));
  Show(Committed(2, "is 14"));
  End();
  EXPECT_EQ(raw_.find('m'), std::string::npos);
  EXPECT_EQ(Screen(), "is 14");
}

TEST_F(TerminalViewTest, AnUnfinishedDraftDoesNotStay) {
  Open(20, 6);
  Show(Committed(1, "done"));
  Show(Draft(1, {" not"}));
  End();
  EXPECT_EQ(Screen(), "done");
  EXPECT_EQ(terminal_->column(), 0);
  EXPECT_EQ(terminal_->row(), 1u);
}

TEST(PlainViewTest, WritesTheCommittedBytesAndNothingElse) {
  std::string out;
  TerminalView view({.redraw = false}, [&](absl::string_view text) { out.append(text.data(), text.size()); });
  view.OnEvent(Draft(0, {"x"}));
  view.OnEvent(Committed(1, "a\tb"));
  view.OnEvent(Revision(1, "x", "y", true));
  view.OnEvent(Committed(1, " c"));
  view.End();
  EXPECT_EQ(out, "a\tb c\n");
}

TEST(PlainViewTest, AddsNoSecondNewline) {
  std::string out;
  TerminalView view({.redraw = false}, [&](absl::string_view text) { out.append(text.data(), text.size()); });
  view.OnEvent(Committed(1, "a\n"));
  view.End();
  EXPECT_EQ(out, "a\n");
}

}  // namespace
}  // namespace nabla
