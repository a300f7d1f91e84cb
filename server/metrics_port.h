// The port that Prometheus scrapes.
//
//   NABLA_ASSIGN_OR_RETURN(std::unique_ptr<prometheus::Exposer> exposer, OpenMetricsPort("127.0.0.1", 9464));
//   exposer->RegisterCollectable(metrics.registry());
#ifndef NABLA_SERVER_METRICS_PORT_H_
#define NABLA_SERVER_METRICS_PORT_H_

#include <prometheus/exposer.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace nabla {

// Serves http://host:port/metrics until the exposer goes; port 0 is any free one. UNAVAILABLE as CannotListen, naming
// --metrics_port.
absl::StatusOr<std::unique_ptr<prometheus::Exposer>> OpenMetricsPort(const std::string& host, int port);

}  // namespace nabla

#endif  // NABLA_SERVER_METRICS_PORT_H_
