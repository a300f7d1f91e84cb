#include "engine/model/transformer.h"

#include <gtest/gtest.h>

#include "engine/model/model.h"
#include "tests/engine/model_fixture.h"
#include "tests/engine/test_models.h"

namespace nabla {
namespace {

class TransformerTest : public testing::TestWithParam<const char*> {
 protected:
  TransformerTest() : model_(Model::Load(GetParam(), "float32", "cpu", 0).value()) {}
  KvCache Cache() const { return NewKvCache(*model_); }

  const std::vector<int32_t> ids_ = {5, 80, 7, 200, 300, 402, 11, 12};
  std::shared_ptr<const Model> model_;
};

TEST_P(TransformerTest, TokenByTokenEqualsAllAtOnce) {
  KvCache whole = Cache(), stepwise = Cache();
  const torch::Tensor expected = Extend(*model_, ids_, whole);
  std::vector<torch::Tensor> rows;
  for (const int32_t id : ids_) rows.push_back(Extend(*model_, {id}, stepwise));
  EXPECT_TRUE(torch::equal(torch::cat(rows), expected)) << "bit for bit";
}

TEST_P(TransformerTest, ForwardBehindACachedPrefixEqualsForwardOfEverything) {
  const Transformer& body = model_->body();
  KvCache whole = Cache(), prefix = Cache();
  const torch::Tensor expected = Extend(*model_, ids_, whole);
  Extend(*model_, absl::MakeConstSpan(ids_).subspan(0, 5), prefix);
  const torch::Tensor behind = body.Forward(body.Embed(absl::MakeConstSpan(ids_).subspan(3)), prefix, 3).hidden;
  EXPECT_TRUE(torch::allclose(behind, expected.narrow(0, 3, 5), 1e-4, 1e-4));
  EXPECT_EQ(prefix.length(), 5) << "a differentiable pass must leave the cache alone";
}

TEST_P(TransformerTest, GradientAtTheInputsAgreesWithFiniteDifferences) {
  const Transformer& body = model_->body();
  KvCache prefix = Cache();
  Extend(*model_, absl::MakeConstSpan(ids_).subspan(0, 3), prefix);
  const torch::Tensor start = body.Embed(absl::MakeConstSpan(ids_).subspan(3)).clone();
  torch::manual_seed(1);
  const torch::Tensor weights = torch::randn({5, 64}), direction = torch::randn({5, 64});
  const auto value = [&](const torch::Tensor& inputs) {
    return (body.Forward(inputs, prefix, 3).hidden * weights).sum();
  };
  const torch::Tensor gradient = body.Forward(start, prefix, 3).backward(weights);
  constexpr double kStep = 1e-3;
  const double numeric =
      (value(start + kStep * direction) - value(start - kStep * direction)).item<double>() / (2 * kStep);
  const double analytic = (gradient * direction).sum().item<double>();
  EXPECT_NEAR(numeric, analytic, 2e-2 * std::max(1.0, std::abs(analytic)));
}

// With enough rows for several threads and several blocks of attention. In bfloat16 both round; the written-out pass,
// which does it less often, must come at least as near to float32.
TEST_P(TransformerTest, TheWrittenOutPassAgreesWithAutograd) {
  constexpr int64_t kRows = 150;
  std::vector<int32_t> ids(kRows);
  for (int64_t i = 0; i < kRows; ++i) ids[i] = static_cast<int32_t>((37 * i + 11) % 400);
  torch::manual_seed(1);
  const torch::Tensor at_hidden = torch::randn({kRows, model_->config().hidden_size});
  struct Results {
    torch::Tensor hidden, gradient, of_last;  // of_last: the gradient where only the last two rows have one
  };
  const auto run = [&](const char* dtype, bool written_out) -> Results {
    const auto model = Model::Load(GetParam(), dtype, "cpu", 0, std::make_shared<ThreadTeam>(3)).value();
    const Transformer& body = model->body();
    KvCache prefix = NewKvCache(*model);
    Extend(*model, absl::MakeConstSpan(ids_).subspan(0, 5), prefix);
    const torch::Tensor at_output = at_hidden.to(model->dtype()), at_last = at_output.narrow(0, kRows - 2, 2);
    if (written_out) {
      const Transformer::Pass pass = body.Forward(body.Embed(ids), prefix, 5);
      const torch::Tensor gradient = pass.backward(at_output);
      EXPECT_TRUE(torch::equal(pass.backward(at_output), gradient)) << "once more, from the same tape";
      return {pass.hidden.to(torch::kFloat32), gradient, pass.backward(at_last)};
    }
    const torch::Tensor inputs = body.Embed(ids).detach().requires_grad_(true);
    const torch::Tensor hidden = body.ForwardWithTorch(inputs, prefix, 5);
    const auto gradient = [&](const torch::Tensor& rows, const torch::Tensor& at_rows) {
      return torch::autograd::grad({rows}, {inputs}, {at_rows}, /*retain_graph=*/true)[0].to(torch::kFloat32);
    };
    return {hidden.detach().to(torch::kFloat32), gradient(hidden, at_output),
            gradient(hidden.narrow(0, kRows - 2, 2), at_last)};
  };
  const auto error = [](const torch::Tensor& a, const torch::Tensor& b) {
    return ((a - b).norm() / b.norm()).item<double>();
  };
  const Results exact = run("float32", false), ours = run("float32", true);
  EXPECT_LT(error(ours.hidden, exact.hidden), 1e-5);
  EXPECT_LT(error(ours.gradient, exact.gradient), 1e-5);
  EXPECT_LT(error(ours.of_last, exact.of_last), 1e-5);
  const Results rounded = run("bfloat16", false), ours_rounded = run("bfloat16", true);
  EXPECT_LT(error(ours_rounded.hidden, exact.hidden), error(rounded.hidden, exact.hidden));
  EXPECT_LT(error(ours_rounded.gradient, exact.gradient), error(rounded.gradient, exact.gradient));
}

// What a token comes to must not depend on what shares its batch (the numbers, not only the text).
TEST_P(TransformerTest, ARowsNumbersDoNotDependOnItsBatchMates) {
  KvCache alone = Cache();
  Extend(*model_, absl::MakeConstSpan(ids_).subspan(0, 5), alone);
  const torch::Tensor expected = Extend(*model_, {42}, alone);

  const auto pool = NewKvPool(*model_, 1024);
  for (const int64_t mates : {1, 2, 3, 7, 16}) {
    std::vector<KvCache> caches;
    std::vector<std::vector<int32_t>> tokens;
    for (int64_t i = 0; i <= mates; ++i) {
      caches.emplace_back(pool);
      const bool ours = i == mates / 2;
      std::vector<int32_t> before(ids_.begin(), ids_.begin() + (ours ? 5 : 1 + i % 7));
      Extend(*model_, before, caches.back());
      tokens.push_back(ours ? std::vector<int32_t>{42} : std::vector<int32_t>(1 + i % 3, static_cast<int32_t>(50 + i)));
      ASSERT_TRUE(caches.back().Prepare(static_cast<int64_t>(tokens.back().size())).ok());
    }
    std::vector<Slice> slices;
    int64_t row = 0, our_row = 0;
    for (int64_t i = 0; i <= mates; ++i) {
      if (i == mates / 2) our_row = row;
      slices.push_back({&caches[i], tokens[i]});
      row += static_cast<int64_t>(tokens[i].size());
    }
    const torch::Tensor hidden = model_->body().Extend(slices);
    EXPECT_TRUE(torch::equal(hidden.narrow(0, our_row, 1), expected)) << "among " << mates;
    EXPECT_TRUE(torch::equal(model_->Head(hidden)[our_row], model_->Head(expected)[0])) << "among " << mates;
  }
}

TEST_P(TransformerTest, LeavesOutHiddenStatesThatNobodyWants) {
  KvCache whole = Cache();
  const torch::Tensor all = Extend(*model_, ids_, whole), next = Extend(*model_, {42}, whole);
  const int64_t count = static_cast<int64_t>(ids_.size());
  for (const bool by_kernels : {true, false}) {
    const auto pool = NewKvPool(*model_, 1024);
    std::vector<KvCache> caches;
    std::vector<Slice> slices;
    for (int64_t last = 0; last < 3; ++last) caches.emplace_back(pool);
    for (int64_t last = 0; last < 3; ++last) {
      ASSERT_TRUE(caches[last].Prepare(count).ok());
      slices.push_back({&caches[last], ids_, /*record=*/nullptr, last});
    }
    const auto extend = [&] {
      return by_kernels ? model_->body().Extend(slices) : model_->body().ExtendWithTorch(slices);
    };
    const auto near = [&](const torch::Tensor& x, const torch::Tensor& y) {
      return by_kernels ? torch::equal(x, y) : torch::allclose(x, y, 1e-4, 1e-4);
    };
    const torch::Tensor hidden = extend();
    ASSERT_EQ(hidden.size(0), 3);
    EXPECT_TRUE(near(hidden.narrow(0, 0, 1), all.narrow(0, count - 1, 1)));
    EXPECT_TRUE(near(hidden.narrow(0, 1, 2), all.narrow(0, count - 2, 2)));
    // Their keys and values are there all the same.
    for (KvCache& cache : caches) EXPECT_TRUE(near(Extend(*model_, {42}, cache), next));
    slices.resize(1);
    ASSERT_TRUE(caches.front().Prepare(count).ok());
    EXPECT_EQ(extend().size(0), 0);
  }
}

TEST_P(TransformerTest, KernelsAgreeWithTorch) {
  KvCache first = Cache(), second = Cache();
  const std::vector<int32_t> begin(ids_.begin(), ids_.begin() + 3), rest(ids_.begin() + 3, ids_.end());
  Extend(*model_, begin, first);
  ASSERT_TRUE(second.Prepare(3).ok());
  model_->body().ExtendWithTorch({{&second, begin}});
  ASSERT_TRUE(second.Prepare(5).ok());
  const torch::Tensor expected = model_->body().ExtendWithTorch({{&second, rest}});
  EXPECT_TRUE(torch::allclose(Extend(*model_, rest, first), expected, 1e-4, 1e-4));
  EXPECT_EQ(second.length(), 8);
}

TEST_P(TransformerTest, AForkGoesItsOwnWay) {
  KvCache cache = Cache();
  Extend(*model_, absl::MakeConstSpan(ids_).subspan(0, 6), cache);
  const torch::Tensor keys = cache.Gather(0, 6).first, values = cache.Gather(1, 6).second;
  KvCache fork = cache.Fork(2);
  Extend(*model_, {9, 10, 11, 12, 13, 14}, fork);
  EXPECT_EQ(cache.length(), 6);
  EXPECT_EQ(fork.length(), 8);
  EXPECT_TRUE(torch::equal(cache.Gather(0, 6).first, keys));
  EXPECT_TRUE(torch::equal(cache.Gather(1, 6).second, values));
  EXPECT_TRUE(torch::equal(fork.Gather(0, 2).first, keys.narrow(1, 0, 2)));
}

TEST_P(TransformerTest, Bfloat16IsCloseToFloat32) {
  const auto half = Model::Load(GetParam(), "bfloat16", "cpu", 0).value();
  const auto logits = [&](const Model& model) {
    KvCache cache = NewKvCache(model);
    return model.Head(Extend(model, ids_, cache));
  };
  const torch::Tensor exact = logits(*model_), rounded = logits(*half);
  EXPECT_EQ(rounded.scalar_type(), torch::kFloat32);
  EXPECT_LT(((exact - rounded).norm() / exact.norm()).item<double>(), 0.05);
}

INSTANTIATE_TEST_SUITE_P(Families, TransformerTest,
                         testing::Values("tests/golden/qwen3/lm", "tests/golden/llama3-rope/lm"));

}  // namespace
}  // namespace nabla
