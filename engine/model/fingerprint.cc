#include "engine/model/fingerprint.h"

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <iterator>
#include <map>

#include "absl/strings/string_view.h"
#include "engine/base/fingerprint.h"
#include "engine/base/status_macros.h"
#include "engine/model/safetensors.h"

namespace nabla {
namespace {

// Spread evenly over a tensor, its first and last bytes included.
constexpr size_t kSamples = 16;
constexpr size_t kSampleBytes = 64;

// What config.json leaves open is in the others. A file that is not there counts as an empty one.
constexpr const char* kTextFiles[] = {"config.json", "generation_config.json", "tokenizer.json",
                                      "tokenizer_config.json", "chat_template.jinja"};

std::string ReadText(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(stream), {});
}

void AddTensor(const std::string& name, const SafetensorsFile::Entry& entry, Fingerprint& fingerprint) {
  fingerprint.Add(absl::string_view(name)).Add(absl::string_view(entry.dtype));
  fingerprint.Add(static_cast<int64_t>(entry.shape.size()));
  for (const int64_t size : entry.shape) fingerprint.Add(size);
  const absl::string_view bytes(static_cast<const char*>(entry.data), entry.bytes);
  if (bytes.size() <= kSamples * kSampleBytes) {
    fingerprint.Add(bytes);
    return;
  }
  const size_t last = bytes.size() - kSampleBytes;
  for (size_t i = 0; i < kSamples; ++i) {
    fingerprint.Add(
        bytes.substr(last / (kSamples - 1) * i + (i == kSamples - 1 ? last % (kSamples - 1) : 0), kSampleBytes));
  }
}

}  // namespace

absl::StatusOr<std::string> FingerprintModel(const std::string& folder, const std::string& dtype) {
  NABLA_ASSIGN_OR_RETURN(const auto files, OpenModelWeights(folder));
  Fingerprint fingerprint;
  fingerprint.Add(absl::string_view(dtype));
  for (const char* file : kTextFiles) fingerprint.Add(absl::string_view(ReadText(folder + "/" + file)));
  // By name: shards of one model may be cut differently.
  std::map<std::string, const SafetensorsFile::Entry*> tensors;
  for (const auto& file : files) {
    for (const auto& [name, entry] : file->entries()) tensors.emplace(name, &entry);
  }
  for (const auto& [name, entry] : tensors) AddTensor(name, *entry, fingerprint);
  return fingerprint.Hex();
}

}  // namespace nabla
