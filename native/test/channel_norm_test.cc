#include <algorithm>

#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

// v + a ea + b eb + ab ea eb with ea² = eb² = 0: exact first and second derivatives.
struct Jet {
  double v = 0, a = 0, b = 0, ab = 0;
  Jet() = default;
  Jet(double value) : v(value) {}  // NOLINT
  Jet(double value, double da, double db) : v(value), a(da), b(db) {}
};
Jet operator+(Jet x, Jet y) {
  Jet z(x.v + y.v, x.a + y.a, x.b + y.b);
  z.ab = x.ab + y.ab;
  return z;
}
Jet operator*(Jet x, Jet y) {
  Jet z(x.v * y.v, x.v * y.a + x.a * y.v, x.v * y.b + x.b * y.v);
  z.ab = x.v * y.ab + x.a * y.b + x.b * y.a + x.ab * y.v;
  return z;
}
Jet operator-(Jet x, Jet y) { return x + Jet(-1) * y; }
Jet Root(Jet x) {  // x^-1/2
  const double r = 1 / std::sqrt(x.v), d = -0.5 * r / x.v, dd = 0.75 * r / (x.v * x.v);
  Jet z(r, d * x.a, d * x.b);
  z.ab = d * x.ab + dd * x.a * x.b;
  return z;
}
using Jets = std::vector<Jet>;

struct Problem {
  const char* stage;
  int64_t samples, channels, spatial, groups;
  bool nhwc, affine1, relu, residual;
  const char* affine2 = "none";
  bool through = false, after = false, aboutBatch = false, warm = false;
  int64_t copies = 1, tangents = 2;
  double rate = 0.3, offset = 0;

  bool Is(const char* what) const { return std::string(stage) == what; }
  bool Given() const { return Is("estimate") || Is("frozen"); }
  bool HasAffine2() const { return std::string(affine2) != "none"; }
  int64_t Scales() const { return std::string(affine2) == "group" ? groups : channels; }
  Shape X() const {
    return nhwc ? Shape{copies, samples, spatial, channels}
                : Shape{copies, samples, channels, spatial};
  }
  Shape Line(int64_t size) const { return {copies, size}; }
  int64_t At(int64_t sample, int64_t c, int64_t s) const {
    return nhwc ? (sample * spatial + s) * channels + c : (sample * channels + c) * spatial + s;
  }
};

// Operands that have tangents: x, scale1, shift1, scale2, shift2, residual (empty: none).
using Operands = std::vector<Numbers>;

struct Given {
  Numbers mean, variance;
  Operands at;
};

std::vector<Shape> Shapes(const Problem& p) {
  const Shape none{0};
  const Shape one = p.affine1 ? p.Line(p.channels) : none;
  const Shape two = p.HasAffine2() ? p.Line(p.Scales()) : none;
  return {p.X(), one, one, two, two, p.residual ? p.X() : none};
}

Operands Draw(const Problem& p, Source& source, double offset = 0) {
  Operands all;
  for (const Shape& shape : Shapes(p)) all.push_back(source.Normal(Volume(shape)));
  for (double& x : all[0]) x = static_cast<float>(x + offset);
  return all;
}

struct Normalised {
  Jets y, mean, variance;
};

