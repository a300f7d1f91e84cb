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

}  // namespace nabla
