// Micro-benchmarks of the engine (Google Benchmark), each with its share of what the machine can do.
//
//   nabla-engine-benchmark --model=lm --reward_model=rm [--dtype=bfloat16] [--device=cuda:0] [--threads=2]
//                          [--rollout_weights=int8] [--gradient_weights=model] [--benchmark_filter=refine]
//
// The machine's limits are measured first, in the same run: the best rate of a matrix product of the same number type,
// and the rate at which memory is read. A benchmark's `limit_share` is the least time that those allow (by its
// multiplications, or by what it has to read, whichever takes longer) over the time it took. Text and loading are held
// against reading their bytes, though neither is bound by it (mapped weights are not read at all).
#include <benchmark/benchmark.h>
#include <torch/torch.h>

#include <algorithm>
#include <future>
#include <iostream>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "bench/machine_limits.h"
#include "engine/base/status_macros.h"
#include "engine/decode/batcher.h"
#include "engine/decode/model_runner.h"
#include "engine/decode/sampler.h"
#include "engine/decode/session.h"
#include "engine/decode/session_state.h"
#include "engine/kernels/thread_team.h"
#include "engine/model/cpu_projection.h"
#include "engine/model/device.h"
#include "engine/model/kv_cache.h"
#include "engine/model/kv_pool.h"
#include "engine/model/model.h"
#include "engine/model/quantized_model.h"
#include "engine/model/row_parts.h"
#include "engine/pool/engine_pool.h"
#include "engine/refine/gradient_field.h"
#include "engine/refine/refinement.h"
#include "engine/reward/local_reward_model.h"
#include "engine/reward/response_scorer.h"
#include "engine/reward/vocabulary_map.h"
#include "engine/text/chat_template.h"
#include "engine/text/streaming_detokenizer.h"

namespace nabla {
namespace {

constexpr char kQuestion[] =
    "Janet's ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for her friends "
    "every day with four. She sells the remainder at the farmers' market daily for $2 per fresh duck egg. How much in "
    "dollars does she make every day?";

struct Options {
  std::string model, reward_model;
  std::string dtype = "auto";
  std::string device = "cpu";
  std::string rollout_weights = "model", gradient_weights = "packed";
  int threads = 0;
};

class NoSink : public EventSink {
 public:
  void OnEvent(Event /*event*/) override {}
};

// The models with what runs them, as ModelEngine puts them together.
class Bench {
 public:
  static absl::StatusOr<std::unique_ptr<Bench>> Create(const Options& options) {
    auto bench = std::make_unique<Bench>();
    bench->options_ = options;
    NABLA_ASSIGN_OR_RETURN(const ModelConfig config, ModelConfig::Load(options.model));
    const int threads = ThreadCount(options.threads, config.parameters());
    // Ahead of the batcher, which leaves libtorch one thread.
    at::set_num_threads(threads);
    NABLA_ASSIGN_OR_RETURN(const torch::Device device, ParseDevice(options.device));
    NABLA_ASSIGN_OR_RETURN(const torch::ScalarType type, ParseDtype(options.dtype, config.dtype, device));
    bench->limits_ = MachineLimits::Measure(type, device);
    bench->batcher_ =
        std::make_unique<Batcher>(Batcher::Options{.max_batch_tokens = 512, .on_thread_start = UseOneTorchThread});
    bench->team_ = std::make_shared<ThreadTeam>(threads);
    NABLA_ASSIGN_OR_RETURN(bench->runner_, bench->Load(options.model, bench->decodes_in_int8()));
    NABLA_ASSIGN_OR_RETURN(bench->reward_runner_, bench->Load(options.reward_model, /*int8_rollouts=*/false));
    NABLA_ASSIGN_OR_RETURN(
        bench->reward_model_,
        LocalRewardModel::Create(bench->reward_runner_, RewardModelOptions{.path = options.reward_model}));
    bench->map_ = std::make_unique<VocabularyMap>(
        bench->model().tokenizer(), static_cast<int>(bench->model().vocabulary_size()), *bench->reward_model_);
    NABLA_ASSIGN_OR_RETURN(const std::string text, bench->model().chat_template()->Render({{"user", kQuestion}}, true));
    bench->prompt_ = bench->model().tokenizer().Encode(text);
    return bench;
  }