// The definition, one number at a time.
Normalised Reference(const Problem& p, const Given& given, const std::vector<Jets>& in) {
  Normalised out;
  out.y.resize(in[0].size());
  const int64_t N = p.samples, C = p.channels, S = p.spatial;
  const double M = static_cast<double>(N * S);
  for (int64_t l = 0; l < p.copies; ++l) {
    Jets u = in[0];
    for (int64_t c = 0; !p.Is("none") && c < C; ++c) {
      const auto mean = [&](auto f) {
        Jet sum;
        for (int64_t n = l * N; n < (l + 1) * N; ++n) {
          for (int64_t s = 0; s < S; ++s) sum = sum + f(in[0][p.At(n, c, s)]);
        }
        return Jet(1 / M) * sum;
      };
      Jet m, v;
      if (p.Given()) {
        m = given.mean[l * C + c];
        v = given.variance[l * C + c];
      }
      if (!p.Is("frozen")) {
        const Jet batch = mean([](Jet x) { return x; });
        const bool about = p.Is("batch") || p.aboutBatch || p.warm;
        const Jet centre = about ? batch : m;
        const Jet second = mean([&](Jet x) { return (x - centre) * (x - centre); });
        const Jet r = p.Is("batch") || p.warm ? 1 : p.rate;
        const Jet newMean = m + r * (batch - m), newVariance = v + r * (second - v);
        out.mean.push_back(newMean);
        out.variance.push_back(newVariance);
        if (p.Is("batch") || p.through) {
          m = newMean;
          v = newVariance;
        } else if (!p.after) {
          m = newMean.v;
          v = newVariance.v;
        }
      }
      for (int64_t n = l * N; n < (l + 1) * N; ++n) {
        for (int64_t s = 0; s < S; ++s) {
          Jet& z = u[p.At(n, c, s)];
          z = (z - m) * Root(v + 1e-3);
          if (p.affine1) z = z * in[1][l * C + c] + in[2][l * C + c];
        }
      }
    }
    const int64_t width = p.groups ? C / p.groups : 1;
    for (int64_t n = l * N; n < (l + 1) * N; ++n) {
      for (int64_t g = 0; g < p.groups; ++g) {
        const auto each = [&](auto f) {
          for (int64_t c = g * width; c < (g + 1) * width; ++c) {
            for (int64_t s = 0; s < S; ++s) f(u[p.At(n, c, s)], c);
          }
        };
        const Jet share = 1 / static_cast<double>(width * S);
        Jet m, v;
        each([&](Jet& z, int64_t) { m = m + share * z; });
        each([&](Jet& z, int64_t) { v = v + share * (z - m) * (z - m); });
        each([&](Jet& z, int64_t c) {
          z = (z - m) * Root(v + 1e-2);
          if (!p.HasAffine2()) return;
          const int64_t i = l * p.Scales() + (p.Scales() == C ? c : g);
          z = z * in[3][i] + in[4][i];
        });
      }
      for (int64_t i = n * C * S; i < (n + 1) * C * S; ++i) {
        Jet y = u[i];
        if (p.residual) y = y + in[5][i];
        out.y[i] = p.relu && !(y.v > 0) ? Jet() : y;
      }
    }
  }
  return out;
}

std::vector<Jets> Lift(const Operands& at, const Operands& a, const Operands& b) {
  std::vector<Jets> out(at.size());
  for (size_t i = 0; i < at.size(); ++i) {
    for (size_t k = 0; k < at[i].size(); ++k) out[i].push_back({at[i][k], a[i][k], b[i][k]});
  }
  return out;
}

KernelRun Begin(const char* name, const Problem& p, const Given& given, DType dtype) {
  KernelRun run(name);
  run.String("stage1", p.stage).String("affine2", p.affine2);
  run.String("layout", p.nhwc ? "nhwc" : "nchw").String("order", p.after ? "after" : "before");
  run.String("about", p.aboutBatch ? "batch" : "old");
  const auto number = [&](const char* key, double value) { run.Number(key, {value}); };
  number("groups", static_cast<double>(p.groups));
  number("epsilon1", 1e-3);
  number("epsilon2", 1e-2);
  number("affine1", p.affine1);
  number("warm", p.warm);
  number("through", p.through);
  number("relu", p.relu);
  number("residual", p.residual);
  number("lead", 1);
  run.In(dtype, p.X(), given.at[0]);
  if (p.Given()) {
    run.In(dtype, p.Line(p.channels), given.mean);
    run.In(dtype, p.Line(p.channels), given.variance);
  }
  const Numbers each(static_cast<size_t>(p.copies), 1);
  if (p.Is("estimate")) {
    Numbers rate = each;
    for (double& r : rate) r = p.rate;
    run.In(dtype, {p.copies}, rate);
  }
  if (p.warm) run.In(dtype, {p.copies}, each);
  const std::vector<Shape> shapes = Shapes(p);
  for (size_t i = 1; i < shapes.size(); ++i) {
    if (!given.at[i].empty()) run.In(dtype, shapes[i], given.at[i]);
  }
  return run;
}

