// Sends requests to a server as a load test wants them and records what comes back.
//
//   LoadResult result = RunLoad({.rate = 5.0, .warm_up = absl::Seconds(2), .duration = absl::Seconds(10)},
//                               [&](uint64_t index) { return requests[index % requests.size()]; }, client, {},
//                               progress);
//
// Closed loop: `concurrency` callers, each of whom sends its next request when its last one has ended. Open loop:
// requests come at random (Poisson) at `rate` whatever the server does, and a request's latency counts from the moment
// it was due: a server that stalls cannot hide it by stalling the sender. RunLoad blocks until every request has ended;
// a request in flight costs no thread.
#ifndef NABLA_CLIENT_CLI_LOAD_GENERATOR_H_
#define NABLA_CLIENT_CLI_LOAD_GENERATOR_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "absl/time/time.h"
#include "client/async_reasoner_client.h"
#include "client/cli/load_statistics.h"
#include "nabla/v1/reasoner.pb.h"

namespace nabla {

struct Load {
  std::optional<double> rate;                   // open loop, requests a second; unset: closed loop
  uint32_t concurrency = 1;                     // closed loop
  absl::Duration warm_up;                       // the same load, not measured
  absl::Duration duration = absl::Seconds(10);  // measured; ignored where `requests` is set
  uint64_t requests = 0;                        // measured requests; 0: as many as `duration` sees
  uint64_t seed = 1;                            // of the arrivals
};

struct LoadProgress {
  double seconds = 0;
  size_t ended = 0;
  size_t failed = 0;
  size_t open = 0;
};

struct LoadResult {
  std::vector<RequestSample> samples;  // warm-up included, in the order of their end
  MeasuredWindow window;
};

struct LoadCallOptions {
  absl::Duration timeout = absl::InfiniteDuration();  // of one request, from its sending; given to the server, too
  CancelHandle* cancel = nullptr;                     // not owned; ends the run early
};

// `request` is asked for the index-th request, on one thread; `progress` (may be empty) is called a few times a second.
LoadResult RunLoad(const Load& load, const std::function<v1::ReasonRequest(uint64_t index)>& request,
                   AsyncReasonerClient* client, const LoadCallOptions& options,
                   const std::function<void(const LoadProgress&)>& progress);

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_LOAD_GENERATOR_H_