  void Register() {
    for (const int rows : {1, 4, 8, 16}) {
      Add(absl::StrCat("decode_step/batch:", rows), [this, rows](benchmark::State& state) { DecodeStep(state, rows); });
    }
    const bool can_draft = model().device().is_cpu() && !decodes_in_int8();
    if (can_draft) Add("draft_step", [this](benchmark::State& state) { DraftStep(state); });
    // The tokens behind a prompt, and with the prompt.
    for (const bool answers : {false, true}) {
      const std::string name = answers ? "answer/tokens:128/" : "generate/tokens:128/";
      for (const bool drafts : {false, true}) {
        if (drafts && !can_draft) continue;
        Add(absl::StrCat(name, "draft:", drafts),
            [this, drafts, answers](benchmark::State& state) { Generate(state, 128, /*rows=*/1, drafts, answers); });
      }
      Add(name + "batch:8",
          [this, answers](benchmark::State& state) { Generate(state, 128, /*rows=*/8, /*drafts=*/false, answers); });
    }
    Add("prefill/tokens:96", [this](benchmark::State& state) { Prefill(state, 96); });
    for (const int rows : {50, 200, 800}) {
      Add(absl::StrCat("gradient/ahead:", rows),
          [this, rows](benchmark::State& state) { Refine(state, rows, 1, /*recorded=*/true); });
    }
    Add("refine/ahead:200/iterations:20",
        [this](benchmark::State& state) { Refine(state, 200, 20, /*recorded=*/true); });
    Add("refine_elsewhere/ahead:200/iterations:20",
        [this](benchmark::State& state) { Refine(state, 200, 20, /*recorded=*/false); });
    Add("sampler", [this](benchmark::State& state) { Sample(state); });
    Add("tokenizer", [this](benchmark::State& state) { Tokenize(state); });
    Add("detokenizer", [this](benchmark::State& state) { Detokenize(state); });
    Add("load", [this](benchmark::State& state) { LoadModel(state); });
    Add("request/tokens:128/rollouts:8", [this](benchmark::State& state) { WholeRequest(state, 128, 8); });
  }

  const MachineLimits& limits() const { return limits_; }

 private:
  const Model& model() const { return *runner_->model(); }
  bool decodes_in_int8() const { return options_.rollout_weights == "int8"; }
  bool copies_for_gradients() const { return options_.gradient_weights == "packed"; }

  template <typename Body>
  static void Add(const std::string& name, const Body& body) {
    benchmark::RegisterBenchmark(name.c_str(), body)->Unit(benchmark::kMillisecond)->UseRealTime();
  }

  absl::StatusOr<std::shared_ptr<ModelRunner>> Load(const std::string& folder, bool int8_rollouts) {
    NABLA_ASSIGN_OR_RETURN(std::shared_ptr<const Model> model,
                           Model::Load(folder, options_.dtype, options_.device, 0, team_,
                                       {.int8_rollouts = int8_rollouts, .for_gradients = copies_for_gradients()}));
    auto pool = std::make_shared<KvPool>(model->config(), kKvTokens, model->dtype(), model->device());
    return std::make_shared<ModelRunner>(std::move(model), std::move(pool), batcher_.get(), /*draft=*/nullptr,
                                         std::make_shared<MemoryBudget>(int64_t{1} << 30));
  }

  // Multiplications and additions of `rows` through the layers behind `keys` keys, and of a row through the head.
  double LayerOperations(double rows, double keys) const {
    const ModelConfig& c = model().config();
    const double weights = static_cast<double>(c.parameters() - c.vocabulary_size * c.hidden_size);
    return 2 * rows * weights + AttentionOperations(rows, keys);
  }
  // Products with keys and with values.
  double AttentionOperations(double rows, double keys) const {
    const ModelConfig& c = model().config();
    return 4.0 * static_cast<double>(c.num_layers * c.num_heads * c.head_dim) * rows * keys;
  }
  // One product for each: weights and the prompt are constant, so that nobody asks for the derivative at
  // them. But attention's products have one more, at the rows' own keys and values.
  double DerivativeOperations(double rows) const {
    const double own_keys = rows / 2, keys = static_cast<double>(prompt_.size()) + own_keys;
    return LayerOperations(rows, keys) + AttentionOperations(rows, own_keys);
  }
  double HeadOperations() const { return 2.0 * static_cast<double>(model().head_weight().numel()); }
  double WeightBytes() const {
    return static_cast<double>(model().config().parameters() * model().head_weight().element_size());
  }

