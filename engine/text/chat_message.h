// One turn of a conversation, as chat templates and the API know it.
#ifndef NABLA_ENGINE_TEXT_CHAT_MESSAGE_H_
#define NABLA_ENGINE_TEXT_CHAT_MESSAGE_H_

#include <string>

namespace nabla {

struct ChatMessage {
  std::string role;     // "system", "user" or "assistant"
  std::string content;  // UTF-8
};

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_CHAT_MESSAGE_H_
