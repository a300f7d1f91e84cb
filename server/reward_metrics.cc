#include "server/reward_metrics.h"

#include "server/metrics_port.h"

namespace nabla {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

const Buckets kSeconds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
const Buckets kBatchTokens = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};

prometheus::MetricFamily Gauge(const char* name, const char* help, int value) {
  prometheus::MetricFamily family{name, help, prometheus::MetricType::Gauge, {}};
  family.metric.emplace_back();
  family.metric.back().gauge.value = value;
  return family;
}

}  // namespace

RewardMetrics::RewardMetrics(const std::string& version) {
  prometheus::Registry& registry = *registry_;
  calls_ = &prometheus::BuildCounter()
                .Name("nabla_reward_calls_total")
                .Help("Calls that have ended, by method and gRPC code.")
                .Register(registry);
  call_seconds_ = &prometheus::BuildHistogram()
                       .Name("nabla_reward_call_seconds")
                       .Help("From a call's arrival to its answer, waiting included.")
                       .Register(registry);
  auto& tokens = prometheus::BuildCounter()
                     .Name("nabla_reward_model_tokens_total")
                     .Help("Tokens really run through the model, by direction.")
                     .Register(registry);
  forward_tokens_ = &tokens.Add({{"kind", "forward"}});
  backward_tokens_ = &tokens.Add({{"kind", "backward"}});
  batch_tokens_ = &prometheus::BuildHistogram()
                       .Name("nabla_reward_batch_tokens")
                       .Help("Tokens of one forward pass, of all calls that share it.")
                       .Register(registry)
                       .Add({}, kBatchTokens);
  ready_ = AddServerGauges(version, &registry);
}

void RewardMetrics::CountCall(const std::string& method, absl::StatusCode code, absl::Duration duration) {
  calls_->Add({{"method", method}, {"code", absl::StatusCodeToString(code)}}).Increment();
  call_seconds_->Add({{"method", method}}, kSeconds).Observe(absl::ToDoubleSeconds(duration));
}

void RewardMetrics::CountWork(const ModelWork& work) {
  forward_tokens_->Increment(static_cast<double>(work.forward_tokens));
  backward_tokens_->Increment(static_cast<double>(work.backward_tokens));
}

void RewardMetrics::CountPass(int64_t rows) { batch_tokens_->Observe(static_cast<double>(rows)); }

std::vector<prometheus::MetricFamily> CallGauges::Collect() const {
  return {Gauge("nabla_reward_calls_running", "Calls that a thread is working on.", calls_->running()),
          Gauge("nabla_reward_calls_waiting", "Calls that wait for a thread.", calls_->waiting())};
}

}  // namespace nabla
