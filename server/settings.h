// A server's settings: values from a config file, and from flags that override its fields.
//
//   NABLA_ASSIGN_OR_RETURN(Settings settings, Settings::Load("server.textproto", v1::ServerConfig::default_instance(),
//                                                            {{"port", "listener.port"}}));   // "": no file
//   settings.Override("port", int64_t{50052});
//   settings.Read("port", 0, 65535, &options.port);      // the target keeps its default where nothing is given
//   settings.Read("dtype", {"auto", "float32"}, &options.dtype);
//   NABLA_RETURN_IF_ERROR(settings.status());
//
// A setting is named as its flag or as its field ("listener.port"), whichever is at hand. The first error stays:
// INVALID_ARGUMENT "--port: must be 0 to 65535, got 70000", with the field where there is no flag, and where the value
// comes from the file "server.textproto:12:3: listener.port: must be …". Not thread-safe; does not block but in Load.
#ifndef NABLA_SERVER_SETTINGS_H_
#define NABLA_SERVER_SETTINGS_H_

#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace nabla {

class Settings {
 public:
  // `type` is the default instance of what the file holds; `fields` says which field a flag overrides.
  static absl::StatusOr<Settings> Load(const std::string& file, const google::protobuf::Message& type,
                                       std::map<std::string, std::string> fields);

  void Override(const std::string& flag, const std::string& value);
  void Override(const std::string& flag, int64_t value);
  void Override(const std::string& flag, double value);
  void Override(const std::string& flag, const std::vector<std::string>& values);

  bool Has(const std::string& name);

  void Read(const std::string& name, std::string* target);  // not empty
  void Read(const std::string& name, const std::vector<std::string>& choices, std::string* target);
  void Read(const std::string& name, int64_t least, int64_t most, int64_t* target);
  void Read(const std::string& name, int least, int most, int* target);
  void ReadSeconds(const std::string& name, double least, double most, absl::Duration* target);
  void ReadSecondsOrInfinity(const std::string& name, double least, double most, absl::Duration* target);
  void Read(const std::string& name, std::vector<std::string>* target);  // none of them empty, at least one

  // Rules between settings: `what` is wrong with one of them.
  void Fail(const std::string& name, absl::string_view what);
  void Fail(const absl::Status& status);  // of a message that begins with the setting's name; OK: nothing is wrong
  void FailIfGiven(const std::vector<std::string>& names, absl::string_view what);

  const absl::Status& status() const { return status_; }

  // The setting as messages name it: its flag with the dashes, else its field.
  std::string Written(const std::string& name) const;

  // Where a message begins with the name of a setting that comes from the file: with its line and field instead.
  absl::Status Locate(const absl::Status& status) const;

 private:
  struct Field;

  Settings() = default;

  std::string FieldOf(const std::string& name) const;
  // The setting's field; none where the file has no message to hold it, unless it is to be made.
  Field Find(const std::string& name, bool make = false);
  bool Has(const std::string& name, const Field& field) const;
  Field Make(const std::string& flag);
  void ReadSeconds(const std::string& name, double least, double most, bool or_infinity, absl::Duration* target);

  std::string file_;
  std::map<std::string, std::string> fields_;  // by flag
  std::unique_ptr<google::protobuf::Message> config_;
  std::unique_ptr<google::protobuf::TextFormat::ParseInfoTree> locations_ =
      std::make_unique<google::protobuf::TextFormat::ParseInfoTree>();
  std::set<std::string> overridden_;  // fields
  absl::Status status_;
};

}  // namespace nabla

#endif  // NABLA_SERVER_SETTINGS_H_
