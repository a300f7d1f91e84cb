// What both ends of nabla.v1.RewardModel do to their messages.
//
//   PackFloats(gradient, v1::ScoreGradientRequest::BFLOAT16, response->mutable_input_gradient());
//   NABLA_ASSIGN_OR_RETURN(std::vector<float> gradient, UnpackFloats(bytes, v1::ScoreGradientRequest::BFLOAT16, 64));
//
// Pure functions; thread-safe.
#ifndef NABLA_SERVER_REWARD_CONVERSION_H_
#define NABLA_SERVER_REWARD_CONVERSION_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/base/event.h"
#include "engine/text/chat_message.h"
#include "nabla/v1/reasoner.pb.h"
#include "nabla/v1/reward.pb.h"

namespace nabla {

void PackFloats(absl::Span<const float> numbers, v1::ScoreGradientRequest::NumberType type, std::string* bytes);

// INTERNAL where the bytes are not `count` numbers.
absl::StatusOr<std::vector<float>> UnpackFloats(absl::string_view bytes, v1::ScoreGradientRequest::NumberType type,
                                                size_t count);

v1::Conversation ToProto(absl::Span<const ChatMessage> messages, int max_response_tokens);
std::vector<ChatMessage> FromProto(const v1::Conversation& conversation);

void SetTokenIds(absl::Span<const int32_t> ids, v1::Response* response);
std::vector<int32_t> TokenIds(const v1::Response& response);

v1::ModelWork ToProto(const ModelWork& work);
void AddWork(const v1::ModelWork& work, ModelWork* sum);

}  // namespace nabla

#endif  // NABLA_SERVER_REWARD_CONVERSION_H_
