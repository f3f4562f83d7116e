#include <algorithm>
#include <limits>

#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

// Sizes and operands of one attention; R tangents.
struct Problem {
  int64_t batch, heads, queries, keys, width, valueWidth, tangents = 2;
  bool tokensFirst = false, causal = false;
  Shape biasShape = {};  // none when empty
  int mask = 0;          // 0 none, 1 u8, 2 i32
  double scale = 0.3;
  Numbers q = {}, k = {}, v = {}, bias = {}, keep = {}, dOut = {};
  Numbers qDot = {}, kDot = {}, vDot = {}, biasDot = {}, dOutDot = {};

  Shape Tokens(int64_t tokens, int64_t size) const {
    return tokensFirst ? Shape{batch, tokens, heads, size} : Shape{batch, heads, tokens, size};
  }
  Shape Line() const { return {batch, heads, queries}; }
  int64_t At(int64_t bh, int64_t token, int64_t tokens, int64_t size, int64_t r = 0) const {
    const int64_t b = bh / heads, h = bh % heads;
    const int64_t row = tokensFirst ? (b * tokens + token) * heads + h : bh * tokens + token;
    return (r * batch * heads * tokens + row) * size;
  }
  int64_t BiasAt(int64_t bh, int64_t r) const {
    const int64_t b = biasShape[0] == 1 ? 0 : bh / heads, h = biasShape[1] == 1 ? 0 : bh % heads;
    return ((r * biasShape[0] + b) * biasShape[1] + h) * queries * keys;
  }
  bool Hides(int64_t bh, int64_t n, int64_t m) const {
    return (causal && m > n) || (mask != 0 && keep[bh / heads * keys + m] == 0);
  }
};

Shape Led(int64_t r, Shape shape) {
  shape.insert(shape.begin(), r);
  return shape;
}

Problem MakeProblem(Source& source, Problem p) {
  const int64_t q = Volume(p.Tokens(p.queries, p.width)), k = Volume(p.Tokens(p.keys, p.width));
  const int64_t v = Volume(p.Tokens(p.keys, p.valueWidth));
  const int64_t o = Volume(p.Tokens(p.queries, p.valueWidth));
  p.q = source.Normal(q);
  p.k = source.Normal(k);
  p.v = source.Normal(v);
  p.dOut = source.Normal(o);
  p.qDot = source.Normal(p.tangents * q);
  p.kDot = source.Normal(p.tangents * k);
  p.vDot = source.Normal(p.tangents * v);
  p.dOutDot = source.Normal(p.tangents * o);
  if (!p.biasShape.empty()) {
    p.bias = source.Normal(Volume(p.biasShape));
    p.biasDot = source.Normal(p.tangents * Volume(p.biasShape));
  }
  if (p.mask) {
    p.keep = source.Integers(p.batch * p.keys, 0, 2);
    // The last batch sees nothing.
    std::fill(p.keep.end() - p.keys, p.keep.end(), 0.0);
  }
  return p;
}

struct Results {
  Numbers o, lse, dq, dk, dv, dBias, oDot, lseDot, dqDot, dkDot, dvDot, dBiasDot;
  std::vector<const Numbers*> All() const {
    return {&o, &lse, &dq, &dk, &dv, &dBias, &oDot, &lseDot, &dqDot, &dkDot, &dvDot, &dBiasDot};
  }
};

