// The Reasoner service over a real channel, with a pool that does what the test says.
#include "server/reasoner_service.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/error_details.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/server/server_fixture.h"

namespace nabla {
namespace {

using ::testing::HasSubstr;
using Reader = std::unique_ptr<grpc::ClientReader<v1::ReasonEvent>>;

class ReasonerServiceTest : public ServerTest {};

bool HasRetryInfo(const grpc::Status& status) {
  google::rpc::Status rich;
  google::rpc::RetryInfo retry_info;
  return grpc::ExtractErrorDetails(status, &rich).ok() && rich.details_size() == 1 &&
         rich.details(0).UnpackTo(&retry_info) && retry_info.retry_delay().seconds() == 1;
}

TEST_F(ReasonerServiceTest, EventsArriveInOrderWhileTheRequestRuns) {
  StartServer({});
  grpc::ClientContext context;
  context.AddMetadata("nabla-request-id", "my-id.1");
  Reader reader = stub()->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  ASSERT_NE(request, nullptr);
  EXPECT_EQ(request->request().messages[0].content, "What is 2 + 3 × 4?");
  EXPECT_EQ(request->deadline(), absl::InfiniteFuture());

  v1::ReasonEvent event;
  request->Emit(StartedEvent{.model = "writer", .strategy = "nabla", .seed = 5});
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.sequence(), 0u);
  EXPECT_EQ(event.started().request_id(), "my-id.1");

  request->Emit(CommittedEvent{{7}, "first"});  // readable before the request is done
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.sequence(), 1u);
  EXPECT_EQ(event.committed().text(), "first");

  request->Emit(RevisionEvent{.position = 1, .accepted = true});
  request->Finish(ReasonResult{.text = "first", .token_ids = {7}, .reward = 2.0});
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.sequence(), 2u);
  EXPECT_TRUE(event.has_revision());
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.sequence(), 3u);
  EXPECT_EQ(event.finished().text(), "first");
  EXPECT_FALSE(reader->Read(&event)) << "there is exactly one Finished, and it is last";
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(context.GetServerInitialMetadata().find("nabla-request-id")->second, "my-id.1");
  EXPECT_THAT(AwaitLog(1)[0], HasSubstr("event=request_finished request_id=my-id.1 strategy=nabla code=OK"));
}

TEST_F(ReasonerServiceTest, AnUnfitRequestIdIsReplaced) {
  StartServer({});
  for (const std::string& id : {std::string("has space"), std::string(65, 'x')}) {
    grpc::ClientContext context;
    context.AddMetadata("nabla-request-id", id);
    Reader reader = stub()->Reason(&context, Question());
    pool()->Next()->Finish(ReasonResult{});
    v1::ReasonEvent event;
    while (reader->Read(&event)) {
    }
    EXPECT_TRUE(reader->Finish().ok());
    const auto header = context.GetServerInitialMetadata().find("nabla-request-id");
    ASSERT_NE(header, context.GetServerInitialMetadata().end());
    EXPECT_EQ(header->second.size(), 32u);
  }
}

TEST_F(ReasonerServiceTest, OmitDraftsLeavesDraftsAndProgressOut) {
  StartServer({});
  grpc::ClientContext context;
  v1::ReasonRequest question = Question();
  question.set_omit_drafts(true);
  Reader reader = stub()->Reason(&context, question);
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  request->Emit(DraftEvent{.text = "x"});
  request->Emit(ProgressEvent{});
  request->Emit(CommittedEvent{{1}, "x"});
  request->Finish(ReasonResult{});
  v1::ReasonEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.has_committed());
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.has_finished());
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(ReasonerServiceTest, CancellingTheCallCancelsTheTicket) {
  StartServer({});
  grpc::ClientContext context;
  Reader reader = stub()->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  request->Emit(CommittedEvent{{1}, "x"});
  v1::ReasonEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_FALSE(request->cancelled());
  context.TryCancel();
  EXPECT_TRUE(request->AwaitCancelled());
  request->Emit(CommittedEvent{{2}, "y"});  // a worker may still be in the middle of a step
  request->Finish(absl::CancelledError("the request was cancelled by its caller"));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_THAT(AwaitLog(1)[0], HasSubstr("code=CANCELLED message=\"the client cancelled the call\""));
}

