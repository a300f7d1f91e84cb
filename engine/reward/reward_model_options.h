// Which reward model to load and what kind of reward it gives. Plain structs.
#ifndef NABLA_ENGINE_REWARD_REWARD_MODEL_OPTIONS_H_
#define NABLA_ENGINE_REWARD_REWARD_MODEL_OPTIONS_H_

#include <string>

namespace nabla {

struct RewardModelOptions {
  std::string path;            // folder in Hugging Face layout
  std::string kind = "auto";   // "classifier", "likelihood", "verdict" or "auto" (classifier for
                               // …ForSequenceClassification, else likelihood)
  std::string dtype = "auto";  // "float32", "bfloat16" or "auto" (what config.json says)
  int max_length = 0;          // tokens of conversation and response; 0: the model's own limit, at most 8192
  // What a verdict asks behind the answer, and the two words it weighs.
  std::string verdict_question = "Is the answer above correct? Reply with Yes or No.";
  std::string verdict_yes = "Yes";
  std::string verdict_no = "No";
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REWARD_REWARD_MODEL_OPTIONS_H_
