// A RewardModel of eleven tokens whose numbers are easy to foresee, and whose calls the test can hold up or fail.
//
//   FakeRewardModel model(RewardKind::kLikelihood);
//   model.Fail(absl::ResourceExhaustedError("no memory"), /*times=*/1);
//   model.Hold();  …  model.AwaitHeld(2);  …  model.Release();
//
// Thread-safe.
#ifndef NABLA_TESTS_SERVER_FAKE_REWARD_MODEL_H_
#define NABLA_TESTS_SERVER_FAKE_REWARD_MODEL_H_

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/base/status_macros.h"
#include "engine/reward/embedding_table.h"
#include "engine/reward/reward_kind.h"
#include "engine/reward/reward_model.h"

namespace nabla {

constexpr std::chrono::seconds kRewardTestPatience(60);
constexpr int kFakeVocabulary = 11;
constexpr int kFakeHidden = 4;
constexpr int kFakeMaxLength = 64;

class FakeRewardModel : public RewardModel {
 public:
  explicit FakeRewardModel(RewardKind kind = RewardKind::kClassifier) : kind_(kind) {}

  // The next `times` calls that compute end like this.
  void Fail(absl::Status status, int times) {
    const std::lock_guard<std::mutex> lock(mu_);
    failure_ = std::move(status);
    failures_ = times;
  }
  // Calls that compute wait from now on, until Release.
  void Hold() {
    const std::lock_guard<std::mutex> lock(mu_);
    holding_ = true;
  }
  void Release() {
    const std::lock_guard<std::mutex> lock(mu_);
    holding_ = false;
    changed_.notify_all();
  }
  bool AwaitHeld(int count) const {
    std::unique_lock<std::mutex> lock(mu_);
    return changed_.wait_for(lock, kRewardTestPatience, [&] { return held_ >= count; });
  }

  int opened() const { return Locked(opened_); }
  int passes() const { return Locked(passes_); }

  // Σ (i + 1) · id_i plus the length of the conversation, by a third: no number that is exact in binary.
  static double RewardOf(absl::Span<const ChatMessage> messages, absl::Span<const int32_t> response) {
    double sum = 0;
    for (const ChatMessage& message : messages) sum += static_cast<double>(message.content.size());
    for (size_t i = 0; i < response.size(); ++i) sum += static_cast<double>(i + 1) * response[i];
    return sum / 3;
  }
  static float GradientOf(int32_t id, int row, int column) {
    return 1.0f / static_cast<float>(1 + id + 7 * row + 31 * column);
  }
  static float LogProbOf(int position, int token) { return -1.0f / static_cast<float>(1 + position * 13 + token); }

  absl::StatusOr<std::unique_ptr<RewardContext>> Open(absl::Span<const ChatMessage> messages, int max_response_tokens,
                                                      const StopToken* stop = nullptr,
                                                      absl::string_view /*traceparent*/ = "") const override {
    for (const ChatMessage& message : messages) {
      if (message.role == "nobody") return absl::InvalidArgumentError("messages: the chat template refuses nobody");
    }
    if (max_response_tokens > kFakeMaxLength) {
      return absl::OutOfRangeError(absl::StrCat("max_new_tokens: prompt and answer need up to ", max_response_tokens,
                                                " tokens in reward model fake, which takes 64; ask for less"));
    }
    NABLA_RETURN_IF_ERROR(Compute());
    const std::lock_guard<std::mutex> lock(mu_);
    ++opened_;
    return std::make_unique<Context>(this, std::vector<ChatMessage>(messages.begin(), messages.end()), stop);
  }
  absl::StatusOr<std::vector<float>> ProjectToVocabulary(absl::Span<const float>, int rows) const override {
    return std::vector<float>(static_cast<size_t>(rows) * kFakeVocabulary);
  }
  std::vector<std::string> TokenStrings() const override {
    std::vector<std::string> strings;
    for (int id = 0; id < kFakeVocabulary; ++id) strings.push_back(absl::StrCat("token", id));
    strings[3].clear();
    strings[4] = "\xff\x00";  // bytes, not UTF-8
    return strings;
  }
  int vocabulary_size() const override { return kFakeVocabulary; }
  int32_t pad_token_id() const override { return 2; }
  RewardKind kind() const override { return kind_; }
  const std::string& name() const override { return name_; }
  ModelInfo info() const override {
    return {.name = name_,
            .architecture = "FakeForCausalLM",
            .dtype = "float32",
            .device = "cpu",
            .reward_kind = RewardKindName(kind_),
            .parameters = 44,
            .vocabulary_size = 12,
            .max_length = kFakeMaxLength};
  }

