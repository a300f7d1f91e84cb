// The answers of an evaluation in a file, one JSON object a line ({"model", "reward_model", "request", "finished"}),
// written as they come: what an interrupted evaluation goes on from.
//
//   NABLA_ASSIGN_OR_RETURN(auto records, EvaluationRecords::Open("run.jsonl", info));
//   if (const v1::Finished* known = records->Find(request)) return *known;
//   NABLA_RETURN_IF_ERROR(records->Add(request, finished));
//
// An answer counts only for the same request to models of the same names. Thread-safe.
#ifndef NABLA_CLIENT_CLI_EVALUATION_RECORDS_H_
#define NABLA_CLIENT_CLI_EVALUATION_RECORDS_H_

#include <fstream>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nabla/v1/reasoner.pb.h"

namespace nabla {

class EvaluationRecords {
 public:
  // Makes the file if it is not there; cuts off a last line that was not written to its end. INVALID_ARGUMENT names the
  // file, and the line that is no record.
  static absl::StatusOr<std::unique_ptr<EvaluationRecords>> Open(const std::string& path,
                                                                 const v1::GetInfoResponse& server);

  // Null where there is none. Valid as long as the records.
  const v1::Finished* Find(const v1::ReasonRequest& request) const;

  // Is in the file when it returns. UNAVAILABLE where it cannot be written.
  absl::Status Add(const v1::ReasonRequest& request, const v1::Finished& finished);

  size_t size() const;

 private:
  EvaluationRecords() = default;
  absl::Status Read(const std::string& text);
  std::string KeyOf(const std::string& request_json) const {
    return model_ + "\n" + reward_model_ + "\n" + request_json;
  }

  std::string path_, model_, reward_model_;
  mutable std::mutex mu_;
  std::ofstream file_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, v1::Finished> records_ ABSL_GUARDED_BY(mu_);
};

}  // namespace nabla

#endif  // NABLA_CLIENT_CLI_EVALUATION_RECORDS_H_
