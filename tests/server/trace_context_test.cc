#include "server/trace_context.h"

#include <gtest/gtest.h>

namespace nabla {
namespace {

TEST(TraceContextTest, AValidHeaderIsRead) {
  const std::string header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const std::optional<TraceContext> trace = ParseTraceparent(header);
  ASSERT_TRUE(trace.has_value());
  EXPECT_EQ(trace->trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(trace->parent_id, "00f067aa0ba902b7");
  EXPECT_EQ(trace->flags, "01");
  EXPECT_EQ(FormatTraceparent(*trace), header);
}

TEST(TraceContextTest, ANewSpanIsOfTheSameTrace) {
  const TraceContext trace = {
      .trace_id = "4bf92f3577b34da6a3ce929d0e0e4736", .parent_id = "00f067aa0ba902b7", .flags = "01"};
  const TraceContext first = NewSpan(trace), second = NewSpan(trace);
  for (const TraceContext& span : {first, second}) {
    EXPECT_EQ(span.trace_id, trace.trace_id);
    EXPECT_EQ(span.flags, trace.flags);
    EXPECT_NE(span.parent_id, trace.parent_id);
    EXPECT_TRUE(ParseTraceparent(FormatTraceparent(span)).has_value());
  }
  EXPECT_NE(first.parent_id, second.parent_id);
}

TEST(TraceContextTest, ALaterVersionMayGoOn) {
  EXPECT_TRUE(ParseTraceparent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-will-be").has_value());
  EXPECT_FALSE(ParseTraceparent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what-will-be").has_value());
}

TEST(TraceContextTest, InvalidHeadersAreIgnored) {
  for (const char* header : {"", "00", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
                             "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
                             "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                             "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
                             "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
                             "00-4bf92f3577b34da6a3ce929d0e0e473x-00f067aa0ba902b7-01",
                             "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
                             "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
                             "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}) {
    EXPECT_FALSE(ParseTraceparent(header).has_value()) << header;
  }
}

}  // namespace
}  // namespace nabla
