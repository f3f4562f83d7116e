#include <algorithm>
#include <cmath>
#include <string>

#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

struct Rule {
  const char* form;
  double delta, epsilon;
  bool center, scale;
};

double Sum(const Numbers& a, const Numbers& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

Numbers Centered(const Rule& rule, Numbers x) {
  if (!rule.center) return x;
  const double mean = Sum(x, Numbers(x.size(), 1)) / static_cast<double>(x.size());
  for (double& v : x) v -= mean;
  return x;
}

Numbers StandardizedRow(const Rule& rule, const Numbers& w) {
  Numbers u = Centered(rule, w);
  if (!rule.scale) return u;
  const double squares = Sum(u, u), q = squares / (static_cast<double>(u.size()) - rule.delta);
  const std::string form = rule.form;
  const double sigma = form == "in"    ? std::sqrt(q + rule.epsilon)
                       : form == "out" ? std::sqrt(q) + rule.epsilon
                                       : std::sqrt(std::max(squares, rule.epsilon));
  for (double& v : u) v /= sigma;
  return u;
}

Numbers Moved(const Numbers& w, const Numbers& t, double step) {
  Numbers x = w;
  for (size_t i = 0; i < x.size(); ++i) x[i] += step * t[i];
  return x;
}

// Central differences of the row's map along t.
Numbers TangentRow(const Rule& rule, const Numbers& w, const Numbers& t) {
  const double step = 1e-5;
  Numbers plus = StandardizedRow(rule, Moved(w, t, step));
  const Numbers minus = StandardizedRow(rule, Moved(w, t, -step));
  for (size_t i = 0; i < plus.size(); ++i) plus[i] = (plus[i] - minus[i]) / (2 * step);
  return plus;
}

// Mixed central differences: the second derivative along s and t.
Numbers BendRow(const Rule& rule, const Numbers& w, const Numbers& s, const Numbers& t) {
  const double step = 1e-4;
  Numbers plus = TangentRow(rule, Moved(w, s, step), t);
  const Numbers minus = TangentRow(rule, Moved(w, s, -step), t);
  for (size_t i = 0; i < plus.size(); ++i) plus[i] = (plus[i] - minus[i]) / (2 * step);
  return plus;
}

Numbers Row(const Numbers& x, int64_t at, int64_t columns) {
  return Numbers(x.begin() + at, x.begin() + at + columns);
}

KernelRun Configured(const char* name, const Rule& rule, const Numbers& factors) {
  KernelRun run(name);
  run.String("form", rule.form)
      .Number("delta", {rule.delta})
      .Number("epsilon", {rule.epsilon})
      .Number("center", {rule.center ? 1.0 : 0.0})
      .Number("scale", {rule.scale ? 1.0 : 0.0})
      .Number("factors", factors);
  return run;
}

constexpr Rule kRules[] = {{"in", 1, 1e-5, true, true},  {"out", 0, 1e-5, true, true},
                           {"max", 0, 1e-4, true, true}, {"max", 0, 1e3, true, true},
                           {"in", 0, 1e-2, false, true}, {"in", 1, 1e-5, true, false}};

TEST(WeightStandardizeOfBanks) {
  Source source(71);
  const std::vector<Shape> shapes = {{3, 2}, {5, 3, 3, 1}, {2, 147}, {1, 576}, {7, 33}};
  const Numbers factors = {1, -2, 0.5, 1, 3};
  std::vector<Numbers> w;
  for (const Shape& shape : shapes) w.push_back(source.Normal(Volume(shape), 0.3));
  for (double& x : w[1]) x += 20;  // a mean far from zero
  ForEachTarget([&] {
    for (const Rule& rule : kRules) {
      for (DType dtype : {DType::kF32, DType::kF64}) {
        for (int threads = 1; threads <= 3; ++threads) {
          KernelRun run = Configured("weight_standardize", rule, factors);
          for (size_t i = 0; i < shapes.size(); ++i) run.In(dtype, shapes[i], w[i]);
          for (const Shape& shape : shapes) run.Out(dtype, shape);
          const std::vector<Numbers> results = run.Run(threads);
          for (size_t i = 0; i < shapes.size(); ++i) {
            const int64_t columns = Volume(shapes[i]) / shapes[i][0];
            for (int64_t at = 0; at < Volume(shapes[i]); at += columns) {
              Numbers expected = StandardizedRow(rule, Row(w[i], at, columns));
              for (double& x : expected) x *= factors[i];
              CHECK(LargestDifference(Row(results[i], at, columns), expected) <
                    (dtype == DType::kF32 ? 2e-5 : 1e-11));
            }
          }
        }
      }
    }
  });
}

TEST(WeightStandardizeTangents) {
  Source source(72);
  const int64_t tangents = 2;
  const std::vector<Shape> shapes = {{3, 5}, {2, 40}};
  const Numbers factors = {1, 2};
  std::vector<Numbers> w, p, u, v;
  for (const Shape& shape : shapes) {
    w.push_back(source.Normal(Volume(shape), 0.5));
    p.push_back(source.Normal(Volume(shape)));
    u.push_back(source.Normal(tangents * Volume(shape)));
    v.push_back(source.Normal(tangents * Volume(shape)));
  }
  const auto moved = [&](const Shape& shape) {
    Shape all = shape;
    all.insert(all.begin(), tangents);
    return all;
  };
  // Differences once; every target is compared with them.
  for (const Rule& rule : kRules) {
    std::vector<Numbers> jacobian, bend;
    for (size_t i = 0; i < shapes.size(); ++i) {
      const int64_t size = Volume(shapes[i]), columns = size / shapes[i][0];
      jacobian.emplace_back();
      bend.emplace_back();
      for (int64_t at = 0; at < tangents * size; at += columns) {
        const Numbers row = Row(w[i], at % size, columns);
        for (double x : TangentRow(rule, row, Row(v[i], at, columns))) {
          jacobian[i].push_back(factors[i] * x);
        }
        for (double x : BendRow(rule, row, Row(u[i], at, columns), Row(p[i], at % size, columns))) {
          bend[i].push_back(factors[i] * x);
        }
      }
    }
    ForEachTarget([&] {
      for (DType dtype : {DType::kF32, DType::kF64}) {
        const double epsilon = dtype == DType::kF32 ? 1e-4 : 3e-6;
        for (int threads = 1; threads <= 2; ++threads) {
          KernelRun jvp = Configured("weight_standardize_jvp", rule, factors);
          for (size_t i = 0; i < shapes.size(); ++i) jvp.In(dtype, shapes[i], w[i]);
          for (size_t i = 0; i < shapes.size(); ++i) jvp.In(dtype, moved(shapes[i]), v[i]);
          for (const Shape& shape : shapes) jvp.Out(dtype, moved(shape));
          const std::vector<Numbers> first = jvp.Run(threads);
          for (bool straight : {false, true}) {
            KernelRun both = Configured("weight_standardize_vjp_jvp", rule, factors);
            both.Number("straight", {straight ? 1.0 : 0.0});
            for (size_t i = 0; i < shapes.size(); ++i) both.In(dtype, shapes[i], w[i]);
            for (size_t i = 0; i < shapes.size(); ++i) both.In(dtype, shapes[i], p[i]);
            for (size_t i = 0; i < shapes.size(); ++i) both.In(dtype, moved(shapes[i]), u[i]);
            for (size_t i = 0; i < shapes.size() && straight; ++i) {
              both.In(dtype, moved(shapes[i]), v[i]);
            }
            for (const Shape& shape : shapes) both.Out(dtype, moved(shape));
            const std::vector<Numbers> second = both.Run(threads);
            for (size_t i = 0; i < shapes.size(); ++i) {
              CHECK(LargestDifference(first[i], jacobian[i]) < epsilon);
              CHECK(LargestDifference(second[i], straight ? Moved(bend[i], jacobian[i], 1)
                                                          : bend[i]) < 10 * epsilon);
            }
          }
        }
      }
    });
  }
}

// Large enough for streamed stores and several threads; rows do not begin on vector boundaries.
TEST(WeightStandardizeStreams) {
  Source source(73);
  const Shape shape = {7501, 147};
  const Numbers w = source.Normal(Volume(shape));
  const auto run = [&](int threads) {
    return Configured("weight_standardize", kRules[0], {1})
        .In(DType::kF32, shape, w)
        .Out(DType::kF32, shape)
        .Run(threads)[0];
  };
  const Numbers y = run(1);
  CHECK(SameNumbers(run(3), y));
  for (int64_t at : {int64_t{0}, int64_t{147 * 4000}, int64_t{147 * 7500}}) {
    CHECK(LargestDifference(Row(y, at, 147), StandardizedRow(kRules[0], Row(w, at, 147))) < 1e-5);
  }
}

TEST(WeightStandardizeOfSpecialRows) {
  ForEachTarget([&] {
    for (DType dtype : {DType::kF32, DType::kF64}) {
      // Equal weights: exactly 0, with r = 1 / sqrt(epsilon) in the derivative of 'in'.
      const Numbers w(20, 0.1);
      const Numbers p = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2};
      for (const Rule& rule : {Rule{"in", 1, 1e-4, true, true}, Rule{"out", 1, 1e-2, true, true},
                               Rule{"in", 0, 0, true, true}, Rule{"out", 0, 0, true, true}}) {
        CHECK(SameNumbers(Configured("weight_standardize", rule, {1})
                              .In(dtype, {2, 10}, w)
                              .Out(dtype, {2, 10})
                              .Run(1)[0],
                          Numbers(20, 0)));
        Numbers expected(20, 0);
        for (int i = 0; i < 10; ++i) expected[i] = rule.epsilon == 0 ? 0 : (i - 4.5) * 100;
        CHECK(LargestDifference(Configured("weight_standardize_jvp", rule, {1})
                                    .In(dtype, {2, 10}, w)
                                    .In(dtype, {1, 2, 10}, p)
                                    .Out(dtype, {1, 2, 10})
                                    .Run(1)[0],
                                expected) < 1e-4);
      }
      // NaN stays in its row.
      Numbers poisoned = {1, 2, NAN, 4, 1, 2, 3, 5};
      const Numbers y = Configured("weight_standardize", kRules[0], {1})
                            .In(dtype, {2, 4}, poisoned)
                            .Out(dtype, {2, 4})
                            .Run(1)[0];
      CHECK(std::isnan(y[0]) && std::isnan(y[3]) && std::isfinite(y[4]));
    }
  });
}

