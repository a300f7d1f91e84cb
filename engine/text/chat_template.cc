#include "engine/text/chat_template.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/text/jinja/evaluator.h"
#include "engine/text/jinja/parser.h"
#include "engine/text/jinja/syntax_tree.h"
#include "engine/text/jinja/value.h"

namespace nabla {

struct ChatTemplate::Parsed {
  jinja::Body body;
};

absl::StatusOr<ChatTemplate> ChatTemplate::Create(const std::string& source, const std::string& bos_token,
                                                  const std::string& eos_token) {
  absl::StatusOr<jinja::Body> body = jinja::ParseTemplate(source);
  if (!body.ok()) return absl::InvalidArgumentError(absl::StrCat("chat template, ", body.status().message()));
  ChatTemplate chat_template;
  chat_template.parsed_ = std::make_shared<const Parsed>(Parsed{*std::move(body)});
  chat_template.bos_token_ = bos_token;
  chat_template.eos_token_ = eos_token;
  return chat_template;
}

absl::StatusOr<std::string> ChatTemplate::Render(absl::Span<const ChatMessage> messages,
                                                 bool add_generation_prompt) const {
  using jinja::Value;
  Value::Items turns;
  for (const ChatMessage& message : messages) {
    turns.push_back(Value::Dict({{Value("role"), Value(message.role)}, {Value("content"), Value(message.content)}}));
  }
  jinja::Evaluator evaluator;
  evaluator.Define("messages", Value::List(std::move(turns)));
  evaluator.Define("add_generation_prompt", Value(add_generation_prompt));
  evaluator.Define("bos_token", Value(bos_token_));
  evaluator.Define("eos_token", Value(eos_token_));
  // Templates tell "no tools" from None, which transformers passes.
  evaluator.Define("tools", Value());
  evaluator.Define("documents", Value());
  return evaluator.Render(parsed_->body);
}

}  // namespace nabla
