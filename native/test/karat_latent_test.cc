#include <algorithm>
#include <functional>
#include <string>

#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

struct Direction {
  Numbers q, k, c, dz;  // leading R
};

struct Problem {
  int64_t batch = 2, sets = 1, heads = 2, rows = 5, keys = 7, width = 4, latent = 3;
  int64_t harmonics = 3, tangents = 2;
  std::string base = "zero", layout = "bhnd";
  bool masked = false;
  double scale = 0.5;
  Numbers q, k, c, mask, dz;
  Direction first, second;

  int64_t Features() const { return 2 * harmonics + (base != "zero"); }
  Shape Tokens(int64_t n) const {
    return layout == "bnhd" ? Shape{batch, n, heads, width} : Shape{batch, heads, n, width};
  }
  Shape Coefficients() const { return {sets, heads, Features(), keys, latent}; }
  Shape Latent() const { return {batch, heads, rows, latent}; }
  // Element d of token n of tangent t.
  int64_t At(int64_t t, int64_t b, int64_t h, int64_t n, int64_t tokens, int64_t d) const {
    const int64_t inner =
        layout == "bnhd" ? (b * tokens + n) * heads + h : (b * heads + h) * tokens + n;
    return (t * batch * heads * tokens + inner) * width + d;
  }
  int64_t AtC(int64_t t, int64_t e, int64_t h, int64_t j, int64_t m) const {
    return ((((t * sets + e) * heads + h) * Features() + j) * keys + m) * latent;
  }
  int64_t AtZ(int64_t t, int64_t b, int64_t h, int64_t n) const {
    return (((t * batch + b) * heads + h) * rows + n) * latent;
  }
};

void Fill(Problem& p, Source& source, double size = 1) {
  auto normal = [&](const Shape& shape, int64_t times) {
    return source.Normal(times * Volume(shape), size);
  };
  p.q = normal(p.Tokens(p.rows), 1);
  p.k = normal(p.Tokens(p.keys), 1);
  p.c = normal(p.Coefficients(), 1);
  p.dz = normal(p.Latent(), 1);
  p.mask = source.Integers(p.batch * p.keys, 0, 2);
  for (Direction* direction : {&p.first, &p.second}) {
    direction->q = normal(p.Tokens(p.rows), p.tangents);
    direction->k = normal(p.Tokens(p.keys), p.tangents);
    direction->c = normal(p.Coefficients(), p.tangents);
    direction->dz = normal(p.Latent(), p.tangents);
  }
}

// f, f', f'' of every feature at x.
void FeaturesAt(const Problem& p, double x, Numbers f[3]) {
  for (int order = 0; order < 3; ++order) f[order].assign(p.Features(), 0);
  for (int64_t g = 0; g < p.harmonics; ++g) {
    const double m = static_cast<double>(g + 1), c = std::cos(m * x), s = std::sin(m * x);
    const double cosines[] = {c, -m * s, -m * m * c}, sines[] = {s, m * c, -m * m * s};
    for (int order = 0; order < 3; ++order) {
      f[order][g] = cosines[order];
      f[order][p.harmonics + g] = sines[order];
    }
  }
  if (p.base == "zero") return;
  double b[3] = {x, 1, 0};
  if (p.base == "silu") {
    const double g = 1 / (1 + std::exp(-x));
    b[0] = x * g;
    b[1] = g * (1 + x * (1 - g));
    b[2] = g * (1 - g) * (2 + x * (1 - 2 * g));
  } else if (p.base == "gelu") {
    const double phi = 0.5 * std::erfc(-x * std::sqrt(0.5));
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
    b[0] = x * phi;
    b[1] = phi + x * density;
    b[2] = density * (2 - x * x);
  }
  for (int order = 0; order < 3; ++order) f[order][p.Features() - 1] = b[order];
}

struct Results {
  Numbers z, dq, dk, dc, jvp, dq1, dk1, dc1, jvpJvp;
};

