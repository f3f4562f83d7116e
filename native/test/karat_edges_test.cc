#include <algorithm>
#include <cmath>
#include <string>

#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

// A number with one derivative, nested for more: the oracle knows the functions alone.
template <class N>
struct Slope {
  N v, d;
  Slope(double c = 0) : v(c), d(0) {}
  Slope(N value, N derivative) : v(value), d(derivative) {}
};
template <class N>
Slope<N> operator+(Slope<N> a, Slope<N> b) {
  return {a.v + b.v, a.d + b.d};
}
template <class N>
Slope<N> operator-(Slope<N> a, Slope<N> b) {
  return {a.v - b.v, a.d - b.d};
}
template <class N>
Slope<N> operator*(Slope<N> a, Slope<N> b) {
  return {a.v * b.v, a.d * b.v + a.v * b.d};
}
template <class N>
Slope<N> operator/(Slope<N> a, Slope<N> b) {
  return {a.v / b.v, (a.d * b.v - a.v * b.d) / (b.v * b.v)};
}
double Sin(double x) { return std::sin(x); }
double Cos(double x) { return std::cos(x); }
double Exp(double x) { return std::exp(x); }
double Plain(double x) { return x; }
template <class N>
Slope<N> Cos(Slope<N> a);
template <class N>
Slope<N> Sin(Slope<N> a) {
  return {Sin(a.v), Cos(a.v) * a.d};
}
template <class N>
Slope<N> Cos(Slope<N> a) {
  return {Cos(a.v), N(-1) * Sin(a.v) * a.d};
}
template <class N>
Slope<N> Exp(Slope<N> a) {
  return {Exp(a.v), Exp(a.v) * a.d};
}
template <class N>
double Plain(Slope<N> a) {
  return Plain(a.v);
}
template <class N>
N Abs(N a) {
  return Plain(a) < 0 ? N(-1) * a : a;
}

using D1 = Slope<double>;
using D2 = Slope<D1>;

constexpr double kPi = 3.14159265358979323846;
constexpr double kOmega = 4;

template <class N>
N Phi(const std::string& basis, N x, const N* theta, double window) {
  if (basis == "rational") {
    N p(0), q(0);
    for (int i = 5; i >= 0; --i) p = p * x + theta[i];
    for (int j = 9; j >= 6; --j) q = (q + theta[j]) * x;
    return p / (N(1) + Abs(q));
  }
  const N u = (x - theta[1]) / theta[2];
  const N e = Exp(N(-0.5) * u * u);
  if (basis == "mexican-hat") {
    return theta[0] * N(2 / (std::sqrt(3) * std::pow(kPi, 0.25))) * (u * u - N(1)) * e;
  }
  if (basis == "morlet") return theta[0] * Cos(N(kOmega) * u) * e;
  if (basis == "dog") return N(-1) * theta[0] * u * e;
  if (basis == "meyer") {
    const N v = Abs(u);
    if (Plain(v) >= 1) return N(0) * x;
    N m(1);
    if (Plain(v) > 0.5) {
      const N t = N(2) * v - N(1);
      m = Cos(N(kPi / 2) * t * t * t * t * (N(35) - N(84) * t + N(70) * t * t - N(20) * t * t * t));
    }
    return theta[0] * Sin(N(kPi) * v) * m;
  }
  N sinc(0);
  if (std::fabs(Plain(u)) < 0.5) {
    N term(1);
    for (int k = 0; k < 12; ++k) {
      sinc = sinc + term;
      term = term * N(-1.0 / ((2 * k + 2) * (2 * k + 3))) * u * u;
    }
  } else {
    sinc = Sin(u) / u;
  }
  return theta[0] * N(window) * sinc;
}

struct Problem {
  std::string basis;
  std::string layout;
  int64_t B, H, N, M, D, r, E, R;
  bool masked;
  double scale;
  Numbers q, k, theta, mask, g;
  Numbers tq, tk, tt, tg, uq, uk, ut;

