#include "engine/model/fingerprint.h"

#include <gtest/gtest.h>

#include "tests/engine/test_models.h"

namespace nabla {
namespace {

std::string Of(const std::string& folder) { return FingerprintModel(folder, "float32").value(); }

TEST(ModelFingerprintTest, ACopyHasTheSame) { EXPECT_EQ(Of(FolderCopy(JudgeFolder()).path()), Of(JudgeFolder())); }

TEST(ModelFingerprintTest, ModelsAndNumberTypesDiffer) {
  EXPECT_NE(Of(JudgeFolder()), Of(ClassifierFolder()));
  EXPECT_NE(Of(JudgeFolder()), Of(LanguageModelFolder()));
  EXPECT_NE(Of(JudgeFolder()), FingerprintModel(JudgeFolder(), "bfloat16").value());
}

TEST(ModelFingerprintTest, OtherWeightsOrTemplatesDiffer) {
  const FolderCopy copy(JudgeFolder());
  std::string weights = copy.Read("model.safetensors");
  weights.back() = static_cast<char>(weights.back() ^ 1);  // the last tensor's last byte is always looked at
  copy.Write("model.safetensors", weights);
  const std::string changed = Of(copy.path());
  EXPECT_NE(changed, Of(JudgeFolder()));
  copy.Write("chat_template.jinja", copy.Read("chat_template.jinja") + "\n");
  EXPECT_NE(Of(copy.path()), changed);
}

TEST(ModelFingerprintTest, AFolderWithoutWeightsIsAnError) {
  EXPECT_FALSE(FingerprintModel("tests/golden/no_such_model", "float32").ok());
}

}  // namespace
}  // namespace nabla