  static EmbeddingTable Embedding() {
    auto numbers = std::make_shared<std::vector<float>>(kFakeVocabulary * kFakeHidden);
    for (size_t i = 0; i < numbers->size(); ++i) (*numbers)[i] = static_cast<float>(i) * 0.25f;
    return {.dtype = "float32",
            .vocabulary_size = kFakeVocabulary,
            .hidden_size = kFakeHidden,
            .bytes = absl::string_view(reinterpret_cast<const char*>(numbers->data()), numbers->size() * sizeof(float)),
            .owner = numbers};
  }

 private:
  class Context : public RewardContext {
   public:
    Context(const FakeRewardModel* model, std::vector<ChatMessage> messages, const StopToken* stop)
        : model_(model), messages_(std::move(messages)), stop_(stop) {
      work_ = {.forward_passes = 1, .forward_tokens = 5};
    }
    void set_stop(const StopToken* stop) override { stop_ = stop; }
    absl::StatusOr<double> Score(absl::Span<const int32_t> response) override {
      NABLA_RETURN_IF_ERROR(model_->Compute());
      if (stop_ != nullptr) NABLA_RETURN_IF_ERROR(stop_->Check());
      ++work_.forward_passes;
      work_.forward_tokens += static_cast<int64_t>(response.size());
      return RewardOf(messages_, response);
    }
    absl::StatusOr<std::vector<double>> ScoreAll(absl::Span<const absl::Span<const int32_t>> responses) override {
      std::vector<double> rewards;
      for (const absl::Span<const int32_t> response : responses) {
        NABLA_ASSIGN_OR_RETURN(rewards.emplace_back(), Score(response));
      }
      return rewards;
    }
    absl::StatusOr<RewardGradient> ScoreGradient(absl::Span<const int32_t> response, int first,
                                                 bool /*scored*/) override {
      NABLA_RETURN_IF_ERROR(model_->Compute());
      if (stop_ != nullptr) NABLA_RETURN_IF_ERROR(stop_->Check());
      ++work_.forward_passes, ++work_.backward_passes;
      const int rows = static_cast<int>(response.size()) - first;
      work_.forward_tokens += rows, work_.backward_tokens += rows;
      RewardGradient gradient;
      gradient.reward = RewardOf(messages_, response);
      gradient.rows = rows;
      gradient.hidden_size = kFakeHidden;
      for (int row = 0; row < rows; ++row) {
        for (int column = 0; column < kFakeHidden; ++column) {
          gradient.input_gradient.push_back(GradientOf(response[first + row], row, column));
        }
      }
      if (model_->kind() != RewardKind::kLikelihood) return gradient;
      gradient.log_probs = [first](int begin, int end) -> absl::StatusOr<std::vector<float>> {
        std::vector<float> log_probs;
        for (int row = begin; row < end; ++row) {
          for (int token = 0; token < kFakeVocabulary; ++token) log_probs.push_back(LogProbOf(first + row, token));
        }
        return log_probs;
      };
      return gradient;
    }
    const ModelWork& work() const override { return work_; }

   private:
    const FakeRewardModel* const model_;
    const std::vector<ChatMessage> messages_;
    const StopToken* stop_;
    ModelWork work_;
  };

  absl::Status Compute() const {
    std::unique_lock<std::mutex> lock(mu_);
    ++passes_;
    ++held_;
    changed_.notify_all();
    changed_.wait_for(lock, kRewardTestPatience, [this] { return !holding_; });
    --held_;
    if (failures_ == 0) return absl::OkStatus();
    --failures_;
    return failure_;
  }
  int Locked(const int& value) const {
    const std::lock_guard<std::mutex> lock(mu_);
    return value;
  }

  const RewardKind kind_;
  const std::string name_ = "fake";
  mutable std::mutex mu_;
  mutable std::condition_variable changed_;
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
  mutable int failures_ ABSL_GUARDED_BY(mu_) = 0;
  bool holding_ ABSL_GUARDED_BY(mu_) = false;
  mutable int held_ ABSL_GUARDED_BY(mu_) = 0;
  mutable int opened_ ABSL_GUARDED_BY(mu_) = 0;
  mutable int passes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace nabla

#endif  // NABLA_TESTS_SERVER_FAKE_REWARD_MODEL_H_
