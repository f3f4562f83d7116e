// transpose: x -> y, y axis i is x axis perm[i]; elements of any type are moved as integers of
// their size. Bound by memory: reads and writes every element once.
//
// Axes that stay neighbours are merged first. What is left either keeps its last axis, and copies
// runs, or swaps it: then planes of (x's last axis, y's last axis) are transposed in square tiles,
// whose rows are cache lines on both sides.
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "native/cpu/check.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {
namespace hn = hwy::HWY_NAMESPACE;

constexpr int64_t kGrainBytes = 65'536;
constexpr int64_t kTile = 32;

// y [columns, rows] of x [rows, columns]; strides in elements between rows of each.
template <typename T>
void Tile(const T* x, int64_t strideX, T* y, int64_t strideY, int64_t rows, int64_t columns) {
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) y[c * strideY + r] = x[r * strideX + c];
  }
}

#if HWY_TARGET != HWY_SCALAR
// Four by four at a time; 128-bit vectors exist in every baseline, so this needs no dispatch.
void Tile(const uint32_t* x, int64_t strideX, uint32_t* y, int64_t strideY, int64_t rows,
          int64_t columns) {
  const hn::FixedTag<uint32_t, 4> d;
  const hn::FixedTag<uint64_t, 2> d64;
  const int64_t wholeRows = rows / 4 * 4, wholeColumns = columns / 4 * 4;
  auto four = [&](int64_t r, int64_t c) {
    const uint32_t* from = x + r * strideX + c;
    const auto r0 = hn::LoadU(d, from);
    const auto r1 = hn::LoadU(d, from + strideX);
    const auto r2 = hn::LoadU(d, from + 2 * strideX);
    const auto r3 = hn::LoadU(d, from + 3 * strideX);
    const auto low01 = hn::BitCast(d64, hn::InterleaveLower(d, r0, r1));
    const auto low23 = hn::BitCast(d64, hn::InterleaveLower(d, r2, r3));
    const auto high01 = hn::BitCast(d64, hn::InterleaveUpper(d, r0, r1));
    const auto high23 = hn::BitCast(d64, hn::InterleaveUpper(d, r2, r3));
    uint32_t* to = y + c * strideY + r;
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, low01, low23)), d, to);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, low01, low23)), d, to + strideY);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(d64, high01, high23)), d, to + 2 * strideY);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(d64, high01, high23)), d, to + 3 * strideY);
  };
  // With strides of a power of two all rows share one set of an 8-way cache: write eight lines to
  // their end before going on.
  for (int64_t r0 = 0; r0 < wholeRows; r0 += 16) {
    const int64_t endR = std::min(r0 + 16, wholeRows);
    for (int64_t c0 = 0; c0 < wholeColumns; c0 += 8) {
      const int64_t endC = std::min(c0 + 8, wholeColumns);
      for (int64_t r = r0; r < endR; r += 4) {
        for (int64_t c = c0; c < endC; c += 4) four(r, c);
      }
    }
  }
  Tile<uint32_t>(x + wholeColumns, strideX, y + wholeColumns * strideY, strideY, wholeRows,
                 columns - wholeColumns);
  Tile<uint32_t>(x + wholeRows * strideX, strideX, y + wholeRows, strideY, rows - wholeRows,
                 columns);
}
#endif

// An axis of the loop around the planes or runs: strides in elements.
struct Axis {
  int64_t size, strideX, strideY;
};

template <typename T>
class Transpose final : public Kernel {
 public:
  explicit Transpose(const OpSpec& op) {
    const std::vector<int64_t>& x = op.inTypes[0].shape;
    const std::vector<int> perm = Perm(op, x.size());
    std::vector<int64_t> shape;
    for (int axis : perm) shape.push_back(x[axis]);
    ExpectShape(op, "the result", op.outTypes[0], shape);
    ExpectDType(op, "the result", op.outTypes[0], op.inTypes[0].dtype);
    empty_ = op.inTypes[0].Elements() == 0;
    if (!empty_) Merge(x, perm);
  }

  void Run(const KernelArgs& args) const override {
    if (empty_) return;
    const T* x = static_cast<const T*>(args.in[0]);
    T* y = static_cast<T*>(args.out[0]);
    if (run_ > 0) {
      Runs(x, y, args.threads);
    } else {
      Planes(x, y, args.threads);
    }
  }

