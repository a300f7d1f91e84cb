#include "server/reasoner_service.h"

#include <chrono>
#include <memory>
#include <random>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "server/conversion.h"
#include "server/reason_call.h"

namespace nabla {
namespace {

constexpr char kRequestIdHeader[] = "nabla-request-id";
constexpr size_t kMaxRequestIdLength = 64;

uint64_t RandomNumber() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

bool IsSaneRequestId(absl::string_view id) {
  if (id.empty() || id.size() > kMaxRequestIdLength) return false;
  for (char c : id) {
    if (!absl::ascii_isalnum(c) && c != '-' && c != '_' && c != '.') return false;
  }
  return true;
}

// The caller's own id if it can go into logs and headers as it is, else a new one.
std::string RequestId(const grpc::CallbackServerContext& context) {
  const auto header = context.client_metadata().find(kRequestIdHeader);
  if (header != context.client_metadata().end()) {
    const absl::string_view id(header->second.data(), header->second.size());
    if (IsSaneRequestId(id)) return std::string(id);
  }
  return absl::StrFormat("%016x%016x", RandomNumber(), RandomNumber());
}

absl::Time Deadline(const grpc::CallbackServerContext& context) {
  const std::chrono::system_clock::time_point deadline = context.deadline();
  return deadline == std::chrono::system_clock::time_point::max() ? absl::InfiniteFuture() : absl::FromChrono(deadline);
}

absl::Status Parse(const grpc::ByteBuffer& bytes, v1::ReasonRequest* message) {
  grpc::Slice slice;
  if (bytes.DumpToSingleSlice(&slice).ok() && message->ParseFromArray(slice.begin(), static_cast<int>(slice.size()))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("the request is not a nabla.v1.ReasonRequest whose strings are all UTF-8");
}

}  // namespace

ReasonerService::ReasonerService(EnginePool* pool, ReasonerServiceOptions options, Metrics* metrics, LogSink log)
    : pool_(pool), options_(std::move(options)), metrics_(metrics), log_(std::move(log)) {}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ReasonerService::Reason(grpc::CallbackServerContext* context,
                                                                    const grpc::ByteBuffer* bytes) {
  const std::string request_id = RequestId(*context);
  context->AddInitialMetadata(kRequestIdHeader, request_id);
  const auto call =
      std::make_shared<ReasonCall>(request_id, metrics_, [this](const RequestRecord& record) { OnCallEnded(record); });
  bool draining = false;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    ++open_calls_;
    draining = draining_;
  }
  if (draining) {
    call->Refuse(absl::UnavailableError("the server is shutting down; retry on another server"));
    return call.get();
  }
  v1::ReasonRequest message;
  const absl::StatusOr<ReasonRequest> request = [&]() -> absl::StatusOr<ReasonRequest> {
    NABLA_RETURN_IF_ERROR(Parse(*bytes, &message));
    return FromProto(message, {.has_reward_model = pool_->reward_model_info().has_value(),
                               .max_new_tokens_limit = options_.max_new_tokens_limit,
                               .max_rollouts_limit = options_.max_rollouts_limit,
                               .drawn_seed = RandomNumber()});
  }();
  if (request.ok()) {
    call->Start(pool_, *request, Deadline(*context), message.omit_drafts());
  } else {
    call->Refuse(request.status());
  }
  return call.get();
}

grpc::ServerUnaryReactor* ReasonerService::GetInfo(grpc::CallbackServerContext* context,
                                                   const v1::GetInfoRequest* /*request*/,
                                                   v1::GetInfoResponse* response) {
  response->set_version(options_.version);
  *response->mutable_model() = ToProto(pool_->model_info());
  response->add_strategies(StrategyName(GreedyOptions{}));
  response->add_strategies(StrategyName(SampleOptions{}));
  if (pool_->reward_model_info().has_value()) {
    *response->mutable_reward_model() = ToProto(*pool_->reward_model_info());
    response->add_strategies(StrategyName(NablaOptions{}));
  }
  const PoolLoad load = pool_->load();
  response->set_max_new_tokens_limit(options_.max_new_tokens_limit);
  response->set_max_rollouts_limit(options_.max_rollouts_limit);
  response->set_workers(load.workers);
  response->set_running(load.running);
  response->set_waiting(load.waiting);
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

void ReasonerService::StartDraining() {
  const std::lock_guard<std::mutex> lock(mu_);
  draining_ = true;
}

bool ReasonerService::AwaitIdle(absl::Time deadline) {
  std::unique_lock<std::mutex> lock(mu_);
  const auto idle = [this] { return open_calls_ == 0; };
  if (deadline != absl::InfiniteFuture()) return call_ended_.wait_until(lock, absl::ToChronoTime(deadline), idle);
  call_ended_.wait(lock, idle);
  return true;
}

void ReasonerService::OnCallEnded(const RequestRecord& record) {
  metrics_->CountEnded(record);
  log_(FormatRecord(record, absl::Now()));
  const std::lock_guard<std::mutex> lock(mu_);  // notified under it: whoever waits may destroy this behind it
  --open_calls_;
  call_ended_.notify_all();
}

}  // namespace nabla
