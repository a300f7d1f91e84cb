#include "engine/text/jinja/render_context.h"

#include "absl/strings/str_cat.h"

namespace nabla::jinja {
namespace {

constexpr int64_t kMostSteps = 2'000'000;
constexpr size_t kMostBytes = size_t{256} << 20;

}  // namespace

absl::Status RenderContext::CountStep() {
  if (++steps_ <= kMostSteps) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("the template takes more than ", kMostSteps, " steps"));
}

absl::Status RenderContext::Charge(size_t bytes) { return Charge(bytes, 1); }

absl::Status RenderContext::Charge(size_t count, size_t bytes_each) {
  size_t bytes = 0;
  if (!__builtin_mul_overflow(count, bytes_each, &bytes) && bytes <= kMostBytes - bytes_) {
    bytes_ += bytes;
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat("the template takes more than ", kMostBytes, " bytes of memory"));
}

absl::Status RenderContext::Raise(const std::string& message) {
  located_ = true;
  return absl::InvalidArgumentError(message);
}

absl::Status RenderContext::Locate(absl::Status status, int line) {
  if (located_) return status;
  located_ = true;
  return absl::Status(status.code(), absl::StrCat("chat template, line ", line, ": ", status.message()));
}

}  // namespace nabla::jinja