TEST_F(ReasonerServiceTest, TheDeadlineReachesThePoolAndEndsTheCall) {
  StartServer({});
  grpc::ClientContext context;
  constexpr absl::Duration kTimeout = absl::Milliseconds(500);
  const absl::Time deadline = absl::Now() + kTimeout;
  context.set_deadline(absl::ToChronoTime(deadline));
  Reader reader = stub()->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  ASSERT_NE(request, nullptr);
  constexpr absl::Duration kRounding = absl::Milliseconds(10);  // gRPC's
  EXPECT_GE(request->deadline(), deadline - kRounding);
  EXPECT_LE(request->deadline(), absl::Now() + kTimeout + kRounding);
  EXPECT_TRUE(request->AwaitCancelled());
  request->Finish(absl::CancelledError("the request was cancelled by its caller"));
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(AwaitLog(1)[0], HasSubstr("code=DEADLINE_EXCEEDED message=\"the request's deadline has passed\""));
}

TEST_F(ReasonerServiceTest, AFailureEndsTheStreamBehindWhatWasCommitted) {
  StartServer({});
  grpc::ClientContext context;
  Reader reader = stub()->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  request->Emit(CommittedEvent{{1}, "x"});
  request->Finish(absl::ResourceExhaustedError("out of memory on cpu"));
  v1::ReasonEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_EQ(event.committed().text(), "x");
  EXPECT_FALSE(reader->Read(&event));
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "out of memory on cpu");
  EXPECT_TRUE(HasRetryInfo(status));
}

TEST_F(ReasonerServiceTest, AFullQueueSaysWhenToComeBack) {
  StartServer({});
  pool()->RefuseWith(absl::ResourceExhaustedError("the queue is full (256 requests)"));
  grpc::ClientContext context;
  Reader reader = stub()->Reason(&context, Question());
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(status.error_message(), "the queue is full (256 requests)");
  EXPECT_TRUE(HasRetryInfo(status));
  EXPECT_THAT(AwaitLog(1)[0], HasSubstr("event=request_refused"));
}

TEST_F(ReasonerServiceTest, ABadFieldIsNamed) {
  StartServer({.max_new_tokens_limit = 10});
  grpc::ClientContext context;
  v1::ReasonRequest question = Question();
  question.set_max_new_tokens(11);
  Reader reader = stub()->Reason(&context, question);
  const grpc::Status status = reader->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "max_new_tokens: must be at most 10, this server's limit, got 11");
  google::rpc::Status rich;
  ASSERT_TRUE(grpc::ExtractErrorDetails(status, &rich).ok());
  google::rpc::BadRequest bad_request;
  ASSERT_TRUE(rich.details_size() == 1 && rich.details(0).UnpackTo(&bad_request));
  EXPECT_EQ(bad_request.field_violations(0).field(), "max_new_tokens");
}

TEST_F(ReasonerServiceTest, BytesThatAreNoRequestAreRefused) {
  StartServer({});
  const std::string not_utf8("\x12\x01\xff", 3);  // prompt: one byte that is not UTF-8
  const std::string truncated("\x12\x09x", 3);
  for (const std::string& bytes : {not_utf8, truncated}) {
    grpc::GenericStub generic(channel());
    grpc::ClientContext context;
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    std::promise<void> done;
    grpc::Status status;
    generic.UnaryCall(&context, "/nabla.v1.Reasoner/Reason", {}, &request, &response, [&](grpc::Status result) {
      status = std::move(result);
      done.set_value();
    });
    ASSERT_EQ(done.get_future().wait_for(kTestPatience), std::future_status::ready);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(status.error_message(), "the request is not a nabla.v1.ReasonRequest whose strings are all UTF-8");
  }
}

