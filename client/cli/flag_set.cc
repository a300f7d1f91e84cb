#include "client/cli/flag_set.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace nabla {
namespace {

bool ParseBool(absl::string_view text, bool* value) {
  *value = text == "true";
  return *value || text == "false";
}

bool ParseNumber(absl::string_view text, double* value) { return absl::SimpleAtod(text, value) && !std::isnan(*value); }

template <typename Number>
bool ParseCount(absl::string_view text, Number* value) {
  return !absl::StartsWith(text, "-") && absl::SimpleAtoi(text, value);
}

// Wraps a parser for an optional target.
template <typename Value>
auto Optional(std::optional<Value>* target, bool (*parse)(absl::string_view, Value*)) {
  return [target, parse](absl::string_view text) {
    Value value{};
    if (!parse(text, &value)) return false;
    *target = value;
    return true;
  };
}

}  // namespace

FlagSet::FlagSet(std::string command, std::string purpose, std::string positional)
    : command_(std::move(command)), purpose_(std::move(purpose)), positional_(std::move(positional)) {
  Add("help", &help_requested_, "Show this.");
}

void FlagSet::Add(const std::string& name, std::string* target, const std::string& help) {
  AddFlag(name, "TEXT", help, [target](absl::string_view text) {
    *target = std::string(text);
    return true;
  });
}

void FlagSet::Add(const std::string& name, std::optional<std::string>* target, const std::string& help) {
  AddFlag(name, "TEXT", help, [target](absl::string_view text) {
    *target = std::string(text);
    return true;
  });
}

void FlagSet::Add(const std::string& name, std::vector<std::string>* target, const std::string& help) {
  AddFlag(name, "TEXT", help, [target](absl::string_view text) {
    target->emplace_back(text);
    return true;
  });
}

void FlagSet::Add(const std::string& name, bool* target, const std::string& help) {
  AddFlag(name, "", help, [target](absl::string_view text) { return ParseBool(text, target); });
}

void FlagSet::Add(const std::string& name, std::optional<bool>* target, const std::string& help) {
  AddFlag(name, "", help, Optional<bool>(target, ParseBool));
}

void FlagSet::Add(const std::string& name, uint32_t* target, const std::string& help) {
  AddFlag(name, "COUNT", help, [target](absl::string_view text) { return ParseCount(text, target); });
}

void FlagSet::Add(const std::string& name, std::optional<uint32_t>* target, const std::string& help) {
  AddFlag(name, "COUNT", help, Optional<uint32_t>(target, ParseCount));
}

void FlagSet::Add(const std::string& name, std::optional<uint64_t>* target, const std::string& help) {
  AddFlag(name, "COUNT", help, Optional<uint64_t>(target, ParseCount));
}

void FlagSet::Add(const std::string& name, std::optional<double>* target, const std::string& help) {
  AddFlag(name, "NUMBER", help, Optional<double>(target, ParseNumber));
}

void FlagSet::Add(const std::string& name, absl::Duration* target, const std::string& help) {
  AddFlag(name, "DURATION", help, [target](absl::string_view text) { return absl::ParseDuration(text, target); });
}

void FlagSet::AddFlag(const std::string& name, const std::string& hint, const std::string& help,
                      std::function<bool(absl::string_view)> set) {
  flags_.push_back({.name = name, .help = help, .value_hint = hint, .set = std::move(set)});
}

absl::StatusOr<std::vector<std::string>> FlagSet::Parse(const std::vector<std::string>& arguments) {
  std::vector<std::string> positional;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const absl::string_view argument = arguments[i];
    if (argument == "--") {
      positional.insert(positional.end(), arguments.begin() + static_cast<std::ptrdiff_t>(i) + 1, arguments.end());
      break;
    }
    if (argument == "-" || !absl::StartsWith(argument, "-")) {
      positional.emplace_back(argument);
      continue;
    }
    const size_t equals = argument.find('=');
    const size_t dashes = absl::StartsWith(argument, "--") ? 2 : 1;
    const absl::string_view name =
        argument.substr(dashes, equals == absl::string_view::npos ? equals : equals - dashes);
    Flag* flag = Find(name);
    absl::string_view value = "true";
    if (flag == nullptr && absl::StartsWith(name, "no") && equals == absl::string_view::npos) {
      flag = Find(name.substr(2));
      if (flag != nullptr && !flag->value_hint.empty()) flag = nullptr;
      value = "false";
    }
    if (flag == nullptr) return Unknown(argument.substr(0, equals));
    if (equals != absl::string_view::npos) {
      value = argument.substr(equals + 1);
    } else if (!flag->value_hint.empty()) {
      if (i + 1 == arguments.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat("--", flag->name, " needs a value: --", flag->name, "=", flag->value_hint));
      }
      value = arguments[++i];
    }
    const absl::Status status = Set(flag, value);
    if (!status.ok()) return status;
  }
  return positional;
}

absl::Status FlagSet::Set(Flag* flag, absl::string_view value) {
  if (!flag->set(value)) {
    const std::string expected = flag->value_hint.empty()         ? "true or false"
                                 : flag->value_hint == "COUNT"    ? "a whole number, 0 or more"
                                 : flag->value_hint == "DURATION" ? "a duration such as 30s or 2m"
                                                                  : "a number";
    return absl::InvalidArgumentError(absl::StrCat("--", flag->name, ": expected ", expected, ", got \"", value, "\""));
  }
  flag->given = true;
  return absl::OkStatus();
}

absl::Status FlagSet::Unknown(absl::string_view name) const {
  return absl::InvalidArgumentError(absl::StrCat("unknown flag ", name, "; see ", command_, " --help"));
}

FlagSet::Flag* FlagSet::Find(absl::string_view name) {
  const auto found = std::find_if(flags_.begin(), flags_.end(), [&](const Flag& flag) { return flag.name == name; });
  return found == flags_.end() ? nullptr : &*found;
}

bool FlagSet::WasGiven(const std::string& name) const {
  return std::any_of(flags_.begin(), flags_.end(), [&](const Flag& flag) { return flag.name == name && flag.given; });
}

std::string FlagSet::Help() const {
  std::string text =
      absl::StrCat(command_, " ", positional_, positional_.empty() ? "" : " ", "[flags]: ", purpose_, "\n\n");
  for (const Flag& flag : flags_) {
    const std::string left = flag.value_hint.empty() ? flag.name : absl::StrCat(flag.name, "=", flag.value_hint);
    absl::StrAppendFormat(&text, "  --%-30s %s\n", left, flag.help);
  }
  return text;
}

}  // namespace nabla
