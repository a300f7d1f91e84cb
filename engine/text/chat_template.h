// A model's chat template: Jinja, as transformers' apply_chat_template renders it (trim_blocks, lstrip_blocks, loop
// controls, raise_exception, strftime_now, and tojson without HTML escapes).
//
// Immutable and thread-safe; copies share the parsed template. Render only computes. A rendering is limited to two
// million steps and 256 MiB, so no template runs away.
//
//   NABLA_ASSIGN_OR_RETURN(ChatTemplate chat_template, ChatTemplate::Create(source, "<s>", "</s>"));
//   NABLA_ASSIGN_OR_RETURN(std::string prompt, chat_template.Render(messages, /*add_generation_prompt=*/true));
#ifndef NABLA_ENGINE_TEXT_CHAT_TEMPLATE_H_
#define NABLA_ENGINE_TEXT_CHAT_TEMPLATE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/text/chat_message.h"

namespace nabla {

class ChatTemplate {
 public:
  // `bos_token` and `eos_token` are "" where the model has none. A template that cannot be parsed is InvalidArgument,
  // "chat template, line N: expected ..., found ...".
  static absl::StatusOr<ChatTemplate> Create(const std::string& source, const std::string& bos_token,
                                             const std::string& eos_token);

  // InvalidArgument where the template fails: with the text of raise_exception alone if it called that (the
  // conversation is at fault), else with "chat template, line N: ..." (the template is).
  absl::StatusOr<std::string> Render(absl::Span<const ChatMessage> messages, bool add_generation_prompt) const;

 private:
  struct Parsed;

  std::shared_ptr<const Parsed> parsed_;
  std::string bos_token_;
  std::string eos_token_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_CHAT_TEMPLATE_H_
