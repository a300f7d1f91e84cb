// What a load test measured, from the samples of its requests: rates, percentiles, goodput, failures.
//
//   LoadReport report = Summarize("concurrency 16", samples, {.begin = 2, .end = 12}, {.time_to_first_token = 0.5});
//   std::cout << FormatLoadTable({report});
//
// Times are seconds since the level's start. Percentiles are exact: the smallest sample that at least so many percent
// do not exceed. Pure functions; thread-safe.
#ifndef NABLA_CLIENT_CLI_LOAD_STATISTICS_H_
#define NABLA_CLIENT_CLI_LOAD_STATISTICS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace nabla {

struct TokenArrival {
  double at = 0;  // seconds
  uint32_t tokens = 0;
};

// One request as its sender saw it.
struct RequestSample {
  double scheduled = 0;  // when it was due; latencies count from here, whether or not the sender kept up
  double sent = 0;
  std::optional<double> first_event;   // Started: the request has left the queue
  std::optional<double> first_token;   // the first draft or committed token
  std::vector<TokenArrival> arrivals;  // of committed tokens
  double ended = 0;
  absl::Status status;
  double queue_seconds = 0;                 // as the server counts it; of requests that ended OK
  double queue_to_first_token_seconds = 0;  // from leaving the queue, as the server counts it; of those, too
};

// What is measured: rates count what arrives in [begin, end), everything else is about the requests due in it.
struct MeasuredWindow {
  double begin = 0;
  double end = 0;
};

// A request is good if it ends OK within all limits that are set. Seconds.
struct ServiceLevel {
  std::optional<double> time_to_first_token;
  std::optional<double> inter_token;  // mean over the request
  std::optional<double> end_to_end;

  bool is_set() const { return time_to_first_token.has_value() || inter_token.has_value() || end_to_end.has_value(); }
};

struct Percentiles {
  size_t count = 0;
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
  double max = 0;
};

// All zero if `samples` is empty.
Percentiles ComputePercentiles(std::vector<double> samples);

nlohmann::ordered_json ToJson(const Percentiles& percentiles);

struct LoadReport {
  std::string load;  // "concurrency 16" or "rate 2.5/s"
  double window_seconds = 0;
  size_t requests = 0;  // due in the window: completed + failed
  size_t completed = 0;
  size_t refused = 0;                     // of the failed: RESOURCE_EXHAUSTED before any event
  size_t failed_after_start = 0;          // of the failed: behind their first event
  std::map<std::string, size_t> codes;    // of the failed, by name of the code
  std::map<std::string, size_t> errors;   // of the failed, by message and code
  double requests_per_second = 0;         // completed in the window
  double tokens_per_second = 0;           // committed tokens that arrived in it
  std::optional<double> good_per_second;  // completed in it within the service level, where one is set
  Percentiles queue;                      // seconds
  Percentiles queue_to_first_token;
  Percentiles time_to_first_token;  // from when it was due
  Percentiles inter_token;          // a block of tokens shares its gap evenly
  Percentiles end_to_end;           // from when it was due
  Percentiles refusal;              // from sending to the refusal
  Percentiles send_delay;           // how late the sender was
};

LoadReport Summarize(const std::string& load, const std::vector<RequestSample>& samples, const MeasuredWindow& window,
                     const ServiceLevel& service_level);

// A Markdown table, one row a report; times in milliseconds.
std::string FormatLoadTable(const std::vector<LoadReport>& reports);

// A JSON array of the reports; times in seconds, names as in LoadReport.
std::string FormatLoadJson(const std::vector<LoadReport>& reports);

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_LOAD_STATISTICS_H_
