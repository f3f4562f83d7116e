#include "native/cpu/convolution_gather.h"

#include <algorithm>
#include <cstring>

#include "native/cpu/onednn.h"
#include "native/cpu/small_gemm.h"
#include "native/runtime/blas.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

constexpr int64_t kChunkElements = 32'768;  // of gathered patches: they stay in L2
constexpr int64_t kLeastChunk = 32;         // rows
constexpr int64_t kMostChunk = 512;
constexpr int64_t kSmallProduct = 2'000'000;  // multiply-adds; libraries gain from here
constexpr int64_t kSmallColumns = 32;

size_t Aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

// One thread's product.
void Multiply(const GemmSize& size, const double* a, const double* b, double* y, bool accumulate) {
  if (size.n <= kSmallColumns || size.m * size.n * size.k <= kSmallProduct) {
    SmallGemm(size, a, b, y, accumulate, 1);
    return;
  }
  CheckBlas(OpenBlas().dgemm(size.transA, size.transB, size.m, size.n, size.k, 1.0, a,
                             size.transA ? size.m : size.k, b, size.transB ? size.k : size.n,
                             accumulate ? 1.0 : 0.0, y, size.n),
            "convolution");
}

void Multiply(const GemmSize& size, const float* a, const float* b, float* y, bool accumulate) {
  SmallGemm(size, a, b, y, accumulate, 1);
}

}  // namespace

template <typename T>
GatherConvolution<T>::GatherConvolution(ConvolutionKind kind, const ConvolutionSize& size)
    : kind_(kind), size_(size) {
  const auto images = [&](int64_t channels, const ConvolutionSize::Axes& space) {
    const int64_t points = ConvolutionSize::Volume(space);
    return size.channelsLast ? Images{points * channels, 1, channels, channels}
                             : Images{points * channels, points, 1, channels};
  };
  const bool data = kind == ConvolutionKind::kData;
  from_ = data ? images(size.filters, size.output) : images(size.channels, size.input);
  to_ = data ? images(size.channels, size.input) : images(size.filters, size.output);
  fromSize_ = data ? size.output : size.input;
  toSize_ = data ? size.input : size.output;
  taps_ = ConvolutionSize::Volume(size.kernel);
  depth_ = from_.channels / size.groups;
  width_ = to_.channels / size.groups;
  rows_ = size.batch * ConvolutionSize::Volume(toSize_);
  chunk_ = std::clamp(kChunkElements / (taps_ * depth_), kLeastChunk, kMostChunk);
  for (int axis = 0; axis < ConvolutionSize::kAxes; ++axis) {
    const int64_t stride = size.stride[axis];
    for (int64_t q = 0; q < toSize_[axis]; ++q) {
      for (int64_t t = 0; t < size.kernel[axis]; ++t) {
        const int64_t shift = t * size.dilation[axis] - size.before[axis];
        int64_t p = data ? q - shift : q * stride + shift;
        if (data) p = p >= 0 && p % stride == 0 ? p / stride : -1;
        map_[axis].push_back(p >= 0 && p < fromSize_[axis] ? p : -1);
      }
    }
  }
}

template <typename T>
size_t GatherConvolution<T>::ScratchBytes(int threads) const {
  const int64_t columns = taps_ * depth_;
  // Filters in the order of the patches, then for each thread patches and rows of the other
  // operand.
  return Aligned(size_.WeightElements() * sizeof(T)) +
         threads * Aligned(chunk_ * (columns + width_) * sizeof(T));
}

template <typename T>
void GatherConvolution<T>::Run(const T* a, const T* b, T* y, bool accumulate, void* scratch,
                               int threads) const {
  char* const memory = static_cast<char*>(scratch);
  T* const filters = static_cast<T*>(scratch);
  if (depth_ == 1 && width_ == 1) {
    if (kind_ == ConvolutionKind::kWeights) {
      DepthwiseToWeights(a, b, y, accumulate, filters, threads);
    } else {
      DepthwiseToResults(a, b, y, accumulate, filters, threads);
    }
  } else if (kind_ == ConvolutionKind::kWeights) {
    ToWeights(a, b, y, accumulate, memory, threads);
  } else {
    ToResults(a, b, y, accumulate, memory, threads);
  }
}

