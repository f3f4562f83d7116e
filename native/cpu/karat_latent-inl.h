// The loops of karat_latent.cc, compiled once per SIMD target: query rows in the lanes.

#if defined(LOSSCAPE_CPU_KARAT_LATENT_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_KARAT_LATENT_INL
#undef LOSSCAPE_CPU_KARAT_LATENT_INL
#else
#define LOSSCAPE_CPU_KARAT_LATENT_INL
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <vector>

#include "native/cpu/karat_features-inl.h"
#include "native/cpu/karat_latent.h"
#include "native/cpu/karat_latent_tiles-inl.h"
#include "native/cpu/tile_gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
class KaratLatentWorker {
 public:
  using D = KaratTag<T>;
  using V = hn::Vec<D>;

  KaratLatentWorker(const KaratLatentArgs<T>& args, KaratForm form, KaratRange range, char* scratch)
      : a_(args),
        form_(form),
        range_(range),
        buffers_(PlanBuffers(args, form, scratch)),
        lanes_(static_cast<int64_t>(hn::Lanes(d_))),
        tiles_{lanes_, RoundUp(args.width), RoundUp(args.latent)},
        count_(args.features->Count()),
        order_(FeatureOrder(form)),
        tangents_(std::max<int64_t>(1, args.tangents)) {
    const int64_t mixed = HasTangents(form) ? count_ : 0;
    const int64_t panels = args.features->Panels(order_);
    tileKeys_ = KaratTileKeys(panels + mixed, tiles_.Rows(), sizeof(T), kTileRows);
    for (int64_t j = 0; j < count_; ++j) {
      slopes_.push_back(args.features->Slope(j));
      curvatures_.push_back(args.features->Curvature(j));
    }
  }

  void Run() {
    const int64_t tiles = (a_.rows + tiles_.Rows() - 1) / tiles_.Rows();
    for (int64_t unit = range_.begin; unit < range_.end; ++unit) {
      const int64_t bh = unit / tiles;
      head_ = bh / a_.batch;
      sample_ = bh % a_.batch;
      row_ = unit % tiles * tiles_.Rows();
      rows_ = std::min(tiles_.Rows(), a_.rows - row_);
      w_ = RoundUp(rows_);
      c_ = a_.coefficients + (a_.Set(sample_) * a_.heads + head_) * a_.Coefficients();
      k_ = a_.k + sample_ * a_.kStrides.batch + head_ * a_.kStrides.head;
      PrefetchNext(unit + 1, tiles);
      if (IsBackward(form_)) {
        Backward(unit, KeyGroup(a_, tiles, unit), SetGroup(a_, tiles, unit));
      } else {
        Forward();
      }
    }
  }

 private:
  int64_t RoundUp(int64_t n) const { return (n + lanes_ - 1) / lanes_ * lanes_; }

  // Where a direction's parts of this head of this sample lie.
  const T* Keys(const T* base, int64_t tangent) const {
    return base + tangent * a_.KeyElements() + sample_ * a_.kStrides.batch +
           head_ * a_.kStrides.head;
  }
  const T* Queries(const T* base, int64_t tangent) const {
    return base + tangent * a_.QueryElements() + sample_ * a_.qStrides.batch +
           head_ * a_.qStrides.head + row_ * a_.qStrides.token;
  }
  const T* CoefficientsOf(const T* base, int64_t tangent) const {
    return base + tangent * a_.AllCoefficients() + (c_ - a_.coefficients);
  }
  int64_t LatentAt(int64_t tangent) const {
    return tangent * a_.LatentElements() +
           ((sample_ * a_.heads + head_) * a_.rows + row_) * a_.latent;
  }

  // The next tile's rows, which lie too far apart for the hardware to foresee. Inline, because the
  // compiler drops calls of functions that do nothing but prefetch.
  HWY_INLINE void PrefetchNext(int64_t unit, int64_t tiles) const {
    if (unit >= range_.end) return;
    const int64_t b = unit / tiles % a_.batch, h = unit / tiles / a_.batch;
    const int64_t row = unit % tiles * tiles_.Rows();
    const int64_t rows = std::min(tiles_.Rows(), a_.rows - row);
    const int64_t at = b * a_.qStrides.batch + h * a_.qStrides.head + row * a_.qStrides.token;
    PrefetchRows(a_.q + at, rows, a_.width, a_.qStrides.token);
    if (!IsBackward(form_)) return;
    PrefetchRows(a_.dq + at, rows, a_.width, a_.qStrides.token);
    const int64_t latent = ((b * a_.heads + h) * a_.rows + row) * a_.latent;
    PrefetchRows(a_.dz + latent, int64_t{1}, rows * a_.latent, int64_t{0});
  }

