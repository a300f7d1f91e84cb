#include "engine/decode/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

namespace nabla {
namespace {

const std::vector<float> kLogits = {1.0f, 3.0f, 2.0f, 0.0f, 3.0f};

std::map<int32_t, double> Frequencies(const std::vector<float>& logits, const SamplingOptions& options, int draws) {
  RandomSource random(17);
  std::map<int32_t, double> counts;
  for (int i = 0; i < draws; ++i) counts[SampleToken(logits, options, random)] += 1.0 / draws;
  return counts;
}

TEST(SamplerTest, TemperatureZeroTakesTheFirstOfTheLargest) {
  RandomSource random(1);
  EXPECT_EQ(SampleToken(kLogits, {.temperature = 0}, random), 1);
}

TEST(SamplerTest, FrequenciesFollowTheTemperedSoftmax) {
  constexpr int kDraws = 40000;
  const auto counts = Frequencies(kLogits, {.temperature = 0.5}, kDraws);
  double sum = 0;
  for (const float logit : kLogits) sum += std::exp(logit / 0.5);
  for (int32_t token = 0; token < 5; ++token) {
    const double expected = std::exp(kLogits[token] / 0.5) / sum;
    const double deviation = std::sqrt(expected * (1 - expected) / kDraws);
    const double actual = counts.count(token) ? counts.at(token) : 0;
    EXPECT_NEAR(actual, expected, 5 * deviation) << token;
  }
}

TEST(SamplerTest, TopKKeepsTheLargestAndEqualsOfTheLast) {
  const auto two = Frequencies(kLogits, {.temperature = 1, .top_k = 2}, 2000);
  EXPECT_EQ(two.size(), 2u);
  EXPECT_TRUE(two.count(1) && two.count(4));
  const auto one = Frequencies(kLogits, {.temperature = 1, .top_k = 1}, 2000);
  EXPECT_EQ(one.size(), 2u) << "tokens 1 and 4 are equal";
}

TEST(SamplerTest, TopPKeepsTheSmallestSetThatReachesIt) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f), std::log(0.05f)};
  EXPECT_EQ(Frequencies(logits, {.temperature = 1, .top_p = 0.4}, 2000).size(), 1u);
  EXPECT_EQ(Frequencies(logits, {.temperature = 1, .top_p = 0.75}, 2000).size(), 2u);
  EXPECT_EQ(Frequencies(logits, {.temperature = 1, .top_p = 0.9}, 2000).size(), 3u);
  EXPECT_EQ(Frequencies(logits, {.temperature = 1, .top_p = 1.0}, 2000).size(), 4u);
}

// Many tokens, for which the sampler sorts piece by piece: the set is that of a full sort.
TEST(SamplerTest, TopPOfManyTokensIsThatOfAFullSort) {
  std::vector<float> logits;
  for (int i = 0; i < 5000; ++i) logits.push_back(static_cast<float>((i * 7919) % 1000) / 200.0f);  // with equals
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  double total = 0;
  for (const float logit : logits) total += std::exp(logit);
  for (const double top_p : {0.001, 0.05, 0.3, 0.9}) {
    std::set<int32_t> wanted;
    double sum = 0;
    for (size_t i = 0; sum < top_p * total; ++i) sum += std::exp(logits[order[i]]), wanted.insert(order[i]);
    std::set<int32_t> drawn;
    RandomSource random(3);
    for (int i = 0; i < 3000; ++i) drawn.insert(SampleToken(logits, {.temperature = 1, .top_p = top_p}, random));
    EXPECT_TRUE(std::includes(wanted.begin(), wanted.end(), drawn.begin(), drawn.end())) << top_p;
    EXPECT_GT(drawn.size(), std::min<size_t>(wanted.size() * 9 / 10, 500)) << top_p;
  }
}

TEST(SamplerTest, TheSameSeedDrawsTheSameTokens) {
  RandomSource a(5), b(5), c(6);
  std::vector<int32_t> from_a, from_b, from_c;
  for (int i = 0; i < 50; ++i) {
    from_a.push_back(SampleToken(kLogits, {.temperature = 1}, a));
    from_b.push_back(SampleToken(kLogits, {.temperature = 1}, b));
    from_c.push_back(SampleToken(kLogits, {.temperature = 1}, c));
  }
  EXPECT_EQ(from_a, from_b);
  EXPECT_NE(from_a, from_c);
}

TEST(SamplerTest, RandomNumbersAreTheSameOnEveryPlatform) {
  RandomSource random(42);  // mt19937_64 is fixed by the standard, and so are the 53 bits taken of it
  EXPECT_DOUBLE_EQ(random.Uniform(), 0.755155532954539);
}

}  // namespace
}  // namespace nabla
