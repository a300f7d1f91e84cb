#include "engine/text/gguf_metadata.h"

#include <limits>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "gtest/gtest.h"
#include "tests/engine/text/gguf_writer.h"

namespace nabla {
namespace {

constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();

// The error of a file with these bytes, without the file's name.
std::string ErrorOf(const std::string& bytes) {
  const TemporaryFile file(bytes);
  const absl::Status status = ReadGgufMetadata(file.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  const std::string message(status.message());
  EXPECT_TRUE(absl::StartsWith(message, file.path() + ": ")) << message;
  return std::string(absl::StripPrefix(message, file.path() + ": "));
}

std::string ErrorOfValue(uint32_t type, const std::string& value) {
  GgufWriter writer;
  writer.Add("k", type, value);
  return ErrorOf(writer.Bytes());
}

std::string AllTypes(uint32_t version) {
  GgufWriter writer;
  writer.Add("uint8", 0, GgufNumber<uint8_t>(200));
  writer.Add("int8", 1, GgufNumber<int8_t>(-8));
  writer.Add("uint16", 2, GgufNumber<uint16_t>(60000));
  writer.Add("int16", 3, GgufNumber<int16_t>(-16));
  writer.Add("uint32", 4, GgufNumber<uint32_t>(4'000'000'000));
  writer.Add("int32", 5, GgufNumber<int32_t>(-32));
  writer.Add("float32", 6, GgufNumber<float>(0.5));
  writer.Add("bool", 7, GgufNumber<uint8_t>(1));
  writer.AddString("string", "Nabla");
  writer.Add("array", 9, GgufArray(8, {GgufString("a"), GgufString("")}));
  writer.Add("nested", 9, GgufArray(9, {GgufArray(5, {GgufNumber<int32_t>(7)}), GgufArray(4, {})}));
  writer.Add("uint64", 10, GgufNumber<uint64_t>(kHuge));
  writer.Add("int64", 11, GgufNumber<int64_t>(-64));
  writer.Add("float64", 12, GgufNumber<double>(0.25));
  return writer.Bytes(version);
}

TEST(GgufMetadataTest, ReadsAllTypesOfValues) {
  for (const uint32_t version : {2, 3}) {
    const TemporaryFile file(AllTypes(version) + "what follows is not looked at");
    const auto metadata = ReadGgufMetadata(file.path());
    ASSERT_TRUE(metadata.ok()) << metadata.status();
    EXPECT_EQ(*metadata, nlohmann::json::parse(R"({
        "uint8": 200, "int8": -8, "uint16": 60000, "int16": -16, "uint32": 4000000000, "int32": -32, "float32": 0.5,
        "bool": true, "string": "Nabla", "array": ["a", ""], "nested": [[7], []], "uint64": 18446744073709551615,
        "int64": -64, "float64": 0.25})"));
  }
}

TEST(GgufMetadataTest, RefusesAFileCutAnywhere) {
  const std::string whole = AllTypes(3);
  for (size_t size = 0; size < whole.size(); ++size) {
    const std::string error = ErrorOf(whole.substr(0, size));
    EXPECT_TRUE(absl::StrContains(error, size < 24 ? "is not a GGUF file: expected a regular file of at least 24 bytes"
                                                   : "it is truncated or damaged, fetch it again"))
        << size << ": " << error;
  }
}

TEST(GgufMetadataTest, NamesWhereTheFileEnds) {
  GgufWriter writer;
  writer.AddString("general.name", "Nabla");
  writer.Add("general.languages", 9, GgufArray(8, {GgufString("en"), GgufString("de")}));
  const std::string whole = writer.Bytes();
  EXPECT_EQ(ErrorOf(whole.substr(0, 50)),
            "general.name: claims 8 bytes at byte 48 but the file has 50 bytes; it is truncated or damaged, fetch it "
            "again");
  EXPECT_EQ(ErrorOf(whole.substr(0, 70)),
            "metadata entry 1: claims 17 bytes at byte 69 but the file has 70 bytes; it is truncated or damaged, fetch "
            "it again");
  EXPECT_EQ(ErrorOf(whole.substr(0, whole.size() - 1)),
            absl::StrCat("general.languages: claims 2 bytes at byte ", whole.size() - 2, " but the file has ",
                         whole.size() - 1, " bytes; it is truncated or damaged, fetch it again"));
}

TEST(GgufMetadataTest, RefusesOtherFiles) {
  EXPECT_EQ(ErrorOf("GGML" + AllTypes(3).substr(4)), "is not a GGUF file: begins with \"GGML\"; expected \"GGUF\"");
  EXPECT_EQ(ErrorOf(AllTypes(1)), "header: version is 1; supported are 2 and 3 (little-endian)");
  EXPECT_EQ(ErrorOf(AllTypes(0x03000000)), "header: version is 50331648; supported are 2 and 3 (little-endian)");
}

TEST(GgufMetadataTest, RefusesCountsBeyondTheFile) {
  const std::string header = "GGUF" + GgufNumber<uint32_t>(3) + GgufNumber<uint64_t>(0);
  EXPECT_EQ(
      ErrorOf(header + GgufNumber(kHuge)),
      "header: claims 18446744073709551615 metadata entries at byte 24 but the file has 24 bytes; it is truncated "
      "or damaged, fetch it again");
  EXPECT_EQ(ErrorOfValue(8, GgufNumber(kHuge)),
            "k: claims 18446744073709551615 bytes at byte 45 but the file has 45 bytes; it is truncated or damaged, "
            "fetch it again");
  EXPECT_EQ(ErrorOfValue(9, GgufNumber<uint32_t>(10) + GgufNumber(kHuge)),
            "k: claims 18446744073709551615 elements at byte 49 but the file has 49 bytes; it is truncated or damaged, "
            "fetch it again");
  EXPECT_EQ(ErrorOfValue(9, GgufNumber<uint32_t>(0) + GgufNumber<uint64_t>(5'000'000) + std::string(5'000'000, '\1')),
            "k: is past the 4194304 values that are supported");
}

TEST(GgufMetadataTest, RefusesDamagedValues) {
  EXPECT_EQ(ErrorOfValue(13, "12345678"), "k: has a value of type 13; expected a type from 0 to 12");
  EXPECT_EQ(ErrorOfValue(9, GgufArray(13, {})), "k: has elements of type 13; expected a type from 0 to 12");
  EXPECT_EQ(ErrorOfValue(7, "\2"), "k: is a boolean of value 2; expected 0 or 1");
  std::string nested = GgufArray(0, {});
  for (int depth = 0; depth < 8; ++depth) nested = GgufArray(9, {nested});
  EXPECT_EQ(ErrorOfValue(9, nested), "k: has arrays more than 8 deep");
  GgufWriter writer;
  writer.AddString("k", "a");
  writer.AddString("k", "b");
  EXPECT_EQ(ErrorOf(writer.Bytes()), "k: stands there twice; expected once");
}

TEST(GgufMetadataTest, NamesTheMissingFile) {
  const absl::Status status = ReadGgufMetadata("no/such.gguf").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(status.message(), "no/such.gguf: cannot be opened: No such file or directory; expected a GGUF file");
}

}  // namespace
}  // namespace nabla
