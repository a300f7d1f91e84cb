#include "server/text_proto.h"

#include <google/protobuf/io/tokenizer.h>

#include "absl/strings/str_cat.h"

namespace nabla {
namespace {

// Keeps the first error; the others follow from it.
class FirstError final : public google::protobuf::io::ErrorCollector {
 public:
  explicit FirstError(const std::string& file) : file_(file) {}

  void AddError(int line, google::protobuf::io::ColumnNumber column, const std::string& message) override {
    if (text_.empty()) text_ = absl::StrCat(file_, ":", line + 1, ":", column + 1, ": ", message);
  }
  const std::string& text() const { return text_; }

 private:
  const std::string& file_;
  std::string text_;
};

}  // namespace

absl::Status ParseTextProto(const std::string& file, const std::string& text, google::protobuf::Message* message,
                            google::protobuf::TextFormat::ParseInfoTree* locations) {
  FirstError error(file);
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&error);
  if (locations != nullptr) parser.WriteLocationsTo(locations);
  if (parser.ParseFromString(text, message)) return absl::OkStatus();
  return absl::InvalidArgumentError(error.text());
}

}  // namespace nabla
