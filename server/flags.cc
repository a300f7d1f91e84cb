#include "server/flags.h"

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "nabla/v1/config.pb.h"
#include "server/config_flag.h"

using nabla::ByteCount;
using nabla::Strings;

NABLA_CONFIG_FLAG(std::string, model, "model.path", "Folder of the language model in Hugging Face layout. Required.");
NABLA_CONFIG_FLAG(
    std::string, dtype, "model.dtype",
    "Number type of the language model: float32, bfloat16 or auto (what its config.json says). Default: auto.");
NABLA_CONFIG_FLAG(int, max_model_length, "model.max_length",
                  "Tokens of prompt and response together. Default: 0, the model's own limit, at most 8192.");
NABLA_CONFIG_FLAG(
    std::string, reward_model, "reward_model.path",
    "Folder of the reward model. Without one, and without --reward_address, strategies that need rewards are refused.");
NABLA_CONFIG_FLAG(std::string, reward_kind, "reward_model.kind",
                  "Kind of reward: classifier, likelihood, verdict or auto (from its config.json). Default: auto.");
NABLA_CONFIG_FLAG(std::string, reward_dtype, "reward_model.dtype", "As --dtype, for the reward model. Default: auto.");
NABLA_CONFIG_FLAG(int, reward_max_length, "reward_model.max_length",
                  "As --max_model_length, for the reward model. Default: 0.");
NABLA_CONFIG_FLAG(
    std::string, draft_model, "draft_model.path",
    "Folder of a small model with the same tokenizer, for the strategy speculative_candidates. Default: none.");
NABLA_CONFIG_FLAG(std::string, draft_dtype, "draft_model.dtype", "As --dtype, for the draft model. Default: auto.");
NABLA_CONFIG_FLAG(
    Strings, guard_models, "guard_models",
    "Folders of further reward models, with commas between them, that revisions must please as well where a "
    "request asks for it. Default: none.");
NABLA_CONFIG_FLAG(std::string, verdict_question, "reward_model.verdict_question",
                  "What a verdict asks behind the answer. Default: Is the answer above correct? Reply with Yes or No.");
NABLA_CONFIG_FLAG(std::string, verdict_yes, "reward_model.verdict_yes",
                  "The word of a verdict that speaks for the answer. Default: Yes.");
NABLA_CONFIG_FLAG(std::string, verdict_no, "reward_model.verdict_no",
                  "The word of a verdict that speaks against the answer. Default: No.");
NABLA_CONFIG_FLAG(
    Strings, reward_address, "remote_reward.addresses",
    "HOST:PORT of nabla-reward-server instead of --reward_model; several replicas with commas between them.");
NABLA_CONFIG_FLAG(std::string, reward_tls_ca, "remote_reward.tls_ca_file",
                  "PEM file of the authorities of the reward servers. Default: they are called in the clear.");
NABLA_CONFIG_FLAG(std::string, reward_token_file, "remote_reward.token_file",
                  "File that holds the bearer token for the reward servers.");
NABLA_CONFIG_FLAG(std::string, reward_gradients, "remote_reward.gradients",
                  "How gradients travel from the reward servers: float32, the bits of --reward_model, or bfloat16, "
                  "half the bytes. Default: float32.");
NABLA_CONFIG_FLAG(Strings, devices, "engine.devices",
                  "Devices, one engine each, with commas between them: cpu, cuda:N; or auto (CUDA where there is one). "
                  "Default: auto.");
NABLA_CONFIG_FLAG(ByteCount, kv_cache_bytes, "engine.kv_cache_bytes",
                  "Memory of one engine for keys and values, for example 512MiB. Default: 1GiB.");
NABLA_CONFIG_FLAG(
    ByteCount, activation_bytes, "engine.activation_bytes",
    "Memory of one CPU engine for what rollouts, and their scoring, leave to gradients at the same tokens; where "
    "it is full, gradients take longer and answers are the same. Default: 512MiB.");
NABLA_CONFIG_FLAG(int, max_running_requests, "engine.max_running_requests",
                  "Requests that run at once on one engine. Default: 64.");
NABLA_CONFIG_FLAG(int, threads, "engine.threads",
                  "Threads of one CPU engine. Default: 0, the cores, or fewer for small models.");
