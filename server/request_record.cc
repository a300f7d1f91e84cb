#include "server/request_record.h"

namespace nabla {

LogEvent ToLogEvent(const RequestRecord& record) {
  const bool expected = record.status.ok() || absl::IsCancelled(record.status);
  LogEvent event(expected ? LogLevel::kInfo : LogLevel::kWarning,
                 record.admitted ? "request_finished" : "request_refused");
  event.Add("request_id", record.request_id);
  if (!record.trace_id.empty()) event.Add("trace_id", record.trace_id);
  if (!record.client.empty()) event.Add("client", record.client);
  event.Add("strategy", record.strategy).Add("code", absl::StatusCodeToString(record.status.code()));
  if (!record.status.ok()) event.Add("message", record.status.message());
  event.AddSeconds("duration_seconds", record.duration);
  if (!record.result.has_value()) return event;
  const Usage& usage = record.result->usage;
  event.Add("prompt_tokens", usage.prompt_tokens)
      .Add("completion_tokens", usage.completion_tokens)
      .Add("rollouts", usage.rollouts)
      .Add("model_calls", usage.model_calls)
      .AddSeconds("queue_seconds", usage.queue_time)
      .AddSeconds("time_to_first_token_seconds", usage.time_to_first_token)
      .AddSeconds("refine_seconds", usage.refine_time)
      .AddSeconds("reward_seconds", usage.reward_time)
      .AddSeconds("total_seconds", usage.total_time);
  if (record.result->reward_lost) event.Add("reward_lost", "true");
  return event;
}

}  // namespace nabla
