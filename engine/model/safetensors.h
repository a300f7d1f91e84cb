// Memory-mapped safetensors weights: one file, or the shards that model.safetensors.index.json lists.
//
//   NABLA_ASSIGN_OR_RETURN(auto file, SafetensorsFile::Open("model.safetensors"));
//   const SafetensorsFile::Entry* entry = file->Find("lm_head.weight");   // nullptr where there is none
//
// Immutable and thread-safe. The mapping lives as long as the object; entries point into it. Every offset, size and
// shape is checked on opening, so that a truncated file is an error here and not a crash later.
#ifndef NABLA_ENGINE_MODEL_SAFETENSORS_H_
#define NABLA_ENGINE_MODEL_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace nabla {

class SafetensorsFile {
 public:
  struct Entry {
    std::string dtype;  // "F32", "BF16" or "F16"
    std::vector<int64_t> shape;
    const void* data = nullptr;
    size_t bytes = 0;
  };

  static absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Open(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const Entry* Find(const std::string& name) const;
  const std::map<std::string, Entry>& entries() const { return entries_; }
  const std::string& path() const { return path_; }

 private:
  SafetensorsFile(std::string path, void* mapping, size_t size)
      : path_(std::move(path)), mapping_(mapping), size_(size) {}
  absl::Status ParseHeader();

  std::string path_;
  void* mapping_;
  size_t size_;
  std::map<std::string, Entry> entries_;
};

// All files of a model folder: model.safetensors, or the shards of model.safetensors.index.json.
absl::StatusOr<std::vector<std::shared_ptr<const SafetensorsFile>>> OpenModelWeights(const std::string& folder);

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_SAFETENSORS_H_
