#include <algorithm>
#include <limits>

#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

struct ReduceCase {
  Shape shape;
  Numbers axes;
};

Shape Kept(const ReduceCase& test) {
  Shape shape;
  for (size_t i = 0; i < test.shape.size(); ++i) {
    if (std::count(test.axes.begin(), test.axes.end(), static_cast<double>(i)) == 0) {
      shape.push_back(test.shape[i]);
    }
  }
  return shape;
}

// Element by element: where each element of x goes, and what it does there.
Numbers Oracle(const char* kind, const ReduceCase& test, const Numbers& x) {
  const bool sum = std::string(kind) == "sum", max = std::string(kind) == "max";
  const double infinity = std::numeric_limits<double>::infinity();
  Numbers y(Volume(Kept(test)), sum ? 0 : max ? -infinity : infinity);
  for (size_t i = 0; i < x.size(); ++i) {
    int64_t left = static_cast<int64_t>(i), at = 0, stride = 1;
    for (size_t axis = test.shape.size(); axis-- > 0; left /= test.shape[axis]) {
      if (std::count(test.axes.begin(), test.axes.end(), static_cast<double>(axis))) continue;
      at += left % test.shape[axis] * stride;
      stride *= test.shape[axis];
    }
    if (sum) {
      y[at] += x[i];
    } else if (std::isnan(x[i]) || std::isnan(y[at])) {
      y[at] = std::nan("");
    } else {
      y[at] = max ? std::max(y[at], x[i]) : std::min(y[at], x[i]);
    }
  }
  return y;
}

Numbers RunReduce(const char* kind, DType dtype, const ReduceCase& test, const Numbers& x,
                  int threads) {
  return KernelRun("reduce")
      .String("kind", kind)
      .Number("axes", test.axes)
      .In(dtype, test.shape, x)
      .Out(dtype, Kept(test))
      .Run(threads)[0];
}

const std::vector<ReduceCase>& Cases() {
  static const std::vector<ReduceCase> cases = {
      {{}, {}},
      {{1}, {0}},
      {{7}, {}},
      {{1000}, {0}},
      {{3, 5}, {0, 1}},
      {{13, 10}, {0}},
      {{13, 10}, {1}},
      {{1000, 30}, {0}},
      {{1000, 30}, {1}},
      {{9, 3}, {0}},
      {{5, 1}, {0}},
      {{600, 1100}, {0}},
      {{3, 40000}, {1}},
      {{2, 3, 4}, {1}},
      {{2, 3, 4}, {0, 2}},
      {{5, 30, 7}, {0, 2}},
      {{4, 6, 5, 3}, {0, 2}},
      {{4, 6, 5, 3}, {1, 3}},
      {{4, 6, 5, 3}, {1, 2}},
      {{1, 6, 1, 3}, {0, 2}},
      {{2, 1, 3, 1, 2, 17}, {0, 2, 4}},
      {{70, 4, 3}, {0, 2}},
      {{80, 90, 2}, {0}},
      {{100000, 2}, {0}},
  };
  return cases;
}

TEST(ReduceMatchesPlainLoops) {
  Source source(11);
  ForEachTarget([&] {
    for (const ReduceCase& test : Cases()) {
      // Integers: sums are exact, so every order gives the same number.
      const Numbers x = source.Integers(Volume(test.shape), -50, 50);
      for (const char* kind : {"sum", "max", "min"}) {
        const Numbers expected = Oracle(kind, test, x);
        for (DType dtype : {DType::kF32, DType::kF64, DType::kI32}) {
          for (int threads = 1; threads <= 3; ++threads) {
            CHECK(LargestDifference(RunReduce(kind, dtype, test, x, threads), expected) == 0);
          }
        }
      }
    }
  });
}

