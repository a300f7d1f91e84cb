#include "client/cli/evaluation.h"

#include <algorithm>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/bootstrap.h"
#include "client/cli/seconds.h"

namespace nabla {
namespace {

// Sums over the answered questions.
struct Totals {
  size_t answered = 0;
  size_t correct = 0;
  double model_calls = 0, rollouts = 0, completion_tokens = 0, seconds = 0;
  double language_forward = 0, language_backward = 0, reward_forward = 0, reward_backward = 0;  // tokens
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
    totals.seconds += ToSeconds(usage.total_time());
    totals.language_forward +=
        static_cast<double>(usage.language_model().forward_tokens() + usage.draft_model().forward_tokens());
    totals.language_backward += static_cast<double>(usage.language_model().backward_tokens());
    totals.reward_forward += static_cast<double>(usage.reward_model().forward_tokens());
    totals.reward_backward += static_cast<double>(usage.reward_model().backward_tokens());
    if (outcome.finished.has_reward() && outcome.finished.has_initial_reward()) {
      totals.reward_gain += outcome.finished.reward() - outcome.finished.initial_reward();
      ++totals.rewarded;
    }
  }
  return totals;
}

Estimate Accuracy(const StrategyScore& score) {
  std::vector<double> correct;
  for (const ProblemOutcome& outcome : score.outcomes) correct.push_back(outcome.correct ? 1 : 0);
  return EstimateMean(correct);
}

// Of the same problems; strategies that were cut short have fewer.
Estimate Difference(const StrategyScore& score, const StrategyScore& baseline) {
  std::vector<double> differences;
  for (size_t i = 0; i < std::min(score.outcomes.size(), baseline.outcomes.size()); ++i) {
    differences.push_back((score.outcomes[i].correct ? 1.0 : 0.0) - (baseline.outcomes[i].correct ? 1.0 : 0.0));
  }
  return EstimateMean(differences);
}

nlohmann::ordered_json ToJson(const Estimate& estimate) {
  return {{"mean", estimate.mean}, {"low", estimate.low}, {"high", estimate.high}};
}

nlohmann::ordered_json RevisionsToJson(const v1::Finished& finished) {
  nlohmann::ordered_json revisions = nlohmann::ordered_json::array();
  for (const v1::Revision& revision : finished.revisions()) {
    nlohmann::ordered_json json = {{"position", revision.position()},
                                   {"accepted", revision.accepted()},
                                   {"gradient_norm", revision.gradient_norm()}};
    if (revision.has_reward_before()) json["reward_before"] = revision.reward_before();
    if (revision.has_reward_after()) json["reward_after"] = revision.reward_after();
    revisions.push_back(std::move(json));
  }
  return revisions;
}

std::string Mean(double sum, size_t count, const char* none) {
  return count == 0 ? none : absl::StrFormat("%.4g", sum / static_cast<double>(count));
}

// The first of the names that the object has as a text; null if none.
const std::string* TextOf(const nlohmann::json& object, std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const auto found = object.find(name);
    if (found != object.end() && found->is_string()) return &found->get_ref<const std::string&>();
  }
  return nullptr;
}

absl::StatusOr<Problem> ReadProblem(const std::string& line, size_t number) {
  const auto wrong = [number](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat("line ", number, ": ", what));
  };
  const nlohmann::json json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return wrong("not a JSON object");
  const std::string* question = TextOf(json, {"question", "problem"});
  if (question == nullptr || question->empty()) return wrong("\"question\" (or \"problem\") must be a text");
  const auto answer = json.find("answer");
  if (answer != json.end() && !answer->is_number() && !answer->is_string()) {
    return wrong("\"answer\" must be a number or a text");
  }
  if (answer != json.end() && answer->is_number()) {
    return Problem{*question, {.text = answer->dump(), .number = answer->get<double>()}};
  }
  const std::string* text = TextOf(json, {"answer", "solution"});
  if (text == nullptr) return wrong("\"answer\" must be a number or a text");
  if (MarksFinalAnswer(*text)) {
    const std::optional<FinalAnswer> marked = ExtractFinalAnswer(*text);
    if (marked.has_value()) return Problem{*question, *marked};
  } else if (answer == json.end()) {
    return wrong("there is no \"answer\", and \"solution\" marks none by \\boxed{…} or ####");
  }
  Problem problem{*question, ParseAnswer(*text)};
  if (problem.answer.text.empty()) return wrong("\"answer\" is empty");
  return problem;
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
      absl::StatusOr<v1::Finished> finished = ask(mine);
      ProblemOutcome& outcome = score.outcomes[mine];
      outcome.status = finished.status();
      if (finished.ok()) {
        const std::optional<FinalAnswer> answer = ExtractFinalAnswer(finished->text());
        outcome.correct = answer.has_value() && SameAnswer(*answer, problems[mine].answer);
        outcome.finished = *std::move(finished);
      }
      const std::lock_guard<std::mutex> lock(mu);
      on_progress(++done);
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 0; i < std::min(concurrency, problems.size()); ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  return score;
}

