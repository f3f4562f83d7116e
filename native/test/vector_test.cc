#include "native/cpu/vector.h"

#include <algorithm>
#include <cfloat>
#include <cstring>
#include <limits>

#include "native/cpu/combine.h"
#include "native/cpu/gram_schmidt.h"
#include "native/runtime/memory.h"
#include "native/runtime/probe.h"
#include "native/runtime/random.h"
#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

constexpr size_t kSizes[] = {0, 1, 3, 7, 15, 16, 17, 63, 100, 4095, 4096, 4097, 16384, 50001};

template <typename T>
std::vector<T> Normals(uint64_t stream, size_t n) {
  std::vector<T> x(n);
  FillNormals(11, stream, 0, n, x.data());
  return x;
}

template <typename T>
bool SameBits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <typename T>
void CheckDot() {
  for (size_t n : kSizes) {
    // One element in front, so that nothing is aligned.
    const std::vector<T> a = Normals<T>(1, n + 1), b = Normals<T>(2, n + 1);
    long double sum = 0, bound = 0;
    for (size_t i = 1; i <= n; ++i) {
      const long double term = static_cast<long double>(a[i]) * b[i];
      sum += term;
      bound += std::fabs(term);
    }
    const double dot = Dot(a.data() + 1, b.data() + 1, n, 1);
    // n additions in f64, most of them in short chains.
    CHECK_NEAR(dot, static_cast<double>(sum), 100 * DBL_EPSILON * static_cast<double>(bound));
    for (int threads : {2, 3}) CHECK(Dot(a.data() + 1, b.data() + 1, n, threads) == dot);
    const double norm = Norm(a.data() + 1, n, 2);
    CHECK_NEAR(norm * norm, Dot(a.data() + 1, a.data() + 1, n, 2), 1e-12 * (norm * norm + 1));
  }
}

TEST(VectorDotIsF64AndIndependentOfThreads) {
  ForEachTarget([] {
    CheckDot<float>();
    CheckDot<double>();
  });
  // Squares that f32 cannot hold.
  const std::vector<float> large(1000, 1e30f);
  CHECK_NEAR(Norm(large.data(), large.size(), 1) / (1e30 * std::sqrt(1000.0)), 1, 1e-6);
}

template <typename T>
void CheckSumsOfSeveral() {
  for (size_t n : kSizes) {
    const std::vector<T> a = Normals<T>(3, n), b = Normals<T>(4, n), c = Normals<T>(5, n);
    const T* const all[] = {a.data(), b.data(), c.data()};
    for (size_t count : {1, 2, 3}) {
      std::vector<double> sums(n, 0.5);
      AccumulateAll<T>(all, count, sums.data(), n, 2);
      std::vector<T> y(n), inPlace = a;
      SumAll<T>(-0.7, all, count, y.data(), n, 3);
      const T* const own[] = {inPlace.data(), b.data(), c.data()};
      SumAll<T>(-0.7, own, count, inPlace.data(), n, 1);
      CHECK(SameBits(y, inPlace));
      bool exact = true;
      for (size_t i = 0; i < n; ++i) {
        double sum = 0, added = 0.5;
        for (size_t k = 0; k < count; ++k) sum += all[k][i];
        for (size_t k = 0; k < count; ++k) added += all[k][i];
        exact = exact && y[i] == static_cast<T>(-0.7 * sum) && sums[i] == added;
      }
      CHECK(exact);
    }
  }
}

TEST(VectorSumsOfSeveralRoundOnce) {
  ForEachTarget([] {
    CheckSumsOfSeveral<float>();
    CheckSumsOfSeveral<double>();
  });
}

