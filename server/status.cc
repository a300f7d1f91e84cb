#include "server/status.h"

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace nabla {
namespace {

constexpr absl::Duration kRetryDelay = absl::Seconds(1);
constexpr char kRetryDelayPayload[] = "nabla/retry_delay_ms";  // a decimal number

// "nabla.refinement.iterations" of "nabla.refinement.iterations: must be …"; empty where the message names no field.
absl::string_view FieldOf(absl::string_view message) {
  const size_t colon = message.find(": ");
  if (colon == absl::string_view::npos || colon == 0) return "";
  for (char c : message.substr(0, colon)) {
    if (!absl::ascii_isalnum(c) && c != '_' && c != '.' && c != '[' && c != ']') return "";
  }
  return message.substr(0, colon);
}

absl::Duration RetryDelay(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kRetryDelayPayload);
  int64_t milliseconds = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &milliseconds)) return kRetryDelay;
  return absl::Milliseconds(milliseconds);
}

}  // namespace

absl::Status WithRetryDelay(absl::Status status, absl::Duration delay) {
  const int64_t milliseconds = absl::ToInt64Milliseconds(absl::Ceil(delay, absl::Milliseconds(1)));
  status.SetPayload(kRetryDelayPayload, absl::Cord(absl::StrCat(milliseconds)));
  return status;
}

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.code());  // both number the canonical codes alike
  const std::string message(status.message());
  google::rpc::Status rich;
  rich.set_code(static_cast<int>(status.code()));
  rich.set_message(message);
  if (absl::IsInvalidArgument(status) || absl::IsOutOfRange(status)) {
    const absl::string_view field = FieldOf(status.message());
    if (!field.empty()) {
      google::rpc::BadRequest bad_request;
      auto* violation = bad_request.add_field_violations();
      violation->set_field(std::string(field));
      violation->set_description(message.substr(field.size() + 2));
      rich.add_details()->PackFrom(bad_request);
    }
  } else if (absl::IsResourceExhausted(status) || absl::IsUnavailable(status)) {
    google::rpc::RetryInfo retry_info;
    absl::Duration rest;
    retry_info.mutable_retry_delay()->set_seconds(absl::IDivDuration(RetryDelay(status), absl::Seconds(1), &rest));
    retry_info.mutable_retry_delay()->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(rest)));
    rich.add_details()->PackFrom(retry_info);
  }
  if (rich.details_size() == 0) return grpc::Status(code, message);
  return grpc::Status(code, message, rich.SerializeAsString());
}

}  // namespace nabla