 private:
  static std::vector<int> Perm(const OpSpec& op, size_t rank) {
    const std::vector<double>& numbers = op.Numbers("perm");
    std::vector<int> perm, seen(rank);
    for (double axis : numbers) {
      perm.push_back(ExpectAxis(op, axis, rank));
      ++seen[perm.back()];
    }
    if (perm.size() != rank || std::count(seen.begin(), seen.end(), 1) != static_cast<int>(rank)) {
      throw Error(Code::kProgram, "transpose: expected a permutation of ", rank, " axes.");
    }
    return perm;
  }

  void Merge(const std::vector<int64_t>& x, const std::vector<int>& perm) {
    std::vector<int64_t> strides(x.size());
    int64_t stride = 1;
    for (size_t i = x.size(); i-- > 0; stride *= x[i]) strides[i] = stride;
    // Axes of y, outermost first, with what they step over in x.
    std::vector<Axis> axes;
    for (int axis : perm) {
      const int64_t size = x[axis];
      if (size == 1) continue;
      if (!axes.empty() && axes.back().strideX == size * strides[axis]) {
        axes.back().size *= size;
        axes.back().strideX = strides[axis];
      } else {
        axes.push_back({size, strides[axis], 0});
      }
    }
    stride = 1;
    for (size_t i = axes.size(); i-- > 0; stride *= axes[i].size) axes[i].strideY = stride;
    if (axes.empty()) {
      run_ = 1;
    } else if (axes.back().strideX == 1) {
      run_ = axes.back().size;
      axes.pop_back();
    } else {
      rows_ = axes.back();
      axes.pop_back();
      const auto last = std::find_if(axes.begin(), axes.end(),
                                     [](const Axis& axis) { return axis.strideX == 1; });
      columns_ = *last;
      axes.erase(last);
    }
    axes_ = axes;
    for (const Axis& axis : axes_) outer_ *= axis.size;
  }

  void Find(int64_t i, int64_t& x, int64_t& y) const {
    x = y = 0;
    for (size_t axis = axes_.size(); axis-- > 0; i /= axes_[axis].size) {
      const int64_t at = i % axes_[axis].size;
      x += at * axes_[axis].strideX;
      y += at * axes_[axis].strideY;
    }
  }

  void Runs(const T* x, T* y, int threads) const {
    const int64_t grain = std::max<int64_t>(1, kGrainBytes / sizeof(T) / run_);
    if (outer_ == 1) {
      ParallelFor(threads, run_, kGrainBytes / sizeof(T), [&](int64_t begin, int64_t end, int) {
        std::memcpy(y + begin, x + begin, (end - begin) * sizeof(T));
      });
      return;
    }
    ParallelFor(threads, outer_, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t from, to;
        Find(i, from, to);
        if (run_ < 16) {
          for (int64_t j = 0; j < run_; ++j) y[to + j] = x[from + j];
        } else {
          std::memcpy(y + to, x + from, run_ * sizeof(T));
        }
      }
    });
  }

  void Planes(const T* x, T* y, int threads) const {
    // Strips of tiles along y's rows, so that a thread writes whole cache lines of its own.
    const int64_t strips = (columns_.size + kTile - 1) / kTile;
    const int64_t strip = std::min(columns_.size, kTile) * rows_.size;
    const int64_t grain = std::max<int64_t>(1, kGrainBytes / sizeof(T) / strip);
    ParallelFor(threads, outer_ * strips, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        int64_t from, to;
        Find(i / strips, from, to);
        const int64_t column = i % strips * kTile;
        const int64_t columns = std::min(kTile, columns_.size - column);
        for (int64_t row = 0; row < rows_.size; row += kTile) {
          Tile(x + from + row * rows_.strideX + column, rows_.strideX,
               y + to + column * columns_.strideY + row, columns_.strideY,
               std::min(kTile, rows_.size - row), columns);
        }
      }
    });
  }

  bool empty_;
  int64_t run_ = 0;          // > 0: the last axis stays, in runs of this length
  Axis rows_{}, columns_{};  // else: y's last axis, and x's
  std::vector<Axis> axes_;
  int64_t outer_ = 1;
};

std::unique_ptr<Kernel> MakeTranspose(const OpSpec& op) {
  ExpectOperands(op, 1, 1, 1);
  switch (ByteSize(op.inTypes[0].dtype)) {
    case 1:
      return std::make_unique<Transpose<uint8_t>>(op);
    case 2:
      return std::make_unique<Transpose<uint16_t>>(op);
    case 4:
      return std::make_unique<Transpose<uint32_t>>(op);
    default:
      return std::make_unique<Transpose<uint64_t>>(op);
  }
}
LOSSCAPE_KERNEL(transpose, MakeTranspose);

}  // namespace
}  // namespace losscape
