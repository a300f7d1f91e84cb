// A server with a FakeEnginePool on a free port of this machine, its log lines, and a raw gRPC stub to it.
//
//   class MyTest : public ServerTest {};
//   TEST_F(MyTest, …) { StartServer({}); auto reader = stub()->Reason(&context, Question()); … }
//
// OpenServer and ServePool are the two halves of StartServer, for what happens before the models are loaded.
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
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
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
  void StartServer(const ServerOptions& options,
                   std::unique_ptr<FakeEnginePool> pool = std::make_unique<FakeEnginePool>()) {
    ASSERT_NO_FATAL_FAILURE(OpenServer(options));
    ServePool(std::move(pool));
  }

  void OpenServer(ServerOptions options) {
    options.listener.log = [this](const LogEvent& event) {
      const std::lock_guard<std::mutex> lock(mu_);
      log_.push_back(event.Format(LogFormat::kLogfmt, absl::Now()));
      logged_.notify_all();
    };
    options.watchdog_period = absl::Milliseconds(10);
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Create(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    channel_ = grpc::CreateChannel(address(), grpc::InsecureChannelCredentials());
    stub_ = v1::Reasoner::NewStub(channel_);
  }

  void ServePool(std::unique_ptr<FakeEnginePool> pool = std::make_unique<FakeEnginePool>()) {
    pool_ = pool.get();
    server_->Serve(std::move(pool));
  }

  std::string address() const { return absl::StrCat("127.0.0.1:", server_->port()); }
  Server* server() const { return server_.get(); }
  FakeEnginePool* pool() const { return pool_; }
  v1::Reasoner::Stub* stub() const { return stub_.get(); }
  const std::shared_ptr<grpc::Channel>& channel() const { return channel_; }

  // Blocks until `count` calls have been logged, returns the lines.
  std::vector<std::string> AwaitLog(size_t count) { return AwaitLines("event=request_", count); }

  // Blocks until `count` lines with `text` have been logged, returns them.
  std::vector<std::string> AwaitLines(const std::string& text, size_t count) {
    std::unique_lock<std::mutex> lock(mu_);
    std::vector<std::string> lines;
    const auto enough = [&] {
      lines.clear();
      for (const std::string& line : log_) {
        if (absl::StrContains(line, text)) lines.push_back(line);
      }
      return lines.size() >= count;
    };
    EXPECT_TRUE(logged_.wait_for(lock, kTestPatience, enough)) << "fewer than " << count << " lines with " << text;
    return lines;
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
