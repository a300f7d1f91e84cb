// Translates between the API's messages and the engine's plain structs; nothing else in the server looks inside them.
//
//   NABLA_ASSIGN_OR_RETURN(ReasonRequest request, FromProto(message, {.has_reward_model = true, .drawn_seed = 7}));
//   v1::ReasonEvent event = ToProto(std::move(engine_event), request_id);
//
// Pure functions; thread-safe.
#ifndef NABLA_SERVER_CONVERSION_H_
#define NABLA_SERVER_CONVERSION_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/base/event.h"
#include "engine/base/request.h"
#include "engine/pool/engine_pool.h"
#include "nabla/v1/reasoner.pb.h"

namespace nabla {

struct ConversionOptions {
  bool has_reward_model = false;    // decides the strategy of requests that name none
  int max_new_tokens_limit = 4096;  // also caps the default of 256
  int max_rollouts_limit = 1024;    // also caps the default of 8
  uint64_t drawn_seed = 0;          // for requests that name none
};

// A request that Validate() accepts and that keeps the server's limits, or INVALID_ARGUMENT "field.path: what is
// wrong".
absl::StatusOr<ReasonRequest> FromProto(const v1::ReasonRequest& message, const ConversionOptions& options);

// Models, strategies and load; the rest is the service's to fill in.
v1::GetInfoResponse DescribePool(const EnginePool& pool);

// `request_id` goes into Started; the sequence number is left to the writer.
v1::ReasonEvent ToProto(Event event, const std::string& request_id);
v1::Finished ToProto(const ReasonResult& result);
v1::ModelInfo ToProto(const ModelInfo& info);

}  // namespace nabla

#endif  // NABLA_SERVER_CONVERSION_H_
