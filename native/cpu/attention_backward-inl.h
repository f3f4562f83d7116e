// attention_vjp and attention_vjp_jvp on a range of query tiles: one pass over the scores, in which
// the gradients of keys and values collect in scratch memory of the thread.

#if defined(LOSSCAPE_CPU_ATTENTION_BACKWARD_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_ATTENTION_BACKWARD_INL
#undef LOSSCAPE_CPU_ATTENTION_BACKWARD_INL
#else
#define LOSSCAPE_CPU_ATTENTION_BACKWARD_INL
#endif

#include "native/cpu/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

// What the two forms share; copies: 1, or the tangents.
template <typename T>
class AttentionBackward : public AttentionTile<T> {
 public:
  using Tile = AttentionTile<T>;
  using V = typename Tile::V;

  AttentionBackward(const AttentionArgs<T>& args, AttentionForm form, bool shared, char* scratch)
      : Tile(args, form, shared, scratch),
        shared_(shared),
        copies_(form == AttentionForm::kVjpJvp ? args.tangents : 1),
        sumsBias_(args.biasActive && args.biasBlocks != args.batch * args.heads) {
    if (sumsBias_) std::fill_n(s_.biasSums, copies_ * AttentionScratch<T>::BiasSums(args), T{0});
  }

  // The sums of a head that this thread has only a part of stay where the others are added: in
  // slot 0 when the head is the thread's first, else in slot 1.
  void StartHead(int64_t bh, bool firstOfPart) {
    Tile::StartHead(bh);
    sums_ = s_.sums[firstOfPart || !shared_ ? 0 : 1];
    untouched_ = !a_.causal;
    if (untouched_) return;
    std::fill_n(sums_, copies_ * a_.keys * (s_.padded + s_.valuePadded), T{0});
  }

  void FinishHead(bool complete) {
    if (!complete) return;
    const T* const sums[] = {sums_};
    WriteKeyGradients(a_, copies_, this->bh_, sums, 1, 0, a_.keys);
  }

 protected:
  using Tile::a_;
  using Tile::d_;
  using Tile::lanes_;
  using Tile::ld_;
  using Tile::s_;
  using Tile::width_;

  T* Lse() const { return s_.lines; }
  T* Dot() const { return s_.lines + ld_; }  // D = rowsum(dO * O)
  T* KeySums(int64_t r, int64_t j) const { return sums_ + (r * a_.keys + j) * s_.padded; }
  T* ValueSums(int64_t r, int64_t j) const {
    return sums_ + copies_ * a_.keys * s_.padded + (r * a_.keys + j) * s_.valuePadded;
  }

  void StartRows(int64_t tile) {
    Tile::StartRows(tile);
    const int64_t bh = this->bh_;
    const auto dOut = a_.Head(a_.dOut, bh, a_.queries, a_.valueWidth);
    const auto o = a_.Head(a_.o, bh, a_.queries, a_.valueWidth);
    this->LoadLine(a_.lse, Lse());
    this->RowDots(dOut, o, a_.valueWidth, Dot(), false);
    this->Transpose(dOut.Row(this->row0_), dOut.stride, this->rows_, a_.valueWidth, T{1}, s_.dOut);
    queryRows_ = this->PaddedRows(this->q_, a_.width, s_.padded, s_.queryRows);
    dOutRows_ = this->PaddedRows(dOut, a_.valueWidth, s_.valuePadded, s_.dOutRows);
    // Keys that a mask or the diagonal leaves out have no gradient.
    if (!a_.biasActive || sumsBias_ || !(a_.masked || a_.causal)) return;
    for (int64_t r = 0; r < copies_; ++r) {
      std::fill_n(BiasGradient(r), this->rows_ * a_.keys, T{0});
    }
  }

  // Rows of this tile and head in the gradient of a bias that no heads share.
  T* BiasGradient(int64_t r) const {
    const int64_t block = r * a_.biasBlocks + a_.biasBlock[this->bh_];
    return a_.dBias + (block * a_.queries + this->row0_) * a_.keys;
  }

  // Adds dS [keys, width] to the gradient of the bias.
  void AddBias(int64_t r, int64_t j, int64_t keys, const T* slopes) const {
    if (sumsBias_) {
      const int64_t ld = RoundUpTo(a_.queries, kAttentionMaxRows<T>);
      const int64_t block = r * a_.biasBlocks + a_.biasBlock[this->bh_];
      for (int64_t c = 0; c < keys; ++c) {
        T* to = s_.biasSums + (block * a_.keys + this->Key(j + c)) * ld + this->row0_;
        for (int64_t i = 0; i < width_; i += lanes_) {
          const V sum = hn::Add(hn::LoadU(d_, to + i), hn::LoadU(d_, slopes + c * ld_ + i));
          hn::StoreU(sum, d_, to + i);
        }
      }
    } else if (!a_.Gathers()) {
      this->TransposeInto(slopes, ld_, keys, this->rows_, BiasGradient(r) + j, a_.keys);
    } else {
      for (int64_t i = 0; i < this->rows_; ++i) {
        T* to = BiasGradient(r) + i * a_.keys;
        for (int64_t c = 0; c < keys; ++c) to[this->Key(j + c)] = slopes[c * ld_ + i];
      }
    }
  }

