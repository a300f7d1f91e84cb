#include "server/settings.h"

#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"
#include "server/file.h"
#include "server/text_proto.h"

namespace nabla {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

std::string OneOf(const std::vector<std::string>& choices) {
  std::string list = absl::StrJoin(choices.begin(), choices.end() - 1, ", ");
  return absl::StrCat(list, " or ", choices.back());
}

}  // namespace

// A field of the message that holds it; no message: the file has none of that kind.
struct Settings::Field {
  Message* message = nullptr;
  const FieldDescriptor* descriptor = nullptr;

  bool given() const {
    if (message == nullptr || descriptor == nullptr) return false;
    const google::protobuf::Reflection* reflection = message->GetReflection();
    return descriptor->is_repeated() ? reflection->FieldSize(*message, descriptor) > 0
                                     : reflection->HasField(*message, descriptor);
  }
  std::string text() const { return message->GetReflection()->GetString(*message, descriptor); }
  int64_t integer() const {
    const google::protobuf::Reflection* reflection = message->GetReflection();
    return descriptor->cpp_type() == FieldDescriptor::CPPTYPE_INT64 ? reflection->GetInt64(*message, descriptor)
                                                                    : reflection->GetInt32(*message, descriptor);
  }
  double number() const { return message->GetReflection()->GetDouble(*message, descriptor); }
};

absl::StatusOr<Settings> Settings::Load(const std::string& file, const google::protobuf::Message& type,
                                        std::map<std::string, std::string> fields) {
  Settings settings;
  settings.file_ = file;
  settings.fields_ = std::move(fields);
  settings.config_.reset(type.New());
  if (file.empty()) return settings;
  NABLA_ASSIGN_OR_RETURN(const std::string text, ReadFile("--config", file));
  NABLA_RETURN_IF_ERROR(ParseTextProto(file, text, settings.config_.get(), settings.locations_.get()));
  return settings;
}

std::string Settings::FieldOf(const std::string& name) const {
  const auto field = fields_.find(name);
  return field == fields_.end() ? name : field->second;
}

std::string Settings::Written(const std::string& name) const {
  const std::string field = FieldOf(name);
  for (const auto& [flag, its_field] : fields_) {
    if (its_field == field) return absl::StrCat("--", flag);
  }
  return field;
}

Settings::Field Settings::Find(const std::string& name, bool make) {
  const std::vector<std::string> path = absl::StrSplit(FieldOf(name), '.');
  Message* message = config_.get();
  for (size_t i = 0; i + 1 < path.size(); ++i) {
    const FieldDescriptor* const step = message->GetDescriptor()->FindFieldByName(path[i]);
    if (!make && !message->GetReflection()->HasField(*message, step)) return {};
    message = message->GetReflection()->MutableMessage(message, step);
  }
  return {.message = message, .descriptor = message->GetDescriptor()->FindFieldByName(path.back())};
}

Settings::Field Settings::Make(const std::string& flag) {
  overridden_.insert(FieldOf(flag));
  return Find(flag, /*make=*/true);
}

void Settings::Override(const std::string& flag, const std::string& value) {
  const Field field = Make(flag);
  field.message->GetReflection()->SetString(field.message, field.descriptor, value);
}

void Settings::Override(const std::string& flag, int64_t value) {
  const Field field = Make(flag);
  if (field.descriptor->cpp_type() == FieldDescriptor::CPPTYPE_INT64) {
    field.message->GetReflection()->SetInt64(field.message, field.descriptor, value);
  } else {
    field.message->GetReflection()->SetInt32(field.message, field.descriptor, static_cast<int32_t>(value));
  }
}

void Settings::Override(const std::string& flag, double value) {
  const Field field = Make(flag);
  field.message->GetReflection()->SetDouble(field.message, field.descriptor, value);
}

void Settings::Override(const std::string& flag, const std::vector<std::string>& values) {
  const Field field = Make(flag);
  field.message->GetReflection()->ClearField(field.message, field.descriptor);
  for (const std::string& value : values) {
    field.message->GetReflection()->AddString(field.message, field.descriptor, value);
  }
}

// Of a list that a flag has emptied, too.
bool Settings::Has(const std::string& name, const Field& field) const {
  return field.message != nullptr && (field.given() || overridden_.count(FieldOf(name)) != 0);
}

bool Settings::Has(const std::string& name) { return Has(name, Find(name)); }

