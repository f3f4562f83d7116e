// transpose, concat, pad, gather, scatter_add, argmax, iota.
#include <algorithm>

#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

constexpr DType kAll[] = {DType::kF32, DType::kF64, DType::kBF16,
                          DType::kF16, DType::kI32, DType::kU8};

std::vector<int64_t> Indices(int64_t i, const Shape& shape) {
  std::vector<int64_t> indices(shape.size());
  for (size_t axis = shape.size(); axis-- > 0; i /= shape[axis]) indices[axis] = i % shape[axis];
  return indices;
}

int64_t Position(const std::vector<int64_t>& indices, const Shape& shape) {
  int64_t position = 0;
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    position = position * shape[axis] + indices[axis];
  }
  return position;
}

TEST(TransposeMatchesPlainLoops) {
  Source source(21);
  struct Case {
    Shape shape;
    Numbers perm;
  };
  const Case cases[] = {{{}, {}},
                        {{5}, {0}},
                        {{3, 4}, {1, 0}},
                        {{37, 70}, {1, 0}},
                        {{130, 65}, {1, 0}},
                        {{1, 9}, {1, 0}},
                        {{4, 5, 6}, {0, 1, 2}},
                        {{4, 5, 6}, {2, 1, 0}},
                        {{4, 5, 6}, {1, 0, 2}},
                        {{4, 5, 6}, {0, 2, 1}},
                        {{4, 5, 6}, {1, 2, 0}},
                        {{3, 1, 5, 7}, {3, 1, 0, 2}},
                        {{2, 3, 4, 5, 6}, {4, 2, 0, 3, 1}},
                        {{2, 33, 3, 40}, {0, 3, 2, 1}},
                        {{6, 7, 100}, {1, 0, 2}},
                        {{400, 300}, {1, 0}},
                        {{0, 3}, {1, 0}}};
  for (const Case& test : cases) {
    Shape shape;
    for (double axis : test.perm) shape.push_back(test.shape[static_cast<size_t>(axis)]);
    const int64_t count = Volume(shape);
    const Numbers x = source.Integers(count, 0, 250);
    Numbers expected(count);
    for (int64_t i = 0; i < count; ++i) {
      const std::vector<int64_t> to = Indices(i, shape);
      std::vector<int64_t> from(to.size());
      for (size_t axis = 0; axis < to.size(); ++axis) {
        from[static_cast<size_t>(test.perm[axis])] = to[axis];
      }
      expected[i] = x[Position(from, test.shape)];
    }
    for (DType dtype : kAll) {
      for (int threads = 1; threads <= 3; ++threads) {
        CHECK(SameNumbers(KernelRun("transpose")
                              .Number("perm", test.perm)
                              .In(dtype, test.shape, x)
                              .Out(dtype, shape)
                              .Run(threads)[0],
                          expected));
      }
    }
  }
  CHECK_THROWS(KernelRun("transpose")
                   .Number("perm", {0, 0})
                   .In(DType::kF32, {2, 2}, {})
                   .Out(DType::kF32, {2, 2})
                   .Make(),
               Code::kProgram);
}

TEST(ConcatMatchesPlainLoops) {
  Source source(22);
  for (const Shape& shape : {Shape{4, 3, 5}, Shape{200, 70}, Shape{0, 3}, Shape{9}}) {
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      for (DType dtype : kAll) {
        Shape result = shape;
        result[axis] = 0;
        std::vector<std::pair<Shape, Numbers>> parts;
        KernelRun run("concat");
        run.Number("axis", {static_cast<double>(axis)});
        for (int64_t extra : {0, 2, -1, 1}) {
          Shape part = shape;
          part[axis] = extra < 0 ? 0 : part[axis] + extra;  // one operand is empty
          parts.push_back({part, source.Integers(Volume(part), 0, 200)});
          run.In(dtype, part, parts.back().second);
          result[axis] += part[axis];
        }
        run.Out(dtype, result);
        Numbers expected(Volume(result));
        for (size_t i = 0; i < expected.size(); ++i) {
          std::vector<int64_t> at = Indices(static_cast<int64_t>(i), result);
          for (const auto& [part, numbers] : parts) {
            if (at[axis] < part[axis]) {
              expected[i] = numbers[Position(at, part)];
              break;
            }
            at[axis] -= part[axis];
          }
        }
        for (int threads = 1; threads <= 3; ++threads) {
          CHECK(SameNumbers(run.Run(threads)[0], expected));
        }
      }
    }
  }
}

