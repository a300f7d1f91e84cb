#include "server/log.h"

#include <gtest/gtest.h>

#include "server/request_record.h"

namespace nabla {
namespace {

const absl::Time kNow = absl::FromUnixMillis(1767225600123);

std::string FormatRecord(const RequestRecord& record, LogFormat format = LogFormat::kLogfmt) {
  return ToLogEvent(record).Format(format, kNow);
}

TEST(LogTest, AFinishedRequestIsOneLine) {
  RequestRecord record = {.request_id = "r1",
                          .trace_id = "4bf92f3577b34da6a3ce929d0e0e4736",
                          .client = "alice",
                          .strategy = "nabla",
                          .admitted = true,
                          .duration = absl::Milliseconds(2500)};
  record.result = ReasonResult{};
  record.result->usage = {.prompt_tokens = 3, .completion_tokens = 4, .rollouts = 5, .model_calls = 6};
  record.result->usage.queue_time = absl::Milliseconds(1);
  EXPECT_EQ(
      FormatRecord(record),
      "time=2026-01-01T00:00:00.123Z level=info event=request_finished request_id=r1 "
      "trace_id=4bf92f3577b34da6a3ce929d0e0e4736 client=alice strategy=nabla code=OK "
      "duration_seconds=2.500000 prompt_tokens=3 completion_tokens=4 rollouts=5 model_calls=6 queue_seconds=0.001000 "
      "time_to_first_token_seconds=0.000000 refine_seconds=0.000000 reward_seconds=0.000000 total_seconds=0.000000");
}

TEST(LogTest, ValuesAreQuotedSoThatALineStaysALine) {
  const RequestRecord record = {.request_id = "r2", .status = absl::InvalidArgumentError("stop[0]: \"a\nb\" is wrong")};
  EXPECT_EQ(FormatRecord(record),
            "time=2026-01-01T00:00:00.123Z level=warning event=request_refused request_id=r2 strategy=\"\" "
            "code=INVALID_ARGUMENT message=\"stop[0]: \\\"a\\x0ab\\\" is wrong\" duration_seconds=0.000000");
}

TEST(LogTest, JsonKeepsNumbersNumbers) {
  const RequestRecord record = {.request_id = "r3", .status = absl::InvalidArgumentError("stop[0]: \"a\nb\" is wrong")};
  EXPECT_EQ(FormatRecord(record, LogFormat::kJson),
            R"({"time":"2026-01-01T00:00:00.123Z","level":"warning","event":"request_refused","request_id":"r3",)"
            R"("strategy":"","code":"INVALID_ARGUMENT","message":"stop[0]: \"a\nb\" is wrong",)"
            R"("duration_seconds":0.000000})");
}

TEST(LogTest, JsonIsValidWhateverTheBytes) {
  EXPECT_EQ(LogEvent(LogLevel::kError, "e").Add("k", "\xff").Format(LogFormat::kJson, kNow),
            "{\"time\":\"2026-01-01T00:00:00.123Z\",\"level\":\"error\",\"event\":\"e\",\"k\":\"\xef\xbf\xbd\"}");
}

}  // namespace
}  // namespace nabla
