#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "engine/model/model.h"
#include "engine/model/safetensors.h"
#include "tests/engine/model_fixture.h"
#include "tests/engine/test_models.h"

namespace nabla {
namespace {

using Json = nlohmann::json;

std::string LoadError(const FolderCopy& folder) {
  return std::string(Model::Load(folder.path(), "auto", "cpu", 0).status().message());
}

// A safetensors file of the tensors of `source` that `keep` picks.
template <typename Keep>
std::string Subset(const std::string& source, const Keep& keep) {
  uint64_t header_size = 0;
  std::memcpy(&header_size, source.data(), 8);
  const Json header = Json::parse(source.substr(8, header_size));
  Json chosen = Json::object();
  std::string data;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__" || !keep(name)) continue;
    const size_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    chosen[name] = entry;
    chosen[name]["data_offsets"] = {data.size(), data.size() + end - begin};
    data += source.substr(8 + header_size + begin, end - begin);
  }
  const std::string text = chosen.dump();
  const uint64_t size = text.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + text + data;
}

// The same file with its data `beyond` bytes behind a multiple of 64.
std::string WithDataAt(const std::string& source, size_t beyond) {
  uint64_t header_size = 0;
  std::memcpy(&header_size, source.data(), 8);
  const size_t padding = (2 * 64 + beyond - (8 + header_size) % 64) % 64;
  const uint64_t size = header_size + padding;
  return std::string(reinterpret_cast<const char*>(&size), 8) + source.substr(8, header_size) +
         std::string(padding, ' ') + source.substr(8 + header_size);
}

TEST(ModelLoadingTest, TensorsAreViewsOfTheMappedFileUnlessSmallOnesLieAcrossCacheLines) {
  const FolderCopy folder(LanguageModelFolder());
  const std::string source = folder.Read("model.safetensors");
  for (const size_t beyond : {0, 4}) {
    folder.Write("model.safetensors", WithDataAt(source, beyond));
    const auto file = SafetensorsFile::Open(folder.File("model.safetensors"));
    ASSERT_TRUE(file.ok()) << file.status();
    const SafetensorsFile::Entry* entry = (*file)->Find("model.norm.weight");
    ASSERT_NE(entry, nullptr);
    ASSERT_EQ(reinterpret_cast<uintptr_t>(entry->data) % 64, beyond);
    Weights weights("folder", {*file}, torch::kFloat32, torch::kCPU);
    const torch::Tensor norm = weights.Get("model.norm.weight", {64}).value();
    EXPECT_EQ(norm.data_ptr() == entry->data, beyond == 0);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(norm.data_ptr()) % 64, 0);
    EXPECT_EQ(std::memcmp(norm.data_ptr(), entry->data, entry->bytes), 0);
  }
}

TEST(ModelLoadingTest, CopiesForGradientsAreKeptUnlessUnwanted) {
  for (const bool wanted : {true, false}) {
    const auto model =
        Model::Load(LanguageModelFolder(), "float32", "cpu", 0, /*team=*/nullptr, {.for_gradients = wanted}).value();
    EXPECT_EQ(model->head_projections().front().keeps_copies(), wanted);
    for (const CpuProjection* projection : model->body().cpu_gradient()->projections()) {
      EXPECT_EQ(projection->keeps_copies(), wanted);
    }
  }
}

TEST(ModelLoadingTest, ShardsGiveTheSameModel) {
  const FolderCopy folder(LanguageModelFolder());
  const std::string whole = folder.Read("model.safetensors");
  const auto first = [](const std::string& name) { return name.find("layers.0") != std::string::npos; };
  folder.Write("model-00001-of-00002.safetensors", Subset(whole, first));
  folder.Write("model-00002-of-00002.safetensors",
               Subset(whole, [&](const std::string& name) { return !first(name); }));
  folder.Write("model.safetensors.index.json",
               R"({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})");
  std::filesystem::remove(folder.File("model.safetensors"));

  const auto sharded = Model::Load(folder.path(), "float32", "cpu", 0),
             single = Model::Load(LanguageModelFolder(), "float32", "cpu", 0);
  ASSERT_TRUE(sharded.ok()) << sharded.status();
  const auto run = [](const Model& model) {
    KvCache cache = NewKvCache(model);
    return Extend(model, {5, 6, 7, 8}, cache);
  };
  EXPECT_TRUE(torch::equal(run(**sharded), run(**single)));

  std::filesystem::remove(folder.File("model-00002-of-00002.safetensors"));
  EXPECT_EQ(LoadError(folder),
            folder.File("model-00002-of-00002.safetensors") + ": cannot be opened: No such file or directory");
}