  // scale q [rows, D] as [D, w] and, where `lines` is not null, as [rows, D'].
  void PackQueries(const T* q, T* columns, T* lines) {
    PackColumns(d_, q, a_.qStrides.token, rows_, a_.width, a_.scale, columns, w_);
    if (lines) {
      PackRows(d_, q, a_.qStrides.token, rows_, a_.width, a_.scale, lines, tiles_.width);
    }
  }
  void PackLatent(const T* dz, T* columns, T* lines) {
    PackColumns(d_, dz, a_.latent, rows_, a_.latent, T{1}, columns, w_);
    PackRows(d_, dz, a_.latent, rows_, a_.latent, T{1}, lines, tiles_.latent);
  }

  // y [keys, w] (+)= k [keys, D] q [D, w]
  void Scores(const T* k, const T* q, T* y, bool accumulate) {
    const int64_t token = a_.kStrides.token;
    TileGemm(d_, keys_, a_.width, w_, k + key_ * token, token, int64_t{1}, q, w_, y, w_,
             accumulate);
  }
  // dq [D, w] += k^T [D, keys] dx [keys, w]
  void QueryGradient(const T* k, const T* dx, T* dq) {
    const int64_t token = a_.kStrides.token;
    TileGemm(d_, a_.width, keys_, w_, k + key_ * token, int64_t{1}, token, dx, w_, dq, w_, true);
  }
  // dk [keys, D'] += dx [keys, rows] q [rows, D']
  void KeyGradient(const T* dx, const T* q, T* dk) {
    TileGemm(d_, keys_, rows_, tiles_.width, dx, w_, int64_t{1}, q, tiles_.width,
             dk + key_ * tiles_.width, tiles_.width, true);
  }
  // dc [J, keys, r'] += panels [J, keys, rows] dz [rows, r']
  void CoefficientGradient(const T* panels, const T* dz, T* dc) {
    for (int64_t j = 0; j < count_; ++j) {
      TileGemm(d_, keys_, rows_, tiles_.latent, panels + j * keys_ * w_, w_, int64_t{1}, dz,
               tiles_.latent, dc + (j * a_.keys + key_) * tiles_.latent, tiles_.latent, true);
    }
  }
  // z [r, w] += sum over features and keys of c_j [keys, r] panels_j [keys, w]
  void Contract(const T* c, const T* panels, T* z) {
    const KaratContraction<T> operands{
        c + key_ * a_.latent, a_.keys * a_.latent, a_.latent, count_, keys_, panels, w_, z};
    ContractTile(d_, a_.latent, operands);
  }
  // E_j = sum of the sources' c_j z; slope [keys, w] (+)= f_j' E_j, curve (+)= f_j'' E_j
  void Slopes(const KaratSource<T>* sources, int sourceCount, T* slope, T* curve) {
    KaratSlope<T> o{};
    for (int s = 0; s < sourceCount; ++s) {
      o.sources[s] = {sources[s].c + key_ * a_.latent, sources[s].z};
    }
    o.sourceCount = sourceCount;
    o.features = count_;
    o.featureStride = a_.keys * a_.latent;
    o.latent = a_.latent;
    o.w = w_;
    o.panels = buffers_.panels;
    o.panelStride = keys_ * w_;
    o.slopes = slopes_.data();
    o.curvatures = curvatures_.data();
    o.slope = slope;
    o.curve = curve;
    SlopeTile(d_, keys_, o);
  }

  // mixed_j = f_j'(x) y
  void MixSlopes(const T* y) {
    const int64_t count = keys_ * w_;
    for (int64_t j = 0; j < count_; ++j) {
      const T* slope = buffers_.panels + slopes_[j].panel * count;
      MultiplyTile(d_, slope, y, static_cast<T>(slopes_[j].scale), count,
                   buffers_.mixed + j * count);
    }
  }
  // mixed_j = f_j''(x) y1 y2 + f_j'(x) y
  void MixCurvatures(const T* y1, const T* y2, const T* y) {
    const int64_t count = keys_ * w_;
    for (int64_t j = 0; j < count_; ++j) {
      const V slope = hn::Set(d_, static_cast<T>(slopes_[j].scale));
      const V curvature = hn::Set(d_, static_cast<T>(curvatures_[j].scale));
      const T* first = buffers_.panels + slopes_[j].panel * count;
      const T* second = buffers_.panels + curvatures_[j].panel * count;
      T* to = buffers_.mixed + j * count;
      for (int64_t i = 0; i < count; i += lanes_) {
        const V bend = hn::Mul(hn::Mul(curvature, hn::LoadU(d_, second + i)),
                               hn::Mul(hn::LoadU(d_, y1 + i), hn::LoadU(d_, y2 + i)));
        const V line = hn::Mul(slope, hn::LoadU(d_, first + i));
        hn::StoreU(hn::MulAdd(line, hn::LoadU(d_, y + i), bend), d_, to + i);
      }
    }
  }