  int64_t P() const { return basis == "rational" ? 10 : 3; }
  Shape Tokens(int64_t n) const { return layout == "bhnd" ? Shape{B, H, n, D} : Shape{B, n, H, D}; }
  int64_t At(int64_t tokens, int64_t b, int64_t h, int64_t n) const {
    return layout == "bhnd" ? ((b * H + h) * tokens + n) * D : ((b * tokens + n) * H + h) * D;
  }
  double Window(int64_t m) const {
    if (basis != "shannon" || M == 1) return 1;
    return 0.54 - 0.46 * std::cos(2 * kPi * static_cast<double>(m) / static_cast<double>(M - 1));
  }
};

Problem MakeProblem(Source& source, const char* basis, const char* layout, Shape sizes, int64_t E,
                    int64_t R, bool masked) {
  Problem p{basis, layout, sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5],
            E,     R,      masked,   0.5,      {},       {},       {},       {},
            {},    {},     {},       {},       {},       {},       {},       {}};
  auto thetas = [&](int64_t sets, double spread) {
    Numbers t = source.Normal(sets * p.H * p.P() * p.M * p.r, spread);
    return t;
  };
  p.q = source.Normal(p.B * p.H * p.N * p.D);
  p.k = source.Normal(p.B * p.H * p.M * p.D);
  p.theta = thetas(E, 0.7);
  const int64_t edges = p.M * p.r;
  if (p.P() == 3) {
    // Scales of either sign, away from 0.
    for (int64_t eh = 0; eh < E * p.H; ++eh) {
      for (int64_t i = 0; i < edges; ++i) {
        const double sign = source.Below(4) == 0 ? -1 : 1;
        p.theta[(eh * 3 + 2) * edges + i] = sign * source.Uniform(0.5, 2);
      }
    }
  }
  p.mask = source.Integers(p.B * p.M, 0, 2);
  p.g = source.Normal(p.B * p.H * p.N * p.r);
  p.tq = source.Normal(R * p.q.size());
  p.tk = source.Normal(R * p.k.size());
  p.tt = thetas(R * E, 0.5);
  p.tg = source.Normal(R * p.g.size());
  p.uq = source.Normal(R * p.q.size());
  p.uk = source.Normal(R * p.k.size());
  p.ut = thetas(R * E, 0.5);
  return p;
}

struct Results {
  Numbers z, dq, dk, dtheta, jvp, dqT, dkT, dthetaT, jvpJvp;
};

