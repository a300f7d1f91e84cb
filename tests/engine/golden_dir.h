// Where the golden values are: the folder that NABLA_GOLDEN_DIR names, else the first of ../shared/golden and
// tests/golden that exists below the working directory, which ctest sets to the source root. Thread-safe.
//
//   const std::filesystem::path golden = GoldenDir();
//   ASSERT_FALSE(golden.empty()) << kNoGoldenDir;
//   for (const auto& folder : std::filesystem::directory_iterator(golden / "tokenizer")) ...
#ifndef NABLA_TESTS_ENGINE_GOLDEN_DIR_H_
#define NABLA_TESTS_ENGINE_GOLDEN_DIR_H_

#include <cstdlib>
#include <filesystem>

namespace nabla {

inline constexpr char kNoGoldenDir[] =
    "no golden values: set NABLA_GOLDEN_DIR to a folder, or run where ../shared/golden or tests/golden exists";

// Empty where there is none.
inline std::filesystem::path GoldenDir() {
  if (const char* named = std::getenv("NABLA_GOLDEN_DIR"); named != nullptr && *named != '\0') {
    return std::filesystem::is_directory(named) ? named : std::filesystem::path();
  }
  for (const char* candidate : {"../shared/golden", "tests/golden"}) {
    if (std::filesystem::is_directory(candidate)) return candidate;
  }
  return {};
}

}  // namespace nabla

#endif  // NABLA_TESTS_ENGINE_GOLDEN_DIR_H_
