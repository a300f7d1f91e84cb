// What the server counts, in Prometheus terms (prefix nabla_, base units, names on vLLM's stems).
//
//   Metrics metrics("0.1.0");
//   metrics.CountAdmitted();
//   metrics.CountEnded(record);                       // once for every call, admitted or refused
//   exposer.RegisterCollectable(metrics.registry());
//
// requests_admitted_total = sum of requests_total{strategy,code} + num_requests_running + num_requests_waiting +
// num_requests_flushing: an admitted request is in one of the three states until it ends in exactly one code.
// Thread-safe. Counting takes short locks inside prometheus-cpp and never blocks on a scrape for
// long.
#ifndef NABLA_SERVER_METRICS_H_
#define NABLA_SERVER_METRICS_H_

#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/pool/engine_pool.h"
#include "server/request_record.h"

namespace nabla {

class Metrics {
 public:
  explicit Metrics(const std::string& version);

  void CountAdmitted();
  // The pool is done with an admitted request; until its call has ended, the result waits for its reader.
  void CountFlushing();
  void CountEnded(const RequestRecord& record);

  // How long an admitted request was in the queue, once it has left it: for an engine, or because it has ended.
  void ObserveQueueTime(const std::string& strategy, absl::Duration waited);

  // What a request that started has cost, however it ended.
  void CountUsage(const Usage& usage);

  // `tokens` were committed `gap` after the ones before them. Called for every event, by whoever emits it.
  void CountCommitted(const std::string& strategy, absl::Duration gap, size_t tokens);

  // A forward pass of `rows` tokens, all of a batch's requests together. Called by the engines' execution threads.
  void ObserveBatch(int64_t rows);

  // A call to the reward service has ended with that code, which its caller sees; its retries are part of it.
  void CountRewardRpc(absl::StatusCode code);

  // As the health service says of nabla.v1.Reasoner.
  void SetReady(bool ready) { ready_->Set(ready ? 1 : 0); }

  std::shared_ptr<prometheus::Registry> registry() const { return registry_; }

 private:
  struct Histograms {
    prometheus::Histogram* time_to_first_token;
    prometheus::Histogram* inter_token_latency;
    prometheus::Histogram* e2e_latency;
    prometheus::Histogram* queue_time;
    prometheus::Histogram* refine_time;
    prometheus::Histogram* reward_time;
    prometheus::Histogram* prompt_tokens;
    prometheus::Histogram* generation_tokens;
    prometheus::Histogram* model_calls;
    prometheus::Histogram* rollouts;
    prometheus::Histogram* reward_gain;
  };
  struct Counters {
    prometheus::Counter* admitted;
    prometheus::Counter* prompt_tokens;
    prometheus::Counter* generation_tokens;
    prometheus::Counter* language_forward;
    prometheus::Counter* language_backward;
    prometheus::Counter* draft_forward;
    prometheus::Counter* reward_forward;
    prometheus::Counter* reward_backward;
    prometheus::Counter* gradient_steps;
    prometheus::Counter* rollouts;
    prometheus::Counter* revisions_accepted;
    prometheus::Counter* revisions_rejected;
    prometheus::Counter *rollout_drafts_accepted, *rollout_drafts_rejected;
    prometheus::Counter *int8_drafts_accepted, *int8_drafts_rejected;
  };

  void AddCounters();
  void AddHistograms(const std::string& strategy);
  void CountResult(const Histograms& histograms, const RequestRecord& record);

  const std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  std::map<std::string, Histograms> histograms_;  // by strategy; not changed after construction
  Counters counters_;
  prometheus::Gauge *ready_ = nullptr, *flushing_ = nullptr;
  prometheus::Histogram* decode_batch_size_ = nullptr;
  prometheus::Family<prometheus::Counter>* reward_rpcs_ = nullptr;
  prometheus::Family<prometheus::Counter>* requests_ = nullptr;
  prometheus::Family<prometheus::Counter>* refused_ = nullptr;
};

// Gauges and counters read from the pool when Prometheus asks. `pool` must outlive it.
class PoolGauges : public prometheus::Collectable {
 public:
  explicit PoolGauges(const EnginePool* pool) : pool_(pool) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const EnginePool* const pool_;
};

}  // namespace nabla

#endif  // NABLA_SERVER_METRICS_H_
