#include "server/reward_service.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/fingerprint.h"
#include "engine/base/status_macros.h"
#include "engine/base/stop_token.h"
#include "server/call_context.h"
#include "server/conversion.h"
#include "server/reward_conversion.h"
#include "server/status.h"
#include "server/trace_context.h"

namespace nabla {
namespace {

constexpr int kMaxResponses = 256;
constexpr uint32_t kMaxTokens = 1 << 20;

}  // namespace

// What is known of a call once it has ended; the metrics and the log are fed from it.
struct RewardService::CallRecord {
  CallRecord(const char* its_method, const grpc::CallbackServerContext& context) : method(its_method) {
    const std::optional<TraceContext> trace = ParseTraceparent(Header(context, kTraceparentHeader));
    if (trace.has_value()) trace_id = trace->trace_id;
  }

  absl::Status Take(absl::StatusOr<Caller> its_caller) {
    if (!its_caller.ok()) return its_caller.status();
    caller = *std::move(its_caller);
    return absl::OkStatus();
  }

  const char* const method;
  const absl::Time arrived = absl::Now();
  std::string trace_id;  // empty: the call belongs to none
  Caller caller;         // keeps its place until the call has ended; no client where the call was refused before
  absl::Status status = absl::UnknownError("");
};

// One call with one answer. Deletes itself.
class RewardService::Call final : public grpc::ServerUnaryReactor {
 public:
  Call(RewardService* service, const char* method, const grpc::CallbackServerContext& context)
      : service_(service), record_(method, context), stop_(DeadlineOf(context)) {}

  const StopToken& stop() const { return stop_; }  // says stop once the caller has gone or its deadline has passed

  absl::Status Take(absl::StatusOr<Caller> caller) { return record_.Take(std::move(caller)); }

  void End(const absl::Status& status) {
    record_.status = status;
    Finish(ToGrpcStatus(status));
  }

 private:
  void OnCancel() override { stop_.Stop(StopToken::Reason::kCancelled); }
  void OnDone() override {
    service_->OnCallEnded(record_);
    delete this;
  }

  RewardService* const service_;
  CallRecord record_;
  StopToken stop_;
};

// Writes the embedding chunk by chunk, as fast as the client reads. Deletes itself.
class RewardService::EmbeddingCall final : public grpc::ServerWriteReactor<v1::EmbeddingChunk> {
 public:
  EmbeddingCall(RewardService* service, const grpc::CallbackServerContext& context)
      : service_(service), record_("FetchEmbedding", context) {}

  absl::Status Take(absl::StatusOr<Caller> caller) { return record_.Take(std::move(caller)); }

  void Start(const EmbeddingTable& table) {
    rest_ = table.bytes;
    chunk_.set_dtype(table.dtype);
    WriteNext();
  }
  void End(const absl::Status& status) {
    record_.status = status;
    Finish(ToGrpcStatus(status));
  }

 private:
  void WriteNext() {
    const absl::string_view data = rest_.substr(0, service_->options_.embedding_chunk_bytes);
    rest_.remove_prefix(data.size());
    chunk_.set_data(data.data(), data.size());
    StartWrite(&chunk_);
  }
  void OnWriteDone(bool ok) override {
    chunk_.clear_dtype();
    if (!ok) return End(absl::CancelledError("the caller has gone"));
    if (rest_.empty()) return End(absl::OkStatus());
    WriteNext();
  }
  void OnDone() override {
    service_->OnCallEnded(record_);
    delete this;
  }

