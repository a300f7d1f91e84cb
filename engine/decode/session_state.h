// The tensors behind a Session, for engine/decode and engine/refine. Includes torch.
#ifndef NABLA_ENGINE_DECODE_SESSION_STATE_H_
#define NABLA_ENGINE_DECODE_SESSION_STATE_H_

#include <torch/torch.h>

#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/decode/model_runner.h"
#include "engine/decode/sampler.h"
#include "engine/decode/session.h"
#include "engine/model/kv_cache.h"
#include "engine/model/model.h"
#include "engine/text/streaming_detokenizer.h"

namespace nabla {

struct SessionState {
  // A rollout set aside while another is tried behind the same prefix.
  struct SetAside {
    std::vector<int32_t> response;
    std::vector<PositionStats> stats;
    bool stopped = false;
    KvCache cache;
    int64_t hidden_begin = 0;
    torch::Tensor hidden_tail;
  };

  SessionState(ModelRunner* model_runner, Session::Options session_options)
      : runner(model_runner),
        model(runner->model()),
        options(std::move(session_options)),
        random(options.seed),
        cache(runner->kv_pool()),
        hidden(torch::empty({options.keep_hidden ? options.max_new_tokens + 1 : 0, model->config().hidden_size},
                            torch::TensorOptions(model->dtype()).device(model->device()))),
        detokenizer(model->shared_tokenizer(), /*skip_special_tokens=*/true) {
    if (options.keep_activations && runner->activations() != nullptr && model->body().can_record()) {
      record = std::make_unique<RecordedRows>(model->body().weights(), prompt_tokens(), options.max_new_tokens,
                                              runner->activations());
    }
  }

  // Puts hidden states [n, H] into rows [begin, begin + n).
  void KeepHidden(const torch::Tensor& rows, int64_t begin) const {
    if (hidden.is_cpu() && rows.is_contiguous()) {  // many times a step: torch's own copy costs more than the copying
      const size_t row_bytes = static_cast<size_t>(hidden.size(1) * hidden.element_size());
      std::memcpy(static_cast<char*>(hidden.data_ptr()) + begin * row_bytes, rows.data_ptr(), rows.size(0) * row_bytes);
    } else {
      hidden.narrow(0, begin, rows.size(0)).copy_(rows);
    }
  }

  ModelWork& work() const { return options.is_draft ? usage->draft_model : usage->language_model; }

  int64_t prompt_tokens() const { return static_cast<int64_t>(options.prompt_ids.size()); }

  ModelRunner* const runner;
  const std::shared_ptr<const Model> model;
  Session::Options options;
  const StopToken* stop = nullptr;
  EventSink* sink = nullptr;
  Usage* usage = nullptr;
  RandomSource random;

  KvCache cache;         // prompt and response, all but what has not been run yet
  torch::Tensor hidden;  // row i predicted response token i; [max_new_tokens + 1, H]; kept instead of logits
  std::unique_ptr<RecordedRows> record;  // of response tokens that were run; null: nothing is recorded
  std::vector<int32_t> response;
  std::vector<PositionStats> stats;  // one a response token
  int committed = 0;                 // those that Pass went over included
  int told = 0;                      // committed ones that the caller knows of
  bool stopped = false;              // the response ends in a stop sequence

  std::optional<SetAside> aside;

  StreamingDetokenizer detokenizer;  // of told tokens
  std::string committed_text;
  absl::Time started;
  absl::Time last_draft = absl::InfinitePast();
};

}  // namespace nabla

#endif  // NABLA_ENGINE_DECODE_SESSION_STATE_H_
