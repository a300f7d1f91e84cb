// Ports, health, reflection, metrics endpoint and draining of the running server.
#include "server/server.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/server/server_fixture.h"

namespace nabla {
namespace {

using ::testing::HasSubstr;

class RunningServerTest : public ServerTest {
 protected:
  // grpc.health.v1's Check: field 1 of the request is the service, field 1 of the response its status (1: SERVING, 2:
  // NOT_SERVING).
  int Health(const std::string& service) {
    std::string request;
    if (!service.empty()) request = absl::StrCat("\x0a", std::string(1, static_cast<char>(service.size())), service);
    std::string response;
    EXPECT_TRUE(Call("/grpc.health.v1.Health/Check", request, &response).ok());
    return response.size() == 2 && response[0] == 0x08 ? response[1] : 0;
  }

  grpc::Status Call(const std::string& method, const std::string& request, std::string* response) {
    grpc::GenericStub generic(channel());
    grpc::ClientContext context;
    const grpc::Slice slice(request);
    const grpc::ByteBuffer request_bytes(&slice, 1);
    grpc::ByteBuffer response_bytes;
    std::promise<void> done;
    grpc::Status status;
    generic.UnaryCall(&context, method, {}, &request_bytes, &response_bytes, [&](grpc::Status result) {
      status = std::move(result);
      done.set_value();
    });
    EXPECT_EQ(done.get_future().wait_for(kTestPatience), std::future_status::ready);
    grpc::Slice response_slice;
    if (status.ok() && response_bytes.DumpToSingleSlice(&response_slice).ok()) {
      response->assign(reinterpret_cast<const char*>(response_slice.begin()), response_slice.size());
    }
    return status;
  }
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

TEST_F(RunningServerTest, IsHealthyUntilItDrains) {
  StartServer({.drain_timeout = absl::FromChrono(kTestPatience)});
  EXPECT_EQ(Health(""), 1);
  EXPECT_EQ(Health("nabla.v1.Reasoner"), 1);
  std::string ignored;
  EXPECT_EQ(Call("/grpc.health.v1.Health/Check",
                 "\x0a\x03"
                 "foo",
                 &ignored)
                .error_code(),
            grpc::StatusCode::NOT_FOUND);

  grpc::ClientContext context;
  auto reader = stub()->Reason(&context, Question());
  const std::shared_ptr<FakeRequest> request = pool()->Next();
  std::thread drain([this] { server()->Drain(); });
  ASSERT_TRUE(pool()->AwaitShutdown());
  EXPECT_EQ(Health(""), 2);
  EXPECT_EQ(Health("nabla.v1.Reasoner"), 2);
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
  server()->Drain();
  EXPECT_THAT(AwaitLog(1)[0], HasSubstr("code=CANCELLED"));
  context.TryCancel();
  reader->Finish();
}

TEST_F(RunningServerTest, ATakenPortIsAnError) {
  StartServer({.metrics_port = 0});
  const absl::Status taken = Server::Create({.port = server()->port()}, std::make_unique<FakeEnginePool>()).status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(taken.message(),
            absl::StrCat("cannot listen on ", address(),
                         ": the port is in use or the host is not an address of this machine; choose another with "
                         "--port or --host"));
  const absl::Status metrics_taken =
      Server::Create({.metrics_port = server()->metrics_port()}, std::make_unique<FakeEnginePool>()).status();
  EXPECT_EQ(metrics_taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(metrics_taken.message()), HasSubstr("choose another with --metrics_port or --host"));
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
  ASSERT_TRUE(Call("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "\x3a\x01*", &response).ok());
  EXPECT_THAT(response, HasSubstr("nabla.v1.Reasoner"));
  EXPECT_THAT(response, HasSubstr("grpc.health.v1.Health"));
}

TEST_F(RunningServerTest, DestructionStopsRunningRequests) {
  auto pool = std::make_unique<FakeEnginePool>();
  FakeEnginePool* fake = pool.get();
  absl::StatusOr<std::unique_ptr<Server>> server = Server::Create({.log = [](absl::string_view) {}}, std::move(pool));
  ASSERT_TRUE(server.ok()) << server.status();
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