TEST(ReduceSumsInDouble) {
  // In f32 the ones would vanish beside 2^24.
  for (const ReduceCase& test :
       {ReduceCase{{100001}, {0}}, ReduceCase{{100001, 3}, {0}}, ReduceCase{{3, 100001}, {1}}}) {
    Numbers x(Volume(test.shape), 1);
    const int64_t width = test.shape.size() == 2 && test.axes[0] == 0 ? 3 : 1;
    const int64_t rows = static_cast<int64_t>(x.size()) / 100001;
    for (int64_t i = 0; i < (width == 3 ? 3 : rows); ++i) {
      x[width == 3 ? i : i * 100001] = 16777216;
    }
    for (double y : RunReduce("sum", DType::kF32, test, x, 2)) {
      CHECK(y == static_cast<double>(static_cast<float>(16777216.0 + 100000)));
    }
  }
}

TEST(ReduceDoesNotDependOnTheThreadCount) {
  Source source(12);
  for (const ReduceCase& test : Cases()) {
    const Numbers x = source.Normal(Volume(test.shape));
    const Numbers one = RunReduce("sum", DType::kF64, test, x, 1);
    for (int threads : {2, 3, 7}) {
      CHECK(SameNumbers(RunReduce("sum", DType::kF64, test, x, threads), one));
    }
  }
}

TEST(ReducePassesNanOn) {
  Source source(13);
  ForEachTarget([&] {
    for (const ReduceCase& test : Cases()) {
      Numbers x = source.Normal(Volume(test.shape));
      for (int k = 0; k < 3; ++k) x[source.Below(static_cast<int64_t>(x.size()))] = NAN;
      x[source.Below(static_cast<int64_t>(x.size()))] = INFINITY;
      x[source.Below(static_cast<int64_t>(x.size()))] = -INFINITY;
      for (const char* kind : {"max", "min"}) {
        for (DType dtype : {DType::kF32, DType::kF64}) {
          CHECK(LargestDifference(RunReduce(kind, dtype, test, x, 2), Oracle(kind, test, x)) == 0);
        }
      }
      const Numbers sums = RunReduce("sum", DType::kF32, test, x, 2);
      const Numbers expected = Oracle("sum", test, x);
      for (size_t i = 0; i < sums.size(); ++i) {
        CHECK(std::isnan(sums[i]) == std::isnan(expected[i]));
        if (std::isinf(expected[i])) CHECK(sums[i] == expected[i]);
      }
    }
  });
}

TEST(ReduceOfNothing) {
  const ReduceCase rows{{0, 3}, {0}}, columns{{3, 0}, {1}}, nothing{{0, 3}, {1}};
  CHECK(SameNumbers(RunReduce("sum", DType::kF32, rows, {}, 2), {0, 0, 0}));
  CHECK(SameNumbers(RunReduce("sum", DType::kF64, columns, {}, 2), {0, 0, 0}));
  CHECK(SameNumbers(RunReduce("max", DType::kF32, rows, {}, 2), {-INFINITY, -INFINITY, -INFINITY}));
  CHECK(SameNumbers(RunReduce("min", DType::kI32, rows, {}, 2),
                    {2147483647, 2147483647, 2147483647}));
  CHECK(RunReduce("sum", DType::kF32, nothing, {}, 2).empty());
}

TEST(ReduceSumsOfIntegersSaturate) {
  const ReduceCase test{{3}, {0}};
  const double large = 2147483647;
  CHECK(RunReduce("sum", DType::kI32, test, {large, large, 5}, 1)[0] == large);
  CHECK(RunReduce("sum", DType::kI32, test, {large, 1, -1}, 1)[0] == large);
}

TEST(ReduceRefusesWhatDoesNotFit) {
  const DType f = DType::kF32;
  auto run = [&](const char* kind, const Numbers& axes, const Shape& result) {
    return KernelRun("reduce")
        .String("kind", kind)
        .Number("axes", axes)
        .In(f, {2, 3}, {})
        .Out(f, result)
        .Make();
  };
  CHECK_THROWS(run("sum", {2}, {2, 3}), Code::kProgram);
  CHECK_THROWS(run("mean", {0}, {3}), Code::kProgram);
  CHECK_THROWS(run("sum", {0}, {2}), Code::kShape);
  CHECK_THROWS(KernelRun("reduce")
                   .String("kind", "sum")
                   .Number("axes", {0})
                   .In(DType::kF16, {2, 3}, {})
                   .Out(DType::kF16, {3})
                   .Make(),
               Code::kDType);
}

}  // namespace
}  // namespace losscape::test
