// What all forms of attention do with a tile of queries: a query in each lane, so that the keys and
// values of a head are read in place, number by number, and sums over keys need no horizontal step.

#if defined(LOSSCAPE_CPU_ATTENTION_TILE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_ATTENTION_TILE_INL
#undef LOSSCAPE_CPU_ATTENTION_TILE_INL
#else
#define LOSSCAPE_CPU_ATTENTION_TILE_INL
#endif

#include <algorithm>

#include "native/cpu/attention.h"
#include "native/cpu/math-inl.h"
#include "native/cpu/rows-inl.h"
#include "native/cpu/tile_gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

// e^x for x <= 0 (a little above does no harm); below the least normal number 0.
template <class D, class V, typename T = hn::TFromD<D>>
HWY_INLINE V ExpOfNegative(D d, V x) {
  // There the power of two below has an exponent of zero.
  constexpr T kLow = sizeof(T) == 4 ? T{-88} : T{-709.1};
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
  x = hn::Max(hn::Set(d, kLow), x);  // the second operand when one is NaN
#else
  x = hn::IfThenElse(hn::Lt(x, hn::Set(d, kLow)), hn::Set(d, kLow), x);
#endif
  V k;
  const V r = math::ReduceLn2(d, x, k);
  const V p = hn::Add(math::Expm1Reduced(d, r), hn::Set(d, T{1}));
  return hn::Mul(p, math::PowerOfTwo(d, k));
}

// Rows of a tile: whole pairs of vectors, 192 bytes or more.
template <typename T>
int64_t AttentionRowTile() {
  const int64_t pair = 2 * static_cast<int64_t>(hn::Lanes(RowTag<T>()));
  return RoundUpTo(192 / static_cast<int64_t>(sizeof(T)), pair);
}

template <typename T>
class AttentionTile {
 public:
  using D = RowTag<T>;
  using V = hn::Vec<D>;

  AttentionTile(const AttentionArgs<T>& args, AttentionForm form, bool shared, char* scratch)
      : a_(args),
        lanes_(static_cast<int64_t>(hn::Lanes(d_))),
        ld_(AttentionRowTile<T>()),
        s_(args, form, ld_, shared, scratch) {}

  void StartHead(int64_t bh) {
    bh_ = bh;
    q_ = a_.Head(a_.q, bh, a_.queries, a_.width);
    k_ = a_.Head(a_.k, bh, a_.keys, a_.width);
    v_ = a_.Head(a_.v, bh, a_.keys, a_.valueWidth);
    count_ = a_.keys;
    if (!a_.Gathers()) return;
    count_ = 0;
    for (int64_t key = 0; key < a_.keys; ++key) {
      s_.index[count_] = static_cast<int32_t>(key);
      count_ += a_.Takes(bh / a_.heads, key);
    }
    k_ = Gathered(k_, a_.width, s_.keys);
    v_ = Gathered(v_, a_.valueWidth, s_.values);
    if (!a_.kDot) return;
    for (int64_t r = 0; r < a_.tangents; ++r) {
      Gathered(a_.Head(a_.kDot, bh, a_.keys, a_.width, r), a_.width, KeyDotCopy(r));
      Gathered(a_.Head(a_.vDot, bh, a_.keys, a_.valueWidth, r), a_.valueWidth, ValueDotCopy(r));
    }
  }

  // The query tile [D, rows], scaled; rows behind the last are zero.
  void StartRows(int64_t tile) {
    row0_ = tile * ld_;
    rows_ = std::min(ld_, a_.queries - row0_);
    width_ = RoundUpTo(rows_, lanes_);
    limit_ = count_;
    if (a_.causal) {
      const int64_t last = row0_ + rows_ - 1;
      while (limit_ > 0 && Key(limit_ - 1) > last) --limit_;
    }
    Transpose(q_.Row(row0_), q_.stride, rows_, a_.width, a_.scale, s_.queries);
  }

 protected:
  // Number of the key in row j of k_.
  int64_t Key(int64_t j) const { return a_.Gathers() ? s_.index[j] : j; }

  AttentionRows<const T> Gathered(AttentionRows<const T> rows, int64_t size, T* to) const {
    for (int64_t j = 0; j < count_; ++j) {
      std::copy_n(rows.Row(s_.index[j]), size, to + j * size);
    }
    return {to, size};
  }

  T* KeyDotCopy(int64_t r) const { return s_.keyDots + r * a_.keys * a_.width; }
  T* ValueDotCopy(int64_t r) const { return s_.valueDots + r * a_.keys * a_.valueWidth; }