  // Weights that a pass of decoding reads.
  double DecodeBytes() const { return decodes_in_int8() ? Int8Bytes() : WeightBytes(); }
  double Int8Bytes() const { return static_cast<double>(model().config().parameters()); }
  double DecodedBytes(const Usage& usage) const {
    return static_cast<double>(usage.language_model.forward_passes) * DecodeBytes() +
           static_cast<double>(usage.draft_model.forward_passes) * Int8Bytes();
  }

  void SetShare(benchmark::State& state, double operations, double bytes) const {
    state.counters["limit_share"] =
        benchmark::Counter(limits_.LeastTime(operations, bytes), benchmark::Counter::kIsIterationInvariantRate);
  }

  static bool Failed(benchmark::State& state, const absl::Status& status) {
    if (!status.ok()) state.SkipWithError(status.ToString().c_str());
    return !status.ok();
  }

  std::vector<int32_t> RandomTokens(int64_t count) const {
    std::vector<int32_t> ids(count);
    std::mt19937 random(7);
    for (int32_t& id : ids) id = static_cast<int32_t>(random() % model().vocabulary_size());
    return ids;
  }

  // The last hidden state of `ids` behind `cache`, as one pass.
  absl::StatusOr<torch::Tensor> Extend(KvCache& cache, absl::Span<const int32_t> ids) const {
    NABLA_RETURN_IF_ERROR(cache.Prepare(static_cast<int64_t>(ids.size())));
    return model().body().Extend({{&cache, ids, /*record=*/nullptr, /*last=*/1}});
  }

  // One token for each of `rows` sequences behind the prompt, with its logits.
  void DecodeStep(benchmark::State& state, int rows) const {
    const torch::InferenceMode inference;
    std::vector<KvCache> caches;
    for (int i = 0; i < rows; ++i) {
      caches.emplace_back(runner_->kv_pool());
      if (Failed(state, Extend(caches.back(), prompt_).status())) return;
    }
    const std::vector<int32_t> tokens = RandomTokens(rows);
    for (auto _ : state) {
      std::vector<Slice> slices;
      for (int i = 0; i < rows; ++i) {
        KvCache& cache = caches[i];
        cache.Truncate(static_cast<int64_t>(prompt_.size()));
        if (Failed(state, cache.Prepare(1))) return;
        slices.push_back({&cache, absl::MakeConstSpan(tokens).subspan(i, 1)});
      }
      benchmark::DoNotOptimize(model().Head(model().body().Extend(slices)).to(torch::kCPU));
    }
    state.SetItemsProcessed(state.iterations() * rows);
    SetShare(state, LayerOperations(rows, static_cast<double>(prompt_.size())) + rows * HeadOperations(),
             DecodeBytes());
  }

  // One token through the int8 copy that guesses.
  void DraftStep(benchmark::State& state) const {
    const torch::InferenceMode inference;
    const std::shared_ptr<const QuantizedModel> draft = model().QuantizedCopy();
    KvCache cache(runner_->kv_pool());
    if (Failed(state, Extend(cache, prompt_).status())) return;
    const std::vector<int32_t> token = RandomTokens(1);
    for (auto _ : state) {
      cache.Truncate(static_cast<int64_t>(prompt_.size()));
      if (Failed(state, cache.Prepare(1))) return;
      benchmark::DoNotOptimize(draft->Head(draft->Extend({{&cache, token}})));
    }
    state.SetItemsProcessed(state.iterations());
    SetShare(state, LayerOperations(1, static_cast<double>(prompt_.size())) + HeadOperations(), Int8Bytes());
  }

