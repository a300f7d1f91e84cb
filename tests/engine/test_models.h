// Small models for unit tests: the fixtures that the repository carries, and copies of them to spoil.
#ifndef NABLA_TESTS_ENGINE_TEST_MODELS_H_
#define NABLA_TESTS_ENGINE_TEST_MODELS_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace nabla {

// Random weights, 2 layers, vocabulary 403; ctest runs in the source root.
inline std::string LanguageModelFolder() { return "tests/golden/qwen3/lm"; }
inline std::string ClassifierFolder() { return "tests/golden/qwen3/rm"; }
inline std::string JudgeFolder() { return "tests/golden/qwen3/judge"; }

// Where tests of what every device does run their models: the device that NABLA_TEST_DEVICE names, else the CPU.
inline std::string TestDevice() {
  const char* named = std::getenv("NABLA_TEST_DEVICE");
  return named != nullptr && *named != '\0' ? named : "cpu";
}

// A writable copy of a model folder, removed with the object.
class FolderCopy {
 public:
  explicit FolderCopy(const std::string& source) {
    const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
    path_ = (std::filesystem::temp_directory_path() /
             (std::string("nabla_") + test->test_suite_name() + "_" + test->name()))
                .string();
    std::filesystem::remove_all(path_);
    std::filesystem::copy(source, path_, std::filesystem::copy_options::recursive);
  }
  ~FolderCopy() { std::filesystem::remove_all(path_); }
  FolderCopy(const FolderCopy&) = delete;
  FolderCopy& operator=(const FolderCopy&) = delete;

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }

  std::string Read(const std::string& name) const {
    std::ifstream stream(File(name), std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(stream), {});
  }
  void Write(const std::string& name, const std::string& content) const {
    std::ofstream(File(name), std::ios::binary) << content;
  }
  void Replace(const std::string& name, const std::string& from, const std::string& to) const {
    std::string content = Read(name);
    const size_t at = content.find(from);
    ASSERT_NE(at, std::string::npos) << name << " does not hold " << from;
    Write(name, content.replace(at, from.size(), to));
  }

 private:
  std::string path_;
};

}  // namespace nabla

#endif  // NABLA_TESTS_ENGINE_TEST_MODELS_H_
