#include <algorithm>

#include "native/test/kernel_run.h"

namespace losscape::test {
namespace {

struct Geometry {
  int64_t batch, channels, filters, groups;
  Shape input, kernel;
  Numbers stride, before, after, dilation;
};

enum Kind { kForward, kData, kWeights };
const char* const kNames[] = {"convolution", "convolution_data", "convolution_weights"};

Shape OutputSpace(const Geometry& g) {
  Shape output;
  for (size_t axis = 0; axis < g.input.size(); ++axis) {
    const double extent = g.dilation[axis] * (g.kernel[axis] - 1) + 1;
    const double room = g.input[axis] + g.before[axis] + g.after[axis] - extent;
    output.push_back(static_cast<int64_t>(room / g.stride[axis]) + 1);
  }
  return output;
}

Shape Images(int64_t batch, int64_t channels, const Shape& space, bool last) {
  Shape shape = {batch};
  if (!last) shape.push_back(channels);
  shape.insert(shape.end(), space.begin(), space.end());
  if (last) shape.push_back(channels);
  return shape;
}

Shape Filters(const Geometry& g) {
  Shape shape = {g.filters, g.channels / g.groups};
  shape.insert(shape.end(), g.kernel.begin(), g.kernel.end());
  return shape;
}

// Adds every term a b onto y, and |a b| onto bound, by plain loops.
void AddTerms(const Geometry& g, bool last, Kind kind, const double* a, const double* b, double* y,
              double* bound) {
  const Shape output = OutputSpace(g);
  const int64_t inputs = Volume(g.input), outputs = Volume(output), taps = Volume(g.kernel);
  const int64_t depth = g.channels / g.groups, width = g.filters / g.groups;
  const auto at = [last](int64_t n, int64_t c, int64_t p, int64_t channels, int64_t points) {
    return last ? (n * points + p) * channels + c : (n * channels + c) * points + p;
  };
  for (int64_t q = 0; q < outputs; ++q) {
    for (int64_t t = 0; t < taps; ++t) {
      int64_t p = 0, leftQ = q, leftT = t, scale = 1;
      bool inside = true;
      for (size_t axis = g.input.size(); axis-- > 0;) {
        const int64_t x = leftQ % output[axis] * static_cast<int64_t>(g.stride[axis]) -
                          static_cast<int64_t>(g.before[axis]) +
                          leftT % g.kernel[axis] * static_cast<int64_t>(g.dilation[axis]);
        inside = inside && x >= 0 && x < g.input[axis];
        p += x * scale;
        scale *= g.input[axis];
        leftQ /= output[axis];
        leftT /= g.kernel[axis];
      }
      if (!inside) continue;
      for (int64_t n = 0; n < g.batch; ++n) {
        for (int64_t o = 0; o < g.filters; ++o) {
          for (int64_t c = 0; c < depth; ++c) {
            const int64_t ix = at(n, o / width * depth + c, p, g.channels, inputs);
            const int64_t iy = at(n, o, q, g.filters, outputs);
            const int64_t iw = (o * depth + c) * taps + t;
            const int64_t index[] = {iy, ix, iw};
            const double term = kind == kForward ? a[ix] * b[iw]
                                : kind == kData  ? a[iy] * b[iw]
                                                 : a[ix] * b[iy];
            y[index[kind]] += term;
            bound[index[kind]] += std::fabs(term);
          }
        }
      }
    }
  }
}

KernelRun Prepare(const Geometry& g, bool last, Kind kind) {
  KernelRun run(kNames[kind]);
  run.Number("stride", g.stride).Number("before", g.before).Number("after", g.after);
  run.Number("dilation", g.dilation).Number("groups", {static_cast<double>(g.groups)});
  run.String("layout", last ? "nhwc" : "nchw");
  return run;
}

struct Shapes {
  Shape a, b, y;
};

Shapes ShapesOf(const Geometry& g, bool last, Kind kind) {
  const Shape x = Images(g.batch, g.channels, g.input, last);
  const Shape y = Images(g.batch, g.filters, OutputSpace(g), last), w = Filters(g);
  switch (kind) {
    case kForward:
      return {x, w, y};
    case kData:
      return {y, w, x};
    case kWeights:
      break;
  }
  return {x, y, w};
}

// The number of terms of an element is at most the elements of the larger operand.
void CheckClose(const Numbers& y, const Numbers& expected, const Numbers& bound, DType dtype,
                const Geometry& g, const char* name) {
  const double epsilon = dtype == DType::kF32 ? 1e-6 : 1e-14;
  bool close = y.size() == expected.size();
  for (size_t i = 0; close && i < y.size(); ++i) {
    close = std::fabs(y[i] - expected[i]) <= epsilon * (bound[i] + 1e-30);
  }
  if (close) return;
  std::string text = std::string(name) + " of " + std::to_string(g.batch) + "x" +
                     std::to_string(g.channels) + "->" + std::to_string(g.filters) + "/" +
                     std::to_string(g.groups);
  for (size_t i = 0; i < g.input.size(); ++i) {
    text += " " + std::to_string(g.input[i]) + "k" + std::to_string(g.kernel[i]);
  }
  Fail(__FILE__, __LINE__, text + (dtype == DType::kF32 ? " f32" : " f64"));
}

const Geometry kGeometries[] = {
    {2, 16, 16, 1, {8, 8}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 12, 32, 1, {9, 13}, {3, 2}, {2, 1}, {1, 2}, {2, 0}, {1, 2}},
    {1, 4, 16, 1, {7, 6}, {3, 3}, {1, 1}, {5, 4}, {4, 5}, {1, 1}},
    {3, 3, 16, 1, {9, 7}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 16, 32, 1, {8, 8}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
    {1, 16, 24, 1, {9, 11}, {3, 3}, {2, 2}, {0, 1}, {1, 0}, {1, 1}},
    {2, 5, 7, 1, {6, 5}, {2, 3}, {1, 2}, {0, 2}, {1, 0}, {1, 1}},
    {2, 1, 1, 1, {4, 4}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, {1, 1}},
    {3, 8, 12, 1, {5, 6}, {1, 1}, {1, 1}, {0, 0}, {0, 0}, {1, 1}},
    {2, 16, 8, 1, {7, 6}, {1, 1}, {2, 2}, {0, 0}, {0, 0}, {1, 1}},
    {1, 16, 16, 1, {12, 12}, {3, 3}, {1, 1}, {2, 2}, {2, 2}, {2, 2}},
    {2, 4, 6, 2, {7, 7}, {3, 2}, {1, 3}, {1, 0}, {0, 1}, {2, 1}},
    {2, 16, 32, 2, {6, 6}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 16, 16, 4, {9, 8}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 12, 24, 6, {6, 7}, {3, 3}, {2, 1}, {1, 1}, {1, 1}, {1, 1}},
    {2, 5, 5, 5, {6, 7}, {3, 2}, {2, 1}, {1, 2}, {0, 1}, {1, 2}},
    {2, 16, 16, 16, {7, 9}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {1, 6, 12, 6, {8, 5}, {3, 3}, {2, 2}, {1, 1}, {1, 1}, {1, 1}},
    {2, 16, 16, 1, {3, 3}, {3, 3}, {1, 1}, {0, 0}, {0, 0}, {1, 1}},
    {1, 2, 3, 1, {2, 2}, {3, 3}, {1, 1}, {3, 4}, {4, 3}, {1, 1}},
    {2, 8, 16, 1, {9}, {5}, {2}, {2}, {1}, {1}},
    {2, 6, 6, 3, {10}, {3}, {1}, {0}, {2}, {3}},
    {1, 8, 16, 1, {4, 5, 6}, {3, 2, 3}, {1, 2, 1}, {1, 0, 1}, {1, 1, 1}, {1, 1, 1}},
    {2, 3, 4, 1, {1, 4, 4}, {1, 3, 3}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, {1, 1, 1}},
    {1, 64, 64, 1, {8, 8}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}},
    {1, 20, 40, 1, {6, 5}, {5, 5}, {4, 4}, {2, 2}, {2, 2}, {1, 1}},
};

TEST(ConvolutionMatchesPlainLoops) {
  Source source(1);
  for (const Geometry& g : kGeometries) {
    for (Kind kind : {kForward, kData, kWeights}) {
      for (bool last : {true, false}) {
        const Shapes shapes = ShapesOf(g, last, kind);
        const Numbers a = source.Normal(Volume(shapes.a)), b = source.Normal(Volume(shapes.b));
        const Numbers c = source.Normal(Volume(shapes.y));
        Numbers plain(c.size()), bound(c.size());
        AddTerms(g, last, kind, a.data(), b.data(), plain.data(), bound.data());
        for (DType dtype : {DType::kF32, DType::kF64}) {
          for (int mode = 0; mode < 3; ++mode) {  // without c, with c, with c in y's place
            KernelRun run = Prepare(g, last, kind);
            run.In(dtype, shapes.a, a).In(dtype, shapes.b, b);
            if (mode) run.In(dtype, shapes.y, c);
            run.Out(dtype, shapes.y);
            if (mode == 2) run.Alias(2, 0);
            Numbers expected = plain, size = bound;
            for (size_t i = 0; mode && i < c.size(); ++i) {
              expected[i] += c[i];
              size[i] += std::fabs(c[i]);
            }
            CheckClose(run.Run(1 + mode)[0], expected, size, dtype, g, kNames[kind]);
          }
        }
      }
    }
  }
}

TEST(ConvolutionRepeatsOverLeadingAxes) {
  Source source(2);
  const Geometry g{2, 4, 8, 1, {5, 4}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}};
  struct Leads {
    Shape a, b, y;
  };
  const Leads cases[] = {{{3}, {}, {3}},           {{}, {3}, {3}},        {{3}, {3}, {3}},
                         {{2, 1}, {1, 3}, {2, 3}}, {{2, 3}, {3}, {2, 3}}, {{0}, {}, {0}}};
  const auto with = [](const Shape& lead, const Shape& own) {
    Shape shape = lead;
    shape.insert(shape.end(), own.begin(), own.end());
    return shape;
  };
  for (const Leads& lead : cases) {
    for (Kind kind : {kForward, kData, kWeights}) {
      const Shapes own = ShapesOf(g, true, kind);
      const Numbers a = source.Normal(Volume(lead.a) * Volume(own.a));
      const Numbers b = source.Normal(Volume(lead.b) * Volume(own.b));
      const int64_t count = Volume(lead.y), each = Volume(own.y);
      Numbers expected(count * each), bound(count * each);
      for (int64_t i = 0; i < count; ++i) {
        int64_t left = i, fromA = 0, fromB = 0, strideA = 1, strideB = 1;
        for (size_t back = 1; back <= lead.y.size(); ++back) {
          const int64_t index = left % lead.y[lead.y.size() - back];
          left /= lead.y[lead.y.size() - back];
          const int64_t sizeA = back <= lead.a.size() ? lead.a[lead.a.size() - back] : 1;
          const int64_t sizeB = back <= lead.b.size() ? lead.b[lead.b.size() - back] : 1;
          if (sizeA > 1) fromA += index * strideA;
          if (sizeB > 1) fromB += index * strideB;
          strideA *= sizeA;
          strideB *= sizeB;
        }
        AddTerms(g, true, kind, a.data() + fromA * Volume(own.a), b.data() + fromB * Volume(own.b),
                 expected.data() + i * each, bound.data() + i * each);
      }
      for (DType dtype : {DType::kF32, DType::kF64}) {
        for (int threads = 1; threads <= 3; ++threads) {
          KernelRun run = Prepare(g, true, kind);
          run.In(dtype, with(lead.a, own.a), a).In(dtype, with(lead.b, own.b), b);
          run.Out(dtype, with(lead.y, own.y));
          CheckClose(run.Run(threads)[0], expected, bound, dtype, g, kNames[kind]);
        }
      }
    }
  }
}

TEST(ConvolutionIsDeterministic) {
  Source source(3);
  for (const Geometry& g : {kGeometries[0], kGeometries[3], kGeometries[11]}) {
    for (Kind kind : {kForward, kData, kWeights}) {
      const Shapes shapes = ShapesOf(g, true, kind);
      const Numbers a = source.Normal(Volume(shapes.a)), b = source.Normal(Volume(shapes.b));
      for (DType dtype : {DType::kF32, DType::kF64}) {
        for (int threads = 1; threads <= 3; ++threads) {
          const auto run = [&] {
            return Prepare(g, true, kind)
                .In(dtype, shapes.a, a)
                .In(dtype, shapes.b, b)
                .Out(dtype, shapes.y)
                .Run(threads)[0];
          };
          CHECK(SameNumbers(run(), run()));
        }
      }
    }
  }
}

TEST(ConvolutionOfNoImages) {
  Geometry g = kGeometries[0];
  g.batch = 0;
  const int64_t weights = Volume(Filters(g));
  for (DType dtype : {DType::kF32, DType::kF64}) {
    for (bool last : {true, false}) {
      for (Kind kind : {kForward, kData}) {
        const Shapes shapes = ShapesOf(g, last, kind);
        KernelRun run = Prepare(g, last, kind);
        run.In(dtype, shapes.a, {}).In(dtype, shapes.b, Numbers(weights, 1)).Out(dtype, shapes.y);
        CHECK(run.Run(2)[0].empty());
      }
      const Shapes shapes = ShapesOf(g, last, kWeights);
      KernelRun zero = Prepare(g, last, kWeights);
      zero.In(dtype, shapes.a, {}).In(dtype, shapes.b, {}).Out(dtype, shapes.y);
      CHECK(SameNumbers(zero.Run(2)[0], Numbers(weights)));
      KernelRun kept = Prepare(g, last, kWeights);
      kept.In(dtype, shapes.a, {}).In(dtype, shapes.b, {});
      kept.In(dtype, shapes.y, Numbers(weights, 3)).Out(dtype, shapes.y);
      CHECK(SameNumbers(kept.Run(2)[0], Numbers(weights, 3)));
    }
  }
}

TEST(ConvolutionRefusesShapesThatDoNotFit) {
  const DType f = DType::kF32;
  const Geometry g{1, 4, 8, 2, {5, 4}, {3, 3}, {1, 1}, {1, 1}, {1, 1}, {1, 1}};
  const auto make = [&](const Shape& x, const Shape& w, const Shape& y, DType dtype) {
    return Prepare(g, true, kForward).In(dtype, x, {}).In(dtype, w, {}).Out(dtype, y).Make();
  };
  CHECK(make({1, 5, 4, 4}, {8, 2, 3, 3}, {1, 5, 4, 8}, f) != nullptr);
  CHECK_THROWS(make({1, 5, 4, 4}, {8, 4, 3, 3}, {1, 5, 4, 8}, f), Code::kShape);
  CHECK_THROWS(make({1, 5, 4, 5}, {8, 2, 3, 3}, {1, 5, 4, 8}, f), Code::kShape);
  CHECK_THROWS(make({1, 5, 4, 4}, {8, 2, 3, 3}, {1, 5, 5, 8}, f), Code::kShape);
  CHECK_THROWS(make({1, 5, 4, 4}, {8, 2, 9, 3}, {1, 5, 4, 8}, f), Code::kShape);
  CHECK_THROWS(make({2, 5, 4, 4}, {8, 2, 3, 3}, {1, 5, 4, 8}, f), Code::kShape);
  CHECK_THROWS(make({5, 4, 4}, {8, 2, 3, 3}, {1, 5, 4, 8}, f), Code::kShape);
  CHECK_THROWS(make({1, 5, 4, 4}, {8, 2, 3, 3}, {1, 5, 4, 8}, DType::kI32), Code::kDType);
  CHECK_THROWS(Prepare(g, true, kForward)
                   .Number("stride", {1})
                   .In(f, {1, 5, 4, 4}, {})
                   .In(f, {8, 2, 3, 3}, {})
                   .Out(f, {1, 5, 4, 8})
                   .Make(),
               Code::kProgram);
  CHECK_THROWS(Prepare(g, true, kForward)
                   .String("layout", "nwhc")
                   .In(f, {1, 5, 4, 4}, {})
                   .In(f, {8, 2, 3, 3}, {})
                   .Out(f, {1, 5, 4, 8})
                   .Make(),
               Code::kProgram);
}

}  // namespace
}  // namespace losscape::test
