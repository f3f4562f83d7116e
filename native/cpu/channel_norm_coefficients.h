// Everything about channel_norm that is not a pass over activations: the statistics of both stages
// and the coefficients of the passes, in f64, once for all kinds of statistics. Written for a
// number type: with Dual numbers the same lines give the tangents, so that
//
//   jvp      is the forward coefficients of dual moments,
//   vjp_jvp  is the backward coefficients of dual moments and dual sums.
//
// With e = x - k about the reference k of a (sample, channel), and per channel m, v of stage 1:
//
//   u = al e + dp        al = gamma psi, psi = (v + eps1)^-1/2, dp = al (k - m) + beta
//   y = k1 e + k0        k1 = a rho al, k0 = a rho (dp - mu) + b, mu and rho^-2 - eps2 of the cell
//   du = c1 dy + c2 e + c3,  dx = al du + tau (mbar + 2 vbar (x - q)) / M
//
// where tau = dm/d(batch mean): 1 for batch statistics, 0 for constants, the rate between.
#pragma once

#include <cmath>

#include "native/cpu/channel_norm.h"

namespace losscape {

struct Dual {
  double v = 0, d = 0;
  Dual() = default;
  Dual(double value) : v(value) {}  // NOLINT: constants mix with dual numbers
  Dual(double value, double tangent) : v(value), d(tangent) {}
};
inline Dual operator+(Dual a, Dual b) { return {a.v + b.v, a.d + b.d}; }
inline Dual operator-(Dual a, Dual b) { return {a.v - b.v, a.d - b.d}; }
inline Dual operator*(Dual a, Dual b) { return {a.v * b.v, a.v * b.d + a.d * b.v}; }
inline Dual& operator+=(Dual& a, Dual b) { return a = a + b; }
inline double ReciprocalRoot(double x) { return 1 / std::sqrt(x); }
inline Dual ReciprocalRoot(Dual x) {
  const double r = 1 / std::sqrt(x.v);
  return {r, -0.5 * r / x.v * x.d};
}
inline double ValueOf(double x) { return x; }
inline double ValueOf(Dual x) { return x.v; }
inline void Make(double value, double /*tangent*/, double& out) { out = value; }
inline void Make(double value, double tangent, Dual& out) { out = {value, tangent}; }

// What stage 1 and the affine parts say of one channel, and what the backward pass adds up for it.
template <class Num>
struct NormChannel {
  Num al = 1, mean = 0, psi = 1, gamma = 1, shift = 0, about = 0;
  Num a = 1, b = 0;
  double tau = 0;
  Num gShift = 0, gScale = 0;  // of stage 1; gScale without psi until Finish
  Num gA = 0, gB = 0;          // of stage 2, this channel's part
  Num meanBar = 0, varianceBar = 0;
};

template <class Num>
struct NormCell {
  Num mu = 0, rho = 1;
  Num meanG = 0, meanZ = 0;  // means over the cell of h = a dy, and of z h
};

// An affine parameter and its tangent (nullptr: none).
template <typename T>
struct NormParameter {
  const T* value = nullptr;
  const T* dot = nullptr;
  template <class Num>
  Num At(int64_t i, double neutral) const {
    Num out;
    Make(value ? static_cast<double>(value[i]) : neutral, dot ? static_cast<double>(dot[i]) : 0,
         out);
    return out;
  }
};

// One batch and one tangent of it.
template <typename T, class Num>
struct NormPoint {
  const NormShape& s;
  NormForm form;
  const T* moments;          // [N, 3, C]: reference, mean and variance about it
  const double* sums;        // [N, stride]: [count, C] of each sample; nullptr: moments do not move
  int64_t stride;            // between samples
  const T *mean, *variance;  // given, [C]
  double rate;
  bool warm;
  NormParameter<T> scale1, shift1, scale2, shift2;
  NormChannel<Num>* channel;  // [C]
  NormCell<Num>* cells;       // [N, G] of the backward pass: left by AddGradients; or nullptr