Results Oracle(const Problem& p) {
  Results y;
  const int64_t P = p.P();
  y.z.resize(p.g.size());
  y.dq.resize(p.q.size());
  y.dk.resize(p.k.size());
  y.dtheta.resize(p.theta.size());
  y.jvp.resize(p.R * p.g.size());
  y.jvpJvp.resize(p.R * p.g.size());
  y.dqT.resize(p.R * p.q.size());
  y.dkT.resize(p.R * p.k.size());
  y.dthetaT.resize(p.R * p.theta.size());
  for (int64_t R = 0; R < std::max<int64_t>(1, p.R); ++R) {
    for (int64_t b = 0; b < p.B; ++b) {
      for (int64_t h = 0; h < p.H; ++h) {
        for (int64_t n = 0; n < p.N; ++n) {
          for (int64_t m = 0; m < p.M; ++m) {
            if (p.masked && p.mask[b * p.M + m] == 0) continue;
            const int64_t iq = p.At(p.N, b, h, n), ik = p.At(p.M, b, h, m);
            const int64_t jq = R * static_cast<int64_t>(p.q.size()) + iq;
            const int64_t jk = R * static_cast<int64_t>(p.k.size()) + ik;
            D2 x(0);  // .v.d along t, .d.v along u
            const bool tangents = p.R > 0;
            for (int64_t j = 0; j < p.D; ++j) {
              const D2 q(D1(p.q[iq + j], tangents ? p.tq[jq + j] : 0),
                         D1(tangents ? p.uq[jq + j] : 0, 0));
              const D2 k(D1(p.k[ik + j], tangents ? p.tk[jk + j] : 0),
                         D1(tangents ? p.uk[jk + j] : 0, 0));
              x = x + D2(p.scale) * q * k;
            }
            for (int64_t l = 0; l < p.r; ++l) {
              const int64_t e = b * p.E / p.B;
              auto at = [&](int64_t c) { return (((e * p.H + h) * P + c) * p.M + m) * p.r + l; };
              const int64_t stride = static_cast<int64_t>(p.theta.size());
              D2 theta[10];
              for (int64_t c = 0; c < P; ++c) {
                const int64_t i = at(c), t = R * stride + i;
                theta[c] =
                    D2(D1(p.theta[i], tangents ? p.tt[t] : 0), D1(tangents ? p.ut[t] : 0, 0));
              }
              const int64_t ig = ((b * p.H + h) * p.N + n) * p.r + l;
              const int64_t jg = R * static_cast<int64_t>(p.g.size()) + ig;
              const D2 phi = Phi<D2>(p.basis, x, theta, p.Window(m));
              if (R == 0) y.z[ig] += phi.v.v;
              if (tangents) {
                y.jvp[jg] += phi.v.d;
                y.jvpJvp[jg] += phi.d.d;
              }
              // The slope along each argument, with its tangent along t.
              for (int64_t c = -1; c < P; ++c) {
                D2 a[10], at1 = D2(x.v, D1(c < 0 ? 1 : 0));
                for (int64_t i = 0; i < P; ++i) a[i] = D2(theta[i].v, D1(i == c ? 1 : 0));
                const D1 slope = Phi<D2>(p.basis, at1, a, p.Window(m)).d;
                const D1 pull = D1(p.g[ig], tangents ? p.tg[jg] : 0) * slope;
                if (c >= 0) {
                  if (R == 0) y.dtheta[at(c)] += pull.v;
                  if (tangents) y.dthetaT[R * stride + at(c)] += pull.d;
                  continue;
                }
                for (int64_t j = 0; j < p.D; ++j) {
                  const D1 q(p.q[iq + j], tangents ? p.tq[jq + j] : 0);
                  const D1 k(p.k[ik + j], tangents ? p.tk[jk + j] : 0);
                  const D1 toQ = D1(p.scale) * pull * k, toK = D1(p.scale) * pull * q;
                  if (R == 0) {
                    y.dq[iq + j] += toQ.v;
                    y.dk[ik + j] += toK.v;
                  }
                  if (tangents) {
                    y.dqT[jq + j] += toQ.d;
                    y.dkT[jk + j] += toK.d;
                  }
                }
              }
            }
          }
        }
      }
    }
  }
  return y;
}

Shape Lead(int64_t R, Shape shape) {
  shape.insert(shape.begin(), R);
  return shape;
}

KernelRun Start(const char* name, const Problem& p, DType dtype, DType maskType) {
  KernelRun run(name);
  run.String("basis", p.basis.c_str()).String("layout", p.layout.c_str());
  run.Number("scale", {p.scale}).Number("omega", {kOmega});
  run.Number("masked", {p.masked ? 1.0 : 0.0});
  run.In(dtype, p.Tokens(p.N), p.q).In(dtype, p.Tokens(p.M), p.k);
  run.In(dtype, {p.E, p.H, p.P(), p.M, p.r}, p.theta);
  if (p.masked) run.In(maskType, {p.B, p.M}, p.mask);
  return run;
}

Results RunFamily(const Problem& p, DType dtype, int threads, DType maskType = DType::kI32) {
  const Shape q = p.Tokens(p.N), k = p.Tokens(p.M), theta = {p.E, p.H, p.P(), p.M, p.r};
  const Shape z = {p.B, p.H, p.N, p.r};
  const Shape qs = Lead(p.R, q), ks = Lead(p.R, k), ts = Lead(p.R, theta), zs = Lead(p.R, z);
  Results y;
  y.z = Start("karat_edges", p, dtype, maskType).Out(dtype, z).Run(threads)[0];
  std::vector<Numbers> out = Start("karat_edges_vjp", p, dtype, maskType)
                                 .In(dtype, z, p.g)
                                 .Out(dtype, q)
                                 .Out(dtype, k)
                                 .Out(dtype, theta)
                                 .Run(threads);
  y.dq = out[0];
  y.dk = out[1];
  y.dtheta = out[2];
  y.jvp = Start("karat_edges_jvp", p, dtype, maskType)
              .In(dtype, qs, p.tq)
              .In(dtype, ks, p.tk)
              .In(dtype, ts, p.tt)
              .Out(dtype, zs)
              .Run(threads)[0];
  out = Start("karat_edges_vjp_jvp", p, dtype, maskType)
            .In(dtype, z, p.g)
            .In(dtype, qs, p.tq)
            .In(dtype, ks, p.tk)
            .In(dtype, ts, p.tt)
            .In(dtype, zs, p.tg)
            .Out(dtype, qs)
            .Out(dtype, ks)
            .Out(dtype, ts)
            .Run(threads);
  y.dqT = out[0];
  y.dkT = out[1];
  y.dthetaT = out[2];
  y.jvpJvp = Start("karat_edges_jvp_jvp", p, dtype, maskType)
                 .In(dtype, qs, p.tq)
                 .In(dtype, ks, p.tk)
                 .In(dtype, ts, p.tt)
                 .In(dtype, qs, p.uq)
                 .In(dtype, ks, p.uk)
                 .In(dtype, ts, p.ut)
                 .Out(dtype, zs)
                 .Run(threads)[0];
  return y;
}

