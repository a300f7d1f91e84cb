// The client library against a server in the same process.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "client/reasoner_client.h"
#include "tests/server/server_fixture.h"

namespace nabla {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ReasonerClientTest : public ServerTest {
 protected:
  void SetUp() override {
    StartServer({});
    absl::StatusOr<std::unique_ptr<ReasonerClient>> client = ReasonerClient::Create(address());
    ASSERT_TRUE(client.ok()) << client.status();
    client_ = *std::move(client);
  }

  std::unique_ptr<ReasonerClient> client_;
};

TEST_F(ReasonerClientTest, GivesEveryEventAndReturnsFinished) {
  std::thread worker([this] {
    const std::shared_ptr<FakeRequest> request = pool()->Next();
    request->Emit(CommittedEvent{{1}, "x"});
    request->Finish(ReasonResult{.text = "x"});
  });
  std::vector<int> kinds;
  const auto finished = client_->Reason(
      Question(), [&](const v1::ReasonEvent& event) { kinds.push_back(event.event_case()); }, {.request_id = "mine"});
  worker.join();
  ASSERT_TRUE(finished.ok()) << finished.status();
  EXPECT_EQ(finished->text(), "x");
  EXPECT_THAT(kinds, ElementsAre(v1::ReasonEvent::kCommitted, v1::ReasonEvent::kFinished));
  EXPECT_THAT(AwaitLog(1)[0], HasSubstr("request_id=mine"));
}

TEST_F(ReasonerClientTest, CancelEndsRunningAndLaterCalls) {
  CancelHandle cancel;
  std::thread worker([&] {
    const std::shared_ptr<FakeRequest> request = pool()->Next();
    cancel.Cancel();
    EXPECT_TRUE(request->AwaitCancelled());
    request->Finish(absl::CancelledError("cancelled"));
  });
  EXPECT_EQ(client_->Reason(Question(), nullptr, {.cancel = &cancel}).status().code(), absl::StatusCode::kCancelled);
  worker.join();
  EXPECT_TRUE(cancel.cancelled());
  EXPECT_EQ(client_->GetInfo({.cancel = &cancel}).status().code(), absl::StatusCode::kCancelled);
}

TEST_F(ReasonerClientTest, ADeadlineEndsTheCall) {
  std::thread worker([this] {
    const std::shared_ptr<FakeRequest> request = pool()->Next();
    EXPECT_TRUE(request->AwaitCancelled());
    request->Finish(absl::DeadlineExceededError("late"));
  });
  EXPECT_EQ(client_->Reason(Question(), nullptr, {.deadline = absl::Now() + absl::Milliseconds(500)}).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  worker.join();
}

TEST_F(ReasonerClientTest, ServerErrorsAreNotMistakenForAMissingServer) {
  pool()->RefuseWith(absl::UnavailableError("the server is shutting down; retry on another server"));
  const absl::Status status = client_->Reason(Question(), nullptr).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(status.message(), "the server is shutting down; retry on another server");
  EXPECT_FALSE(IsUnreachable(status));
}

TEST(ReasonerClientCreateTest, AMissingServerIsUnreachable) {
  const auto client = ReasonerClient::Create("127.0.0.1:1");
  ASSERT_TRUE(client.ok());
  EXPECT_TRUE(IsUnreachable((*client)->GetInfo().status()));
}

TEST(ReasonerClientCreateTest, AnEmptyAddressIsAnError) {
  EXPECT_EQ(ReasonerClient::Create("").status(),
            absl::InvalidArgumentError("the server's address is empty; expected host:port"));
}

}  // namespace
}  // namespace nabla