// The definitions in program.h, score by score in double.
Results Oracle(const Problem& p) {
  Results y;
  const int64_t r = p.tangents, latent = p.latent;
  const int64_t zs = Volume(p.Latent());
  y.z.resize(zs);
  y.dq.resize(p.q.size());
  y.dk.resize(p.k.size());
  y.dc.resize(p.c.size());
  y.jvp.resize(r * zs);
  y.jvpJvp.resize(r * zs);
  y.dq1.resize(r * p.q.size());
  y.dk1.resize(r * p.k.size());
  y.dc1.resize(r * p.c.size());
  auto dot = [&](const Numbers& a, int64_t at, const Numbers& b, int64_t bt) {
    double sum = 0;
    for (int64_t d = 0; d < p.width; ++d) sum += a[at + d] * b[bt + d];
    return p.scale * sum;
  };
  auto axpy = [&](double factor, const Numbers& from, int64_t at, Numbers& to, int64_t bt) {
    for (int64_t d = 0; d < p.width; ++d) to[bt + d] += p.scale * factor * from[at + d];
  };
  Numbers f[3];
  for (int64_t b = 0; b < p.batch; ++b) {
    const int64_t e = b * p.sets / p.batch;
    for (int64_t h = 0; h < p.heads; ++h) {
      for (int64_t n = 0; n < p.rows; ++n) {
        for (int64_t m = 0; m < p.keys; ++m) {
          if (p.masked && p.mask[b * p.keys + m] == 0) continue;
          const int64_t qa = p.At(0, b, h, n, p.rows, 0), ka = p.At(0, b, h, m, p.keys, 0);
          const int64_t za = p.AtZ(0, b, h, n);
          FeaturesAt(p, dot(p.q, qa, p.k, ka), f);
          double dx = 0, curve = 0;
          for (int64_t j = 0; j < p.Features(); ++j) {
            const int64_t ca = p.AtC(0, e, h, j, m);
            for (int64_t i = 0; i < latent; ++i) {
              y.z[za + i] += f[0][j] * p.c[ca + i];
              dx += f[1][j] * p.c[ca + i] * p.dz[za + i];
              curve += f[2][j] * p.c[ca + i] * p.dz[za + i];
              y.dc[ca + i] += f[0][j] * p.dz[za + i];
            }
          }
          axpy(dx, p.k, ka, y.dq, qa);
          axpy(dx, p.q, qa, y.dk, ka);
          for (int64_t t = 0; t < r; ++t) {
            const int64_t qt = p.At(t, b, h, n, p.rows, 0), kt = p.At(t, b, h, m, p.keys, 0);
            const int64_t zt = p.AtZ(t, b, h, n);
            const double x1 = dot(p.first.q, qt, p.k, ka) + dot(p.q, qa, p.first.k, kt);
            const double x2 = dot(p.second.q, qt, p.k, ka) + dot(p.q, qa, p.second.k, kt);
            const double x12 =
                dot(p.second.q, qt, p.first.k, kt) + dot(p.first.q, qt, p.second.k, kt);
            double dx1 = x1 * curve;
            for (int64_t j = 0; j < p.Features(); ++j) {
              const int64_t ca = p.AtC(0, e, h, j, m), ct = p.AtC(t, e, h, j, m);
              for (int64_t i = 0; i < latent; ++i) {
                const double c = p.c[ca + i], c1 = p.first.c[ct + i], c2 = p.second.c[ct + i];
                const double dz = p.dz[za + i], dz1 = p.first.dz[zt + i];
                y.jvp[zt + i] += f[1][j] * x1 * c + f[0][j] * c1;
                y.jvpJvp[zt + i] +=
                    (f[2][j] * x1 * x2 + f[1][j] * x12) * c + f[1][j] * (x1 * c2 + x2 * c1);
                dx1 += f[1][j] * (dz1 * c + dz * c1);
                y.dc1[ct + i] += f[0][j] * dz1 + f[1][j] * x1 * dz;
              }
            }
            axpy(dx1, p.k, ka, y.dq1, qt);
            axpy(dx, p.first.k, kt, y.dq1, qt);
            axpy(dx1, p.q, qa, y.dk1, kt);
            axpy(dx, p.first.q, qt, y.dk1, kt);
          }
        }
      }
    }
  }
  return y;
}