template <typename T>
void CheckUpdates() {
  const double eps = sizeof(T) == 4 ? FLT_EPSILON : DBL_EPSILON;
  for (size_t n : kSizes) {
    const std::vector<T> x = Normals<T>(3, n), y = Normals<T>(4, n);
    std::vector<T> scaled, moved;
    for (int threads : {1, 2, 3}) {
      std::vector<T> s(n), m = y;
      Scale(-1.7, x.data(), s.data(), n, threads);
      Axpy(0.3, x.data(), m.data(), n, threads);
      if (threads == 1) {
        scaled = s;
        moved = m;
      }
      CHECK(SameBits(s, scaled) && SameBits(m, moved));
    }
    std::vector<double> sums(n, 0.5);
    const T* const one = x.data();
    AccumulateAll(&one, 1, sums.data(), n, 2);
    std::vector<T> rounded(n), copy(n);
    Round(2.0, sums.data(), rounded.data(), n, 2);
    Copy(x.data(), copy.data(), n, 2);
    CHECK(SameBits(copy, x));
    Zero(copy.data(), n, 2);
    double worst = 0;
    bool zero = true;
    for (size_t i = 0; i < n; ++i) {
      const double a = x[i], b = y[i];
      worst = std::max(worst, std::fabs(scaled[i] + 1.7 * a) / (1 + std::fabs(a)));
      worst = std::max(worst, std::fabs(moved[i] - (b + 0.3 * a)) / (1 + std::fabs(a + b)));
      worst = std::max(worst, std::fabs(rounded[i] - (1 + 2 * a)) / (1 + std::fabs(a)));
      zero = zero && copy[i] == 0;
    }
    CHECK(worst <= 2 * eps);
    CHECK(zero);
  }
}

TEST(VectorUpdatesMatchPlainLoops) {
  ForEachTarget([] {
    CheckUpdates<float>();
    CheckUpdates<double>();
  });
}

TEST(VectorUpdatesOverflowToInfinity) {
  ForEachTarget([] {
    const std::vector<double> wide{1e300, -1e300, 1.5, 0, 1e39, -2, 1e300};
    std::vector<float> narrow(wide.size());
    Round(1, wide.data(), narrow.data(), wide.size(), 1);
    const float inf = std::numeric_limits<float>::infinity();
    CHECK(narrow == std::vector<float>({inf, -inf, 1.5f, 0, inf, -2, inf}));
    const std::vector<float> large(9, -1e30f);
    std::vector<float> scaled(9);
    Scale(1e30, large.data(), scaled.data(), 9, 1);
    CHECK(scaled == std::vector<float>(9, -inf));
  });
}

TEST(SegmentsAreChecked) {
  CHECK((Segments{{0, 64}, {10, 36}}.Logical() == 46));
  Segments{{0, 64}, {64, 36}}.Check(100);
  CHECK_THROWS((Segments{{0, 64}, {65, 5}}.Check(100)), Code::kShape);
  CHECK_THROWS((Segments{{0, 64}, {64, 37}}.Check(100)), Code::kShape);
  CHECK_THROWS((Segments{{0}, {1, 2}}.Check(100)), Code::kShape);
  std::vector<float> x(20, 1);
  ZeroPadding(Segments{{2, 9}, {3, 4}}, x.data(), x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    CHECK(x[i] == ((i >= 2 && i < 5) || (i >= 9 && i < 13) ? 1 : 0));
  }
}

template <typename T>
void CheckProbe(ProbeKind kind) {
  const Segments segments{{0, 64, 30080}, {37, 30000, 33}};
  const size_t storage = 30150, n = segments.Logical();
  std::vector<T> logical(n);
  if (kind == ProbeKind::kNormal) FillNormals(5, 6, 0, n, logical.data());
  if (kind == ProbeKind::kUniform) FillUniforms(5, 6, 0, n, logical.data());
  if (kind == ProbeKind::kRademacher) FillRademacher(5, 6, 0, n, logical.data());
  for (int threads : {1, 2, 3}) {
    std::vector<T> x(storage, T{9}), expected(storage, T{0});
    FillProbe(kind, 5, 6, segments, x.data(), storage, threads);
    auto from = logical.begin();
    for (size_t k = 0; k < 3; ++k) {
      std::copy_n(from, segments.lengths[k],
                  expected.begin() + static_cast<ptrdiff_t>(segments.offsets[k]));
      from += static_cast<ptrdiff_t>(segments.lengths[k]);
    }
    CHECK(SameBits(x, expected));
  }
}

