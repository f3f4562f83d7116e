// What karat_latent.cc and its loops (karat_latent-inl.h) share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/cpu/karat_features.h"

namespace losscape {

// No vector of ours is longer; tiles are planned for it, whatever the target.
constexpr size_t kKaratVectorBytes = 64;
// Query rows of a tile, in vectors: the width of the micro-kernels of tile_gemm-inl.h.
constexpr int64_t kKaratRowVectors = 4;
// Most keys of a tile, and the bytes of L1 that its panels of features may take.
constexpr int64_t kKaratKeys = 24;
constexpr int64_t kKaratLeastKeys = 12;
constexpr int64_t kKaratPanelBytes = 24'576;

enum class KaratForm { kForward, kVjp, kJvp, kVjpJvp, kJvpJvp };

constexpr bool IsBackward(KaratForm form) {
  return form == KaratForm::kVjp || form == KaratForm::kVjpJvp;
}
constexpr bool HasTangents(KaratForm form) {
  return form != KaratForm::kForward && form != KaratForm::kVjp;
}
// The highest derivative of features that it needs.
constexpr int FeatureOrder(KaratForm form) {
  return form == KaratForm::kForward                          ? 0
         : form == KaratForm::kVjp || form == KaratForm::kJvp ? 1
                                                              : 2;
}

// Elements from one sample, head, token to the next.
struct KaratStrides {
  int64_t batch, head, token;
};

// One direction of differentiation; R of them lie one behind the other.
template <typename T>
struct KaratDirection {
  const T* q;             // [R, like q]
  const T* k;             // [R, like k]
  const T* coefficients;  // [R, E, H, J, M, r]
  const T* dz;            // [R, B, H, N, r]
};

template <typename T>
struct KaratLatentArgs {
  int64_t batch, sets, heads, rows, keys, width, latent, tangents;  // B E H N M D r R
  KaratStrides qStrides, kStrides;
  const KaratFeatures* features;
  T scale;
  const T* q;                   // [B, H, N, D], or [B, N, H, D]
  const T* k;                   // [B, H, M, D], or [B, M, H, D]
  const T* coefficients;        // [E, H, J, M, r]
  const uint8_t* maskBytes;     // [B, M], or nullptr
  const int32_t* maskIntegers;  // [B, M], or nullptr
  const T* dz;                  // [B, H, N, r]
  KaratDirection<T> first, second;
  T* z;   // [R, B, H, N, r]
  T* dq;  // [R, like q]
  T* dk;  // [R, like k]
  T* dc;  // [R, E, H, J, M, r]

  int64_t QueryElements() const { return batch * heads * rows * width; }
  int64_t KeyElements() const { return batch * heads * keys * width; }
  int64_t Coefficients() const { return features->Count() * keys * latent; }  // of one head
  int64_t AllCoefficients() const { return sets * heads * Coefficients(); }
  int64_t LatentElements() const { return batch * heads * rows * latent; }
  int64_t Set(int64_t b) const { return b * sets / batch; }
  bool TakesPart(int64_t b, int64_t m) const {
    if (maskBytes) return maskBytes[b * keys + m] != 0;
    return !maskIntegers || maskIntegers[b * keys + m] != 0;
  }
};

// What depends on the target's lanes.
struct KaratTiles {
  int64_t lanes;
  int64_t width;   // D in whole vectors
  int64_t latent;  // r in whole vectors
  int64_t Rows() const { return kKaratRowVectors * lanes; }
};

// A tile of query rows is a unit of work; units run over tiles, then samples, then heads, so that a
// thread's coefficients stay in its cache. Sums over units (dk of a head of a sample, dC of a head
// of a set) live in two slots of a thread: slot 0 is of the group that an earlier thread began,
// slot 1 of the current one. What no thread has in whole is added up in the order of threads.
struct KaratGroup {
  int64_t index, begin, end;  // units
};

template <typename T>
KaratGroup KeyGroup(const KaratLatentArgs<T>&, int64_t tiles, int64_t unit) {
  const int64_t index = unit / tiles;
  return {index, index * tiles, (index + 1) * tiles};
}

template <typename T>
KaratGroup SetGroup(const KaratLatentArgs<T>& a, int64_t tiles, int64_t unit) {
  const int64_t h = unit / tiles / a.batch, e = a.Set(unit / tiles % a.batch);
  const int64_t samples = a.batch / a.sets, first = (h * a.batch + e * samples) * tiles;
  return {e * a.heads + h, first, first + samples * tiles};
}

struct KaratRange {
  int64_t begin, end;
};

inline KaratRange UnitsOf(int64_t units, int parts, int part) {
  return {units * part / parts, units * (part + 1) / parts};
}

// Bytes of a thread's working memory.
template <typename T>
class KaratScratch {
 public:
  explicit KaratScratch(char* at) : at_(reinterpret_cast<uintptr_t>(at)) {}
  T* Take(int64_t elements) {
    T* taken = reinterpret_cast<T*>(at_);
    const size_t bytes = static_cast<size_t>(elements) * sizeof(T);
    at_ += (bytes + kKaratVectorBytes - 1) / kKaratVectorBytes * kKaratVectorBytes;
    return taken;
  }
  uintptr_t end() const { return at_; }