  // Calls body for every tile of keys that take part, its scores and features made. Tiles do not
  // reach over masked keys, which are not even read.
  template <class F>
  void ForEachKeyTile(F body) {
    for (int64_t m = 0; m < a_.keys;) {
      if (!a_.TakesPart(sample_, m)) {
        ++m;
        continue;
      }
      int64_t end = m + 1;
      const int64_t most = std::min(a_.keys, m + tileKeys_);
      if (!a_.maskBytes && !a_.maskIntegers) end = most;
      while (end < most && a_.TakesPart(sample_, end)) ++end;
      key_ = m;
      keys_ = end - m;
      m = end;
      Scores(k_, buffers_.q, buffers_.x, false);
      FillKaratPanels(d_, *a_.features, order_, buffers_.x, keys_ * w_, buffers_.panels);
      buffers_.mixed = buffers_.panels + a_.features->Panels(order_) * keys_ * w_;
      body();
    }
  }

  void Forward() {
    const int64_t latent = a_.latent * w_;
    PackQueries(Queries(a_.q, 0), buffers_.q, nullptr);
    for (int64_t t = 0; t < tangents_ && HasTangents(form_); ++t) {
      PackQueries(Queries(a_.first.q, t), buffers_.q1 + t * a_.width * w_, nullptr);
      if (form_ == KaratForm::kJvpJvp) {
        PackQueries(Queries(a_.second.q, t), buffers_.q2 + t * a_.width * w_, nullptr);
      }
    }
    std::fill_n(buffers_.z, tangents_ * latent, T{0});
    ForEachKeyTile([&] {
      if (form_ == KaratForm::kForward) {
        Contract(c_, buffers_.panels, buffers_.z);
        return;
      }
      for (int64_t t = 0; t < tangents_; ++t) {
        T* z = buffers_.z + t * latent;
        if (form_ == KaratForm::kJvp) {
          Pushforward(t, z);
        } else {
          SecondPushforward(t, z);
        }
      }
    });
    for (int64_t t = 0; t < tangents_; ++t) {
      StoreColumns(d_, buffers_.z + t * latent, w_, rows_, a_.latent, T{1}, a_.z + LatentAt(t),
                   a_.latent);
    }
  }

  // The tangent of the scores along tangent t of a direction.
  void ScoreTangent(const KaratDirection<T>& direction, const T* columns, int64_t t, T* y) {
    Scores(k_, columns + t * a_.width * w_, y, false);
    Scores(Keys(direction.k, t), buffers_.q, y, true);
  }

  void Pushforward(int64_t t, T* z) {
    ScoreTangent(a_.first, buffers_.q1, t, buffers_.x1);
    MixSlopes(buffers_.x1);
    Contract(c_, buffers_.mixed, z);
    Contract(CoefficientsOf(a_.first.coefficients, t), buffers_.panels, z);
  }

  void SecondPushforward(int64_t t, T* z) {
    const int64_t columns = t * a_.width * w_;
    ScoreTangent(a_.first, buffers_.q1, t, buffers_.x1);
    ScoreTangent(a_.second, buffers_.q2, t, buffers_.x2);
    Scores(Keys(a_.first.k, t), buffers_.q2 + columns, buffers_.curve, false);
    Scores(Keys(a_.second.k, t), buffers_.q1 + columns, buffers_.curve, true);
    MixCurvatures(buffers_.x1, buffers_.x2, buffers_.curve);
    Contract(c_, buffers_.mixed, z);
    MixSlopes(buffers_.x1);
    Contract(CoefficientsOf(a_.second.coefficients, t), buffers_.mixed, z);
    MixSlopes(buffers_.x2);
    Contract(CoefficientsOf(a_.first.coefficients, t), buffers_.mixed, z);
  }

