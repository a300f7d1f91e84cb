// What the service adds to the engine: one request at a time, in turns on the EnginePool directly and through a server
// on this machine's loopback. The client is a process of its own, as clients are: gRPC has one poller a process, which
// would wake the one end for what is the other's. Both read the same clock.
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
#include "bench/forked_function.h"
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

// When a request had emitted, or its client had received, so many events: committed tokens go by their count, revisions
// by theirs. Drafts may be dropped and are left out.
struct EventTimes {
  std::vector<std::pair<Clock::rep, size_t>> commits;  // tokens up to there
  std::vector<Clock::rep> revisions;

  void Committed(size_t tokens) {
    commits.emplace_back(Clock::now().time_since_epoch().count(),
                         commits.empty() ? tokens : commits.back().second + tokens);
  }
  void Revised() { revisions.push_back(Clock::now().time_since_epoch().count()); }
};

double Seconds(Clock::rep ticks) { return std::chrono::duration<double>(Clock::duration(ticks)).count(); }

// Adds to `latencies`, in seconds, what lies between the emission of each event and the receipt of the message that
// held it.
void AddLatencies(const EventTimes& emitted, const EventTimes& received, std::vector<double>* latencies) {
  auto receipt = received.commits.begin();
  for (const auto& [time, tokens] : emitted.commits) {
    while (receipt != received.commits.end() && receipt->second < tokens) ++receipt;
    if (receipt == received.commits.end()) break;
    latencies->push_back(Seconds(receipt->first - time));
  }
  for (size_t i = 0; i < std::min(emitted.revisions.size(), received.revisions.size()); ++i) {
    latencies->push_back(Seconds(received.revisions[i] - emitted.revisions[i]));
  }
}

// The times at which the engine emits. Thread-safe.
class EmissionClock {
 public:
  void Emitted(const Event& event) {
    const std::lock_guard<std::mutex> lock(mu_);
    if (const auto* committed = std::get_if<CommittedEvent>(&event)) {
      times_.Committed(committed->token_ids.size());
    } else if (std::holds_alternative<RevisionEvent>(event)) {
      times_.Revised();
    }
  }

  // Those since the last call.
  EventTimes Take() {
    const std::lock_guard<std::mutex> lock(mu_);
    return std::exchange(times_, {});
  }

 private:
  std::mutex mu_;
  EventTimes times_ ABSL_GUARDED_BY(mu_);
};

// Tells the clock of every event on its way to the sink.
class TimedSink : public EventSink {
 public:
  TimedSink(EventSink* next, EmissionClock* clock) : next_(next), clock_(clock) {}
  void OnEvent(Event event) override {
    clock_->Emitted(event);
    next_->OnEvent(std::move(event));
  }

 private:
  EventSink* const next_;
  EmissionClock* const clock_;
};

// What the server is given: the real pool, its events timed.
class TimedPool : public EnginePool {
 public:
  TimedPool(std::unique_ptr<EnginePool> pool, EmissionClock* clock) : pool_(std::move(pool)), clock_(clock) {}

  absl::StatusOr<std::shared_ptr<RequestTicket>> Submit(ReasonRequest request, SubmitOptions options, EventSink* sink,
                                                        DoneCallback done) override {
    const auto timed = std::make_shared<TimedSink>(sink, clock_);
    return pool_->Submit(
        std::move(request), std::move(options), timed.get(),
        [timed, done = std::move(done)](absl::StatusOr<ReasonResult> result) { done(std::move(result)); });
  }
  void Shutdown(absl::Time deadline) override { pool_->Shutdown(deadline); }
  PoolLoad load() const override { return pool_->load(); }
  ModelInfos models() const override { return pool_->models(); }

 private:
  const std::unique_ptr<EnginePool> pool_;
  EmissionClock* const clock_;
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

absl::StatusOr<v1::ReasonRequest> RequestNumber(uint32_t number, const Options& options) {
  const std::vector<std::string> questions = BuiltInQuestions();
  NABLA_ASSIGN_OR_RETURN(v1::ReasonRequest request,
                         options.request.Request(options.strategy, questions[number % questions.size()]));
  request.set_seed(1);
  return request;
}

// What the client's process does: {"port": …, "request": number, or null for a call that asks for nothing} gives its
// {"seconds": …, "commits": …, "revisions": …}, or {"error": …}. Connects at the first call.
class Client {
 public:
  explicit Client(const Options& options) : options_(options) {}

