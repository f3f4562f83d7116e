// attention and attention_jvp on a range of query tiles.

#if defined(LOSSCAPE_CPU_ATTENTION_FORWARD_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_ATTENTION_FORWARD_INL
#undef LOSSCAPE_CPU_ATTENTION_FORWARD_INL
#else
#define LOSSCAPE_CPU_ATTENTION_FORWARD_INL
#endif

#include "native/cpu/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

template <typename T>
class AttentionForward : public AttentionTile<T> {
 public:
  using Tile = AttentionTile<T>;
  using V = typename Tile::V;
  using Tile::Tile;

  void Rows(int64_t tile) {
    this->StartRows(tile);
    // Finite: -inf - (-inf) would be NaN for rows that see no key.
    const V low = hn::Set(d_, std::numeric_limits<T>::lowest() / 2);
    for (int64_t i = 0; i < width_; i += lanes_) {
      hn::StoreU(low, d_, Max() + i);
      hn::StoreU(hn::Zero(d_), d_, Sum() + i);
    }
    this->ForEachKeyTile([&](int64_t j, int64_t keys, bool first) HWY_ATTR {
      this->Scores(j, keys);
      if (Exponentials(keys) && !first) Rescale();
      this->KeysSum(this->v_, j, keys, a_.valueWidth, s_.scores, s_.result, !first);
    });
    if (this->limit_ == 0) this->Clear(s_.result, a_.valueWidth);
    Finish();
  }

 private:
  using Tile::a_;
  using Tile::d_;
  using Tile::lanes_;
  using Tile::ld_;
  using Tile::s_;
  using Tile::width_;

  T* Max() const { return s_.lines; }
  T* Sum() const { return s_.lines + ld_; }
  T* Factor() const { return s_.lines + 2 * ld_; }

  // scores = exp(scores - largest so far); whether an earlier largest was exceeded.
  bool Exponentials(int64_t keys) const {
    const V one = hn::Set(d_, T{1});
    bool exceeded = false;
    for (int64_t i = 0; i < width_; i += lanes_) {
      T* tile = s_.scores + i;
      const V before = hn::LoadU(d_, Max() + i);
      V max = before;
      for (int64_t c = 0; c < keys; ++c) {
        const V x = hn::LoadU(d_, tile + c * ld_);
        max = hn::IfThenElse(hn::Gt(x, max), x, max);
      }
      V sum = hn::Zero(d_);
      for (int64_t c = 0; c < keys; ++c) {
        const V p = ExpOfNegative(d_, hn::Sub(hn::LoadU(d_, tile + c * ld_), max));
        hn::StoreU(p, d_, tile + c * ld_);
        sum = hn::Add(sum, p);
      }
      const V factor = ExpOfNegative(d_, hn::Sub(before, max));
      hn::StoreU(max, d_, Max() + i);
      hn::StoreU(factor, d_, Factor() + i);
      hn::StoreU(hn::MulAdd(hn::LoadU(d_, Sum() + i), factor, sum), d_, Sum() + i);
      exceeded = exceeded || !hn::AllTrue(d_, hn::Eq(factor, one));
    }
    return exceeded;
  }

  void Rescale() const {
    for (int64_t c = 0; c < a_.valueWidth; ++c) {
      for (int64_t i = 0; i < width_; i += lanes_) {
        T* at = s_.result + c * ld_ + i;
        hn::StoreU(hn::Mul(hn::LoadU(d_, at), hn::LoadU(d_, Factor() + i)), d_, at);
      }
    }
  }

  // A row that sees no key: o = 0 and lse = 0, so that exp(-inf - lse) is 0 in the derivatives.
  void Finish() {
    const V zero = hn::Zero(d_), one = hn::Set(d_, T{1});
    for (int64_t i = 0; i < width_; i += lanes_) {
      const V sum = hn::LoadU(d_, Sum() + i);
      const auto none = hn::Eq(sum, zero);
      const V safe = hn::IfThenElse(none, one, sum);
      const V lse = hn::Add(hn::LoadU(d_, Max() + i), math::Log(d_, safe));
      hn::StoreU(hn::IfThenZeroElse(none, lse), d_, Max() + i);
      hn::StoreU(hn::Div(one, safe), d_, Factor() + i);
    }
    Rescale();
    this->StoreRows(s_.result, a_.valueWidth,
                    a_.Head(a_.out, this->bh_, a_.queries, a_.valueWidth));
    std::copy_n(Max(), this->rows_, a_.lseOut + this->bh_ * a_.queries + this->row0_);
  }
};