NABLA_CONFIG_FLAG(int, max_batch_tokens, "engine.max_batch_tokens", "Tokens of one forward pass. Default: 128.");
NABLA_CONFIG_FLAG(int, max_draft_tokens, "engine.max_draft_tokens",
                  "Guessed tokens that a pass verifies, at most; they change no answer. 0: none. Default: 8.");
NABLA_CONFIG_FLAG(
    std::string, draft_weights, "engine.draft_weights",
    "What guesses besides an earlier rollout: int8, a copy of the model with such weights; none; or auto (int8 on "
    "a CPU for weights of 64 MiB and more, unless rollouts are by int8 weights). Default: auto.");
NABLA_CONFIG_FLAG(
    std::string, rollout_weights, "engine.rollout_weights",
    "What the language model decodes with: model, its own weights; or int8, copies of them, which answer sooner and "
    "not quite the same, on a CPU. Gradients are taken with its own in either case. Default: model.");
NABLA_CONFIG_FLAG(
    std::string, gradient_weights, "engine.gradient_weights",
    "What gradients on a CPU multiply with: packed, copies of the weights where they pay; or model, the weights as "
    "they lie, which takes longer and as little as a third of the memory. Default: packed.");
NABLA_CONFIG_FLAG(int, max_queued_requests, "admission.max_queued_requests",
                  "Requests that may wait for an engine; more get RESOURCE_EXHAUSTED. Default: 256.");
NABLA_CONFIG_FLAG(int64_t, max_queued_tokens, "admission.max_queued_tokens",
                  "Tokens, of prompts and responses to come, that may wait for an engine. Default: 1048576.");
NABLA_CONFIG_FLAG(int, max_new_tokens_limit, "admission.max_new_tokens_limit",
                  "Largest max_new_tokens a request may ask for. Default: 4096.");
NABLA_CONFIG_FLAG(int, max_rollouts_limit, "admission.max_rollouts_limit",
                  "Largest max_rollouts a request may ask for. Default: 1024.");
NABLA_CONFIG_FLAG(
    std::string, host, "listener.host",
    "Address to listen on; 0.0.0.0 lets other machines in, so set --tls_certificate and --auth_tokens, too. "
    "Default: 127.0.0.1.");
NABLA_CONFIG_FLAG(int, port, "listener.port", "gRPC port; 0 picks a free one and prints it. Default: 50051.");
NABLA_CONFIG_FLAG(
    std::string, tls_certificate, "listener.tls.certificate_file",
    "PEM file of the server's certificate and those that lead to its authority; read again when it changes. "
    "Default: connections are in the clear.");
NABLA_CONFIG_FLAG(std::string, tls_key, "listener.tls.key_file",
                  "PEM file of its private key; read again when it changes.");
NABLA_CONFIG_FLAG(std::string, tls_client_ca, "listener.tls.client_ca_file",
                  "PEM file of the authorities of clients, who must show a certificate then (mutual TLS).");
NABLA_CONFIG_FLAG(std::string, auth_tokens, "listener.auth_tokens_file",
                  "File of bearer tokens and their limits, an AuthTokens in text format; read again when it changes. "
                  "Default: everybody may come.");
NABLA_CONFIG_FLAG(
    int, metrics_port, "metrics.port",
    "Port of the Prometheus metrics, under /metrics; 0 picks a free one, -1 turns them off. Default: 9464.");
NABLA_CONFIG_FLAG(std::string, log_format, "logging.format",
                  "Format of the log on stderr: logfmt or json. Default: logfmt.");
NABLA_CONFIG_FLAG(
    absl::Duration, drain_timeout, "drain_timeout_seconds",
    "How long SIGTERM or SIGINT lets running and queued requests finish before they are stopped. Default: 30s.");

namespace nabla {

const Program& ServerProgram() {
  static const Program program = {.name = "nabla-server",
                                  .introduction =
                                      "serves the Nabla API over gRPC.\n\n"
                                      "  nabla-server --model=models/writer --reward_model=models/judge\n"
                                      "  nabla-server --config=server.textproto --port=50052",
                                  .config = &v1::ServerConfig::default_instance()};
  return program;
}

}  // namespace nabla
