// The text side of a Hugging Face model folder: tokenizer and chat template.
//
//   NABLA_ASSIGN_OR_RETURN(ModelText text, LoadModelText("models/writer"));
//   text.chat_template->Render({{"user", "Hi"}}, /*add_generation_prompt=*/true);
#ifndef NABLA_ENGINE_MODEL_MODEL_FOLDER_H_
#define NABLA_ENGINE_MODEL_MODEL_FOLDER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/text/tokenizer.h"

namespace nabla {

class ChatTemplate;

struct ModelText {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::shared_ptr<const ChatTemplate> chat_template;  // null where the folder has none
};

// Reads tokenizer.json, tokenizer_config.json and chat_template.jinja (or the template inside tokenizer_config.json).
absl::StatusOr<ModelText> LoadModelText(const std::string& folder);

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_MODEL_FOLDER_H_
