#include "engine/text/byte_level_bpe.h"

#include <optional>
#include <queue>
#include <tuple>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/utf8.h"

namespace nabla {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return (uint64_t{static_cast<uint32_t>(left)} << 32) | static_cast<uint32_t>(right);
}

absl::Status RequireNullOrEmpty(const JsonField& field) {
  if (field.IsNull() || (field.value().is_string() && field.value().get_ref<const std::string&>().empty())) {
    return absl::OkStatus();
  }
  return field.Error("expected null: byte-level BPE marks no word boundaries");
}

// "left right" or ["left", "right"].
std::optional<std::pair<absl::string_view, absl::string_view>> PartsOf(const nlohmann::json& merge) {
  const auto text = [](const nlohmann::json& value) -> absl::string_view {
    return value.get_ref<const std::string&>();
  };
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return std::make_pair(text(merge[0]), text(merge[1]));
  }
  if (merge.is_string()) {
    const absl::string_view both = text(merge);
    const size_t space = both.find(' ');
    if (space != absl::string_view::npos && both.find(' ', space + 1) == absl::string_view::npos) {
      return std::make_pair(both.substr(0, space), both.substr(space + 1));
    }
  }
  return std::nullopt;
}

}  // namespace

absl::StatusOr<ByteLevelBpe> ByteLevelBpe::FromJson(const JsonField& model, const Vocabulary& vocabulary) {
  NABLA_ASSIGN_OR_RETURN(const bool byte_fallback, model.Get("byte_fallback").Bool(false));
  if (byte_fallback) {
    return model.Get("byte_fallback").Error("only byte-level BPE is supported, which needs no fallback");
  }
  const JsonField dropout = model.Get("dropout");
  if (!dropout.IsNull() && dropout.value() != 0) return dropout.Error("expected null: encoding is deterministic");
  NABLA_RETURN_IF_ERROR(RequireNullOrEmpty(model.Get("continuing_subword_prefix")));
  NABLA_RETURN_IF_ERROR(RequireNullOrEmpty(model.Get("end_of_word_suffix")));

  ByteLevelBpe bpe;
  for (int byte = 0; byte < 256; ++byte) {
    std::string character;
    AppendUtf8(ByteToCharacter(static_cast<uint8_t>(byte)), character);
    const auto found = vocabulary.find(character);
    bpe.byte_ids_[byte] = found == vocabulary.end() ? -1 : found->second;
  }
  const JsonField unknown = model.Get("unk_token");
  if (!unknown.IsNull()) {
    NABLA_ASSIGN_OR_RETURN(const std::string token, unknown.String());
    const auto found = vocabulary.find(token);
    // Some GPT-2 files name an unknown token that only added_tokens defines; with all bytes present it is never used.
    if (found != vocabulary.end()) bpe.unknown_id_ = found->second;
  }
  NABLA_ASSIGN_OR_RETURN(bpe.fuse_unknown_, model.Get("fuse_unk").Bool(false));
  NABLA_ASSIGN_OR_RETURN(const bool ignore_merges, model.Get("ignore_merges").Bool(false));
  if (ignore_merges) {
    for (const auto& [token, id] : vocabulary) bpe.whole_pieces_.emplace(TokenStringToBytes(token), id);
  }
  NABLA_RETURN_IF_ERROR(bpe.AddMerges(model.Get("merges"), vocabulary));
  return bpe;
}

absl::Status ByteLevelBpe::AddMerges(const JsonField& merges, const Vocabulary& vocabulary) {
  if (!merges.value().is_array()) return merges.Error("expected an array");
  merges_.reserve(merges.value().size());
  std::string whole;
  for (size_t rank = 0; rank < merges.value().size(); ++rank) {
    const auto parts = PartsOf(merges.value()[rank]);
    if (!parts) return merges.Item(rank).Error("expected \"left right\" or [\"left\", \"right\"]");
    whole.assign(parts->first.data(), parts->first.size()).append(parts->second.data(), parts->second.size());
    const auto left = vocabulary.find(parts->first);
    const auto right = vocabulary.find(parts->second);
    const auto merged = vocabulary.find(whole);
    if (left == vocabulary.end() || right == vocabulary.end() || merged == vocabulary.end()) {
      return merges.Item(rank).Error("expected both parts and their concatenation in model.vocab");
    }
    merges_[PairKey(left->second, right->second)] = {static_cast<int32_t>(rank), merged->second};
  }
  return absl::OkStatus();
}

const ByteLevelBpe::Merge* ByteLevelBpe::FindMerge(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

std::vector<ByteLevelBpe::Symbol> ByteLevelBpe::MakeSymbols(absl::string_view piece) const {
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  bool after_unknown = false;
  for (const char c : piece) {
    int32_t id = byte_ids_[static_cast<unsigned char>(c)];
    const bool unknown = id < 0;
    if (unknown) {
      if (!unknown_id_.has_value() || (fuse_unknown_ && after_unknown)) continue;
      id = *unknown_id_;
    }
    after_unknown = unknown;
    const auto index = static_cast<int32_t>(symbols.size());
    symbols.push_back({id, index - 1, index + 1, true});
  }
  if (!symbols.empty()) symbols.back().next = -1;
  return symbols;
}

void ByteLevelBpe::Encode(absl::string_view piece, std::vector<int32_t>& ids) const {
  if (!whole_pieces_.empty()) {
    const auto whole = whole_pieces_.find(piece);
    if (whole != whole_pieces_.end()) {
      ids.push_back(whole->second);
      return;
    }
  }
  std::vector<Symbol> symbols = MakeSymbols(piece);

  // Candidates by rank, then from left to right. One whose symbols have changed since is recognised by its result.
  struct Candidate {
    int32_t rank;
    int32_t left;
    int32_t id;
    bool operator>(const Candidate& other) const { return std::tie(rank, left) > std::tie(other.rank, other.left); }
  };
  std::vector<Candidate> first_candidates;
  first_candidates.reserve(symbols.size());
  for (size_t i = 0; i + 1 < symbols.size(); ++i) {
    const Merge* merge = FindMerge(symbols[i].id, symbols[i + 1].id);
    if (merge != nullptr) first_candidates.push_back({merge->rank, static_cast<int32_t>(i), merge->id});
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> candidates(std::greater<>(),
                                                                                    std::move(first_candidates));
  const auto push_pair = [this, &symbols, &candidates](int32_t left) {
    const int32_t right = symbols[left].next;
    if (right < 0) return;
    const Merge* merge = FindMerge(symbols[left].id, symbols[right].id);
    if (merge != nullptr) candidates.push({merge->rank, left, merge->id});
  };
  while (!candidates.empty()) {
    const Candidate candidate = candidates.top();
    candidates.pop();
    Symbol& left = symbols[candidate.left];
    if (!left.alive || left.next < 0) continue;
    Symbol& right = symbols[left.next];
    const Merge* merge = FindMerge(left.id, right.id);
    if (merge == nullptr || merge->id != candidate.id) continue;
    left.id = candidate.id;
    left.next = right.next;
    right.alive = false;
    if (right.next >= 0) symbols[right.next].previous = candidate.left;
    if (left.previous >= 0) push_pair(left.previous);
    push_pair(candidate.left);
  }
  for (const Symbol& symbol : symbols) {
    if (symbol.alive) ids.push_back(symbol.id);
  }
}

}  // namespace nabla
