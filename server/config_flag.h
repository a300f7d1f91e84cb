// Flags that override fields of a server's config file, and the table of them that their definitions fill.
//
//   NABLA_CONFIG_FLAG(int, port, "listener.port", "gRPC port. Default: 50051.");   // in the order of the help
//   for (const ConfigFlag& flag : ConfigFlags()) flag.override_field(&settings);
//
// Defined in one source file a program. Not thread-safe before main(), const from then on.
#ifndef NABLA_SERVER_CONFIG_FLAG_H_
#define NABLA_SERVER_CONFIG_FLAG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/marshalling.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "server/settings.h"

namespace nabla {

inline constexpr char kNotGiven[] = "<not given>";  // Abseil wants defaults that it can read back

// The value of a flag if the command line gives one; an empty one counts.
template <typename T>
struct Given {
  std::optional<T> value;
};

template <typename T>
bool AbslParseFlag(absl::string_view text, Given<T>* flag, std::string* error) {
  flag->value.reset();
  if (text == kNotGiven) return true;
  return absl::ParseFlag(text, &flag->value.emplace(), error);
}

template <typename T>
std::string AbslUnparseFlag(const Given<T>& flag) {
  if (!flag.value.has_value()) return kNotGiven;
  if constexpr (std::is_same_v<T, absl::Duration>) {
    return AbslUnparseFlag(*flag.value);
  } else {
    return absl::UnparseFlag(*flag.value);
  }
}

// 1073741824, 1024MiB or 1GiB.
struct ByteCount {
  int64_t bytes = 0;
};

bool AbslParseFlag(absl::string_view text, ByteCount* count, std::string* error);
std::string AbslUnparseFlag(const ByteCount& count);

using Strings = std::vector<std::string>;

struct ConfigFlag {
  const char* name;
  const char* field;                  // of the config file, "listener.port"
  void (*override_field)(Settings*);  // where the command line gives the flag
};

const std::vector<ConfigFlag>& ConfigFlags();
bool AddConfigFlag(const ConfigFlag& flag);  // true

template <typename T>
void OverrideIfGiven(const absl::Flag<Given<T>>& flag, const char* name, Settings* settings) {
  const Given<T> given = absl::GetFlag(flag);
  if (!given.value.has_value()) return;
  if constexpr (std::is_same_v<T, ByteCount>) {
    settings->Override(name, given.value->bytes);
  } else if constexpr (std::is_same_v<T, absl::Duration>) {
    settings->Override(name, absl::ToDoubleSeconds(*given.value));
  } else if constexpr (std::is_integral_v<T>) {
    settings->Override(name, int64_t{*given.value});
  } else {
    settings->Override(name, *given.value);
  }
}

}  // namespace nabla

#define NABLA_CONFIG_FLAG(Type, name, field, help)                                      \
  ABSL_FLAG(::nabla::Given<Type>, name, {}, help);                                      \
  [[maybe_unused]] static const bool nabla_config_flag_##name = ::nabla::AddConfigFlag( \
      {#name, field, [](::nabla::Settings* settings) { ::nabla::OverrideIfGiven(FLAGS_##name, #name, settings); }})

#endif  // NABLA_SERVER_CONFIG_FLAG_H_
