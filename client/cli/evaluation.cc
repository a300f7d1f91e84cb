#include "client/cli/evaluation.h"

#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/cli/answer.h"

namespace nabla {
namespace {

struct Totals {
  size_t answered = 0;
  size_t correct = 0;
  double model_calls = 0;
  double rollouts = 0;
  double completion_tokens = 0;
  double reward_gain = 0;
  size_t rewarded = 0;
};

Totals Add(const StrategyScore& score) {
  Totals totals;
  for (const ProblemOutcome& outcome : score.outcomes) {
    if (!outcome.status.ok()) continue;
    const v1::Usage& usage = outcome.finished.usage();
    ++totals.answered;
    totals.correct += outcome.correct ? 1 : 0;
    totals.model_calls += static_cast<double>(usage.model_calls());
    totals.rollouts += usage.rollouts();
    totals.completion_tokens += usage.completion_tokens();
    if (outcome.finished.has_reward() && outcome.finished.has_initial_reward()) {
      totals.reward_gain += outcome.finished.reward() - outcome.finished.initial_reward();
      ++totals.rewarded;
    }
  }
  return totals;
}

std::string Mean(double sum, size_t count, const char* none) {
  return count == 0 ? none : absl::StrFormat("%.4g", sum / static_cast<double>(count));
}

absl::StatusOr<Problem> ReadProblem(const std::string& line, size_t number) {
  const auto wrong = [number](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", what));
  };
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return wrong("not a JSON object");
  const auto question = json.find("question");
  const auto answer = json.find("answer");
  if (question == json.end() || !question->is_string()) return wrong("\"question\" must be a string");
  if (answer == json.end() || !(answer->is_string() || answer->is_number())) {
    return wrong("\"answer\" must be a number or a string");
  }
  if (answer->is_number()) return Problem{question->get<std::string>(), answer->get<double>()};
  const std::optional<double> value = ExtractNumber(answer->get<std::string>());
  if (!value.has_value()) return wrong("\"answer\" holds no number");
  return Problem{question->get<std::string>(), *value};
}

}  // namespace

absl::StatusOr<std::vector<Problem>> ReadProblems(std::istream* lines) {
  std::vector<Problem> problems;
  std::string line;
  for (size_t number = 1; std::getline(*lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    absl::StatusOr<Problem> problem = ReadProblem(line, number);
    if (!problem.ok()) return problem.status();
    problems.push_back(*std::move(problem));
  }
  if (problems.empty()) return absl::InvalidArgumentError("no problems in it");
  return problems;
}

StrategyScore Evaluate(const std::string& strategy, const std::vector<Problem>& problems, size_t concurrency,
                       const AskFunction& ask, const std::function<void(size_t done)>& on_progress) {
  StrategyScore score{.strategy = strategy, .outcomes = std::vector<ProblemOutcome>(problems.size())};
  const absl::Time start = absl::Now();
  std::mutex mu;
  size_t next = 0;
  size_t done = 0;
  const auto work = [&] {
    while (true) {
      size_t mine = 0;
      {
        const std::lock_guard<std::mutex> lock(mu);
        if (next == problems.size()) return;
        mine = next++;
      }
      absl::StatusOr<v1::Finished> finished = ask(problems[mine].question);
      ProblemOutcome& outcome = score.outcomes[mine];
      outcome.status = finished.status();
      if (finished.ok()) {
        const std::optional<double> number = ExtractNumber(finished->text());
        outcome.correct = number.has_value() && SameNumber(*number, problems[mine].answer);
        outcome.finished = *std::move(finished);
      }
      const std::lock_guard<std::mutex> lock(mu);
      on_progress(++done);
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < std::min(concurrency, problems.size()); ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  score.seconds = absl::ToDoubleSeconds(absl::Now() - start);
  return score;
}

std::string FormatTable(const std::vector<StrategyScore>& scores) {
  std::string table =
      "| strategy | accuracy | correct/total | failed | model calls | rollouts | completion tokens | reward gain | "
      "seconds |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const StrategyScore& score : scores) {
    const Totals totals = Add(score);
    const size_t total = score.outcomes.size();
    const double accuracy = total == 0 ? 0 : 100.0 * static_cast<double>(totals.correct) / static_cast<double>(total);
    absl::StrAppendFormat(&table, "| %s | %.1f%% | %u/%u | %u | %s | %s | %s | %s | %.1f |\n", score.strategy, accuracy,
                          totals.correct, total, total - totals.answered,
                          Mean(totals.model_calls, totals.answered, "–"), Mean(totals.rollouts, totals.answered, "–"),
                          Mean(totals.completion_tokens, totals.answered, "–"),
                          Mean(totals.reward_gain, totals.rewarded, "–"), score.seconds);
  }
  return table;
}

std::string FormatJson(const std::vector<Problem>& problems, const std::vector<StrategyScore>& scores) {
  nlohmann::ordered_json strategies = nlohmann::ordered_json::array();
  for (const StrategyScore& score : scores) {
    const Totals totals = Add(score);
    nlohmann::ordered_json outcomes = nlohmann::ordered_json::array();
    for (size_t i = 0; i < score.outcomes.size(); ++i) {
      const ProblemOutcome& outcome = score.outcomes[i];
      nlohmann::ordered_json json = {
          {"question", problems[i].question}, {"expected", problems[i].answer}, {"correct", outcome.correct}};
      if (outcome.status.ok()) {
        json["text"] = outcome.finished.text();
        json["model_calls"] = outcome.finished.usage().model_calls();
        json["rollouts"] = outcome.finished.usage().rollouts();
        json["completion_tokens"] = outcome.finished.usage().completion_tokens();
        if (outcome.finished.has_reward()) json["reward"] = outcome.finished.reward();
        if (outcome.finished.has_initial_reward()) json["initial_reward"] = outcome.finished.initial_reward();
      } else {
        json["error"] = outcome.status.ToString();
      }
      outcomes.push_back(std::move(json));
    }
    strategies.push_back({{"strategy", score.strategy},
                          {"correct", totals.correct},
                          {"total", score.outcomes.size()},
                          {"failed", score.outcomes.size() - totals.answered},
                          {"seconds", score.seconds},
                          {"outcomes", std::move(outcomes)}});
  }
  return nlohmann::ordered_json{{"strategies", std::move(strategies)}}.dump(2, ' ', false,
                                                                            nlohmann::json::error_handler_t::replace) +
         "\n";
}

}  // namespace nabla
