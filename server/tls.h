// TLS of a listener: reads and checks the files, and makes gRPC credentials that follow them when they are replaced.
//
//   const TlsOptions tls = {.certificate_file = "server.crt", .key_file = "server.key"};
//   NABLA_ASSIGN_OR_RETURN(auto credentials, TlsServerCredentials(tls, log));
//   builder.AddListeningPort(address, credentials);   // keep `credentials` as long as the server
//
// The files are looked at before every handshake. New ones are used from then on; where they cannot be read or do not
// belong together the old ones stay and one error is logged. Connections that are open stay as they are. Thread-safe.
#ifndef NABLA_SERVER_TLS_H_
#define NABLA_SERVER_TLS_H_

#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/log.h"

namespace nabla {

struct TlsOptions {
  std::string certificate_file;  // PEM: the server's certificate, then those that lead to its authority; empty: no TLS
  std::string key_file;          // PEM: the private key of the first
  std::string client_ca_file;    // PEM: clients must show a certificate signed by one of these; empty: they need none

  bool enabled() const { return !certificate_file.empty() || !key_file.empty() || !client_ca_file.empty(); }
};

// The contents of the files, known to fit together.
struct TlsCertificates {
  std::string certificate_chain;
  std::string key;
  std::string client_ca;
};

// INVALID_ARGUMENT "--tls_…: what is wrong with which file".
absl::StatusOr<TlsCertificates> ReadTlsCertificates(const TlsOptions& options);

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> TlsServerCredentials(const TlsOptions& options, LogSink log);

}  // namespace nabla

#endif  // NABLA_SERVER_TLS_H_
