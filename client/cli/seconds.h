// Durations of the API as numbers.
#ifndef NABLA_CLIENT_CLI_SECONDS_H_
#define NABLA_CLIENT_CLI_SECONDS_H_

#include <google/protobuf/duration.pb.h>

namespace nabla {

inline double ToSeconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + duration.nanos() * 1e-9;
}

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_SECONDS_H_
