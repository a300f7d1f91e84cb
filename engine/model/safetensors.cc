#include "engine/model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/model/json_file.h"

namespace nabla {
namespace {

using Json = nlohmann::json;

// Bytes an element, or 0 for dtypes that no supported model uses.
size_t ElementSize(const std::string& dtype) {
  if (dtype == "F32") return 4;
  if (dtype == "BF16" || dtype == "F16") return 2;
  return 0;
}

absl::StatusOr<SafetensorsFile::Entry> ParseEntry(const Json& json, const char* data, size_t data_size) {
  if (!json.is_object() || !json.contains("dtype") || !json["dtype"].is_string() || !json.contains("shape") ||
      !json["shape"].is_array() || !json.contains("data_offsets") || !json["data_offsets"].is_array() ||
      json["data_offsets"].size() != 2) {
    return absl::InvalidArgumentError("needs dtype, shape and data_offsets");
  }
  SafetensorsFile::Entry entry;
  entry.dtype = json["dtype"].get<std::string>();
  size_t elements = 1;
  for (const Json& dimension : json["shape"]) {
    if (!dimension.is_number_unsigned()) return absl::InvalidArgumentError("shape is not a list of sizes");
    entry.shape.push_back(dimension.get<int64_t>());
    if (entry.shape.back() > 0 && elements > data_size / static_cast<size_t>(entry.shape.back())) {
      return absl::InvalidArgumentError("shape is larger than the file");
    }
    elements *= static_cast<size_t>(entry.shape.back());
  }
  if (!json["data_offsets"][0].is_number_unsigned() || !json["data_offsets"][1].is_number_unsigned()) {
    return absl::InvalidArgumentError("data_offsets are not two byte offsets");
  }
  const size_t begin = json["data_offsets"][0].get<size_t>(), end = json["data_offsets"][1].get<size_t>();
  if (begin > end || end > data_size) {
    return absl::InvalidArgumentError(
        absl::StrCat("data ends at byte ", end, " of ", data_size, "; the file is truncated, fetch it again"));
  }
  entry.data = data + begin;
  entry.bytes = end - begin;
  if (const size_t size = ElementSize(entry.dtype); size != 0 && entry.bytes != elements * size) {
    return absl::InvalidArgumentError(absl::StrCat("has ", entry.bytes, " bytes; its shape needs ", elements * size));
  }
  return entry;
}

}  // namespace

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) return absl::NotFoundError(absl::StrCat(path, ": cannot be opened: ", std::strerror(errno)));
  struct stat status;
  if (fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) || status.st_size < 8) {
    close(descriptor);
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is not a safetensors file: shorter than its 8-byte header size"));
  }
  const size_t size = static_cast<size_t>(status.st_size);
  void* mapping = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0);
  close(descriptor);
  if (mapping == MAP_FAILED)
    return absl::ResourceExhaustedError(absl::StrCat(path, ": cannot be mapped: ", std::strerror(errno)));
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile(path, mapping, size));
  NABLA_RETURN_IF_ERROR(file->ParseHeader());
  return file;
}

SafetensorsFile::~SafetensorsFile() { munmap(mapping_, size_); }

absl::Status SafetensorsFile::ParseHeader() {
  const char* bytes = static_cast<const char*>(mapping_);
  uint64_t header_size = 0;
  std::memcpy(&header_size, bytes, sizeof(header_size));
  if (header_size > size_ - 8) {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": its header claims ", header_size,
                                                   " bytes but the file has ", size_,
                                                   "; it is truncated or no safetensors file, fetch it again"));
  }
  const Json header = Json::parse(bytes + 8, bytes + 8 + header_size, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) return absl::InvalidArgumentError(absl::StrCat(path_, ": its header is not a JSON object"));
  const char* data = bytes + 8 + header_size;
  for (const auto& [name, json] : header.items()) {
    if (name == "__metadata__") continue;
    absl::StatusOr<Entry> entry = ParseEntry(json, data, size_ - 8 - header_size);
    if (!entry.ok())
      return absl::InvalidArgumentError(absl::StrCat(path_, ": tensor ", name, ": ", entry.status().message()));
    entries_.emplace(name, *std::move(entry));
  }
  return absl::OkStatus();
}

const SafetensorsFile::Entry* SafetensorsFile::Find(const std::string& name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second;
}

absl::StatusOr<std::vector<std::shared_ptr<const SafetensorsFile>>> OpenModelWeights(const std::string& folder) {
  std::vector<std::shared_ptr<const SafetensorsFile>> files;
  const std::string index_file = folder + "/model.safetensors.index.json";
  std::set<std::string> names = {"model.safetensors"};
  if (std::filesystem::exists(index_file)) {
    NABLA_ASSIGN_OR_RETURN(const Json index, ReadJsonObject(index_file));
    if (!index.contains("weight_map") || !index["weight_map"].is_object()) {
      return absl::InvalidArgumentError(absl::StrCat(index_file, ": weight_map is missing"));
    }
    names.clear();
    for (const auto& [tensor, file] : index["weight_map"].items()) {
      if (!file.is_string())
        return absl::InvalidArgumentError(absl::StrCat(index_file, ": weight_map.", tensor, " is not a file name"));
      names.insert(file.get<std::string>());
    }
  }
  for (const std::string& name : names) {
    NABLA_ASSIGN_OR_RETURN(std::shared_ptr<const SafetensorsFile> file, SafetensorsFile::Open(folder + "/" + name));
    files.push_back(std::move(file));
  }
  return files;
}

}  // namespace nabla
