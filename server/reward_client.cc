#include "server/reward_client.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "server/file.h"

namespace nabla {
namespace {

constexpr char kTokenFile[] = "--reward_token_file";

// The end of a call, handed from gRPC's thread to the one that waits.
class Ending {
 public:
  void Set(grpc::Status status) {
    const std::lock_guard<std::mutex> lock(mu_);
    status_ = std::move(status);
    changed_.notify_all();
  }
  bool AwaitFor(std::chrono::milliseconds time) {
    std::unique_lock<std::mutex> lock(mu_);
    return changed_.wait_for(lock, time, [this] { return status_.has_value(); });
  }
  grpc::Status Await() {
    std::unique_lock<std::mutex> lock(mu_);
    changed_.wait(lock, [this] { return status_.has_value(); });
    return *status_;
  }

 private:
  std::mutex mu_;
  std::condition_variable changed_;
  std::optional<grpc::Status> status_;
};

// Hands over the chunks of an embedding as they come. Deletes itself at the end of its call.
class EmbeddingReader final : public grpc::ClientReadReactor<v1::EmbeddingChunk> {
 public:
  EmbeddingReader(grpc::ClientContext* context, const RewardClient::TakeChunk& take, absl::Status* taken,
                  std::function<void(grpc::Status)> done)
      : context_(context), take_(take), taken_(*taken), done_(std::move(done)) {}

  void Start() {
    StartRead(&chunk_);
    StartCall();
  }

 private:
  void OnReadDone(bool ok) override {
    if (!ok) return;
    taken_ = take_(std::move(chunk_));
    taken_.ok() ? StartRead(&chunk_) : context_->TryCancel();
  }
  void OnDone(const grpc::Status& status) override {
    done_(status);  // behind which all but this may be gone
    delete this;
  }

