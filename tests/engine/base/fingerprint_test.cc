#include "engine/base/fingerprint.h"

#include <gtest/gtest.h>

namespace nabla {
namespace {

TEST(FingerprintTest, IsTheSameEverywhere) {
  EXPECT_EQ(Fingerprint().Hex(), "cbf29ce484222325") << "the offset of 64-bit FNV-1a";
  EXPECT_EQ(Fingerprint().Add(int64_t{0}).Hex(), "a8c7f832281a39c5") << "eight zero bytes";
}

TEST(FingerprintTest, KeepsItsPartsApart) {
  EXPECT_NE(Fingerprint().Add("ab").Add("c").Hex(), Fingerprint().Add("a").Add("bc").Hex());
  EXPECT_NE(Fingerprint().Add("").Hex(), Fingerprint().Hex());
}

TEST(FingerprintTest, ATokenizerIsItsStringsInOrderAndItsPadding) {
  const std::vector<std::string> strings = {"a", "b", ""};
  const std::string fingerprint = TokenizerFingerprint(strings, 1);
  EXPECT_EQ(fingerprint.size(), 16u);
  EXPECT_NE(TokenizerFingerprint(std::vector<std::string>{"b", "a", ""}, 1), fingerprint);
  EXPECT_NE(TokenizerFingerprint(std::vector<std::string>{"a", "b"}, 1), fingerprint);
  EXPECT_NE(TokenizerFingerprint(strings, 2), fingerprint);
}

}  // namespace
}  // namespace nabla
