#include <algorithm>
#include <functional>

#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

struct Problem {
  int64_t rows, classes, tangents;
  bool soft, weighted;
  double smoothing;
  double ignore;  // NaN: none
  Numbers z, t, w, g, dz;

  bool Ignored(int64_t r) const { return !soft && t[r] == ignore; }
  double Weight(int64_t c) const { return weighted ? w[c] : 1; }
  double Target(int64_t r, int64_t c) const {
    const double q = soft ? t[r * classes + c] : t[r] == static_cast<double>(c);
    return (1 - smoothing) * q + smoothing / static_cast<double>(classes);
  }
};

Problem MakeProblem(Source& source, int64_t rows, int64_t classes, bool soft, bool weighted,
                    double smoothing, bool ignore, double scale = 2) {
  Problem p{rows, classes, 3, soft, weighted, smoothing, ignore ? -100 : NAN, {}, {}, {}, {}, {}};
  p.z = source.Normal(rows * classes, scale);
  if (soft) {
    // Probabilities that do not sum to one, either: W is their sum.
    p.t.resize(rows * classes);
    for (double& q : p.t) q = source.Uniform(0, 1.5 / static_cast<double>(classes));
  } else {
    p.t = source.Integers(rows, 0, classes - 1);
    for (int64_t r = 0; ignore && r < rows; r += 3) p.t[r] = -100;
  }
  p.w.resize(classes);
  for (double& w : p.w) w = source.Uniform(0.2, 3);
  p.g = source.Normal(rows);
  p.dz = source.Normal(p.tangents * rows * classes);
  return p;
}

struct Results {
  Numbers loss, lse, vjp, jvp, vjpJvp;
};

// The definitions in program.h, in double.
Results Oracle(const Problem& p) {
  Results results;
  results.loss.resize(p.rows);
  results.lse.resize(p.rows);
  results.vjp.resize(p.rows * p.classes);
  results.jvp.resize(p.tangents * p.rows);
  results.vjpJvp.resize(p.tangents * p.rows * p.classes);
  for (int64_t r = 0; r < p.rows; ++r) {
    const double* z = &p.z[r * p.classes];
    const double max = *std::max_element(z, z + p.classes);
    double sum = 0, total = 0, dot = 0;
    for (int64_t c = 0; c < p.classes; ++c) sum += std::exp(z[c] - max);
    const double lse = max + std::log(sum);
    results.lse[r] = lse;
    if (p.Ignored(r)) continue;
    for (int64_t c = 0; c < p.classes; ++c) {
      total += p.Weight(c) * p.Target(r, c);
      dot += p.Weight(c) * p.Target(r, c) * z[c];
    }
    results.loss[r] = total * lse - dot;
    for (int64_t c = 0; c < p.classes; ++c) {
      const double d = total * std::exp(z[c] - lse) - p.Weight(c) * p.Target(r, c);
      results.vjp[r * p.classes + c] = p.g[r] * d;
    }
    for (int64_t k = 0; k < p.tangents; ++k) {
      const double* dz = &p.dz[(k * p.rows + r) * p.classes];
      double mean = 0, slope = 0;
      for (int64_t c = 0; c < p.classes; ++c) {
        const double probability = std::exp(z[c] - lse);
        mean += probability * dz[c];
        slope += (total * probability - p.Weight(c) * p.Target(r, c)) * dz[c];
      }
      results.jvp[k * p.rows + r] = slope;
      for (int64_t c = 0; c < p.classes; ++c) {
        results.vjpJvp[(k * p.rows + r) * p.classes + c] =
            p.g[r] * total * std::exp(z[c] - lse) * (dz[c] - mean);
      }
    }
  }
  return results;
}