  void Backward(int64_t unit, const KaratGroup& keyGroup, const KaratGroup& setGroup) {
    const int64_t keySums = a_.keys * tiles_.width;
    const int64_t setSums = count_ * a_.keys * tiles_.latent;
    T* dk = buffers_.dk[keyGroup.begin >= range_.begin];
    T* dc = buffers_.dc[setGroup.begin >= range_.begin];
    if (unit == std::max(keyGroup.begin, range_.begin)) std::fill_n(dk, tangents_ * keySums, T{0});
    if (unit == std::max(setGroup.begin, range_.begin)) std::fill_n(dc, tangents_ * setSums, T{0});
    PackQueries(Queries(a_.q, 0), buffers_.q, buffers_.qRows);
    PackLatent(a_.dz + LatentAt(0), buffers_.dz, buffers_.dzRows);
    std::fill_n(buffers_.dq, tangents_ * a_.width * w_, T{0});
    const KaratSource<T> primal{c_, buffers_.dz};
    if (form_ == KaratForm::kVjp) {
      ForEachKeyTile([&] {
        Slopes(&primal, 1, buffers_.dx, nullptr);
        QueryGradient(k_, buffers_.dx, buffers_.dq);
        KeyGradient(buffers_.dx, buffers_.qRows, dk);
        CoefficientGradient(buffers_.panels, buffers_.dzRows, dc);
      });
    } else {
      PackTangents();
      ForEachKeyTile([&] {
        Slopes(&primal, 1, buffers_.dx, buffers_.curve);
        for (int64_t t = 0; t < tangents_; ++t)
          BackwardTangent(t, dk + t * keySums, dc + t * setSums);
      });
    }
    for (int64_t t = 0; t < tangents_; ++t) {
      T* to = a_.dq + (Queries(a_.q, t) - a_.q);
      StoreColumns(d_, buffers_.dq + t * a_.width * w_, w_, rows_, a_.width, a_.scale, to,
                   a_.qStrides.token);
    }
    if (unit + 1 == keyGroup.end && keyGroup.begin >= range_.begin) {
      StoreKeySums(a_, tiles_, keyGroup.index, {dk});
    }
    if (unit + 1 == setGroup.end && setGroup.begin >= range_.begin) {
      StoreSetSums(a_, tiles_, setGroup.index, {dc});
    }
  }

  void PackTangents() {
    for (int64_t t = 0; t < tangents_; ++t) {
      PackQueries(Queries(a_.first.q, t), buffers_.q1 + t * a_.width * w_,
                  buffers_.q1Rows + t * tiles_.Rows() * tiles_.width);
      PackLatent(a_.first.dz + LatentAt(t), buffers_.dz1 + t * a_.latent * w_,
                 buffers_.dz1Rows + t * tiles_.Rows() * tiles_.latent);
    }
  }

  // dx' = sum_j f_j' E_j' + x' sum_j f_j'' E_j and what follows from it, of one tangent.
  void BackwardTangent(int64_t t, T* dk, T* dc) {
    T* dq = buffers_.dq + t * a_.width * w_;
    const T* qRows = buffers_.q1Rows + t * tiles_.Rows() * tiles_.width;
    const T* dzRows = buffers_.dz1Rows + t * tiles_.Rows() * tiles_.latent;
    const T* kTangent = Keys(a_.first.k, t);
    ScoreTangent(a_.first, buffers_.q1, t, buffers_.x1);
    const KaratSource<T> sources[2] = {
        {c_, buffers_.dz1 + t * a_.latent * w_},
        {CoefficientsOf(a_.first.coefficients, t), buffers_.dz},
    };
    Slopes(sources, 2, buffers_.x2, nullptr);
    const int64_t count = keys_ * w_;
    for (int64_t i = 0; i < count; i += lanes_) {
      const V bend = hn::LoadU(d_, buffers_.curve + i);
      const V sum =
          hn::MulAdd(hn::LoadU(d_, buffers_.x1 + i), bend, hn::LoadU(d_, buffers_.x2 + i));
      hn::StoreU(sum, d_, buffers_.x2 + i);
    }
    QueryGradient(k_, buffers_.x2, dq);
    QueryGradient(kTangent, buffers_.dx, dq);
    KeyGradient(buffers_.x2, buffers_.qRows, dk);
    KeyGradient(buffers_.dx, qRows, dk);
    MixSlopes(buffers_.x1);
    CoefficientGradient(buffers_.panels, dzRows, dc);
    CoefficientGradient(buffers_.mixed, buffers_.dzRows, dc);
  }

  D d_;
  const KaratLatentArgs<T>& a_;
  const KaratForm form_;
  const KaratRange range_;
  KaratBuffers<T> buffers_;
  const int64_t lanes_;
  const KaratTiles tiles_;
  const int64_t count_;  // J
  const int order_;
  const int64_t tangents_;
  int64_t tileKeys_;
  std::vector<KaratDerivative> slopes_, curvatures_;
  // The current tile: rows row_ .. row_ + rows_ (w_ of them in whole vectors) of sample_ and head_,
  // keys key_ .. key_ + keys_.
  int64_t sample_, head_, row_, rows_, w_, key_, keys_;
  const T* c_;
  const T* k_;
};

template <typename T>
void RunKaratLatent(const KaratLatentArgs<T>& args, KaratForm form, KaratRange range,
                    char* scratch) {
  KaratLatentWorker<T>(args, form, range, scratch).Run();
}

template <typename T>
KaratLatentLoops<T> KaratLatentLoopsFor() {
  return {RunKaratLatent<T>, static_cast<int64_t>(hn::Lanes(KaratTag<T>()))};
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // include guard
