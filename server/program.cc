#include "server/program.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/stubs/logging.h>
#include <stdlib.h>

#include <cstring>
#include <iostream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/reflection.h"
#include "absl/flags/usage_config.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "engine/base/status_macros.h"
#include "server/config_flag.h"

ABSL_FLAG(std::string, config, "", "Config file in Protobuf's text format.");
ABSL_FLAG(bool, check_config, false, "Check flags, config file and the files that they name, and exit.");

namespace nabla {
namespace {

constexpr size_t kHelpWidth = 100;

// The text in lines of at most kHelpWidth, indented.
std::string Wrap(absl::string_view text) {
  std::string wrapped;
  size_t column = kHelpWidth;
  for (absl::string_view word : absl::StrSplit(text, ' ')) {
    const bool fits = column + 1 + word.size() <= kHelpWidth;
    absl::StrAppend(&wrapped, fits ? " " : wrapped.empty() ? "      " : "\n      ", word);
    column = fits ? column + 1 + word.size() : 6 + word.size();
  }
  return wrapped;
}

// `field`, in brackets, is what the flag overrides.
void PrintHelp(const std::string& name, const std::string& field) {
  std::cout << "  --" << name << field << "\n" << Wrap(absl::FindCommandLineFlag(name)->Help()) << "\n";
}

absl::Status Run(const Program& program, const std::vector<char*>& arguments,
                 const std::function<absl::Status(Settings&)>& run) {
  if (arguments.size() > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("unexpected argument \"", arguments[1], "\"; every option is a flag, see --help"));
  }
  NABLA_ASSIGN_OR_RETURN(Settings settings, ReadFlags(program));
  return run(settings);
}

}  // namespace

absl::StatusOr<Settings> ReadFlags(const Program& program) {
  std::map<std::string, std::string> fields;
  for (const ConfigFlag& flag : ConfigFlags()) fields.emplace(flag.name, flag.field);
  NABLA_ASSIGN_OR_RETURN(Settings settings,
                         Settings::Load(absl::GetFlag(FLAGS_config), *program.config, std::move(fields)));
  for (const ConfigFlag& flag : ConfigFlags()) flag.override_field(&settings);
  return settings;
}

bool OnlyCheckConfig() { return absl::GetFlag(FLAGS_check_config); }

void SetUpFlags(const Program& program, int argc, char** argv) {
  for (int i = 1; i < argc && std::strcmp(argv[i], "--") != 0; ++i) {
    if (std::strncmp(argv[i], "--", 2) != 0) continue;
    for (char* c = argv[i] + 2; *c != '\0' && *c != '='; ++c) {
      if (*c == '-') *c = '_';
    }
  }
  absl::FlagsUsageConfig config;
  config.version_string = [name = program.name] { return absl::StrCat(name, " " NABLA_VERSION "\n"); };
  absl::SetFlagsUsageConfig(config);
}

bool PrintHelpIfAsked(const Program& program, int argc, char** argv) {
  bool asked = false;
  for (int i = 1; i < argc && std::strcmp(argv[i], "--") != 0; ++i) {
    asked = asked || std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0;
  }
  if (!asked) return false;
  std::cout << program.name << ": " << program.introduction << "\n\nThe config file is a "
            << program.config->GetDescriptor()->name()
            << " (proto/nabla/v1/config.proto).\nA flag overrides its field, which is named behind it.\n\n";
  PrintHelp("config", "");
  PrintHelp("check_config", "");
  for (const ConfigFlag& flag : ConfigFlags()) PrintHelp(flag.name, absl::StrCat("  (", flag.field, ")"));
  std::cout << "  --version\n      The version, and exit.\n  --help\n      This text, and exit.\n";
  return true;
}

int RunProgram(const Program& program, int argc, char** argv, const std::function<absl::Status(Settings&)>& run) {
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);  // our own errors say what is wrong
  google::protobuf::SetLogHandler(nullptr);           // a bad request is its caller's to know, not the log's
  SetUpFlags(program, argc, argv);
  if (PrintHelpIfAsked(program, argc, argv)) return 0;
  const absl::Status status = Run(program, absl::ParseCommandLine(argc, argv), run);
  if (status.ok()) return 0;
  std::cerr << program.name << ": " << status.message() << std::endl;
  return 1;
}

}  // namespace nabla