Shape Leading(int64_t size, Shape shape) {
  shape.insert(shape.begin(), size);
  return shape;
}

KernelRun Start(const char* name, const Problem& p, DType dtype, DType maskType = DType::kU8) {
  KernelRun run(name);
  run.Number("masked", {p.masked ? 1.0 : 0.0}).Number("scale", {p.scale});
  run.Number("basisNumbers", {static_cast<double>(p.harmonics)}).String("basis", "fourier");
  run.String("base", p.base.c_str()).String("layout", p.layout.c_str());
  run.In(dtype, p.Tokens(p.rows), p.q).In(dtype, p.Tokens(p.keys), p.k);
  run.In(dtype, p.Coefficients(), p.c);
  if (p.masked) run.In(maskType, {p.batch, p.keys}, p.mask);
  return run;
}

KernelRun& AddDirection(KernelRun& run, const Problem& p, DType dtype, const Direction& d) {
  return run.In(dtype, Leading(p.tangents, p.Tokens(p.rows)), d.q)
      .In(dtype, Leading(p.tangents, p.Tokens(p.keys)), d.k)
      .In(dtype, Leading(p.tangents, p.Coefficients()), d.c);
}

Results RunFamily(const Problem& p, DType dtype, int threads) {
  Results y;
  const Shape q = p.Tokens(p.rows), k = p.Tokens(p.keys), c = p.Coefficients(), z = p.Latent();
  const int64_t r = p.tangents;
  y.z = Start("karat_latent", p, dtype, DType::kI32).Out(dtype, z).Run(threads)[0];
  KernelRun vjp = Start("karat_latent_vjp", p, dtype);
  std::vector<Numbers> out =
      vjp.In(dtype, z, p.dz).Out(dtype, q).Out(dtype, k).Out(dtype, c).Run(threads);
  y.dq = out[0];
  y.dk = out[1];
  y.dc = out[2];
  KernelRun jvp = Start("karat_latent_jvp", p, dtype);
  y.jvp = AddDirection(jvp, p, dtype, p.first).Out(dtype, Leading(r, z)).Run(threads)[0];
  KernelRun both = Start("karat_latent_vjp_jvp", p, dtype);
  both.In(dtype, z, p.dz);
  AddDirection(both, p, dtype, p.first).In(dtype, Leading(r, z), p.first.dz);
  out = both.Out(dtype, Leading(r, q))
            .Out(dtype, Leading(r, k))
            .Out(dtype, Leading(r, c))
            .Run(threads);
  y.dq1 = out[0];
  y.dk1 = out[1];
  y.dc1 = out[2];
  KernelRun second = Start("karat_latent_jvp_jvp", p, dtype);
  AddDirection(second, p, dtype, p.first);
  AddDirection(second, p, dtype, p.second);
  y.jvpJvp = second.Out(dtype, Leading(r, z)).Run(threads)[0];
  return y;
}

// Relative to the largest number of the expectation.
double Error(const Numbers& actual, const Numbers& expected) {
  double largest = 1e-30;
  for (double v : expected) largest = std::max(largest, std::fabs(v));
  return LargestDifference(actual, expected) / largest;
}

double WorstError(const Results& actual, const Results& expected) {
  double worst = 0;
  for (Numbers Results::*part :
       {&Results::z, &Results::dq, &Results::dk, &Results::dc, &Results::jvp, &Results::dq1,
        &Results::dk1, &Results::dc1, &Results::jvpJvp}) {
    worst = std::max(worst, Error(actual.*part, expected.*part));
  }
  return worst;
}