  // Tangent r of the keys, the values and the bias.
  AttentionRows<const T> KeyDots(int64_t r) const {
    if (a_.Gathers()) return {KeyDotCopy(r), a_.width};
    return a_.Head(a_.kDot, bh_, a_.keys, a_.width, r);
  }
  AttentionRows<const T> ValueDots(int64_t r) const {
    if (a_.Gathers()) return {ValueDotCopy(r), a_.valueWidth};
    return a_.Head(a_.vDot, bh_, a_.keys, a_.valueWidth, r);
  }
  const T* BiasDot(int64_t r) const {
    return a_.biasDot + r * a_.biasBlocks * a_.queries * a_.keys;
  }

  // Calls f(first key, keys, whether it is the first call) for tiles of nearly equal size.
  template <class F>
  HWY_INLINE void ForEachKeyTile(F&& f) {
    const int64_t tiles = (limit_ + kAttentionKeyTile - 1) / kAttentionKeyTile;
    if (tiles == 0) return;
    const int64_t each = RoundUpTo((limit_ + tiles - 1) / tiles, kTileRows);
    for (int64_t j = 0; j < limit_; j += each) f(j, std::min(each, limit_ - j), j == 0);
  }

  // to [columns, width] = factor * (from [rows, columns])^T, zero behind the last row.
  void Transpose(const T* from, int64_t stride, int64_t rows, int64_t columns, T factor,
                 T* to) const {
    TransposeInto(from, stride, rows, columns, to, ld_);
    const V scale = hn::Set(d_, factor);
    const V count = hn::Set(d_, static_cast<T>(rows));
    for (int64_t i = 0; i < width_; i += lanes_) {
      const auto inside = hn::Lt(hn::Iota(d_, static_cast<T>(i)), count);
      for (int64_t c = 0; c < columns; ++c) {
        T* at = to + c * ld_ + i;
        hn::StoreU(hn::IfThenElseZero(inside, hn::Mul(scale, hn::LoadU(d_, at))), d_, at);
      }
    }
  }

  static void TransposeInto(const T* from, int64_t stride, int64_t rows, int64_t columns, T* to,
                            int64_t ldTo) {
    int64_t i = 0;
    if constexpr (kHasFour && std::is_same_v<T, float>) {
      for (; i + 4 <= rows; i += 4) {
        int64_t c = 0;
        for (; c + 4 <= columns; c += 4) {
          TransposeFour(from + i * stride + c, stride, to + c * ldTo + i, ldTo);
        }
        for (; c < columns; ++c) {
          for (int64_t l = 0; l < 4; ++l) to[c * ldTo + i + l] = from[(i + l) * stride + c];
        }
      }
    }
    for (; i < rows; ++i) {
      for (int64_t c = 0; c < columns; ++c) to[c * ldTo + i] = from[i * stride + c];
    }
  }

  // Rows [row0, row0 + rows) of `to` from a tile [columns, rows].
  void StoreRows(const T* tile, int64_t columns, AttentionRows<T> to) const {
    TransposeInto(tile, ld_, columns, rows_, to.Row(row0_), to.stride);
  }

  // Rows [row0, row0 + rows), in place where whole vectors of a row may be read.
  AttentionRows<const T> PaddedRows(AttentionRows<const T> rows, int64_t size, int64_t padded,
                                    T* copy) const {
    if (size % lanes_ == 0) return {rows.Row(row0_), rows.stride};
    for (int64_t i = 0; i < rows_; ++i) {
      std::copy_n(rows.Row(row0_ + i), size, copy + i * padded);
      std::fill(copy + i * padded + size, copy + (i + 1) * padded, T{0});
    }
    return {copy, padded};
  }

  // to [keys, width] (+)= rows [keys, size] tile [size, width]
  void KeysTimes(AttentionRows<const T> rows, int64_t j, int64_t keys, int64_t size, const T* tile,
                 T* to, bool accumulate) const {
    TileGemm(d_, keys, size, width_, rows.Row(j), rows.stride, int64_t{1}, tile, ld_, to, ld_,
             accumulate);
  }

  // to [size, width] (+)= rows [keys, size]^T tile [keys, width]
  void KeysSum(AttentionRows<const T> rows, int64_t j, int64_t keys, int64_t size, const T* tile,
               T* to, bool accumulate) const {
    TileGemm(d_, size, keys, width_, rows.Row(j), int64_t{1}, rows.stride, tile, ld_, to, ld_,
             accumulate);
  }

