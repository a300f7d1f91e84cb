#include "engine/model/torch_batch.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace nabla {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

double Scale(const torch::Tensor& query) { return 1.0 / std::sqrt(static_cast<double>(query.size(-1))); }

}  // namespace

torch::Tensor CausalAttention(const torch::Tensor& query, const torch::Tensor& keys, const torch::Tensor& values) {
  const int64_t groups = keys.size(0), count = query.size(1), length = keys.size(1);
  const torch::Tensor grouped = query.reshape({groups, -1, query.size(2)});
  torch::Tensor scores = torch::matmul(grouped, keys.transpose(1, 2)) * Scale(query);
  if (count > 1) {
    const torch::Tensor mask = torch::full({count, length}, kNever, query.options()).triu(length - count + 1);
    scores = (scores.view({groups, -1, count, length}) + mask).view({groups, -1, length});
  }
  const torch::Tensor weights = torch::softmax(scores, -1, torch::kFloat32).to(query.scalar_type());
  return torch::matmul(weights, values).view({-1, count, query.size(2)}).transpose(0, 1).reshape({count, -1});
}

TorchBatch::TorchBatch(absl::Span<const Slice> slices, torch::Device device) : pool_(&slices.front().cache->pool()) {
  // All numbers cross to the device as one copy.
  std::vector<int64_t> ids, positions, blocks, offsets, tables, ends;
  for (size_t i = 0; i < slices.size();) {
    Group group{.begin = static_cast<int64_t>(ids.size())};
    const size_t first = i;
    do {
      const Slice& slice = slices[i];
      for (const int32_t id : slice.ids) {
        const int64_t position = slice.cache->length() + static_cast<int64_t>(ids.size()) - group.begin - group.rows;
        positions.push_back(position);
        blocks.push_back(slice.cache->blocks()[position / kBlockTokens]);
        offsets.push_back(position % kBlockTokens);
        ids.push_back(id);
      }
      group.rows += static_cast<int64_t>(slice.ids.size());
      group.length = positions.back() + 1;
      group.blocks = std::max(group.blocks, positions.back() / kBlockTokens + 1);
      ++group.sequences, ++i;
    } while (i < slices.size() && slices[first].ids.size() == 1 && slices[i].ids.size() == 1);
    for (size_t j = first; j < i; ++j) {
      const std::vector<int32_t>& held = slices[j].cache->blocks();
      const size_t count = std::min(held.size(), static_cast<size_t>(group.blocks));
      tables.insert(tables.end(), held.begin(), held.begin() + static_cast<std::ptrdiff_t>(count));
      tables.resize(tables.size() + group.blocks - count, held.front());  // masked
      ends.push_back(slices[j].cache->length() + 1);
    }
    groups_.push_back(group);
  }
  std::vector<int64_t> all;
  for (const auto* numbers : {&ids, &positions, &blocks, &offsets, &tables, &ends}) {
    all.insert(all.end(), numbers->begin(), numbers->end());
  }
  const torch::Tensor there = torch::tensor(all, torch::kInt64).to(device);
  int64_t at = 0;
  const auto next = [&](int64_t count) { return there.narrow(0, std::exchange(at, at + count), count); };
  const int64_t rows = static_cast<int64_t>(ids.size());
  ids_ = next(rows), positions_ = next(rows), blocks_ = next(rows), offsets_ = next(rows);
  for (Group& group : groups_) group.table = next(group.sequences * group.blocks);
  for (Group& group : groups_) {
    const torch::Tensor end = next(group.sequences);
    if (group.sequences == 1) continue;
    const int64_t length = group.blocks * kBlockTokens;
    const torch::Tensor behind = torch::arange(length, end.options()).unsqueeze(0).ge(end.unsqueeze(1));
    group.mask = torch::zeros({group.sequences, length}, end.options().dtype(torch::kFloat32))
                     .masked_fill_(behind, kNever)
                     .view({group.sequences, 1, 1, length});
  }
}

void TorchBatch::Write(int64_t layer, const torch::Tensor& keys, const torch::Tensor& values) const {
  using torch::indexing::Slice;
  pool_->keys().select(1, layer).index_put_({blocks_, Slice(), Slice(), offsets_}, keys.transpose(0, 1));
  pool_->values().select(1, layer).index_put_({blocks_, Slice(), offsets_}, values.transpose(0, 1));
}

torch::Tensor TorchBatch::Attend(int64_t layer, const torch::Tensor& query) const {
  std::vector<torch::Tensor> mixed;
  for (const Group& group : groups_) {
    // [sequences, key/value heads, positions, head dimension]
    const auto in_order = [&](const torch::Tensor& pool, at::IntArrayRef order) {
      const torch::Tensor gathered = pool.select(1, layer).index_select(0, group.table);
      const int64_t heads = pool.size(2);
      return gathered.view({group.sequences, group.blocks, heads, gathered.size(2), gathered.size(3)})
          .permute(order)
          .reshape({group.sequences, heads, group.blocks * kBlockTokens, -1});
    };
    const torch::Tensor keys = in_order(pool_->keys(), {0, 2, 1, 4, 3});
    const torch::Tensor values = in_order(pool_->values(), {0, 2, 1, 3, 4});
    const torch::Tensor mine = query.narrow(1, group.begin, group.rows);
    mixed.push_back(group.sequences == 1 ? CausalAttention(mine, keys[0].narrow(1, 0, group.length),
                                                           values[0].narrow(1, 0, group.length))
                                         : AttendTogether(group, mine, keys, values));
  }
  return mixed.size() == 1 ? mixed.front() : torch::cat(mixed);
}

// Row i is that of sequence i; the query heads of a key/value head stand for rows of its products.
torch::Tensor TorchBatch::AttendTogether(const Group& group, const torch::Tensor& query, const torch::Tensor& keys,
                                         const torch::Tensor& values) const {
  const int64_t kv_heads = keys.size(1), head_dim = query.size(2);
  const torch::Tensor grouped = query.transpose(0, 1).reshape({group.sequences, kv_heads, -1, head_dim});
  const torch::Tensor scores = torch::matmul(grouped, keys.transpose(2, 3)).to(torch::kFloat32) * Scale(query);
  const torch::Tensor weights = torch::softmax(scores + group.mask, -1).to(query.scalar_type());
  return torch::matmul(weights, values).view({group.sequences, -1});
}

}  // namespace nabla