  void StoreQueryGradient(T* tile, T* to, int64_t r) const {
    if (this->limit_ == 0) this->Clear(tile, a_.width);
    this->Scale(tile, a_.width, hn::Set(d_, a_.scale));
    this->StoreRows(tile, a_.width, a_.Head(to, this->bh_, a_.queries, a_.width, r));
  }

  bool shared_;
  int64_t copies_;
  bool sumsBias_;
  bool untouched_ = false;  // the sums have not been written to
  T* sums_ = nullptr;
  AttentionRows<const T> queryRows_, dOutRows_;
};

// P = exp(S - lse), dS = P * (dO V^T - D); dQ = scale dS K, dK = scale dS^T Q, dV = P^T dO.
template <typename T>
class AttentionVjp : public AttentionBackward<T> {
 public:
  using Base = AttentionBackward<T>;
  using V = typename Base::V;
  using Base::Base;

  void Rows(int64_t tile) {
    this->StartRows(tile);
    this->ForEachKeyTile([&](int64_t j, int64_t keys, bool first) HWY_ATTR {
      this->Scores(j, keys);
      this->KeysTimes(this->v_, j, keys, a_.valueWidth, s_.dOut, s_.slopes, false);
      Slopes(keys);
      const bool add = !this->untouched_;
      this->RowsSum(s_.scores, keys, this->dOutRows_, a_.valueWidth, this->ValueSums(0, j),
                    s_.valuePadded, add);
      this->RowsSum(s_.slopes, keys, this->queryRows_, a_.width, this->KeySums(0, j), s_.padded,
                    add);
      this->KeysSum(this->k_, j, keys, a_.width, s_.slopes, s_.result, !first);
      if (a_.biasActive) this->AddBias(0, j, keys, s_.slopes);
    });
    this->untouched_ = false;
    this->StoreQueryGradient(s_.result, a_.dq, 0);
  }

 private:
  using Base::a_;
  using Base::d_;
  using Base::lanes_;
  using Base::ld_;
  using Base::s_;
  using Base::width_;

  void Slopes(int64_t keys) const {
    for (int64_t i = 0; i < width_; i += lanes_) {
      const V lse = hn::LoadU(d_, this->Lse() + i);
      const V dot = hn::LoadU(d_, this->Dot() + i);
      for (int64_t c = 0; c < keys; ++c) {
        T* score = s_.scores + c * ld_ + i;
        T* slope = s_.slopes + c * ld_ + i;
        const V p = ExpOfNegative(d_, hn::Sub(hn::LoadU(d_, score), lse));
        hn::StoreU(p, d_, score);
        hn::StoreU(hn::Mul(p, hn::Sub(hn::LoadU(d_, slope), dot)), d_, slope);
      }
    }
  }
};

// With S' = scale (Q' K^T + Q K'^T) + b', E = dP - D and D' = rowsum(dO' * O + dO * O'):
//   P' = P * (S' - lse'), dS' = P' * E + P * (dO' V^T + dO V'^T - D'),
//   dQ' = scale (dS' K + dS K'), dK' = scale (dS'^T Q + dS^T Q'), dV' = P'^T dO + P^T dO'.
template <typename T>
class AttentionVjpJvp : public AttentionBackward<T> {
 public:
  using Base = AttentionBackward<T>;
  using V = typename Base::V;
  using Base::Base;

  void Rows(int64_t tile) {
    this->StartRows(tile);
    for (int64_t r = 0; r < a_.tangents; ++r) StartTangent(r);
    this->ForEachKeyTile([&](int64_t j, int64_t keys, bool first) HWY_ATTR {
      this->Scores(j, keys);
      this->KeysTimes(this->v_, j, keys, a_.valueWidth, s_.dOut, s_.slopes, false);
      Primal(keys);
      for (int64_t r = 0; r < a_.tangents; ++r) Step(r, j, keys, first);
    });
    this->untouched_ = false;
    for (int64_t r = 0; r < a_.tangents; ++r) this->StoreQueryGradient(Result(r), a_.dq, r);
  }

 private:
  using Base::a_;
  using Base::d_;
  using Base::lanes_;
  using Base::ld_;
  using Base::s_;
  using Base::width_;

  T* QueryDot(int64_t r) const { return s_.queryDots + r * a_.width * ld_; }
  T* DOutDot(int64_t r) const { return s_.dOutDots + r * a_.valueWidth * ld_; }
  T* Result(int64_t r) const { return s_.resultDots + r * std::max(a_.width, a_.valueWidth) * ld_; }
  T* LseDot(int64_t r) const { return s_.lines + (4 + 2 * r) * ld_; }
  T* DotDot(int64_t r) const { return s_.lines + (5 + 2 * r) * ld_; }
  AttentionRows<const T> QueryDotRows(int64_t r) const {
    return this->PaddedRows(a_.Head(a_.qDot, this->bh_, a_.queries, a_.width, r), a_.width,
                            s_.padded, s_.queryDotRows + r * ld_ * s_.padded);
  }
  AttentionRows<const T> DOutDotRows(int64_t r) const {
    return this->PaddedRows(a_.Head(a_.dOutDot, this->bh_, a_.queries, a_.valueWidth, r),
                            a_.valueWidth, s_.valuePadded,
                            s_.dOutDotRows + r * ld_ * s_.valuePadded);
  }

