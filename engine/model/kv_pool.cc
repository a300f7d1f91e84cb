#include "engine/model/kv_pool.h"

#include <algorithm>

namespace nabla {
namespace {

int64_t BlocksFor(int64_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

std::array<int32_t, kBlockTokens> TokensOf(absl::Span<const int32_t> ids, size_t block) {
  std::array<int32_t, kBlockTokens> tokens;
  std::copy_n(ids.begin() + block * kBlockTokens, kBlockTokens, tokens.begin());
  return tokens;
}

}  // namespace

KvPool::KvPool(const ModelConfig& config, int64_t tokens, torch::ScalarType dtype, torch::Device device)
    : capacity_tokens_(BlocksFor(tokens) * kBlockTokens) {
  const int64_t blocks = BlocksFor(tokens);
  const auto options = torch::TensorOptions(dtype).device(device);
  const int64_t layers = config.num_layers, heads = config.num_key_value_heads;
  keys_ = torch::empty({blocks, layers, heads, config.head_dim, kBlockTokens}, options);
  values_ = torch::empty({blocks, layers, heads, kBlockTokens, config.head_dim}, options);
  holders_.assign(blocks, 0);
  for (int64_t block = blocks - 1; block >= 0; --block) free_.push_back(static_cast<int32_t>(block));
}

int64_t KvPool::BytesPerToken(const ModelConfig& config, torch::ScalarType dtype) {
  return 2 * config.num_layers * config.num_key_value_heads * config.head_dim *
         static_cast<int64_t>(torch::elementSize(dtype));
}

// For every layer of every step, so without select(): its views took 6 of the 73 microseconds of models/writer's.
kernels::KvBlocks KvPool::Layer(int64_t layer) const {
  const auto begin = [layer](const torch::Tensor& numbers) {
    return static_cast<char*>(numbers.data_ptr()) + layer * numbers.stride(1) * numbers.element_size();
  };
  return {
      .keys = begin(keys_),
      .values = begin(values_),
      .block_stride = keys_.stride(0),
      .type = keys_.scalar_type() == torch::kFloat32 ? kernels::NumberType::kFloat32 : kernels::NumberType::kBfloat16,
      .kv_heads = keys_.size(2),
      .head_dim = keys_.size(3)};
}

bool KvPool::TryReserve(int64_t tokens) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (reserved_ + tokens > capacity_tokens_) return false;
  reserved_ += tokens;
  return true;
}

void KvPool::Release(int64_t tokens) {
  const std::lock_guard<std::mutex> lock(mutex_);
  reserved_ -= tokens;
}

std::optional<int32_t> KvPool::Take() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (free_.empty() && !Evict()) return std::nullopt;
  const int32_t block = free_.back();
  free_.pop_back();
  holders_[block] = 1;
  return block;
}

void KvPool::Hold(int32_t block) {
  const std::lock_guard<std::mutex> lock(mutex_);
  ++holders_[block];
}

void KvPool::Drop(int32_t block) {
  const std::lock_guard<std::mutex> lock(mutex_);
  DropLocked(block);
}

void KvPool::DropLocked(int32_t block) {
  if (--holders_[block] == 0) free_.push_back(block);
}

bool KvPool::Shared(int32_t block) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return holders_[block] > 1;
}

std::vector<int32_t> KvPool::Find(absl::Span<const int32_t> ids) {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::vector<int32_t> found;
  std::vector<int64_t> chain;
  int64_t parent = 0;
  for (size_t i = 0; (i + 1) * kBlockTokens <= ids.size(); ++i) {
    const auto known = ids_.find({parent, TokensOf(ids, i)});
    if (known == ids_.end()) break;
    parent = known->second;
    chain.push_back(parent);
    found.push_back(published_.at(parent).block);
    ++holders_[found.back()];
  }
  // The first block of a chain is the last to go.
  for (auto id = chain.rbegin(); id != chain.rend(); ++id) ages_.splice(ages_.end(), ages_, published_.at(*id).age);
  hits_ += static_cast<int64_t>(found.size()) * kBlockTokens;
  return found;
}

void KvPool::Publish(absl::Span<const int32_t> ids, absl::Span<const int32_t> blocks) {
  const std::lock_guard<std::mutex> lock(mutex_);
  int64_t parent = 0;
  auto younger = ages_.end();  // a block is to go before those that it stands on
  for (size_t i = 0; i < blocks.size() && (i + 1) * kBlockTokens <= ids.size(); ++i) {
    const auto [key, is_new] = ids_.try_emplace({parent, TokensOf(ids, i)}, next_id_);
    // Behind another's block of the same tokens nothing is hung: its holder could go and ours would keep it there.
    if (!is_new && published_.at(key->second).block != blocks[i]) return;
    if (is_new) {
      ++holders_[blocks[i]];
      if (parent != 0) ++published_.at(parent).children;
      younger = ages_.insert(younger, next_id_);
      published_[next_id_] = {.block = blocks[i], .parent = parent, .key = key, .age = younger};
      ++next_id_;
    }
    parent = key->second;
  }
}

bool KvPool::Evict() {
  for (const int64_t id : ages_) {
    const Published& oldest = published_.at(id);
    if (oldest.children > 0 || holders_[oldest.block] > 1) continue;
    const int32_t block = oldest.block;
    if (oldest.parent != 0) --published_.at(oldest.parent).children;
    ids_.erase(oldest.key);
    ages_.erase(oldest.age);
    published_.erase(id);
    DropLocked(block);
    return true;
  }
  return false;
}

KvPool::Load KvPool::load() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return {.reserved_tokens = reserved_,
          .free_tokens = static_cast<int64_t>(free_.size()) * kBlockTokens,
          .capacity_tokens = capacity_tokens_,
          .prefix_hit_tokens = hits_};
}

}  // namespace nabla
