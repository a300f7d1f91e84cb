#include <fstream>
#include <map>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/cli/command.h"
#include "client/cli/evaluation.h"
#include "client/cli/evaluation_records.h"
#include "client/cli/flag_set.h"
#include "client/cli/progress_bar.h"
#include "client/cli/request_flags.h"
#include "engine/base/status_macros.h"

namespace nabla {
namespace {

struct EvalFlags {
  ChannelOptions server{.address = kDefaultServer};
  std::string data;
  std::string strategies = "greedy,sample,nabla";
  uint32_t concurrency = 2;
  uint32_t limit = 0;
  std::string json;
  std::string records;
  absl::Duration timeout = absl::InfiniteDuration();
  RequestFlags request;
};

void AddFlags(EvalFlags* values, FlagSet* flags) {
  AddServerFlags(&values->server, flags);
  flags->Add("data", &values->data, "JSON lines of {\"question\": …, \"answer\": …}, as of GSM8K or MATH. Required.");
  flags->Add("strategies", &values->strategies,
             absl::StrCat("Comma-separated, the first is what others are compared with; settings of one behind colons, "
                          "best_of_n:candidates=4 (default ",
                          values->strategies, ")."));
  flags->Add("concurrency", &values->concurrency, "Questions asked at once (default 2).");
  flags->Add("limit", &values->limit, "Only the first so many questions; 0: all (default).");
  flags->Add("records", &values->records,
             "Keep every answer in this file as it comes, and do not ask again for what it holds: an interrupted "
             "evaluation goes on.");
  flags->Add("json", &values->json, "Also write every outcome to this file.");
  flags->Add("timeout", &values->timeout, "Give up on a question after this long (default: never).");
  values->request.AddTo(flags);
}

// A strategy with its settings, as --strategies names it.
struct Contender {
  std::string name;
  std::string strategy;
  RequestFlags request;
};

absl::StatusOr<Contender> ReadContender(const std::string& text, const RequestFlags& common) {
  std::vector<std::string> parts = absl::StrSplit(text, ':');
  Contender contender{.name = text, .strategy = parts[0], .request = common};
  if (contender.strategy.empty() || !common.Request(contender.strategy, "?").ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("each must be ", RequestFlags::StrategyNames(), ", got \"", contender.strategy, "\""));
  }
  FlagSet own("nabla eval", "", "");
  contender.request.AddTo(&own);
  std::vector<std::string> arguments;
  for (size_t i = 1; i < parts.size(); ++i) arguments.push_back("--" + parts[i]);
  NABLA_ASSIGN_OR_RETURN(const std::vector<std::string> rest, own.Parse(arguments));
  NABLA_RETURN_IF_ERROR(RequestFlags::CheckUsed(own, {contender.strategy}));
  NABLA_RETURN_IF_ERROR(contender.request.Request(contender.strategy, "?").status());
  return contender;
}

absl::StatusOr<std::vector<Contender>> ReadContenders(const EvalFlags& values, const FlagSet& flags) {
  std::vector<Contender> contenders;
  std::vector<std::string> strategies;
  for (const std::string& text : std::vector<std::string>(absl::StrSplit(values.strategies, ','))) {
    absl::StatusOr<Contender> contender = ReadContender(text, values.request);
    if (!contender.ok()) {
      return absl::InvalidArgumentError(absl::StrCat("--strategies: ", contender.status().message()));
    }
    strategies.push_back(contender->strategy);
    contenders.push_back(*std::move(contender));
  }
  NABLA_RETURN_IF_ERROR(RequestFlags::CheckUsed(flags, strategies));
  return contenders;
}

absl::StatusOr<std::vector<Problem>> LoadProblems(const EvalFlags& values) {
  if (values.data.empty())
    return absl::InvalidArgumentError("--data must name a file of JSON lines, for example --data=problems.jsonl");
  std::ifstream file(values.data);
  if (!file) return absl::InvalidArgumentError(absl::StrCat("--data: cannot read ", values.data));
  absl::StatusOr<std::vector<Problem>> problems = ReadProblems(&file);
  if (!problems.ok())
    return absl::InvalidArgumentError(absl::StrCat("--data: ", values.data, ": ", problems.status().message()));
  if (values.limit > 0 && problems->size() > values.limit) problems->resize(values.limit);
  return problems;
}

absl::Status CheckCommandLine(const EvalFlags& values, const std::vector<std::string>& positional) {
  if (!positional.empty())
    return absl::InvalidArgumentError(absl::StrCat("unexpected argument \"", positional.front(), "\""));
  if (values.concurrency < 1 || values.concurrency > 1024) {
    return absl::InvalidArgumentError(absl::StrCat("--concurrency: must be 1 to 1024, got ", values.concurrency));
  }
  return absl::OkStatus();
}

// One line for each different error, so that none is hidden; true if there were any.
bool ReportFailures(const std::vector<StrategyScore>& scores, std::ostream* error) {
  bool any = false;
  for (const StrategyScore& score : scores) {
    std::map<std::string, int> counts;
    for (const ProblemOutcome& outcome : score.outcomes) {
      if (!outcome.status.ok()) {
        ++counts[absl::StrCat(outcome.status.message(), " (", absl::StatusCodeToString(outcome.status.code()), ")")];
      }
    }
    for (const auto& [message, count] : counts) {
      *error << "nabla: " << score.strategy << ": " << count << " failed: " << message << std::endl;
      any = true;
    }
  }
  return any;
}

// `records` may be null.
StrategyScore RunStrategy(const Contender& contender, const std::vector<Problem>& problems, const EvalFlags& values,
                          ReasonerClient* client, EvaluationRecords* records, Console* console) {
  const auto ask = [&](size_t problem) -> absl::StatusOr<v1::Finished> {
    if (console->cancel != nullptr && console->cancel->cancelled()) return absl::CancelledError("interrupted");
    NABLA_ASSIGN_OR_RETURN(v1::ReasonRequest request,
                           contender.request.Request(contender.strategy, problems[problem].question));
    if (!request.has_seed()) request.set_seed(problem + 1);
    request.set_omit_drafts(true);
    if (records != nullptr) {
      if (const v1::Finished* known = records->Find(request)) return *known;
    }
    NABLA_ASSIGN_OR_RETURN(
        v1::Finished finished,
        client->Reason(request, nullptr, {.deadline = absl::Now() + values.timeout, .cancel = console->cancel}));
    if (records != nullptr) NABLA_RETURN_IF_ERROR(records->Add(request, finished));
    return finished;
  };
  const absl::Time start = absl::Now();
  const auto on_progress = [&](size_t done) {
    if (!console->error_is_terminal) return;
    *console->error << "\r" << ProgressBar(done, problems.size(), absl::Now() - start) << " " << contender.name
                    << "\x1b[K" << std::flush;
  };
  StrategyScore score = Evaluate(contender.name, problems, values.concurrency, ask, on_progress);
  if (console->error_is_terminal) *console->error << std::endl;
  return score;
}

}  // namespace

