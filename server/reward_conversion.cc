#include "server/reward_conversion.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace nabla {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are sent as they lie in memory");

// The upper half of a float, rounded to nearest, ties to even.
uint16_t ToBfloat16(float number) {
  const auto bits = std::bit_cast<uint32_t>(number);
  if (std::isnan(number)) return static_cast<uint16_t>((bits >> 16) | 0x40);  // stays one though its payload is cut
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

}  // namespace

void PackFloats(absl::Span<const float> numbers, v1::ScoreGradientRequest::NumberType type, std::string* bytes) {
  if (type != v1::ScoreGradientRequest::BFLOAT16) {
    bytes->assign(reinterpret_cast<const char*>(numbers.data()), numbers.size() * sizeof(float));
    return;
  }
  bytes->resize(numbers.size() * sizeof(uint16_t));
  for (size_t i = 0; i < numbers.size(); ++i) {
    const uint16_t rounded = ToBfloat16(numbers[i]);
    std::memcpy(bytes->data() + i * sizeof(rounded), &rounded, sizeof(rounded));
  }
}

absl::StatusOr<std::vector<float>> UnpackFloats(absl::string_view bytes, v1::ScoreGradientRequest::NumberType type,
                                                size_t count) {
  const bool half = type == v1::ScoreGradientRequest::BFLOAT16;
  const size_t expected = count * (half ? sizeof(uint16_t) : sizeof(float));
  if (bytes.size() != expected) {
    return absl::InternalError(
        absl::StrCat("the reward service sent ", bytes.size(), " bytes of numbers where ", expected, " were expected"));
  }
  std::vector<float> numbers(count);
  if (!half) {
    std::memcpy(numbers.data(), bytes.data(), bytes.size());
    return numbers;
  }
  for (size_t i = 0; i < count; ++i) {
    uint16_t upper = 0;
    std::memcpy(&upper, bytes.data() + i * sizeof(upper), sizeof(upper));
    numbers[i] = std::bit_cast<float>(uint32_t{upper} << 16);
  }
  return numbers;
}

v1::Conversation ToProto(absl::Span<const ChatMessage> messages, int max_response_tokens) {
  v1::Conversation conversation;
  for (const ChatMessage& message : messages) {
    v1::Message* const added = conversation.add_messages();
    added->set_role(message.role);
    added->set_content(message.content);
  }
  conversation.set_max_response_tokens(static_cast<uint32_t>(max_response_tokens));
  return conversation;
}

std::vector<ChatMessage> FromProto(const v1::Conversation& conversation) {
  std::vector<ChatMessage> messages;
  messages.reserve(static_cast<size_t>(conversation.messages_size()));
  for (const v1::Message& message : conversation.messages()) messages.push_back({message.role(), message.content()});
  return messages;
}

void SetTokenIds(absl::Span<const int32_t> ids, v1::Response* response) {
  response->mutable_token_ids()->Assign(ids.begin(), ids.end());
}

std::vector<int32_t> TokenIds(const v1::Response& response) {
  return std::vector<int32_t>(response.token_ids().begin(), response.token_ids().end());
}

v1::ModelWork ToProto(const ModelWork& work) {
  v1::ModelWork message;
  message.set_forward_passes(static_cast<uint64_t>(work.forward_passes));
  message.set_forward_tokens(static_cast<uint64_t>(work.forward_tokens));
  message.set_backward_passes(static_cast<uint64_t>(work.backward_passes));
  message.set_backward_tokens(static_cast<uint64_t>(work.backward_tokens));
  return message;
}

void AddWork(const v1::ModelWork& work, ModelWork* sum) {
  sum->forward_passes += static_cast<int64_t>(work.forward_passes());
  sum->forward_tokens += static_cast<int64_t>(work.forward_tokens());
  sum->backward_passes += static_cast<int64_t>(work.backward_passes());
  sum->backward_tokens += static_cast<int64_t>(work.backward_tokens());
}

}  // namespace nabla
