#include "server/file.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"

namespace nabla {

absl::StatusOr<std::string> ReadFile(absl::string_view setting, const std::string& path) {
  const auto cannot = [&](const std::string& why) {
    return absl::InvalidArgumentError(absl::StrCat(setting, ": cannot read ", path, ": ", why));
  };
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return cannot(std::generic_category().message(errno));
  if (S_ISDIR(info.st_mode)) return cannot(std::generic_category().message(EISDIR));
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file.is_open() || file.bad()) return cannot(std::generic_category().message(errno != 0 ? errno : EIO));
  return text;
}

absl::StatusOr<std::string> ReadToken(absl::string_view setting, const std::string& path) {
  NABLA_ASSIGN_OR_RETURN(const std::string text, ReadFile(setting, path));
  const absl::string_view token = absl::StripAsciiWhitespace(text);
  if (!token.empty() && std::all_of(token.begin(), token.end(), absl::ascii_isgraph)) return std::string(token);
  return absl::InvalidArgumentError(
      absl::StrCat(setting, ": ", path, " must hold one token of visible ASCII characters without spaces"));
}

FileStamp FileStamp::Of(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return {};
  return {.inode = info.st_ino,
          .size = info.st_size,
          .modified_ns = int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec};
}

}  // namespace nabla
