// Certificates made for one test: an authority, and what it has signed, as PEM text.
//
//   TestAuthority authority("Test CA");
//   const IssuedCertificate server = authority.Issue("localhost");
//   WriteFile(folder + "/server.crt", server.certificate);
#ifndef NABLA_TESTS_SERVER_TEST_CERTIFICATES_H_
#define NABLA_TESTS_SERVER_TEST_CERTIFICATES_H_

#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

namespace nabla {

struct IssuedCertificate {
  std::string certificate;
  std::string key;
};

class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name) : key_(EVP_EC_gen("P-256"), &EVP_PKEY_free), name_(name) {
    certificate_ = ToPem(*Sign(name, key_.get(), /*is_authority=*/true));
  }

  const std::string& certificate() const { return certificate_; }

  // For a server that is reached as `name`, or a client of that name.
  IssuedCertificate Issue(const std::string& name) const {
    const Key key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
    const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), &BIO_free);
    PEM_write_bio_PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    return {.certificate = ToPem(*Sign(name, key.get(), /*is_authority=*/false)), .key = TextOf(bio.get())};
  }

 private:
  using Key = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;
  using Certificate = std::unique_ptr<X509, decltype(&X509_free)>;

  Certificate Sign(const std::string& name, EVP_PKEY* public_key, bool is_authority) const {
    Certificate certificate(X509_new(), &X509_free);
    X509_set_version(certificate.get(), 2);
    static long serial = 0;
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
    SetName(X509_get_subject_name(certificate.get()), name);
    SetName(X509_get_issuer_name(certificate.get()), name_);
    X509_set_pubkey(certificate.get(), public_key);
    AddExtension(certificate.get(), NID_basic_constraints, is_authority ? "critical,CA:TRUE" : "CA:FALSE");
    if (!is_authority) AddExtension(certificate.get(), NID_subject_alt_name, "DNS:" + name);
    EXPECT_GT(X509_sign(certificate.get(), key_.get(), EVP_sha256()), 0);
    return certificate;
  }

  static void SetName(X509_NAME* target, const std::string& name) {
    X509_NAME_add_entry_by_txt(target, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1,
                               0);
  }

  static void AddExtension(X509* certificate, int kind, const std::string& value) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value.c_str());
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
  }

  static std::string ToPem(X509& certificate) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> bio(BIO_new(BIO_s_mem()), &BIO_free);
    PEM_write_bio_X509(bio.get(), &certificate);
    return TextOf(bio.get());
  }

  static std::string TextOf(BIO* bio) {
    char* data = nullptr;
    const long size = BIO_get_mem_data(bio, &data);
    return std::string(data, static_cast<size_t>(size));
  }

  const Key key_;
  const std::string name_;
  std::string certificate_;
};

// A folder of its own for one test, removed with everything in it.
class TestFolder {
 public:
  TestFolder() : path_(testing::TempDir() + "nabla_XXXXXX") { EXPECT_NE(mkdtemp(path_.data()), nullptr); }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::string& path() const { return path_; }

  // Replaces the file at once, as one should; returns its path.
  std::string Write(const std::string& name, const std::string& text) const {
    const std::string path = path_ + "/" + name;
    std::ofstream(path + ".new", std::ios::binary) << text;
    std::filesystem::rename(path + ".new", path);
    return path;
  }

 private:
  std::string path_;
};

}  // namespace nabla

#endif  // NABLA_TESTS_SERVER_TEST_CERTIFICATES_H_