 private:
  uintptr_t at_;
};

// A thread's buffers; rows of a tile are in the lanes unless said otherwise. w: rows of the tile.
template <typename T>
struct KaratBuffers {
  T *q, *qRows;       // [D, w]; [rows, D']
  T *x, *dx, *curve;  // [keys, w]
  T *x1, *x2;         // [keys, w]
  T *panels, *mixed;  // [P, keys, w]; [J, keys, w]
  T* z;               // [R, r, w]
  T *dz, *dzRows;     // [r, w]; [rows, r']
  T* dq;              // [R, D, w]
  T *q1, *q1Rows;     // [R, D, w]; [R, rows, D']
  T* q2;              // [R, D, w]
  T *dz1, *dz1Rows;   // [R, r, w]; [R, rows, r']
  T *dk[2], *dc[2];   // [R, M, D'], [R, J, M, r']: slots
  uintptr_t end;      // of the memory
};

inline int64_t KaratPanelElements(int64_t panels, size_t size) {
  const int64_t least = kKaratLeastKeys * kKaratRowVectors * kKaratVectorBytes / size;
  return std::max<int64_t>(kKaratPanelBytes / size, least * panels);
}

// Keys of a tile of `rows` rows, in multiples of `step`.
inline int64_t KaratTileKeys(int64_t panels, int64_t rows, size_t size, int64_t step) {
  const int64_t fit = kKaratPanelBytes / (panels * rows * static_cast<int64_t>(size)) / step * step;
  return std::min(kKaratKeys, std::max(step, fit));
}

template <typename T>
KaratBuffers<T> PlanBuffers(const KaratLatentArgs<T>& a, KaratForm form, char* memory) {
  const int64_t lanes = kKaratVectorBytes / sizeof(T);
  const int64_t w = kKaratRowVectors * lanes, keys = kKaratKeys;
  const int64_t width = (a.width + lanes - 1) / lanes * lanes;
  const int64_t latent = (a.latent + lanes - 1) / lanes * lanes;
  const int64_t j = a.features->Count(), r = std::max<int64_t>(1, a.tangents);
  const int64_t mixed = HasTangents(form) ? j : 0;
  const int64_t panels = a.features->Panels(FeatureOrder(form)) + mixed;
  KaratScratch<T> scratch(memory);
  KaratBuffers<T> b{};
  b.q = scratch.Take(a.width * w);
  b.x = scratch.Take(keys * w);
  b.panels = scratch.Take(KaratPanelElements(panels, sizeof(T)));
  if (HasTangents(form)) {
    b.q1 = scratch.Take(r * a.width * w);
    b.x1 = scratch.Take(keys * w);
  }
  if (form == KaratForm::kJvpJvp) {
    b.q2 = scratch.Take(r * a.width * w);
    b.x2 = scratch.Take(keys * w);
    b.curve = scratch.Take(keys * w);
  }
  if (!IsBackward(form)) {
    b.z = scratch.Take(r * a.latent * w);
  } else {
    b.qRows = scratch.Take(w * width);
    b.dx = scratch.Take(keys * w);
    b.dz = scratch.Take(a.latent * w);
    b.dzRows = scratch.Take(w * latent);
    b.dq = scratch.Take(r * a.width * w);
    for (int slot = 0; slot < 2; ++slot) {
      b.dk[slot] = scratch.Take(r * a.keys * width);
      b.dc[slot] = scratch.Take(r * j * a.keys * latent);
    }
  }
  if (form == KaratForm::kVjpJvp) {
    b.curve = scratch.Take(keys * w);
    b.x2 = scratch.Take(keys * w);
    b.q1Rows = scratch.Take(r * w * width);
    b.dz1 = scratch.Take(r * a.latent * w);
    b.dz1Rows = scratch.Take(r * w * latent);
  }
  b.end = scratch.end();
  return b;
}

// Sums of the sources [rows, ld], in order, to rows of `width` that lie one behind the other
// `stride` apart.
template <typename T>
void AddSlots(const std::vector<const T*>& sources, int64_t rows, int64_t width, int64_t ld, T* to,
              int64_t stride) {
  for (int64_t i = 0; i < rows; ++i) {
    T* row = to + i * stride;
    std::copy_n(sources[0] + i * ld, width, row);
    for (size_t s = 1; s < sources.size(); ++s) {
      for (int64_t c = 0; c < width; ++c) row[c] += sources[s][i * ld + c];
    }
  }
}

// dk of a head of a sample and dC of a head of a set, from slots.
template <typename T>
void StoreKeySums(const KaratLatentArgs<T>& a, const KaratTiles& tiles, int64_t index,
                  std::vector<const T*> sources) {
  const int64_t h = index / a.batch, b = index % a.batch;
  T* to = a.dk + b * a.kStrides.batch + h * a.kStrides.head;
  for (int64_t r = 0; r < std::max<int64_t>(1, a.tangents); ++r) {
    AddSlots(sources, a.keys, a.width, tiles.width, to + r * a.KeyElements(), a.kStrides.token);
    for (const T*& source : sources) source += a.keys * tiles.width;
  }
}

template <typename T>
void StoreSetSums(const KaratLatentArgs<T>& a, const KaratTiles& tiles, int64_t index,
                  std::vector<const T*> sources) {
  const int64_t rows = a.features->Count() * a.keys;
  T* to = a.dc + index * a.Coefficients();
  for (int64_t r = 0; r < std::max<int64_t>(1, a.tangents); ++r) {
    AddSlots(sources, rows, a.latent, tiles.latent, to + r * a.AllCoefficients(), a.latent);
    for (const T*& source : sources) source += rows * tiles.latent;
  }
}

// Units [range) of a form.
template <typename T>
using KaratLatentLoop = void (*)(const KaratLatentArgs<T>& args, KaratForm form, KaratRange range,
                                 char* scratch);

template <typename T>
struct KaratLatentLoops {
  KaratLatentLoop<T> run;
  int64_t lanes;
};

}  // namespace losscape