  double Reference(int64_t n, int64_t c) const { return Moment(n, 0, c); }
  double Moment(int64_t n, int which, int64_t c) const {
    return static_cast<double>(moments[(3 * n + which) * s.channels + c]);
  }
  double Sum(int64_t n, int kind, int64_t c) const {
    return sums[n * stride + kind * s.channels + c];
  }
  // Mean of e, and variance, of a (sample, channel).
  void Moments(int64_t n, int64_t c, Num& offset, Num& spread) const {
    const double o = Moment(n, 1, c);
    double oDot = 0, spreadDot = 0;
    if (sums && IsDual(form)) {
      const int kind = form == NormForm::kJvp ? 0 : 2;
      const double size = static_cast<double>(s.spatial);
      oDot = Sum(n, kind, c) / size;
      spreadDot = 2 * (Sum(n, kind + 1, c) / size - o * oDot);
    }
    Make(o, oDot, offset);
    Make(Moment(n, 2, c), spreadDot, spread);
  }
  Num Gradient(int64_t n, int which, int64_t c) const {
    Num out;
    Make(Sum(n, which, c), form == NormForm::kVjpJvp ? Sum(n, which + 4, c) : 0, out);
    return out;
  }
  Num Scale2(int64_t c) const { return scale2.template At<Num>(Stage2Index(c), 1); }
  Num Shift2(int64_t c) const { return shift2.template At<Num>(Stage2Index(c), 0); }
  int64_t Stage2Index(int64_t c) const { return s.perGroup ? c / s.Width() : c; }

  // Statistics of stage 1 for channels [first, last). fresh: those of the batch, or the new
  // estimates, when asked for: [2, C].
  void Channels(int64_t first, int64_t last, T* freshMean, T* freshVariance) const {
    for (int64_t c = first; c < last; ++c) {
      NormChannel<Num> out;
      out.a = Scale2(c);
      out.b = Shift2(c);
      if (s.stage != NormStage::kNone) {
        Stage1(c, out, freshMean, freshVariance);
        out.gamma = scale1.template At<Num>(c, 1);
        out.shift = shift1.template At<Num>(c, 0);
        out.al = out.gamma * out.psi;
      }
      channel[c] = out;
    }
  }

  void Stage1(int64_t c, NormChannel<Num>& out, T* freshMean, T* freshVariance) const {
    Num m = 0, v = 0;
    const bool given = s.stage == NormStage::kFrozen || s.stage == NormStage::kEstimate;
    if (given) {
      m = static_cast<double>(mean[c]);
      v = static_cast<double>(variance[c]);
    }
    if (s.stage != NormStage::kFrozen) {
      Num batchMean, batchVariance;
      Batch(c, batchMean, batchVariance);
      Num newMean = batchMean, newVariance = batchVariance;
      if (s.stage == NormStage::kEstimate) {
        const double r = warm ? 1 : rate;
        const Num step = batchMean - m;
        if (!s.aboutBatch && !warm) newVariance += step * step;
        newMean = m + Num(r) * step;
        newVariance = v + Num(r) * (newVariance - v);
      }
      if (freshMean) {
        freshMean[c] = static_cast<T>(ValueOf(newMean));
        freshVariance[c] = static_cast<T>(ValueOf(newVariance));
      }
      if (s.stage == NormStage::kBatch || s.through) {
        out.tau = s.stage == NormStage::kBatch || warm ? 1 : rate;
        out.about = given && !s.aboutBatch && !warm ? m : batchMean;
        m = newMean;
        v = newVariance;
      } else if (!s.after) {
        m = ValueOf(newMean);
        v = ValueOf(newVariance);
      }
    }
    out.mean = m;
    out.psi = ReciprocalRoot(v + Num(s.epsilon1));
  }

  // Mean and biased variance of a channel of the batch.
  void Batch(int64_t c, Num& batchMean, Num& batchVariance) const {
    const double share = 1 / static_cast<double>(s.samples);
    Num sum = 0, offset, spread;
    for (int64_t n = 0; n < s.samples; ++n) {
      Moments(n, c, offset, spread);
      sum += offset + Num(Reference(n, c));
    }
    batchMean = sum * Num(share);
    sum = 0;
    for (int64_t n = 0; n < s.samples; ++n) {
      Moments(n, c, offset, spread);
      const Num apart = offset + Num(Reference(n, c)) - batchMean;
      sum += spread + apart * apart;
    }
    batchVariance = sum * Num(share);
  }

  // u at the reference.
  Num AtReference(int64_t n, int64_t c) const {
    const NormChannel<Num>& k = channel[c];
    return k.al * (Num(Reference(n, c)) - k.mean) + k.shift;
  }