std::string FormatTable(const std::vector<StrategyScore>& scores) {
  if (scores.empty()) return "";
  std::string table = absl::StrCat("| strategy | accuracy, % | over ", scores[0].strategy,
                                   ", points | failed | model calls | language model tokens | reward model tokens | "
                                   "reward gain | seconds |\n"
                                   "| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (const StrategyScore& score : scores) {
    const Totals totals = Add(score);
    const auto mean = [&totals](double sum) { return Mean(sum, totals.answered, "–"); };
    const Estimate accuracy = Accuracy(score), difference = Difference(score, scores[0]);
    absl::StrAppendFormat(&table, "| %s | %.1f (%.1f … %.1f) | ", score.strategy, 100 * accuracy.mean,
                          100 * accuracy.low, 100 * accuracy.high);
    absl::StrAppend(&table, &score == &scores[0] ? "–"
                                                 : absl::StrFormat("%+.1f (%+.1f … %+.1f)", 100 * difference.mean,
                                                                   100 * difference.low, 100 * difference.high));
    absl::StrAppendFormat(&table, " | %u | %s | %s / %s | %s / %s | %s | %s |\n",
                          score.outcomes.size() - totals.answered, mean(totals.model_calls),
                          mean(totals.language_forward), mean(totals.language_backward), mean(totals.reward_forward),
                          mean(totals.reward_backward), Mean(totals.reward_gain, totals.rewarded, "–"),
                          mean(totals.seconds));
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
          {"question", problems[i].question}, {"expected", problems[i].answer.text}, {"correct", outcome.correct}};
      if (outcome.status.ok()) {
        json["text"] = outcome.finished.text();
        json["model_calls"] = outcome.finished.usage().model_calls();
        json["rollouts"] = outcome.finished.usage().rollouts();
        json["completion_tokens"] = outcome.finished.usage().completion_tokens();
        if (outcome.finished.has_reward()) json["reward"] = outcome.finished.reward();
        if (outcome.finished.has_initial_reward()) json["initial_reward"] = outcome.finished.initial_reward();
        if (outcome.finished.revisions_size() > 0) json["revisions"] = RevisionsToJson(outcome.finished);
      } else {
        json["error"] = outcome.status.ToString();
      }
      outcomes.push_back(std::move(json));
    }
    const auto mean = [&totals](double sum) { return sum / static_cast<double>(std::max<size_t>(totals.answered, 1)); };
    nlohmann::ordered_json entry = {
        {"strategy", score.strategy},          {"correct", totals.correct},
        {"total", score.outcomes.size()},      {"failed", score.outcomes.size() - totals.answered},
        {"accuracy", ToJson(Accuracy(score))}, {"over_first", ToJson(Difference(score, scores[0]))}};
    if (totals.answered > 0) {
      entry["means"] = {{"model_calls", mean(totals.model_calls)},
                        {"rollouts", mean(totals.rollouts)},
                        {"completion_tokens", mean(totals.completion_tokens)},
                        {"language_forward_tokens", mean(totals.language_forward)},
                        {"language_backward_tokens", mean(totals.language_backward)},
                        {"reward_forward_tokens", mean(totals.reward_forward)},
                        {"reward_backward_tokens", mean(totals.reward_backward)},
                        {"seconds", mean(totals.seconds)}};
      if (totals.rewarded > 0)
        entry["means"]["reward_gain"] = totals.reward_gain / static_cast<double>(totals.rewarded);
    }
    entry["outcomes"] = std::move(outcomes);
    strategies.push_back(std::move(entry));
  }
  return nlohmann::ordered_json{{"strategies", std::move(strategies)}}.dump(2, ' ', false,
                                                                            nlohmann::json::error_handler_t::replace) +
         "\n";
}

}  // namespace nabla
