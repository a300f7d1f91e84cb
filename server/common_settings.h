// Settings that both servers have, read and checked. A target keeps what it holds where nothing is given: so servers
// have defaults of their own.
//
//   listener.port = 50052;
//   ReadListener(settings, &listener, &auth_tokens_file);
//   NABLA_RETURN_IF_ERROR(settings.status());
//
// Pure functions but for those that check files, which look at the disk.
#ifndef NABLA_SERVER_COMMON_SETTINGS_H_
#define NABLA_SERVER_COMMON_SETTINGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "engine/reward/reward_model_options.h"
#include "server/listener.h"
#include "server/log.h"
#include "server/settings.h"

namespace nabla {

inline constexpr int kMaxCount = 1 << 20;  // of tokens, requests, calls

const std::vector<std::string>& Dtypes();

bool IsCuda(absl::string_view device);  // "cuda:N"

void ReadRewardModel(Settings& settings, RewardModelOptions* model);
void CheckDevice(Settings& settings, const std::string& name, const std::string& device);
void ReadEngineSize(Settings& settings, int64_t* kv_cache_bytes, int* threads, int* max_batch_tokens,
                    std::string* gradient_weights);
void ReadListener(Settings& settings, ListenerOptions* listener, std::string* auth_tokens_file);
void ReadMetrics(Settings& settings, const ListenerOptions& listener, std::string* host, int* port);
void ReadLog(Settings& settings, LogSink* log);
void ReadDrainTimeout(Settings& settings, absl::Duration* timeout);

// INVALID_ARGUMENT naming the flag: a folder that holds no model, certificates that do not fit their keys, bad tokens.
absl::Status CheckModelFolder(absl::string_view flag, const std::string& folder);
absl::Status CheckListenerFiles(const ListenerOptions& listener, const std::string& auth_tokens_file);

}  // namespace nabla

#endif  // NABLA_SERVER_COMMON_SETTINGS_H_