KernelRun Start(const char* name, const Problem& p, DType dtype) {
  KernelRun run(name);
  run.Number("smoothing", {p.smoothing}).Number("weighted", {p.weighted ? 1.0 : 0.0});
  run.Number("ignore", {p.ignore});
  run.In(dtype, {p.rows, p.classes}, p.z);
  if (p.soft) {
    run.In(dtype, {p.rows, p.classes}, p.t);
  } else {
    run.In(DType::kI32, {p.rows}, p.t);
  }
  if (p.weighted) run.In(dtype, {p.classes}, p.w);
  return run;
}

Results RunFamily(const Problem& p, DType dtype, int threads) {
  const Shape rows = {p.rows}, all = {p.rows, p.classes};
  const Shape tangents = {p.tangents, p.rows, p.classes};
  Results results;
  const std::vector<Numbers> forward =
      Start("cross_entropy", p, dtype).Out(dtype, rows).Out(dtype, rows).Run(threads);
  results.loss = forward[0];
  results.lse = forward[1];
  results.vjp = Start("cross_entropy_vjp", p, dtype)
                    .In(dtype, rows, results.lse)
                    .In(dtype, rows, p.g)
                    .Out(dtype, all)
                    .Run(threads)[0];
  results.jvp = Start("cross_entropy_jvp", p, dtype)
                    .In(dtype, rows, results.lse)
                    .In(dtype, tangents, p.dz)
                    .Out(dtype, {p.tangents, p.rows})
                    .Run(threads)[0];
  results.vjpJvp = Start("cross_entropy_vjp_jvp", p, dtype)
                       .In(dtype, rows, results.lse)
                       .In(dtype, rows, p.g)
                       .In(dtype, tangents, p.dz)
                       .Out(dtype, tangents)
                       .Run(threads)[0];
  return results;
}

std::vector<Problem> Problems(Source& source) {
  std::vector<Problem> problems;
  for (bool soft : {false, true}) {
    for (bool weighted : {false, true}) {
      for (double smoothing : {0.0, 0.1, 1.0}) {
        problems.push_back(MakeProblem(source, 37, 10, soft, weighted, smoothing, !soft));
        problems.push_back(MakeProblem(source, 5, 130, soft, weighted, smoothing, false));
      }
    }
  }
  problems.push_back(MakeProblem(source, 3, 1, false, false, 0, false));
  problems.push_back(MakeProblem(source, 1, 2, false, true, 0.3, false));
  problems.push_back(MakeProblem(source, 2000, 10, false, false, 0, true));
  problems.push_back(MakeProblem(source, 9, 5000, false, false, 0.1, true));
  return problems;
}

TEST(CrossEntropyMatchesPlainLoops) {
  Source source(41);
  ForEachTarget([&] {
    for (const Problem& p : Problems(source)) {
      const Results expected = Oracle(p);
      for (DType dtype : {DType::kF32, DType::kF64}) {
        const double epsilon = dtype == DType::kF32 ? 1e-5 : 1e-13;
        for (int threads = 1; threads <= 3; ++threads) {
          const Results y = RunFamily(p, dtype, threads);
          // In double the plain loop's own sums over 5000 classes are the larger error.
          CHECK(LargestDifference(y.loss, expected.loss) < std::max(epsilon, 3e-12));
          CHECK(LargestDifference(y.lse, expected.lse) < epsilon);
          CHECK(LargestDifference(y.vjp, expected.vjp) < epsilon);
          CHECK(LargestDifference(y.jvp, expected.jvp) < epsilon);
          CHECK(LargestDifference(y.vjpJvp, expected.vjpJvp) < epsilon);
        }
      }
    }
  });
}

