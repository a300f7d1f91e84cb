#include "server/reasoner_service.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "absl/random/random.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"
#include "server/call_context.h"
#include "server/conversion.h"
#include "server/status.h"
#include "server/trace_context.h"

namespace nabla {
namespace {

constexpr char kRequestIdHeader[] = "nabla-request-id";
constexpr char kTraceResponseHeader[] = "traceresponse";

constexpr int kCoresPerWriter = 8;
constexpr int kMaxWriters = 4;
constexpr double kAverageWeight = 0.1;  // of the newest duration
constexpr absl::Duration kMinRetryDelay = absl::Seconds(1);
constexpr absl::Duration kMaxRetryDelay = absl::Seconds(60);

int WriterThreads() {
  return std::clamp(static_cast<int>(std::thread::hardware_concurrency()) / kCoresPerWriter, 1, kMaxWriters);
}

uint64_t RandomNumber() {
  thread_local absl::BitGen generator;  // seeded from the system's
  return absl::Uniform<uint64_t>(generator);
}

// The caller's own id if it can go into logs and headers as it is, else a new one; and the caller's trace.
CallInfo Identify(grpc::CallbackServerContext* context) {
  CallInfo info;
  const absl::string_view id = Header(*context, kRequestIdHeader);
  info.request_id = IsSaneName(id) ? std::string(id) : absl::StrFormat("%016x%016x", RandomNumber(), RandomNumber());
  context->AddInitialMetadata(kRequestIdHeader, info.request_id);
  if (const std::optional<TraceContext> trace = ParseTraceparent(Header(*context, kTraceparentHeader))) {
    info.trace_id = trace->trace_id;
    info.traceparent = FormatTraceparent(NewSpan(*trace));
    context->AddInitialMetadata(kTraceResponseHeader, info.traceparent);
  }
  return info;
}

absl::Status Parse(const grpc::ByteBuffer& bytes, v1::ReasonRequest* message) {
  grpc::Slice slice;
  if (bytes.DumpToSingleSlice(&slice).ok() && message->ParseFromArray(slice.begin(), static_cast<int>(slice.size()))) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError("the request is not a nabla.v1.ReasonRequest whose strings are all UTF-8");
}

}  // namespace

ReasonerService::ReasonerService(ReasonerServiceOptions options, Authenticator* authenticator, Metrics* metrics,
                                 LogSink log)
    : options_(std::move(options)),
      authenticator_(authenticator),
      metrics_(metrics),
      log_(std::move(log)),
      writers_(WriterThreads()) {}

absl::StatusOr<EnginePool*> ReasonerService::Pool() {
  const std::lock_guard<std::mutex> lock(mu_);
  if (draining_) return absl::UnavailableError("the server is shutting down; retry on another server");
  if (pool_ == nullptr) return absl::UnavailableError("the server is loading its models; retry in a moment");
  return pool_;
}

absl::StatusOr<ReasonRequest> ReasonerService::Read(const grpc::ByteBuffer& bytes, const EnginePool& pool,
                                                    const Caller& caller, v1::ReasonRequest* message) const {
  NABLA_RETURN_IF_ERROR(Parse(bytes, message));
  NABLA_ASSIGN_OR_RETURN(ReasonRequest request,
                         FromProto(*message, {.has_reward_model = pool.models().reward_model.has_value(),
                                              .max_new_tokens_limit = options_.max_new_tokens_limit,
                                              .max_rollouts_limit = options_.max_rollouts_limit,
                                              .drawn_seed = RandomNumber()}));
  NABLA_RETURN_IF_ERROR(caller.MayAskFor(request.priority));
  return request;
}

grpc::ServerWriteReactor<grpc::ByteBuffer>* ReasonerService::Reason(grpc::CallbackServerContext* context,
                                                                    const grpc::ByteBuffer* bytes) {
  CallInfo info = Identify(context);
  {
    const std::lock_guard<std::mutex> lock(mu_);
    ++open_calls_;
  }
  const absl::StatusOr<EnginePool*> pool = Pool();
  absl::StatusOr<Caller> caller = pool.ok() ? authenticator_->Check(*context) : pool.status();
  if (caller.ok()) {
    info.client = caller->client;
    info.place = std::move(caller->place);
  }
  const auto call = std::make_shared<ReasonCall>(std::move(info), static_cast<ReasonCallHost*>(this));
  v1::ReasonRequest message;
  absl::StatusOr<ReasonRequest> request = caller.ok() ? Read(*bytes, **pool, *caller, &message) : caller.status();
  if (request.ok()) {
    call->Start(*pool, *std::move(request), {.deadline = DeadlineOf(*context), .client = caller->client},
                message.omit_drafts());
  } else {
    call->Refuse(request.status());
  }
  return call.get();
}

grpc::ServerUnaryReactor* ReasonerService::GetInfo(grpc::CallbackServerContext* context,
                                                   const v1::GetInfoRequest* /*request*/,
                                                   v1::GetInfoResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::StatusOr<EnginePool*> pool = Pool();
  const absl::Status status = pool.ok() ? authenticator_->CheckKnown(*context) : pool.status();
  if (status.ok()) {
    *response = DescribePool(**pool);
    response->set_version(options_.version);
    response->set_max_new_tokens_limit(options_.max_new_tokens_limit);
    response->set_max_rollouts_limit(options_.max_rollouts_limit);
  }
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

void ReasonerService::Serve(EnginePool* pool) {
  const std::lock_guard<std::mutex> lock(mu_);
  pool_ = pool;
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

// About the time in which half of the queue is served.
absl::Duration ReasonerService::RetryDelay() {
  absl::Duration duration;
  EnginePool* pool = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mu_);
    duration = recent_duration_;
    pool = pool_;
  }
  const PoolLoad load = pool->load();
  return std::clamp(duration * load.waiting / (2 * std::max(1, load.capacity)), kMinRetryDelay, kMaxRetryDelay);
}

void ReasonerService::OnCallEnded(const RequestRecord& record) {
  metrics_->CountEnded(record);
  log_(ToLogEvent(record));
  const std::lock_guard<std::mutex> lock(mu_);  // notified under it: whoever waits may destroy this behind it
  if (record.result.has_value()) {
    const absl::Duration newest = record.result->usage.total_time;
    const bool first = recent_duration_ == absl::ZeroDuration();
    recent_duration_ = first ? newest : recent_duration_ + kAverageWeight * (newest - recent_duration_);
  }
  --open_calls_;
  call_ended_.notify_all();
}

}  // namespace nabla
