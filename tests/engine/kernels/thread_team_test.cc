#include "engine/kernels/thread_team.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace nabla {
namespace {

TEST(ThreadCountTest, IsAsToldOrACoreForEveryFewMillionParameters) {
  const int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  EXPECT_EQ(ThreadCount(3, 1), 3);
  EXPECT_EQ(ThreadCount(0, 2'000'000), 1);
  EXPECT_EQ(ThreadCount(0, 7'000'000), std::min(2, cores));
  EXPECT_EQ(ThreadCount(0, int64_t{1} << 40), cores);
}

TEST(ThreadTeamTest, EveryIndexIsVisitedOnce) {
  ThreadTeam team(4);
  for (const int64_t count : {0, 1, 3, 4, 5, 1000}) {
    std::vector<std::atomic<int>> visits(count);
    for (int round = 0; round < 100; ++round) {
      team.ParallelFor(count, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++visits[i];
      });
    }
    for (const std::atomic<int>& visited : visits) EXPECT_EQ(visited, 100);
  }
}

TEST(ThreadTeamTest, SmallLoopsAndLoopsWithinLoopsStayOnTheirThread) {
  ThreadTeam team(4);
  int calls = 0;
  team.ParallelFor(100, 60, [&](int64_t begin, int64_t end) { calls += begin == 0 && end == 100; });
  EXPECT_EQ(calls, 1);
  std::atomic<int> inner{0};
  team.ParallelFor(4, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const std::thread::id outer = std::this_thread::get_id();
      team.ParallelFor(8, 1, [&](int64_t from, int64_t to) {
        inner += static_cast<int>(to - from) * (std::this_thread::get_id() == outer);
      });
    }
  });
  EXPECT_EQ(inner, 32);
}

TEST(ThreadTeamTest, TwoCallersDoNotDisturbEachOther) {
  ThreadTeam team(3);
  std::atomic<int64_t> total{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 3; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < 500; ++round) {
        team.ParallelFor(30, 1, [&](int64_t begin, int64_t end) { total += end - begin; });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(total, 3 * 500 * 30);
}

}  // namespace
}  // namespace nabla
