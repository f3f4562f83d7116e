// The loops of cross_entropy.cc, compiled once per SIMD target.

#ifndef LOSSCAPE_CPU_CROSS_ENTROPY_ARGS
#define LOSSCAPE_CPU_CROSS_ENTROPY_ARGS

#include <cstdint>

namespace losscape {

// B rows, C classes, R tangents.
template <typename T>
struct CrossEntropyArgs {
  int64_t rows;
  int64_t classes;
  int64_t tangents;
  const T* z;             // [B, C]
  const int32_t* labels;  // [B], or nullptr
  const T* soft;          // [B, C], or nullptr
  const T* weights;       // [C], or nullptr
  const T* lse;           // [B]
  const T* g;             // [B]
  const T* dz;            // [R, B, C]
  T* out;                 // loss [B], [B, C], [R, B] or [R, B, C]
  T* lseOut;              // [B]
  double smoothing;
  double weightSum;  // sum_c w_c
  bool hasIgnore;
  int32_t ignore;
};

// Rows [begin, end); scratch: kCrossEntropyTiles * TileBytes(C).
template <typename T>
using CrossEntropyLoop = void (*)(const CrossEntropyArgs<T>& args, int64_t begin, int64_t end,
                                  T* scratch);

constexpr int kCrossEntropyTiles = 3;

template <typename T>
struct CrossEntropyLoops {
  CrossEntropyLoop<T> forward, vjp, jvp, vjpJvp;
};

}  // namespace losscape

#endif  // LOSSCAPE_CPU_CROSS_ENTROPY_ARGS

#if defined(LOSSCAPE_CPU_CROSS_ENTROPY_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_CROSS_ENTROPY_INL
#undef LOSSCAPE_CPU_CROSS_ENTROPY_INL
#else
#define LOSSCAPE_CPU_CROSS_ENTROPY_INL
#endif

#include <algorithm>

#include "native/cpu/math-inl.h"
#include "native/cpu/rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

// One block of rows, a row in each lane, and what its targets say.
template <typename T>
class CrossEntropyBlock {
 public:
  using D = RowTag<T>;
  using V = hn::Vec<D>;
  using Line = T[kTileRowBytes / sizeof(T)];

  CrossEntropyBlock(const CrossEntropyArgs<T>& args, T* scratch)
      : args_(args),
        lanes_(static_cast<int64_t>(hn::Lanes(d_))),
        first_(scratch),
        second_(scratch + TileBytes(args.classes) / sizeof(T)),
        target_(scratch + 2 * (TileBytes(args.classes) / sizeof(T))),
        uniform_(static_cast<T>(args.smoothing / static_cast<double>(args.classes))),
        keep_(static_cast<T>(1 - args.smoothing)) {}

  int64_t lanes() const { return lanes_; }

  void Start(int64_t row, int64_t end) {
    row_ = row;
    count_ = std::min(lanes_, end - row);
    if (args_.labels) {
      StartLabels();
    } else {
      StartSoft();
    }
  }

  // loss = sum_c w_c q_c (m - z_c) + W log1p(sum of exp(z_c - m) but for one maximum): a confident
  // sample's loss keeps its relative accuracy, lse - z_y would not.
  void Forward() {
    LoadTile(d_, args_.z + row_ * args_.classes, count_, args_.classes, first_);
    const V max = TileMax(d_, first_, args_.classes);
    const V one = hn::Set(d_, T{1});
    V rest = hn::Zero(d_), equal = hn::Zero(d_), distance = hn::Zero(d_);
    const bool everyClass = args_.soft || uniform_ != 0;
    for (int64_t c = 0; c < args_.classes;) {
      V restChain = hn::Zero(d_), distanceChain = hn::Zero(d_);
      for (const int64_t stop = ChainEnd(c); c < stop; ++c) {
        const V z = hn::Load(d_, first_ + c * lanes_);
        const auto isMax = hn::Eq(z, max);
        equal = hn::Add(equal, hn::IfThenElseZero(isMax, one));
        restChain = hn::Add(restChain, hn::IfThenZeroElse(isMax, math::Exp(d_, hn::Sub(z, max))));
        if (everyClass) {
          // A class without probability costs nothing, even at z = -inf.
          const V q = WeightedTarget(c);
          const V term = hn::Mul(q, hn::Sub(max, z));
          distanceChain = hn::Add(distanceChain, hn::IfThenZeroElse(hn::Eq(q, hn::Zero(d_)), term));
        }
      }
      rest = hn::Add(rest, restChain);
      distance = hn::Add(distance, distanceChain);
    }
    const V log = math::Log1p(d_, hn::Add(hn::Sub(equal, one), rest));
    const V lse =
        hn::IfThenElse(hn::IsFinite(max), hn::Add(max, log), hn::Add(max, hn::Sub(rest, rest)));
    if (args_.labels) {
      for (int64_t l = 0; l < count_; ++l) {
        line_[l] = active_[l] != 0 ? args_.z[(row_ + l) * args_.classes + label_[l]] : T{0};
      }
      const V share = hn::Load(d_, ownTarget_);
      const V own = hn::Mul(share, hn::Sub(max, hn::Load(d_, line_)));
      // A label of weight 0 costs nothing, even at z = -inf.
      distance = hn::Add(distance, hn::IfThenZeroElse(hn::Eq(share, hn::Zero(d_)), own));
    }
    const V loss = hn::Add(distance, hn::Mul(hn::Load(d_, total_), log));
    StoreLine(Active(loss), args_.out + row_);
    StoreLine(lse, args_.lseOut + row_);
  }