  RewardService* const service_;
  CallRecord record_;
  absl::string_view rest_;
  v1::EmbeddingChunk chunk_;
};

RewardService::RewardService(RewardServiceOptions options, RewardMetrics* metrics)
    : options_(std::move(options)), metrics_(metrics), queue_(options_.calls) {}

void RewardService::Serve(const ServedRewardModel& served) {
  model_ = served.model;
  embedding_ = served.embedding;
  token_strings_ = model_->TokenStrings();
  fingerprints_.set_model(served.fingerprint);
  fingerprints_.set_tokenizer(TokenizerFingerprint(token_strings_, model_->pad_token_id()));
  contexts_ = std::make_unique<RewardContextCache>(model_, options_.contexts);
  const std::lock_guard<std::mutex> lock(mu_);
  serving_ = true;
}

grpc::ServerUnaryReactor* RewardService::GetInfo(grpc::CallbackServerContext* context,
                                                 const v1::GetRewardInfoRequest* request,
                                                 v1::GetRewardInfoResponse* response) {
  auto* const call = new Call(this, "GetInfo", *context);
  absl::Status admitted = CountIn();
  if (admitted.ok() && options_.authenticator != nullptr) admitted = options_.authenticator->CheckKnown(*context);
  if (admitted.ok()) {
    *response->mutable_model() = ToProto(model_->info());
    *response->mutable_fingerprints() = fingerprints_;
    response->set_vocabulary_size(static_cast<uint32_t>(embedding_.vocabulary_size));
    response->set_hidden_size(static_cast<uint32_t>(embedding_.hidden_size));
    response->set_pad_token_id(static_cast<uint32_t>(model_->pad_token_id()));
    response->set_version(options_.version);
    if (request->include_vocabulary()) {
      response->mutable_token_strings()->Assign(token_strings_.begin(), token_strings_.end());
    }
  }
  call->End(admitted);
  return call;
}

grpc::ServerUnaryReactor* RewardService::Score(grpc::CallbackServerContext* context, const v1::ScoreRequest* request,
                                               v1::ScoreResponse* response) {
  return Queue("Score", context,
               [this, request, response](const StopToken& stop) { return AnswerScore(*request, stop, response); });
}

grpc::ServerUnaryReactor* RewardService::ScoreGradient(grpc::CallbackServerContext* context,
                                                       const v1::ScoreGradientRequest* request,
                                                       v1::ScoreGradientResponse* response) {
  return Queue("ScoreGradient", context, [this, request, response](const StopToken& stop) {
    return AnswerScoreGradient(*request, stop, response);
  });
}

grpc::ServerWriteReactor<v1::EmbeddingChunk>* RewardService::FetchEmbedding(grpc::CallbackServerContext* context,
                                                                            const v1::FetchEmbeddingRequest* request) {
  auto* const call = new EmbeddingCall(this, *context);
  absl::Status status = call->Take(Admit(*context));
  if (status.ok()) status = CheckFingerprints(request->fingerprints());
  if (status.ok()) {
    call->Start(embedding_);
  } else {
    call->End(status);
  }
  return call;
}

grpc::ServerUnaryReactor* RewardService::Queue(const char* method, grpc::CallbackServerContext* context,
                                               std::function<absl::Status(const StopToken&)> answer) {
  auto* const call = new Call(this, method, *context);
  absl::Status status = call->Take(Admit(*context));
  if (status.ok()) {
    status = queue_.Submit([this, call, answer = std::move(answer)] {
      const absl::Status unwanted = call->stop().Check();
      call->End(unwanted.ok() ? answer(call->stop()) : unwanted);
    });
  }
  if (!status.ok()) call->End(status);
  return call;
}

absl::Status RewardService::CountIn() {
  const std::lock_guard<std::mutex> lock(mu_);
  ++open_calls_;
  if (draining_) return absl::UnavailableError("the reward service is shutting down; retry on another replica");
  if (!serving_) return absl::UnavailableError("the reward service is loading its model; retry later");
  return absl::OkStatus();
}

absl::StatusOr<Caller> RewardService::Admit(const grpc::CallbackServerContext& context) {
  NABLA_RETURN_IF_ERROR(CountIn());
  if (options_.authenticator == nullptr) return Caller();
  return options_.authenticator->Check(context);
}

void RewardService::StartDraining() {
  const std::lock_guard<std::mutex> lock(mu_);
  draining_ = true;
}

bool RewardService::AwaitIdle(absl::Time deadline) {
  std::unique_lock<std::mutex> lock(mu_);
  const auto idle = [this] { return open_calls_ == 0; };
  if (deadline != absl::InfiniteFuture()) return call_ended_.wait_until(lock, absl::ToChronoTime(deadline), idle);
  call_ended_.wait(lock, idle);
  return true;
}

void RewardService::OnCallEnded(const CallRecord& record) {
  const absl::Duration duration = absl::Now() - record.arrived;
  metrics_->CountCall(record.method, record.status.code(), duration);
  if (!record.status.ok()) {
    LogEvent event(absl::IsCancelled(record.status) ? LogLevel::kInfo : LogLevel::kWarning, "call_failed");
    event.Add("method", record.method);
    if (!record.trace_id.empty()) event.Add("trace_id", record.trace_id);
    if (!record.caller.client.empty()) event.Add("client", record.caller.client);
    event.Add("code", absl::StatusCodeToString(record.status.code()))
        .Add("message", record.status.message())
        .AddSeconds("duration_seconds", duration);
    options_.log(event);
  }
  const std::lock_guard<std::mutex> lock(mu_);  // notified under it: whoever waits may destroy this behind it
  --open_calls_;
  call_ended_.notify_all();
}

absl::Status RewardService::CheckFingerprints(const v1::Fingerprints& fingerprints) const {
  if (fingerprints.model() == fingerprints_.model() && fingerprints.tokenizer() == fingerprints_.tokenizer()) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "this reward service has model ", model_->name(), " (fingerprint ", fingerprints_.model(), ", tokenizer ",
      fingerprints_.tokenizer(), ") but its caller connected to fingerprint ", fingerprints.model(), ", tokenizer ",
      fingerprints.tokenizer(), "; retry, and if that goes on, start every replica with the same model and flags"));
}

