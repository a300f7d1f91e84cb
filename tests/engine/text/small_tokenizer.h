// A byte-level tokenizer.json for tests: every byte has its own value as id, three merges ("ll", "he", "hell"), and the
// special token "<s>" with id 260.
//
//   nlohmann::json json = SmallTokenizerJson();
//   json["model"]["ignore_merges"] = true;
//   auto tokenizer = Tokenizer::FromJson(json.dump(), "t.json");
#ifndef NABLA_TESTS_ENGINE_TEXT_SMALL_TOKENIZER_H_
#define NABLA_TESTS_ENGINE_TEXT_SMALL_TOKENIZER_H_

#include <cstdint>
#include <string>

#include "engine/text/byte_alphabet.h"
#include "engine/text/utf8.h"
#include "nlohmann/json.hpp"

namespace nabla {

inline nlohmann::json SmallTokenizerJson() {
  nlohmann::json vocabulary;
  for (int byte = 0; byte < 256; ++byte) {
    std::string character;
    AppendUtf8(ByteToCharacter(static_cast<uint8_t>(byte)), character);
    vocabulary[character] = byte;
  }
  vocabulary["ll"] = 256;
  vocabulary["he"] = 257;
  vocabulary["hell"] = 258;
  nlohmann::json json;
  json["model"] = {{"type", "BPE"}, {"vocab", vocabulary}, {"ignore_merges", false}};
  json["model"]["merges"] = nlohmann::json::parse(R"([["l", "l"], ["h", "e"], ["he", "ll"]])");
  json["pre_tokenizer"] = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  json["decoder"] = {{"type", "ByteLevel"}};
  json["added_tokens"] = nlohmann::json::array({{{"id", 260}, {"content", "<s>"}, {"special", true}}});
  return json;
}

}  // namespace nabla

#endif  // NABLA_TESTS_ENGINE_TEXT_SMALL_TOKENIZER_H_