TEST(PadMatchesPlainLoops) {
  Source source(23);
  struct Case {
    Shape shape;
    Numbers low, high;
  };
  const Case cases[] = {{{}, {}, {}},
                        {{4}, {2}, {3}},
                        {{4}, {0}, {0}},
                        {{3, 5}, {1, 0}, {0, 4}},
                        {{2, 3, 4}, {1, 2, 3}, {3, 2, 1}},
                        {{0, 3}, {2, 0}, {0, 1}},
                        {{100, 200}, {3, 1}, {2, 7}}};
  for (const Case& test : cases) {
    Shape result = test.shape;
    for (size_t axis = 0; axis < result.size(); ++axis) {
      result[axis] += static_cast<int64_t>(test.low[axis] + test.high[axis]);
    }
    const Numbers x = source.Integers(Volume(test.shape), 0, 200);
    Numbers expected(Volume(result), 7);
    for (size_t i = 0; i < x.size(); ++i) {
      std::vector<int64_t> at = Indices(static_cast<int64_t>(i), test.shape);
      for (size_t axis = 0; axis < at.size(); ++axis) {
        at[axis] += static_cast<int64_t>(test.low[axis]);
      }
      expected[Position(at, result)] = x[i];
    }
    for (DType dtype : kAll) {
      for (int threads = 1; threads <= 3; ++threads) {
        CHECK(SameNumbers(KernelRun("pad")
                              .Number("low", test.low)
                              .Number("high", test.high)
                              .Number("value", {7})
                              .In(dtype, test.shape, x)
                              .Out(dtype, result)
                              .Run(threads)[0],
                          expected));
      }
    }
  }
  const Numbers infinite = KernelRun("pad")
                               .Number("low", {1})
                               .Number("high", {0})
                               .Number("value", {-INFINITY})
                               .In(DType::kF16, {1}, {3})
                               .Out(DType::kF16, {2})
                               .Run(1)[0];
  CHECK(SameNumbers(infinite, {-INFINITY, 3}));
  CHECK_THROWS(KernelRun("pad")
                   .Number("low", {-1})
                   .Number("high", {0})
                   .In(DType::kF32, {3}, {})
                   .Out(DType::kF32, {2})
                   .Make(),
               Code::kProgram);
}

TEST(GatherMatchesPlainLoops) {
  Source source(24);
  for (int64_t width : {0, 1, 2, 3, 30, 784}) {
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{50, 3}, Shape{0}}) {
      const int64_t rows = 40, count = Volume(shape);
      const Numbers x = source.Integers(rows * width, 0, 200);
      const Numbers index = source.Integers(count, 0, rows - 1);
      Numbers expected;
      for (double row : index) {
        const auto from = x.begin() + static_cast<int64_t>(row) * width;
        expected.insert(expected.end(), from, from + width);
      }
      Shape result = shape;
      result.push_back(width);
      for (DType dtype : kAll) {
        for (int threads = 1; threads <= 3; ++threads) {
          CHECK(SameNumbers(KernelRun("gather")
                                .In(dtype, {rows, width}, x)
                                .In(DType::kI32, shape, index)
                                .Out(dtype, result)
                                .Run(threads)[0],
                            expected));
        }
      }
    }
  }
}

TEST(ScatterAddMatchesPlainLoops) {
  Source source(25);
  for (int64_t width : {0, 1, 5, 40}) {
    for (int64_t rows : {1, 7, 3000}) {
      for (const Shape& shape : {Shape{}, Shape{500}, Shape{50, 3}, Shape{0}}) {
        const int64_t count = Volume(shape);
        const Numbers u = source.Integers(count * width, -100, 100);
        const Numbers index = source.Integers(count, 0, rows - 1);
        Numbers expected(rows * width);
        for (int64_t i = 0; i < count; ++i) {
          for (int64_t j = 0; j < width; ++j) {
            expected[static_cast<int64_t>(index[i]) * width + j] += u[i * width + j];
          }
        }
        Shape updates = shape;
        updates.push_back(width);
        for (DType dtype : {DType::kF32, DType::kF64, DType::kI32}) {
          for (int threads = 1; threads <= 3; ++threads) {
            CHECK(SameNumbers(KernelRun("scatter_add")
                                  .Number("size", {static_cast<double>(rows)})
                                  .In(DType::kI32, shape, index)
                                  .In(dtype, updates, u)
                                  .Out(dtype, {rows, width})
                                  .Run(threads)[0],
                              expected));
          }
        }
      }
    }
  }
}

