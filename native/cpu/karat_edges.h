// Between the kernel karat_edges.cc and its loops.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace losscape {

enum class EdgeBasis { kRational, kMexicanHat, kMorlet, kDog, kMeyer, kShannon };

// What an edge depends on beside theta: the frequency of Morlet wavelets; the Hamming window at
// its key.
struct EdgeKey {
  double omega;
  double window;
};

// Distances in elements: sample, head, token.
struct EdgeStrides {
  int64_t sample, head, token;
};

// B samples, H heads, N queries, M keys, D head width, P parameters an edge, r latent numbers,
// E parameter sets (sample b has set b E / B), R tangents. Part i of an operand is its derivative
// along the directions that are the bits of i (dual-inl.h), or nullptr: zero; parts 1 and 2 have
// the leading axis R, and so have results where there are tangents.
template <typename T>
struct KaratEdgesArgs {
  int64_t B, H, N, M, D, P, r, E, R;
  EdgeStrides qStrides, kStrides;
  const T* q[4];      // [B, H, N, D] or [B, N, H, D]
  const T* k[4];      // [B, H, M, D] or [B, M, H, D]
  const T* theta[4];  // [E, H, P, M, r]
  const T* g[2];      // [B, H, N, r]
  const void* mask;   // [B, M], of `maskBytes` each, or nullptr; 0: the key takes no part
  int maskBytes;
  T* z;  // [R, B, H, N, r]
  T *dq, *dk, *dtheta;
  double scale, omega;
  bool shannon;
};

constexpr int64_t kEdgeKeys = 24;
constexpr int64_t kEdgeRows = 256;  // at most, of a block
constexpr int64_t kEdgeAlign = 16;  // elements; a multiple of every lane count

// How a thread's scratch is divided, in elements of T from its beginning, then doubles.
struct EdgeScratch {
  int parts;                    // of a number
  int operands;                 // parts of q and k
  int64_t blocks, rows, width;  // row blocks, rows of each but the last, rows rounded up
  int64_t depth;                // D rounded up
  int64_t queriesT, queries, keys, scores, slopes, upstream, latent, dqT, dk, elements;
  int64_t sums;  // doubles in each of the two slots

  EdgeScratch() = default;
  EdgeScratch(int64_t N, int64_t M, int64_t D, int64_t P, int64_t r, int order, bool backward) {
    auto round = [](int64_t n) { return (n + kEdgeAlign - 1) / kEdgeAlign * kEdgeAlign; };
    parts = 1 << order;
    operands = order + 1;
    blocks = std::max<int64_t>(1, (N + kEdgeRows - 1) / kEdgeRows);
    rows = (N + blocks - 1) / blocks;
    width = round(std::max<int64_t>(1, rows));
    depth = round(D);
    int64_t at = 0;
    auto take = [&](int64_t count) {
      const int64_t begin = at;
      at += round(count);
      return begin;
    };
    queriesT = take(operands * D * width);
    keys = take(operands * kEdgeKeys * D);
    scores = take(parts * kEdgeKeys * width);
    latent = take(backward ? 0 : r * width);
    queries = take(backward ? operands * width * depth : 0);
    slopes = take(backward ? parts * kEdgeKeys * width : 0);
    upstream = take(backward ? parts * r * width : 0);
    dqT = take(backward ? D * width : 0);
    dk = take(backward ? M * depth : 0);
    elements = at;
    sums = backward ? P * M * r : 0;
  }
};

// Tasks [begin, end), task = ((tangent * E + set) * H + head) * B / E + sample) * blocks + block.
// scratch: `elements` numbers of T; sums: two slots of `sums`.
template <typename T>
using KaratEdgesLoop = void (*)(const KaratEdgesArgs<T>& args, const EdgeScratch& layout,
                                int64_t begin, int64_t end, T* scratch, double* sums);

template <typename T>
struct KaratEdgesLoops {
  KaratEdgesLoop<T> forward[3];  // by order: Z, its tangent, its second derivative
  KaratEdgesLoop<T> backward[2];
};

// karat_edges_f32.cc and karat_edges_f64.cc; of the best SIMD target.
KaratEdgesLoops<float> KaratEdgesLoopsF32(EdgeBasis basis);
KaratEdgesLoops<double> KaratEdgesLoopsF64(EdgeBasis basis);

}  // namespace losscape