  // out_c = g (W p_c - w_c q_c); a label's own entry from the sum of the others, because all sum
  // to 0 and p_y - 1 would cancel.
  void Vjp() {
    Probabilities();
    const V g = LoadLine(args_.g + row_);
    const V total = hn::Load(d_, total_);
    V others = hn::Zero(d_);
    for (int64_t c = 0; c < args_.classes;) {
      V chain = hn::Zero(d_);
      for (const int64_t stop = ChainEnd(c); c < stop; ++c) {
        T* at = first_ + c * lanes_;
        const V p = hn::Load(d_, at);
        chain = hn::Add(chain, hn::IfThenZeroElse(IsLabel(c), p));
        hn::Store(Active(hn::Mul(g, hn::Sub(hn::Mul(total, p), WeightedTarget(c)))), d_, at);
      }
      others = hn::Add(others, chain);
    }
    T* out = args_.out + row_ * args_.classes;
    StoreTile(d_, first_, count_, args_.classes, out);
    if (!args_.labels) return;
    const V own = hn::Sub(hn::Load(d_, otherTargets_), hn::Mul(total, others));
    hn::Store(Active(hn::Mul(g, own)), d_, line_);
    for (int64_t l = 0; l < count_; ++l) {
      if (active_[l] != 0) out[l * args_.classes + label_[l]] = line_[l];
    }
  }

  // out = sum_c (W p_c - w_c q_c) (dz_c - dz_y), the shift for labels only: it leaves the sum as it
  // is and the label's own term out.
  void Jvp() {
    Probabilities();
    const V total = hn::Load(d_, total_);
    for (int64_t c = 0; c < args_.classes; ++c) {
      T* at = first_ + c * lanes_;
      hn::Store(hn::Sub(hn::Mul(total, hn::Load(d_, at)), WeightedTarget(c)), d_, at);
    }
    for (int64_t r = 0; r < args_.tangents; ++r) {
      const T* dz = args_.dz + (r * args_.rows + row_) * args_.classes;
      const V shift = LoadTangent(dz);
      V sum = hn::Zero(d_);
      for (int64_t c = 0; c < args_.classes;) {
        V chain = hn::Zero(d_);
        for (const int64_t stop = ChainEnd(c); c < stop; ++c) {
          const V e = hn::Sub(hn::Load(d_, second_ + c * lanes_), shift);
          chain = hn::MulAdd(hn::Load(d_, first_ + c * lanes_), e, chain);
        }
        sum = hn::Add(sum, chain);
      }
      StoreLine(Active(sum), args_.out + r * args_.rows + row_);
    }
  }

  // out_c = g W p_c (e_c - sum_k p_k e_k), e = dz - dz_y for labels.
  void VjpJvp() {
    Probabilities();
    const V scale = hn::Mul(LoadLine(args_.g + row_), hn::Load(d_, total_));
    for (int64_t r = 0; r < args_.tangents; ++r) {
      const int64_t offset = (r * args_.rows + row_) * args_.classes;
      const V shift = LoadTangent(args_.dz + offset);
      V mean = hn::Zero(d_);
      for (int64_t c = 0; c < args_.classes;) {
        V chain = hn::Zero(d_);
        for (const int64_t stop = ChainEnd(c); c < stop; ++c) {
          T* at = second_ + c * lanes_;
          const V e = hn::Sub(hn::Load(d_, at), shift);
          chain = hn::MulAdd(hn::Load(d_, first_ + c * lanes_), e, chain);
          hn::Store(e, d_, at);
        }
        mean = hn::Add(mean, chain);
      }
      for (int64_t c = 0; c < args_.classes; ++c) {
        T* at = second_ + c * lanes_;
        const V p = hn::Mul(scale, hn::Load(d_, first_ + c * lanes_));
        hn::Store(Active(hn::Mul(p, hn::Sub(hn::Load(d_, at), mean))), d_, at);
      }
      StoreTile(d_, second_, count_, args_.classes, args_.out + offset);
    }
  }

 private:
  int64_t ChainEnd(int64_t c) const { return std::min(args_.classes, c + kChain); }

  T Weight(int64_t c) const { return args_.weights ? args_.weights[c] : T{1}; }