  grpc::ClientContext* const context_;
  const RewardClient::TakeChunk& take_;
  absl::Status& taken_;
  const std::function<void(grpc::Status)> done_;
  v1::EmbeddingChunk chunk_;
};

bool IsFailure(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE ||
         status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED ||
         status.error_code() == grpc::StatusCode::CANCELLED;
}

}  // namespace

RewardClient::RewardClient(RewardClientOptions options, const std::shared_ptr<grpc::Channel>& channel)
    : options_(std::move(options)), stub_(v1::RewardModel::NewStub(channel)), breaker_(options_.breaker) {}

absl::StatusOr<std::unique_ptr<RewardClient>> RewardClient::Create(RewardClientOptions options) {
  NABLA_ASSIGN_OR_RETURN(const std::shared_ptr<grpc::Channel> channel, CreateRewardChannel(options.channel));
  if (!options.token_file.empty()) {
    NABLA_RETURN_IF_ERROR(ReadToken(kTokenFile, options.token_file).status());
  }
  return std::unique_ptr<RewardClient>(new RewardClient(std::move(options), channel));
}

absl::Status RewardClient::GetInfo(const v1::GetRewardInfoRequest& request, v1::GetRewardInfoResponse* response,
                                   const StopToken* stop) {
  grpc::ClientContext context;
  NABLA_RETURN_IF_ERROR(Authorize(&context));
  context.set_wait_for_ready(true);
  absl::Status stopped;
  const grpc::Status answered = Await(
      &context, options_.connect_timeout,
      [&](grpc::ClientContext* call, Done done) { stub_->async()->GetInfo(call, &request, response, std::move(done)); },
      stop, &stopped);
  const absl::Status status = !stopped.ok()
                                  ? stopped
                                  : ToAbsl(answered, absl::StrCat("no replica was ready within ",
                                                                  absl::FormatDuration(options_.connect_timeout),
                                                                  "; is nabla-reward-server running?"));
  Count(status);
  return status;
}

absl::Status RewardClient::Score(const v1::ScoreRequest& request, v1::ScoreResponse* response, const StopToken* stop,
                                 const std::optional<TraceContext>& trace) {
  return Call([&](grpc::ClientContext* context,
                  Done done) { stub_->async()->Score(context, &request, response, std::move(done)); },
              stop, trace);
}

absl::Status RewardClient::ScoreGradient(const v1::ScoreGradientRequest& request, v1::ScoreGradientResponse* response,
                                         const StopToken* stop, const std::optional<TraceContext>& trace) {
  return Call([&](grpc::ClientContext* context,
                  Done done) { stub_->async()->ScoreGradient(context, &request, response, std::move(done)); },
              stop, trace);
}

absl::Status RewardClient::FetchEmbedding(const v1::FetchEmbeddingRequest& request, const TakeChunk& take,
                                          const StopToken* stop) {
  grpc::ClientContext context;
  NABLA_RETURN_IF_ERROR(Authorize(&context));
  absl::Status taken, stopped;
  const grpc::Status ended = Await(
      &context, options_.embedding_timeout,
      [&](grpc::ClientContext* call, Done done) {
        auto* const reader = new EmbeddingReader(call, take, &taken, std::move(done));
        stub_->async()->FetchEmbedding(call, &request, reader);
        reader->Start();
      },
      stop, &stopped);
  absl::Status status = stopped.ok() ? taken : stopped;
  if (status.ok()) {
    status = ToAbsl(
        ended, absl::StrCat("the embedding did not arrive within ", absl::FormatDuration(options_.embedding_timeout)));
  }
  Count(status);
  return status;
}

absl::Status RewardClient::Authorize(grpc::ClientContext* context) const {
  if (options_.token_file.empty()) return absl::OkStatus();
  const absl::StatusOr<std::string> token = ReadToken(kTokenFile, options_.token_file);
  if (!token.ok()) return absl::UnavailableError(token.status().message());  // no fault of whoever asks this server
  context->AddMetadata("authorization", absl::StrCat("Bearer ", *token));
  return absl::OkStatus();
}

grpc::Status RewardClient::Await(grpc::ClientContext* context, absl::Duration timeout, const Start& start,
                                 const StopToken* stop, absl::Status* stopped) {
  absl::Time deadline = absl::Now() + timeout;
  if (stop != nullptr) deadline = std::min(deadline, stop->deadline());
  context->set_deadline(absl::ToChronoTime(deadline));
  const auto ending = std::make_shared<Ending>();
  start(context, [ending](grpc::Status status) { ending->Set(std::move(status)); });
  while (stop != nullptr && !ending->AwaitFor(kLookAtStop)) {
    *stopped = stop->Check();
    if (stopped->ok()) continue;
    context->TryCancel();
    break;
  }
  grpc::Status status = ending->Await();
  // A deadline of the request's own that gRPC saw first is no fault of the service.
  if (stopped->ok() && stop != nullptr && IsFailure(status)) *stopped = stop->Check();
  return status;
}

absl::Status RewardClient::Call(const Start& start, const StopToken* stop, const std::optional<TraceContext>& trace) {
  if (stop != nullptr) NABLA_RETURN_IF_ERROR(stop->Check());
  grpc::ClientContext context;
  NABLA_RETURN_IF_ERROR(Authorize(&context));
  if (trace.has_value()) context.AddMetadata(kTraceparentHeader, FormatTraceparent(NewSpan(*trace)));
  const std::optional<CircuitBreaker::Permit> permit = breaker_.TryBegin();
  if (!permit.has_value()) return BreakerOpen();
  absl::Status stopped;
  const grpc::Status status = Await(&context, options_.call_timeout, start, stop, &stopped);
  breaker_.End(*permit, !IsFailure(status) ? CircuitBreaker::Outcome::kAnswered
                        : stopped.ok()     ? CircuitBreaker::Outcome::kFailed
                                           : CircuitBreaker::Outcome::kUnknown);
  const absl::Status result =
      IsFailure(status) && !stopped.ok()
          ? stopped
          : ToAbsl(status, absl::StrCat("no answer within ", absl::FormatDuration(options_.call_timeout)));
  Count(result);
  return result;
}

absl::Status RewardClient::ToAbsl(const grpc::Status& status, const std::string& no_answer) const {
  const auto unavailable = [this](const std::string& what) {
    return absl::UnavailableError(absl::StrCat("reward service at ", address(), ": ", what));
  };
  switch (status.error_code()) {
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return unavailable(no_answer);
    case grpc::StatusCode::UNAVAILABLE:
      return unavailable(absl::StrCat(status.error_message(), "; is nabla-reward-server running?"));
    case grpc::StatusCode::RESOURCE_EXHAUSTED:  // its memory, its queue or this server's share of it
      return unavailable(status.error_message());
    case grpc::StatusCode::CANCELLED:
      return unavailable("the call was cancelled by the service");
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::PERMISSION_DENIED:  // not the fault of whoever asks this server
      return unavailable(absl::StrCat("refuses this server (", status.error_message(), "); see --reward_token_file"));
    case grpc::StatusCode::FAILED_PRECONDITION:  // it has another model
      return absl::FailedPreconditionError(absl::StrCat("reward service at ", address(), ": ", status.error_message()));
    case grpc::StatusCode::UNIMPLEMENTED:
      return absl::FailedPreconditionError(absl::StrCat("reward service at ", address(),
                                                        ": does not offer nabla.v1.RewardModel; --reward_address must "
                                                        "name a nabla-reward-server"));
    default:
      return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  }
}

absl::Status RewardClient::BreakerOpen() const {
  return absl::UnavailableError(absl::StrCat("reward service at ", address(), ": the last ", breaker_.failures(),
                                             " calls failed; it is left alone for ",
                                             absl::FormatDuration(options_.breaker.cool_down), " before the next try"));
}

void RewardClient::Count(const absl::Status& status) const {
  if (options_.on_rpc) options_.on_rpc(status.code());
}

}  // namespace nabla