  // Greedy answers of `rows` streams to one prompt, which has been run before but where it `begins_anew`; with drafts
  // of the int8 copy, the same tokens.
  void Generate(benchmark::State& state, int tokens, int rows, bool drafts, bool begins_anew) const {
    const auto draft = drafts ? model().QuantizedCopy() : nullptr;
    const StopToken stop;
    NoSink sink;
    Usage usage;
    std::shared_ptr<KvPool> pool = runner_->kv_pool();
    for (auto _ : state) {
      usage = {};
      if (begins_anew) {
        const int64_t most = kBlockTokens + static_cast<int64_t>(prompt_.size()) + rows * (tokens + 2 * kBlockTokens);
        pool = std::make_shared<KvPool>(model().config(), most, model().dtype(), model().device());
      }
      ModelRunner runner(runner_->model(), pool, batcher_.get(), draft);
      const auto session =
          Session::Create(&runner, {.prompt_ids = prompt_, .max_new_tokens = tokens}, &stop, &sink, &usage);
      if (Failed(state, session.status())) return;
      if (rows == 1) {
        if (Failed(state, (*session)->RollOut({.temperature = 0}, Session::Stream::kCommit))) return;
        continue;
      }
      std::vector<std::unique_ptr<Session>> branches;
      std::vector<Session*> together;
      for (int i = 0; i < rows; ++i) {
        absl::StatusOr<std::unique_ptr<Session>> branch = (*session)->BranchAt(/*position=*/0, /*tokens=*/{}, i);
        if (Failed(state, branch.status())) return;
        together.push_back(branches.emplace_back(*std::move(branch)).get());
      }
      if (Failed(state, (*session)->RollOutTogether(together, {.temperature = 0}, std::nullopt))) return;
    }
    state.SetItemsProcessed(state.iterations() * usage.decoded_tokens);
    state.counters["accepted"] = static_cast<double>(usage.draft_tokens_accepted);
    state.counters["rejected"] = static_cast<double>(usage.draft_tokens_rejected);
    // A pass counts for each stream.
    const double run = static_cast<double>(usage.language_model.forward_tokens);
    SetShare(state, LayerOperations(run, static_cast<double>(prompt_.size()) + tokens / 2.0) + run * HeadOperations(),
             DecodedBytes(usage) / rows);
  }

  void Prefill(benchmark::State& state, int tokens) const {
    const torch::InferenceMode inference;
    const std::vector<int32_t> ids = RandomTokens(tokens);
    for (auto _ : state) {
      KvCache cache(runner_->kv_pool());
      const absl::StatusOr<torch::Tensor> hidden = Extend(cache, ids);
      if (Failed(state, hidden.status())) return;
      benchmark::DoNotOptimize(model().Head(*hidden).to(torch::kCPU));
    }
    state.SetItemsProcessed(state.iterations() * tokens);
    SetShare(state, LayerOperations(tokens, tokens / 2.0) + HeadOperations(), WeightBytes());
  }

  // RefineAhead on a rollout of `ahead` tokens behind the prompt with a learning rate that moves no argmax: one
  // gradient through both models, then `iterations` of Adam with it. `recorded`: at the tokens of a greedy rollout that
  // has been scored, as a refinement's first gradient is; else at others, as it is once an argmax has moved.
  void Refine(benchmark::State& state, int ahead, int iterations, bool recorded) const {
    const StopToken stop;
    NoSink sink;
    Usage usage;
    SessionState session(runner_.get(), {.prompt_ids = prompt_, .max_new_tokens = ahead, .keep_activations = recorded});
    session.stop = &stop;
    session.sink = &sink;
    session.usage = &usage;
    session.response = RandomTokens(ahead);
    if (Failed(state, FillSession(session))) return;
    RefinementOptions options;
    options.iterations = iterations;
    options.learning_rate = 1e-3;
    absl::StatusOr<std::unique_ptr<RewardContext>> context = reward_model_->Open({{"user", kQuestion}}, ahead, &stop);
    if (Failed(state, context.status())) return;
    ResponseScorer scorer(reward_model_.get(), map_.get(), *std::move(context), &usage.reward_model);
    if (recorded && (Failed(state, scorer.ExpectGradients()) || Failed(state, scorer.Score(session.response).status())))
      return;
    for (auto _ : state) {
      std::shared_ptr<const GradientField> field;
      const absl::StatusOr<RefinementResult> result = RefineAhead(session, scorer, options, field);
      if (Failed(state, result.status())) return;
      state.counters["gradient_steps"] = result->gradient_steps;
    }
    // Backwards through both and, where passes are not recorded, forwards; logits and their way back to hidden states;
    // of the one free row its logits and, for either model, G.
    double operations = 2 * DerivativeOperations(ahead) + (2.0 * ahead + 3) * HeadOperations();
    if (session.record == nullptr) {
      operations += 2 * LayerOperations(ahead, static_cast<double>(prompt_.size()) + ahead / 2.0);
    }
    SetShare(state, operations, 2 * WeightBytes());
  }