absl::Status RewardService::CheckConversation(const v1::Conversation& conversation) const {
  if (conversation.max_response_tokens() == 0) {
    return absl::InvalidArgumentError("conversation.max_response_tokens: must be at least 1, got 0");
  }
  // Only what an int cannot hold: Open says in the model's own words what does not fit it.
  if (conversation.max_response_tokens() > kMaxTokens) {
    return absl::OutOfRangeError(absl::StrCat("conversation.max_response_tokens: must be at most ", kMaxTokens,
                                              ", got ", conversation.max_response_tokens()));
  }
  return absl::OkStatus();
}

absl::Status RewardService::CheckResponse(const v1::Response& response, const std::string& field,
                                          uint32_t max_tokens) const {
  if (static_cast<uint32_t>(response.token_ids_size()) > max_tokens) {
    return absl::InvalidArgumentError(absl::StrCat(field, ".token_ids: has ", response.token_ids_size(),
                                                   " tokens, more than conversation.max_response_tokens, ",
                                                   max_tokens));
  }
  const auto vocabulary = static_cast<uint32_t>(model_->vocabulary_size());
  for (int i = 0; i < response.token_ids_size(); ++i) {
    if (response.token_ids(i) < vocabulary) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(field, ".token_ids[", i, "]: must be below ", vocabulary, ", got ", response.token_ids(i)));
  }
  return absl::OkStatus();
}

absl::Status RewardService::CheckGradientRequest(const v1::ScoreGradientRequest& request) const {
  NABLA_RETURN_IF_ERROR(CheckConversation(request.conversation()));
  NABLA_RETURN_IF_ERROR(CheckResponse(request.response(), "response", request.conversation().max_response_tokens()));
  const auto tokens = static_cast<uint32_t>(request.response().token_ids_size());
  if (request.first() >= tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("first: must be below the ", tokens, " tokens of the response, got ", request.first()));
  }
  const uint32_t rows = tokens - request.first();
  if (request.log_probs_begin() > request.log_probs_end() || request.log_probs_end() > rows) {
    return absl::InvalidArgumentError(absl::StrCat("log_probs_end: rows must lie in 0 … ", rows, ", got ",
                                                   request.log_probs_begin(), " … ", request.log_probs_end()));
  }
  if (request.log_probs_end() > request.log_probs_begin() && model_->kind() != RewardKind::kLikelihood) {
    return absl::InvalidArgumentError("log_probs_end: only a likelihood has log-probabilities; leave it 0");
  }
  const size_t asked = request.log_probs_end() - request.log_probs_begin();
  const size_t row_bytes = static_cast<size_t>(model_->vocabulary_size()) * sizeof(float);
  if (asked > 1 && asked * row_bytes > options_.max_log_prob_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("log_probs_end: more than one row must stay within ",
                                                   options_.max_log_prob_bytes, " bytes, got ", asked, " rows of ",
                                                   row_bytes, "; ask for fewer a call"));
  }
  if (!v1::ScoreGradientRequest::NumberType_IsValid(request.gradient_type())) {
    return absl::InvalidArgumentError(
        absl::StrCat("gradient_type: must be FLOAT32 or BFLOAT16, got ", request.gradient_type()));
  }
  return absl::OkStatus();
}