void Settings::Read(const std::string& name, std::string* target) {
  const Field field = Find(name);
  if (!Has(name, field)) return;
  std::string value = field.text();
  if (value.empty()) return Fail(name, "must not be empty");
  *target = std::move(value);
}

void Settings::Read(const std::string& name, const std::vector<std::string>& choices, std::string* target) {
  const Field field = Find(name);
  if (!Has(name, field)) return;
  std::string value = field.text();
  if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
    return Fail(name, absl::StrCat("must be ", OneOf(choices), ", got \"", value, "\""));
  }
  *target = std::move(value);
}

void Settings::Read(const std::string& name, int64_t least, int64_t most, int64_t* target) {
  const Field field = Find(name);
  if (!Has(name, field)) return;
  const int64_t value = field.integer();
  if (value < least || value > most) {
    return Fail(name, absl::StrCat("must be ", least, " to ", most, ", got ", value));
  }
  *target = value;
}

void Settings::Read(const std::string& name, int least, int most, int* target) {
  int64_t value = *target;
  Read(name, int64_t{least}, int64_t{most}, &value);
  *target = static_cast<int>(value);
}

void Settings::ReadSeconds(const std::string& name, double least, double most, absl::Duration* target) {
  ReadSeconds(name, least, most, /*or_infinity=*/false, target);
}

void Settings::ReadSecondsOrInfinity(const std::string& name, double least, double most, absl::Duration* target) {
  ReadSeconds(name, least, most, /*or_infinity=*/true, target);
}

void Settings::ReadSeconds(const std::string& name, double least, double most, bool or_infinity,
                           absl::Duration* target) {
  const Field field = Find(name);
  if (!Has(name, field)) return;
  const double value = field.number();
  const bool infinite = or_infinity && value == std::numeric_limits<double>::infinity();
  if (!infinite && !(value >= least && value <= most)) {
    return Fail(name, absl::StrFormat("must be %.15g to %.15g seconds%s, got %.15g", least, most,
                                      or_infinity ? " or inf" : "", value));
  }
  *target = absl::Seconds(value);
}

void Settings::Read(const std::string& name, std::vector<std::string>* target) {
  const Field field = Find(name);
  if (!Has(name, field)) return;
  const google::protobuf::Reflection* const reflection = field.message->GetReflection();
  target->clear();
  for (int i = 0; i < reflection->FieldSize(*field.message, field.descriptor); ++i) {
    target->push_back(reflection->GetRepeatedString(*field.message, field.descriptor, i));
  }
  const bool any_empty = std::any_of(target->begin(), target->end(), [](const auto& value) { return value.empty(); });
  if (target->empty() || any_empty) Fail(name, "must name at least one, and none that is empty");
}

void Settings::Fail(const std::string& name, absl::string_view what) {
  Fail(absl::InvalidArgumentError(absl::StrCat(Written(name), ": ", what)));
}

void Settings::Fail(const absl::Status& status) {
  if (status_.ok()) status_ = Locate(status);
}

void Settings::FailIfGiven(const std::vector<std::string>& names, absl::string_view what) {
  for (const std::string& name : names) {
    if (Has(name)) Fail(name, what);
  }
}

absl::Status Settings::Locate(const absl::Status& status) const {
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(status.message(), absl::MaxSplits(": ", 1));
  std::string name(parts.first);
  if (absl::StartsWith(name, "--")) name = name.substr(2);
  const std::string whole = FieldOf(name);
  if (status.ok() || overridden_.count(whole) != 0) return status;
  const std::vector<std::string> path = absl::StrSplit(whole, '.');
  const google::protobuf::TextFormat::ParseInfoTree* tree = locations_.get();
  const google::protobuf::Descriptor* message = config_->GetDescriptor();
  for (size_t i = 0; tree != nullptr && message != nullptr; ++i) {
    const FieldDescriptor* const field = message->FindFieldByName(path[i]);
    if (field == nullptr) return status;
    if (i + 1 < path.size()) {
      tree = tree->GetTreeForNested(field, -1);
      message = field->message_type();
      continue;
    }
    const auto location = tree->GetLocation(field, field->is_repeated() ? 0 : -1);
    if (location.line < 0) return status;
    return absl::Status(status.code(), absl::StrCat(file_, ":", location.line + 1, ":", location.column + 1, ": ",
                                                    whole, ": ", parts.second));
  }
  return status;
}

}  // namespace nabla