  std::string Answer(const std::string& line) {
    const absl::StatusOr<nlohmann::json> answer = Call(nlohmann::json::parse(line));
    return answer.ok() ? answer->dump() : nlohmann::json{{"error", answer.status().ToString()}}.dump();
  }

 private:
  absl::StatusOr<nlohmann::json> Call(const nlohmann::json& call) {
    if (client_ == nullptr) {
      NABLA_ASSIGN_OR_RETURN(client_, ReasonerClient::Create(absl::StrCat("127.0.0.1:", call["port"].get<int>())));
    }
    EventTimes received;
    const nlohmann::json& number = call["request"];
    v1::ReasonRequest request;
    if (!number.is_null()) {
      NABLA_ASSIGN_OR_RETURN(request, RequestNumber(number.get<uint32_t>(), options_));
    }
    const Clock::time_point start = Clock::now();
    if (number.is_null()) {
      NABLA_RETURN_IF_ERROR(client_->GetInfo().status());
    } else {
      NABLA_RETURN_IF_ERROR(client_
                                ->Reason(request,
                                         [&](const v1::ReasonEvent& event) {
                                           if (event.has_committed()) {
                                             received.Committed(event.committed().token_ids_size());
                                           } else if (event.has_revision()) {
                                             received.Revised();
                                           }
                                         })
                                .status());
    }
    return nlohmann::json{
        {"seconds", SecondsSince(start)}, {"commits", received.commits}, {"revisions", received.revisions}};
  }

  const Options options_;
  std::unique_ptr<ReasonerClient> client_;
};

// Through the server. What is to be called is `request`'s number, or null.
absl::StatusOr<nlohmann::json> AskServer(int port, const nlohmann::json& request, ForkedFunction* client) {
  NABLA_ASSIGN_OR_RETURN(const std::string line,
                         client->Call(nlohmann::json{{"port", port}, {"request", request}}.dump()));
  nlohmann::json answer = nlohmann::json::parse(line);
  if (answer.contains("error")) return absl::UnknownError(answer["error"].get<std::string>());
  return answer;
}

absl::StatusOr<nlohmann::ordered_json> Measure(const Options& options) {
  Client client_there(options);
  NABLA_ASSIGN_OR_RETURN(const std::unique_ptr<ForkedFunction> client,
                         ForkedFunction::Start([&](const std::string& line) { return client_there.Answer(line); }));
  EnginePoolOptions pool_options{.model = {.path = options.model}, .threads = static_cast<int>(options.threads)};
  if (!options.reward_model.empty()) pool_options.reward_model = RewardModelOptions{.path = options.reward_model};
  NABLA_ASSIGN_OR_RETURN(std::unique_ptr<EnginePool> created, EnginePool::Create(pool_options));
  EnginePool* const pool = created.get();
  EmissionClock clock;
  ServerOptions server_options;
  server_options.listener.log = [](const LogEvent&) {};
  NABLA_ASSIGN_OR_RETURN(const std::unique_ptr<Server> server, Server::Create(server_options));
  server->Serve(std::make_unique<TimedPool>(std::move(created), &clock));

  std::vector<double> empty;
  for (uint32_t i = 0; i < options.warmup + options.repetitions; ++i) {
    NABLA_ASSIGN_OR_RETURN(const nlohmann::json answer, AskServer(server->port(), nullptr, client.get()));
    if (i >= options.warmup) empty.push_back(answer["seconds"]);
  }
  std::vector<double> direct, served, difference, latencies;
  for (uint32_t i = 0; i < options.warmup + options.repetitions; ++i) {
    NABLA_ASSIGN_OR_RETURN(const v1::ReasonRequest message, RequestNumber(i, options));
    NABLA_ASSIGN_OR_RETURN(const ReasonRequest request,
                           FromProto(message, {.has_reward_model = pool->models().reward_model.has_value()}));
    double direct_seconds = 0;
    nlohmann::json answer;
    for (const bool directly : {i % 2 == 0, i % 2 != 0}) {
      if (directly) {
        NABLA_ASSIGN_OR_RETURN(direct_seconds, AskDirectly(request, pool));
      } else {
        NABLA_ASSIGN_OR_RETURN(answer, AskServer(server->port(), i, client.get()));
      }
    }
    const EventTimes emitted = clock.Take();
    if (i < options.warmup) continue;
    const double served_seconds = answer["seconds"];
    AddLatencies(emitted, {.commits = answer["commits"], .revisions = answer["revisions"]}, &latencies);
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
  result["event_seconds"] = ToJson(ComputePercentiles(latencies));
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