  NormCell<Num> Cell(int64_t n, int64_t first) const {
    NormCell<Num> cell;
    if (s.groups == 0) return cell;
    const int64_t last = first + s.Width();
    const Num share = 1 / static_cast<double>(s.Width());
    Num sum = 0, offset, spread;
    for (int64_t c = first; c < last; ++c) {
      Moments(n, c, offset, spread);
      sum += channel[c].al * offset + AtReference(n, c);
    }
    cell.mu = sum * share;
    sum = 0;
    for (int64_t c = first; c < last; ++c) {
      Moments(n, c, offset, spread);
      const Num al = channel[c].al, apart = al * offset + AtReference(n, c) - cell.mu;
      sum += al * al * spread + apart * apart;
    }
    cell.rho = ReciprocalRoot(sum * share + Num(s.epsilon2));
    return cell;
  }

  // y = slope e + value.
  void Forward(int64_t n, int64_t c, const NormCell<Num>& cell, Num& slope, Num& value) const {
    const NormChannel<Num>& k = channel[c];
    const Num factor = k.a * cell.rho;
    slope = factor * k.al;
    value = factor * (AtReference(n, c) - cell.mu) + k.b;
  }

  // Adds the means over the cell of h and z h.
  void CellGradient(int64_t n, int64_t first, NormCell<Num>& cell) const {
    if (s.groups == 0) return;
    const int64_t last = first + s.Width();
    const Num share = 1 / static_cast<double>(s.Width() * s.spatial);
    Num g = 0, z = 0;
    for (int64_t c = first; c < last; ++c) {
      g += channel[c].a * Gradient(n, 0, c);
      z += channel[c].a * SumZ(n, c, cell);
    }
    cell.meanG = g * share;
    cell.meanZ = z * share;
  }
  // Sum over a channel of dy z.
  Num SumZ(int64_t n, int64_t c, const NormCell<Num>& cell) const {
    return cell.rho *
           (channel[c].al * Gradient(n, 1, c) + (AtReference(n, c) - cell.mu) * Gradient(n, 0, c));
  }
  // du = c1 dy + c2 e + c3.
  void Stage2Gradient(int64_t n, int64_t c, const NormCell<Num>& cell, Num& c1, Num& c2,
                      Num& c3) const {
    c1 = 1;
    c2 = c3 = 0;
    if (s.groups == 0) return;
    const NormChannel<Num>& k = channel[c];
    const Num back = Num(-1) * cell.rho;
    const Num tilt = cell.meanZ * cell.rho;
    c1 = cell.rho * k.a;
    c2 = back * tilt * k.al;
    c3 = back * (cell.meanG + tilt * (AtReference(n, c) - cell.mu));
  }

  // Adds up over the samples what channels [first, last), whole cells, give to their parameters.
  void AddGradients(int64_t first, int64_t last) const {
    const double size = static_cast<double>(s.spatial);
    for (int64_t n = 0; n < s.samples; ++n) {
      for (int64_t at = first; at < last; at += s.Width()) {
        NormCell<Num> cell = Cell(n, at);
        CellGradient(n, at, cell);
        if (cells) cells[n * s.groups + at / s.Width()] = cell;
        for (int64_t c = at; c < at + s.Width(); ++c) {
          NormChannel<Num>& k = channel[c];
          const Num g = Gradient(n, 0, c), ge = Gradient(n, 1, c);
          Num c1, c2, c3, offset, spread;
          Stage2Gradient(n, c, cell, c1, c2, c3);
          Moments(n, c, offset, spread);
          const Num e = offset * Num(size), ee = (spread + offset * offset) * Num(size);
          const Num du = c1 * g + c2 * e + c3 * Num(size);
          k.gShift += du;
          k.gScale += c1 * ge + c2 * ee + c3 * e + (Num(Reference(n, c)) - k.mean) * du;
          if (s.groups == 0) continue;
          k.gA += SumZ(n, c, cell);
          k.gB += g;
        }
      }
    }
    const Num share = 1 / static_cast<double>(s.samples * s.spatial);
    for (int64_t c = first; c < last; ++c) {
      NormChannel<Num>& k = channel[c];
      k.gScale = k.psi * k.gScale;
      k.meanBar = Num(-k.tau) * share * k.al * k.gShift;
      k.varianceBar = Num(-k.tau) * share * k.gamma * k.psi * k.psi * k.gScale;  // 2 vbar / M
    }
  }

  // dx = c1 dy + c2 e + c3.
  void Backward(int64_t n, int64_t c, const NormCell<Num>& cell, Num& c1, Num& c2, Num& c3) const {
    const NormChannel<Num>& k = channel[c];
    Stage2Gradient(n, c, cell, c1, c2, c3);
    c1 = k.al * c1;
    c2 = k.al * c2 + k.varianceBar;
    c3 = k.al * c3 + k.meanBar + k.varianceBar * (Num(Reference(n, c)) - k.about);
  }
};

}  // namespace losscape
