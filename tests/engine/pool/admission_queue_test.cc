#include "engine/pool/admission_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

namespace nabla {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const absl::Time kStart = absl::FromUnixSeconds(1'000'000);

// Entries with names instead of ids.
class NamedQueue {
 public:
  explicit NamedQueue(const AdmissionQueueOptions& options = {}) : queue(options) {}

  absl::Status Push(const std::string& name, AdmissionQueue::Entry entry, absl::Time now = kStart) {
    const absl::StatusOr<uint64_t> id = queue.Push(std::move(entry), now);
    if (id.ok()) names_[*id] = name;
    return id.status();
  }
  bool Remove(const std::string& name) { return queue.Remove(IdOf(name)); }
  std::string Front(absl::Time now = kStart) {
    const std::optional<uint64_t> id = queue.Front(now);
    return id ? names_.at(*id) : "";
  }
  std::string Start(absl::Time now = kStart) {
    const std::optional<uint64_t> id = queue.Front(now);
    if (!id) return "";
    queue.Start(*id);
    return names_.at(*id);
  }
  std::vector<std::string> StartAll(absl::Time now = kStart) {
    std::vector<std::string> order;
    while (queue.size() > 0) order.push_back(Start(now));
    return order;
  }
  std::vector<std::string> Names(const std::vector<uint64_t>& ids) const {
    std::vector<std::string> names;
    for (const uint64_t id : ids) names.push_back(names_.at(id));
    return names;
  }

  AdmissionQueue queue;