TEST(CrossEntropyDerivativesMatchFiniteDifferences) {
  Source source(42);
  const double h = 1e-5;
  for (Problem p : Problems(source)) {
    if (p.rows > 100 || p.classes > 1000) continue;
    const Results exact = RunFamily(p, DType::kF64, 1);
    const Numbers z = p.z;
    for (int64_t k = 0; k < p.tangents; ++k) {
      auto moved = [&](double step) {
        Problem q = p;
        for (size_t i = 0; i < z.size(); ++i) q.z[i] = z[i] + step * p.dz[k * z.size() + i];
        return RunFamily(q, DType::kF64, 1);
      };
      const Results plus = moved(h), minus = moved(-h);
      // Second differences err by h^2 times a third derivative, and by rounding over h.
      for (int64_t r = 0; r < p.rows; ++r) {
        CHECK_NEAR(exact.jvp[k * p.rows + r], (plus.loss[r] - minus.loss[r]) / (2 * h), 2e-8);
      }
      for (size_t i = 0; i < z.size(); ++i) {
        CHECK_NEAR(exact.vjpJvp[k * z.size() + i], (plus.vjp[i] - minus.vjp[i]) / (2 * h), 2e-8);
      }
      // <g, J dz> = <J^T g, dz>
      double left = 0, right = 0;
      for (int64_t r = 0; r < p.rows; ++r) left += p.g[r] * exact.jvp[k * p.rows + r];
      for (size_t i = 0; i < z.size(); ++i) right += exact.vjp[i] * p.dz[k * z.size() + i];
      CHECK_NEAR(left, right, 1e-10);
    }
  }
}

TEST(CrossEntropyOfConfidentSamplesKeepsRelativeAccuracy) {
  // z_y leads by up to 60: 1 - p_y is down to 1e-26, far below the rounding of p_y, and the loss
  // far below that of lse.
  Source source(43);
  const int64_t rows = 40, classes = 10;
  for (bool weighted : {false, true}) {
    Problem p = MakeProblem(source, rows, classes, false, weighted, 0, false, 1);
    for (int64_t r = 0; r < rows; ++r) {
      p.z[r * classes + static_cast<int64_t>(p.t[r])] = 5 + 1.5 * static_cast<double>(r);
    }
    for (DType dtype : {DType::kF32, DType::kF64}) {
      const Results y = RunFamily(p, dtype, 2);
      // exp(z - lse) has the relative error that |lse| times epsilon makes.
      const double tolerance = dtype == DType::kF32 ? 3e-5 : 3e-14;
      for (int64_t r = 0; r < rows; ++r) {
        const int64_t label = static_cast<int64_t>(p.t[r]);
        const double* z = &p.z[r * classes];
        double others = 0;
        for (int64_t c = 0; c < classes; ++c) {
          if (c != label) others += std::exp(z[c] - z[label]);
        }
        const double w = p.Weight(label);
        const double loss = w * std::log1p(others);
        const double derivative = -p.g[r] * w * others / (1 + others);
        CHECK_NEAR(y.loss[r] / loss, 1, tolerance);
        CHECK_NEAR(y.vjp[r * classes + label] / derivative, 1, tolerance);
        for (int64_t k = 0; k < p.tangents; ++k) {
          const double* dz = &p.dz[(k * rows + r) * classes];
          double slope = 0, size = 0, total = others + 1;
          for (int64_t c = 0; c < classes; ++c) {
            if (c == label) continue;
            slope += w * std::exp(z[c] - z[label]) / total * (dz[c] - dz[label]);
            size += w * std::exp(z[c] - z[label]) / total * std::fabs(dz[c] - dz[label]);
          }
          CHECK_NEAR(y.jvp[k * rows + r], slope, tolerance * size);
          // The label's own second derivative is minus p_y times the same sum.
          CHECK_NEAR(y.vjpJvp[(k * rows + r) * classes + label], -p.g[r] * slope / total,
                     tolerance * std::fabs(p.g[r]) * size);
        }
      }
    }
  }
}

