#include "server/reward_flags.h"

#include <string>

#include "absl/time/time.h"
#include "nabla/v1/config.pb.h"
#include "server/config_flag.h"

using nabla::ByteCount;

NABLA_CONFIG_FLAG(std::string, model, "reward_model.path",
                  "Folder of the reward model in Hugging Face layout. Required.");
NABLA_CONFIG_FLAG(std::string, kind, "reward_model.kind",
                  "Kind of reward: classifier, likelihood, verdict or auto (from its config.json). Default: auto.");
NABLA_CONFIG_FLAG(std::string, dtype, "reward_model.dtype",
                  "Number type: float32, bfloat16 or auto (what config.json says). Default: auto.");
NABLA_CONFIG_FLAG(std::string, device, "engine.device",
                  "cpu, cuda:N or auto (CUDA where there is one). Default: auto.");
NABLA_CONFIG_FLAG(int, max_model_length, "reward_model.max_length",
                  "Tokens of conversation and response together. Default: 0, the model's own limit, at most 8192.");
NABLA_CONFIG_FLAG(std::string, verdict_question, "reward_model.verdict_question",
                  "What a verdict asks behind the answer. Default: Is the answer above correct? Reply with Yes or No.");
NABLA_CONFIG_FLAG(std::string, verdict_yes, "reward_model.verdict_yes",
                  "The word of a verdict that speaks for the answer. Default: Yes.");
NABLA_CONFIG_FLAG(std::string, verdict_no, "reward_model.verdict_no",
                  "The word of a verdict that speaks against the answer. Default: No.");
NABLA_CONFIG_FLAG(ByteCount, kv_cache_bytes, "engine.kv_cache_bytes",
                  "Memory for keys and values, for example 512MiB. Default: 1GiB.");
NABLA_CONFIG_FLAG(int, threads, "engine.threads",
                  "Threads of the model on a CPU. Default: 0, the cores, or fewer for a small model.");
NABLA_CONFIG_FLAG(int, max_batch_tokens, "engine.max_batch_tokens",
                  "Rows of one forward pass, of all calls that share it. Default: 128.");
NABLA_CONFIG_FLAG(
    std::string, gradient_weights, "engine.gradient_weights",
    "What gradients on a CPU multiply with: packed, copies of the weights where they pay; or model, the weights as "
    "they lie, which takes longer and as little as a third of the memory. Default: packed.");
NABLA_CONFIG_FLAG(int, max_concurrent_calls, "calls.max_concurrent",
                  "Calls that run at once; each has a thread. Default: 64.");
NABLA_CONFIG_FLAG(int, max_waiting_calls, "calls.max_waiting",
                  "Calls that may wait for a thread; more get RESOURCE_EXHAUSTED. Default: 256.");
NABLA_CONFIG_FLAG(int, max_idle_contexts, "calls.max_idle_contexts",
                  "Conversations kept open between calls. Default: 64.");
NABLA_CONFIG_FLAG(
    std::string, host, "listener.host",
    "Address to listen on; 0.0.0.0 lets other machines in, so set --tls_certificate and --auth_tokens, too. "
    "Default: 127.0.0.1.");
NABLA_CONFIG_FLAG(int, port, "listener.port", "gRPC port; 0 picks a free one and prints it. Default: 50052.");
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
NABLA_CONFIG_FLAG(absl::Duration, max_connection_age, "listener.max_connection_age_seconds",
                  "Clients connect anew after this, and so find replicas that have joined; up to 2147483s, or inf for "
                  "no limit. Default: 5m.");
NABLA_CONFIG_FLAG(
    int, metrics_port, "metrics.port",
    "Port of the Prometheus metrics, under /metrics; 0 picks a free one, -1 turns them off. Default: 9465.");
NABLA_CONFIG_FLAG(std::string, log_format, "logging.format",
                  "Format of the log on stderr: logfmt or json. Default: logfmt.");
NABLA_CONFIG_FLAG(absl::Duration, drain_timeout, "drain_timeout_seconds",
                  "How long SIGTERM or SIGINT lets calls finish before they are stopped. Default: 30s.");

namespace nabla {

const Program& RewardServerProgram() {
  static const Program program = {.name = "nabla-reward-server",
                                  .introduction =
                                      "serves a reward model to nabla-server over gRPC.\n\n"
                                      "  nabla-reward-server --model=models/judge\n"
                                      "  nabla-server --model=models/writer --reward_address=127.0.0.1:50052\n"
                                      "  nabla-reward-server --config=reward.textproto --port=50053",
                                  .config = &v1::RewardServerConfig::default_instance()};
  return program;
}

}  // namespace nabla
