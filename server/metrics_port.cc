#include "server/metrics_port.h"

#include <exception>

#include "server/listener.h"

namespace nabla {

absl::StatusOr<std::unique_ptr<prometheus::Exposer>> OpenMetricsPort(const std::string& host, int port) {
  const std::string address = HostPort(host, port);
  try {
    return std::make_unique<prometheus::Exposer>(address);
  } catch (const std::exception&) {
    return CannotListen(address, "--metrics_port");
  }
}

prometheus::Gauge* AddServerGauges(const std::string& version, prometheus::Registry* registry) {
  prometheus::BuildGauge()
      .Name("nabla_build_info")
      .Help("Always 1; the version is the label.")
      .Register(*registry)
      .Add({{"version", version}})
      .Set(1);
  return &prometheus::BuildGauge()
              .Name("nabla_ready")
              .Help("1: takes calls; 0: loads, drains, or has nothing left that makes progress.")
              .Register(*registry)
              .Add({});
}

}  // namespace nabla
