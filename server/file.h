// Small files that the server reads at start and again when they change: certificates, keys, tokens.
//
//   NABLA_ASSIGN_OR_RETURN(std::string pem, ReadFile("--tls_key", path));
//   if (FileStamp::Of(path) != stamp) …  // somebody has replaced it
//
// Thread-safe; all look at the disk and block for that long.
#ifndef NABLA_SERVER_FILE_H_
#define NABLA_SERVER_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace nabla {

// INVALID_ARGUMENT "setting: cannot read path: why"; `setting` names the flag or field that the path comes from.
absl::StatusOr<std::string> ReadFile(absl::string_view setting, const std::string& path);

// One bearer token, without the white space around it. INVALID_ARGUMENT too where it is empty, or holds what no header
// may: gRPC ends the process at that.
absl::StatusOr<std::string> ReadToken(absl::string_view setting, const std::string& path);

// Differs once a file has been written to, replaced or removed.
struct FileStamp {
  uint64_t inode = 0;  // all 0: there is no such file
  int64_t size = 0;
  int64_t modified_ns = 0;

  static FileStamp Of(const std::string& path);
  bool operator==(const FileStamp&) const = default;
};

}  // namespace nabla

#endif  // NABLA_SERVER_FILE_H_
