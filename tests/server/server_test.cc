// Ports, health, reflection, metrics endpoint and draining of the running server.
#include "server/server.h"

#include <gmock/gmock.h>
#include <grpcpp/support/error_details.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <prometheus/text_serializer.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "tests/server/health_client.h"
#include "tests/server/server_fixture.h"

namespace nabla {
namespace {

using ::testing::HasSubstr;

class RunningServerTest : public ServerTest {
 protected:
  std::string Readiness() { return Health(channel(), "nabla.v1.Reasoner"); }
};

// The answer to a plain HTTP GET.
std::string HttpGet(int port, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::string answer;
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) {
    const std::string request = absl::StrCat("GET ", path, " HTTP/1.0\r\n\r\n");
    EXPECT_EQ(write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
    char buffer[4096];
    for (ssize_t n = 0; (n = read(fd, buffer, sizeof(buffer))) > 0;) answer.append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  return answer;
}

TEST_F(RunningServerTest, IsAliveButNotReadyWhileTheModelsAreLoaded) {
  OpenServer({});
  EXPECT_EQ(Health(channel(), ""), "SERVING");
  EXPECT_EQ(Readiness(), "NOT_SERVING");
  grpc::ClientContext context;
  const grpc::Status refused = stub()->Reason(&context, Question())->Finish();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused.error_message(), "the server is loading its models; retry in a moment");
  google::rpc::Status rich;
  google::rpc::RetryInfo retry_info;
  ASSERT_TRUE(grpc::ExtractErrorDetails(refused, &rich).ok());
  EXPECT_TRUE(rich.details_size() == 1 && rich.details(0).UnpackTo(&retry_info));
  grpc::ClientContext info_context;
  v1::GetInfoResponse info;
  EXPECT_EQ(stub()->GetInfo(&info_context, {}, &info).error_message(), refused.error_message());

  ServePool();
  EXPECT_EQ(Readiness(), "SERVING");
  AwaitLines("event=ready", 1);
  grpc::ClientContext ready_context;
  EXPECT_TRUE(stub()->GetInfo(&ready_context, {}, &info).ok());
}

TEST_F(RunningServerTest, DrainsBeforeTheModelsAreLoaded) {
  OpenServer({});
  server()->Drain();
  ServePool();  // came too late
  EXPECT_EQ(Health(channel(), ""), absl::StrCat("code ", grpc::StatusCode::UNAVAILABLE));
}

TEST_F(RunningServerTest, IsNotReadyWhileAnEngineIsStuck) {
  StartServer({});
  EXPECT_EQ(Readiness(), "SERVING");
  pool()->SetEngines({{.device = "cuda:0"}, {.device = "cuda:1", .stuck = true}});
  EXPECT_THAT(AwaitLines("event=not_ready", 1)[0],
              HasSubstr("level=error event=not_ready message=\"the engine on cuda:1 has made no progress for 1m\""));
  EXPECT_EQ(Readiness(), "NOT_SERVING");
  EXPECT_EQ(Health(channel(), ""), "SERVING");
  pool()->SetEngines({{.device = "cuda:0"}, {.device = "cuda:1"}});
  AwaitLines("event=ready", 2);
  EXPECT_EQ(Readiness(), "SERVING");
}

TEST_F(RunningServerTest, IsReadyAsLongAsOneEngineIsHealthy) {
  StartServer({});
  pool()->SetEngines({{.device = "cuda:0", .healthy = false, .stuck = true}, {.device = "cuda:1", .healthy = false}});
  EXPECT_THAT(AwaitLines("event=not_ready", 1)[0], HasSubstr("message=\"every engine has failed\""));
  EXPECT_EQ(Readiness(), "NOT_SERVING");
  pool()->SetEngines({{.device = "cuda:0", .healthy = false, .stuck = true}, {.device = "cuda:1"}});
  AwaitLines("event=ready", 2);
  EXPECT_EQ(Readiness(), "SERVING");
}

TEST_F(RunningServerTest, SaysWhenItHasLostEveryEngine) {
  std::atomic<int> lost = 0;
  ServerOptions options;
  options.on_lost = [&] { ++lost; };
  StartServer(options);
  pool()->SetEngines({{.device = "cuda:0", .stuck = true}});
  AwaitLines("event=not_ready", 1);
  EXPECT_EQ(lost, 0) << "it may go on";
  pool()->SetEngines({{.device = "cuda:0", .healthy = false}});
  AwaitLines("event=not_ready", 2);
  server()->Drain();
  EXPECT_EQ(lost, 1);
}

TEST_F(RunningServerTest, WatchersOfReadinessAreTold) {
  OpenServer({});
  grpc::health::v1::HealthCheckRequest request;
  request.set_service("nabla.v1.Reasoner");
  grpc::ClientContext context;
  auto watch = grpc::health::v1::Health::NewStub(channel())->Watch(&context, request);
  grpc::health::v1::HealthCheckResponse response;
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::NOT_SERVING);
  ServePool();
  ASSERT_TRUE(watch->Read(&response));
  EXPECT_EQ(response.status(), grpc::health::v1::HealthCheckResponse::SERVING);
  context.TryCancel();
}

TEST_F(RunningServerTest, DrainingIsAliveButNotReady) {
  StartServer({.drain_timeout = absl::FromChrono(kTestPatience)});
  EXPECT_EQ(Health(channel(), "foo"), absl::StrCat("code ", grpc::StatusCode::NOT_FOUND));
  grpc::ClientContext context;
  auto reader = stub()->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  std::thread drain([this] { server()->Drain(); });
  ASSERT_TRUE(pool()->AwaitShutdown());
  EXPECT_EQ(Health(channel(), ""), "SERVING");
  EXPECT_EQ(Readiness(), "NOT_SERVING");
  request->Finish(ReasonResult{});
  drain.join();
  v1::ReasonEvent event;
  ASSERT_TRUE(reader->Read(&event));
  EXPECT_TRUE(event.has_finished());
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(RunningServerTest, DrainingRefusesNewRequestsAndFinishesRunningOnes) {
  StartServer({.drain_timeout = absl::FromChrono(kTestPatience)});
  grpc::ClientContext context;
  auto running = stub()->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  std::thread drain([this] { server()->Drain(); });
  ASSERT_TRUE(pool()->AwaitShutdown());

  grpc::ClientContext late_context;
  auto late = stub()->Reason(&late_context, Question());
  const grpc::Status refused = late->Finish();
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused.error_message(), "the server is shutting down; retry on another server");
  EXPECT_NE(refused.error_details(), "");

  request->Emit(CommittedEvent{{1}, "still here"});
  v1::ReasonEvent event;
  ASSERT_TRUE(running->Read(&event));
  EXPECT_EQ(event.committed().text(), "still here");
  request->Finish(ReasonResult{});
  ASSERT_TRUE(running->Read(&event));
  EXPECT_TRUE(event.has_finished());
  EXPECT_TRUE(running->Finish().ok());
  drain.join();
}

TEST_F(RunningServerTest, TheDrainTimeoutStopsWhatStillRuns) {
  StartServer({.drain_timeout = absl::Milliseconds(50)});
  grpc::ClientContext context;
  auto reader = stub()->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  server()->Drain();
  EXPECT_TRUE(request->cancelled());
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(AwaitLog(1)[0], HasSubstr("code=UNAVAILABLE"));
}

TEST_F(RunningServerTest, AClientThatDoesNotReadCannotHoldTheDrain) {
  StartServer({.drain_timeout = absl::Milliseconds(50)});
  grpc::ClientContext context;
  auto reader = stub()->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  request->Emit(CommittedEvent{{1}, std::string(1 << 22, 'x')});  // more than the connection's window
  request->Finish(ReasonResult{});
  EXPECT_THAT(prometheus::TextSerializer().Serialize(server()->metrics().registry()->Collect()),
              HasSubstr("\nnabla_num_requests_flushing 1\n"));
  server()->Drain();
  EXPECT_THAT(AwaitLog(1)[0], HasSubstr("code=CANCELLED"));
  context.TryCancel();
  reader->Finish();
}

TEST_F(RunningServerTest, ATakenPortIsAnError) {
  StartServer({.metrics_port = 0});
  const absl::Status taken = Server::Create({.listener = {.port = server()->port()}}).status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(taken.message()), HasSubstr("choose another with --port or --host"));
  const absl::Status metrics_taken = Server::Create({.metrics_port = server()->metrics_port()}).status();
  EXPECT_EQ(metrics_taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(metrics_taken.message()), HasSubstr("choose another with --metrics_port or --host"));
}

