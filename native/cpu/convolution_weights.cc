#include "native/cpu/convolution_weights.h"

#include <algorithm>

#include "native/runtime/parallel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/convolution_weights.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef LOSSCAPE_CONVOLUTION_WEIGHTS_TILE
#define LOSSCAPE_CONVOLUTION_WEIGHTS_TILE
namespace losscape {

// Rows and columns of results, and how far x and y are from one to the next.
struct WeightsTile {
  int64_t rows, columns;
  int64_t rowX, columnX, rowY, columnY;
  int64_t filters;  // from channel to channel of the sums
};

constexpr int64_t kTileChannels = 4;

}  // namespace losscape
#endif

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Floats = hn::ScalableTag<float>;

size_t TileFilters() { return 2 * hn::Lanes(Floats()); }

// sums [4, two vectors] += x^T y. Eight sums hide the latency of two multiply-adds a cycle.
void SumTile(const WeightsTile& tile, const float* x, const float* y, float* sums) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  float* const s1 = sums + tile.filters;
  float* const s2 = s1 + tile.filters;
  float* const s3 = s2 + tile.filters;
  auto a0 = hn::LoadU(d, sums), b0 = hn::LoadU(d, sums + lanes);
  auto a1 = hn::LoadU(d, s1), b1 = hn::LoadU(d, s1 + lanes);
  auto a2 = hn::LoadU(d, s2), b2 = hn::LoadU(d, s2 + lanes);
  auto a3 = hn::LoadU(d, s3), b3 = hn::LoadU(d, s3 + lanes);
  for (int64_t row = 0; row < tile.rows; ++row) {
    const float* p = x + row * tile.rowX;
    const float* q = y + row * tile.rowY;
    for (int64_t column = 0; column < tile.columns; ++column) {
      const auto y0 = hn::LoadU(d, q), y1 = hn::LoadU(d, q + lanes);
      const auto x0 = hn::Set(d, p[0]), x1 = hn::Set(d, p[1]);
      const auto x2 = hn::Set(d, p[2]), x3 = hn::Set(d, p[3]);
      a0 = hn::MulAdd(x0, y0, a0);
      b0 = hn::MulAdd(x0, y1, b0);
      a1 = hn::MulAdd(x1, y0, a1);
      b1 = hn::MulAdd(x1, y1, b1);
      a2 = hn::MulAdd(x2, y0, a2);
      b2 = hn::MulAdd(x2, y1, b2);
      a3 = hn::MulAdd(x3, y0, a3);
      b3 = hn::MulAdd(x3, y1, b3);
      p += tile.columnX;
      q += tile.columnY;
    }
  }
  hn::StoreU(a0, d, sums), hn::StoreU(b0, d, sums + lanes);
  hn::StoreU(a1, d, s1), hn::StoreU(b1, d, s1 + lanes);
  hn::StoreU(a2, d, s2), hn::StoreU(b2, d, s2 + lanes);
  hn::StoreU(a3, d, s3), hn::StoreU(b3, d, s3 + lanes);
}