// The definitions in program.h, in double and with whole rows of scores.
Results Oracle(const Problem& p) {
  Results y;
  const int64_t R = p.tangents, M = p.keys, D = p.width, E = p.valueWidth;
  y.o.resize(p.dOut.size());
  y.lse.resize(p.batch * p.heads * p.queries);
  y.dq.resize(p.q.size());
  y.dk.resize(p.k.size());
  y.dv.resize(p.v.size());
  y.dBias.resize(p.bias.size());
  y.oDot.resize(p.dOutDot.size());
  y.lseDot.resize(R * y.lse.size());
  y.dqDot.resize(p.qDot.size());
  y.dkDot.resize(p.kDot.size());
  y.dvDot.resize(p.vDot.size());
  y.dBiasDot.resize(p.biasDot.size());
  auto dot = [](const double* a, const double* b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
    return sum;
  };
  for (int64_t bh = 0; bh < p.batch * p.heads; ++bh) {
    for (int64_t n = 0; n < p.queries; ++n) {
      const int64_t qAt = p.At(bh, n, p.queries, D), oAt = p.At(bh, n, p.queries, E);
      const int64_t line = bh * p.queries + n;
      auto kAt = [&](int64_t m, int64_t r = 0) { return p.At(bh, m, M, D, r); };
      auto vAt = [&](int64_t m, int64_t r = 0) { return p.At(bh, m, M, E, r); };
      const double *q = &p.q[qAt], *g = &p.dOut[oAt];
      std::vector<int64_t> seen;
      Numbers P, dP;
      double max = -INFINITY, sum = 0;
      for (int64_t m = 0; m < M; ++m) {
        if (p.Hides(bh, n, m)) continue;
        seen.push_back(m);
        const double bias = p.bias.empty() ? 0 : p.bias[p.BiasAt(bh, 0) + n * M + m];
        P.push_back(p.scale * dot(q, &p.k[kAt(m)], D) + bias);
        max = std::max(max, P.back());
      }
      if (seen.empty()) continue;
      for (double& s : P) sum += std::exp(s - max);
      y.lse[line] = max + std::log(sum);
      for (double& s : P) s = std::exp(s - y.lse[line]);
      for (size_t j = 0; j < seen.size(); ++j) {
        for (int64_t e = 0; e < E; ++e) y.o[oAt + e] += P[j] * p.v[vAt(seen[j]) + e];
        dP.push_back(dot(g, &p.v[vAt(seen[j])], E));
      }
      const double D0 = dot(g, &y.o[oAt], E);
      for (size_t j = 0; j < seen.size(); ++j) {
        const double dS = P[j] * (dP[j] - D0);
        for (int64_t d = 0; d < D; ++d) {
          y.dq[qAt + d] += p.scale * dS * p.k[kAt(seen[j]) + d];
          y.dk[kAt(seen[j]) + d] += p.scale * dS * q[d];
        }
        for (int64_t e = 0; e < E; ++e) y.dv[vAt(seen[j]) + e] += P[j] * g[e];
        if (!p.bias.empty()) y.dBias[p.BiasAt(bh, 0) + n * M + seen[j]] += dS;
      }
      for (int64_t r = 0; r < R; ++r) {
        const int64_t qr = p.At(bh, n, p.queries, D, r), gr = p.At(bh, n, p.queries, E, r);
        const double *qDot = &p.qDot[qr], *gDot = &p.dOutDot[gr];
        Numbers sDot;
        double t = 0;
        for (size_t j = 0; j < seen.size(); ++j) {
          const int64_t m = seen[j];
          const double bias = p.bias.empty() ? 0 : p.biasDot[p.BiasAt(bh, r) + n * M + m];
          sDot.push_back(p.scale * (dot(qDot, &p.k[kAt(m)], D) + dot(q, &p.kDot[kAt(m, r)], D)) +
                         bias);
          t += P[j] * sDot[j];
        }
        y.lseDot[r * static_cast<int64_t>(y.lse.size()) + line] = t;
        for (size_t j = 0; j < seen.size(); ++j) {
          for (int64_t e = 0; e < E; ++e) {
            y.oDot[gr + e] +=
                P[j] * (sDot[j] - t) * p.v[vAt(seen[j]) + e] + P[j] * p.vDot[vAt(seen[j], r) + e];
          }
        }
        const double D1 = dot(gDot, &y.o[oAt], E) + dot(g, &y.oDot[gr], E);
        for (size_t j = 0; j < seen.size(); ++j) {
          const int64_t m = seen[j];
          const double pDot = P[j] * (sDot[j] - t);
          const double dPDot = dot(gDot, &p.v[vAt(m)], E) + dot(g, &p.vDot[vAt(m, r)], E);
          const double dS = P[j] * (dP[j] - D0);
          const double dSDot = pDot * (dP[j] - D0) + P[j] * (dPDot - D1);
          for (int64_t d = 0; d < D; ++d) {
            y.dqDot[qr + d] += p.scale * (dSDot * p.k[kAt(m) + d] + dS * p.kDot[kAt(m, r) + d]);
            y.dkDot[kAt(m, r) + d] += p.scale * (dSDot * q[d] + dS * qDot[d]);
          }
          for (int64_t e = 0; e < E; ++e) {
            y.dvDot[vAt(m, r) + e] += pDot * g[e] + P[j] * gDot[e];
          }
          if (!p.bias.empty()) y.dBiasDot[p.BiasAt(bh, r) + n * M + m] += dSDot;
        }
      }
    }
  }
  return y;
}

