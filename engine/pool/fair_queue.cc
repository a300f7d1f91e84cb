#include "engine/pool/fair_queue.h"

#include <algorithm>

namespace nabla {
namespace {

// A client is forgotten once the present has caught up with it. Behind this many, the one least ahead is forgotten
// early: names come from outside and must not fill the memory.
constexpr size_t kMaxIdleClients = 4096;

}  // namespace

void FairQueue::Push(const std::string& name, uint64_t id, int64_t tokens) {
  if (!turns_.empty()) virtual_time_ = std::max(virtual_time_, turns_.begin()->first.first);
  const auto [client, is_new] = clients_.try_emplace(name);
  if (!is_new) Leave(client);
  if (client->second.waiting.empty())
    client->second.virtual_time = std::max(client->second.virtual_time, virtual_time_);
  client->second.waiting.emplace(id, tokens);
  Enter(client);
}

std::optional<uint64_t> FairQueue::Front() const {
  if (turns_.empty()) return std::nullopt;
  return turns_.begin()->first.second;
}

void FairQueue::Start(const std::string& name, uint64_t id) { Take(name, id, /*charge=*/true); }

void FairQueue::Remove(const std::string& name, uint64_t id) { Take(name, id, /*charge=*/false); }

void FairQueue::Take(const std::string& name, uint64_t id, bool charge) {
  virtual_time_ = std::max(virtual_time_, turns_.begin()->first.first);
  const Clients::iterator client = clients_.find(name);
  Leave(client);
  const auto request = client->second.waiting.find(id);
  if (charge) client->second.virtual_time += request->second;
  client->second.waiting.erase(request);
  client->second.id = id;
  Enter(client);
  while (!idle_.empty() && (idle_.begin()->first.first <= virtual_time_ || idle_.size() > kMaxIdleClients)) {
    clients_.erase(idle_.begin()->second);
    idle_.erase(idle_.begin());
  }
}

void FairQueue::Enter(Clients::iterator client) {
  Client& state = client->second;
  if (!state.waiting.empty()) state.id = state.waiting.begin()->first;
  OrderOf(state).emplace(std::make_pair(state.virtual_time, state.id), client);
}

void FairQueue::Leave(Clients::iterator client) {
  const Client& state = client->second;
  OrderOf(state).erase({state.virtual_time, state.id});
}

}  // namespace nabla