 private:
  uint64_t IdOf(const std::string& wanted) const {
    for (const auto& [id, name] : names_) {
      if (name == wanted) return id;
    }
    return 0;
  }
  std::map<uint64_t, std::string> names_;
};

TEST(AdmissionQueueTest, OneClientIsServedInTheOrderOfSubmission) {
  NamedQueue queue;
  for (const char* name : {"first", "second", "third"}) ASSERT_TRUE(queue.Push(name, {.tokens = 10}).ok());
  EXPECT_EQ(queue.Front(), "first");
  EXPECT_THAT(queue.StartAll(), ElementsAre("first", "second", "third"));
  EXPECT_EQ(queue.Front(), "");
}

TEST(AdmissionQueueTest, HighGoesBeforeNormalBeforeLow) {
  NamedQueue queue;
  ASSERT_TRUE(queue.Push("low", {.priority = Priority::kLow}).ok());
  ASSERT_TRUE(queue.Push("normal", {.priority = Priority::kNormal}).ok());
  ASSERT_TRUE(queue.Push("high", {.priority = Priority::kHigh}).ok());
  ASSERT_TRUE(queue.Push("another high", {.priority = Priority::kHigh, .client = "alice"}).ok());
  EXPECT_THAT(queue.StartAll(), ElementsAre("high", "another high", "normal", "low"));
}

TEST(AdmissionQueueTest, ClientsTakeTurnsByTokens) {
  NamedQueue queue;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(queue.Push("big", {.client = "alice", .tokens = 300}).ok());
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(queue.Push("small", {.client = "bob", .tokens = 100}).ok());
  EXPECT_THAT(queue.StartAll(), ElementsAre("big", "small", "small", "small", "big", "small", "small", "small", "big"));
}

TEST(AdmissionQueueTest, AClientWithManyRequestsDelaysAnotherByOneAtMost) {
  NamedQueue queue;
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(queue.Push("many", {.client = "alice", .tokens = 10}).ok());
  EXPECT_EQ(queue.Start(), "many");
  EXPECT_EQ(queue.Start(), "many");
  ASSERT_TRUE(queue.Push("one", {.client = "bob", .tokens = 10}).ok());
  EXPECT_EQ(queue.Start(), "many");
  EXPECT_EQ(queue.Start(), "one");
}

TEST(AdmissionQueueTest, IdlenessEarnsNoCredit) {
  NamedQueue queue;
  ASSERT_TRUE(queue.Push("early", {.client = "bob", .tokens = 10}).ok());
  EXPECT_EQ(queue.Start(), "early");
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(queue.Push("alice", {.client = "alice", .tokens = 10}).ok());
  for (int i = 0; i < 10; ++i) EXPECT_EQ(queue.Start(), "alice");
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(queue.Push("bob", {.client = "bob", .tokens = 10}).ok());
  std::vector<std::string> order;
  for (int i = 0; i < 6; ++i) order.push_back(queue.Start());
  EXPECT_THAT(order, ElementsAre("alice", "bob", "alice", "bob", "alice", "bob"));
}

TEST(AdmissionQueueTest, SendingRequestsOneByOneGainsNothing) {
  NamedQueue queue;
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(queue.Push("alice", {.client = "alice", .tokens = 10}).ok());
  std::vector<std::string> order;
  for (int i = 0; i < 8; ++i) {
    if (order.empty() || order.back() == "bob") {
      ASSERT_TRUE(queue.Push("bob", {.client = "bob", .tokens = 30}).ok());
    }
    order.push_back(queue.Start());
  }
  EXPECT_THAT(order, ElementsAre("alice", "bob", "alice", "alice", "alice", "bob", "alice", "alice"));
}

TEST(AdmissionQueueTest, NewcomersDoNotOvertakeTheOneThatIsNext) {
  NamedQueue queue;
  ASSERT_TRUE(queue.Push("alice's first", {.client = "alice", .tokens = 500}).ok());
  ASSERT_TRUE(queue.Push("alice's second", {.client = "alice", .tokens = 500}).ok());
  EXPECT_EQ(queue.Start(), "alice's first");
  ASSERT_TRUE(queue.Push("bob", {.client = "bob", .tokens = 1}).ok());
  EXPECT_EQ(queue.Front(), "alice's second");
}

TEST(AdmissionQueueTest, WaitingCountsAsPriority) {
  NamedQueue queue({.priority_ageing = absl::Seconds(30)});
  ASSERT_TRUE(queue.Push("low", {.priority = Priority::kLow, .client = "alice", .tokens = 10}).ok());
  const absl::Time later = kStart + absl::Seconds(30);
  ASSERT_TRUE(queue.Push("normal", {.client = "bob", .tokens = 10}, later - absl::Seconds(1)).ok());
  EXPECT_EQ(queue.Front(later - absl::Nanoseconds(1)), "normal");
  EXPECT_EQ(queue.Front(later), "low");
  ASSERT_TRUE(queue.Push("high", {.priority = Priority::kHigh, .client = "carol"}, later).ok());
  EXPECT_EQ(queue.Front(later), "high");
  EXPECT_EQ(queue.Front(kStart + absl::Seconds(60)), "low");
}

TEST(AdmissionQueueTest, LowPriorityIsServedUnderConstantHighLoad) {
  NamedQueue queue;
  ASSERT_TRUE(queue.Push("low", {.priority = Priority::kLow, .client = "alice", .tokens = 10}).ok());
  for (int second = 0;; ++second) {
    ASSERT_LE(second, 61);
    const absl::Time now = kStart + absl::Seconds(second);
    ASSERT_TRUE(queue.Push("high", {.priority = Priority::kHigh, .client = "bob", .tokens = 10}, now).ok());
    if (queue.Start(now) == "low") break;
  }
}

TEST(AdmissionQueueTest, ARemovedEntryFreesItsPlaceAndIsNotCharged) {
  NamedQueue queue({.max_requests = 2});
  ASSERT_TRUE(queue.Push("removed", {.client = "alice", .tokens = 500}).ok());
  ASSERT_TRUE(queue.Push("bob", {.client = "bob", .tokens = 10}).ok());
  EXPECT_EQ(queue.queue.tokens(), 510);
  EXPECT_TRUE(queue.Remove("removed"));
  EXPECT_FALSE(queue.Remove("removed"));
  EXPECT_EQ(queue.queue.size(), 1);
  EXPECT_EQ(queue.queue.tokens(), 10);
  EXPECT_EQ(queue.Start(), "bob");
  ASSERT_TRUE(queue.Push("alice", {.client = "alice", .tokens = 10}).ok());
  ASSERT_TRUE(queue.Push("bob again", {.client = "bob", .tokens = 10}).ok());
  EXPECT_THAT(queue.StartAll(), ElementsAre("alice", "bob again"));
}

TEST(AdmissionQueueTest, ExpiredEntriesLeaveByDeadline) {
  NamedQueue queue;
  ASSERT_TRUE(queue.Push("forever", {.tokens = 1}).ok());
  ASSERT_TRUE(queue.Push("later", {.tokens = 1, .deadline = kStart + absl::Seconds(2)}).ok());
  ASSERT_TRUE(queue.Push("soon", {.tokens = 1, .deadline = kStart + absl::Seconds(1)}).ok());
  EXPECT_EQ(queue.queue.NextChange(), kStart + absl::Seconds(1));
  EXPECT_THAT(queue.queue.TakeExpired(kStart), IsEmpty());
  EXPECT_THAT(queue.Names(queue.queue.TakeExpired(kStart + absl::Seconds(1))), ElementsAre("soon"));
  EXPECT_EQ(queue.queue.NextChange(), kStart + absl::Seconds(2));
  EXPECT_THAT(queue.Names(queue.queue.TakeExpired(kStart + absl::Seconds(9))), ElementsAre("later"));
  EXPECT_EQ(queue.queue.NextChange(), kStart + absl::Seconds(30));  // when the last one's priority rises
  EXPECT_THAT(queue.StartAll(), ElementsAre("forever"));
  EXPECT_EQ(queue.queue.NextChange(), absl::InfiniteFuture());
}

TEST(AdmissionQueueTest, AllCanBeTakenOut) {
  NamedQueue queue;
  for (const char* name : {"first", "second", "third"}) ASSERT_TRUE(queue.Push(name, {.client = name}).ok());
  EXPECT_THAT(queue.Names(queue.queue.TakeAll()), ElementsAre("first", "second", "third"));
  EXPECT_EQ(queue.queue.size(), 0);
  EXPECT_EQ(queue.Front(), "");
}

TEST(AdmissionQueueTest, RequestsAreBounded) {
  NamedQueue queue({.max_requests = 2});
  ASSERT_TRUE(queue.Push("first", {}).ok());
  EXPECT_TRUE(queue.queue.CheckRoom().ok());
  ASSERT_TRUE(queue.Push("second", {}).ok());
  const absl::Status full = absl::ResourceExhaustedError("the queue is full (2 requests); retry later");
  EXPECT_EQ(queue.Push("third", {}), full);
  EXPECT_EQ(queue.queue.CheckRoom(), full);
  queue.Start();
  EXPECT_TRUE(queue.Push("third", {}).ok());
}

TEST(AdmissionQueueTest, TokensAreBounded) {
  NamedQueue queue({.max_tokens = 100});
  ASSERT_TRUE(queue.Push("first", {.tokens = 60}).ok());
  ASSERT_TRUE(queue.Push("second", {.tokens = 40}).ok());
  EXPECT_EQ(queue.Push("third", {.tokens = 1}),
            absl::ResourceExhaustedError("the queue is full (100 estimated tokens); retry later"));
  queue.Start();
  EXPECT_TRUE(queue.Push("third", {.tokens = 1}).ok());
}

TEST(AdmissionQueueTest, AnEmptyQueueTakesAnySingleRequest) {
  NamedQueue queue({.max_tokens = 100});
  ASSERT_TRUE(queue.Push("huge", {.tokens = 1000}).ok());
  EXPECT_EQ(queue.Push("small", {.tokens = 1}),
            absl::ResourceExhaustedError("the queue is full (100 estimated tokens); retry later"));
  queue.Start();
  EXPECT_TRUE(queue.Push("small", {.tokens = 1}).ok());
  EXPECT_EQ(queue.Push("huge", {.tokens = 1000}),
            absl::ResourceExhaustedError("the queue is full (100 estimated tokens); retry later"));
}

TEST(FairQueueTest, ClientsAreForgottenOnceThePresentHasCaughtUp) {
  FairQueue queue;
  queue.Push("alice", 1, 10);
  queue.Start("alice", 1);
  EXPECT_EQ(queue.idle_clients(), 1);
  queue.Push("bob", 2, 10);
  queue.Push("bob", 3, 10);
  queue.Start("bob", 2);
  EXPECT_EQ(queue.idle_clients(), 1);
  queue.Start("bob", 3);
  EXPECT_EQ(queue.idle_clients(), 1);  // bob himself; alice started as much as was started since
}

TEST(FairQueueTest, TheNumberOfRememberedClientsIsBounded) {
  FairQueue queue;
  for (uint64_t id = 1; id <= 10'000; ++id) {
    queue.Push("client " + std::to_string(id), id, 10);
    queue.Start("client " + std::to_string(id), id);
  }
  EXPECT_EQ(queue.idle_clients(), 4096);
}

}  // namespace
}  // namespace nabla
