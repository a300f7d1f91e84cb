// Byte-pair encoding over bytes: merges the adjacent pair of lowest rank until no pair can be merged.
//
// Thread-safe (immutable). Encoding n bytes takes O(n log n), whatever the text. Errors of FromJson are InvalidArgument
// and name the field.
//
//   NABLA_ASSIGN_OR_RETURN(ByteLevelBpe bpe, ByteLevelBpe::FromJson(root.Get("model"), vocabulary));
//   std::vector<int32_t> ids;
//   bpe.Encode(" lowest", ids);  // appends
#ifndef NABLA_ENGINE_TEXT_BYTE_LEVEL_BPE_H_
#define NABLA_ENGINE_TEXT_BYTE_LEVEL_BPE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/text/json_field.h"

namespace nabla {

// Token strings as in tokenizer.json ("Ġthe") and their ids.
using Vocabulary = absl::flat_hash_map<std::string, int32_t>;

class ByteLevelBpe {
 public:
  // `model` is tokenizer.json's member of that name, `vocabulary` its vocab.
  static absl::StatusOr<ByteLevelBpe> FromJson(const JsonField& model, const Vocabulary& vocabulary);

  // Appends the ids of `piece`, one result of pre-tokenization.
  void Encode(absl::string_view piece, std::vector<int32_t>& ids) const;

 private:
  struct Merge {
    int32_t rank;
    int32_t id;
  };
  struct Symbol {
    int32_t id;
    int32_t previous;  // index, or -1
    int32_t next;      // index, or -1
    bool alive;
  };

  absl::Status AddMerges(const JsonField& merges, const Vocabulary& vocabulary);
  const Merge* FindMerge(int32_t left, int32_t right) const;
  std::vector<Symbol> MakeSymbols(absl::string_view piece) const;

  std::array<int32_t, 256> byte_ids_;  // -1 where the vocabulary lacks the byte
  absl::flat_hash_map<uint64_t, Merge> merges_;
  // With ignore_merges: every token by its bytes, tried before any merge.
  absl::flat_hash_map<std::string, int32_t> whole_pieces_;
  std::optional<int32_t> unknown_id_;  // stands for bytes the vocabulary lacks; without it they are dropped
  bool fuse_unknown_ = false;
};

}  // namespace nabla

#endif  // NABLA_ENGINE_TEXT_BYTE_LEVEL_BPE_H_
