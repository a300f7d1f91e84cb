// What one rendering shares: its limits against runaway templates, and the objects templates create.
//
// Not thread-safe; one per rendering. Exceeding a limit is InvalidArgument and ends the rendering.
//
//   RenderContext context;
//   NABLA_RETURN_IF_ERROR(context.CountStep());
//   NABLA_RETURN_IF_ERROR(context.Charge(text.size()));  // before the memory is used
#ifndef NABLA_ENGINE_TEXT_JINJA_RENDER_CONTEXT_H_
#define NABLA_ENGINE_TEXT_JINJA_RENDER_CONTEXT_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "engine/text/jinja/value.h"

namespace nabla::jinja {

class RenderContext {
 public:
  absl::Status CountStep();
  // Counts memory that values and output take, whether or not it is freed later.
  absl::Status Charge(size_t bytes);
  absl::Status Charge(size_t count, size_t bytes_each);

  template <typename T>
  T* Own(std::unique_ptr<T> object) {
    T* raw = object.get();
    objects_.push_back(std::move(object));
    return raw;
  }

  // The error that raise_exception leaves; its text is the caller's to see unchanged.
  absl::Status Raise(const std::string& message);
  // Prefixes the innermost line to an error, once, and never to one that was raised.
  absl::Status Locate(absl::Status status, int line);

 private:
  int64_t steps_ = 0;
  size_t bytes_ = 0;
  bool located_ = false;
  std::deque<std::unique_ptr<Object>> objects_;
};

}  // namespace nabla::jinja

#endif  // NABLA_ENGINE_TEXT_JINJA_RENDER_CONTEXT_H_
