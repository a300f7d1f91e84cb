// The port that Prometheus scrapes, and what it finds at every server of ours.
//
//   prometheus::Gauge* const ready = AddServerGauges("0.1.0", registry.get());
//   NABLA_ASSIGN_OR_RETURN(std::unique_ptr<prometheus::Exposer> exposer, OpenMetricsPort("127.0.0.1", 9464));
//   exposer->RegisterCollectable(registry);
//   ready->Set(1);
#ifndef NABLA_SERVER_METRICS_PORT_H_
#define NABLA_SERVER_METRICS_PORT_H_

#include <prometheus/exposer.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace nabla {

// Serves http://host:port/metrics until the exposer goes; port 0 is any free one. UNAVAILABLE as CannotListen, naming
// --metrics_port.
absl::StatusOr<std::unique_ptr<prometheus::Exposer>> OpenMetricsPort(const std::string& host, int port);

// nabla_build_info with that version, and nabla_ready, which is returned: 0 until it is set. Lives as long as
// `registry`.
prometheus::Gauge* AddServerGauges(const std::string& version, prometheus::Registry* registry);

}  // namespace nabla

#endif  // NABLA_SERVER_METRICS_PORT_H_
