#include "engine/model/model_config.h"

#include <gtest/gtest.h>

#include "tests/engine/test_models.h"

namespace nabla {
namespace {

std::string ErrorAfter(const FolderCopy& folder, const std::string& from, const std::string& to) {
  folder.Replace("config.json", from, to);
  return std::string(ModelConfig::Load(folder.path()).status().message());
}

TEST(ModelConfigTest, ReadsEveryFieldOfAModelFolder) {
  const auto config = ModelConfig::Load(LanguageModelFolder());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->family, ModelConfig::Family::kQwen3);
  EXPECT_FALSE(config->sequence_classifier);
  EXPECT_EQ(config->vocabulary_size, 403);
  EXPECT_EQ(config->hidden_size, 64);
  EXPECT_EQ(config->head_dim, 32);
  EXPECT_EQ(config->num_key_value_heads, 2);
  EXPECT_EQ(config->rope_theta, 1000000.0);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_EQ(config->eos_token_ids, std::vector<int32_t>{2});
}

TEST(ModelConfigTest, ReadsRopeScalingInBothSpellings) {
  const auto nested = ModelConfig::Load("tests/golden/llama3-rope/lm");
  ASSERT_TRUE(nested.ok()) << nested.status();
  ASSERT_TRUE(nested->rope_scaling.has_value());
  EXPECT_EQ(nested->rope_theta, 500000.0);
  EXPECT_EQ(nested->rope_scaling->original_max_position_embeddings, 64);

  const FolderCopy folder("tests/golden/llama3-rope/lm");
  folder.Replace("config.json", "\"rope_parameters\"", "\"rope_theta\": 1234.0, \"rope_scaling\"");
  const auto flat = ModelConfig::Load(folder.path());
  ASSERT_TRUE(flat.ok()) << flat.status();
  EXPECT_EQ(flat->rope_theta, 1234.0);
  EXPECT_EQ(flat->rope_scaling->factor, nested->rope_scaling->factor);
}

TEST(ModelConfigTest, NamesTheFileFieldAndValueOfWhatIsUnsupported) {
  const FolderCopy architecture(LanguageModelFolder());
  EXPECT_EQ(ErrorAfter(architecture, "Qwen3ForCausalLM", "MambaForCausalLM"),
            architecture.File("config.json") +
                ": architectures is [\"MambaForCausalLM\"]; expected LlamaForCausalLM, Qwen2ForCausalLM, "
                "Qwen3ForCausalLM or one of their "
                "…ForSequenceClassification");
}

TEST(ModelConfigTest, RefusesWhatWouldGiveWrongNumbers) {
  const FolderCopy activation(LanguageModelFolder());
  EXPECT_EQ(ErrorAfter(activation, "\"silu\"", "\"gelu\""),
            activation.File("config.json") + ": hidden_act is \"gelu\"; expected \"silu\"");
  const FolderCopy sliding(LanguageModelFolder());
  EXPECT_EQ(ErrorAfter(sliding, "\"use_sliding_window\": false", "\"use_sliding_window\": true"),
            sliding.File("config.json") +
                ": use_sliding_window is true; expected false (sliding-window attention is not supported)");
  const FolderCopy rope(LanguageModelFolder());
  EXPECT_EQ(ErrorAfter(rope, "\"rope_type\": \"default\"", "\"rope_type\": \"yarn\""),
            rope.File("config.json") + ": rope_parameters.rope_type is \"yarn\"; expected \"default\" or \"llama3\"");
}

TEST(ModelConfigTest, RefusesBadValues) {
  const FolderCopy missing(LanguageModelFolder());
  EXPECT_EQ(ErrorAfter(missing, "\"hidden_size\"", "\"hidden_sighs\""),
            missing.File("config.json") + ": hidden_size is missing; expected a positive integer");
  const FolderCopy negative(LanguageModelFolder());
  EXPECT_EQ(ErrorAfter(negative, "\"vocab_size\": 403", "\"vocab_size\": -1"),
            negative.File("config.json") + ": vocab_size is -1; expected a positive integer");
  const FolderCopy heads(LanguageModelFolder());
  EXPECT_EQ(ErrorAfter(heads, "\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"),
            heads.File("config.json") + ": num_key_value_heads is 3; expected a divisor of num_attention_heads 4");
  const FolderCopy broken(LanguageModelFolder());
  broken.Write("config.json", "{ not json");
  EXPECT_EQ(ModelConfig::Load(broken.path()).status().message(), broken.File("config.json") + ": is not a JSON object");
}

TEST(ModelConfigTest, SaysWhatAMissingFolderShouldBe) {
  EXPECT_EQ(ModelConfig::Load("no/such/model").status().message(),
            "no/such/model/config.json: cannot be opened; expected a model folder in Hugging Face layout");
}

TEST(ModelConfigTest, AClassifierNeedsOneLabel) {
  const FolderCopy folder(ClassifierFolder());
  folder.Replace("config.json", "\"0\": \"LABEL_0\"", "\"0\": \"BAD\", \"1\": \"GOOD\"");
  EXPECT_EQ(ModelConfig::Load(folder.path()).status().message(),
            folder.File("config.json") + ": the classifier has 2 labels; expected 1 (a reward model)");
}

}  // namespace
}  // namespace nabla