TEST_F(ReasonerServiceTest, ASlowReaderHoldsNoWorkerAndLosesNoCommittedText) {
  StartServer({});
  grpc::ClientContext context;
  Reader reader = stub()->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  const std::string text(1000, 'x');
  std::string committed;
  constexpr int kEvents = 2000;  // some megabytes of drafts: far more than the connection takes unread
  for (int i = 0; i < kEvents; ++i) {
    request->Emit(DraftEvent{.position = i, .token_ids = {1}, .token_texts = {text}, .text = text});
    request->Emit(CommittedEvent{{i}, absl::StrCat(i, " ")});
    absl::StrAppend(&committed, i, " ");
  }
  request->Finish(ReasonResult{.text = committed});  // returned already: nothing waited for the reader
  std::string received;
  uint64_t next_sequence = 0;
  int drafts = 0;
  int last_draft = -1;
  v1::ReasonEvent event;
  bool finished = false;
  while (reader->Read(&event)) {
    EXPECT_EQ(event.sequence(), next_sequence++);
    EXPECT_FALSE(finished);
    received += event.committed().text();
    finished = event.has_finished();
    if (!event.has_draft()) continue;
    ++drafts;
    EXPECT_GT(static_cast<int>(event.draft().position()), last_draft);
    last_draft = static_cast<int>(event.draft().position());
  }
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_TRUE(finished);
  EXPECT_EQ(received, committed);
  EXPECT_LT(drafts, kEvents) << "drafts the reader was too slow for are dropped";
  EXPECT_EQ(last_draft, kEvents - 1) << "the newest is not";
}

TEST_F(ReasonerServiceTest, GetInfoTellsModelsLimitsAndLoad) {
  StartServer({.max_new_tokens_limit = 12, .max_rollouts_limit = 34});
  grpc::ClientContext context;
  v1::GetInfoResponse info;
  ASSERT_TRUE(stub()->GetInfo(&context, {}, &info).ok());
  EXPECT_NE(info.version(), "");
  EXPECT_EQ(info.model().name(), "writer");
  EXPECT_EQ(info.reward_model().reward_kind(), "classifier");
  EXPECT_THAT(info.strategies(), testing::ElementsAre("greedy", "sample", "nabla"));
  EXPECT_EQ(info.max_new_tokens_limit(), 12u);
  EXPECT_EQ(info.max_rollouts_limit(), 34u);
  EXPECT_EQ(info.workers(), 4u);
  EXPECT_EQ(info.running(), 2u);
  EXPECT_EQ(info.waiting(), 3u);
}

TEST_F(ReasonerServiceTest, WithoutARewardModelNablaIsNotOffered) {
  StartServer({}, std::make_unique<FakeEnginePool>(/*with_reward_model=*/false));
  grpc::ClientContext context;
  v1::GetInfoResponse info;
  ASSERT_TRUE(stub()->GetInfo(&context, {}, &info).ok());
  EXPECT_FALSE(info.has_reward_model());
  EXPECT_THAT(info.strategies(), testing::ElementsAre("greedy", "sample"));
}

// Every way a call can end, all at once and in every interleaving the machine offers.
TEST_F(ReasonerServiceTest, ConcurrentCallsThatFinishFailAndCancelAllEnd) {
  std::atomic<int> scripts = 0;
  StartServer({}, std::make_unique<FakeEnginePool>(true, [&](FakeRequest* request) {
                const int kind = scripts++;
                request->Emit(StartedEvent{});
                for (int i = 0; i < 50 && !request->cancelled(); ++i) {
                  request->Emit(DraftEvent{.position = i, .text = "tail"});
                  request->Emit(CommittedEvent{{i}, "x"});
                }
                if (kind % 3 == 0) {
                  request->Finish(absl::InternalError("lost"));
                } else {
                  request->Finish(ReasonResult{});
                }
              }));
  constexpr int kThreads = 6;
  constexpr int kCallsPerThread = 30;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([this, t] {
      for (int i = 0; i < kCallsPerThread; ++i) {
        grpc::ClientContext context;
        Reader reader = stub()->Reason(&context, Question());
        v1::ReasonEvent event;
        for (int read = 0; reader->Read(&event); ++read) {
          if ((t + i) % 4 == 0 && read == i % 7) context.TryCancel();
        }
        reader->Finish();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(AwaitLog(kThreads * kCallsPerThread).size(), static_cast<size_t>(kThreads * kCallsPerThread));
}

}  // namespace
}  // namespace nabla