KernelRun Start(const char* name, const Problem& p, DType dtype) {
  KernelRun run(name);
  run.Number("scale", {p.scale}).Number("causal", {p.causal ? 1.0 : 0.0});
  run.String("layout", p.tokensFirst ? "bnhd" : "bhnd");
  run.Number("bias", {p.bias.empty() ? 0.0 : 1.0}).Number("mask", {p.mask ? 1.0 : 0.0});
  run.Number("biasActive", {p.bias.empty() ? 0.0 : 1.0});
  run.In(dtype, p.Tokens(p.queries, p.width), p.q).In(dtype, p.Tokens(p.keys, p.width), p.k);
  run.In(dtype, p.Tokens(p.keys, p.valueWidth), p.v);
  if (!p.bias.empty()) run.In(dtype, p.biasShape, p.bias);
  if (p.mask) run.In(p.mask == 1 ? DType::kU8 : DType::kI32, {p.batch, p.keys}, p.keep);
  return run;
}

Results RunFamily(const Problem& p, DType dtype, int threads) {
  const Shape q = p.Tokens(p.queries, p.width), k = p.Tokens(p.keys, p.width);
  const Shape v = p.Tokens(p.keys, p.valueWidth), o = p.Tokens(p.queries, p.valueWidth);
  const int64_t R = p.tangents;
  const bool bias = !p.bias.empty();
  Results y;
  auto take = [](std::vector<Numbers> from, std::vector<Numbers*> to) {
    for (size_t i = 0; i < from.size(); ++i) *to[i] = std::move(from[i]);
  };
  take(Start("attention", p, dtype).Out(dtype, o).Out(dtype, p.Line()).Run(threads),
       {&y.o, &y.lse});
  KernelRun vjp = Start("attention_vjp", p, dtype);
  vjp.In(dtype, o, y.o).In(dtype, p.Line(), y.lse).In(dtype, o, p.dOut);
  vjp.Out(dtype, q).Out(dtype, k).Out(dtype, v);
  if (bias) vjp.Out(dtype, p.biasShape);
  take(vjp.Run(threads), {&y.dq, &y.dk, &y.dv, &y.dBias});
  KernelRun jvp = Start("attention_jvp", p, dtype);
  jvp.In(dtype, o, y.o).In(dtype, p.Line(), y.lse);
  jvp.In(dtype, Led(R, q), p.qDot).In(dtype, Led(R, k), p.kDot).In(dtype, Led(R, v), p.vDot);
  if (bias) jvp.In(dtype, Led(R, p.biasShape), p.biasDot);
  take(jvp.Out(dtype, Led(R, o)).Out(dtype, Led(R, p.Line())).Run(threads), {&y.oDot, &y.lseDot});
  KernelRun both = Start("attention_vjp_jvp", p, dtype);
  both.In(dtype, o, y.o).In(dtype, p.Line(), y.lse).In(dtype, o, p.dOut);
  both.In(dtype, Led(R, q), p.qDot).In(dtype, Led(R, k), p.kDot).In(dtype, Led(R, v), p.vDot);
  if (bias) both.In(dtype, Led(R, p.biasShape), p.biasDot);
  both.In(dtype, Led(R, o), y.oDot).In(dtype, Led(R, p.Line()), y.lseDot);
  both.In(dtype, Led(R, o), p.dOutDot);
  both.Out(dtype, Led(R, q)).Out(dtype, Led(R, k)).Out(dtype, Led(R, v));
  if (bias) both.Out(dtype, Led(R, p.biasShape));
  take(both.Run(threads), {&y.dqDot, &y.dkDot, &y.dvDot, &y.dBiasDot});
  return y;
}

