#include <cmath>

#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

using Windows = Numbers;  // begin, end, begin, end, ..

struct Image {
  bool last;  // channels last
  int64_t n, c, h, w;
  int64_t At(int64_t sample, int64_t channel, int64_t row, int64_t column) const {
    return last ? ((sample * h + row) * w + column) * c + channel
                : ((sample * c + channel) * h + row) * w + column;
  }
  Shape Sizes() const { return last ? Shape{n, h, w, c} : Shape{n, c, h, w}; }
  int64_t Volume() const { return n * c * h * w; }
  const char* Layout() const { return last ? "nhwc" : "nchw"; }
};

Image Pooled(Image image, const Windows& rows, const Windows& columns) {
  image.h = static_cast<int64_t>(rows.size()) / 2;
  image.w = static_cast<int64_t>(columns.size()) / 2;
  return image;
}

template <typename Visit>
void ForEach(const Image& y, Visit visit) {
  for (int64_t n = 0; n < y.n; ++n) {
    for (int64_t c = 0; c < y.c; ++c) {
      for (int64_t h = 0; h < y.h; ++h) {
        for (int64_t w = 0; w < y.w; ++w) visit(n, c, h, w);
      }
    }
  }
}

constexpr int kDown = 2, kAcross = 1;
const Windows kRows = {0, 3, 0, 5, 2, 7, 4, 7};
const Windows kColumns = {0, 2, 1, 4, 3, 6, 5, 6, 0, 6};

void Configure(KernelRun& run, const Image& image) {
  run.String("layout", image.Layout())
      .Number("rows", kRows)
      .Number("columns", kColumns)
      .Number("step", {kDown, kAcross});
}

struct Chosen {
  Numbers y, index;
};

Chosen Oracle(const Image& image, const Numbers& x) {
  const Image to = Pooled(image, kRows, kColumns);
  Chosen chosen{Numbers(to.Volume()), Numbers(to.Volume())};
  ForEach(to, [&](int64_t n, int64_t c, int64_t o, int64_t p) {
    double best = -INFINITY, at = kRows[2 * o] * image.w + kColumns[2 * p];
    for (int64_t h = kRows[2 * o]; h < kRows[2 * o + 1]; h += kDown) {
      for (int64_t w = kColumns[2 * p]; w < kColumns[2 * p + 1]; w += kAcross) {
        const double value = x[image.At(n, c, h, w)];
        if (value > best || std::isnan(value)) {
          best = value;
          at = static_cast<double>(h * image.w + w);
        }
      }
    }
    chosen.y[to.At(n, c, o, p)] = best;
    chosen.index[to.At(n, c, o, p)] = at;
  });
  return chosen;
}

TEST(MaxPoolAndItsLinearMaps) {
  Source source(81);
  ForEachTarget([&] {
    for (const Image& image :
         {Image{true, 2, 1, 7, 6}, Image{true, 3, 19, 7, 6}, Image{true, 1, 64, 7, 6},
          Image{false, 2, 5, 7, 6}, Image{false, 1, 1, 7, 6}, Image{true, 0, 4, 7, 6}}) {
      // Small integers: ties everywhere.
      Numbers x = source.Integers(image.Volume(), -2, 2);
      if (!x.empty()) x[x.size() / 2] = NAN;
      const Image to = Pooled(image, kRows, kColumns);
      const Chosen chosen = Oracle(image, x);
      Image many = image, manyTo = to;
      many.n *= 2;
      manyTo.n *= 2;
      const Numbers t = source.Normal(many.Volume()), g = source.Normal(manyTo.Volume());
      Numbers taken(manyTo.Volume()), scattered(many.Volume());
      ForEach(manyTo, [&](int64_t n, int64_t c, int64_t o, int64_t p) {
        const int64_t at = static_cast<int64_t>(chosen.index[to.At(n % to.n, c, o, p)]);
        taken[manyTo.At(n, c, o, p)] = t[many.At(n, c, at / image.w, at % image.w)];
        scattered[many.At(n, c, at / image.w, at % image.w)] += g[manyTo.At(n, c, o, p)];
      });
      for (DType dtype : {DType::kF32, DType::kF64}) {
        for (int threads = 1; threads <= 3; ++threads) {
          KernelRun forward("max_pool");
          Configure(forward, image);
          forward.In(dtype, image.Sizes(), x).Out(dtype, to.Sizes()).Out(DType::kI32, to.Sizes());
          const std::vector<Numbers> results = forward.Run(threads);
          CHECK(LargestDifference(results[0], chosen.y) == 0);
          CHECK(LargestDifference(results[1], chosen.index) == 0);
          KernelRun take("max_pool_take");
          Configure(take, image);
          take.In(dtype, many.Sizes(), t).In(DType::kI32, to.Sizes(), chosen.index);
          CHECK(LargestDifference(take.Out(dtype, manyTo.Sizes()).Run(threads)[0], taken) == 0);
          KernelRun scatter("max_pool_scatter");
          Configure(scatter, image);
          scatter.In(dtype, manyTo.Sizes(), g).In(DType::kI32, to.Sizes(), chosen.index);
          CHECK(LargestDifference(scatter.Out(dtype, many.Sizes()).Run(threads)[0], scattered) <
                1e-5);
        }
      }
    }
  });
}

