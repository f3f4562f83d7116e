// What attention.cc and its loops share: operands, the shares of threads and their scratch memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace losscape {

enum class AttentionForm { kForward, kVjp, kJvp, kVjpJvp };

// Rows of one head: token i starts at data + i * stride.
template <typename T>
struct AttentionRows {
  T* data = nullptr;
  int64_t stride = 0;
  T* Row(int64_t i) const { return data + i * stride; }
};

// B batches, H heads, N queries, M keys, D and E widths of keys and values, R tangents. Tensors of
// tokens are [B, H, N, D], or [B, N, H, D] when tokensFirst; tangents of x are [R, x].
template <typename T>
struct AttentionArgs {
  int64_t batch = 0, heads = 0, queries = 0, keys = 0, width = 0, valueWidth = 0, tangents = 0;
  bool tokensFirst = false;
  bool causal = false;      // key j takes part for queries i >= j only
  bool masked = false;      // one of the masks is there
  bool biasActive = false;  // the bias has a tangent (jvp) or a gradient (vjp)
  T scale = 1;
  const T *q = nullptr, *k = nullptr, *v = nullptr;
  const T* bias = nullptr;             // [biasBlocks, N, M]
  const int64_t* biasBlock = nullptr;  // [B * H], each in [0, biasBlocks)
  int64_t biasBlocks = 0;
  const uint8_t* mask8 = nullptr;        // [B, M]
  const int32_t* mask32 = nullptr;       // [B, M]
  const T *o = nullptr, *lse = nullptr;  // like q with E; [B, H, N]
  const T* dOut = nullptr;               // like o
  const T *qDot = nullptr, *kDot = nullptr, *vDot = nullptr, *biasDot = nullptr;
  const T *oDot = nullptr, *lseDot = nullptr, *dOutDot = nullptr;
  T *out = nullptr, *lseOut = nullptr;  // of kForward and, [R, ..], of kJvp
  T *dq = nullptr, *dk = nullptr, *dv = nullptr, *dBias = nullptr;  // of kVjp and, [R, ..], kVjpJvp

  bool Takes(int64_t b, int64_t key) const {
    if (mask8) return mask8[b * keys + key] != 0;
    if (mask32) return mask32[b * keys + key] != 0;
    return true;
  }
  // Tokens of head bh = b H + h in tangent r of x, `count` tokens of `size` numbers each.
  template <typename U>
  AttentionRows<U> Head(U* x, int64_t bh, int64_t count, int64_t size, int64_t r = 0) const {
    x += r * batch * heads * count * size;
    if (!tokensFirst) return {x + bh * count * size, size};
    return {x + (bh / heads) * count * heads * size + (bh % heads) * size, heads * size};
  }
  // Key rows far apart by a large power of two meet in few sets of the cache: such keys, and those
  // that a mask leaves over, are gathered once a head.
  bool Gathers() const {
    const auto meets = [this](int64_t size) {
      return tokensFirst && heads > 1 && heads * size * static_cast<int64_t>(sizeof(T)) % 1024 == 0;
    };
    return masked || meets(width) || meets(valueWidth);
  }
};

// Items are (b, h, row tile) in this order; a thread takes [begin, end).
struct AttentionPart {
  int64_t begin, end;
};

constexpr int64_t kAttentionKeyTile = 72;  // most keys of a tile
// Numbers in the longest vector, and most rows of a tile.
template <typename T>
constexpr int64_t kAttentionPad = 64 / static_cast<int64_t>(sizeof(T));
template <typename T>
constexpr int64_t kAttentionMaxRows = 256 / static_cast<int64_t>(sizeof(T));