// Relative to the largest element.
double Error(const Numbers& actual, const Numbers& expected) {
  double size = 1;
  for (double x : expected) size = std::max(size, std::fabs(x));
  return LargestDifference(actual, expected) / size;
}

double Error(const Results& a, const Results& b) {
  return std::max({Error(a.z, b.z), Error(a.dq, b.dq), Error(a.dk, b.dk), Error(a.dtheta, b.dtheta),
                   Error(a.jvp, b.jvp), Error(a.dqT, b.dqT), Error(a.dkT, b.dkT),
                   Error(a.dthetaT, b.dthetaT), Error(a.jvpJvp, b.jvpJvp)});
}

const char* const kBases[] = {"rational", "mexican-hat", "morlet", "dog", "meyer", "shannon"};

// Rounding of the scores (|x| up to 5) goes through third derivatives of up to 4^3.
double Tolerance(DType dtype) { return dtype == DType::kF32 ? 1e-4 : 1e-12; }

TEST(KaratEdgesMatchPlainLoops) {
  Source source(61);
  ForEachTarget([&] {
    for (const char* basis : kBases) {
      const Problem problems[] = {
          MakeProblem(source, basis, "bhnd", {2, 2, 19, 27, 5, 3}, 1, 2, true),
          MakeProblem(source, basis, "bnhd", {3, 1, 7, 1, 9, 2}, 3, 1, false),
          MakeProblem(source, basis, "bnhd", {1, 3, 1, 5, 1, 1}, 1, 1, true),
          MakeProblem(source, basis, "bhnd", {4, 1, 5, 3, 2, 2}, 2, 1, false),
      };
      for (const Problem& p : problems) {
        const Results expected = Oracle(p);
        for (DType dtype : {DType::kF32, DType::kF64}) {
          for (int threads = 1; threads <= 3; ++threads) {
            const DType mask = threads == 2 ? DType::kU8 : DType::kI32;
            CHECK(Error(RunFamily(p, dtype, threads, mask), expected) < Tolerance(dtype));
          }
        }
      }
    }
  });
}

TEST(KaratEdgesOfManyRowsAndThreads) {
  // Three row blocks, and groups of d theta that two or three threads share.
  Source source(62);
  for (const char* layout : {"bhnd", "bnhd"}) {
    for (int64_t batch : {1, 5}) {
      const Problem p = MakeProblem(source, "dog", layout, {batch, 1, 515, 6, 3, 2}, 1, 1, false);
      const Results expected = Oracle(p);
      for (DType dtype : {DType::kF32, DType::kF64}) {
        for (int threads = 1; threads <= 4; ++threads) {
          const Results y = RunFamily(p, dtype, threads);
          CHECK(Error(y, expected) < Tolerance(dtype));
          CHECK(SameNumbers(RunFamily(p, dtype, threads).dtheta, y.dtheta));
        }
      }
    }
  }
}

