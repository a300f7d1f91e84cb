// Who calls, and whether they may: bearer tokens with limits, from a file that may change under way.
//
//   NABLA_ASSIGN_OR_RETURN(auto authenticator, Authenticator::Create("tokens.textproto", log));
//   NABLA_ASSIGN_OR_RETURN(Caller caller, authenticator->Check(*context));
//   // keep `caller` as long as the call is open: it holds one of its token's places
//
// The file is an AuthTokens (config.proto) in text format and holds hashes, no tokens. Without a file everybody may
// come, under the name that the metadata nabla-client-id gives, else that of their host. Thread-safe; Check never
// blocks for long, ReloadIfChanged looks at the disk.
#ifndef NABLA_SERVER_AUTHENTICATOR_H_
#define NABLA_SERVER_AUTHENTICATOR_H_

#include <grpcpp/server_context.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/base/request.h"
#include "server/file.h"
#include "server/log.h"

namespace nabla {

struct Caller {
  std::string client;  // the token's name
  Priority max_priority = Priority::kHigh;
  std::shared_ptr<const void> place;  // one of the token's max_concurrent_requests, given back when dropped

  // PERMISSION_DENIED where the token may not ask for that.
  absl::Status MayAskFor(Priority priority) const;
};

class Authenticator {
 public:
  // An empty path lets everybody in. INVALID_ARGUMENT "--auth_tokens: …" naming file, line and what is wrong.
  static absl::StatusOr<std::unique_ptr<Authenticator>> Create(const std::string& tokens_file, LogSink log);

  ~Authenticator();

  // UNAUTHENTICATED for no token or an unknown one; RESOURCE_EXHAUSTED with a retry delay beyond the token's limits.
  absl::StatusOr<Caller> Check(const grpc::ServerContextBase& context);

  // The same for the value of the header `authorization`; empty: there is none.
  absl::StatusOr<Caller> CheckToken(absl::string_view authorization, absl::Time now);

  // Whether the token is a known one; spends nothing of its limits. UNAUTHENTICATED as Check.
  absl::Status CheckKnown(const grpc::ServerContextBase& context) const;

  // Reads the file again if it has changed. A broken one leaves the old tokens in force and is logged once.
  void ReloadIfChanged();

  bool required() const { return !path_.empty(); }

 private:
  class Token;
  using Tokens = std::vector<std::shared_ptr<Token>>;

  Authenticator(const std::string& tokens_file, LogSink log);

  static absl::StatusOr<Tokens> Load(const std::string& path);
  std::shared_ptr<Token> Find(absl::string_view token) const;
  absl::StatusOr<std::shared_ptr<Token>> Know(absl::string_view authorization) const;

  const std::string path_;
  const LogSink log_;

  std::mutex reload_mu_;                         // of reading the file; taken before mu_
  FileStamp stamp_ ABSL_GUARDED_BY(reload_mu_);  // of the file last looked into

  mutable std::mutex mu_;
  Tokens tokens_ ABSL_GUARDED_BY(mu_);
};

// Whether a name that a client gives itself can go into logs and headers as it is: 1 … 64 letters, digits, "-", "_" and
// ".".
bool IsSaneName(absl::string_view name);

}  // namespace nabla

#endif  // NABLA_SERVER_AUTHENTICATOR_H_