// The same for all filters.
void SumRow(const WeightsTile& tile, const float* x, const float* y, float* sums) {
  const int64_t step = static_cast<int64_t>(TileFilters());
  for (int64_t o = 0; o < tile.filters; o += step) SumTile(tile, x, y + o, sums + o);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {
namespace {

HWY_EXPORT(TileFilters);
HWY_EXPORT(SumRow);

constexpr int64_t kBlockElements = 2048;  // of y: a quarter of the first cache

// Results [begin, end) of one axis whose tap lies inside the images.
struct Range {
  int64_t begin, end;
};

Range Inside(const ConvolutionSize& size, int axis, int64_t tap) {
  const int64_t shift = tap * size.dilation[axis] - size.before[axis];
  const int64_t stride = size.stride[axis];
  const int64_t begin = shift < 0 ? (-shift + stride - 1) / stride : 0;
  const int64_t room = size.input[axis] - 1 - shift;
  const int64_t end = room < 0 ? 0 : std::min(size.output[axis], room / stride + 1);
  return {begin, std::max(begin, end)};
}

}  // namespace

bool SuitsConvolutionWeights(const ConvolutionSize& size) {
  const int64_t filters = static_cast<int64_t>(HWY_DYNAMIC_DISPATCH(TileFilters)());
  const bool flat = size.input[0] == 1 && size.kernel[0] == 1 && size.output[0] == 1;
  // Two vectors of eight: wider and narrower ones were not measured.
  return size.channelsLast && size.groups == 1 && flat && filters == 16 &&
         size.filters % filters == 0 && size.channels % kTileChannels == 0 &&
         ConvolutionSize::Volume(size.kernel) > 1 && size.output[2] >= 4;
}

size_t ConvolutionWeightsScratch(const ConvolutionSize& size) {
  return size.WeightElements() * sizeof(float);
}

void ConvolutionWeights(const ConvolutionSize& size, const float* x, const float* y, float* w,
                        bool accumulate, void* scratch, int threads) {
  const int64_t channels = size.channels, filters = size.filters;
  const int64_t taps = ConvolutionSize::Volume(size.kernel);
  const int64_t rowX = size.input[2] * channels, rowY = size.output[2] * filters;
  const int64_t imageX = size.input[1] * rowX, imageY = size.output[1] * rowY;
  const int64_t block = std::max<int64_t>(1, kBlockElements / rowY);
  float* const sums = static_cast<float*>(scratch);  // [tap, channel, filter]
  // Channels outermost: threads then read different lines of x.
  const int64_t tiles = channels / kTileChannels * taps;
  ParallelFor(threads, tiles, 1, [&](int64_t begin, int64_t end, int) {
    const auto sumsOf = [&](int64_t tile) {
      return sums + (tile % taps * channels + tile / taps * kTileChannels) * filters;
    };
    for (int64_t i = begin; i < end; ++i) {
      std::fill(sumsOf(i), sumsOf(i) + kTileChannels * filters, 0.0f);
    }
    for (int64_t n = 0; n < size.batch; ++n) {
      for (int64_t top = 0; top < size.output[1]; top += block) {
        for (int64_t i = begin; i < end; ++i) {
          const int64_t tap1 = i % taps / size.kernel[2], tap2 = i % taps % size.kernel[2];
          const Range rows = Inside(size, 1, tap1), columns = Inside(size, 2, tap2);
          const int64_t from = std::max(rows.begin, top);
          const int64_t to = std::min(rows.end, top + block);
          if (from >= to || columns.begin >= columns.end) continue;
          const int64_t p1 = from * size.stride[1] - size.before[1] + tap1 * size.dilation[1];
          const int64_t p2 =
              columns.begin * size.stride[2] - size.before[2] + tap2 * size.dilation[2];
          const WeightsTile tile{to - from,
                                 columns.end - columns.begin,
                                 size.stride[1] * rowX,
                                 size.stride[2] * channels,
                                 rowY,
                                 filters,
                                 filters};
          const float* const fromX =
              x + n * imageX + p1 * rowX + p2 * channels + i / taps * kTileChannels;
          const float* const fromY = y + n * imageY + from * rowY + columns.begin * filters;
          HWY_DYNAMIC_DISPATCH(SumRow)(tile, fromX, fromY, sumsOf(i));
        }
      }
    }
    for (int64_t i = begin; i < end; ++i) {
      const float* const own = sumsOf(i);
      for (int64_t c = 0; c < kTileChannels; ++c) {
        float* const to = w + (i / taps * kTileChannels + c) * taps + i % taps;
        for (int64_t o = 0; o < filters; ++o) {
          float& element = to[o * channels * taps];
          element = own[c * filters + o] + (accumulate ? element : 0.0f);
        }
      }
    }
  });
}

}  // namespace losscape
#endif  // HWY_ONCE