int RunEval(const std::vector<std::string>& arguments, Console* console) {
  EvalFlags values;
  FlagSet flags("nabla eval", "compares strategies on questions with known answers.", "");
  AddFlags(&values, &flags);
  const absl::StatusOr<std::vector<std::string>> positional = flags.Parse(arguments);
  if (!positional.ok()) return UsageError(positional.status(), console);
  if (flags.help_requested()) {
    *console->out << flags.Help();
    return kExitOk;
  }
  const absl::Status checked = CheckCommandLine(values, *positional);
  if (!checked.ok()) return UsageError(checked, console);
  const absl::StatusOr<std::vector<Contender>> contenders = ReadContenders(values, flags);
  if (!contenders.ok()) return UsageError(contenders.status(), console);
  const absl::StatusOr<std::vector<Problem>> problems = LoadProblems(values);
  if (!problems.ok()) return UsageError(problems.status(), console);
  absl::StatusOr<std::unique_ptr<ReasonerClient>> client = ReasonerClient::Create(values.server);
  if (!client.ok()) return UsageError(client.status(), console);
  const absl::StatusOr<v1::GetInfoResponse> info =
      (*client)->GetInfo({.deadline = absl::Now() + values.timeout, .cancel = console->cancel});
  if (!info.ok()) return CallError(info.status(), values.server, console);

  std::unique_ptr<EvaluationRecords> records;
  if (!values.records.empty()) {
    absl::StatusOr<std::unique_ptr<EvaluationRecords>> opened = EvaluationRecords::Open(values.records, *info);
    if (!opened.ok())
      return UsageError(absl::InvalidArgumentError(absl::StrCat("--records: ", opened.status().message())), console);
    records = *std::move(opened);
  }

  std::vector<StrategyScore> scores;
  for (const Contender& contender : *contenders) {
    StrategyScore score = RunStrategy(contender, *problems, values, client->get(), records.get(), console);
    if (console->cancel != nullptr && console->cancel->cancelled()) {
      *console->error << "nabla: interrupted in " << contender.name << ", which is left out"
                      << (records != nullptr ? "; the same command goes on from here" : "") << std::endl;
      break;
    }
    scores.push_back(std::move(score));
  }
  *console->out << FormatTable(scores) << std::flush;
  if (!values.json.empty()) {
    std::ofstream file(values.json);
    file << FormatJson(*problems, scores);
    file.close();
    if (!file) {
      *console->error << "nabla: --json: cannot write " << values.json << std::endl;
      return kExitFailed;
    }
  }
  const bool failures = ReportFailures(scores, console->error);
  if (console->cancel != nullptr && console->cancel->cancelled()) return kExitInterrupted;
  return failures ? kExitFailed : kExitOk;
}

}  // namespace nabla