TEST(ProbesAreKeyedByLogicalIndex) {
  for (ProbeKind kind : {ProbeKind::kRademacher, ProbeKind::kNormal, ProbeKind::kUniform}) {
    CheckProbe<float>(kind);
    CheckProbe<double>(kind);
  }
}

// Rows of a basis, aligned and padded as Gram-Schmidt wants them.
template <typename T>
class Rows {
 public:
  Rows(size_t count, size_t n) : n_(n), stride_(PadToBasis(n)), memory_("buffer", count * Bytes()) {
    for (size_t r = 0; r < count; ++r) {
      rows_.push_back(reinterpret_cast<T*>(memory_.data()) + r * stride_);
    }
  }
  T* operator[](size_t r) const { return rows_[r]; }
  const T* const* data() const { return rows_.data(); }
  size_t stride() const { return stride_; }
  void Fill(size_t r) { FillNormals(21, r, 0, n_, rows_[r]); }
  void Scale(size_t r, double factor) { losscape::Scale(factor, rows_[r], rows_[r], n_, 1); }

 private:
  size_t Bytes() const { return stride_ * sizeof(T); }

  size_t n_, stride_;
  Allocation memory_;
  std::vector<T*> rows_;
};

template <typename T>
double LargestDot(const Rows<T>& rows, size_t count, size_t n) {
  double worst = 0;
  for (size_t r = 0; r < count; ++r) {
    worst = std::max(worst, std::fabs(Dot(rows[r], rows[count], n, 1)));
  }
  return worst;
}

// Builds an orthonormal basis vector by vector; every new one starts with much of the old ones.
template <typename T>
void CheckGramSchmidt(size_t n, size_t count, double mixture) {
  const double eps = sizeof(T) == 4 ? FLT_EPSILON : DBL_EPSILON;
  Rows<T> rows(count + 1, n);
  GramSchmidt<T> kernel;
  std::vector<double> removed(count);
  for (size_t r = 0; r <= count; ++r) {
    rows.Fill(r);
    rows.Scale(r, 1 / Norm(rows[r], n, 1));
    for (size_t k = 0; k < r; ++k) Axpy(mixture, rows[k], rows[r], n, 1);
    const double before = Norm(rows[r], n, 1);
    const double expected = r > 0 ? Dot(rows[r - 1], rows[r], n, 1) : 0;
    const GramSchmidtNorms norms =
        kernel.Twice(rows.data(), r, rows[r], rows.stride(), removed.data(), 2);
    CHECK_NEAR(norms.before, before, 1e-9 * before);
    CHECK_NEAR(norms.after, Norm(rows[r], n, 1), 1e-9);
    if (r > 0) CHECK_NEAR(removed[r - 1], expected, 8 * eps * before);
    rows.Scale(r, 1 / norms.after);
    // f32: rounding of w alone. f64: that of sums of n terms (in one chain on the scalar target),
    // larger by ||w|| / what is left of it, at most 10.
    CHECK(LargestDot(rows, r, n) <= (sizeof(T) == 4 ? 0.5 : 40) * eps);
  }
}

TEST(GramSchmidtTwiceIsOrthogonalToRounding) {
  ForEachTarget([] {
    for (size_t n : {65, 200, 1000, 5000}) {
      for (double mixture : {0.0, 1.0, 30.0}) {
        CheckGramSchmidt<float>(n, 21, mixture);
        CheckGramSchmidt<double>(n, 21, mixture);
      }
    }
  });
}

