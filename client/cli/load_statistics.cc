#include "client/cli/load_statistics.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace nabla {
namespace {

bool In(const MeasuredWindow& window, double seconds) { return seconds >= window.begin && seconds < window.end; }

// Gaps between committed tokens, one a token behind the first.
void AppendGaps(const RequestSample& sample, std::vector<double>* gaps) {
  for (size_t i = 1; i < sample.arrivals.size(); ++i) {
    const TokenArrival& arrival = sample.arrivals[i];
    if (arrival.tokens == 0) continue;
    const double gap = (arrival.at - sample.arrivals[i - 1].at) / arrival.tokens;
    gaps->insert(gaps->end(), arrival.tokens, gap);
  }
}

double Mean(const std::vector<double>& values) {
  return values.empty() ? 0 : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

bool IsGood(const RequestSample& sample, const ServiceLevel& level) {
  if (!sample.status.ok()) return false;
  const double to_first_token = sample.first_token.value_or(sample.ended) - sample.scheduled;
  if (level.time_to_first_token.has_value() && to_first_token > *level.time_to_first_token) return false;
  if (level.end_to_end.has_value() && sample.ended - sample.scheduled > *level.end_to_end) return false;
  if (!level.inter_token.has_value()) return true;
  std::vector<double> gaps;
  AppendGaps(sample, &gaps);
  return Mean(gaps) <= *level.inter_token;
}

bool IsRefusal(const RequestSample& sample) {
  return absl::IsResourceExhausted(sample.status) && !sample.first_event.has_value();
}

void CountFailure(const RequestSample& sample, LoadReport* report, std::vector<double>* refusals) {
  const std::string code = absl::StatusCodeToString(sample.status.code());
  ++report->codes[code];
  ++report->errors[absl::StrCat(sample.status.message(), " (", code, ")")];
  if (sample.first_event.has_value()) ++report->failed_after_start;
  if (!IsRefusal(sample)) return;
  ++report->refused;
  refusals->push_back(sample.ended - sample.sent);
}

// Rates over the window: whatever arrives in it counts, due in it or before it.
void CountRates(const std::vector<RequestSample>& samples, const MeasuredWindow& window, const ServiceLevel& level,
                LoadReport* report) {
  size_t completed = 0;
  size_t good = 0;
  uint64_t tokens = 0;
  for (const RequestSample& sample : samples) {
    for (const TokenArrival& arrival : sample.arrivals) tokens += In(window, arrival.at) ? arrival.tokens : 0;
    if (!sample.status.ok() || !In(window, sample.ended)) continue;
    ++completed;
    if (IsGood(sample, level)) ++good;
  }
  report->window_seconds = window.end - window.begin;
  if (report->window_seconds <= 0) return;
  report->requests_per_second = static_cast<double>(completed) / report->window_seconds;
  report->tokens_per_second = static_cast<double>(tokens) / report->window_seconds;
  if (level.is_set()) report->good_per_second = static_cast<double>(good) / report->window_seconds;
}

std::string Milliseconds(const Percentiles& seconds) {
  if (seconds.count == 0) return "–";
  const auto format = [](double value) { return absl::StrFormat("%.4g", value * 1e3); };
  return absl::StrCat(format(seconds.p50), " / ", format(seconds.p90), " / ", format(seconds.p99));
}

}  // namespace

Percentiles ComputePercentiles(std::vector<double> samples) {
  Percentiles result;
  if (samples.empty()) return result;
  std::sort(samples.begin(), samples.end());
  const auto percentile = [&](double percent) {
    const double rank = std::ceil(percent / 100 * static_cast<double>(samples.size()));
    return samples[static_cast<size_t>(std::max(rank, 1.0)) - 1];
  };
  result.count = samples.size();
  result.mean = Mean(samples);
  result.p50 = percentile(50);
  result.p90 = percentile(90);
  result.p99 = percentile(99);
  result.max = samples.back();
  return result;
}

nlohmann::ordered_json ToJson(const Percentiles& percentiles) {
  return {{"count", percentiles.count}, {"mean", percentiles.mean}, {"p50", percentiles.p50},
          {"p90", percentiles.p90},     {"p99", percentiles.p99},   {"max", percentiles.max}};
}

LoadReport Summarize(const std::string& load, const std::vector<RequestSample>& samples, const MeasuredWindow& window,
                     const ServiceLevel& service_level) {
  LoadReport report{.load = load};
  CountRates(samples, window, service_level, &report);
  std::vector<double> queue, queue_to_first_token, first_token, inter_token, end_to_end, refusal, send_delay;
  for (const RequestSample& sample : samples) {
    if (!In(window, sample.scheduled)) continue;
    ++report.requests;
    send_delay.push_back(sample.sent - sample.scheduled);
    if (!sample.status.ok()) {
      CountFailure(sample, &report, &refusal);
      continue;
    }
    ++report.completed;
    queue.push_back(sample.queue_seconds);
    queue_to_first_token.push_back(sample.queue_to_first_token_seconds);
    if (sample.first_token.has_value()) first_token.push_back(*sample.first_token - sample.scheduled);
    end_to_end.push_back(sample.ended - sample.scheduled);
    AppendGaps(sample, &inter_token);
  }
  report.queue = ComputePercentiles(std::move(queue));
  report.queue_to_first_token = ComputePercentiles(std::move(queue_to_first_token));
  report.time_to_first_token = ComputePercentiles(std::move(first_token));
  report.inter_token = ComputePercentiles(std::move(inter_token));
  report.end_to_end = ComputePercentiles(std::move(end_to_end));
  report.refusal = ComputePercentiles(std::move(refusal));
  report.send_delay = ComputePercentiles(std::move(send_delay));
  return report;
}

std::string FormatLoadTable(const std::vector<LoadReport>& reports) {
  std::string table =
      "Times in milliseconds, p50 / p90 / p99.\n\n"
      "| load | requests/s | tokens/s | good/s | queue | queue to first token | time to first token | inter-token | "
      "end to end | completed | failed | refused | answer to refused |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const LoadReport& report : reports) {
    const std::string good =
        report.good_per_second.has_value() ? absl::StrFormat("%.4g", *report.good_per_second) : "–";
    absl::StrAppendFormat(
        &table, "| %s | %.4g | %.4g | %s | %s | %s | %s | %s | %s | %d | %d | %d | %s |\n", report.load,
        report.requests_per_second, report.tokens_per_second, good, Milliseconds(report.queue),
        Milliseconds(report.queue_to_first_token), Milliseconds(report.time_to_first_token),
        Milliseconds(report.inter_token), Milliseconds(report.end_to_end), report.completed,
        report.requests - report.completed - report.refused, report.refused, Milliseconds(report.refusal));
  }
  return table;
}

std::string FormatLoadJson(const std::vector<LoadReport>& reports) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const LoadReport& report : reports) {
    nlohmann::ordered_json one;
    one["load"] = report.load;
    one["window_seconds"] = report.window_seconds;
    one["requests"] = report.requests;
    one["completed"] = report.completed;
    one["refused"] = report.refused;
    one["failed_after_start"] = report.failed_after_start;
    one["codes"] = report.codes;
    one["errors"] = report.errors;
    one["requests_per_second"] = report.requests_per_second;
    one["tokens_per_second"] = report.tokens_per_second;
    one["good_per_second"] = nullptr;
    if (report.good_per_second.has_value()) one["good_per_second"] = *report.good_per_second;
    one["queue"] = ToJson(report.queue);
    one["queue_to_first_token"] = ToJson(report.queue_to_first_token);
    one["time_to_first_token"] = ToJson(report.time_to_first_token);
    one["inter_token"] = ToJson(report.inter_token);
    one["end_to_end"] = ToJson(report.end_to_end);
    one["refusal"] = ToJson(report.refusal);
    one["send_delay"] = ToJson(report.send_delay);
    all.push_back(std::move(one));
  }
  // Messages of servers are UTF-8, but nothing forces them to be.
  return all.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace nabla
