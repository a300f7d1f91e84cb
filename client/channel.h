// How the clients reach a server: in the clear or by TLS, with a token or without.
//
//   NABLA_ASSIGN_OR_RETURN(const Connection connection, Connect({.address = "nabla.example:50051",
//                                                                .tls_ca_file = "ca.crt", .token_file = "token"}));
//   v1::Reasoner::NewStub(connection.channel);
//
// Connect reads the files, once, and does not connect yet. Thread-safe.
#ifndef NABLA_CLIENT_CHANNEL_H_
#define NABLA_CLIENT_CHANNEL_H_

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace nabla {

struct ChannelOptions {
  std::string address;               // "host:port"
  bool tls = false;                  // TLS that trusts the system's authorities; each of the next four turns it on, too
  std::string tls_ca_file;           // PEM: whom to trust; empty: the system's authorities
  std::string tls_certificate_file;  // PEM: what to show to a server that asks for it
  std::string tls_key_file;          // PEM: its private key
  std::string tls_server_name;       // the name in the server's certificate; empty: that of `address`
  std::string token_file;            // one token, sent with every call; in the clear to this machine alone

  bool uses_tls() const {
    return tls || !tls_ca_file.empty() || !tls_certificate_file.empty() || !tls_key_file.empty() ||
           !tls_server_name.empty();
  }
};

struct Connection {
  std::shared_ptr<grpc::Channel> channel;
  std::string authorization;  // for the metadata of that name, see Prepare; empty: none
};

// INVALID_ARGUMENT "--tls_ca: what is wrong with which file", named by the flags of the command line.
absl::StatusOr<Connection> Connect(const ChannelOptions& options);

}  // namespace nabla

#endif  // NABLA_CLIENT_CHANNEL_H_