  absl::Status FillSession(SessionState& session) const {
    const torch::InferenceMode inference;
    NABLA_ASSIGN_OR_RETURN(const torch::Tensor last, Extend(session.cache, prompt_));
    session.response[0] = static_cast<int32_t>(model().Head(last).argmax(-1).item<int64_t>());
    NABLA_RETURN_IF_ERROR(session.cache.Prepare(static_cast<int64_t>(session.response.size())));
    const torch::Tensor response = model().body().Extend({{&session.cache, session.response, session.record.get()}});
    session.hidden.copy_(torch::cat({last, response}));
    // The other tokens stand for those that the model would have drawn.
    for (const int32_t token : session.response) session.stats.push_back({.argmax = token});
    return absl::OkStatus();
  }

  void Sample(benchmark::State& state) const {
    const torch::Tensor logits = torch::randn({model().vocabulary_size()}, torch::kFloat32) * 3;
    const absl::Span<const float> row(logits.data_ptr<float>(), logits.numel());
    RandomSource random(1);
    const SamplingOptions options{.temperature = 0.7, .top_k = 50, .top_p = 0.9};
    for (auto _ : state) benchmark::DoNotOptimize(SampleToken(row, options, random));
    SetShare(state, 0, static_cast<double>(row.size() * sizeof(float)));
  }

  void Tokenize(benchmark::State& state) const {
    for (auto _ : state) benchmark::DoNotOptimize(model().tokenizer().Encode(kQuestion));
    state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(sizeof(kQuestion) - 1));
    SetShare(state, 0, sizeof(kQuestion) - 1);
  }

  void Detokenize(benchmark::State& state) const {
    const std::vector<int32_t> ids = model().tokenizer().Encode(kQuestion);
    for (auto _ : state) {
      StreamingDetokenizer detokenizer(model().shared_tokenizer(), /*skip_special_tokens=*/true);
      for (const int32_t id : ids) benchmark::DoNotOptimize(detokenizer.Push(id));
    }
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(ids.size()));
    SetShare(state, 0, static_cast<double>(ids.size() * sizeof(int32_t)));
  }

  void LoadModel(benchmark::State& state) const {
    for (auto _ : state) {
      if (Failed(state, Model::Load(options_.model, options_.dtype, options_.device, 0, team_).status())) return;
    }
    SetShare(state, 0, WeightBytes());
  }

  // A ∇ request as hf_baseline.py's: greedy rollouts, resampling by argmax, so that the tokens can be compared.
  void WholeRequest(benchmark::State& state, int tokens, int rollouts) const {
    absl::StatusOr<std::unique_ptr<EnginePool>> pool =
        EnginePool::Create({.model = {.path = options_.model, .dtype = options_.dtype},
                            .reward_model = RewardModelOptions{.path = options_.reward_model, .dtype = options_.dtype},
                            .devices = {options_.device},
                            .threads = options_.threads,
                            .rollout_weights = options_.rollout_weights,
                            .gradient_weights = options_.gradient_weights});
    if (Failed(state, pool.status())) return;
    NoSink sink;
    const auto answer = [&](const char* question, int max_new_tokens,
                            int max_rollouts) -> absl::StatusOr<ReasonResult> {
      NablaOptions nabla{.max_rollouts = max_rollouts};
      nabla.refinement.learning_rate = 0.3;
      std::promise<absl::StatusOr<ReasonResult>> ended;
      const ReasonRequest request{
          .messages = {{"user", question}}, .strategy = nabla, .max_new_tokens = max_new_tokens};
      NABLA_ASSIGN_OR_RETURN(const auto ticket,
                             (*pool)->Submit(request, {}, &sink, [&](absl::StatusOr<ReasonResult> result) {
                               ended.set_value(std::move(result));
                             }));
      return ended.get_future().get();
    };
    // What a running service has behind it: weights are prepared for gradients while the engine is idle, or by the
    // first request.
    if (Failed(state, answer("How far is the Moon?", 16, 2).status())) return;
    for (auto _ : state) {
      const absl::StatusOr<ReasonResult> result = answer(kQuestion, tokens, rollouts);
      if (Failed(state, result.status())) return;
      const Usage& usage = result->usage;
      state.counters["rollouts"] = usage.rollouts;
      state.counters["gradients"] = usage.gradient_steps_computed;
      state.counters["decoded"] = static_cast<double>(usage.language_model.forward_tokens);
      state.counters["refine_s"] = absl::ToDoubleSeconds(usage.refine_time);
      state.counters["reward_s"] = absl::ToDoubleSeconds(usage.reward_time);
      state.SetLabel(absl::StrJoin(result->token_ids, ","));
      const ModelWork &writer = usage.language_model, &judge = usage.reward_model;
      SetShare(state,
               LayerOperations(static_cast<double>(writer.forward_tokens + writer.backward_tokens +
                                                   judge.forward_tokens + judge.backward_tokens),
                               static_cast<double>(prompt_.size()) + tokens / 2.0) +
                   static_cast<double>(usage.decoded_tokens + 2 * writer.backward_tokens) * HeadOperations(),
               DecodedBytes(usage));
    }
  }

