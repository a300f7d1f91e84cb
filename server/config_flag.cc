#include "server/config_flag.h"

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace nabla {
namespace {

std::vector<ConfigFlag>& Table() {
  static auto* const table = new std::vector<ConfigFlag>();
  return *table;
}

}  // namespace

bool AbslParseFlag(absl::string_view text, ByteCount* count, std::string* error) {
  constexpr std::pair<absl::string_view, int> kUnits[] = {{"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
  int shift = 0;
  for (const auto& [unit, bits] : kUnits) {
    if (absl::ConsumeSuffix(&text, unit)) shift = bits;
  }
  int64_t number = 0;
  const bool fits = absl::SimpleAtoi(text, &number) && number >= 0 && number <= (INT64_MAX >> shift);
  if (!fits) *error = "must be a number of bytes, or one with KiB, MiB, GiB or TiB, for example 512MiB";
  count->bytes = fits ? number << shift : 0;
  return fits;
}

std::string AbslUnparseFlag(const ByteCount& count) { return absl::StrCat(count.bytes); }

const std::vector<ConfigFlag>& ConfigFlags() { return Table(); }

bool AddConfigFlag(const ConfigFlag& flag) {
  Table().push_back(flag);
  return true;
}

}  // namespace nabla