std::vector<Problem> Problems(Source& source) {
  std::vector<Problem> problems;
  auto add = [&](const std::function<void(Problem&)>& change) {
    Problem p;
    change(p);
    Fill(p, source);
    problems.push_back(p);
  };
  for (const char* base : {"zero", "identity", "silu", "gelu"}) {
    add([&](Problem& p) { p.base = base; });
    add([&](Problem& p) {
      p.base = base;
      p.masked = true;
      p.layout = "bnhd";
      p.rows = 37;
      p.keys = 53;
    });
  }
  add([](Problem& p) { p.rows = p.keys = p.width = p.latent = p.harmonics = 1; });
  add([](Problem& p) { p.batch = 6, p.sets = 3, p.rows = 19, p.width = 7, p.latent = 5; });
  add([](Problem& p) { p.batch = p.sets = 3, p.heads = 1, p.rows = 33, p.keys = 65; });
  add([](Problem& p) { p.harmonics = 40, p.keys = 30, p.rows = 20, p.tangents = 1; });
  add([](Problem& p) { p.rows = 66, p.keys = 50, p.width = 17, p.latent = 13, p.heads = 3; });
  add([](Problem& p) { p.rows = 3, p.keys = 29, p.width = 8, p.latent = 20, p.heads = 5; });
  return problems;
}

TEST(KaratLatentMatchesPlainLoops) {
  Source source(61);
  const std::vector<Problem> problems = Problems(source);
  ForEachTarget([&] {
    for (const Problem& p : problems) {
      const Results expected = Oracle(p);
      for (DType dtype : {DType::kF32, DType::kF64}) {
        // The error of derivatives grows with the harmonics: slopes are m sin, curvatures m^2 cos.
        const double m = static_cast<double>(p.harmonics);
        const double epsilon = (dtype == DType::kF32 ? 1e-6 : 2e-15) * std::max(3.0, m);
        for (int threads = 1; threads <= 3; ++threads) {
          CHECK(WorstError(RunFamily(p, dtype, threads), expected) < epsilon);
        }
      }
    }
  });
}

TEST(KaratLatentKeepsItsAccuracyAtLargeScores) {
  // |x| up to 30, at the size of the model: 1e-5 of the largest latent value, 5e-5 G of gradients.
  Source source(62);
  Problem p;
  p.rows = 50, p.keys = 197, p.width = 64, p.latent = 12, p.batch = 1, p.tangents = 1;
  p.scale = 0.125;
  Fill(p, source);
  double largest = 0;
  for (double& v : p.q) v = static_cast<float>(5 * v);
  for (int64_t n = 0; n < p.rows; ++n) {
    for (int64_t m = 0; m < p.keys; ++m) {
      double x = 0;
      for (int64_t d = 0; d < p.width; ++d) x += p.q[n * p.width + d] * p.k[m * p.width + d];
      largest = std::max(largest, std::fabs(p.scale * x));
    }
  }
  CHECK(largest > 15);
  for (double& v : p.q) v = static_cast<float>(v * 30 / largest);
  const Results expected = Oracle(p), y = RunFamily(p, DType::kF32, 2);
  CHECK(Error(y.z, expected.z) < 1e-5);
  const double gradients = 5e-5 * static_cast<double>(p.harmonics);
  for (Numbers Results::*part : {&Results::dq, &Results::dk, &Results::dc}) {
    CHECK(Error(y.*part, expected.*part) < gradients);
  }
}

TEST(KaratLatentTakesAnglesOfAnySize) {
  // One row, one key, one width: x is q itself. The features are read through unit coefficients.
  ForEachTarget([&] {
    for (DType dtype : {DType::kF32, DType::kF64}) {
      Problem p;
      p.batch = p.heads = p.keys = p.width = 1;
      p.harmonics = 1, p.latent = 2, p.scale = 1, p.tangents = 1;
      p.q = {0,     -0.0,  1e-20,   0.5, -0.7853982, 0.7853982, 1.5707964, -3.1415927, 6.0,
             -25.0, 100.0, 709.0,   1e4, -1e4,       65432.1,   99999.9,   1.1e5,      -3e6,
             1.7e9, 1e30,  -2.5e-3, 8.0, NAN,        INFINITY,  -INFINITY};
      for (double& v : p.q) v = static_cast<float>(v);
      p.rows = static_cast<int64_t>(p.q.size());
      p.k = {1};
      p.c = {1, 0, 0, 1};
      p.mask = {1};
      const Numbers z = Start("karat_latent", p, dtype).Out(dtype, p.Latent()).Run(1)[0];
      // 2 ulp of a number near one; the rounding of the result itself included.
      const double tolerance = dtype == DType::kF32 ? 2.4e-7 : 5e-16;
      for (int64_t n = 0; n < p.rows; ++n) {
        if (!std::isfinite(p.q[n])) {
          CHECK(std::isnan(z[2 * n]) && std::isnan(z[2 * n + 1]));
          continue;
        }
        CHECK_NEAR(z[2 * n], std::cos(p.q[n]), tolerance);
        CHECK_NEAR(z[2 * n + 1], std::sin(p.q[n]), tolerance);
      }
    }
  });
}

