#include "server/tls.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <array>
#include <mutex>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "server/file.h"

namespace nabla {
namespace {

using Bio = std::unique_ptr<BIO, decltype(&BIO_free)>;
using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;
using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

Bio BioOf(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())), &BIO_free);
}

Certificate FirstCertificate(const std::string& pem) {
  Certificate certificate(PEM_read_bio_X509(BioOf(pem).get(), nullptr, nullptr, nullptr), &X509_free);
  ERR_clear_error();
  return certificate;
}

Key PrivateKey(const std::string& pem) {
  static constexpr auto no_password = [](char*, int, int, void*) { return -1; };  // the default asks on the terminal
  Key key(PEM_read_bio_PrivateKey(BioOf(pem).get(), nullptr, no_password, nullptr), &EVP_PKEY_free);
  ERR_clear_error();
  return key;
}

absl::Status Wrong(absl::string_view flag, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(flag, ": ", what));
}

// gRPC asks `Fetch` before every handshake; the C++ API has no way to say that, its C core has.
class ReloadingCredentials final : public grpc::ServerCredentials {
 public:
  ReloadingCredentials(TlsOptions options, LogSink log) : options_(std::move(options)), log_(std::move(log)) {
    const auto client_certificates = options_.client_ca_file.empty()
                                         ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                         : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(client_certificates, &Fetch, this));
  }
  ~ReloadingCredentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>& /*processor*/) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  static grpc_ssl_certificate_config_reload_status Fetch(void* self, grpc_ssl_server_certificate_config** config) {
    return static_cast<ReloadingCredentials*>(self)->FetchIfChanged(config);
  }

  grpc_ssl_certificate_config_reload_status FetchIfChanged(grpc_ssl_server_certificate_config** config) {
    const std::lock_guard<std::mutex> lock(mu_);
    const std::array<FileStamp, 3> stamps = {FileStamp::Of(options_.certificate_file), FileStamp::Of(options_.key_file),
                                             FileStamp::Of(options_.client_ca_file)};
    if (stamps == stamps_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    const bool first = stamps_ == std::array<FileStamp, 3>();
    stamps_ = stamps;
    const absl::StatusOr<TlsCertificates> certificates = ReadTlsCertificates(options_);
    if (!certificates.ok()) {
      log_(LogEvent(LogLevel::kError, "certificates_not_reloaded").Add("message", certificates.status().message()));
      return first ? GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL : GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    }
    if (!first) log_(LogEvent(LogLevel::kInfo, "certificates_reloaded").Add("file", options_.certificate_file));
    const grpc_ssl_pem_key_cert_pair pair = {certificates->key.c_str(), certificates->certificate_chain.c_str()};
    // gRPC insists on authorities even where it asks clients for nothing.
    const std::string& client_ca =
        certificates->client_ca.empty() ? certificates->certificate_chain : certificates->client_ca;
    *config = grpc_ssl_server_certificate_config_create(client_ca.c_str(), &pair, 1);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const TlsOptions options_;
  const LogSink log_;
  grpc_server_credentials* credentials_ = nullptr;

  std::mutex mu_;
  std::array<FileStamp, 3> stamps_ ABSL_GUARDED_BY(mu_);  // of the files last looked into
};

}  // namespace

absl::StatusOr<TlsCertificates> ReadTlsCertificates(const TlsOptions& options) {
  if (options.certificate_file.empty()) {
    if (!options.key_file.empty()) return Wrong("--tls_key", "has no effect without --tls_certificate");
    if (!options.client_ca_file.empty()) return Wrong("--tls_client_ca", "has no effect without --tls_certificate");
    return Wrong("--tls_certificate", "must name a file of PEM certificates");
  }
  if (options.key_file.empty()) return Wrong("--tls_certificate", "needs its private key; give it with --tls_key");
  TlsCertificates certificates;
  NABLA_ASSIGN_OR_RETURN(certificates.certificate_chain, ReadFile("--tls_certificate", options.certificate_file));
  NABLA_ASSIGN_OR_RETURN(certificates.key, ReadFile("--tls_key", options.key_file));
  const Certificate certificate = FirstCertificate(certificates.certificate_chain);
  if (certificate == nullptr) {
    return Wrong("--tls_certificate", absl::StrCat(options.certificate_file, " holds no PEM certificate"));
  }
  const Key key = PrivateKey(certificates.key);
  if (key == nullptr) {
    return Wrong("--tls_key", absl::StrCat(options.key_file, " holds no PEM private key without a password"));
  }
  const bool fit = X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  if (!fit) {
    return Wrong("--tls_key", absl::StrCat(options.key_file, " is not the private key of the certificate in ",
                                           options.certificate_file));
  }
  if (options.client_ca_file.empty()) return certificates;
  NABLA_ASSIGN_OR_RETURN(certificates.client_ca, ReadFile("--tls_client_ca", options.client_ca_file));
  if (FirstCertificate(certificates.client_ca) == nullptr) {
    return Wrong("--tls_client_ca", absl::StrCat(options.client_ca_file, " holds no PEM certificate"));
  }
  return certificates;
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> TlsServerCredentials(const TlsOptions& options, LogSink log) {
  NABLA_RETURN_IF_ERROR(ReadTlsCertificates(options).status());
  return std::make_shared<ReloadingCredentials>(options, std::move(log));
}

}  // namespace nabla
