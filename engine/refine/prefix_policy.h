// The hidden states behind the first tokens of a response as a policy to draw those tokens from, moved by REINFORCE. In
// plain C++.
//
//   PrefixPolicy policy(session, /*rows=*/10, options);
//   NABLA_ASSIGN_OR_RETURN(std::vector<int32_t> tokens, policy.Draw(session, sampling));
//   NABLA_ASSIGN_OR_RETURN(double norm, policy.Reinforce(tokens, /*advantage=*/0.7));
//
// Source: LatentSeek, arXiv 2505.13308:  z ← z + η · advantage · ∂ Σ_i log softmax(head(z_i))[y_i] / ∂z.  Only the head
// is differentiated. Belongs to one request and one thread; blocks while the engine's execution thread computes.
#ifndef NABLA_ENGINE_REFINE_PREFIX_POLICY_H_
#define NABLA_ENGINE_REFINE_PREFIX_POLICY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/request.h"
#include "engine/decode/session.h"

namespace nabla {

class PrefixPolicy {
 public:
  // At the states of the session's rollout, `rows` ≤ its tokens; the session outlives the policy. Adam's step is
  // `learning_rate`.
  PrefixPolicy(const Session& session, int rows, double learning_rate);
  ~PrefixPolicy();

  // A token from each state, with the session's random numbers; fewer where one ends the response.
  absl::StatusOr<std::vector<int32_t>> Draw(Session& session, const SamplingOptions& sampling);

  // Makes `tokens`, as they were drawn, likelier (advantage > 0) or less likely. The norm of the policy's gradient.
  absl::StatusOr<double> Reinforce(absl::Span<const int32_t> tokens, double advantage);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_REFINE_PREFIX_POLICY_H_