double Largest(const Numbers& x) {
  double largest = 1;
  for (double v : x) largest = std::max(largest, std::fabs(v));
  return largest;
}

void CheckAgainst(const Results& actual, const Results& expected, double tolerance) {
  for (size_t i = 0; i < expected.All().size(); ++i) {
    const Numbers &a = *actual.All()[i], &e = *expected.All()[i];
    CHECK(LargestDifference(a, e) <= tolerance * Largest(e));
  }
}

std::vector<Problem> Problems(Source& source) {
  std::vector<Problem> sizes = {
      {1, 1, 1, 1, 1, 1},    {2, 3, 5, 7, 3, 2},  {1, 2, 33, 50, 8, 16},     {1, 1, 65, 65, 5, 7},
      {2, 1, 1, 130, 16, 9}, {3, 2, 17, 1, 4, 4}, {1, 2, 150, 90, 6, 12, 1},
  };
  std::vector<Problem> problems;
  for (const Problem& p : sizes) {
    for (int kind = 0; kind < 6; ++kind) {
      Problem q = p;
      q.tokensFirst = kind % 2 == 1;
      q.causal = kind == 2 || kind == 5;
      q.mask = kind == 3 ? 1 : kind >= 4 ? 2 : 0;
      if (kind == 1) q.biasShape = {q.batch, q.heads, q.queries, q.keys};
      if (kind == 2) q.biasShape = {1, q.heads, q.queries, q.keys};
      if (kind == 4) q.biasShape = {q.batch, 1, q.queries, q.keys};
      if (kind == 5) q.biasShape = {q.batch, q.heads, q.queries, q.keys};
      problems.push_back(MakeProblem(source, q));
    }
  }
  return problems;
}

TEST(AttentionMatchesPlainLoops) {
  Source source(61);
  const std::vector<Problem> problems = Problems(source);
  std::vector<Results> expected;
  for (const Problem& p : problems) expected.push_back(Oracle(p));
  ForEachTarget([&] {
    for (size_t i = 0; i < problems.size(); ++i) {
      for (DType dtype : {DType::kF32, DType::kF64}) {
        for (int threads = 1; threads <= 3; ++threads) {
          CheckAgainst(RunFamily(problems[i], dtype, threads), expected[i],
                       dtype == DType::kF32 ? 2e-5 : 1e-12);
        }
      }
    }
  });
}

// Work enough for every thread, and heads that several of them share.
TEST(AttentionSharesHeadsBetweenThreads) {
  Source source(62);
  for (int kind = 0; kind < 4; ++kind) {
    Problem p{kind == 0 ? 1 : 3, 1, 330, 100, 16, 24, 2};
    p.causal = kind == 2;
    p.mask = kind == 3 ? 1 : 0;
    if (kind != 1) p.biasShape = {1, 1, p.queries, p.keys};
    p = MakeProblem(source, p);
    const Results expected = Oracle(p);
    for (int threads : {1, 2, 3, 5, 16}) {
      const Results y = RunFamily(p, DType::kF64, threads);
      CheckAgainst(y, expected, 1e-12);
      CheckAgainst(RunFamily(p, DType::kF32, threads), expected, 3e-5);
      const Results again = RunFamily(p, DType::kF64, threads);
      for (size_t i = 0; i < y.All().size(); ++i) {
        CHECK(SameNumbers(*y.All()[i], *again.All()[i]));
      }
    }
  }
}

// Rows of keys that are 4096 bytes apart are gathered.
TEST(AttentionGathersDistantKeys) {
  Source source(63);
  Problem p{1, 16, 20, 30, 64, 64, 1};
  p.tokensFirst = true;
  p = MakeProblem(source, p);
  const Results expected = Oracle(p);
  CheckAgainst(RunFamily(p, DType::kF32, 2), expected, 2e-5);
  CheckAgainst(RunFamily(p, DType::kF64, 2), expected, 1e-12);
}