absl::Status RewardService::WithContext(const v1::Conversation& conversation, const StopToken& stop,
                                        const std::function<absl::Status(Lease&)>& work, v1::ModelWork* run) {
  const std::vector<ChatMessage> messages = FromProto(conversation);
  const auto attempt = [&]() -> absl::Status {
    NABLA_ASSIGN_OR_RETURN(const std::unique_ptr<Lease> lease,
                           contexts_->Acquire(messages, static_cast<int>(conversation.max_response_tokens()), &stop));
    const absl::Status status = work(*lease);
    if (!status.ok()) lease->Discard();
    metrics_->CountWork(lease->work());
    *run = ToProto(lease->work());
    return status;
  };
  absl::Status status = attempt();
  if (absl::IsResourceExhausted(status) && contexts_->idle() > 0) {
    contexts_->EvictIdle();
    status = attempt();
  }
  return status;
}

absl::Status RewardService::AnswerScore(const v1::ScoreRequest& request, const StopToken& stop,
                                        v1::ScoreResponse* response) {
  NABLA_RETURN_IF_ERROR(CheckFingerprints(request.fingerprints()));
  NABLA_RETURN_IF_ERROR(CheckConversation(request.conversation()));
  if (request.responses_size() > kMaxResponses) {
    return absl::InvalidArgumentError(
        absl::StrCat("responses: must be at most ", kMaxResponses, ", got ", request.responses_size()));
  }
  for (int i = 0; i < request.responses_size(); ++i) {
    NABLA_RETURN_IF_ERROR(CheckResponse(request.responses(i), absl::StrCat("responses[", i, "]"),
                                        request.conversation().max_response_tokens()));
  }
  std::vector<std::vector<int32_t>> ids;
  for (const v1::Response& one : request.responses()) ids.push_back(TokenIds(one));
  const std::vector<absl::Span<const int32_t>> responses(ids.begin(), ids.end());
  const auto score = [&](Lease& lease) -> absl::Status {
    response->clear_rewards();
    if (responses.size() == 1) {  // the context keeps it: the next one, or its gradient, may begin with it
      NABLA_ASSIGN_OR_RETURN(const double reward, lease.context().Score(responses.front()));
      response->add_rewards(reward);
      return absl::OkStatus();
    }
    NABLA_ASSIGN_OR_RETURN(const std::vector<double> rewards, lease.context().ScoreAll(responses));
    response->mutable_rewards()->Add(rewards.begin(), rewards.end());
    return absl::OkStatus();
  };
  return WithContext(request.conversation(), stop, score, response->mutable_work());
}

absl::Status RewardService::AnswerScoreGradient(const v1::ScoreGradientRequest& request, const StopToken& stop,
                                                v1::ScoreGradientResponse* response) {
  NABLA_RETURN_IF_ERROR(CheckFingerprints(request.fingerprints()));
  NABLA_RETURN_IF_ERROR(CheckGradientRequest(request));
  const std::vector<int32_t> ids = TokenIds(request.response());
  const int first = static_cast<int>(request.first());
  const auto score = [&](Lease& lease) -> absl::Status {
    RewardContextCache::GradientRows& rows = lease.rows();
    const bool known = rows.first == first && rows.scored == request.scored() && rows.response == ids;
    if (!request.omit_gradient() || !known) {
      NABLA_ASSIGN_OR_RETURN(RewardGradient gradient, lease.context().ScoreGradient(ids, first, request.scored()));
      if (!request.omit_gradient()) {
        PackFloats(gradient.input_gradient, request.gradient_type(), response->mutable_input_gradient());
      }
      rows = {.response = ids,
              .first = first,
              .scored = request.scored(),
              .reward = gradient.reward,
              .log_probs = std::move(gradient.log_probs)};
    }
    response->set_reward(rows.reward);
    if (request.log_probs_end() > request.log_probs_begin()) {
      NABLA_ASSIGN_OR_RETURN(
          const std::vector<float> log_probs,
          rows.log_probs(static_cast<int>(request.log_probs_begin()), static_cast<int>(request.log_probs_end())));
      PackFloats(log_probs, v1::ScoreGradientRequest::FLOAT32, response->mutable_log_probs());
    }
    return absl::OkStatus();
  };
  return WithContext(request.conversation(), stop, score, response->mutable_work());
}

}  // namespace nabla
