#include "native/runtime/operator.h"

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cstring>
#include <future>

#include "native/runtime/error.h"
#include "native/runtime/executor.h"
#include "native/runtime/memory.h"
#include "native/runtime/random.h"
#include "native/test/program_builder.h"
#include "native/test/test.h"

namespace losscape::test {
namespace {

constexpr size_t kTop = 5, kBottom = 7, kOffset = 64, kStorage = 96;
constexpr int64_t kT = kTop, kB = kBottom, kN = kT + kB;

// Vectors have elements [0, 5) and [64, 71); a chunk is a matrix A [12, 12] in four blocks. The
// primal program transposes the blocks of the first row; y = A x block by block.
template <typename T>
class Chunked {
 public:
  static constexpr DType kDType = sizeof(T) == 4 ? DType::kF32 : DType::kF64;

  Chunked(size_t chunks, size_t keptChunks, std::vector<int> tangents) {
    spec_.dtype = kDType;
    spec_.storage = kStorage;
    spec_.segments = Segments{{0, kOffset}, {kTop, kBottom}};
    spec_.scale = 1.0 / static_cast<double>(chunks);
    ProgramBuilder primal;
    const int a00 = primal.Input(kDType, {kT, kT}), a01 = primal.Input(kDType, {kT, kB});
    const std::map<std::string, std::vector<double>> swap{{"perm", {1, 0}}};
    const int t00 = primal.Node("transpose", {a00}, kDType, {kT, kT}, swap);
    const int t01 = primal.Node("transpose", {a01}, kDType, {kB, kT}, swap);
    spec_.primal = primal.Compile({t00, t01});
    for (int r : tangents) spec_.linear.push_back({r, Linear(r)});
    using Kind = LinearInput::Kind;
    spec_.linearInputs = {{Kind::kTangent, 0}, {Kind::kKept, 0},          {Kind::kKept, 1},
                          {Kind::kChunk, 0},   {Kind::kTangent, kOffset}, {Kind::kChunk, 1}};
    spec_.linearOutputs = {0, kOffset};
    // Two kept tensors of a chunk, each rounded up to 256 bytes.
    spec_.keepBytes = keptChunks * 2 * 256 * sizeof(T) / 4;
    if (sizeof(T) == 8) spec_.keepBytes = keptChunks * (256 + 512);
    dense_.assign(kN * kN, 0.0);
    for (size_t c = 0; c < chunks; ++c) AddChunk(c);
  }

  OperatorSpec& spec() { return spec_; }
  std::unique_ptr<NativeOperator> Make() { return MakeProgramOperator(spec_); }

  // Vectors with garbage in the padding of the result's storage.
  std::vector<T> Random(size_t count) const {
    std::vector<T> x(count * kStorage, T{0});
    for (size_t r = 0; r < count; ++r) {
      FillNormals(9, r, 0, kTop, x.data() + r * kStorage);
      FillNormals(9, r + 100, 0, kBottom, x.data() + r * kStorage + kOffset);
    }
    return x;
  }

  std::vector<T> Apply(NativeOperator& op, const std::vector<T>& x, int threads = 2) const {
    std::vector<T> y(x.size(), T{7});
    RunContext context(threads);
    op.Apply(x.data(), y.data(), static_cast<int>(x.size() / kStorage), context);
    return y;
  }

  double Error(const std::vector<T>& x, const std::vector<T>& y) const {
    const auto place = [](size_t i) { return i < kTop ? i : kOffset + i - kTop; };
    double worst = 0;
    for (size_t base = 0; base < x.size(); base += kStorage) {
      std::vector<double> expected(kStorage, 0.0);
      for (size_t i = 0; i < kN; ++i) {
        for (size_t j = 0; j < kN; ++j) {
          expected[place(i)] += dense_[i * kN + j] * static_cast<double>(x[base + place(j)]);
        }
      }
      for (size_t i = 0; i < kStorage; ++i) {
        worst = std::max(worst, std::fabs(expected[i] - static_cast<double>(y[base + i])));
      }
    }
    return worst;
  }

