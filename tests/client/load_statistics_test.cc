#include "client/cli/load_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace nabla {
namespace {

using ::testing::HasSubstr;

// Due at `scheduled`, three tokens a quarter of a second apart from 0.5 s on, ended 1.5 s behind its due time.
RequestSample Completed(double scheduled) {
  return {.scheduled = scheduled,
          .sent = scheduled + 0.25,
          .first_event = scheduled + 0.375,
          .first_token = scheduled + 0.5,
          .arrivals = {{scheduled + 0.5, 1}, {scheduled + 1, 2}},
          .ended = scheduled + 1.5,
          .queue_seconds = 0.125,
          .queue_to_first_token_seconds = 0.25};
}

RequestSample Failed(double scheduled, absl::Status status, std::optional<double> first_event = std::nullopt) {
  return {.scheduled = scheduled,
          .sent = scheduled,
          .first_event = first_event,
          .ended = scheduled + 0.0625,
          .status = std::move(status)};
}

TEST(PercentilesTest, AreTheSmallestSampleThatSoManyDoNotExceed) {
  std::vector<double> samples;
  for (int i = 100; i >= 1; --i) samples.push_back(i);
  const Percentiles hundred = ComputePercentiles(samples);
  EXPECT_EQ(hundred.count, 100u);
  EXPECT_EQ(hundred.mean, 50.5);
  EXPECT_EQ(hundred.p50, 50);
  EXPECT_EQ(hundred.p90, 90);
  EXPECT_EQ(hundred.p99, 99);
  EXPECT_EQ(hundred.max, 100);
  const Percentiles three = ComputePercentiles({3, 1, 2});
  EXPECT_EQ(three.p50, 2);
  EXPECT_EQ(three.p90, 3);
  const Percentiles one = ComputePercentiles({7});
  EXPECT_EQ(one.p50, 7);
  EXPECT_EQ(one.p99, 7);
  EXPECT_EQ(ComputePercentiles({}).count, 0u);
  EXPECT_EQ(ComputePercentiles({}).max, 0);
}

TEST(SummarizeTest, LatencyCountsFromWhenARequestWasDue) {
  const LoadReport report = Summarize("rate 1/s", {Completed(2)}, {.begin = 2, .end = 10}, {});
  EXPECT_EQ(report.load, "rate 1/s");
  EXPECT_EQ(report.requests, 1u);
  EXPECT_EQ(report.completed, 1u);
  EXPECT_EQ(report.time_to_first_token.p50, 0.5);
  EXPECT_EQ(report.end_to_end.p50, 1.5);
  EXPECT_EQ(report.send_delay.p50, 0.25);
  EXPECT_EQ(report.queue.p50, 0.125);
  EXPECT_EQ(report.queue_to_first_token.p50, 0.25);
}

TEST(SummarizeTest, ABlockOfTokensSharesItsGapEvenly) {
  const LoadReport report = Summarize("x", {Completed(0)}, {.begin = 0, .end = 10}, {});
  EXPECT_EQ(report.inter_token.count, 2u);
  EXPECT_EQ(report.inter_token.max, 0.25);
}

TEST(SummarizeTest, RatesCountWhatArrivesInTheWindowAndPercentilesWhatIsDueInIt) {
  // The first is due in the warm-up and ends in the window, the last is due in the window and ends behind it.
  const LoadReport report =
      Summarize("x", {Completed(1), Completed(2), Completed(3)}, {.begin = 2, .end = 4}, {.end_to_end = 1.5});
  EXPECT_EQ(report.window_seconds, 2);
  EXPECT_EQ(report.requests, 2u);
  EXPECT_EQ(report.requests_per_second, 1);  // ended at 2.5, 3.5
  EXPECT_EQ(report.tokens_per_second, 3);    // at 2: 2, at 2.5: 1, at 3: 2, at 3.5: 1
  EXPECT_EQ(report.good_per_second, 1.0);
}

TEST(SummarizeTest, GoodRequestsMeetEveryLimitThatIsSet) {
  const auto good = [](const ServiceLevel& level) {
    return Summarize("x", {Completed(0), Failed(0, absl::InternalError("lost"))}, {.begin = 0, .end = 2}, level)
        .good_per_second;
  };
  EXPECT_EQ(good({}), std::nullopt);
  EXPECT_EQ(good({.time_to_first_token = 0.5, .inter_token = 0.25, .end_to_end = 1.5}), 0.5);
  EXPECT_EQ(good({.time_to_first_token = 0.4, .inter_token = 0.25, .end_to_end = 1.5}), 0);
  EXPECT_EQ(good({.inter_token = 0.24}), 0);
  EXPECT_EQ(good({.end_to_end = 1.4}), 0);
}

TEST(SummarizeTest, FailuresAreCountedByCodeAndNeverLeftOut) {
  const LoadReport report =
      Summarize("x",
                {Completed(0), Failed(0, absl::ResourceExhaustedError("full")),
                 Failed(1, absl::ResourceExhaustedError("out of memory"), 1.01),
                 Failed(1, absl::UnavailableError("lost"), 1.01), Failed(1, absl::UnavailableError("draining"))},
                {.begin = 0, .end = 2}, {});
  EXPECT_EQ(report.requests, 5u);
  EXPECT_EQ(report.completed, 1u);
  EXPECT_EQ(report.refused, 1u);
  EXPECT_EQ(report.failed_after_start, 2u);
  EXPECT_EQ(report.codes, (std::map<std::string, size_t>{{"RESOURCE_EXHAUSTED", 2}, {"UNAVAILABLE", 2}}));
  EXPECT_EQ(report.errors.at("lost (UNAVAILABLE)"), 1u);
  EXPECT_EQ(report.refusal.count, 1u);
  EXPECT_EQ(report.refusal.p99, 0.0625);
  EXPECT_EQ(report.end_to_end.count, 1u);
}

TEST(LoadReportTest, TheTableIsInMilliseconds) {
  const LoadReport report = Summarize("concurrency 4", {Completed(0), Failed(0, absl::ResourceExhaustedError("full"))},
                                      {.begin = 0, .end = 2}, {});
  EXPECT_THAT(FormatLoadTable({report}),
              HasSubstr("| concurrency 4 | 0.5 | 1.5 | – | 125 / 125 / 125 | 250 / 250 / 250 | 500 / 500 / 500 | "
                        "250 / 250 / 250 | 1500 / 1500 / 1500 | 1 | 0 | 1 | 62.5 / 62.5 / 62.5 |\n"));
}

TEST(LoadReportTest, TheJsonHoldsEveryFigure) {
  const auto json = nlohmann::json::parse(
      FormatLoadJson({Summarize("rate 2/s", {Completed(0), Failed(0, absl::InternalError("not \xff UTF-8"))},
                                {.begin = 0, .end = 2}, {.time_to_first_token = 1})}));
  ASSERT_EQ(json.size(), 1u);
  EXPECT_EQ(json[0]["load"], "rate 2/s");
  EXPECT_EQ(json[0]["completed"], 1);
  EXPECT_EQ(json[0]["codes"]["INTERNAL"], 1);
  EXPECT_EQ(json[0]["good_per_second"], 0.5);
  EXPECT_EQ(json[0]["end_to_end"]["p99"], 1.5);
  EXPECT_EQ(json[0]["inter_token"]["count"], 2);
}

}  // namespace
}  // namespace nabla
