#include "engine/model/kv_cache.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"

namespace nabla {

KvCache& KvCache::operator=(KvCache&& other) noexcept {
  if (this == &other) return *this;
  if (pool_ != nullptr) Truncate(0);
  pool_ = other.pool_;
  length_ = std::exchange(other.length_, 0);
  blocks_ = std::exchange(other.blocks_, {});
  return *this;
}

int64_t KvCache::StartFrom(absl::Span<const int32_t> ids) {
  blocks_ = pool_->Find(ids.subspan(0, ids.size() - 1));
  length_ = static_cast<int64_t>(blocks_.size()) * kBlockTokens;
  return length_;
}

absl::Status KvCache::Prepare(int64_t count) {
  const auto take = [this]() -> absl::Status {
    const std::optional<int32_t> block = pool_->Take();
    if (!block) {
      return absl::ResourceExhaustedError(absl::StrCat("all ", pool_->blocks() * kBlockTokens,
                                                       " positions of key/value memory are taken; raise "
                                                       "kv_cache_bytes or run fewer requests at once"));
    }
    blocks_.push_back(*block);
    return absl::OkStatus();
  };
  const size_t last = static_cast<size_t>(length_ / kBlockTokens);
  if (length_ % kBlockTokens != 0 && pool_->Shared(blocks_[last])) {  // another's too: go on in a copy
    if (absl::Status status = take(); !status.ok()) return status;
    pool_->keys()[blocks_.back()].copy_(pool_->keys()[blocks_[last]]);
    pool_->values()[blocks_.back()].copy_(pool_->values()[blocks_[last]]);
    pool_->Drop(blocks_[last]);
    blocks_[last] = blocks_.back();
    blocks_.pop_back();
  }
  while (static_cast<int64_t>(blocks_.size()) * kBlockTokens < length_ + count) {
    if (absl::Status status = take(); !status.ok()) return status;
  }
  return absl::OkStatus();
}

void KvCache::Truncate(int64_t length) {
  length_ = std::min(length_, length);
  while (static_cast<int64_t>(blocks_.size()) * kBlockTokens >= length_ + kBlockTokens) {
    pool_->Drop(blocks_.back());
    blocks_.pop_back();
  }
}

KvCache KvCache::Fork(int64_t length) const {
  KvCache fork(pool_);
  fork.blocks_ = blocks_;
  fork.length_ = length_;
  for (const int32_t block : blocks_) pool_->Hold(block);
  fork.Truncate(length);
  return fork;
}

std::pair<torch::Tensor, torch::Tensor> KvCache::Gather(int64_t layer, int64_t length) const {
  const int64_t count = (length + kBlockTokens - 1) / kBlockTokens;
  const torch::Tensor index =
      torch::from_blob(const_cast<int32_t*>(blocks_.data()), {count}, torch::kInt32).to(pool_->keys().device());
  // [blocks, heads, …] → [heads, positions, head dimension]
  const auto in_order = [&](const torch::Tensor& gathered) {
    return gathered.reshape({gathered.size(0), count * kBlockTokens, gathered.size(3)}).narrow(1, 0, length);
  };
  return {in_order(pool_->keys().select(1, layer).index_select(0, index).permute({1, 0, 3, 2})),
          in_order(pool_->values().select(1, layer).index_select(0, index).permute({1, 0, 2, 3}))};
}

void KvCache::Write(int64_t layer, const torch::Tensor& keys, const torch::Tensor& values) {
  std::vector<int64_t> blocks, offsets;
  for (int64_t i = 0; i < keys.size(1); ++i) {
    blocks.push_back(blocks_[(length_ + i) / kBlockTokens]);
    offsets.push_back((length_ + i) % kBlockTokens);
  }
  const auto device = pool_->keys().device();
  const torch::Tensor block = torch::tensor(blocks).to(device), offset = torch::tensor(offsets).to(device);
  using torch::indexing::Slice;
  pool_->keys().select(1, layer).index_put_({block, Slice(), Slice(), offset}, keys.transpose(0, 1));
  pool_->values().select(1, layer).index_put_({block, Slice(), offset}, values.transpose(0, 1));
}

}  // namespace nabla