  void StartTangent(int64_t r) const {
    const int64_t bh = this->bh_, row0 = this->row0_, rows = this->rows_;
    const auto qDot = a_.Head(a_.qDot, bh, a_.queries, a_.width, r);
    const auto value = [&](const T* x, int64_t which) {
      return a_.Head(x, bh, a_.queries, a_.valueWidth, which);
    };
    const auto dOutDot = value(a_.dOutDot, r);
    this->Transpose(qDot.Row(row0), qDot.stride, rows, a_.width, a_.scale, QueryDot(r));
    this->Transpose(dOutDot.Row(row0), dOutDot.stride, rows, a_.valueWidth, T{1}, DOutDot(r));
    this->LoadLine(a_.lseDot + r * a_.batch * a_.heads * a_.queries, LseDot(r));
    this->RowDots(dOutDot, value(a_.o, 0), a_.valueWidth, DotDot(r), false);
    this->RowDots(value(a_.dOut, 0), value(a_.oDot, r), a_.valueWidth, DotDot(r), true);
  }

  // scores = P, slopes = dP - D, products = dS
  void Primal(int64_t keys) const {
    for (int64_t i = 0; i < width_; i += lanes_) {
      const V lse = hn::LoadU(d_, this->Lse() + i);
      const V dot = hn::LoadU(d_, this->Dot() + i);
      for (int64_t c = 0; c < keys; ++c) {
        const int64_t at = c * ld_ + i;
        const V p = ExpOfNegative(d_, hn::Sub(hn::LoadU(d_, s_.scores + at), lse));
        const V e = hn::Sub(hn::LoadU(d_, s_.slopes + at), dot);
        hn::StoreU(p, d_, s_.scores + at);
        hn::StoreU(e, d_, s_.slopes + at);
        hn::StoreU(hn::Mul(p, e), d_, s_.products + at);
      }
    }
  }

  void Step(int64_t r, int64_t j, int64_t keys, bool first) const {
    const auto kDot = this->KeyDots(r), vDot = this->ValueDots(r);
    T *x = s_.scoreDots, *y = s_.slopeDots;
    if (a_.biasActive) this->LoadBias(this->BiasDot(r), j, keys, x);
    this->KeysTimes(this->k_, j, keys, a_.width, QueryDot(r), x, a_.biasActive);
    this->KeysTimes(kDot, j, keys, a_.width, s_.queries, x, true);
    this->KeysTimes(this->v_, j, keys, a_.valueWidth, DOutDot(r), y, false);
    this->KeysTimes(vDot, j, keys, a_.valueWidth, s_.dOut, y, true);
    Tangent(r, keys);
    T *keySums = this->KeySums(r, j), *valueSums = this->ValueSums(r, j);
    const bool add = !this->untouched_;
    this->RowsSum(x, keys, this->dOutRows_, a_.valueWidth, valueSums, s_.valuePadded, add);
    this->RowsSum(s_.scores, keys, DOutDotRows(r), a_.valueWidth, valueSums, s_.valuePadded, true);
    this->RowsSum(y, keys, this->queryRows_, a_.width, keySums, s_.padded, add);
    this->RowsSum(s_.products, keys, QueryDotRows(r), a_.width, keySums, s_.padded, true);
    this->KeysSum(this->k_, j, keys, a_.width, y, Result(r), !first);
    this->KeysSum(kDot, j, keys, a_.width, s_.products, Result(r), true);
    if (a_.biasActive) this->AddBias(r, j, keys, y);
  }

  // scoreDots = P', slopeDots = dS'
  void Tangent(int64_t r, int64_t keys) const {
    for (int64_t i = 0; i < width_; i += lanes_) {
      const V lseDot = hn::LoadU(d_, LseDot(r) + i);
      const V dotDot = hn::LoadU(d_, DotDot(r) + i);
      for (int64_t c = 0; c < keys; ++c) {
        const int64_t at = c * ld_ + i;
        const V p = hn::LoadU(d_, s_.scores + at);
        const V pDot = hn::Mul(p, hn::Sub(hn::LoadU(d_, s_.scoreDots + at), lseDot));
        const V change = hn::Mul(p, hn::Sub(hn::LoadU(d_, s_.slopeDots + at), dotDot));
        hn::StoreU(pDot, d_, s_.scoreDots + at);
        hn::StoreU(hn::MulAdd(pDot, hn::LoadU(d_, s_.slopes + at), change), d_, s_.slopeDots + at);
      }
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
