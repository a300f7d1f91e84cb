// What the service adds to the engine: one request at a time, in turns on the EnginePool directly and through a server
// on this machine's loopback in the same process, so that one clock times both ends.
//
//   nabla-service-overhead --model=models/writer --reward_model=models/judge --strategy=greedy --repetitions=200
//
// Prints a JSON object: request times of both ways, of calls that ask for nothing of the engine (GetInfo), which are
// the least that gRPC takes, and of every event the time from the engine's OnEvent to the client's receipt. An event
// that was merged with later ones on its way counts from its own OnEvent. bench/overhead.py runs this and judges it by
// the goals.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <future>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "client/cli/flag_set.h"
#include "client/cli/load_statistics.h"
#include "client/cli/questions.h"
#include "client/cli/request_flags.h"
#include "client/reasoner_client.h"
#include "engine/base/status_macros.h"
#include "engine/pool/engine_pool.h"
#include "server/conversion.h"
#include "server/server.h"

namespace nabla {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

struct Options {
  std::string model;
  std::string reward_model;
  std::string strategy = "greedy";
  uint32_t repetitions = 200;
  uint32_t warmup = 10;
  uint32_t threads = 0;
  RequestFlags request;
};

// Matches what the engine emitted with what the client received, for one request at a time. Committed tokens are
// matched by their count, revisions by their order; drafts may be dropped and are left out. Thread-safe.
class EventClock {
 public:
  void Restart() {
    const std::lock_guard<std::mutex> lock(mu_);
    emitted_commits_.clear();
    emitted_revisions_.clear();
    emitted_tokens_ = received_tokens_ = next_commit_ = next_revision_ = 0;
  }

  void Emitted(const Event& event) {
    const Clock::time_point now = Clock::now();
    const std::lock_guard<std::mutex> lock(mu_);
    if (const auto* committed = std::get_if<CommittedEvent>(&event)) {
      emitted_tokens_ += committed->token_ids.size();
      emitted_commits_.push_back({now, emitted_tokens_});
    } else if (std::holds_alternative<RevisionEvent>(event)) {
      emitted_revisions_.push_back(now);
    }
  }

  void Received(const v1::ReasonEvent& event) {
    const Clock::time_point now = Clock::now();
    const std::lock_guard<std::mutex> lock(mu_);
    if (event.has_committed()) {
      received_tokens_ += static_cast<size_t>(event.committed().token_ids_size());
      for (; next_commit_ < emitted_commits_.size() && emitted_commits_[next_commit_].second <= received_tokens_;
           ++next_commit_) {
        Add(now - emitted_commits_[next_commit_].first);
      }
    } else if (event.has_revision() && next_revision_ < emitted_revisions_.size()) {
      Add(now - emitted_revisions_[next_revision_++]);
    }
  }

  void ForgetLatencies() {
    const std::lock_guard<std::mutex> lock(mu_);
    latencies_.clear();
  }

  std::vector<double> latencies() const {
    const std::lock_guard<std::mutex> lock(mu_);
    return latencies_;
  }

 private:
  void Add(Clock::duration latency) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    latencies_.push_back(std::chrono::duration<double>(latency).count());
  }

  mutable std::mutex mu_;
  std::vector<std::pair<Clock::time_point, size_t>> emitted_commits_ ABSL_GUARDED_BY(mu_);  // tokens up to there
  std::vector<Clock::time_point> emitted_revisions_ ABSL_GUARDED_BY(mu_);
  size_t emitted_tokens_ ABSL_GUARDED_BY(mu_) = 0;
  size_t received_tokens_ ABSL_GUARDED_BY(mu_) = 0;
  size_t next_commit_ ABSL_GUARDED_BY(mu_) = 0;
  size_t next_revision_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<double> latencies_ ABSL_GUARDED_BY(mu_);  // seconds, of all requests
};

// Tells the clock of every event on its way to the sink.
class TimedSink : public EventSink {
 public:
  TimedSink(EventSink* next, EventClock* clock) : next_(next), clock_(clock) {}
  void OnEvent(Event event) override {
    clock_->Emitted(event);
    next_->OnEvent(std::move(event));
  }

 private:
  EventSink* const next_;
  EventClock* const clock_;
};

// What the server is given: the real pool, its events timed.
class TimedPool : public EnginePool {
 public:
  TimedPool(std::unique_ptr<EnginePool> pool, EventClock* clock) : pool_(std::move(pool)), clock_(clock) {}

  absl::StatusOr<std::shared_ptr<RequestTicket>> Submit(ReasonRequest request, SubmitOptions options, EventSink* sink,
                                                        DoneCallback done) override {
    const auto timed = std::make_shared<TimedSink>(sink, clock_);
    return pool_->Submit(
        std::move(request), std::move(options), timed.get(),
        [timed, done = std::move(done)](absl::StatusOr<ReasonResult> result) { done(std::move(result)); });
  }
  void Shutdown(absl::Time deadline) override { pool_->Shutdown(deadline); }
  PoolLoad load() const override { return pool_->load(); }
  const ModelInfos& models() const override { return pool_->models(); }

 private:
  const std::unique_ptr<EnginePool> pool_;
  EventClock* const clock_;
};

class NoSink : public EventSink {
 public:
  void OnEvent(Event /*event*/) override {}
};

// Seconds of the request on the pool alone.
absl::StatusOr<double> AskDirectly(const ReasonRequest& request, EnginePool* pool) {
  NoSink sink;
  std::promise<absl::Status> ended;
  const Clock::time_point start = Clock::now();
  NABLA_RETURN_IF_ERROR(
      pool->Submit(request, {}, &sink,
                   [&](const absl::StatusOr<ReasonResult>& result) { ended.set_value(result.status()); })
          .status());
  NABLA_RETURN_IF_ERROR(ended.get_future().get());
  return SecondsSince(start);
}