TEST(WeightStandardizeInPlaceAndOfNothing) {
  Source source(74);
  const Numbers w = source.Normal(4 * 9);
  const auto run = [&](bool inPlace) {
    KernelRun kernel = Configured("weight_standardize", kRules[0], {1});
    kernel.In(DType::kF32, {4, 9}, w).Out(DType::kF32, {4, 9});
    if (inPlace) kernel.Alias(0, 0);
    return kernel.Run(1)[0];
  };
  CHECK(SameNumbers(run(true), run(false)));
  CHECK(Configured("weight_standardize", kRules[0], {1})
            .In(DType::kF32, {0, 9}, {})
            .Out(DType::kF32, {0, 9})
            .Run(2)[0]
            .empty());
  CHECK_THROWS(Configured("weight_standardize", kRules[0], {1})
                   .In(DType::kF32, {9, 1}, Numbers(9))
                   .Out(DType::kF32, {9, 1})
                   .Make(),
               Code::kShape);
  CHECK_THROWS(Configured("weight_standardize", kRules[0], {1, 1})
                   .In(DType::kF32, {3, 3}, Numbers(9))
                   .Out(DType::kF32, {3, 3})
                   .Make(),
               Code::kProgram);
  CHECK_THROWS(Configured("weight_standardize", kRules[0], {1})
                   .In(DType::kI32, {3, 3}, Numbers(9))
                   .Out(DType::kI32, {3, 3})
                   .Make(),
               Code::kDType);
}

}  // namespace
}  // namespace losscape::test
