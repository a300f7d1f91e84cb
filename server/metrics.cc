#include "server/metrics.h"

#include <prometheus/gauge.h>
#include <prometheus/metric_family.h>

#include <algorithm>
#include <string>
#include <utility>

#include "engine/base/request.h"
#include "server/metrics_port.h"

namespace nabla {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// From a token of a small model to the answer of a large one.
const Buckets kSeconds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                          1,     2.5,    5,     10,   30,    60,   120, 300,  600};
const Buckets kTokens = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000};
const Buckets kModelCalls = {10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000, 300000, 1000000};
const Buckets kRollouts = {1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 512, 1024};
const Buckets kBatchRows = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024};
const Buckets kRewardGain = {-10, -1, -0.1, 0, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100};

prometheus::Family<prometheus::Counter>* CounterFamily(prometheus::Registry* registry, const char* name,
                                                       const char* help) {
  return &prometheus::BuildCounter().Name(name).Help(help).Register(*registry);
}

prometheus::MetricFamily GaugeFamily(const char* name, const char* help, double value) {
  prometheus::MetricFamily family{name, help, prometheus::MetricType::Gauge, {}};
  family.metric.emplace_back();
  family.metric.back().gauge.value = value;
  return family;
}

// One value an engine. Two engines may share a device, so that they are numbered as well.
template <typename Value>
prometheus::MetricFamily EngineFamily(const char* name, const char* help, prometheus::MetricType type,
                                      const PoolLoad& load, Value value) {
  prometheus::MetricFamily family{name, help, type, {}};
  for (size_t i = 0; i < load.engines.size(); ++i) {
    prometheus::ClientMetric metric;
    metric.label = {{"device", load.engines[i].device}, {"engine", std::to_string(i)}};
    const double number = static_cast<double>(value(load.engines[i]));
    if (type == prometheus::MetricType::Counter) {
      metric.counter.value = number;
    } else {
      metric.gauge.value = number;
    }
    family.metric.push_back(std::move(metric));
  }
  return family;
}

}  // namespace

Metrics::Metrics(const std::string& version) {
  AddCounters();
  for (const char* strategy : kStrategyNames) AddHistograms(strategy);
  ready_ = AddServerGauges(version, registry_.get());
}

void Metrics::AddCounters() {
  prometheus::Registry* const registry = registry_.get();
  const auto counter = [registry](const char* name, const char* help) {
    return &CounterFamily(registry, name, help)->Add({});
  };
  requests_ =
      CounterFamily(registry, "nabla_requests_total", "Admitted requests that have ended, by strategy and gRPC code.");
  refused_ = CounterFamily(registry, "nabla_requests_refused_total", "Requests that were not admitted, by gRPC code.");
  counters_.admitted = counter("nabla_requests_admitted_total", "Requests that the engine pool has taken.");
  counters_.prompt_tokens =
      counter("nabla_prompt_tokens_total", "Prompt tokens of requests that have started and ended.");
  counters_.generation_tokens = counter("nabla_generation_tokens_total", "Response tokens that callers were told of.");
  counters_.gradient_steps = counter("nabla_gradient_steps_total", "Gradient passes really run.");
  counters_.rollouts = counter("nabla_rollouts_total", "Rollouts, also those that were cut short.");
  auto* calls = CounterFamily(registry, "nabla_model_calls_total",
                              "Passes really run through each model, of requests that have ended, well or not.");
  counters_.language_forward = &calls->Add({{"model", "language"}, {"kind", "forward"}});
  counters_.language_backward = &calls->Add({{"model", "language"}, {"kind", "backward"}});
  counters_.draft_forward = &calls->Add({{"model", "draft"}, {"kind", "forward"}});
  counters_.reward_forward = &calls->Add({{"model", "reward"}, {"kind", "forward"}});
  counters_.reward_backward = &calls->Add({{"model", "reward"}, {"kind", "backward"}});
  reward_rpcs_ =
      CounterFamily(registry, "nabla_reward_rpc_total",
                    "Calls to the reward service, each once after its retries, by the gRPC code that the engine sees.");
  flushing_ = &prometheus::BuildGauge()
                   .Name("nabla_num_requests_flushing")
                   .Help("Admitted requests that the engines are done with and whose result waits for its reader.")
                   .Register(*registry)
                   .Add({});
  decode_batch_size_ = &prometheus::BuildHistogram()
                            .Name("nabla_decode_batch_size")
                            .Help("Tokens of one forward pass, all requests of the batch together.")
                            .Register(*registry)
                            .Add({}, kBatchRows);
  auto* revisions = CounterFamily(registry, "nabla_revisions_total", "Proposed tokens that were tested, by outcome.");
  counters_.revisions_accepted = &revisions->Add({{"outcome", "accepted"}});
  counters_.revisions_rejected = &revisions->Add({{"outcome", "rejected"}});
  auto* drafts = CounterFamily(registry, "nabla_draft_tokens_total",
                               "Tokens guessed, by an earlier rollout or by int8 weights, and verified, by outcome.");
  counters_.rollout_drafts_accepted = &drafts->Add({{"source", "rollout"}, {"outcome", "accepted"}});
  counters_.rollout_drafts_rejected = &drafts->Add({{"source", "rollout"}, {"outcome", "rejected"}});
  counters_.int8_drafts_accepted = &drafts->Add({{"source", "int8"}, {"outcome", "accepted"}});
  counters_.int8_drafts_rejected = &drafts->Add({{"source", "int8"}, {"outcome", "rejected"}});
}

