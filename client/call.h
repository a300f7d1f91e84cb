// What every call of the clients shares: its options, its cancellation from another thread, its status in Abseil's
// terms.
//
//   CancelHandle cancel;
//   client->Reason(request, on_event, {.deadline = absl::Now() + absl::Seconds(30), .cancel = &cancel});
//   if (IsUnreachable(status)) …
//
// CancelHandle is thread-safe; the functions are pure.
#ifndef NABLA_CLIENT_CALL_H_
#define NABLA_CLIENT_CALL_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/status.h>

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace nabla {

// Cancels calls from another thread: those in progress that were given it, and later ones until Reset. Outlives its
// calls.
class CancelHandle {
 public:
  // Keeps a call in its handle's list while it runs. `handle` may be null.
  class Registration {
   public:
    Registration(CancelHandle* handle, std::shared_ptr<grpc::ClientContext> context);
    ~Registration();
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;

    bool cancelled() const { return handle_ != nullptr && handle_->cancelled(); }

   private:
    CancelHandle* const handle_;
    const std::shared_ptr<grpc::ClientContext> context_;
  };

  CancelHandle() = default;
  CancelHandle(const CancelHandle&) = delete;
  CancelHandle& operator=(const CancelHandle&) = delete;

  void Cancel();  // does not block, callbacks of calls may call it; not for signal handlers
  void Reset();   // later calls run again; those that were cancelled stay so
  bool cancelled() const;

 private:
  mutable std::mutex mu_;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<std::shared_ptr<grpc::ClientContext>> calls_ ABSL_GUARDED_BY(mu_);
};

struct CallOptions {
  absl::Time deadline = absl::InfiniteFuture();  // given to the server, too
  CancelHandle* cancel = nullptr;                // not owned
  std::string request_id;                        // for the server's log; empty: the server makes one
};

// Puts deadline, request id and `authorization` (of the Connection) into a context that has not started.
void Prepare(const CallOptions& options, const std::string& authorization, grpc::ClientContext* context);

// With the bytes of the google.rpc.Status, where there is one, as payload.
absl::Status ToAbslStatus(const grpc::Status& status);

// True of an UNAVAILABLE that came from the connection, not from a server.
bool IsUnreachable(const absl::Status& status);

}  // namespace nabla

#endif  // NABLA_CLIENT_CALL_H_