// Seconds of the same request through the server.
absl::StatusOr<double> AskServer(const v1::ReasonRequest& request, ReasonerClient* client, EventClock* clock) {
  clock->Restart();
  const Clock::time_point start = Clock::now();
  NABLA_RETURN_IF_ERROR(
      client->Reason(request, [clock](const v1::ReasonEvent& event) { clock->Received(event); }).status());
  return SecondsSince(start);
}

absl::StatusOr<nlohmann::ordered_json> Measure(const Options& options) {
  EnginePoolOptions pool_options{.model = {.path = options.model}, .threads = static_cast<int>(options.threads)};
  if (!options.reward_model.empty()) pool_options.reward_model = RewardModelOptions{.path = options.reward_model};
  NABLA_ASSIGN_OR_RETURN(std::unique_ptr<EnginePool> created, EnginePool::Create(pool_options));
  EnginePool* const pool = created.get();
  EventClock clock;
  ServerOptions server_options;
  server_options.listener.log = [](const LogEvent&) {};
  NABLA_ASSIGN_OR_RETURN(const std::unique_ptr<Server> server, Server::Create(server_options));
  server->Serve(std::make_unique<TimedPool>(std::move(created), &clock));
  NABLA_ASSIGN_OR_RETURN(const std::unique_ptr<ReasonerClient> client,
                         ReasonerClient::Create(absl::StrCat("127.0.0.1:", server->port())));

  std::vector<double> empty;
  for (uint32_t i = 0; i < options.warmup + options.repetitions; ++i) {
    const Clock::time_point start = Clock::now();
    NABLA_RETURN_IF_ERROR(client->GetInfo().status());
    if (i >= options.warmup) empty.push_back(SecondsSince(start));
  }
  const std::vector<std::string> questions = BuiltInQuestions();
  std::vector<double> direct, served, difference;
  for (uint32_t i = 0; i < options.warmup + options.repetitions; ++i) {
    NABLA_ASSIGN_OR_RETURN(v1::ReasonRequest message,
                           options.request.Request(options.strategy, questions[i % questions.size()]));
    message.set_seed(1);
    NABLA_ASSIGN_OR_RETURN(const ReasonRequest request,
                           FromProto(message, {.has_reward_model = pool->models().reward_model.has_value()}));
    if (i == options.warmup) clock.ForgetLatencies();
    double direct_seconds = 0;
    double served_seconds = 0;
    for (const bool directly : {i % 2 == 0, i % 2 != 0}) {
      if (directly) {
        NABLA_ASSIGN_OR_RETURN(direct_seconds, AskDirectly(request, pool));
      } else {
        NABLA_ASSIGN_OR_RETURN(served_seconds, AskServer(message, client.get(), &clock));
      }
    }
    if (i < options.warmup) continue;
    direct.push_back(direct_seconds);
    served.push_back(served_seconds);
    difference.push_back(served_seconds / direct_seconds - 1);
  }
  nlohmann::ordered_json result;
  result["strategy"] = options.strategy;
  result["requests_each_way"] = options.repetitions;
  result["direct_seconds"] = ToJson(ComputePercentiles(direct));
  result["served_seconds"] = ToJson(ComputePercentiles(served));
  result["empty_call_seconds"] = ToJson(ComputePercentiles(empty));
  result["overhead_of_pairs"] = ToJson(ComputePercentiles(difference));
  result["event_seconds"] = ToJson(ComputePercentiles(clock.latencies()));
  return result;
}

int Main(const std::vector<std::string>& arguments) {
  Options options;
  FlagSet flags("nabla-service-overhead", "times requests on the engine and through a server.", "");
  flags.Add("model", &options.model, "Folder of the language model. Required.");
  flags.Add("reward_model", &options.reward_model, "Folder of the reward model.");
  flags.Add("strategy", &options.strategy, "greedy, sample, nabla, … (default greedy).");
  flags.Add("repetitions", &options.repetitions, "Requests each way (default 200).");
  flags.Add("warmup", &options.warmup, "Requests each way ahead of those (default 10).");
  flags.Add("threads", &options.threads, "Of the engine's products; 0: all cores (default).");
  options.request.AddTo(&flags);
  const absl::StatusOr<std::vector<std::string>> positional = flags.Parse(arguments);
  if (flags.help_requested()) {
    std::cout << flags.Help();
    return 0;
  }
  const absl::StatusOr<nlohmann::ordered_json> result = [&]() -> absl::StatusOr<nlohmann::ordered_json> {
    NABLA_RETURN_IF_ERROR(positional.status());
    if (!positional->empty()) {
      return absl::InvalidArgumentError(absl::StrCat("unexpected argument \"", positional->front(), "\""));
    }
    if (options.model.empty()) return absl::InvalidArgumentError("--model: must name the folder of a language model");
    if (options.repetitions == 0) return absl::InvalidArgumentError("--repetitions: must be 1 or more, got 0");
    NABLA_RETURN_IF_ERROR(RequestFlags::CheckUsed(flags, {options.strategy}));
    return Measure(options);
  }();
  if (!result.ok()) {
    std::cerr << "nabla-service-overhead: " << result.status().message() << std::endl;
    return 1;
  }
  std::cout << result->dump(2) << std::endl;
  return 0;
}

}  // namespace
}  // namespace nabla

int main(int argc, char** argv) { return nabla::Main(std::vector<std::string>(argv + 1, argv + argc)); }
