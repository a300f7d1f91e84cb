#include "engine/text/gguf_metadata.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"

namespace nabla {
namespace {

// The largest vocabularies need about a million values; a damaged file must not become gigabytes of JSON.
constexpr int64_t kMostValues = 1 << 22;
constexpr int kDeepestArrays = 8;
constexpr size_t kLongestKeyShown = 80;
constexpr size_t kHeaderSize = 24;
constexpr size_t kLeastEntrySize = 13;  // the length of an empty key, a type, a value of one byte

enum ValueType : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

// The fewest bytes a value takes; 0 for types that do not exist.
size_t LeastSize(uint32_t type) {
  static constexpr size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 12, 8, 8, 8};
  return type < std::size(kSizes) ? kSizes[type] : 0;
}

class Reader {
 public:
  Reader(absl::string_view bytes, const std::string& path) : bytes_(bytes), path_(path) {}

  absl::StatusOr<nlohmann::json> Metadata() {
    if (bytes_.substr(0, 4) != "GGUF") {
      return absl::InvalidArgumentError(absl::StrCat(path_, ": is not a GGUF file: begins with \"",
                                                     absl::CHexEscape(bytes_.substr(0, 4)), "\"; expected \"GGUF\""));
    }
    position_ = 4;
    NABLA_ASSIGN_OR_RETURN(const auto version, Number<uint32_t>());
    if (version != 2 && version != 3) {
      return Error(absl::StrCat("version is ", version, "; supported are 2 and 3 (little-endian)"));
    }
    NABLA_RETURN_IF_ERROR(Number<uint64_t>().status());  // the number of tensors
    NABLA_ASSIGN_OR_RETURN(const auto count, Number<uint64_t>());
    if (count > Remaining() / kLeastEntrySize) return TooMany(count, "metadata entries");
    nlohmann::json metadata = nlohmann::json::object();
    for (uint64_t i = 0; i < count; ++i) {
      place_ = absl::StrCat("metadata entry ", i);
      NABLA_ASSIGN_OR_RETURN(std::string key, String());
      place_ = absl::CHexEscape(absl::string_view(key).substr(0, kLongestKeyShown));
      NABLA_ASSIGN_OR_RETURN(const auto type, Number<uint32_t>());
      NABLA_ASSIGN_OR_RETURN(nlohmann::json value, Value(type, 0));
      if (!metadata.emplace(std::move(key), std::move(value)).second) return Error("stands there twice; expected once");
    }
    return metadata;
  }

 private:
  size_t Remaining() const { return bytes_.size() - position_; }

  absl::Status Error(const std::string& problem) const {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": ", place_, ": ", problem));
  }

  absl::Status TooMany(uint64_t count, absl::string_view what) const {
    return Error(absl::StrCat("claims ", count, " ", what, " at byte ", position_, " but the file has ", bytes_.size(),
                              " bytes; it is truncated or damaged, fetch it again"));
  }

  absl::StatusOr<absl::string_view> Take(uint64_t size) {
    if (size > Remaining()) return TooMany(size, "bytes");
    const absl::string_view taken = bytes_.substr(position_, size);
    position_ += size;
    return taken;
  }

  template <typename T>
  absl::StatusOr<T> Number() {
    NABLA_ASSIGN_OR_RETURN(const absl::string_view bytes, Take(sizeof(T)));
    T number;
    std::memcpy(&number, bytes.data(), sizeof(T));
    return number;
  }

  absl::StatusOr<std::string> String() {
    NABLA_ASSIGN_OR_RETURN(const auto size, Number<uint64_t>());
    NABLA_ASSIGN_OR_RETURN(const absl::string_view bytes, Take(size));
    return std::string(bytes);
  }

  template <typename T>
  absl::StatusOr<nlohmann::json> NumberValue() {
    NABLA_ASSIGN_OR_RETURN(const T number, Number<T>());
    return nlohmann::json(number);
  }

  absl::StatusOr<nlohmann::json> Value(uint32_t type, int depth) {
    if (++values_ > kMostValues) return Error(absl::StrCat("is past the ", kMostValues, " values that are supported"));
    switch (type) {
      case kUint8:
        return NumberValue<uint8_t>();
      case kInt8:
        return NumberValue<int8_t>();
      case kUint16:
        return NumberValue<uint16_t>();
      case kInt16:
        return NumberValue<int16_t>();
      case kUint32:
        return NumberValue<uint32_t>();
      case kInt32:
        return NumberValue<int32_t>();
      case kFloat32:
        return NumberValue<float>();
      case kUint64:
        return NumberValue<uint64_t>();
      case kInt64:
        return NumberValue<int64_t>();
      case kFloat64:
        return NumberValue<double>();
      case kBool: {
        NABLA_ASSIGN_OR_RETURN(const auto byte, Number<uint8_t>());
        if (byte > 1) return Error(absl::StrCat("is a boolean of value ", byte, "; expected 0 or 1"));
        return nlohmann::json(byte == 1);
      }
      case kString: {
        NABLA_ASSIGN_OR_RETURN(std::string text, String());
        return nlohmann::json(std::move(text));
      }
      case kArray:
        return Array(depth + 1);
      default:
        return Error(absl::StrCat("has a value of type ", type, "; expected a type from 0 to 12"));
    }
  }

  absl::StatusOr<nlohmann::json> Array(int depth) {
    if (depth > kDeepestArrays) return Error(absl::StrCat("has arrays more than ", kDeepestArrays, " deep"));
    NABLA_ASSIGN_OR_RETURN(const auto type, Number<uint32_t>());
    NABLA_ASSIGN_OR_RETURN(const auto count, Number<uint64_t>());
    const size_t least_size = LeastSize(type);
    if (least_size == 0) return Error(absl::StrCat("has elements of type ", type, "; expected a type from 0 to 12"));
    if (count > Remaining() / least_size) return TooMany(count, "elements");
    nlohmann::json array = nlohmann::json::array();
    for (uint64_t i = 0; i < count; ++i) {
      NABLA_ASSIGN_OR_RETURN(nlohmann::json element, Value(type, depth));
      array.push_back(std::move(element));
    }
    return array;
  }

  const absl::string_view bytes_;
  const std::string& path_;
  size_t position_ = 0;
  int64_t values_ = 0;
  std::string place_ = "header";  // for errors
};

}  // namespace

absl::StatusOr<nlohmann::json> ReadGgufMetadata(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    return absl::NotFoundError(
        absl::StrCat(path, ": cannot be opened: ", std::strerror(errno), "; expected a GGUF file"));
  }
  struct stat status;
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) ||
      static_cast<uint64_t>(status.st_size) < kHeaderSize) {
    close(descriptor);
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is not a GGUF file: expected a regular file of at least ", kHeaderSize, " bytes"));
  }
  const auto size = static_cast<size_t>(status.st_size);
  void* mapping = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  close(descriptor);
  if (mapping == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat(path, ": cannot be mapped: ", std::strerror(errno)));
  }
  absl::StatusOr<nlohmann::json> metadata =
      Reader(absl::string_view(static_cast<const char*>(mapping), size), path).Metadata();
  munmap(mapping, size);
  return metadata;
}

}  // namespace nabla