TEST(KaratLatentDoesNotReadMaskedKeys) {
  Source source(63);
  Problem p;
  p.masked = true;
  p.keys = 40;
  Fill(p, source);
  const Results clean = RunFamily(p, DType::kF32, 2);
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads; ++h) {
      for (int64_t m = 0; m < p.keys; ++m) {
        if (p.mask[b * p.keys + m] != 0) continue;
        for (int64_t d = 0; d < p.width; ++d) p.k[p.At(0, b, h, m, p.keys, d)] = NAN;
      }
    }
  }
  const Results y = RunFamily(p, DType::kF32, 2);
  CHECK(SameNumbers(y.z, clean.z));
  CHECK(SameNumbers(y.dq, clean.dq));
  CHECK(SameNumbers(y.dk, clean.dk));
  CHECK(SameNumbers(y.dc1, clean.dc1));
  std::fill(p.mask.begin(), p.mask.end(), 0);
  for (double v : RunFamily(p, DType::kF64, 3).dk1) CHECK(v == 0);
}

TEST(KaratLatentIsDeterministic) {
  Source source(64);
  Problem p;
  p.batch = 3, p.rows = 45, p.keys = 60, p.width = 16, p.latent = 12;
  Fill(p, source);
  for (int threads = 1; threads <= 5; ++threads) {
    const Results once = RunFamily(p, DType::kF32, threads);
    const Results again = RunFamily(p, DType::kF32, threads);
    CHECK(SameNumbers(once.dk, again.dk));
    CHECK(SameNumbers(once.dc, again.dc));
    CHECK(SameNumbers(once.dc1, again.dc1));
  }
}

TEST(KaratLatentOfNothing) {
  Source source(65);
  for (auto change : {+[](Problem& p) { p.batch = 0; }, +[](Problem& p) { p.rows = 0; },
                      +[](Problem& p) { p.keys = 0; }, +[](Problem& p) { p.tangents = 0; }}) {
    Problem p;
    change(p);
    Fill(p, source);
    const Results y = RunFamily(p, DType::kF32, 2);
    CHECK(WorstError(y, Oracle(p)) < 1e-5);
  }
}

TEST(KaratLatentRefusesWhatDoesNotFit) {
  Source source(66);
  Problem p;
  Fill(p, source);
  auto make = [](const Problem& q) {
    return Start("karat_latent", q, DType::kF32).Out(DType::kF32, q.Latent()).Make();
  };
  CHECK(make(p) != nullptr);
  Problem none = p;
  none.harmonics = 0;
  none.c.clear();
  CHECK_THROWS(make(none), Code::kProgram);
  Problem base = p;
  base.base = "tanh";
  base.c = source.Normal(Volume(base.Coefficients()));
  CHECK_THROWS(make(base), Code::kProgram);
  Problem sets = p;
  sets.sets = 3;
  sets.c = source.Normal(Volume(sets.Coefficients()));
  CHECK_THROWS(make(sets), Code::kShape);
  KernelRun wrongMask("karat_latent");
  wrongMask.Number("masked", {1}).Number("scale", {1}).Number("basisNumbers", {3});
  wrongMask.String("basis", "fourier").String("base", "zero").String("layout", "bhnd");
  wrongMask.In(DType::kF32, p.Tokens(p.rows), p.q).In(DType::kF32, p.Tokens(p.keys), p.k);
  wrongMask.In(DType::kF32, p.Coefficients(), p.c).In(DType::kU8, {p.keys}, Numbers(p.keys, 1));
  CHECK_THROWS(wrongMask.Out(DType::kF32, p.Latent()).Make(), Code::kShape);
}

}  // namespace
}  // namespace losscape::test