 private:
  static std::shared_ptr<Executable> Linear(int tangents) {
    const int64_t r = tangents;
    ProgramBuilder linear;
    const int x0 = linear.Input(kDType, {r, kT}), t00 = linear.Input(kDType, {kT, kT});
    const int t01 = linear.Input(kDType, {kB, kT}), a10 = linear.Input(kDType, {kB, kT});
    const int x1 = linear.Input(kDType, {r, kB}), a11 = linear.Input(kDType, {kB, kB});
    const int top = linear.MatMul(x0, t00, kDType, {r, kT});
    const int y0 = linear.MatMul(x1, t01, kDType, {r, kT}, false, false, top);
    const int bottom = linear.MatMul(x0, a10, kDType, {r, kB}, false, true);
    const int y1 = linear.MatMul(x1, a11, kDType, {r, kB}, false, true, bottom);
    return linear.Compile({y0, y1});
  }

  View Block(const std::vector<T>& a, size_t row, size_t rows, size_t column, size_t columns) {
    std::vector<T> block;
    for (size_t i = row; i < row + rows; ++i) {
      for (size_t j = column; j < column + columns; ++j) block.push_back(a[i * kN + j]);
    }
    return {MakeBuffer(block), 0};
  }

  void AddChunk(size_t c) {
    std::vector<T> a(kN * kN);
    FillNormals(8, c, 0, a.size(), a.data());
    for (size_t i = 0; i < a.size(); ++i) dense_[i] += spec_.scale * static_cast<double>(a[i]);
    spec_.primalInputs.push_back({Block(a, 0, kTop, 0, kTop), Block(a, 0, kTop, kTop, kBottom)});
    spec_.chunkInputs.push_back(
        {Block(a, kTop, kBottom, 0, kTop), Block(a, kTop, kBottom, kTop, kBottom)});
  }