  static constexpr int64_t kKvTokens = 16384;

  Options options_;
  std::shared_ptr<ThreadTeam> team_;
  std::unique_ptr<Batcher> batcher_;
  std::shared_ptr<ModelRunner> runner_, reward_runner_;
  std::unique_ptr<LocalRewardModel> reward_model_;
  std::unique_ptr<VocabularyMap> map_;
  std::vector<int32_t> prompt_;
  MachineLimits limits_;
};

constexpr char kUsage[] =
    "usage: nabla-engine-benchmark --model=FOLDER --reward_model=FOLDER [--dtype=auto|float32|bfloat16] "
    "[--device=cpu|cuda:N] [--rollout_weights=model|int8] [--gradient_weights=packed|model] "
    "[--threads=N] [--benchmark_filter=REGEX …]\n";

absl::StatusOr<Options> ParseFlags(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    absl::string_view argument = argv[i];
    if (absl::ConsumePrefix(&argument, "--model=")) {
      options.model = std::string(argument);
    } else if (absl::ConsumePrefix(&argument, "--reward_model=")) {
      options.reward_model = std::string(argument);
    } else if (absl::ConsumePrefix(&argument, "--dtype=")) {
      options.dtype = std::string(argument);
    } else if (absl::ConsumePrefix(&argument, "--device=")) {
      options.device = std::string(argument);
    } else if (absl::ConsumePrefix(&argument, "--rollout_weights=")) {
      options.rollout_weights = std::string(argument);
    } else if (absl::ConsumePrefix(&argument, "--gradient_weights=")) {
      options.gradient_weights = std::string(argument);
    } else if (!absl::ConsumePrefix(&argument, "--threads=") || !absl::SimpleAtoi(argument, &options.threads)) {
      return absl::InvalidArgumentError(absl::StrCat("unknown argument ", argv[i]));
    }
  }
  if (options.model.empty() || options.reward_model.empty()) {
    return absl::InvalidArgumentError("--model and --reward_model are required");
  }
  const auto is_one_of = [](const std::string& name, const std::string& value, absl::string_view a,
                            absl::string_view b) {
    if (value == a || value == b) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("--", name, " must be ", a, " or ", b, ", got ", value));
  };
  NABLA_RETURN_IF_ERROR(is_one_of("rollout_weights", options.rollout_weights, "model", "int8"));
  NABLA_RETURN_IF_ERROR(is_one_of("gradient_weights", options.gradient_weights, "packed", "model"));
  return options;
}

absl::Status Main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  NABLA_ASSIGN_OR_RETURN(const Options options, ParseFlags(argc, argv));
  NABLA_ASSIGN_OR_RETURN(const std::unique_ptr<Bench> bench, Bench::Create(options));
  benchmark::AddCustomContext("gflops_limit", absl::StrCat(bench->limits().operations_per_second / 1e9));
  benchmark::AddCustomContext("gbytes_per_second_limit", absl::StrCat(bench->limits().bytes_per_second / 1e9));
  bench->Register();
  benchmark::RunSpecifiedBenchmarks();
  return absl::OkStatus();
}

}  // namespace
}  // namespace nabla

int main(int argc, char** argv) {
  const absl::Status status = nabla::Main(argc, argv);
  if (status.ok()) return 0;
  std::cerr << "nabla-engine-benchmark: " << status.message() << "\n" << nabla::kUsage;
  return 1;
}