void Metrics::AddHistograms(const std::string& strategy) {
  const auto histogram = [&](const char* name, const char* help, const Buckets& buckets) {
    return &prometheus::BuildHistogram()
                .Name(name)
                .Help(help)
                .Register(*registry_)
                .Add({{"strategy", strategy}}, buckets);
  };
  Histograms& all = histograms_[strategy];
  all.time_to_first_token = histogram("nabla_time_to_first_token_seconds",
                                      "From leaving the queue to the first draft or committed token.", kSeconds);
  all.inter_token_latency = histogram("nabla_inter_token_latency_seconds",
                                      "Between committed tokens; a block of tokens shares its gap evenly.", kSeconds);
  all.e2e_latency = histogram("nabla_e2e_request_latency_seconds",
                              "From a call's arrival to its last byte, calls that ended OK.", kSeconds);
  all.queue_time = histogram("nabla_request_queue_time_seconds",
                             "Waiting for an engine, all admitted requests, however they left the queue.", kSeconds);
  all.refine_time = histogram("nabla_request_refine_time_seconds", "Gradient descent of one request.", kSeconds);
  all.reward_time =
      histogram("nabla_request_reward_time_seconds", "Scoring for acceptance tests of one request.", kSeconds);
  all.prompt_tokens = histogram("nabla_request_prompt_tokens", "Prompt tokens of one request.", kTokens);
  all.generation_tokens = histogram("nabla_request_generation_tokens", "Response tokens of one request.", kTokens);
  all.model_calls =
      histogram("nabla_request_model_calls",
                "Model calls of one request: 1 a token, 4 a gradient step, 2 an acceptance test.", kModelCalls);
  all.rollouts = histogram("nabla_request_rollouts", "Rollouts of one request.", kRollouts);
  all.reward_gain = histogram("nabla_reward_gain", "Reward of the answer less that of the first rollout.", kRewardGain);
}

void Metrics::CountAdmitted() { counters_.admitted->Increment(); }
void Metrics::CountFlushing() { flushing_->Increment(); }

void Metrics::CountCommitted(const std::string& strategy, absl::Duration gap, size_t tokens) {
  const auto histograms = histograms_.find(strategy);
  if (histograms == histograms_.end() || tokens == 0) return;
  const double seconds = absl::ToDoubleSeconds(gap) / static_cast<double>(tokens);
  if (tokens == 1) return histograms->second.inter_token_latency->Observe(seconds);
  std::vector<double> increments(kSeconds.size() + 1);
  increments[std::lower_bound(kSeconds.begin(), kSeconds.end(), seconds) - kSeconds.begin()] =
      static_cast<double>(tokens);
  histograms->second.inter_token_latency->ObserveMultiple(increments, absl::ToDoubleSeconds(gap));
}

void Metrics::ObserveQueueTime(const std::string& strategy, absl::Duration waited) {
  const auto histograms = histograms_.find(strategy);
  if (histograms != histograms_.end()) histograms->second.queue_time->Observe(absl::ToDoubleSeconds(waited));
}

void Metrics::ObserveBatch(int64_t rows) { decode_batch_size_->Observe(static_cast<double>(rows)); }

void Metrics::CountRewardRpc(absl::StatusCode code) {
  reward_rpcs_->Add({{"code", absl::StatusCodeToString(code)}}).Increment();
}