  OperatorSpec spec_;
  std::vector<double> dense_;
};

template <typename T>
void CheckProducts(bool sideBySide) {
  const double tolerance = 60 * (sizeof(T) == 4 ? FLT_EPSILON : DBL_EPSILON);
  for (size_t chunks : {1, 2, 5}) {
    for (size_t kept : {size_t{0}, size_t{1}, chunks}) {
      Chunked<T> chunked(chunks, kept, {1, 3});
      chunked.spec().sideBySide = sideBySide;
      const auto op = chunked.Make();
      CHECK(op->storage() == kStorage);
      CHECK(op->KeptBytes() == 0);
      for (size_t count : {1, 2, 3, 8}) {
        const std::vector<T> x = chunked.Random(count);
        const std::vector<T> y = chunked.Apply(*op, x);
        CHECK(chunked.Error(x, y) < tolerance);
        // Again, with what was kept; and with another thread count: elementwise sums are the same.
        CHECK(chunked.Apply(*op, x) == y);
        CHECK(chunked.Apply(*op, x, 1) == y);
        CHECK(chunked.Apply(*op, x, 3) == y);
      }
      CHECK((op->KeptBytes() > 0) == (kept > 0));
      const size_t bytes = op->KeptBytes();
      op->Invalidate();
      CHECK(op->KeptBytes() == 0);
      const std::vector<T> x = chunked.Random(1);
      CHECK(chunked.Error(x, chunked.Apply(*op, x)) < tolerance);
      CHECK(op->KeptBytes() == bytes);
    }
  }
}

TEST(OperatorMatchesDenseProducts) {
  for (bool sideBySide : {false, true}) {
    CheckProducts<float>(sideBySide);
    CheckProducts<double>(sideBySide);
  }
}

// Passes on several threads stop for a job of priority 1, which then has the whole team, and go on.
TEST(OperatorSideBySideServesUrgentJobs) {
  Chunked<float> chunked(64, 64, {1});
  chunked.spec().sideBySide = true;
  const auto op = chunked.Make();
  const std::vector<float> x = chunked.Random(1);
  const std::vector<float> expected = chunked.Apply(*op, x);
  const auto executor = Executor::Acquire();
  std::atomic<bool> stop{false};
  std::atomic<int> served{0}, wrong{0};
  std::promise<bool> done;
  executor->Submit(
      {},
      [&](RunContext& context) {
        while (!stop) {
          std::vector<float> y(x.size());
          op->Apply(x.data(), y.data(), 1, context);
          if (y != expected) ++wrong;
        }
      },
      [&](std::exception_ptr error) { done.set_value(!error); });
  for (int i = 0; i < 50; ++i) {
    std::promise<bool> urgent;
    executor->Submit(
        {nullptr, 1, 0}, [&](RunContext&) { ++served; },
        [&](std::exception_ptr error) { urgent.set_value(!error); });
    CHECK(urgent.get_future().get());
  }
  stop = true;
  CHECK(done.get_future().get());
  CHECK(served == 50 && wrong == 0);
}

TEST(OperatorKeepsWithinItsBudget) {
  Chunked<float> chunked(4, 3, {1});
  const auto op = chunked.Make();
  chunked.Apply(*op, chunked.Random(1));
  CHECK(op->KeptBytes() == 3 * 512);
}

TEST(OperatorWithoutPrimalProgram) {
  ProgramBuilder linear;
  const int x = linear.Input(DType::kF64, {1, 3}), a = linear.Input(DType::kF64, {3, 3});
  const int y = linear.MatMul(x, a, DType::kF64, {1, 3});
  OperatorSpec spec;
  spec.dtype = DType::kF64;
  spec.storage = 8;
  spec.segments = Segments{{2}, {3}};
  spec.linear = {{1, linear.Compile({y})}};
  spec.linearInputs = {{LinearInput::Kind::kTangent, 2}, {LinearInput::Kind::kChunk, 0}};
  spec.linearOutputs = {2};
  spec.chunkInputs = {{{MakeBuffer<double>({2, 0, 0, 0, 3, 0, 0, 0, 4}), 0}}};
  spec.scale = 0.5;
  const auto op = MakeProgramOperator(spec);
  const std::vector<double> in{9, 9, 1, 2, 3, 9, 9, 9};
  std::vector<double> out(8, 5);
  RunContext context(1);
  op->Apply(in.data(), out.data(), 1, context);
  CHECK(out == std::vector<double>({0, 0, 1, 3, 6, 0, 0, 0}));
}

TEST(OperatorReportsProgressAndStops) {
  Chunked<float> chunked(5, 5, {1, 2});
  const auto op = chunked.Make();
  const std::vector<float> x = chunked.Random(3);
  std::vector<float> y(x.size());
  size_t calls = 0, last = 0;
  RunContext context(1);
  op->Apply(x.data(), y.data(), 3, context, [&](size_t done, size_t total) {
    CHECK(total == 10 && done == last + 1);
    last = done;
    ++calls;
  });
  CHECK(calls == 10);

  Token token;
  RunContext cancelled(1, &token);
  CHECK_THROWS(op->Apply(x.data(), y.data(), 3, cancelled,
                         [&](size_t done, size_t) {
                           if (done == 4) token.Cancel();
                         }),
               Code::kAborted);
  CHECK(chunked.Error(x, chunked.Apply(*op, x)) < 1e-5);
}

// A product that is served inside another of the same operator.
TEST(OperatorIsReentrant) {
  Chunked<float> chunked(3, 1, {1, 2});
  const auto op = chunked.Make();
  const std::vector<float> x = chunked.Random(2);
  const std::vector<float> expected = chunked.Apply(*op, x);
  std::vector<float> y(x.size());
  RunContext context(1);
  op->Apply(x.data(), y.data(), 2, context,
            [&](size_t, size_t) { CHECK(chunked.Apply(*op, x) == expected); });
  CHECK(y == expected);
}

TEST(OperatorKeepsNothingThatWasInvalidatedMeanwhile) {
  Chunked<float> chunked(1, 1, {1});
  const auto op = chunked.Make();
  const std::vector<float> x = chunked.Random(1);
  const auto executor = Executor::Acquire();
  std::promise<bool> invalidated, done;
  executor->Submit(
      {},
      [&](RunContext& context) {
        // Served between the operations of the primal program.
        executor->Submit(
            {nullptr, 1, 0}, [&](RunContext&) { op->Invalidate(); },
            [&](std::exception_ptr error) { invalidated.set_value(!error); });
        std::vector<float> y(x.size());
        op->Apply(x.data(), y.data(), 1, context);
      },
      [&](std::exception_ptr error) { done.set_value(!error); });
  CHECK(invalidated.get_future().get());
  CHECK(done.get_future().get());
  CHECK(op->KeptBytes() == 0);
  chunked.Apply(*op, x);
  CHECK(op->KeptBytes() > 0);
}

TEST(OperatorRefusesWhatDoesNotFit) {
  const auto make = [](void (*change)(OperatorSpec&)) {
    Chunked<float> chunked(2, 2, {1, 3});
    change(chunked.spec());
    return chunked.Make();
  };
  make([](OperatorSpec&) {});
  CHECK_THROWS(make([](OperatorSpec& s) { s.chunkInputs.clear(); }), Code::kArgument);
  CHECK_THROWS(make([](OperatorSpec& s) { s.linear.clear(); }), Code::kArgument);
  CHECK_THROWS(make([](OperatorSpec& s) { s.linear.erase(s.linear.begin()); }), Code::kArgument);
  CHECK_THROWS(make([](OperatorSpec& s) { s.linear[1].tangents = 1; }), Code::kArgument);
  CHECK_THROWS(make([](OperatorSpec& s) { s.linear[1].tangents = 2; }), Code::kShape);
  CHECK_THROWS(make([](OperatorSpec& s) { s.primalInputs.pop_back(); }), Code::kShape);
  CHECK_THROWS(make([](OperatorSpec& s) { s.primalInputs[1].pop_back(); }), Code::kShape);
  CHECK_THROWS(make([](OperatorSpec& s) { s.chunkInputs[1].pop_back(); }), Code::kShape);
  CHECK_THROWS(make([](OperatorSpec& s) { s.linearInputs.pop_back(); }), Code::kShape);
  CHECK_THROWS(make([](OperatorSpec& s) { s.linearInputs[1].index = 2; }), Code::kShape);
  CHECK_THROWS(make([](OperatorSpec& s) { s.linearInputs[1].index = 1; }), Code::kShape);
  CHECK_THROWS(make([](OperatorSpec& s) { s.linearOutputs[1] = 4; }), Code::kShape);
  CHECK_THROWS(make([](OperatorSpec& s) { s.linearOutputs[1] = 90; }), Code::kShape);
  CHECK_THROWS(make([](OperatorSpec& s) { s.dtype = DType::kI32; }), Code::kDType);
  CHECK_THROWS(make([](OperatorSpec& s) { s.segments.lengths[1] = 40; }), Code::kShape);
  CHECK_THROWS(make([](OperatorSpec& s) { s.chunkInputs[0][0].offset = 4; }), Code::kShape);
  CHECK_THROWS(make([](OperatorSpec& s) {
                 s.primalInputs[0][0] = {std::make_shared<Buffer>(1024), 2};
               }),
               Code::kArgument);
}

template <typename T>
void CheckDense(DType dtype, size_t n) {
  std::vector<double> a(n * n);
  FillNormals(4, 4, 0, a.size(), a.data());
  std::vector<T> x(2 * n), y(2 * n), again(2 * n);
  FillNormals(4, 5, 0, x.size(), x.data());
  const auto op = MakeDenseOperator(a.data(), n, dtype);
  RunContext one(1), three(3);
  op->Apply(x.data(), y.data(), 2, one);
  op->Apply(x.data(), again.data(), 2, three);
  CHECK(y == again);
  double worst = 0;
  for (size_t r = 0; r < 2; ++r) {
    for (size_t i = 0; i < n; ++i) {
      double sum = 0, bound = 0;
      for (size_t j = 0; j < n; ++j) {
        const double term = static_cast<T>(a[i * n + j]) * static_cast<double>(x[r * n + j]);
        sum += term;
        bound += std::fabs(term);
      }
      worst = std::max(worst, std::fabs(sum - static_cast<double>(y[r * n + i])) / bound);
    }
  }
  CHECK(worst < (sizeof(T) == 4 ? FLT_EPSILON : 20 * DBL_EPSILON));
}

TEST(DenseOperatorMatchesPlainLoops) {
  for (size_t n : {1, 7, 300}) {
    CheckDense<float>(DType::kF32, n);
    CheckDense<double>(DType::kF64, n);
  }
  const double one = 1;
  CHECK_THROWS(MakeDenseOperator(&one, 1, DType::kU8), Code::kDType);
}

TEST(OperatorMemoryIsCounted) {
  const size_t before = ReportMemory().live["operator"].bytes;
  {
    Chunked<float> chunked(4, 2, {1, 3});
    const auto op = chunked.Make();
    chunked.Apply(*op, chunked.Random(4));
    CHECK(ReportMemory().live["operator"].bytes > before + op->KeptBytes());
  }
  CHECK(ReportMemory().live["operator"].bytes == before);
}

}  // namespace
}  // namespace losscape::test
