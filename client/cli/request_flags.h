// The flags that describe a request, shared by the commands that ask, and the message they make.
//
//   RequestFlags request_flags;
//   request_flags.AddTo(&flags);
//   NABLA_ASSIGN_OR_RETURN(v1::ReasonRequest request, request_flags.Request(strategy, question));
//
// A flag left out leaves its field out, so the defaults are the server's. Not thread-safe.
#ifndef NABLA_CLIENT_CLI_REQUEST_FLAGS_H_
#define NABLA_CLIENT_CLI_REQUEST_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/flag_set.h"
#include "nabla/v1/reasoner.pb.h"

namespace nabla {

class RequestFlags {
 public:
  void AddTo(FlagSet* flags);

  // INVALID_ARGUMENT if `strategy` (empty: left to the server) is unknown.
  absl::StatusOr<v1::ReasonRequest> Request(const std::string& strategy, const std::string& question) const;

  // The same behind a conversation: `messages`, the last one the user's, follow the system message.
  absl::StatusOr<v1::ReasonRequest> Request(const std::string& strategy,
                                            const std::vector<v1::Message>& messages) const;

  // `given` (empty: not given), or "nabla" where a flag that only nabla looks at implies it. INVALID_ARGUMENT naming a
  // flag of `flags` that it does not look at.
  static absl::StatusOr<std::string> Strategy(const FlagSet& flags, const std::string& given);

  // Whether a flag was given that only the strategy nabla looks at.
  static bool GivesNablaOptions(const FlagSet& flags);

  // "greedy, sample, … or speculative_candidates", for errors, and what --strategy says in help.
  static std::string StrategyNames();
  static std::string StrategyHelp();

  // INVALID_ARGUMENT naming a flag of `flags` that none of `strategies` looks at.
  static absl::Status CheckUsed(const FlagSet& flags, const std::vector<std::string>& strategies);

 private:
  bool HasSampling() const { return temperature_.has_value() || top_k_.has_value() || top_p_.has_value(); }
  void FillSampling(v1::Sampling* sampling) const;
  absl::Status FillStrategy(const std::string& name, v1::ReasonRequest* request) const;
  absl::Status FillNabla(v1::NablaOptions* options) const;

  std::optional<uint32_t> max_new_tokens_;
  std::optional<uint64_t> seed_;
  std::optional<uint64_t> max_model_calls_;
  std::vector<std::string> stop_;
  std::string system_;
  std::string priority_;
  std::optional<double> temperature_;
  std::optional<uint32_t> top_k_;
  std::optional<double> top_p_;
  std::optional<uint32_t> max_rollouts_;
  std::optional<uint32_t> iterations_;
  std::optional<double> learning_rate_;
  std::string preset_;
  std::string parameter_;
  std::string optimizer_;
  std::string anchor_;
  std::optional<double> max_kl_;
  std::optional<bool> update_postfix_;
  std::optional<double> likelihood_weight_;
  std::optional<double> reward_weight_;
  std::optional<double> max_confidence_;
  std::optional<double> min_entropy_;
  std::optional<double> min_gradient_norm_;
  std::optional<uint32_t> screening_candidates_;
  std::optional<bool> rejection_sampling_;
  std::optional<double> min_reward_gain_;
  std::optional<double> acceptance_likelihood_weight_;
  std::optional<bool> unanimous_;
  std::optional<uint32_t> max_sweeps_;
  std::optional<double> target_reward_;
  std::optional<bool> continue_without_reward_;
  std::optional<uint32_t> candidates_;
  std::optional<bool> weighted_;
  std::optional<uint32_t> width_;
  std::optional<uint32_t> expansions_;
  std::optional<uint32_t> subtrees_;
  std::optional<uint32_t> states_;
  std::optional<uint32_t> probes_;
  std::optional<std::string> separator_;
  std::optional<double> fraction_;
  std::optional<double> max_reward_drop_;
};

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_REQUEST_FLAGS_H_
