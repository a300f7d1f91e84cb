// ReasonCall's threading without gRPC's libraries: a transport of our own plays gRPC, so ThreadSanitizer sees every
// lock there is.
#include "server/reason_call.h"

#include <gtest/gtest.h>

#include <optional>
#include <set>
#include <thread>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "tests/server/fake_engine_pool.h"

namespace nabla {
namespace {

using Writer = grpc::ServerCallbackWriter<grpc::ByteBuffer>;

// Keeps gRPC's promises: reactions of a write come after it, OnDone comes last and once.
class FakeTransport : public Writer {
 public:
  explicit FakeTransport(ReasonCall* call) : call_(call) {
    BindReactor(call);
    thread_ = std::thread([this] { Run(); });
  }
  ~FakeTransport() override { Join(); }

  // From another thread, as gRPC does it.
  void Cancel() {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      if (done_) return;
      ++cancels_running_;
      broken_ = true;
    }
    call_->OnCancel();
    const std::lock_guard<std::mutex> lock(mu_);
    --cancels_running_;
    changed_.notify_all();
  }

  void AwaitEvents(size_t count) {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [&] { return events_.size() >= count; });
  }

  // Blocks until OnDone has returned.
  void Join() {
    if (thread_.joinable()) thread_.join();
  }

  const std::vector<v1::ReasonEvent>& events() const { return events_; }  // after Join
  const grpc::Status& status() const { return status_; }                  // after Join
  const std::vector<bool>& held_back() const { return held_back_; }       // after Join: for what is to follow, by event
  const std::set<std::thread::id>& writers() const { return writers_; }   // after Join: the threads that have written

  void SendInitialMetadata() override {}
  void Write(const grpc::ByteBuffer* message, grpc::WriteOptions options) override {
    const std::lock_guard<std::mutex> lock(mu_);
    Add(*message, options);
    writing_ = true;
    changed_.notify_all();
  }
  void Finish(grpc::Status status) override {
    const std::lock_guard<std::mutex> lock(mu_);
    EXPECT_FALSE(writing_);
    EXPECT_FALSE(finished_) << "one Finish";
    finished_ = true;
    status_ = std::move(status);
    changed_.notify_all();
  }
  void WriteAndFinish(const grpc::ByteBuffer* message, grpc::WriteOptions options, grpc::Status status) override {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      Add(*message, options);
    }
    Finish(std::move(status));
  }

 private:
  // Needs mu_.
  void Add(const grpc::ByteBuffer& message, const grpc::WriteOptions& options) {
    grpc::Slice slice;
    v1::ReasonEvent event;
    EXPECT_TRUE(message.DumpToSingleSlice(&slice).ok());
    EXPECT_TRUE(event.ParseFromArray(slice.begin(), static_cast<int>(slice.size())));
    writers_.insert(std::this_thread::get_id());
    EXPECT_FALSE(writing_) << "one write at a time";
    EXPECT_FALSE(finished_);
    if (broken_) return;
    events_.push_back(event);
    held_back_.push_back(options.get_buffer_hint());
  }

  grpc::internal::ServerReactor* reactor() override { return call_; }
  void CallOnDone() override {}

  void Run() {
    while (true) {
      bool ok = false;
      {
        std::unique_lock<std::mutex> lock(mu_);
        changed_.wait(lock, [this] { return writing_ || (finished_ && cancels_running_ == 0); });
        if (!writing_) {
          done_ = true;
          break;
        }
        writing_ = false;
        ok = !broken_;
      }
      call_->OnWriteDone(ok);
    }
    call_->OnDone();
  }

  ReasonCall* const call_;
  std::thread thread_;
  std::mutex mu_;
  std::condition_variable changed_;
  std::vector<v1::ReasonEvent> events_;
  std::vector<bool> held_back_;
  grpc::Status status_;
  std::set<std::thread::id> writers_;
  bool writing_ = false;
  bool finished_ = false;
  bool broken_ = false;
  bool done_ = false;
  int cancels_running_ = 0;
};

class ReasonCallTest : public testing::Test, protected ReasonCallHost {
 protected:
  std::shared_ptr<ReasonCall> NewCall() {
    return std::make_shared<ReasonCall>(CallInfo{.request_id = "id", .trace_id = "trace", .client = "alice"},
                                        static_cast<ReasonCallHost*>(this));
  }

