#include "engine/text/streaming_detokenizer.h"

#include <utility>

#include "absl/strings/string_view.h"
#include "engine/text/utf8.h"

namespace nabla {

StreamingDetokenizer::StreamingDetokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special_tokens)
    : tokenizer_(std::move(tokenizer)), skip_special_tokens_(skip_special_tokens) {}

std::string StreamingDetokenizer::Push(int32_t id) {
  if (skip_special_tokens_ && tokenizer_->IsSpecial(id)) return "";
  const absl::string_view bytes = tokenizer_->TokenBytes(id);
  pending_.append(bytes.data(), bytes.size());
  std::string text;
  pending_.erase(0, AppendUtf8Lossy(pending_, /*final=*/false, text));
  return text;
}

std::string StreamingDetokenizer::Flush() {
  std::string text;
  AppendUtf8Lossy(pending_, /*final=*/true, text);
  pending_.clear();
  return text;
}

}  // namespace nabla
