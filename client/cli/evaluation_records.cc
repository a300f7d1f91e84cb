#include "client/cli/evaluation_records.h"

#include <google/protobuf/util/json_util.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "engine/base/status_macros.h"

namespace nabla {
namespace {

std::string ToJson(const google::protobuf::Message& message) {
  std::string json;
  (void)google::protobuf::util::MessageToJsonString(message, &json);  // fails for no message without Any
  return json;
}

}  // namespace

absl::StatusOr<std::unique_ptr<EvaluationRecords>> EvaluationRecords::Open(const std::string& path,
                                                                           const v1::GetInfoResponse& server) {
  std::unique_ptr<EvaluationRecords> records(new EvaluationRecords());
  records->path_ = path;
  records->model_ = server.model().name();
  records->reward_model_ = server.reward_model().name();
  std::ostringstream text;
  if (const std::ifstream file(path); file) text << file.rdbuf();
  const std::string whole = text.str();
  const size_t end = whole.rfind('\n') + 1;  // 0 without a line
  NABLA_RETURN_IF_ERROR(records->Read(whole.substr(0, end)));
  std::error_code error;
  if (end < whole.size()) std::filesystem::resize_file(path, end, error);
  const std::lock_guard<std::mutex> lock(records->mu_);
  records->file_.open(path, std::ios::app);
  if (error || !records->file_) return absl::InvalidArgumentError(absl::StrCat("cannot write ", path));
  return records;
}

absl::Status EvaluationRecords::Read(const std::string& text) {
  const std::lock_guard<std::mutex> lock(mu_);
  size_t number = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    if (line.empty()) continue;
    const nlohmann::json record = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    v1::ReasonRequest request;
    v1::Finished finished;
    const auto has = [&](const char* name, auto is) { return record.contains(name) && (record[name].*is)(); };
    const bool whole = record.is_object() && has("request", &nlohmann::json::is_object) &&
                       has("finished", &nlohmann::json::is_object) && has("model", &nlohmann::json::is_string) &&
                       has("reward_model", &nlohmann::json::is_string);
    if (!whole || !google::protobuf::util::JsonStringToMessage(record["request"].dump(), &request).ok() ||
        !google::protobuf::util::JsonStringToMessage(record["finished"].dump(), &finished).ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": line ", number, " is no record of an evaluation; name another file"));
    }
    if (record["model"] == model_ && record["reward_model"] == reward_model_) {
      records_[KeyOf(ToJson(request))] = std::move(finished);
    }
  }
  return absl::OkStatus();
}

const v1::Finished* EvaluationRecords::Find(const v1::ReasonRequest& request) const {
  const std::lock_guard<std::mutex> lock(mu_);
  const auto found = records_.find(KeyOf(ToJson(request)));
  return found != records_.end() ? &found->second : nullptr;
}

absl::Status EvaluationRecords::Add(const v1::ReasonRequest& request, const v1::Finished& finished) {
  const std::string request_json = ToJson(request);
  const std::string line = absl::StrCat("{\"model\":", nlohmann::json(model_).dump(),
                                        ",\"reward_model\":", nlohmann::json(reward_model_).dump(),
                                        ",\"request\":", request_json, ",\"finished\":", ToJson(finished), "}\n");
  const std::lock_guard<std::mutex> lock(mu_);
  file_ << line << std::flush;
  if (!file_) return absl::UnavailableError(absl::StrCat("cannot write ", path_));
  records_[KeyOf(request_json)] = finished;
  return absl::OkStatus();
}

size_t EvaluationRecords::size() const {
  const std::lock_guard<std::mutex> lock(mu_);
  return records_.size();
}

}  // namespace nabla
