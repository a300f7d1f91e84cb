#include "server/metrics.h"

#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <string>

#include "absl/strings/match.h"
#include "tests/server/fake_engine_pool.h"

namespace nabla {
namespace {

std::string Text(const prometheus::Collectable& collectable) {
  return prometheus::TextSerializer().Serialize(collectable.Collect());
}

void ExpectLine(const std::string& text, const std::string& line) {
  EXPECT_TRUE(absl::StrContains(text, "\n" + line + "\n")) << line << " is not in\n" << text;
}

RequestRecord Ended(const char* strategy, absl::Status status) {
  return {.request_id = "r", .strategy = strategy, .status = std::move(status), .admitted = true};
}

TEST(MetricsTest, EndedRequestsAddUpToAdmittedOnes) {
  Metrics metrics("1.2.3");
  for (int i = 0; i < 4; ++i) metrics.CountAdmitted();
  for (int i = 0; i < 4; ++i) metrics.CountFlushing();
  ExpectLine(Text(*metrics.registry()), "nabla_num_requests_flushing 4");
  metrics.CountEnded(Ended("nabla", absl::OkStatus()));
  metrics.CountEnded(Ended("nabla", absl::OkStatus()));
  metrics.CountEnded(Ended("nabla", absl::CancelledError("")));
  metrics.CountEnded(Ended("greedy", absl::DeadlineExceededError("")));
  metrics.CountEnded({.status = absl::ResourceExhaustedError("queue full")});
  const std::string text = Text(*metrics.registry());
  ExpectLine(text, "nabla_requests_admitted_total 4");
  ExpectLine(text, "nabla_requests_total{code=\"OK\",strategy=\"nabla\"} 2");
  ExpectLine(text, "nabla_requests_total{code=\"CANCELLED\",strategy=\"nabla\"} 1");
  ExpectLine(text, "nabla_requests_total{code=\"DEADLINE_EXCEEDED\",strategy=\"greedy\"} 1");
  ExpectLine(text, "nabla_requests_refused_total{code=\"RESOURCE_EXHAUSTED\"} 1");
  ExpectLine(text, "nabla_num_requests_flushing 0");
  ExpectLine(text, "nabla_build_info{version=\"1.2.3\"} 1");
  ExpectLine(text, "nabla_ready 0");
}

TEST(MetricsTest, AResultFeedsHistograms) {
  Metrics metrics("");
  RequestRecord record = Ended("nabla", absl::OkStatus());
  record.duration = absl::Seconds(3);
  ReasonResult result{.reward = 2.5, .initial_reward = 1.0};
  result.usage.model_calls = 50;
  record.result = result;
  metrics.CountEnded(record);
  metrics.ObserveQueueTime("nabla", absl::Seconds(1));
  const std::string text = Text(*metrics.registry());
  for (const char* line :
       {"nabla_e2e_request_latency_seconds_sum{strategy=\"nabla\"} 3",
        "nabla_request_queue_time_seconds_sum{strategy=\"nabla\"} 1",
        "nabla_request_model_calls_sum{strategy=\"nabla\"} 50", "nabla_reward_gain_sum{strategy=\"nabla\"} 1.5",
        "nabla_time_to_first_token_seconds_count{strategy=\"nabla\"} 1"}) {
    ExpectLine(text, line);
  }
}

TEST(MetricsTest, UsageFeedsCounters) {
  Metrics metrics("");
  Usage usage = {.prompt_tokens = 10,
                 .completion_tokens = 20,
                 .rollouts = 3,
                 .revisions_accepted = 2,
                 .revisions_rejected = 1,
                 .gradient_steps = 9,
                 .gradient_steps_computed = 7,
                 .model_calls = 50,
                 .draft_tokens_accepted = 21,
                 .draft_tokens_rejected = 8,
                 .int8_tokens_accepted = 16,
                 .int8_tokens_rejected = 6};
  usage.language_model = {.forward_passes = 11, .backward_passes = 12};
  usage.reward_model = {.forward_passes = 13, .backward_passes = 14};
  usage.draft_model = {.forward_passes = 15};
  metrics.CountUsage(usage);
  const std::string text = Text(*metrics.registry());
  for (const char* line :
       {"nabla_prompt_tokens_total 10", "nabla_generation_tokens_total 20", "nabla_rollouts_total 3",
        "nabla_gradient_steps_total 7", "nabla_draft_tokens_total{outcome=\"accepted\",source=\"rollout\"} 5",
        "nabla_draft_tokens_total{outcome=\"rejected\",source=\"rollout\"} 2",
        "nabla_draft_tokens_total{outcome=\"accepted\",source=\"int8\"} 16",
        "nabla_draft_tokens_total{outcome=\"rejected\",source=\"int8\"} 6",
        "nabla_revisions_total{outcome=\"accepted\"} 2", "nabla_revisions_total{outcome=\"rejected\"} 1",
        "nabla_model_calls_total{kind=\"forward\",model=\"language\"} 11",
        "nabla_model_calls_total{kind=\"backward\",model=\"language\"} 12",
        "nabla_model_calls_total{kind=\"forward\",model=\"reward\"} 13",
        "nabla_model_calls_total{kind=\"forward\",model=\"draft\"} 15",
        "nabla_model_calls_total{kind=\"backward\",model=\"reward\"} 14"}) {
    ExpectLine(text, line);
  }
}

TEST(MetricsTest, ABlockOfTokensSharesItsGap) {
  Metrics metrics("");
  metrics.CountCommitted("sample", absl::Seconds(2), 4);
  const std::string text = Text(*metrics.registry());
  ExpectLine(text, "nabla_inter_token_latency_seconds_count{strategy=\"sample\"} 4");
  ExpectLine(text, "nabla_inter_token_latency_seconds_sum{strategy=\"sample\"} 2");
  ExpectLine(text, "nabla_inter_token_latency_seconds_bucket{strategy=\"sample\",le=\"0.25\"} 0");
  ExpectLine(text, "nabla_inter_token_latency_seconds_bucket{strategy=\"sample\",le=\"0.5\"} 4");
}

TEST(MetricsTest, GaugesAreReadFromThePool) {
  const FakeEnginePool pool;
  const std::string text = Text(PoolGauges(&pool));
  ExpectLine(text, "nabla_num_requests_running 2");
  ExpectLine(text, "nabla_num_requests_waiting 3");
  ExpectLine(text, "nabla_num_tokens_waiting 300");
  ExpectLine(text, "nabla_kv_cache_usage_ratio{device=\"cpu\",engine=\"0\"} 0.5");
  ExpectLine(text, "nabla_engine_requests_running{device=\"cpu\",engine=\"0\"} 2");
  ExpectLine(text, "nabla_prefix_cache_hit_tokens_total{device=\"cpu\",engine=\"0\"} 6");
  ExpectLine(text, "nabla_engine_up{device=\"cpu\",engine=\"0\"} 1");
}

TEST(MetricsTest, AnEngineThatHasFailedOrIsStuckIsDown) {
  FakeEnginePool pool;
  pool.SetEngines({{.device = "cuda:0", .healthy = false}, {.device = "cuda:1", .stuck = true}, {.device = "cuda:2"}});
  const std::string text = Text(PoolGauges(&pool));
  ExpectLine(text, "nabla_engine_up{device=\"cuda:0\",engine=\"0\"} 0");
  ExpectLine(text, "nabla_engine_up{device=\"cuda:1\",engine=\"1\"} 0");
  ExpectLine(text, "nabla_engine_up{device=\"cuda:2\",engine=\"2\"} 1");
}

TEST(MetricsTest, BatchesAndRewardCallsAreCounted) {
  Metrics metrics("");
  metrics.ObserveBatch(3);
  metrics.ObserveBatch(16);
  metrics.CountRewardRpc(absl::StatusCode::kOk);
  metrics.CountRewardRpc(absl::StatusCode::kUnavailable);
  metrics.CountRewardRpc(absl::StatusCode::kUnavailable);
  const std::string text = Text(*metrics.registry());
  ExpectLine(text, "nabla_decode_batch_size_sum 19");
  ExpectLine(text, "nabla_decode_batch_size_bucket{le=\"4\"} 1");
  ExpectLine(text, "nabla_decode_batch_size_bucket{le=\"16\"} 2");
  ExpectLine(text, "nabla_reward_rpc_total{code=\"OK\"} 1");
  ExpectLine(text, "nabla_reward_rpc_total{code=\"UNAVAILABLE\"} 2");
}

}  // namespace
}  // namespace nabla
