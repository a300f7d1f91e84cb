#include "engine/decode/drafter.h"

#include <algorithm>
#include <utility>

namespace nabla {
namespace {

constexpr float kClearLead = 0.2F;

}  // namespace

Drafter::Drafter(std::vector<int32_t> earlier, size_t position, int max_tokens)
    : earlier_(std::move(earlier)),
      max_tokens_(static_cast<size_t>(max_tokens)),
      agreed_(max_tokens_ / 2),
      seen_(position),
      at_(position) {}

absl::Span<const int32_t> Drafter::Next(absl::Span<const int32_t> response, size_t room) {
  for (; seen_ < response.size(); ++seen_) Follow(response, seen_);
  if (at_ >= earlier_.size()) return {};
  return absl::MakeConstSpan(earlier_).subspan(at_,
                                               std::min({std::max<size_t>(1, agreed_), room, earlier_.size() - at_}));
}

// A token that is not the expected one may stand in its place, or the text goes on as somewhere else: behind the same
// two tokens, the next such place if there is one.
void Drafter::Follow(absl::Span<const int32_t> response, size_t position) {
  if (at_ < earlier_.size() && earlier_[at_] == response[position]) {
    ++at_;
    agreed_ = std::min(agreed_ + 1, max_tokens_);
    return;
  }
  agreed_ /= 2;
  const size_t expected = at_ + 1;
  if (position > 0) {
    const int32_t pair[] = {response[position - 1], response[position]};
    const auto from = earlier_.begin() + static_cast<ptrdiff_t>(std::min(at_, earlier_.size()));
    auto found = std::search(from, earlier_.end(), std::begin(pair), std::end(pair));
    if (found == earlier_.end())
      found = std::search(earlier_.begin(), earlier_.end(), std::begin(pair), std::end(pair));
    if (found != earlier_.end()) {
      at_ = static_cast<size_t>(found - earlier_.begin()) + 2;
      return;
    }
  }
  at_ = expected;
}

bool IsClearGuess(absl::Span<const float> logits, int32_t guess) {
  const float bound = logits[guess] - kClearLead;
  return std::count_if(logits.begin(), logits.end(), [bound](float logit) { return logit > bound; }) == 1;
}

}  // namespace nabla
