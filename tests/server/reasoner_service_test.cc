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
#include "tests/server/health_client.h"
#include "tests/server/server_fixture.h"
#include "tests/server/test_certificates.h"

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
  EXPECT_THAT(AwaitLog(1)[0],
              HasSubstr("event=request_finished request_id=my-id.1 client=127.0.0.1 strategy=nabla code=OK"));
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

TEST_F(ReasonerServiceTest, WithoutTokensAClientGoesByItsMetadataOrItsHost) {
  StartServer({});
  for (const auto& [id, client] : std::vector<std::pair<std::string, std::string>>{
           {"team-1", "team-1"}, {"", "127.0.0.1"}, {"has space", "127.0.0.1"}}) {
    grpc::ClientContext context;
    if (!id.empty()) context.AddMetadata("nabla-client-id", id);
    Reader reader = stub()->Reason(&context, Question());
    const std::shared_ptr<FakeRequest> request = pool()->Next();
    EXPECT_EQ(request->client(), client);
    request->Finish(absl::InternalError("enough"));
    reader->Finish();
  }
}

TEST_F(ReasonerServiceTest, ATraceIsLoggedHandedOnAndGivenBack) {
  StartServer({});
  grpc::ClientContext context;
  context.AddMetadata("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  Reader reader = stub()->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  request->Finish(absl::InternalError("enough"));
  reader->Finish();
  EXPECT_THAT(AwaitLog(1)[0], HasSubstr(" trace_id=4bf92f3577b34da6a3ce929d0e0e4736 "));
  const auto header = context.GetServerInitialMetadata().find("traceresponse");
  ASSERT_NE(header, context.GetServerInitialMetadata().end());
  const std::string response(header->second.data(), header->second.size());
  EXPECT_THAT(response, testing::MatchesRegex("00-4bf92f3577b34da6a3ce929d0e0e4736-[0-9a-f]+-01"));
  EXPECT_THAT(response, testing::Not(HasSubstr("00f067aa0ba902b7"))) << "the span is the server's own";
  EXPECT_EQ(request->request().traceparent, response);
}

TEST_F(ReasonerServiceTest, AnInvalidTraceIsIgnored) {
  StartServer({});
  grpc::ClientContext context;
  context.AddMetadata("traceparent", "00-nonsense");
  Reader reader = stub()->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  EXPECT_EQ(request->request().traceparent, "");
  request->Finish(absl::InternalError("enough"));
  reader->Finish();
  EXPECT_THAT(AwaitLog(1)[0], testing::Not(HasSubstr("trace_id")));
  EXPECT_EQ(context.GetServerInitialMetadata().count("traceresponse"), 0u);
}

TEST_F(ReasonerServiceTest, WithTokensOnlyTheirHoldersAreServed) {
  const TestFolder folder;
  const std::string tokens =
      folder.Write("tokens",
                   "tokens { name: 'alice' max_priority: PRIORITY_NORMAL max_concurrent_requests: 1\n"
                   "  sha256: '2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b' }");  // of "secret"
  StartServer({.auth_tokens_file = tokens});
  const auto finish = [&](const std::string& authorization, const v1::ReasonRequest& question) {
    grpc::ClientContext context;
    if (!authorization.empty()) context.AddMetadata("authorization", authorization);
    return stub()->Reason(&context, question)->Finish();
  };
  EXPECT_EQ(finish("", Question()).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(finish("Bearer wrong", Question()).error_message(), "authorization: this token is not known here");
  v1::ReasonRequest urgent = Question();
  urgent.set_priority(v1::PRIORITY_HIGH);
  EXPECT_EQ(finish("Bearer secret", urgent).error_code(), grpc::StatusCode::PERMISSION_DENIED);
  AwaitLog(3);  // a call gives its place back before it is logged

  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer secret");
  Reader reader = stub()->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  EXPECT_EQ(request->client(), "alice");
  EXPECT_EQ(finish("Bearer secret", Question()).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  v1::GetInfoResponse info;
  grpc::ClientContext alice;
  alice.AddMetadata("authorization", "Bearer secret");
  EXPECT_TRUE(stub()->GetInfo(&alice, {}, &info).ok()) << "it takes no place";
  request->Finish(ReasonResult{});
  EXPECT_THAT(AwaitLines("event=request_finished", 1)[0], HasSubstr(" client=alice "));
  v1::ReasonEvent event;
  EXPECT_TRUE(reader->Read(&event));
  EXPECT_TRUE(reader->Finish().ok());

  grpc::ClientContext stranger;
  EXPECT_EQ(stub()->GetInfo(&stranger, {}, &info).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Health(channel(), "nabla.v1.Reasoner"), "SERVING") << "probes need no token";

  folder.Write("tokens",
               "tokens { name: 'bob' sha256: 'd9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa' }");
  AwaitLines("event=tokens_reloaded", 1);
  EXPECT_EQ(finish("Bearer secret", Question()).error_code(), grpc::StatusCode::UNAUTHENTICATED);
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
  EXPECT_THAT(info.strategies(), testing::ElementsAre("greedy", "sample", "self_consistency", "best_of_n", "beam",
                                                      "tail_guided", "policy_gradient", "nabla"));
  EXPECT_EQ(info.max_new_tokens_limit(), 12u);
  EXPECT_EQ(info.max_rollouts_limit(), 34u);
  EXPECT_EQ(info.workers(), 4u);
  EXPECT_EQ(info.running(), 2u);
  EXPECT_EQ(info.waiting(), 3u);
  ASSERT_EQ(info.engines_size(), 1);
  EXPECT_EQ(info.engines(0).device(), "cpu");
  EXPECT_TRUE(info.engines(0).healthy());
  EXPECT_EQ(info.engines(0).running(), 2u);
  EXPECT_EQ(info.engines(0).kv_cache_usage_ratio(), 0.5);
}

TEST_F(ReasonerServiceTest, WithoutARewardModelNablaIsNotOffered) {
  StartServer({}, std::make_unique<FakeEnginePool>(/*with_reward_model=*/false));
  grpc::ClientContext context;
  v1::GetInfoResponse info;
  ASSERT_TRUE(stub()->GetInfo(&context, {}, &info).ok());
  EXPECT_FALSE(info.has_reward_model());
  EXPECT_THAT(info.strategies(), testing::ElementsAre("greedy", "sample", "self_consistency"));
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