  void StartLabels() {
    const double s = args_.smoothing, classes = static_cast<double>(args_.classes);
    for (int64_t l = 0; l < lanes_; ++l) {
      const bool active =
          l < count_ && !(args_.hasIgnore && args_.labels[row_ + l] == args_.ignore);
      label_[l] = active ? args_.labels[row_ + l] : -1;
      labelLine_[l] = static_cast<T>(label_[l]);
      active_[l] = active ? T{1} : T{0};
      const double w = active ? static_cast<double>(Weight(label_[l])) : 0;
      // Everything but the label's own share of q; the loops over classes see only that.
      ownTarget_[l] = static_cast<T>((1 - s) * w);
      otherTargets_[l] = static_cast<T>(s / classes * (args_.weightSum - w));
      total_[l] =
          args_.weights ? static_cast<T>((1 - s) * w + s / classes * args_.weightSum) : T{1};
    }
  }

  void StartSoft() {
    LoadTile(d_, args_.soft + row_ * args_.classes, count_, args_.classes, target_);
    V total = hn::Zero(d_);
    for (int64_t c = 0; c < args_.classes;) {
      V chain = hn::Zero(d_);
      for (const int64_t stop = ChainEnd(c); c < stop; ++c) {
        chain = hn::Add(chain, WeightedTarget(c));
      }
      total = hn::Add(total, chain);
    }
    hn::Store(total, d_, total_);
    for (int64_t l = 0; l < lanes_; ++l) {
      active_[l] = T{1};
      labelLine_[l] = T{-1};
    }
  }

  // w_c q_c; with labels without the label's own (1 - s).
  V WeightedTarget(int64_t c) const {
    const V uniform = hn::Set(d_, uniform_ * Weight(c));
    if (!args_.soft) return uniform;
    return hn::MulAdd(hn::Set(d_, keep_ * Weight(c)), hn::Load(d_, target_ + c * lanes_), uniform);
  }

  hn::Mask<D> IsLabel(int64_t c) const {
    return hn::Eq(hn::Load(d_, labelLine_), hn::Set(d_, static_cast<T>(c)));
  }

  V Active(V v) const { return hn::IfThenElseZero(hn::Ne(hn::Load(d_, active_), hn::Zero(d_)), v); }

  V LoadLine(const T* x) {
    for (int64_t l = 0; l < lanes_; ++l) line_[l] = x[l < count_ ? l : count_ - 1];
    return hn::Load(d_, line_);
  }

  void StoreLine(V v, T* x) {
    hn::Store(v, d_, line_);
    std::copy(line_, line_ + count_, x);
  }

  // first_ = exp(z - lse)
  void Probabilities() {
    LoadTile(d_, args_.z + row_ * args_.classes, count_, args_.classes, first_);
    const V lse = LoadLine(args_.lse + row_);
    for (int64_t c = 0; c < args_.classes; ++c) {
      T* at = first_ + c * lanes_;
      hn::Store(math::Exp(d_, hn::Sub(hn::Load(d_, at), lse)), d_, at);
    }
  }

  // second_ = dz; the result is dz_y for labels, else 0.
  V LoadTangent(const T* dz) {
    LoadTile(d_, dz, count_, args_.classes, second_);
    if (!args_.labels) return hn::Zero(d_);
    for (int64_t l = 0; l < count_; ++l) {
      line_[l] = active_[l] != 0 ? dz[l * args_.classes + label_[l]] : T{0};
    }
    return hn::Load(d_, line_);
  }

  const CrossEntropyArgs<T>& args_;
  D d_;
  int64_t lanes_, row_ = 0, count_ = 0;
  T *first_, *second_, *target_;  // tiles [C, lanes]
  T uniform_, keep_;              // s / C, 1 - s
  int32_t label_[kTileRowBytes / sizeof(T)] = {};
  HWY_ALIGN Line labelLine_ = {};
  HWY_ALIGN Line active_ = {};        // 0: ignored, or behind the last row
  HWY_ALIGN Line ownTarget_ = {};     // (1 - s) w_y
  HWY_ALIGN Line otherTargets_ = {};  // sum of w_c q_c over c != y
  HWY_ALIGN Line total_ = {};         // W
  HWY_ALIGN Line line_ = {};
};

template <typename T, void (CrossEntropyBlock<T>::*kStep)()>
void CrossEntropyRows(const CrossEntropyArgs<T>& args, int64_t begin, int64_t end, T* scratch) {
  CrossEntropyBlock<T> block(args, scratch);
  for (int64_t row = begin; row < end; row += block.lanes()) {
    block.Start(row, end);
    (block.*kStep)();
  }
}

template <typename T>
CrossEntropyLoops<T> CrossEntropyLoopsFor() {
  using Block = CrossEntropyBlock<T>;
  return {&CrossEntropyRows<T, &Block::Forward>, &CrossEntropyRows<T, &Block::Vjp>,
          &CrossEntropyRows<T, &Block::Jvp>, &CrossEntropyRows<T, &Block::VjpJvp>};
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
