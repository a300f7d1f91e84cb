#include "client/cli/load_generator.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <limits>
#include <memory>
#include <mutex>
#include <queue>
#include <random>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/time/clock.h"
#include "client/cli/seconds.h"

namespace nabla {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kProgressSeconds = 0.2;

// A caller in a closed loop whose request failed comes back this much later, so that refusals do not become a flood.
constexpr double kBackOffSeconds = 0.1;

bool HasTokens(const v1::ReasonEvent& event) {
  return (event.has_committed() && event.committed().token_ids_size() > 0) ||
         (event.has_draft() && event.draft().token_ids_size() > 0);
}

class Generator {
 public:
  Generator(const Load& load, const std::function<v1::ReasonRequest(uint64_t)>& request, AsyncReasonerClient* client,
            const LoadCallOptions& options)
      : load_(load),
        request_(request),
        client_(client),
        options_(options),
        warm_up_(absl::ToDoubleSeconds(load.warm_up)),
        end_(load.requests > 0 ? std::numeric_limits<double>::infinity()
                               : warm_up_ + absl::ToDoubleSeconds(load.duration)),
        random_(load.seed) {}

  LoadResult Run(const std::function<void(const LoadProgress&)>& progress) {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      if (load_.rate.has_value()) {
        due_.push(NextGap());
      } else {
        for (uint32_t i = 0; i < load_.concurrency; ++i) due_.push(0);
      }
    }
    double next_progress = 0;
    while (true) {
      std::unique_lock<std::mutex> lock(mu_);
      if (Complete(Now()) && open_ == 0) break;
      if (Now() >= next_progress) {
        next_progress = Now() + kProgressSeconds;
        const LoadProgress state{.seconds = Now(), .ended = result_.samples.size(), .failed = failed_, .open = open_};
        lock.unlock();
        if (progress) progress(state);
        continue;
      }
      if (!Complete(Now()) && !due_.empty() && due_.top() <= Now()) {
        const double scheduled = due_.top();
        due_.pop();
        if (load_.rate.has_value()) due_.push(scheduled + NextGap());
        if (scheduled >= warm_up_) ++measured_;
        ++open_;
        lock.unlock();
        Send(scheduled);
        continue;
      }
      double wake = next_progress;
      if (!Complete(Now())) wake = std::min(wake, due_.empty() ? end_ : std::min(due_.top(), end_));
      changed_.wait_until(lock,
                          start_ + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(wake)));
    }
    const std::lock_guard<std::mutex> lock(mu_);
    result_.window = {.begin = warm_up_, .end = end_};
    if (load_.requests > 0 || Cancelled()) {
      // The end of the last request is inside the window.
      double last = warm_up_;
      for (const RequestSample& sample : result_.samples) last = std::max(last, sample.ended);
      result_.window.end = std::min(end_, std::nextafter(last, std::numeric_limits<double>::infinity()));
    }
    return std::move(result_);
  }

 private:
  double Now() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }
  double NextGap() { return std::exponential_distribution<double>(*load_.rate)(random_); }
  bool Cancelled() const { return options_.cancel != nullptr && options_.cancel->cancelled(); }

  // Whether nothing more is to be sent.
  bool Complete(double now) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_) {
    return now >= end_ || (load_.requests > 0 && measured_ >= load_.requests) || Cancelled();
  }

  void Send(double scheduled) {
    auto sample = std::make_shared<RequestSample>();
    v1::ReasonRequest request = request_(index_++);
    sample->scheduled = scheduled;
    sample->sent = Now();
    client_->Reason(
        std::move(request), {.deadline = absl::Now() + options_.timeout, .cancel = options_.cancel},
        [this, sample](const v1::ReasonEvent& event) { OnEvent(event, sample.get()); },
        [this, sample](absl::StatusOr<v1::Finished> finished) { OnDone(finished, std::move(*sample)); });
  }

  void OnEvent(const v1::ReasonEvent& event, RequestSample* sample) const {
    const double now = Now();
    if (!sample->first_event.has_value()) sample->first_event = now;
    if (!sample->first_token.has_value() && HasTokens(event)) sample->first_token = now;
    if (event.has_committed()) {
      sample->arrivals.push_back({.at = now, .tokens = static_cast<uint32_t>(event.committed().token_ids_size())});
    }
  }

  void OnDone(const absl::StatusOr<v1::Finished>& finished, RequestSample sample) {
    sample.ended = Now();
    sample.status = finished.status();
    if (finished.ok()) {
      sample.queue_seconds = ToSeconds(finished->usage().queue_time());
      sample.queue_to_first_token_seconds = ToSeconds(finished->usage().time_to_first_token());
    }
    const std::lock_guard<std::mutex> lock(mu_);  // notified under it: Run may return behind it
    --open_;
    if (!finished.ok()) ++failed_;
    if (!load_.rate.has_value()) due_.push(sample.ended + (finished.ok() ? 0 : kBackOffSeconds));
    result_.samples.push_back(std::move(sample));
    changed_.notify_all();
  }

  const Load load_;
  const std::function<v1::ReasonRequest(uint64_t)>& request_;
  AsyncReasonerClient* const client_;
  const LoadCallOptions options_;
  const double warm_up_;  // seconds since start_, as all times
  const double end_;
  const Clock::time_point start_ = Clock::now();
  std::mt19937_64 random_;  // of Run's thread alone
  uint64_t index_ = 0;      // of Run's thread alone

  std::mutex mu_;
  std::condition_variable changed_;
  std::priority_queue<double, std::vector<double>, std::greater<>> due_ ABSL_GUARDED_BY(mu_);
  uint64_t measured_ ABSL_GUARDED_BY(mu_) = 0;
  size_t open_ ABSL_GUARDED_BY(mu_) = 0;
  size_t failed_ ABSL_GUARDED_BY(mu_) = 0;
  LoadResult result_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

LoadResult RunLoad(const Load& load, const std::function<v1::ReasonRequest(uint64_t)>& request,
                   AsyncReasonerClient* client, const LoadCallOptions& options,
                   const std::function<void(const LoadProgress&)>& progress) {
  return Generator(load, request, client, options).Run(progress);
}

}  // namespace nabla
