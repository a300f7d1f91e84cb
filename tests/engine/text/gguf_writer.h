// Writes GGUF metadata for tests, and files that are gone with the object that wrote them.
//
//   GgufWriter writer;
//   writer.AddString("tokenizer.ggml.model", "gpt2");
//   const TemporaryFile file(writer.Bytes());  // file.path()
#ifndef NABLA_TESTS_ENGINE_TEXT_GGUF_WRITER_H_
#define NABLA_TESTS_ENGINE_TEXT_GGUF_WRITER_H_

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace nabla {

// The bytes of a number as the file has it.
template <typename T>
std::string GgufNumber(T number) {
  return std::string(reinterpret_cast<const char*>(&number), sizeof(number));
}

inline std::string GgufString(const std::string& text) { return GgufNumber<uint64_t>(text.size()) + text; }

// An array's bytes: the type of its elements, their number, they themselves.
inline std::string GgufArray(uint32_t type, const std::vector<std::string>& elements) {
  std::string bytes = GgufNumber(type) + GgufNumber<uint64_t>(elements.size());
  for (const std::string& element : elements) bytes += element;
  return bytes;
}

class GgufWriter {
 public:
  void Add(const std::string& key, uint32_t type, const std::string& value) {
    ++count_;
    entries_ += GgufString(key) + GgufNumber(type) + value;
  }
  void AddString(const std::string& key, const std::string& value) { Add(key, 8, GgufString(value)); }

  std::string Bytes(uint32_t version = 3) const {
    return "GGUF" + GgufNumber(version) + GgufNumber<uint64_t>(/*tensors=*/0) + GgufNumber(count_) + entries_;
  }

 private:
  uint64_t count_ = 0;
  std::string entries_;
};

class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& bytes) {
    static int files = 0;
    path_ = absl::StrCat(::testing::TempDir(), "nabla_text_test_", getpid(), "_", files++, ".gguf");
    std::ofstream(path_, std::ios::binary) << bytes;
  }
  ~TemporaryFile() { std::filesystem::remove(path_); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace nabla

#endif  // NABLA_TESTS_ENGINE_TEXT_GGUF_WRITER_H_