TEST(AttentionOfHugeScoresAndMaskedGarbage) {
  Source source(64);
  Problem p{2, 2, 9, 11, 4, 4, 1};
  p.mask = 1;
  p = MakeProblem(source, p);
  for (double& x : p.q) x *= 200;
  for (double& x : p.k) x *= 100;  // scores of 1e4
  const Results expected = Oracle(p);
  Problem garbage = p;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t m = 0; m < p.keys; ++m) {
      if (p.keep[b * p.keys + m] != 0) continue;
      for (int64_t h = 0; h < p.heads; ++h) {
        garbage.k[p.At(b * p.heads + h, m, p.keys, 4)] = NAN;
        garbage.v[p.At(b * p.heads + h, m, p.keys, 4)] = INFINITY;
        garbage.kDot[p.At(b * p.heads + h, m, p.keys, 4)] = NAN;
      }
    }
  }
  for (const Problem& problem : {p, garbage}) {
    CheckAgainst(RunFamily(problem, DType::kF64, 2), expected, 1e-9);
    // Scores of 1e4 have an absolute error of 1e-3 in f32.
    const Results single = RunFamily(problem, DType::kF32, 2);
    for (const Numbers* numbers : single.All()) {
      for (double x : *numbers) CHECK(std::isfinite(x));
    }
  }
}

TEST(AttentionOfRowsWithoutKeysIsZero) {
  Source source(65);
  for (bool byBias : {false, true}) {
    Problem p{1, 2, 5, 4, 3, 3, 2};
    if (byBias) {
      p.biasShape = {1, 1, 5, 4};
    } else {
      p.mask = 2;
    }
    p = MakeProblem(source, p);
    if (byBias) std::fill(p.bias.begin(), p.bias.end(), -INFINITY);
    const Results y = RunFamily(p, DType::kF32, 1);
    for (const Numbers* numbers : y.All()) {
      for (double x : *numbers) CHECK(x == 0);
    }
  }
}

TEST(AttentionPropagatesNaN) {
  Source source(66);
  Problem p = MakeProblem(source, {1, 1, 3, 4, 2, 2, 1});
  p.q[2] = NAN;  // query 1
  const Results y = RunFamily(p, DType::kF32, 1);
  for (int64_t i = 0; i < 6; ++i) CHECK(std::isnan(y.o[i]) == (i / 2 == 1));
}

TEST(AttentionOfNothing) {
  Source source(67);
  const std::vector<Problem> sizes = {
      {0, 2, 3, 4, 5, 6}, {2, 2, 0, 4, 5, 6}, {2, 2, 3, 0, 5, 6}, {1, 1, 3, 4, 5, 6, 0}};
  for (Problem p : sizes) {
    p.causal = true;
    p = MakeProblem(source, p);
    for (DType dtype : {DType::kF32, DType::kF64}) {
      for (int threads : {1, 3}) CheckAgainst(RunFamily(p, dtype, threads), Oracle(p), 1e-5);
    }
  }
}

TEST(AttentionRefusesOperandsThatDoNotFit) {
  Source source(68);
  const Problem p = MakeProblem(source, {1, 1, 3, 4, 2, 2, 1});
  const Shape o = p.Tokens(3, 2);
  CHECK_THROWS(Start("attention", p, DType::kF32).Out(DType::kF32, o).Make(), Code::kProgram);
  CHECK_THROWS(Start("attention", p, DType::kF32).Out(DType::kF32, o).Out(DType::kF32, {3}).Make(),
               Code::kShape);
  CHECK_THROWS(Start("attention", p, DType::kI32).Out(DType::kI32, o).Out(DType::kI32, o).Make(),
               Code::kDType);
  Problem bad = p;
  bad.bias = Numbers(6, 0);
  bad.biasShape = {1, 1, 3, 2};
  CHECK_THROWS(
      Start("attention", bad, DType::kF32).Out(DType::kF32, o).Out(DType::kF32, p.Line()).Make(),
      Code::kShape);
}

}  // namespace
}  // namespace losscape::test