Shape Led(int64_t r, Shape shape) {
  shape.insert(shape.begin(), r);
  return shape;
}

// Tangents of all operands, R one after the other.
void AddTangents(KernelRun& run, const Problem& p, DType dtype, const std::vector<Operands>& t,
                 size_t count) {
  const std::vector<Shape> shapes = Shapes(p);
  for (size_t i = 0; i < count; ++i) {
    if (t[0][i].empty()) continue;
    Numbers all;
    for (const Operands& one : t) all.insert(all.end(), one[i].begin(), one[i].end());
    run.In(dtype, Led(p.tangents, shapes[i]), all);
  }
}

void AddGradients(KernelRun& run, const Problem& p, DType dtype, bool led) {
  for (const Shape& shape : Shapes(p)) {
    if (Volume(shape)) run.Out(dtype, led ? Led(p.tangents, shape) : shape);
  }
}

double Dot(const Numbers& a, const Numbers& b, size_t from = 0) {
  double sum = 0;
  for (size_t i = 0; i < b.size(); ++i) sum += a[from + i] * b[i];
  return sum;
}

double Size(const Numbers& a) { return std::sqrt(Dot(a, a)); }

// <gradients of tangent r, u> and the product of their sizes.
void Pair(const std::vector<Numbers>& gradients, const Operands& u, int64_t r, double& dot,
          double& size) {
  dot = size = 0;
  size_t result = 0;
  for (const Numbers& direction : u) {
    if (direction.empty()) continue;
    const Numbers& g = gradients[result++];
    dot += Dot(g, direction, static_cast<size_t>(r) * direction.size());
    size += Size(g) * Size(direction);
  }
}

Numbers Part(const Jets& jets, double Jet::*part) {
  Numbers out;
  for (const Jet& jet : jets) out.push_back(jet.*part);
  return out;
}

double Close(const Numbers& actual, const Numbers& expected) {
  double largest = 1;
  for (double x : expected) largest = std::max(largest, std::fabs(x));
  return LargestDifference(actual, expected) / largest;
}