TEST(ResampleMatchesMatrices) {
  Source source(82);
  const Windows rows = {0, 1, 1, 3, 0, 0, 2, 5}, columns = {0, 4, 2, 3, 1, 3};
  const Numbers rowWeights = {1, 0.25, 0.75, -1, 2, 0.5};
  const Numbers columnWeights = {0.1, 0.2, 0.3, 0.4, 1, 0.5, 0.5};
  ForEachTarget([&] {
    for (const Image& image : {Image{true, 2, 3, 5, 4}, Image{true, 1, 37, 5, 4},
                               Image{false, 2, 3, 5, 4}, Image{false, 0, 3, 5, 4}}) {
      const Image to = Pooled(image, rows, columns);
      const Numbers x = source.Normal(image.Volume());
      Numbers y(to.Volume());
      ForEach(to, [&](int64_t n, int64_t c, int64_t o, int64_t p) {
        int64_t a = 0, b = 0;
        for (int64_t i = 0; i < o; ++i) a += static_cast<int64_t>(rows[2 * i + 1] - rows[2 * i]);
        for (int64_t i = 0; i < p; ++i) {
          b += static_cast<int64_t>(columns[2 * i + 1] - columns[2 * i]);
        }
        for (int64_t h = rows[2 * o]; h < rows[2 * o + 1]; ++h) {
          for (int64_t w = columns[2 * p]; w < columns[2 * p + 1]; ++w) {
            y[to.At(n, c, o, p)] += rowWeights[a + h - rows[2 * o]] *
                                    columnWeights[b + w - columns[2 * p]] * x[image.At(n, c, h, w)];
          }
        }
      });
      for (DType dtype : {DType::kF32, DType::kF64}) {
        for (int threads = 1; threads <= 3; ++threads) {
          KernelRun run("resample");
          run.String("layout", image.Layout())
              .Number("rows", rows)
              .Number("columns", columns)
              .Number("rowWeights", rowWeights)
              .Number("columnWeights", columnWeights)
              .In(dtype, image.Sizes(), x)
              .Out(dtype, to.Sizes());
          CHECK(LargestDifference(run.Run(threads)[0], y) < (dtype == DType::kF32 ? 1e-5 : 1e-13));
        }
      }
    }
  });
}

TEST(PoolingRefusesWhatDoesNotFit) {
  const auto make = [](const Windows& rows, const Shape& result) {
    KernelRun run("max_pool");
    run.String("layout", "nhwc")
        .Number("rows", rows)
        .Number("columns", {0, 2})
        .Number("step", {1, 1})
        .In(DType::kF32, {1, 2, 2, 1}, Numbers(4))
        .Out(DType::kF32, result)
        .Out(DType::kI32, result);
    run.Make();
  };
  make({0, 2}, {1, 1, 1, 1});
  CHECK_THROWS(make({0, 3}, {1, 1, 1, 1}), Code::kProgram);
  CHECK_THROWS(make({1, 1}, {1, 1, 1, 1}), Code::kProgram);
  CHECK_THROWS(make({0, 2, 1}, {1, 1, 1, 1}), Code::kProgram);
  CHECK_THROWS(make({0, 2}, {1, 2, 1, 1}), Code::kShape);
}

}  // namespace
}  // namespace losscape::test
