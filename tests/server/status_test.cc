#include "server/status.h"

#include <grpcpp/support/error_details.h>
#include <gtest/gtest.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace nabla {
namespace {

google::rpc::Status Rich(const grpc::Status& status) {
  google::rpc::Status rich;
  EXPECT_TRUE(grpc::ExtractErrorDetails(status, &rich).ok());
  return rich;
}

TEST(StatusTest, OkStaysOk) { EXPECT_TRUE(ToGrpcStatus(absl::OkStatus()).ok()); }

TEST(StatusTest, BadRequestNamesTheField) {
  for (const auto& [status, code] :
       {std::pair(absl::InvalidArgumentError("nabla.refinement.iterations: must be at most 1000, got 2000"),
                  grpc::StatusCode::INVALID_ARGUMENT),
        std::pair(absl::OutOfRangeError("messages[0].content: has 9 tokens, the model takes 8"),
                  grpc::StatusCode::OUT_OF_RANGE)}) {
    const grpc::Status converted = ToGrpcStatus(status);
    EXPECT_EQ(converted.error_code(), code);
    EXPECT_EQ(converted.error_message(), std::string(status.message()));
    const google::rpc::Status rich = Rich(converted);
    EXPECT_EQ(rich.code(), static_cast<int>(code));
    EXPECT_EQ(rich.message(), std::string(status.message()));
    ASSERT_EQ(rich.details_size(), 1);
    google::rpc::BadRequest bad_request;
    ASSERT_TRUE(rich.details(0).UnpackTo(&bad_request));
    ASSERT_EQ(bad_request.field_violations_size(), 1);
    EXPECT_EQ(bad_request.field_violations(0).field() + ": " + bad_request.field_violations(0).description(),
              std::string(status.message()));
  }
}

TEST(StatusTest, AMessageWithoutAFieldHasNoDetails) {
  const grpc::Status converted = ToGrpcStatus(absl::InvalidArgumentError("the request is wrong: all of it"));
  EXPECT_EQ(converted.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(converted.error_details(), "");
}

TEST(StatusTest, RetryInfoSaysWhenToComeBack) {
  for (const absl::Status& status : {absl::ResourceExhaustedError("queue full"), absl::UnavailableError("draining")}) {
    const google::rpc::Status rich = Rich(ToGrpcStatus(status));
    ASSERT_EQ(rich.details_size(), 1);
    google::rpc::RetryInfo retry_info;
    ASSERT_TRUE(rich.details(0).UnpackTo(&retry_info));
    EXPECT_EQ(retry_info.retry_delay().seconds(), 1);
  }
}

TEST(StatusTest, ADelayOfItsOwnIsRoundedUp) {
  const absl::Status status =
      WithRetryDelay(absl::ResourceExhaustedError("queue full"), absl::Milliseconds(2500) + absl::Nanoseconds(1));
  google::rpc::RetryInfo retry_info;
  ASSERT_TRUE(Rich(ToGrpcStatus(status)).details(0).UnpackTo(&retry_info));
  EXPECT_EQ(retry_info.retry_delay().seconds(), 2);
  EXPECT_EQ(retry_info.retry_delay().nanos(), 501'000'000);
}

TEST(StatusTest, OtherCodesPassThrough) {
  const grpc::Status converted = ToGrpcStatus(absl::DeadlineExceededError("too late"));
  EXPECT_EQ(converted.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(converted.error_message(), "too late");
  EXPECT_EQ(converted.error_details(), "");
}

}  // namespace
}  // namespace nabla
