// Flags of one subcommand: --name=value, --name value, --name and --noname for bools, "--" ends them. (Abseil's flags
// are one name space for the whole program; here the same name may mean different things to different commands.)
//
//   FlagSet flags("nabla reason", "asks a question", "[question]");
//   flags.Add("seed", &seed, "Seed of the sampler.");
//   NABLA_ASSIGN_OR_RETURN(std::vector<std::string> positional, flags.Parse(arguments));
//
// A std::optional target stays empty unless its flag is given. Targets are not owned and must outlive Parse. Not
// thread-safe.
#ifndef NABLA_CLIENT_CLI_FLAG_SET_H_
#define NABLA_CLIENT_CLI_FLAG_SET_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace nabla {

class FlagSet {
 public:
  FlagSet(std::string command, std::string purpose, std::string positional);

  void Add(const std::string& name, std::string* target, const std::string& help);
  void Add(const std::string& name, std::optional<std::string>* target, const std::string& help);
  void Add(const std::string& name, std::vector<std::string>* target, const std::string& help);  // may be given often
  void Add(const std::string& name, bool* target, const std::string& help);
  void Add(const std::string& name, std::optional<bool>* target, const std::string& help);
  void Add(const std::string& name, uint32_t* target, const std::string& help);
  void Add(const std::string& name, std::optional<uint32_t>* target, const std::string& help);
  void Add(const std::string& name, std::optional<uint64_t>* target, const std::string& help);
  void Add(const std::string& name, std::optional<double>* target, const std::string& help);
  void Add(const std::string& name, absl::Duration* target, const std::string& help);

  // The positional arguments. INVALID_ARGUMENT says which flag is wrong and how.
  absl::StatusOr<std::vector<std::string>> Parse(const std::vector<std::string>& arguments);

  bool WasGiven(const std::string& name) const;  // by the last Parse
  bool help_requested() const { return help_requested_; }
  std::string Help() const;

 private:
  struct Flag {
    std::string name;
    std::string help;
    std::string value_hint;  // empty for bools
    std::function<bool(absl::string_view)> set;
    bool given = false;
  };

  void AddFlag(const std::string& name, const std::string& hint, const std::string& help,
               std::function<bool(absl::string_view)> set);
  Flag* Find(absl::string_view name);
  absl::Status Set(Flag* flag, absl::string_view value);
  absl::Status Unknown(absl::string_view name) const;

  const std::string command_;
  const std::string purpose_;
  const std::string positional_;
  std::vector<Flag> flags_;
  bool help_requested_ = false;
};

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_FLAG_SET_H_
