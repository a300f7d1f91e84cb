#include "server/reward_address.h"

#include <arpa/inet.h>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace nabla {
namespace {

enum class HostKind { kIpv4, kIpv6, kName };

HostKind KindOf(const std::string& host) {
  in6_addr ignored;
  if (inet_pton(AF_INET, host.c_str(), &ignored) == 1) return HostKind::kIpv4;
  return inet_pton(AF_INET6, host.c_str(), &ignored) == 1 ? HostKind::kIpv6 : HostKind::kName;
}

absl::Status Wrong(absl::string_view address, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("--reward_address: ", what, ", got \"", address, "\""));
}

// Splits HOST:PORT and takes the brackets off an IPv6 address; false where it is none.
bool ParseHost(absl::string_view replica, std::string* host) {
  const size_t colon = replica.rfind(':');
  int port = 0;
  if (colon == absl::string_view::npos || !absl::SimpleAtoi(replica.substr(colon + 1), &port)) return false;
  absl::string_view name = replica.substr(0, colon);
  const bool brackets = absl::StartsWith(name, "[") && absl::EndsWith(name, "]");
  if (brackets) name = name.substr(1, name.size() - 2);
  *host = std::string(name);
  return !name.empty() && brackets == (KindOf(*host) == HostKind::kIpv6) &&
         (brackets || !absl::StrContains(name, ":")) && port >= 1 && port <= 65535;
}

}  // namespace

absl::StatusOr<RewardAddress> ParseRewardAddress(const std::string& address) {
  const std::vector<std::string> replicas = absl::StrSplit(address, ',');
  RewardAddress parsed;
  HostKind first = HostKind::kName;
  for (const std::string& replica : replicas) {
    std::string host;
    if (!ParseHost(replica, &host)) {
      return Wrong(address, "must be host:port, or a list of them with commas between; IPv6 hosts take brackets");
    }
    const HostKind kind = KindOf(host);
    if (parsed.hosts.empty()) first = kind;
    if (kind == HostKind::kName && replicas.size() > 1) {
      return Wrong(address, "a list takes IP addresses; for names, give the one name that stands for all replicas");
    }
    if (kind != first) return Wrong(address, "a list takes IPv4 or IPv6 addresses, not both");
    parsed.hosts.push_back(host);
  }
  const char* const scheme = first == HostKind::kIpv4 ? "ipv4:" : first == HostKind::kIpv6 ? "ipv6:" : "dns:///";
  parsed.target = absl::StrCat(scheme, address);
  return parsed;
}

}  // namespace nabla