TEST_F(RunningServerTest, AnOpenListenerIsLoggedAtTheStart) {
  OpenServer({.listener = {.host = "0.0.0.0"}});
  EXPECT_THAT(
      AwaitLines("event=open_listener", 1)[0],
      HasSubstr("level=warning event=open_listener host=0.0.0.0 message=\"whoever reaches this port may use it, "
                "in the clear; set --tls_certificate, --tls_key and --auth_tokens\""));
}

TEST_F(RunningServerTest, MetricsAreServedAndAddUp) {
  StartServer({.metrics_port = 0});
  for (int i = 0; i < 3; ++i) {
    grpc::ClientContext context;
    auto reader = stub()->Reason(&context, Question());
    const std::shared_ptr<FakeRequest> request = pool()->Next();
    if (i < 2) {
      request->Finish(ReasonResult{});
    } else {
      request->Finish(absl::InternalError("lost"));
    }
    v1::ReasonEvent event;
    while (reader->Read(&event)) {
    }
    reader->Finish();
  }
  grpc::ClientContext bad_context;
  stub()->Reason(&bad_context, {})->Finish();
  AwaitLog(4);  // a call is counted before it is logged
  const std::string text = HttpGet(server()->metrics_port(), "/metrics");
  EXPECT_THAT(text, HasSubstr("\nnabla_requests_admitted_total 3\n"));
  EXPECT_THAT(text, HasSubstr("\nnabla_num_requests_flushing 0\n"));
  EXPECT_THAT(text, HasSubstr("\nnabla_requests_total{code=\"OK\",strategy=\"nabla\"} 2\n"));
  EXPECT_THAT(text, HasSubstr("\nnabla_requests_total{code=\"INTERNAL\",strategy=\"nabla\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("\nnabla_requests_refused_total{code=\"INVALID_ARGUMENT\"} 1\n"));
  EXPECT_THAT(text, HasSubstr("\nnabla_num_requests_running 2\n"));
}

TEST_F(RunningServerTest, MetricsCanBeOff) {
  StartServer({.metrics_port = -1});
  EXPECT_EQ(server()->metrics_port(), -1);
}

TEST_F(RunningServerTest, ReflectionListsTheServices) {
  StartServer({});
  std::string response;
  // ServerReflectionRequest{list_services: "*"}; a bidirectional method takes a unary call.
  ASSERT_TRUE(
      CallWithBytes(channel(), "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "\x3a\x01*", &response)
          .ok());
  EXPECT_THAT(response, HasSubstr("nabla.v1.Reasoner"));
  EXPECT_THAT(response, HasSubstr("grpc.health.v1.Health"));
}

TEST_F(RunningServerTest, DestructionStopsRunningRequests) {
  auto pool = std::make_unique<FakeEnginePool>();
  FakeEnginePool* fake = pool.get();
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Create({.listener = {.log = [](const LogEvent&) {}}});
  ASSERT_TRUE(server.ok()) << server.status();
  (*server)->Serve(std::move(pool));
  auto channel = grpc::CreateChannel(absl::StrCat("127.0.0.1:", (*server)->port()), grpc::InsecureChannelCredentials());
  grpc::ClientContext context;
  auto reader = v1::Reasoner::NewStub(channel)->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = fake->Next();
  ASSERT_NE(request, nullptr);
  server->reset();
  EXPECT_TRUE(request->cancelled());
  EXPECT_FALSE(reader->Finish().ok());
}

}  // namespace
}  // namespace nabla
