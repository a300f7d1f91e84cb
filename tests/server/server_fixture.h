// A server with a FakeEnginePool on a free port of this machine, its log lines, and a raw gRPC stub to it.
//
//   class MyTest : public ServerTest {};
//   TEST_F(MyTest, …) { StartServer({}); auto reader = stub()->Reason(&context, Question()); … }
#ifndef NABLA_TESTS_SERVER_SERVER_FIXTURE_H_
#define NABLA_TESTS_SERVER_SERVER_FIXTURE_H_

#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "nabla/v1/reasoner.grpc.pb.h"
#include "server/server.h"
#include "tests/server/fake_engine_pool.h"

namespace nabla {

inline v1::ReasonRequest Question() {
  v1::ReasonRequest request;
  v1::Message* message = request.add_messages();
  message->set_role("user");
  message->set_content("What is 2 + 3 × 4?");
  return request;
}

class ServerTest : public testing::Test {
 protected:
  void StartServer(ServerOptions options, std::unique_ptr<FakeEnginePool> pool = std::make_unique<FakeEnginePool>()) {
    options.log = [this](absl::string_view line) {
      const std::lock_guard<std::mutex> lock(mu_);
      log_.emplace_back(line);
      logged_.notify_all();
    };
    pool_ = pool.get();
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Create(options, std::move(pool));
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(address(), grpc::InsecureChannelCredentials());
    stub_ = v1::Reasoner::NewStub(channel_);
  }

  std::string address() const { return absl::StrCat("127.0.0.1:", server_->port()); }
  Server* server() const { return server_.get(); }
  FakeEnginePool* pool() const { return pool_; }
  v1::Reasoner::Stub* stub() const { return stub_.get(); }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  // Blocks until `count` calls have been logged, returns the lines.
  std::vector<std::string> AwaitLog(size_t count) {
    std::unique_lock<std::mutex> lock(mu_);
    EXPECT_TRUE(logged_.wait_for(lock, kTestPatience, [&] { return log_.size() >= count; }));
    return log_;
  }

 private:
  std::mutex mu_;
  std::condition_variable logged_;
  std::vector<std::string> log_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<Server> server_;
  FakeEnginePool* pool_ = nullptr;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Reasoner::Stub> stub_;
};

}  // namespace nabla

#endif  // NABLA_TESTS_SERVER_SERVER_FIXTURE_H_