template <typename T>
void CheckThreads() {
  const size_t n = 40000, count = 11;
  Rows<T> rows(count, n);
  for (size_t r = 0; r < count; ++r) {
    rows.Fill(r);
    rows.Scale(r, 1 / Norm(rows[r], n, 1));
  }
  std::vector<std::vector<double>> all;
  std::vector<std::vector<T>> vectors;
  for (int threads : {1, 2, 3}) {
    for (int passes : {1, 2}) {
      Rows<T> w(1, n);
      FillNormals(21, 99, 0, n, w[0]);
      GramSchmidt<T> kernel;
      std::vector<double> removed(count);
      const GramSchmidtNorms norms =
          passes == 1 ? kernel.Once(rows.data(), count, w[0], w.stride(), removed.data(), threads)
                      : kernel.Twice(rows.data(), count, w[0], w.stride(), removed.data(), threads);
      removed.push_back(norms.before);
      removed.push_back(norms.after);
      all.push_back(removed);
      vectors.emplace_back(w[0], w[0] + n);
    }
  }
  for (size_t k = 2; k < all.size(); ++k) {
    CHECK(SameBits(all[k], all[k % 2]));
    CHECK(SameBits(vectors[k], vectors[k % 2]));
  }
}

TEST(GramSchmidtDoesNotDependOnThreads) {
  CheckThreads<float>();
  CheckThreads<double>();
}

// Rows that were known may be taken again after Truncate: the same bits.
TEST(GramSchmidtTruncates) {
  const size_t n = 3000, count = 7;
  Rows<float> rows(count, n), w(2, n);
  GramSchmidt<float> kernel;
  std::vector<double> first(count), second(count);
  for (size_t r = 0; r < count; ++r) {
    rows.Fill(r);
    kernel.Twice(rows.data(), r, rows[r], rows.stride(), first.data(), 2);
    rows.Scale(r, 1 / Norm(rows[r], n, 1));
  }
  for (size_t k : {0, 1}) FillNormals(3, 3, 0, n, w[k]);
  kernel.Twice(rows.data(), count, w[0], w.stride(), first.data(), 2);
  kernel.Truncate(2);
  kernel.Twice(rows.data(), count, w[1], w.stride(), second.data(), 2);
  CHECK(SameBits(first, second));
}

template <typename T>
void CheckCombine(size_t n, size_t rows, size_t count) {
  const std::vector<T> basis = Normals<T>(7, rows * n);
  const std::vector<double> c = Normals<double>(8, rows * count);
  std::vector<const T*> pointers;
  for (size_t j = 0; j < rows; ++j) pointers.push_back(basis.data() + j * n);
  std::vector<T> out(count * (n + 3)), again;
  CombineRows(pointers.data(), rows, c.data(), count, out.data(), n + 3, n, 1);
  for (int threads : {2, 3}) {
    again.assign(out.size(), T{0});
    CombineRows(pointers.data(), rows, c.data(), count, again.data(), n + 3, n, threads);
    CHECK(SameBits(out, again));
  }
  const double eps = sizeof(T) == 4 ? FLT_EPSILON : 1e-14;
  double worst = 0;
  for (size_t k = 0; k < count; ++k) {
    for (size_t i = 0; i < n; ++i) {
      double sum = 0, bound = 0;
      for (size_t j = 0; j < rows; ++j) {
        sum += c[k * rows + j] * static_cast<double>(basis[j * n + i]);
        bound += std::fabs(c[k * rows + j] * static_cast<double>(basis[j * n + i]));
      }
      worst = std::max(worst, std::fabs(out[k * (n + 3) + i] - sum) / (bound + 1e-30));
    }
  }
  CHECK(worst <= eps);
}

TEST(CombineRowsMatchesPlainLoops) {
  ForEachTarget([] {
    for (size_t n : {1, 513, 1500}) {
      CheckCombine<float>(n, 5, 3);
      CheckCombine<double>(n, 9, 6);
    }
  });
}

}  // namespace
}  // namespace losscape::test