inline int64_t RoundUpTo(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Row tiles of a head; one of no rows where there are no queries, which clears the gradients.
inline int64_t AttentionTiles(int64_t queries, int64_t rowTile) {
  return queries > 0 ? (queries + rowTile - 1) / rowTile : 1;
}

// The scratch memory of one thread. Tiles have a query in each lane: [.., rowTile].
template <typename T>
struct AttentionScratch {
  int64_t rowTile, padded, valuePadded;                   // D and E rounded up to whole vectors
  T *scores, *slopes, *products, *scoreDots, *slopeDots;  // [kAttentionKeyTile, rowTile]
  T *queries, *dOut, *result;                             // [D or E, rowTile]
  T *queryRows, *dOutRows;                                // [rowTile, D or E padded]
  T *queryDots, *dOutDots, *resultDots, *queryDotRows, *dOutDotRows;  // the same for each tangent
  T* lines;                                                           // [4 + 3 R, rowTile]
  T *keys, *values, *keyDots, *valueDots;                             // [M, D or E], [R, M, D or E]
  T* sums[2];      // key and value gradients [R, M, D padded], [R, M, E padded]
  T* biasSums;     // [R, biasBlocks, M, N padded]
  int32_t* index;  // [M]
  size_t bytes;

  AttentionScratch(const AttentionArgs<T>& a, AttentionForm form, int64_t rows, bool shared,
                   char* base) {
    size_t offset = 0;
    const auto take = [&](int64_t count) {
      T* at = reinterpret_cast<T*>(reinterpret_cast<uintptr_t>(base) + offset);
      offset += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;
      return at;
    };
    const bool backward = form == AttentionForm::kVjp || form == AttentionForm::kVjpJvp;
    const int64_t r =
        form == AttentionForm::kJvp || form == AttentionForm::kVjpJvp ? a.tangents : 0;
    const int64_t backwardR = form == AttentionForm::kVjpJvp ? r : 0;
    rowTile = rows;
    padded = RoundUpTo(a.width, kAttentionPad<T>);
    valuePadded = RoundUpTo(a.valueWidth, kAttentionPad<T>);
    const int64_t tile = kAttentionKeyTile * rows;
    const int64_t widest = std::max(a.width, a.valueWidth);
    scores = take(tile);
    slopes = take(backward ? tile : 0);
    products = take(backwardR ? tile : 0);
    scoreDots = take(r ? tile : 0);
    slopeDots = take(backwardR ? tile : 0);
    queries = take(a.width * rows);
    dOut = take(backward ? a.valueWidth * rows : 0);
    result = take(widest * rows);
    queryRows = take(backward ? rows * padded : 0);
    dOutRows = take(backward ? rows * valuePadded : 0);
    queryDots = take(r * a.width * rows);
    dOutDots = take(backwardR * a.valueWidth * rows);
    resultDots = take(r * widest * rows);
    queryDotRows = take(backwardR * rows * padded);
    dOutDotRows = take(backwardR * rows * valuePadded);
    lines = take((4 + 3 * r) * rows);
    const int64_t gathered = a.Gathers() ? a.keys : 0;
    keys = take(gathered * a.width);
    values = take(gathered * a.valueWidth);
    keyDots = take(r * gathered * a.width);
    valueDots = take(r * gathered * a.valueWidth);
    const int64_t copies = form == AttentionForm::kVjpJvp ? r : 1;
    for (int slot = 0; slot < 2; ++slot) {
      sums[slot] =
          take(backward && (slot == 0 || shared) ? copies * a.keys * (padded + valuePadded) : 0);
    }
    const bool sumsBias = backward && a.biasActive && a.biasBlocks != a.batch * a.heads;
    biasSums = take(sumsBias ? copies * BiasSums(a) : 0);
    index = reinterpret_cast<int32_t*>(take(a.Gathers() ? a.keys : 0));
    bytes = offset;
  }

  static int64_t BiasSums(const AttentionArgs<T>& a) {
    return a.biasBlocks * a.keys * RoundUpTo(a.queries, kAttentionMaxRows<T>);
  }
};

// Rows [begin, end) of the key and value gradients of head bh, from the sums of one thread or of
// several in order. sums[s]: see AttentionScratch.
template <typename T>
void WriteKeyGradients(const AttentionArgs<T>& a, int64_t copies, int64_t bh, const T* const* sums,
                       size_t count, int64_t begin, int64_t end) {
  const int64_t padded = RoundUpTo(a.width, kAttentionPad<T>);
  const int64_t valuePadded = RoundUpTo(a.valueWidth, kAttentionPad<T>);
  const int64_t b = bh / a.heads;
  int64_t from = begin;  // rows of sums are the keys that take part
  if (a.masked) {
    from = 0;
    for (int64_t key = 0; key < begin; ++key) from += a.Takes(b, key);
  }
  for (int64_t key = begin; key < end; ++key) {
    const bool takes = a.Takes(b, key);
    for (int64_t r = 0; r < copies; ++r) {
      const auto write = [&](T* to, int64_t size, int64_t stride, int64_t offset, T scale) {
        if (!takes) {
          std::fill(to, to + size, T{0});
          return;
        }
        const int64_t at = offset + (r * a.keys + from) * stride;
        for (int64_t i = 0; i < size; ++i) to[i] = sums[0][at + i];
        for (size_t s = 1; s < count; ++s) {
          for (int64_t i = 0; i < size; ++i) to[i] += sums[s][at + i];
        }
        for (int64_t i = 0; i < size; ++i) to[i] *= scale;
      };
      write(a.Head(a.dk, bh, a.keys, a.width, r).Row(key), a.width, padded, 0, a.scale);
      write(a.Head(a.dv, bh, a.keys, a.valueWidth, r).Row(key), a.valueWidth, valuePadded,
            copies * a.keys * padded, T{1});
    }
    from += takes;
  }
}

template <typename T>
struct AttentionLoops {
  int64_t rowTile;
  // The items of `part`; shared: heads may be split between threads.
  void (*run)(const AttentionArgs<T>& args, AttentionForm form, AttentionPart part, bool shared,
              char* scratch);
};

}  // namespace losscape