TEST(KaratEdgesIgnoreMaskedKeys) {
  Source source(63);
  for (const char* basis : kBases) {
    Problem p = MakeProblem(source, basis, "bhnd", {2, 1, 9, 6, 4, 2}, 1, 1, true);
    p.mask = {1, 0, 1, 1, 0, 1, 0, 0, 0, 0, 0, 0};
    const Results clean = RunFamily(p, DType::kF32, 1);
    for (int64_t m : {1, 4, 6, 7, 8, 9, 10, 11}) {
      const int64_t at = m < 6 ? p.At(6, 0, 0, m) : p.At(6, 1, 0, m - 6);
      for (int64_t j = 0; j < p.D; ++j) p.k[at + j] = p.tk[at + j] = NAN;
    }
    const Results y = RunFamily(p, DType::kF32, 2);
    CHECK(Error(y, clean) < 1e-6);
    // All keys of the second sample are masked.
    for (int64_t i = 18; i < 36; ++i) CHECK(y.z[i] == 0 && y.jvp[i] == 0 && y.jvpJvp[i] == 0);
    for (int64_t i = 36; i < 72; ++i) CHECK(y.dq[i] == 0 && y.dqT[i] == 0);
  }
}

TEST(KaratEdgesFarFromTheWavelets) {
  Source source(64);
  for (const char* basis : {"mexican-hat", "morlet", "dog", "meyer"}) {
    Problem p = MakeProblem(source, basis, "bhnd", {1, 1, 3, 2, 1, 1}, 1, 1, false);
    for (double far : {1e3, 1e9, 1e25}) {
      p.q = {far, -far, 2 * far};
      p.k = {1, 1};
      for (DType dtype : {DType::kF32, DType::kF64}) {
        const Results y = RunFamily(p, dtype, 1);
        for (double z : y.z) CHECK(z == 0);
        for (double d : y.dq) CHECK(d == 0);
        for (double d : y.dtheta) CHECK(d == 0);
        for (double d : y.dthetaT) CHECK(d == 0);
      }
    }
  }
}

TEST(KaratEdgesPropagateNaN) {
  Source source(65);
  for (const char* basis : kBases) {
    Problem p = MakeProblem(source, basis, "bhnd", {1, 1, 20, 4, 3, 2}, 1, 1, false);
    p.q[5 * 3] = NAN;
    const Results y = RunFamily(p, DType::kF32, 1);
    for (int64_t n = 0; n < 20; ++n) {
      CHECK(std::isnan(y.z[n * 2]) == (n == 5));
      CHECK(std::isnan(y.dq[n * 3]) == (n == 5));
    }
    CHECK(std::isnan(y.dtheta[0]) && std::isnan(y.dk[0]));
  }
}

TEST(KaratEdgesOfNothing) {
  Source source(66);
  for (Shape sizes : {Shape{0, 1, 3, 2, 2, 2}, Shape{2, 0, 3, 2, 2, 2}, Shape{2, 1, 0, 2, 2, 2},
                      Shape{2, 1, 3, 0, 2, 2}, Shape{2, 1, 3, 2, 0, 2}, Shape{2, 1, 3, 2, 2, 0}}) {
    const Problem p = MakeProblem(source, "dog", "bhnd", sizes, 1, 1, false);
    const Results expected = Oracle(p);
    for (int threads = 1; threads <= 2; ++threads) {
      CHECK(Error(RunFamily(p, DType::kF32, threads), expected) < 1e-5);
    }
  }
  Problem p = MakeProblem(source, "dog", "bhnd", {2, 1, 3, 2, 2, 2}, 1, 0, false);
  CHECK(RunFamily(p, DType::kF32, 2).jvp.empty());
}

TEST(KaratEdgesRefuseWhatDoesNotFit) {
  Source source(67);
  const Problem p = MakeProblem(source, "dog", "bhnd", {3, 1, 4, 2, 2, 2}, 1, 1, false);
  auto run = [&](Problem bad) { RunFamily(bad, DType::kF32, 1); };
  Problem bad = p;
  bad.basis = "haar";
  CHECK_THROWS(run(bad), Code::kProgram);
  bad = p;
  bad.layout = "nbhd";
  CHECK_THROWS(run(bad), Code::kProgram);
  bad = p;
  bad.E = 2;  // does not divide 3 samples
  CHECK_THROWS(run(bad), Code::kShape);
  CHECK_THROWS(RunFamily(p, DType::kBF16, 1), Code::kDType);
}

}  // namespace
}  // namespace losscape::test