void Metrics::CountEnded(const RequestRecord& record) {
  const std::string code = absl::StatusCodeToString(record.status.code());
  if (!record.admitted) {
    refused_->Add({{"code", code}}).Increment();
    return;
  }
  requests_->Add({{"strategy", record.strategy}, {"code", code}}).Increment();
  flushing_->Decrement();
  const auto histograms = histograms_.find(record.strategy);
  if (record.result.has_value() && histograms != histograms_.end()) CountResult(histograms->second, record);
}

void Metrics::CountResult(const Histograms& histograms, const RequestRecord& record) {
  const ReasonResult& result = *record.result;
  const Usage& usage = result.usage;
  histograms.time_to_first_token->Observe(absl::ToDoubleSeconds(usage.time_to_first_token));
  histograms.e2e_latency->Observe(absl::ToDoubleSeconds(record.duration));
  histograms.refine_time->Observe(absl::ToDoubleSeconds(usage.refine_time));
  histograms.reward_time->Observe(absl::ToDoubleSeconds(usage.reward_time));
  histograms.prompt_tokens->Observe(usage.prompt_tokens);
  histograms.generation_tokens->Observe(usage.completion_tokens);
  histograms.model_calls->Observe(static_cast<double>(usage.model_calls));
  histograms.rollouts->Observe(usage.rollouts);
  if (result.reward.has_value() && result.initial_reward.has_value()) {
    histograms.reward_gain->Observe(*result.reward - *result.initial_reward);
  }
}

void Metrics::CountUsage(const Usage& usage) {
  counters_.prompt_tokens->Increment(usage.prompt_tokens);
  counters_.generation_tokens->Increment(usage.completion_tokens);
  counters_.language_forward->Increment(static_cast<double>(usage.language_model.forward_passes));
  counters_.language_backward->Increment(static_cast<double>(usage.language_model.backward_passes));
  counters_.draft_forward->Increment(static_cast<double>(usage.draft_model.forward_passes));
  counters_.reward_forward->Increment(static_cast<double>(usage.reward_model.forward_passes));
  counters_.reward_backward->Increment(static_cast<double>(usage.reward_model.backward_passes));
  counters_.gradient_steps->Increment(usage.gradient_steps_computed);
  counters_.rollouts->Increment(usage.rollouts);
  counters_.revisions_accepted->Increment(usage.revisions_accepted);
  counters_.revisions_rejected->Increment(usage.revisions_rejected);
  counters_.rollout_drafts_accepted->Increment(
      static_cast<double>(usage.draft_tokens_accepted - usage.int8_tokens_accepted));
  counters_.rollout_drafts_rejected->Increment(
      static_cast<double>(usage.draft_tokens_rejected - usage.int8_tokens_rejected));
  counters_.int8_drafts_accepted->Increment(static_cast<double>(usage.int8_tokens_accepted));
  counters_.int8_drafts_rejected->Increment(static_cast<double>(usage.int8_tokens_rejected));
}

std::vector<prometheus::MetricFamily> PoolGauges::Collect() const {
  const PoolLoad load = pool_->load();
  using prometheus::MetricType;
  return {
      GaugeFamily("nabla_num_requests_running", "Requests placed on an engine.", load.running),
      GaugeFamily("nabla_num_requests_waiting", "Requests in the queue.", load.waiting),
      GaugeFamily("nabla_num_tokens_waiting", "Prompts and responses to come of the requests in the queue, in tokens.",
                  static_cast<double>(load.waiting_tokens)),
      EngineFamily("nabla_engine_up", "1: the engine serves; 0: it has failed, or makes no progress.",
                   MetricType::Gauge, load, [](const EngineLoad& engine) { return engine.healthy && !engine.stuck; }),
      EngineFamily("nabla_engine_requests_running", "Requests placed on one engine.", MetricType::Gauge, load,
                   [](const EngineLoad& engine) { return engine.running; }),
      EngineFamily("nabla_kv_cache_usage_ratio", "Share of one engine's key/value memory in use.", MetricType::Gauge,
                   load, [](const EngineLoad& engine) { return engine.kv_cache_usage_ratio; }),
      EngineFamily("nabla_prefix_cache_hit_tokens_total",
                   "Prompt tokens whose keys and values were found in the cache.", MetricType::Counter, load,
                   [](const EngineLoad& engine) { return engine.prefix_cache_hit_tokens; })};
}

}  // namespace nabla