TEST(ModelLoadingTest, ATruncatedFileIsAClearError) {
  const FolderCopy folder(LanguageModelFolder());
  const std::string whole = folder.Read("model.safetensors");
  folder.Write("model.safetensors", whole.substr(0, whole.size() - 1));
  EXPECT_THAT(LoadError(folder), testing::EndsWith("; the file is truncated, fetch it again"));
  folder.Write("model.safetensors", whole.substr(0, 100));
  EXPECT_THAT(LoadError(folder),
              testing::EndsWith("but the file has 100; it is truncated or no safetensors file, fetch it again"));
  folder.Write("model.safetensors", "");
  EXPECT_EQ(LoadError(folder),
            folder.File("model.safetensors") + ": is not a safetensors file: shorter than its 8-byte header size");
  std::filesystem::remove(folder.File("model.safetensors"));
  EXPECT_EQ(LoadError(folder), folder.File("model.safetensors") + ": cannot be opened: No such file or directory");
}

TEST(ModelLoadingTest, WrongShapesAndMissingTensorsAreNamed) {
  const FolderCopy wrong(LanguageModelFolder());
  wrong.Replace("config.json", "\"intermediate_size\": 160", "\"intermediate_size\": 161");
  EXPECT_EQ(LoadError(wrong),
            wrong.File("model.safetensors") +
                ": tensor model.layers.0.mlp.gate_proj.weight has shape [160, 64]; config.json asks for [161, 64]");
  const FolderCopy missing(LanguageModelFolder());
  missing.Write("model.safetensors", Subset(missing.Read("model.safetensors"),
                                            [](const std::string& name) { return name != "model.norm.weight"; }));
  EXPECT_EQ(LoadError(missing), missing.path() + ": tensor model.norm.weight is missing from its safetensors files");
}

TEST(ModelLoadingTest, LyingHeadersAreRefused) {
  const FolderCopy folder(LanguageModelFolder());
  const auto with_header = [&](const std::string& header) {
    const uint64_t size = header.size();
    folder.Write("model.safetensors",
                 std::string(reinterpret_cast<const char*>(&size), 8) + header + std::string(16, '\0'));
    return LoadError(folder);
  };
  const std::string file = folder.File("model.safetensors");
  EXPECT_EQ(with_header("[]"), file + ": its header is not a JSON object");
  EXPECT_EQ(with_header(R"({"x": {"dtype": "F32", "shape": [4], "data_offsets": [0, 64]}})"),
            file + ": tensor x: data ends at byte 64 of 16; the file is truncated, fetch it again");
  EXPECT_EQ(with_header(R"({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 16]}})"),
            file + ": tensor x: has 16 bytes; its shape needs 12");
  EXPECT_EQ(with_header(R"({"x": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 16]}})"),
            file + ": tensor x: shape is larger than the file");
  EXPECT_EQ(with_header(R"({"x": {"dtype": "F32"}})"), file + ": tensor x: needs dtype, shape and data_offsets");
}

TEST(ModelLoadingTest, OptionsAreChecked) {
  const auto error = [](const std::string& dtype, const std::string& device, int max_length) {
    return std::string(Model::Load(LanguageModelFolder(), dtype, device, max_length).status().message());
  };
  EXPECT_EQ(error("int8", "cpu", 0), "dtype is \"int8\"; expected float32, bfloat16 or auto");
  EXPECT_EQ(error("auto", "tpu", 0), "device is \"tpu\"; expected cpu, cuda:N or auto");
  EXPECT_THAT(error("auto", "cuda:99", 0),
              testing::StartsWith("device is \"cuda:99\" but this machine and libtorch offer "));
  EXPECT_EQ(error("auto", "cpu", 100000),
            "max_length is 100000; " + LanguageModelFolder() + "/config.json allows at most 512");
}

TEST(ModelLoadingTest, ParametersAreThoseOfTheFile) {
  const auto model = Model::Load(LanguageModelFolder(), "auto", "cpu", 0);
  ASSERT_TRUE(model.ok()) << model.status();
  const std::string file = std::string(LanguageModelFolder()) + "/model.safetensors";
  uint64_t header_size = 0;
  std::ifstream(file, std::ios::binary).read(reinterpret_cast<char*>(&header_size), 8);
  const int64_t norms = 2 * 2 * 32;  // of queries and keys, in two layers
  EXPECT_EQ((*model)->config().parameters() + norms,
            static_cast<int64_t>((std::filesystem::file_size(file) - 8 - header_size) / 4));
}

}  // namespace
}  // namespace nabla