TEST(ScatterAddDoesNotDependOnTheThreadCount) {
  Source source(26);
  const Numbers u = source.Normal(20000), index = source.Integers(20000, 0, 9);
  auto run = [&](int threads) {
    return KernelRun("scatter_add")
        .Number("size", {10})
        .In(DType::kI32, {20000}, index)
        .In(DType::kF32, {20000}, u)
        .Out(DType::kF32, {10})
        .Run(threads)[0];
  };
  for (int threads : {2, 3, 5}) CHECK(SameNumbers(run(1), run(threads)));
}

TEST(IndicesOutsideAreRefused) {
  for (double bad : {-1.0, 4.0, 2147483647.0, -2147483648.0}) {
    for (int threads : {1, 3}) {
      CHECK_THROWS(KernelRun("gather")
                       .In(DType::kF32, {4, 2}, Numbers(8))
                       .In(DType::kI32, {3}, {0, bad, 1})
                       .Out(DType::kF32, {3, 2})
                       .Run(threads),
                   Code::kRange);
      CHECK_THROWS(KernelRun("scatter_add")
                       .Number("size", {4})
                       .In(DType::kI32, {3}, {0, bad, 1})
                       .In(DType::kF32, {3, 2}, Numbers(6))
                       .Out(DType::kF32, {4, 2})
                       .Run(threads),
                   Code::kRange);
    }
  }
}

TEST(ArgmaxMatchesPlainLoops) {
  Source source(27);
  for (const Shape& shape : {Shape{9}, Shape{1000, 10}, Shape{5, 7, 3}, Shape{3, 600},
                             Shape{40, 30, 20}, Shape{2, 1, 4}, Shape{0, 4}}) {
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      if (shape[axis] == 0) continue;
      Shape result = shape;
      result.erase(result.begin() + static_cast<int64_t>(axis));
      for (DType dtype : {DType::kF32, DType::kF64, DType::kI32}) {
        // Few different numbers, so that there are ties, and some NaN.
        Numbers x = source.Integers(Volume(shape), -3, 3);
        for (double& v : x) {
          if (dtype != DType::kI32 && source.Below(40) == 0) v = NAN;
        }
        Numbers expected(Volume(result));
        for (size_t i = 0; i < expected.size(); ++i) {
          std::vector<int64_t> at = Indices(static_cast<int64_t>(i), result);
          at.insert(at.begin() + static_cast<int64_t>(axis), 0);
          double best = x[Position(at, shape)];
          for (int64_t k = 1; k < shape[axis] && !std::isnan(best); ++k) {
            at[axis] = k;
            const double value = x[Position(at, shape)];
            if (value > best || std::isnan(value)) {
              best = value;
              expected[i] = static_cast<double>(k);
            }
          }
        }
        for (int threads = 1; threads <= 3; ++threads) {
          CHECK(SameNumbers(KernelRun("argmax")
                                .Number("axis", {static_cast<double>(axis)})
                                .In(dtype, shape, x)
                                .Out(DType::kI32, result)
                                .Run(threads)[0],
                            expected));
        }
      }
    }
  }
  CHECK_THROWS(KernelRun("argmax")
                   .Number("axis", {1})
                   .In(DType::kF32, {3, 0}, {})
                   .Out(DType::kI32, {3})
                   .Make(),
               Code::kShape);
}

TEST(IotaCountsAlongAnAxis) {
  for (DType dtype : kAll) {
    const Shape shape = {2, 3, 4};
    for (size_t axis = 0; axis < shape.size(); ++axis) {
      const Numbers y =
          KernelRun("iota").Number("axis", {static_cast<double>(axis)}).Out(dtype, shape).Run(2)[0];
      for (size_t i = 0; i < y.size(); ++i) {
        CHECK(y[i] == static_cast<double>(Indices(static_cast<int64_t>(i), shape)[axis]));
      }
    }
  }
  CHECK_THROWS(KernelRun("iota").Number("axis", {0}).Out(DType::kF32, {}).Make(), Code::kProgram);
}

}  // namespace
}  // namespace losscape::test
