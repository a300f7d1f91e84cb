#include "engine/text/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace nabla {
namespace {

constexpr char kGpt2Pattern[] = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Rust's char::is_numeric: category N, with the digits of Unicode versions newer than PCRE2's.
constexpr char kDigitPattern[] =
    "[\\p{N}"
    "\\x{10D40}-\\x{10D49}\\x{116D0}-\\x{116E3}\\x{11BF0}-\\x{11BF9}\\x{11DE0}-\\x{11DE9}"
    "\\x{11F50}-\\x{11F59}\\x{16130}-\\x{16139}\\x{16D70}-\\x{16D79}\\x{16FF4}-\\x{16FF6}"
    "\\x{1CCF0}-\\x{1CCF9}\\x{1D2C0}-\\x{1D2D3}\\x{1E4F0}-\\x{1E4F9}\\x{1E5F1}-\\x{1E5FA}]";

struct Part {
  size_t begin;
  size_t end;
  bool is_match;
};

// The matches of `pattern` and what is between them, in order.
std::vector<Part> FindParts(const Regex& pattern, absl::string_view text, bool invert) {
  std::vector<Part> parts;
  size_t previous = 0;
  Regex::Matcher matcher(pattern, text);
  while (matcher.Next()) {
    if (previous != matcher.begin()) parts.push_back({previous, matcher.begin(), invert});
    parts.push_back({matcher.begin(), matcher.end(), !invert});
    previous = matcher.end();
  }
  if (previous != text.size()) parts.push_back({previous, text.size(), invert});
  return parts;
}

}  // namespace

absl::StatusOr<PreTokenizer> PreTokenizer::FromJson(const JsonField& field) {
  PreTokenizer pre_tokenizer;
  if (field.IsNull()) {
    return field.Error("expected ByteLevel or a Sequence that ends with it (only byte-level BPE is supported)");
  }
  NABLA_RETURN_IF_ERROR(pre_tokenizer.AddSteps(field));
  if (!pre_tokenizer.has_byte_level_) {
    return field.Error("expected ByteLevel or a Sequence that ends with it (only byte-level BPE is supported)");
  }
  return pre_tokenizer;
}

absl::Status PreTokenizer::AddSteps(const JsonField& field) {
  NABLA_ASSIGN_OR_RETURN(const std::string type, field.Get("type").String());
  if (has_byte_level_) return field.Get("type").Error("expected nothing after ByteLevel");
  if (type == "Sequence") {
    NABLA_ASSIGN_OR_RETURN(const std::vector<JsonField> items, field.Get("pretokenizers").Items());
    for (const JsonField& item : items) NABLA_RETURN_IF_ERROR(AddSteps(item));
    return absl::OkStatus();
  }
  if (type == "Split") return AddSplit(field);
  if (type == "ByteLevel") return AddByteLevel(field);
  if (type == "Digits") {
    NABLA_ASSIGN_OR_RETURN(const bool individual, field.Get("individual_digits").Bool(false));
    NABLA_ASSIGN_OR_RETURN(Regex digit, Regex::Create(kDigitPattern));
    before_byte_level_.push_back({std::move(digit), individual ? Behavior::kIsolated : Behavior::kContiguous, false});
    return absl::OkStatus();
  }
  return field.Get("type").Error("supported are Split, Digits, ByteLevel and Sequence");
}

absl::Status PreTokenizer::AddSplit(const JsonField& field) {
  static constexpr std::pair<const char*, Behavior> kBehaviors[] = {
      {"Removed", Behavior::kRemoved},
      {"Isolated", Behavior::kIsolated},
      {"MergedWithPrevious", Behavior::kMergedWithPrevious},
      {"MergedWithNext", Behavior::kMergedWithNext},
      {"Contiguous", Behavior::kContiguous},
  };
  NABLA_ASSIGN_OR_RETURN(Regex pattern, Regex::FromJson(field.Get("pattern")));
  NABLA_ASSIGN_OR_RETURN(const std::string name, field.Get("behavior").String());
  NABLA_ASSIGN_OR_RETURN(const bool invert, field.Get("invert").Bool(false));
  for (const auto& [known, behavior] : kBehaviors) {
    if (name != known) continue;
    before_byte_level_.push_back({std::move(pattern), behavior, invert});
    return absl::OkStatus();
  }
  return field.Get("behavior")
      .Error("supported are Removed, Isolated, MergedWithPrevious, MergedWithNext and Contiguous");
}

absl::Status PreTokenizer::AddByteLevel(const JsonField& field) {
  has_byte_level_ = true;
  NABLA_ASSIGN_OR_RETURN(add_prefix_space_, field.Get("add_prefix_space").Bool(true));
  NABLA_ASSIGN_OR_RETURN(const bool use_regex, field.Get("use_regex").Bool(true));
  if (use_regex) {
    NABLA_ASSIGN_OR_RETURN(Regex pattern, Regex::Create(kGpt2Pattern));
    byte_level_.push_back({std::move(pattern), Behavior::kIsolated, false});
  }
  return absl::OkStatus();
}

void PreTokenizer::Apply(const SplitStep& step, absl::string_view text, std::vector<absl::string_view>& pieces) {
  std::vector<Part> parts = FindParts(step.pattern, text, step.invert);
  const bool backwards = step.behavior == Behavior::kMergedWithNext;
  if (backwards) std::reverse(parts.begin(), parts.end());
  std::vector<Part> merged;
  merged.reserve(parts.size());
  bool previous_is_match = false;
  for (const Part& part : parts) {
    bool joins = false;
    if (step.behavior == Behavior::kContiguous) joins = part.is_match == previous_is_match;
    if (step.behavior == Behavior::kMergedWithPrevious || backwards) joins = part.is_match && !previous_is_match;
    previous_is_match = part.is_match;
    if (!joins || merged.empty()) {
      merged.push_back(part);
    } else if (backwards) {
      merged.back().begin = part.begin;
    } else {
      merged.back().end = part.end;
    }
  }
  if (backwards) std::reverse(merged.begin(), merged.end());
  for (const Part& part : merged) {
    if (step.behavior == Behavior::kRemoved && part.is_match) continue;
    if (part.begin != part.end) pieces.push_back(text.substr(part.begin, part.end - part.begin));
  }
}

std::vector<absl::string_view> PreTokenizer::Split(absl::string_view text, std::deque<std::string>& storage) const {
  std::vector<absl::string_view> pieces;
  if (!text.empty()) pieces.push_back(text);
  const auto apply_all = [&pieces](const std::vector<SplitStep>& steps) {
    for (const SplitStep& step : steps) {
      std::vector<absl::string_view> next;
      for (absl::string_view piece : pieces) Apply(step, piece, next);
      pieces = std::move(next);
    }
  };
  apply_all(before_byte_level_);
  if (add_prefix_space_) {
    for (absl::string_view& piece : pieces) {
      if (piece.front() == ' ') continue;
      storage.push_back(absl::StrCat(" ", piece));
      piece = storage.back();
    }
  }
  apply_all(byte_level_);
  return pieces;
}

}  // namespace nabla