template <typename T>
class AttentionJvp : public AttentionTile<T> {
 public:
  using Tile = AttentionTile<T>;
  using V = typename Tile::V;
  using Tile::Tile;

  void Rows(int64_t tile) {
    this->StartRows(tile);
    this->LoadLine(a_.lse, s_.lines);
    for (int64_t r = 0; r < a_.tangents; ++r) {
      const auto rows = a_.Head(a_.qDot, this->bh_, a_.queries, a_.width, r);
      this->Transpose(rows.Row(this->row0_), rows.stride, this->rows_, a_.width, a_.scale,
                      QueryDot(r));
      this->Clear(Mean(r), 1);
    }
    this->ForEachKeyTile([&](int64_t j, int64_t keys, bool first) HWY_ATTR {
      this->Scores(j, keys);
      this->Probabilities(keys, s_.lines);
      for (int64_t r = 0; r < a_.tangents; ++r) Step(r, j, keys, first);
    });
    for (int64_t r = 0; r < a_.tangents; ++r) Finish(r);
  }

 private:
  using Tile::a_;
  using Tile::d_;
  using Tile::lanes_;
  using Tile::ld_;
  using Tile::s_;
  using Tile::width_;

  T* QueryDot(int64_t r) const { return s_.queryDots + r * a_.width * ld_; }
  T* Result(int64_t r) const { return s_.resultDots + r * std::max(a_.width, a_.valueWidth) * ld_; }
  T* Mean(int64_t r) const { return s_.lines + (4 + r) * ld_; }

  // With W = P * S': sums of W (t), W V and P V'.
  void Step(int64_t r, int64_t j, int64_t keys, bool first) const {
    const auto kDot = this->KeyDots(r), vDot = this->ValueDots(r);
    T* dots = s_.scoreDots;
    if (a_.biasActive) this->LoadBias(this->BiasDot(r), j, keys, dots);
    this->KeysTimes(this->k_, j, keys, a_.width, QueryDot(r), dots, a_.biasActive);
    this->KeysTimes(kDot, j, keys, a_.width, s_.queries, dots, true);
    for (int64_t i = 0; i < width_; i += lanes_) {
      V sum = hn::Zero(d_);
      for (int64_t c = 0; c < keys; ++c) {
        T* at = dots + c * ld_ + i;
        const V w = hn::Mul(hn::LoadU(d_, s_.scores + c * ld_ + i), hn::LoadU(d_, at));
        hn::StoreU(w, d_, at);
        sum = hn::Add(sum, w);
      }
      hn::StoreU(hn::Add(hn::LoadU(d_, Mean(r) + i), sum), d_, Mean(r) + i);
    }
    this->KeysSum(this->v_, j, keys, a_.valueWidth, dots, Result(r), !first);
    this->KeysSum(vDot, j, keys, a_.valueWidth, s_.scores, Result(r), true);
  }

  // o' = W V + P V' - t o
  void Finish(int64_t r) {
    if (this->limit_ == 0) this->Clear(Result(r), a_.valueWidth);
    const int64_t bh = this->bh_;
    const auto out = a_.Head(a_.out, bh, a_.queries, a_.valueWidth, r);
    this->StoreRows(Result(r), a_.valueWidth, out);
    const auto o = a_.Head(a_.o, bh, a_.queries, a_.valueWidth);
    for (int64_t i = 0; i < this->rows_; ++i) {
      const T mean = Mean(r)[i];
      T* to = out.Row(this->row0_ + i);
      const T* from = o.Row(this->row0_ + i);
      for (int64_t c = 0; c < a_.valueWidth; ++c) to[c] -= mean * from[c];
    }
    std::copy_n(Mean(r), this->rows_,
                a_.lseOut + (r * a_.batch * a_.heads + bh) * a_.queries + this->row0_);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
