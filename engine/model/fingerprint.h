// Tells model folders apart by what decides their numbers: configuration, tokenizer, chat template, the number type in
// force, names and shapes of all tensors, and a sample of every tensor's bytes.
//
//   NABLA_ASSIGN_OR_RETURN(std::string fingerprint, FingerprintModel("models/judge", "float32"));   // "5be0…"
//
// Two fine-tunings of one model differ in every sample, so a sample is enough; it is no protection against forgery.
// Stateless and thread-safe. Maps the files again and reads some kilobytes of each tensor: milliseconds.
#ifndef NABLA_ENGINE_MODEL_FINGERPRINT_H_
#define NABLA_ENGINE_MODEL_FINGERPRINT_H_

#include <string>

#include "absl/status/statusor.h"

namespace nabla {

// `dtype` is the type in force ("float32", "bfloat16"), not "auto".
absl::StatusOr<std::string> FingerprintModel(const std::string& folder, const std::string& dtype);

}  // namespace nabla

#endif  // NABLA_ENGINE_MODEL_FINGERPRINT_H_