TEST(CrossEntropyIgnoresWhatIsIgnored) {
  Source source(44);
  for (bool weighted : {false, true}) {
    Problem p = MakeProblem(source, 20, 7, false, weighted, 0.1, true);
    for (int64_t r = 0; r < p.rows; r += 3) {
      for (int64_t c = 0; c < p.classes; ++c) p.z[r * p.classes + c] = c == 2 ? NAN : INFINITY;
    }
    const Results y = RunFamily(p, DType::kF32, 1);
    for (int64_t r = 0; r < p.rows; ++r) {
      const bool ignored = r % 3 == 0;
      CHECK(ignored == (y.loss[r] == 0));
      for (int64_t c = 0; c < p.classes; ++c) {
        CHECK(ignored == (y.vjp[r * p.classes + c] == 0));
        CHECK(ignored == (y.vjpJvp[r * p.classes + c] == 0));
      }
      CHECK(ignored == (y.jvp[r] == 0));
    }
  }
}

TEST(CrossEntropyOfSpecialNumbers) {
  const double inf = INFINITY;
  for (DType dtype : {DType::kF32, DType::kF64}) {
    // A masked class, an impossible label, a NaN, an infinite logit.
    Problem p{4, 3, 1, false, false, 0, NAN, {}, {}, {}, {}, {}};
    p.z = {0, -inf, 0, 0, -inf, 0, 0, NAN, 0, 0, inf, 0};
    p.t = {0, 1, 0, 1};
    p.g = {1, 1, 1, 1};
    p.dz = Numbers(12, 1);
    const Results y = RunFamily(p, dtype, 1);
    CHECK_NEAR(y.loss[0], std::log(2), 1e-6);
    CHECK(y.vjp[1] == 0);
    CHECK_NEAR(y.vjp[0], -0.5, 1e-6);
    CHECK(y.loss[1] == inf);
    CHECK(std::isnan(y.loss[2]) && std::isnan(y.lse[2]));
    CHECK(std::isnan(y.loss[3]));
    CHECK(y.lse[3] == inf);
    // Without probability a class may be at -inf.
    Problem soft = p;
    soft.rows = 1;
    soft.soft = true;
    soft.z = {0, -inf, 0};
    soft.t = {0.5, 0, 0.5};
    soft.g = {1};
    soft.dz = {1, 2, 3};
    const Results s = RunFamily(soft, dtype, 1);
    CHECK_NEAR(s.loss[0], std::log(2), 1e-6);
    CHECK(s.vjp[1] == 0);
    // A label whose class has no weight.
    Problem unweighted = p;
    unweighted.rows = 1;
    unweighted.weighted = true;
    unweighted.w = {1, 0, 1};
    unweighted.z = {0, -inf, 0};
    unweighted.t = {1};
    unweighted.g = {1};
    unweighted.dz = {1, 2, 3};
    CHECK(RunFamily(unweighted, dtype, 1).loss[0] == 0);
  }
}

TEST(CrossEntropyNamesTheSampleWithABadLabel) {
  Source source(45);
  for (double bad : {-1.0, 10.0, 2147483647.0}) {
    Problem p = MakeProblem(source, 50, 10, false, false, 0, false);
    p.t[17] = bad;
    std::string message;
    try {
      Start("cross_entropy", p, DType::kF32).Out(DType::kF32, {50}).Out(DType::kF32, {50}).Run(2);
    } catch (const Error& error) {
      CHECK(error.code() == Code::kRange);
      message = error.what();
    }
    CHECK(message.find("sample 17") != std::string::npos);
    CHECK(message.find(std::to_string(static_cast<int64_t>(bad))) != std::string::npos);
  }
}

TEST(CrossEntropyOfNothing) {
  Source source(46);
  Problem p = MakeProblem(source, 0, 10, false, false, 0, false);
  const Results y = RunFamily(p, DType::kF32, 2);
  CHECK(y.loss.empty() && y.vjp.empty() && y.jvp.empty() && y.vjpJvp.empty());
  Problem q = MakeProblem(source, 4, 10, false, false, 0, false);
  q.tangents = 0;
  q.dz.clear();
  CHECK(RunFamily(q, DType::kF32, 2).jvp.empty());
}

}  // namespace
}  // namespace losscape::test