// to [rows, columns]: columns [column, column + columns) of (tap, channel).
template <typename T>
void GatherConvolution<T>::GatherPatches(const T* from, int64_t group, int64_t row, int64_t rows,
                                         int64_t column, int64_t columns, T* to) const {
  const auto& kernel = size_.kernel;
  const int64_t points = ConvolutionSize::Volume(toSize_);
  from += group * depth_ * from_.channel;
  for (int64_t r = row; r < row + rows; ++r) {
    const T* const image = from + r / points * from_.image;
    int64_t point = r % points;
    const int64_t q2 = point % toSize_[2];
    point /= toSize_[2];
    const int64_t* const map0 = map_[0].data() + point / toSize_[1] * kernel[0];
    const int64_t* const map1 = map_[1].data() + point % toSize_[1] * kernel[1];
    const int64_t* const map2 = map_[2].data() + q2 * kernel[2];
    for (int64_t k = column; k < column + columns;) {
      const int64_t tap = k / depth_, channel = k % depth_;
      const int64_t count = std::min(depth_ - channel, column + columns - k);
      const int64_t p0 = map0[tap / (kernel[1] * kernel[2])];
      const int64_t p1 = map1[tap / kernel[2] % kernel[1]];
      const int64_t p2 = map2[tap % kernel[2]];
      if (p0 < 0 || p1 < 0 || p2 < 0) {
        std::fill(to, to + count, T{0});
      } else {
        const T* const at = image + ((p0 * fromSize_[1] + p1) * fromSize_[2] + p2) * from_.point +
                            channel * from_.channel;
        if (from_.channel == 1) {
          std::copy(at, at + count, to);
        } else {
          for (int64_t c = 0; c < count; ++c) to[c] = at[c * from_.channel];
        }
      }
      to += count;
      k += count;
    }
  }
}

// to [rows, channels] of the images' own points.
template <typename T>
void GatherConvolution<T>::GatherRows(const Images& images, int64_t points, const T* from,
                                      int64_t channel, int64_t channels, int64_t row, int64_t rows,
                                      T* to) const {
  for (int64_t r = row; r < row + rows; ++r) {
    const T* const at =
        from + r / points * images.image + r % points * images.point + channel * images.channel;
    for (int64_t c = 0; c < channels; ++c) *to++ = at[c * images.channel];
  }
}

template <typename T>
const T* GatherConvolution<T>::Seen(const T* from, int64_t row, int64_t tap) const {
  const auto& kernel = size_.kernel;
  const int64_t points = ConvolutionSize::Volume(toSize_);
  int64_t coordinates[ConvolutionSize::kAxes], point = row % points;
  for (int axis = ConvolutionSize::kAxes; axis-- > 0;) {
    coordinates[axis] = map_[axis][point % toSize_[axis] * kernel[axis] + tap % kernel[axis]];
    point /= toSize_[axis];
    tap /= kernel[axis];
  }
  const auto [p0, p1, p2] = coordinates;
  if (p0 < 0 || p1 < 0 || p2 < 0) return nullptr;
  return from + row / points * from_.image +
         ((p0 * fromSize_[1] + p1) * fromSize_[2] + p2) * from_.point;
}

template <typename T>
void GatherConvolution<T>::DepthwiseToResults(const T* a, const T* w, T* y, bool accumulate,
                                              T* packed, int threads) const {
  const int64_t channels = size_.groups;
  const int64_t points = ConvolutionSize::Volume(toSize_);
  for (int64_t t = 0; t < taps_; ++t) {
    for (int64_t c = 0; c < channels; ++c) packed[t * channels + c] = w[c * taps_ + t];
  }
  const int64_t grain = std::max<int64_t>(1, kChunkElements / (taps_ * channels));
  ParallelFor(threads, rows_, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t row = begin; row < end; ++row) {
      T* const to = y + row / points * to_.image + row % points * to_.point;
      if (!accumulate) {
        for (int64_t c = 0; c < channels; ++c) to[c * to_.channel] = T{0};
      }
      for (int64_t t = 0; t < taps_; ++t) {
        const T* const from = Seen(a, row, t);
        if (!from) continue;
        const T* const by = packed + t * channels;
        for (int64_t c = 0; c < channels; ++c) {
          to[c * to_.channel] += from[c * from_.channel] * by[c];
        }
      }
    }
  });
}

template <typename T>
void GatherConvolution<T>::DepthwiseToWeights(const T* x, const T* dy, T* w, bool accumulate,
                                              T* sums, int threads) const {
  const int64_t channels = size_.groups;
  const int64_t points = ConvolutionSize::Volume(toSize_);
  // Threads share the channels: an element's sum runs over the rows in order.
  ParallelFor(threads, channels, 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = 0; t < taps_; ++t) {
      T* const own = sums + t * channels;
      std::fill(own + begin, own + end, T{0});
      for (int64_t row = 0; row < rows_; ++row) {
        const T* const from = Seen(x, row, t);
        if (!from) continue;
        const T* const by = dy + row / points * to_.image + row % points * to_.point;
        for (int64_t c = begin; c < end; ++c) {
          own[c] += from[c * from_.channel] * by[c * to_.channel];
        }
      }
      for (int64_t c = begin; c < end; ++c) {
        T& element = w[c * taps_ + t];
        element = own[c] + (accumulate ? element : T{0});
      }
    }
  });
}