  // sums [keys, size] (+)= tile [keys, rows] rows [rows, size]
  void RowsSum(const T* tile, int64_t keys, AttentionRows<const T> rows, int64_t size, T* sums,
               int64_t padded, bool accumulate) const {
    TileGemm(d_, keys, rows_, RoundUpTo(size, lanes_), tile, ld_, int64_t{1}, rows.data,
             rows.stride, sums, padded, accumulate);
  }

  // tile [keys, width] = rows of the bias (or of its tangent) at this head.
  void LoadBias(const T* bias, int64_t j, int64_t keys, T* tile) const {
    const T* from = bias + (a_.biasBlock[bh_] * a_.queries + row0_) * a_.keys;
    if (!a_.Gathers()) {
      Transpose(from + j, a_.keys, rows_, keys, T{1}, tile);
      return;
    }
    for (int64_t c = 0; c < keys; ++c) {
      T* at = tile + c * ld_;
      for (int64_t i = 0; i < rows_; ++i) at[i] = from[i * a_.keys + s_.index[j + c]];
      std::fill(at + rows_, at + width_, T{0});
    }
  }

  // s_.scores = scale Q K^T + bias, -inf where a query does not see a key.
  void Scores(int64_t j, int64_t keys) const {
    if (a_.bias) LoadBias(a_.bias, j, keys, s_.scores);
    KeysTimes(k_, j, keys, a_.width, s_.queries, s_.scores, a_.bias != nullptr);
    if (!a_.causal || Key(j + keys - 1) <= row0_) return;
    const V never = hn::Set(d_, -std::numeric_limits<T>::infinity());
    for (int64_t c = 0; c < keys; ++c) {
      const V key = hn::Set(d_, static_cast<T>(Key(j + c) - row0_));
      for (int64_t i = 0; i < width_; i += lanes_) {
        T* at = s_.scores + c * ld_ + i;
        const auto later = hn::Lt(hn::Iota(d_, static_cast<T>(i)), key);
        hn::StoreU(hn::IfThenElse(later, never, hn::LoadU(d_, at)), d_, at);
      }
    }
  }

  // s_.scores = exp(s_.scores - lse)
  void Probabilities(int64_t keys, const T* lse) const {
    for (int64_t i = 0; i < width_; i += lanes_) {
      const V shift = hn::LoadU(d_, lse + i);
      for (int64_t c = 0; c < keys; ++c) {
        T* at = s_.scores + c * ld_ + i;
        hn::StoreU(ExpOfNegative(d_, hn::Sub(hn::LoadU(d_, at), shift)), d_, at);
      }
    }
  }

  // A line of numbers, one a query: x [B, H, N].
  void LoadLine(const T* x, T* line) const {
    std::copy_n(x + bh_ * a_.queries + row0_, rows_, line);
    std::fill(line + rows_, line + width_, T{0});
  }

  // line = sum over the columns of x * y [rows, E]
  void RowDots(AttentionRows<const T> x, AttentionRows<const T> y, int64_t size, T* line,
               bool accumulate) const {
    for (int64_t i = 0; i < rows_; ++i) {
      const T* p = x.Row(row0_ + i);
      const T* q = y.Row(row0_ + i);
      V sum = hn::Zero(d_);
      int64_t c = 0;
      for (; c + lanes_ <= size; c += lanes_) {
        sum = hn::MulAdd(hn::LoadU(d_, p + c), hn::LoadU(d_, q + c), sum);
      }
      T total = hn::GetLane(hn::SumOfLanes(d_, sum));
      for (; c < size; ++c) total += p[c] * q[c];
      line[i] = accumulate ? line[i] + total : total;
    }
    if (!accumulate) std::fill(line + rows_, line + width_, T{0});
  }

  // tile [columns, width] = factor * tile
  void Scale(T* tile, int64_t columns, V factor) const {
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t i = 0; i < width_; i += lanes_) {
        T* at = tile + c * ld_ + i;
        hn::StoreU(hn::Mul(factor, hn::LoadU(d_, at)), d_, at);
      }
    }
  }

  void Clear(T* tile, int64_t columns) const { std::fill_n(tile, columns * ld_, T{0}); }

  const AttentionArgs<T>& a_;
  D d_;
  int64_t lanes_, ld_;  // ld_: rows of a tile
  AttentionScratch<T> s_;
  int64_t bh_ = 0;
  AttentionRows<const T> q_, k_, v_;
  int64_t count_ = 0;                        // keys that take part
  int64_t row0_ = 0, rows_ = 0, width_ = 0;  // queries of the tile; rounded up to vectors
  int64_t limit_ = 0;                        // keys that one of its queries sees
};

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