void Check(const Problem& p, Source& source, DType dtype, int threads) {
  // One rounding of x is |x| epsilon, which the deviations divide.
  const double epsilon = (dtype == DType::kF32 ? 3e-6 : 1e-13) * (1 + std::fabs(p.offset));
  Given given;
  given.at = Draw(p, source, p.offset);
  given.mean = source.Normal(p.copies * p.channels);
  for (double& m : given.mean) m = static_cast<float>(m + p.offset);
  for (int64_t i = 0; i < p.copies * p.channels; ++i) {
    given.variance.push_back(source.Uniform(0.5, 2));
  }
  std::vector<Operands> along;
  for (int64_t r = 0; r < p.tangents; ++r) along.push_back(Draw(p, source));
  const Operands u = Draw(p, source);
  const Numbers dy = source.Normal(Volume(p.X()));
  const Numbers dyDot = source.Normal(p.tangents * Volume(p.X()));
  const Shape momentShape{p.copies, p.samples, 3, p.channels};

  KernelRun forward = Begin("channel_norm", p, given, dtype);
  forward.Out(dtype, p.X()).Out(dtype, momentShape);
  const bool fresh = p.Is("batch") || p.Is("estimate");
  if (fresh) forward.Out(dtype, p.Line(p.channels)).Out(dtype, p.Line(p.channels));
  const std::vector<Numbers> results = forward.Run(threads);
  const Normalised expected = Reference(p, given, Lift(given.at, u, along[0]));
  CHECK(Close(results[0], Part(expected.y, &Jet::v)) < epsilon);
  if (fresh) {
    CHECK(Close(results[2], Part(expected.mean, &Jet::v)) < epsilon);
    CHECK(Close(results[3], Part(expected.variance, &Jet::v)) < epsilon);
  }

  // Without a ReLU no derivative reads the residual.
  Problem q = p;
  if (!p.relu && p.residual) {
    q.residual = false;
    given.at[5].clear();
    for (Operands& t : along) t[5].clear();
  }
  Operands direction = u;
  if (!q.residual) direction[5].clear();
  const auto derivative = [&](const char* name) {
    return std::move(Begin(name, q, given, dtype).In(dtype, momentShape, results[1]));
  };
  KernelRun vjp = derivative("channel_norm_vjp");
  vjp.In(dtype, q.X(), dy);
  AddGradients(vjp, q, dtype, false);
  KernelRun jvp = derivative("channel_norm_jvp");
  AddTangents(jvp, q, dtype, along, 6);
  jvp.Out(dtype, Led(q.tangents, q.X()));
  KernelRun second = derivative("channel_norm_vjp_jvp");
  second.In(dtype, q.X(), dy);
  AddTangents(second, q, dtype, along, 5);
  second.In(dtype, Led(q.tangents, q.X()), dyDot);
  AddGradients(second, q, dtype, true);

  double dot, size;
  const std::vector<Numbers> gradients = vjp.Run(threads);
  const Numbers moved = jvp.Run(threads)[0];
  const std::vector<Numbers> curved = second.Run(threads);
  for (int64_t r = 0; r < q.tangents; ++r) {
    const Normalised jets = Reference(q, given, Lift(given.at, direction, along[r]));
    const Numbers slope = Part(jets.y, &Jet::a), bend = Part(jets.y, &Jet::ab);
    const size_t at = static_cast<size_t>(r) * slope.size();
    if (r == 0) {
      Pair(gradients, direction, 0, dot, size);
      CHECK_NEAR(dot, Dot(dy, slope), epsilon * size);
    }
    const Numbers one(moved.begin() + at, moved.begin() + at + slope.size());
    CHECK(Close(one, Part(jets.y, &Jet::b)) < 4 * epsilon);
    Pair(curved, direction, r, dot, size);
    CHECK_NEAR(dot, Dot(dy, bend) + Dot(dyDot, slope, at), 4 * epsilon * size);
  }
  // The same bits again.
  CHECK(SameNumbers(vjp.Run(threads)[0], gradients[0]));
  CHECK(SameNumbers(second.Run(threads)[0], curved[0]));
}

std::vector<Problem> Problems() {
  std::vector<Problem> all;
  for (bool nhwc : {false, true}) {
    //               stage  N  C   S  G  nhwc affine1 relu residual affine2
    all.push_back({"none", 2, 6, 5, 3, nhwc, false, false, false});
    all.push_back({"none", 3, 18, 7, 2, nhwc, false, true, false, "channel"});
    all.push_back({"none", 1, 4, 9, 1, nhwc, false, true, true, "group"});
    all.push_back({"batch", 3, 5, 7, 0, nhwc, true, true, false});
    all.push_back({"batch", 2, 17, 3, 0, nhwc, false, false, true});
    all.push_back({"batch", 2, 6, 70, 3, nhwc, true, true, true, "group"});
    all.push_back({"frozen", 2, 9, 4, 0, nhwc, true, true, true});
    all.push_back({"frozen", 2, 8, 4, 2, nhwc, true, false, false, "channel"});
    all.push_back({"estimate", 2, 6, 5, 2, nhwc, true, true, false, "group"});
    Problem through{"estimate", 2, 6, 5, 2, nhwc, true, true, false, "group"};
    through.through = true;
    all.push_back(through);
    through.aboutBatch = true;
    through.groups = 0;
    through.affine2 = "none";
    all.push_back(through);
    through.warm = true;
    through.aboutBatch = false;
    all.push_back(through);
    Problem after{"estimate", 1, 3, 1, 0, nhwc, false, true, false};
    after.after = true;
    all.push_back(after);
    Problem copies{"batch", 2, 4, 6, 2, nhwc, true, true, true, "channel"};
    copies.copies = 3;
    all.push_back(copies);
  }
  return all;
}

TEST(ChannelNormMatchesItsDefinition) {
  Source source(61);
  const std::vector<Problem> problems = Problems();
  ForEachTarget([&] {
    for (const Problem& p : problems) {
      for (DType dtype : {DType::kF32, DType::kF64}) Check(p, source, dtype, 1);
    }
  });
}

