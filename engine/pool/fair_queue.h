// Turns between clients, by the tokens of what they start: start-time fair queueing over the requests of one priority.
//
//   FairQueue queue;
//   queue.Push("alice", /*id=*/1, /*tokens=*/500);
//   queue.Start("alice", *queue.Front());   // alice is charged 500 tokens
//
// Every client has a virtual time, advanced by the tokens of each request that it starts; the client with the smallest
// is next, within a client the smallest id. One that was idle starts at the present virtual time, that of the client
// next in turn, so idleness earns no credit; one that has run ahead stays ahead when it comes back, so sending requests
// one by one gains nothing. Whoever is next stays next against newcomers: they start at its virtual time and have
// larger ids.
//
// Not thread-safe; nothing blocks. Push, Start and Remove take logarithmic time.
#ifndef NABLA_ENGINE_POOL_FAIR_QUEUE_H_
#define NABLA_ENGINE_POOL_FAIR_QUEUE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

namespace nabla {

class FairQueue {
 public:
  // `id` is new to this queue, and larger for requests that were submitted later. `tokens` is at least 0.
  void Push(const std::string& client, uint64_t id, int64_t tokens);

  // Who is next; none where nobody waits.
  std::optional<uint64_t> Front() const;

  // Takes a waiting request out: started and charged to its client, or left without having started.
  void Start(const std::string& client, uint64_t id);
  void Remove(const std::string& client, uint64_t id);

  int idle_clients() const { return static_cast<int>(idle_.size()); }  // remembered for having run ahead

 private:
  struct Client {
    int64_t virtual_time = 0;
    std::map<uint64_t, int64_t> waiting;  // tokens by id
    uint64_t id = 0;  // its first waiting request, else its last one: makes its place in order unique
  };
  using Clients = std::map<std::string, Client>;
  using Order = std::map<std::pair<int64_t, uint64_t>, Clients::iterator>;  // by virtual time, then id

  Order& OrderOf(const Client& client) { return client.waiting.empty() ? idle_ : turns_; }
  void Enter(Clients::iterator client);
  void Leave(Clients::iterator client);
  void Take(const std::string& name, uint64_t id, bool charge);

  int64_t virtual_time_ = 0;  // the present one: of the client that was last seen to be next
  Clients clients_;
  Order turns_;  // clients that wait
  Order idle_;   // clients that do not, but are ahead of the present
};

}  // namespace nabla

#endif  // NABLA_ENGINE_POOL_FAIR_QUEUE_H_
