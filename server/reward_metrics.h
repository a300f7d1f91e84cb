// What the reward server counts, in Prometheus terms (prefix nabla_reward_, base units).
//
//   RewardMetrics metrics("0.1.0");
//   metrics.CountCall("Score", status.code(), duration);
//   exposer.RegisterCollectable(metrics.registry());
//
// Thread-safe. Counting takes short locks inside prometheus-cpp.
#ifndef NABLA_SERVER_REWARD_METRICS_H_
#define NABLA_SERVER_REWARD_METRICS_H_

#include <prometheus/collectable.h>
#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/metric_family.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/event.h"
#include "server/call_queue.h"

namespace nabla {

class RewardMetrics {
 public:
  explicit RewardMetrics(const std::string& version);

  // A call of that method has ended; its time counts from its arrival.
  void CountCall(const std::string& method, absl::StatusCode code, absl::Duration duration);
  void CountWork(const ModelWork& work);
  // One pass of the model over `rows` tokens, of however many calls.
  void CountPass(int64_t rows);

  // As the health service says of nabla.v1.RewardModel.
  void SetReady(bool ready) { ready_->Set(ready ? 1 : 0); }

  std::shared_ptr<prometheus::Registry> registry() const { return registry_; }

 private:
  const std::shared_ptr<prometheus::Registry> registry_ = std::make_shared<prometheus::Registry>();
  prometheus::Gauge* ready_;
  prometheus::Family<prometheus::Counter>* calls_;
  prometheus::Family<prometheus::Histogram>* call_seconds_;
  prometheus::Counter* forward_tokens_;
  prometheus::Counter* backward_tokens_;
  prometheus::Histogram* batch_tokens_;
};

// Gauges read from the queue of calls when Prometheus asks. `calls` must outlive it.
class CallGauges : public prometheus::Collectable {
 public:
  explicit CallGauges(const CallQueue* calls) : calls_(calls) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const CallQueue* const calls_;
};

}  // namespace nabla

#endif  // NABLA_SERVER_REWARD_METRICS_H_
