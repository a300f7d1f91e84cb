#include "server/outbox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace nabla {
namespace {

using ::testing::ElementsAre;

CommittedEvent Committed(int32_t id, std::string text) { return {{id}, std::move(text)}; }
DraftEvent Draft(std::string text) { return {.position = 0, .text = std::move(text)}; }

// Empties the outbox into one word an event: "committed 1,2 ab", "draft x", "revision 3", "progress 4", "started".
std::vector<std::string> Drain(Outbox* outbox) {
  std::vector<std::string> words;
  while (std::optional<Event> event = outbox->Pop()) {
    if (auto* committed = std::get_if<CommittedEvent>(&*event)) {
      std::string ids;
      for (int32_t id : committed->token_ids) absl::StrAppend(&ids, ids.empty() ? "" : ",", id);
      words.push_back(absl::StrCat("committed ", ids, " ", committed->text));
    } else if (auto* draft = std::get_if<DraftEvent>(&*event)) {
      words.push_back(absl::StrCat("draft ", draft->text));
    } else if (auto* revision = std::get_if<RevisionEvent>(&*event)) {
      words.push_back(absl::StrCat("revision ", revision->position));
    } else if (auto* progress = std::get_if<ProgressEvent>(&*event)) {
      words.push_back(absl::StrCat("progress ", progress->position));
    } else {
      words.push_back("started");
    }
  }
  return words;
}

TEST(OutboxTest, KeepsTheOrder) {
  Outbox outbox;
  outbox.Push(StartedEvent{});
  outbox.Push(Draft("a"));
  outbox.Push(ProgressEvent{.position = 4});
  outbox.Push(RevisionEvent{.position = 3});
  outbox.Push(Committed(1, "a"));
  EXPECT_THAT(Drain(&outbox), ElementsAre("started", "draft a", "progress 4", "revision 3", "committed 1 a"));
}

TEST(OutboxTest, PopOfAnEmptyOutboxIsNothing) {
  Outbox outbox;
  EXPECT_FALSE(outbox.Pop().has_value());
}

TEST(OutboxTest, MergesNeighbouringCommitted) {
  Outbox outbox;
  outbox.Push(Committed(1, "a"));
  outbox.Push(Committed(2, "b"));
  outbox.Push(ProgressEvent{.position = 2});
  outbox.Push(Committed(3, "c"));
  EXPECT_THAT(Drain(&outbox), ElementsAre("committed 1,2 ab", "progress 2", "committed 3 c"));
}

TEST(OutboxTest, KeepsOnlyTheNewestDraftAtItsPlace) {
  Outbox outbox;
  outbox.Push(Draft("old"));
  outbox.Push(RevisionEvent{.position = 1});
  outbox.Push(Draft("new"));
  EXPECT_THAT(Drain(&outbox), ElementsAre("revision 1", "draft new"));
}

TEST(OutboxTest, MergesCommittedAcrossADroppedDraft) {
  Outbox outbox;
  outbox.Push(Committed(1, "a"));
  outbox.Push(Draft("old"));
  outbox.Push(Committed(2, "b"));
  outbox.Push(Draft("new"));
  outbox.Push(Committed(3, "c"));
  EXPECT_THAT(Drain(&outbox), ElementsAre("committed 1,2 ab", "draft new", "committed 3 c"));
}

TEST(OutboxTest, ATakenDraftIsNotReplaced) {
  Outbox outbox;
  outbox.Push(Draft("first"));
  ASSERT_TRUE(outbox.Pop().has_value());
  outbox.Push(Draft("second"));
  EXPECT_THAT(Drain(&outbox), ElementsAre("draft second"));
}

TEST(OutboxTest, ClearForgetsTheWaitingDraft) {
  Outbox outbox;
  outbox.Push(Draft("first"));
  outbox.Clear();
  EXPECT_EQ(outbox.size(), 0u);
  outbox.Push(Draft("second"));
  outbox.Push(Draft("third"));
  EXPECT_THAT(Drain(&outbox), ElementsAre("draft third"));
}

TEST(OutboxTest, AReaderThatNeverReadsCostsNoMoreThanTheResponse) {
  Outbox outbox;
  std::string text;
  for (int i = 0; i < 10000; ++i) {
    outbox.Push(Draft("the whole tail"));
    outbox.Push(Committed(i, "x"));
    text += "x";
  }
  EXPECT_EQ(outbox.size(), 3u);  // the committed before the draft, the draft, the one behind
  std::string received;
  while (std::optional<Event> event = outbox.Pop()) {
    if (auto* committed = std::get_if<CommittedEvent>(&*event)) received += committed->text;
  }
  EXPECT_EQ(received, text);
}

}  // namespace
}  // namespace nabla