template <typename T>
void GatherConvolution<T>::ToResults(const T* a, const T* w, T* y, bool accumulate, char* scratch,
                                     int threads) const {
  const int64_t columns = taps_ * depth_;
  const int64_t points = ConvolutionSize::Volume(toSize_);
  const bool data = kind_ == ConvolutionKind::kData;
  // [group, tap, channel of patches, channel of results]
  T* const packed = reinterpret_cast<T*>(scratch);
  for (int64_t g = 0; g < size_.groups; ++g) {
    T* const to = packed + g * columns * width_;
    const T* const own = w + g * columns * width_;
    for (int64_t t = 0; t < taps_; ++t) {
      for (int64_t c = 0; c < depth_; ++c) {
        for (int64_t o = 0; o < width_; ++o) {
          const int64_t at = data ? c * width_ + o : o * depth_ + c;
          to[(t * depth_ + c) * width_ + o] = own[at * taps_ + t];
        }
      }
    }
  }
  scratch += Aligned(size_.WeightElements() * sizeof(T));
  const size_t perThread = Aligned(chunk_ * (columns + width_) * sizeof(T));
  const bool pointwise = size_.IsPointwise() && size_.channelsLast;
  const bool dense = to_.channel == 1 && size_.groups == 1;
  const int64_t chunks = (rows_ + chunk_ - 1) / chunk_;
  ParallelFor(threads, chunks, 1, [&](int64_t begin, int64_t end, int thread) {
    T* const patches = reinterpret_cast<T*>(scratch + thread * perThread);
    T* const results = patches + chunk_ * columns;
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t row = chunk * chunk_;
      const int64_t rows = std::min(chunk_, rows_ - row);
      for (int64_t g = 0; g < size_.groups; ++g) {
        const T* left = a + row * columns;
        if (!pointwise) {
          GatherPatches(a, g, row, rows, 0, columns, patches);
          left = patches;
        }
        const GemmSize gemm{rows, width_, columns, false, false};
        const T* const right = packed + g * columns * width_;
        if (dense) {
          Multiply(gemm, left, right, y + row * width_, accumulate);
          continue;
        }
        Multiply(gemm, left, right, results, false);
        for (int64_t r = 0; r < rows; ++r) {
          T* const at = y + (row + r) / points * to_.image + (row + r) % points * to_.point +
                        g * width_ * to_.channel;
          for (int64_t o = 0; o < width_; ++o) {
            T& element = at[o * to_.channel];
            element = results[r * width_ + o] + (accumulate ? element : T{0});
          }
        }
      }
    }
  });
}

template <typename T>
void GatherConvolution<T>::ToWeights(const T* x, const T* dy, T* w, bool accumulate, char* scratch,
                                     int threads) const {
  const int64_t columns = taps_ * depth_;
  const int64_t points = ConvolutionSize::Volume(toSize_);
  // [group, tap, channel of x, channel of dy]
  T* const sums = reinterpret_cast<T*>(scratch);
  scratch += Aligned(size_.WeightElements() * sizeof(T));
  const size_t perThread = Aligned(chunk_ * (columns + width_) * sizeof(T));
  const bool dense = to_.channel == 1 && size_.groups == 1;
  // Threads share the columns of every group: an element's sum runs over the rows in order.
  const int64_t grain = std::max<int64_t>(1, std::min<int64_t>(columns, 16));
  ParallelFor(threads, columns, grain, [&](int64_t begin, int64_t end, int thread) {
    T* const patches = reinterpret_cast<T*>(scratch + thread * perThread);
    T* const results = patches + chunk_ * columns;
    for (int64_t g = 0; g < size_.groups; ++g) {
      T* const own = sums + (g * columns + begin) * width_;
      for (int64_t row = 0; row < rows_; row += chunk_) {
        const int64_t rows = std::min(chunk_, rows_ - row);
        GatherPatches(x, g, row, rows, begin, end - begin, patches);
        const T* right = dy + row * width_;
        if (!dense) {
          GatherRows(to_, points, dy, g * width_, width_, row, rows, results);
          right = results;
        }
        Multiply({end - begin, width_, rows, true, false}, patches, right, own, row > 0);
      }
      for (int64_t k = begin; k < end; ++k) {
        const int64_t tap = k / depth_, channel = k % depth_;
        for (int64_t o = 0; o < width_; ++o) {
          T& element = w[((g * width_ + o) * depth_ + channel) * taps_ + tap];
          element = own[(k - begin) * width_ + o] + (accumulate ? element : T{0});
        }
      }
    }
  });
}

template class GatherConvolution<float>;
template class GatherConvolution<double>;

}  // namespace losscape
