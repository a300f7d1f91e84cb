#include <cmath>
#include <fstream>
#include <memory>
#include <random>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/async_reasoner_client.h"
#include "client/cli/command.h"
#include "client/cli/flag_set.h"
#include "client/cli/load_generator.h"
#include "client/cli/load_statistics.h"
#include "client/cli/questions.h"
#include "client/cli/request_flags.h"
#include "engine/base/status_macros.h"

namespace nabla {
namespace {

constexpr uint32_t kMaxConcurrency = 65536;

struct BenchFlags {
  ChannelOptions server{.address = kDefaultServer};
  std::string data;
  std::string strategy;
  std::string concurrency = "1,4,16,64";
  std::string rate;
  absl::Duration warmup = absl::Seconds(2);
  absl::Duration duration = absl::Seconds(10);
  std::optional<uint64_t> requests;
  std::optional<uint64_t> draw_seed;
  absl::Duration slo_ttft = absl::InfiniteDuration();
  absl::Duration slo_itl = absl::InfiniteDuration();
  absl::Duration slo_e2e = absl::InfiniteDuration();
  absl::Duration timeout = absl::InfiniteDuration();
  bool omit_drafts = false;
  std::string json;
  RequestFlags request;
};

// What to do, checked.
struct Plan {
  std::vector<std::string> questions;
  std::string strategy;
  std::vector<Load> levels;
  ServiceLevel service_level;
};

void AddFlags(BenchFlags* values, FlagSet* flags) {
  AddServerFlags(&values->server, flags);
  flags->Add("concurrency", &values->concurrency,
             absl::StrCat("Closed loop: so many callers, one level a number (default ", values->concurrency, ")."));
  flags->Add("rate", &values->rate, "Open loop: so many requests a second at random times, one level a number.");
  flags->Add("warmup", &values->warmup, "Load each level for this long before measuring (default 2s).");
  flags->Add("duration", &values->duration, "Measure each level for this long (default 10s).");
  flags->Add("requests", &values->requests, "Measure so many requests a level instead of a duration.");
  flags->Add("data", &values->data, "JSON lines of {\"question\": …}; a few built-in ones if left out.");
  flags->Add("draw_seed", &values->draw_seed, "Seed of arrivals and of the choice of questions (default 1).");
  flags->Add("strategy", &values->strategy, RequestFlags::StrategyHelp());
  flags->Add("omit_drafts", &values->omit_drafts, "Have the server send final text alone.");
  flags->Add("timeout", &values->timeout, "Deadline of each request (default: none).");
  flags->Add("slo_ttft", &values->slo_ttft, "A good request has its first token within this.");
  flags->Add("slo_itl", &values->slo_itl, "A good request has at most this between tokens, on average.");
  flags->Add("slo_e2e", &values->slo_e2e, "A good request has ended within this.");
  flags->Add("json", &values->json, "Also write the figures to this file; - is standard output.");
  values->request.AddTo(flags);
}

absl::StatusOr<std::vector<Load>> ReadLevels(const BenchFlags& values, const FlagSet& flags) {
  if (flags.WasGiven("rate") && flags.WasGiven("concurrency")) {
    return absl::InvalidArgumentError("--rate: has no effect with --concurrency; give one of the two");
  }
  if (values.requests == uint64_t{0}) return absl::InvalidArgumentError("--requests: must be 1 or more, got 0");
  if (values.requests.has_value() && flags.WasGiven("duration")) {
    return absl::InvalidArgumentError("--duration: has no effect with --requests; give one of the two");
  }
  if (values.duration <= absl::ZeroDuration() || values.duration == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--duration: must be more than 0, got ", absl::FormatDuration(values.duration)));
  }
  if (values.warmup < absl::ZeroDuration() || values.warmup == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--warmup: must be 0 or more, got ", absl::FormatDuration(values.warmup)));
  }
  std::vector<Load> levels;
  const bool open_loop = flags.WasGiven("rate");
  for (const absl::string_view text : absl::StrSplit(open_loop ? values.rate : values.concurrency, ',')) {
    Load load{.warm_up = values.warmup,
              .duration = values.duration,
              .requests = values.requests.value_or(0),
              .seed = values.draw_seed.value_or(1) + levels.size()};
    double rate = 0;
    if (open_loop) {
      if (!absl::SimpleAtod(text, &rate) || !(rate > 0) || std::isinf(rate)) {
        return absl::InvalidArgumentError(absl::StrCat("--rate: each must be more than 0, got \"", text, "\""));
      }
      load.rate = rate;
    } else if (!absl::SimpleAtoi(text, &load.concurrency) || load.concurrency < 1 ||
               load.concurrency > kMaxConcurrency) {
      return absl::InvalidArgumentError(
          absl::StrCat("--concurrency: each must be 1 to ", kMaxConcurrency, ", got \"", text, "\""));
    }
    levels.push_back(load);
  }
  return levels;
}

absl::StatusOr<ServiceLevel> ReadServiceLevel(const BenchFlags& values) {
  ServiceLevel level;
  const std::tuple<const char*, absl::Duration, std::optional<double>*> limits[] = {
      {"slo_ttft", values.slo_ttft, &level.time_to_first_token},
      {"slo_itl", values.slo_itl, &level.inter_token},
      {"slo_e2e", values.slo_e2e, &level.end_to_end}};
  for (const auto& [flag, duration, limit] : limits) {
    if (duration <= absl::ZeroDuration()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--", flag, ": must be more than 0, got ", absl::FormatDuration(duration)));
    }
    if (duration != absl::InfiniteDuration()) *limit = absl::ToDoubleSeconds(duration);
  }
  return level;
}

absl::StatusOr<std::vector<std::string>> LoadQuestions(const std::string& path) {
  if (path.empty()) return BuiltInQuestions();
  std::ifstream file(path);
  if (!file) return absl::InvalidArgumentError(absl::StrCat("--data: cannot read ", path));
  absl::StatusOr<std::vector<std::string>> questions = ReadQuestions(&file);
  if (!questions.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--data: ", path, ": ", questions.status().message()));
  }
  return questions;
}

absl::StatusOr<Plan> MakePlan(const BenchFlags& values, const FlagSet& flags,
                              const std::vector<std::string>& positional) {
  if (!positional.empty())
    return absl::InvalidArgumentError(absl::StrCat("unexpected argument \"", positional.front(), "\""));
  Plan plan;
  NABLA_ASSIGN_OR_RETURN(plan.levels, ReadLevels(values, flags));
  NABLA_ASSIGN_OR_RETURN(plan.service_level, ReadServiceLevel(values));
  NABLA_ASSIGN_OR_RETURN(plan.strategy, RequestFlags::Strategy(flags, values.strategy));
  NABLA_RETURN_IF_ERROR(values.request.Request(plan.strategy, "?").status());
  NABLA_ASSIGN_OR_RETURN(plan.questions, LoadQuestions(values.data));
  return plan;
}

std::string LevelName(const Load& load) {
  return load.rate.has_value() ? absl::StrFormat("rate %.4g/s", *load.rate)
                               : absl::StrCat("concurrency ", load.concurrency);
}

LoadReport RunLevel(const Load& load, const Plan& plan, const BenchFlags& values, AsyncReasonerClient* client,
                    Console* console) {
  // Not the arrivals' own stream: there the gap ahead of a request would tell its question, and overload refuses those
  // that come close behind others.
  std::seed_seq seed{load.seed, uint64_t{1}};
  std::mt19937_64 random(seed);
  const auto request = [&](uint64_t /*index*/) {
    const size_t drawn = std::uniform_int_distribution<size_t>(0, plan.questions.size() - 1)(random);
    v1::ReasonRequest message = *values.request.Request(plan.strategy, plan.questions[drawn]);
    message.set_omit_drafts(values.omit_drafts);
    return message;
  };
  const std::string name = LevelName(load);
  const auto progress = [&](const LoadProgress& state) {
    if (!console->error_is_terminal) return;
    *console->error << absl::StrFormat("\r%s: %.1f s, %d ended, %d of them failed, %d open \x1b[K", name, state.seconds,
                                       state.ended, state.failed, state.open)
                    << std::flush;
  };
  const LoadResult result =
      RunLoad(load, request, client, {.timeout = values.timeout, .cancel = console->cancel}, progress);
  if (console->error_is_terminal) *console->error << std::endl;
  return Summarize(name, result.samples, result.window, plan.service_level);
}

// One line for each different error, so that none is hidden. False if a level has nothing but failures.
bool ReportFailures(const std::vector<LoadReport>& reports, std::ostream* error) {
  bool all_measured = true;
  for (const LoadReport& report : reports) {
    for (const auto& [message, count] : report.errors) {
      *error << "nabla: " << report.load << ": " << count << " failed: " << message << std::endl;
    }
    if (report.completed > 0) continue;
    *error << "nabla: " << report.load << ": no request was completed" << std::endl;
    all_measured = false;
  }
  return all_measured;
}

// False if the file could not be written.
bool WriteJson(const std::string& path, const std::string& json, Console* console) {
  if (path.empty()) return true;
  if (path == "-") {
    *console->out << json << std::flush;
    return true;
  }
  std::ofstream file(path);
  file << json;
  file.close();
  if (!file) *console->error << "nabla: --json: cannot write " << path << std::endl;
  return static_cast<bool>(file);
}

}  // namespace

int RunBench(const std::vector<std::string>& arguments, Console* console) {
  BenchFlags values;
  FlagSet flags("nabla bench", "puts load on a server, level by level, and measures it.", "");
  AddFlags(&values, &flags);
  const absl::StatusOr<std::vector<std::string>> positional = flags.Parse(arguments);
  if (!positional.ok()) return UsageError(positional.status(), console);
  if (flags.help_requested()) {
    *console->out << flags.Help();
    return kExitOk;
  }
  const absl::StatusOr<Plan> plan = MakePlan(values, flags, *positional);
  if (!plan.ok()) return UsageError(plan.status(), console);
  const absl::StatusOr<std::unique_ptr<ReasonerClient>> asker = ReasonerClient::Create(values.server);
  if (!asker.ok()) return UsageError(asker.status(), console);
  const absl::StatusOr<v1::GetInfoResponse> info =
      (*asker)->GetInfo({.deadline = absl::Now() + absl::Seconds(10), .cancel = console->cancel});
  if (!info.ok()) return CallError(info.status(), values.server, console);
  const absl::StatusOr<std::unique_ptr<AsyncReasonerClient>> client = AsyncReasonerClient::Create(values.server);
  if (!client.ok()) return UsageError(client.status(), console);

  const auto interrupted = [console] { return console->cancel != nullptr && console->cancel->cancelled(); };
  std::vector<LoadReport> reports;
  for (const Load& load : plan->levels) {
    reports.push_back(RunLevel(load, *plan, values, client->get(), console));
    if (interrupted()) break;
  }
  *(values.json == "-" ? console->error : console->out) << FormatLoadTable(reports) << std::flush;
  const bool measured = ReportFailures(reports, console->error);
  if (!WriteJson(values.json, FormatLoadJson(reports), console)) return kExitFailed;
  if (interrupted()) return kExitInterrupted;
  return measured ? kExitOk : kExitFailed;
}

}  // namespace nabla