// Large enough for threads, which split the samples that are too few for them.
TEST(ChannelNormOnThreads) {
  Source source(62);
  for (bool nhwc : {false, true}) {
    for (const char* stage : {"none", "batch", "frozen"}) {
      for (int64_t samples : {1, 3}) {
        Problem p{stage, samples, 18, 2003, 2, nhwc, false, true, false, "group"};
        p.tangents = 1;
        for (int threads = 2; threads <= 3; ++threads) Check(p, source, DType::kF64, threads);
      }
    }
  }
}

// Sums of squares of x itself would lose the variance here.
TEST(ChannelNormOfLargeOffsets) {
  Source source(63);
  ForEachTarget([&] {
    for (bool nhwc : {false, true}) {
      for (const char* stage : {"none", "batch", "estimate"}) {
        Problem p{stage, 2, 4, 3000, 2, nhwc, false, false, false};
        if (!p.Is("none")) p.groups = 0;
        p.rate = 1;
        p.aboutBatch = true;
        Given given;
        given.at = Draw(p, source, 1e4);
        given.mean = Numbers(4, 1e4);
        given.variance = Numbers(4, 1);
        KernelRun run = Begin("channel_norm", p, given, DType::kF32);
        run.Out(DType::kF32, p.X()).Out(DType::kF32, {1, 2, 3, 4});
        if (!p.Is("none")) run.Out(DType::kF32, {1, 4}).Out(DType::kF32, {1, 4});
        const std::vector<Numbers> results = run.Run(1);
        const Operands zero = {Numbers(given.at[0].size()), {}, {}, {}, {}, {}};
        const Normalised expected = Reference(p, given, Lift(given.at, zero, zero));
        CHECK(Close(results[0], Part(expected.y, &Jet::v)) < 1e-5);
        if (!p.Is("none")) {
          CHECK(LargestDifference(results[3], Part(expected.variance, &Jet::v)) < 1e-5);
        }
      }
    }
  });
}

TEST(ChannelNormInPlaceOfNothingAndOfBadOperands) {
  Source source(64);
  Problem p{"batch", 2, 6, 5, 2, true, false, true, true, "none"};
  Given given;
  given.at = Draw(p, source);
  const auto run = [&](const Problem& of, const Given& with) {
    KernelRun kernel = Begin("channel_norm", of, with, DType::kF32);
    kernel.Out(DType::kF32, of.X()).Out(DType::kF32, {1, of.samples, 3, of.channels});
    if (of.Is("batch"))
      kernel.Out(DType::kF32, {1, of.channels}).Out(DType::kF32, {1, of.channels});
    return kernel;
  };
  const Numbers y = run(p, given).Run(1)[0];
  CHECK(SameNumbers(run(p, given).Alias(0, 0).Run(1)[0], y));
  CHECK(SameNumbers(run(p, given).Alias(1, 0).Run(1)[0], y));
  Problem none{"none", 0, 6, 5, 2, true, false, false, false};
  given.at = Draw(none, source);
  CHECK(run(none, given).Run(2)[0].empty());
  Problem uneven{"none", 2, 6, 5, 4, true, false, false, false};
  given.at = Draw(uneven, source);
  CHECK_THROWS(run(uneven, given).Run(1), Code::kShape);
  Problem frozen{"frozen", 1, 2, 3, 0, false, false, false, false};
  given.at = Draw(frozen, source);
  given.mean = {0, 1};
  given.variance = {1, NAN};
  CHECK_THROWS(run(frozen, given).Run(1), Code::kRange);
  given.variance = {1, -1};
  CHECK_THROWS(run(frozen, given).Run(1), Code::kRange);
  given.variance = {1, 0};
  given.mean = {INFINITY, 0};
  CHECK_THROWS(run(frozen, given).Run(1), Code::kRange);
  CHECK_THROWS(KernelRun("channel_norm").Run(1), Code::kProgram);
}

}  // namespace
}  // namespace losscape::test