  Metrics& metrics() override { return metrics_; }
  WriteQueue& writers() override { return *writers_; }
  absl::Duration RetryDelay() override { return absl::Seconds(7); }
  void OnCallEnded(const RequestRecord& record) override { ended_.push_back(record); }

  FakeEnginePool pool_;
  Metrics metrics_{"test"};
  std::vector<RequestRecord> ended_;  // read after the transport's Join
  std::optional<WriteQueue> writers_{std::in_place, 2};
};

TEST_F(ReasonCallTest, RefusingEndsTheCallOnce) {
  std::shared_ptr<ReasonCall> call = NewCall();
  call->Refuse(absl::UnavailableError("draining"));
  FakeTransport transport(call.get());
  transport.Join();
  EXPECT_EQ(transport.status().error_code(), grpc::StatusCode::UNAVAILABLE);
  ASSERT_EQ(ended_.size(), 1u);
  EXPECT_FALSE(ended_[0].admitted);
  EXPECT_EQ(ended_[0].status, absl::UnavailableError("draining"));
}

TEST_F(ReasonCallTest, AFullQueueSaysWhenToComeBack) {
  pool_.RefuseWith(absl::ResourceExhaustedError("the queue is full"));
  std::shared_ptr<ReasonCall> call = NewCall();
  call->Start(&pool_, ReasonRequest{}, {}, false);
  FakeTransport transport(call.get());
  transport.Join();
  EXPECT_EQ(transport.status().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  google::rpc::Status rich;
  google::rpc::RetryInfo retry_info;
  ASSERT_TRUE(rich.ParseFromString(transport.status().error_details()));
  ASSERT_TRUE(rich.details_size() == 1 && rich.details(0).UnpackTo(&retry_info));
  EXPECT_EQ(retry_info.retry_delay().seconds(), 7);
  EXPECT_FALSE(ended_.at(0).admitted);
}

TEST_F(ReasonCallTest, IsFreedOnceGrpcAndThePoolAreDoneWithIt) {
  std::shared_ptr<ReasonCall> call = NewCall();
  const std::weak_ptr<ReasonCall> watched = call;
  call->Start(&pool_, ReasonRequest{}, {}, false);
  {
    FakeTransport transport(call.get());
    call.reset();
    pool_.Next()->Finish(ReasonResult{});
    transport.Join();
    EXPECT_TRUE(transport.status().ok());
    ASSERT_EQ(transport.events().size(), 1u);
    EXPECT_TRUE(transport.events()[0].has_finished());
  }
  writers_.reset();  // the queue may have kept it for a moment
  EXPECT_TRUE(watched.expired());
}

TEST_F(ReasonCallTest, WhoeverEmitsAnEventDoesNotWriteIt) {
  std::shared_ptr<ReasonCall> call = NewCall();
  call->Start(&pool_, ReasonRequest{}, {}, false);
  FakeTransport transport(call.get());
  const std::shared_ptr<FakeRequest> request = pool_.Next();
  for (int i = 0; i < 10; ++i) request->Emit(CommittedEvent{{i}, "x"});
  std::thread worker([&] { request->Finish(ReasonResult{}); });
  worker.join();
  transport.Join();
  EXPECT_FALSE(transport.writers().empty());
  EXPECT_EQ(transport.writers().count(std::this_thread::get_id()), 0u);
}

TEST_F(ReasonCallTest, EventsThatAreThereGoOutTogether) {
  std::shared_ptr<ReasonCall> call = NewCall();
  call->Start(&pool_, ReasonRequest{}, {}, false);
  const std::shared_ptr<FakeRequest> request = pool_.Next();
  request->Emit(StartedEvent{});  // a writer may take it before the next is there
  request->Emit(CommittedEvent{{1}, "x"});
  request->Emit(ProgressEvent{});
  FakeTransport transport(call.get());
  transport.AwaitEvents(3);
  request->Emit(CommittedEvent{{2}, "y"});
  transport.AwaitEvents(4);
  request->Finish(ReasonResult{});
  transport.Join();
  ASSERT_EQ(transport.held_back().size(), 5u);
  EXPECT_TRUE(transport.held_back()[1]);
  for (const size_t last : {2, 3, 4}) EXPECT_FALSE(transport.held_back()[last]) << last;
}

TEST_F(ReasonCallTest, TheRecordSaysWhoseCallItWas) {
  std::shared_ptr<ReasonCall> call = NewCall();
  call->Start(&pool_, ReasonRequest{}, {}, false);
  FakeTransport transport(call.get());
  pool_.Next()->Finish(ReasonResult{});
  transport.Join();
  EXPECT_EQ(ended_.at(0).request_id, "id");
  EXPECT_EQ(ended_.at(0).trace_id, "trace");
  EXPECT_EQ(ended_.at(0).client, "alice");
  EXPECT_EQ(ended_.at(0).strategy, "nabla");
}

TEST_F(ReasonCallTest, AResultBeforeTheCallIsBoundIsWritten) {
  std::shared_ptr<ReasonCall> call = NewCall();
  call->Start(&pool_, ReasonRequest{}, {}, false);
  const std::shared_ptr<FakeRequest> request = pool_.Next();
  request->Emit(CommittedEvent{{1}, "x"});
  request->Finish(ReasonResult{});
  FakeTransport transport(call.get());
  transport.Join();
  ASSERT_EQ(transport.events().size(), 2u);
  EXPECT_EQ(transport.events()[0].committed().text(), "x");
}

TEST_F(ReasonCallTest, ADeadlineThatCancelsIsADeadline) {
  std::shared_ptr<ReasonCall> call = NewCall();
  call->Start(&pool_, ReasonRequest{}, {.deadline = absl::Now()}, false);
  FakeTransport transport(call.get());
  transport.Cancel();
  const std::shared_ptr<FakeRequest> request = pool_.Next();
  EXPECT_TRUE(request->cancelled());
  request->Finish(absl::CancelledError("the request was cancelled by its caller"));
  transport.Join();
  EXPECT_EQ(ended_.at(0).status, absl::DeadlineExceededError("the request's deadline has passed"));
}

TEST_F(ReasonCallTest, AFailureOfTheEngineOutweighsACancellation) {
  std::shared_ptr<ReasonCall> call = NewCall();
  call->Start(&pool_, ReasonRequest{}, {}, false);
  FakeTransport transport(call.get());
  transport.Cancel();
  pool_.Next()->Finish(absl::InternalError("lost"));
  transport.Join();
  EXPECT_EQ(ended_.at(0).status, absl::InternalError("lost"));
}

// Worker, transport and canceller at once, the cancellation at a different moment each time.
TEST_F(ReasonCallTest, EveryInterleavingEndsOnceAndKeepsTheOrder) {
  constexpr int kRounds = 300;
  for (int round = 0; round < kRounds; ++round) {
    ended_.clear();
    std::shared_ptr<ReasonCall> call = NewCall();
    call->Start(&pool_, ReasonRequest{}, {}, false);
    const std::shared_ptr<FakeRequest> request = pool_.Next();
    FakeTransport transport(call.get());
    call.reset();
    std::thread worker([&] {
      for (int i = 0; i < 20; ++i) {
        request->Emit(DraftEvent{.position = i});
        request->Emit(CommittedEvent{{i}, std::string(1, static_cast<char>('a' + i))});
        request->Emit(ProgressEvent{.position = i});
      }
      request->Finish(request->cancelled() ? absl::StatusOr<ReasonResult>(absl::CancelledError("")) : ReasonResult{});
    });
    std::thread canceller([&] {
      for (int spin = 0; spin < round % 50; ++spin) std::this_thread::yield();
      if (round % 2 == 0) transport.Cancel();
    });
    worker.join();
    canceller.join();
    transport.Join();
    ASSERT_EQ(ended_.size(), 1u);
    std::string text;
    for (size_t i = 0; i < transport.events().size(); ++i) {
      EXPECT_EQ(transport.events()[i].sequence(), i);
      text += transport.events()[i].committed().text();
    }
    const std::string whole = "abcdefghijklmnopqrst";
    EXPECT_EQ(text, whole.substr(0, text.size()));
    if (round % 2 == 1) {
      EXPECT_EQ(text, whole);
      EXPECT_TRUE(ended_[0].status.ok());
    } else {
      EXPECT_TRUE(ended_[0].status.ok() || absl::IsCancelled(ended_[0].status)) << ended_[0].status;
    }
  }
}

}  // namespace
}  // namespace nabla
