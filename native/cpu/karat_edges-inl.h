// The loops of karat_edges.cc, compiled once per SIMD target in karat_edges_f32.cc and _f64.cc.

#if defined(LOSSCAPE_CPU_KARAT_EDGES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_KARAT_EDGES_INL
#undef LOSSCAPE_CPU_KARAT_EDGES_INL
#else
#define LOSSCAPE_CPU_KARAT_EDGES_INL
#endif

#include <algorithm>
#include <cmath>

#include "native/cpu/edge_functions-inl.h"
#include "native/cpu/karat_edges.h"
#include "native/cpu/rows-inl.h"
#include "native/cpu/tile_gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

// What does not depend on the basis: a block of query rows in the lanes against a tile of keys.
template <typename T>
class EdgeTiles {
 public:
  EdgeTiles(const KaratEdgesArgs<T>& args, const EdgeScratch& layout, T* scratch)
      : args(args), layout(layout), scratch_(scratch) {}

  void StartTask(int64_t task) {
    block = task % layout.blocks;
    task /= layout.blocks;
    const int64_t share = args.B / args.E;
    sample = task % share;
    task /= share;
    head = task % args.H;
    task /= args.H;
    set = task % args.E;
    tangent = task / args.E;
    sample += set * share;
    row = block * layout.rows;
    rows = std::min(layout.rows, args.N - row);
    for (int i = 0; i < 4; ++i) {
      const int64_t along = i == 0 ? 0 : tangent;
      const int64_t at = (along * args.E + set) * args.H + head;
      theta[i] = args.theta[i] ? args.theta[i] + at * args.P * args.M * args.r : nullptr;
    }
    LoadQueries();
  }

  // Keys [key, key + count), and their scores with the block's rows.
  void StartKeys(int64_t first) {
    key = first;
    count = std::min(kEdgeKeys, args.M - first);
    for (int i = 0; i < layout.operands; ++i) {
      const T* from = Operand(args.k[i], args.kStrides, args.M, i);
      T* to = keys(i);
      for (int64_t m = 0; m < count; ++m, to += args.D) {
        // A masked key is no number at all: its NaN must not reach a product with 0.
        if (Masked(m)) {
          std::fill(to, to + args.D, T{0});
          continue;
        }
        const T* line = from + (key + m) * args.kStrides.token;
        for (int64_t j = 0; j < args.D; ++j) to[j] = static_cast<T>(args.scale) * line[j];
      }
    }
    const RowTag<T> d;
    for (int part = 0; part < layout.parts; ++part) {
      bool add = false;
      ForPairs(part, [&](int a, int b) HWY_ATTR {
        TileGemm(d, count, args.D, layout.width, keys(a), args.D, 1, queriesT(b), layout.width,
                 scores(part), layout.width, add);
        add = true;
      });
    }
  }

  // Of the tile.
  bool Masked(int64_t m) const { return MaskedKey(key + m); }
  bool MaskedKey(int64_t m) const {
    if (!args.mask) return false;
    const int64_t at = sample * args.M + m;
    return args.maskBytes == 1 ? static_cast<const uint8_t*>(args.mask)[at] == 0
                               : static_cast<const int32_t*>(args.mask)[at] == 0;
  }

  EdgeKey KeyOf(int64_t m) const {
    double window = 1;
    if (args.shannon && args.M > 1) {
      window = 0.54 - 0.46 * std::cos(2 * kPi * static_cast<double>(key + m) /
                                      static_cast<double>(args.M - 1));
    }
    return {args.omega, window};
  }

  // to [r, width] = x [B, H, N, r] of the block's rows, zero behind them.
  void LoadLatent(const T* x, int part, T* to) const {
    const T* from = x + LatentAt(part == 0 ? 0 : tangent);
    for (int64_t p = 0; p < args.r; ++p) {
      T* line = to + p * layout.width;
      for (int64_t n = 0; n < rows; ++n) line[n] = from[n * args.r + p];
      std::fill(line + rows, line + layout.width, T{0});
    }
  }

  void StoreLatent(const T* from) const {
    T* to = args.z + LatentAt(tangent);
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t p = 0; p < args.r; ++p) to[n * args.r + p] = from[p * layout.width + n];
    }
  }

  // dq^T += keys^T slopes, dk += slopes queries, of the highest part.
  void PullKeys() {
    const RowTag<T> d;
    ForPairs(layout.parts - 1, [&](int a, int b) HWY_ATTR {
      TileGemm(d, args.D, count, layout.width, keys(a), 1, args.D, slopes(b), layout.width, dqT(),
               layout.width, true);
      TileGemm(d, count, rows, layout.depth, slopes(b), layout.width, 1, queries(a), layout.depth,
               dk() + key * layout.depth, layout.depth, true);
    });
  }

  void StoreQueryGradient() const {
    T* to = args.dq + tangent * args.B * args.H * args.N * args.D + sample * args.qStrides.sample +
            head * args.qStrides.head;
    for (int64_t n = 0; n < rows; ++n) {
      T* line = to + (row + n) * args.qStrides.token;
      for (int64_t j = 0; j < args.D; ++j) line[j] = dqT()[j * layout.width + n];
    }
  }

  void StoreKeyGradient() const {
    T* to = args.dk + tangent * args.B * args.H * args.M * args.D + sample * args.kStrides.sample +
            head * args.kStrides.head;
    for (int64_t m = 0; m < args.M; ++m) {
      T* line = to + m * args.kStrides.token;
      // Slopes of 0 times a query that is not finite are not 0.
      if (MaskedKey(m)) {
        std::fill(line, line + args.D, T{0});
        continue;
      }
      const T* from = dk() + m * layout.depth;
      for (int64_t j = 0; j < args.D; ++j) line[j] = static_cast<T>(args.scale) * from[j];
    }
  }

  T* queriesT(int i) const { return scratch_ + layout.queriesT + i * args.D * layout.width; }
  T* queries(int i) const { return scratch_ + layout.queries + i * layout.width * layout.depth; }
  T* keys(int i) const { return scratch_ + layout.keys + i * kEdgeKeys * args.D; }
  // Parts of these are TilePart() apart.
  T* scores(int i) const { return scratch_ + layout.scores + i * TilePart(); }
  T* slopes(int i) const { return scratch_ + layout.slopes + i * TilePart(); }
  int64_t TilePart() const { return kEdgeKeys * layout.width; }
  T* upstream(int i) const { return scratch_ + layout.upstream + i * UpstreamPart(); }
  int64_t UpstreamPart() const { return args.r * layout.width; }
  T* latent() const { return scratch_ + layout.latent; }
  T* dqT() const { return scratch_ + layout.dqT; }
  T* dk() const { return scratch_ + layout.dk; }

  const KaratEdgesArgs<T>& args;
  const EdgeScratch& layout;
  int64_t tangent = 0, set = 0, sample = 0, head = 0, block = 0;
  int64_t row = 0, rows = 0, key = 0, count = 0;
  const T* theta[4] = {};  // [P, M, r] of the set and head

 private:
  // Products a b of operand parts that a bilinear form's part consists of; q and k are linear in
  // themselves, so part 3 of an operand is zero.
  template <class F>
  static void ForPairs(int part, F&& body) {
    for (int a = 0; a <= part; ++a) {
      const int b = part ^ a;
      if ((a & ~part) == 0 && a < 3 && b < 3) body(a, b);
    }
  }

  const T* Operand(const T* x, const EdgeStrides& strides, int64_t tokens, int part) const {
    const int64_t along = part == 0 ? 0 : tangent;
    return x + along * args.B * args.H * tokens * args.D + sample * strides.sample +
           head * strides.head;
  }

  int64_t LatentAt(int64_t along) const {
    return (((along * args.B + sample) * args.H + head) * args.N + row) * args.r;
  }

  void LoadQueries() {
    const bool backward = args.dq != nullptr;
    for (int i = 0; i < layout.operands; ++i) {
      const T* from = Operand(args.q[i], args.qStrides, args.N, i);
      T* turned = queriesT(i);
      std::fill(turned, turned + args.D * layout.width, T{0});
      if (backward) std::fill(queries(i), queries(i) + rows * layout.depth, T{0});
      for (int64_t n = 0; n < rows; ++n) {
        const T* line = from + (row + n) * args.qStrides.token;
        for (int64_t j = 0; j < args.D; ++j) turned[j * layout.width + n] = line[j];
        if (backward) std::copy(line, line + args.D, queries(i) + n * layout.depth);
      }
    }
  }

  T* scratch_;
};

// z^T [r, width] += Top(phi) over the keys of the tile.
template <typename T, class Num, class Edge>
void EdgesForward(const EdgeTiles<T>& tiles) {
  const KaratEdgesArgs<T>& args = tiles.args;
  const RowTag<T> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t width = tiles.layout.width, part = tiles.TilePart();
  for (int64_t m = 0; m < tiles.count; ++m) {
    if (tiles.Masked(m)) continue;
    const EdgeKey key = tiles.KeyOf(m);
    const T* x = tiles.scores(0) + m * width;
    for (int64_t p = 0; p < args.r; ++p) {
      Num theta[Edge::kParameters];
      for (int c = 0; c < Edge::kParameters; ++c) {
        theta[c] = Num::Broadcast(tiles.theta, (c * args.M + tiles.key + m) * args.r + p);
      }
      const Edge edge(theta, key);
      T* z = tiles.latent() + p * width;
      for (int64_t n = 0; n < tiles.rows; n += lanes) {
        const auto phi = Top(edge.Value(Num::Load(x + n, part)));
        hn::StoreU(hn::Add(hn::LoadU(d, z + n), phi), d, z + n);
      }
    }
  }
}

// slopes = sum_p g_p d phi_p / d x, sums += Top(g_p d phi_p / d theta) over the block's rows.
template <typename T, class Num, class Edge>
void EdgesBackward(const EdgeTiles<T>& tiles, double* sums) {
  const KaratEdgesArgs<T>& args = tiles.args;
  const RowTag<T> d;
  using V = hn::Vec<RowTag<T>>;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t width = tiles.layout.width, part = tiles.TilePart();
  for (int i = 0; i < Num::kParts; ++i) {
    std::fill(tiles.slopes(i), tiles.slopes(i) + tiles.count * width, T{0});
  }
  for (int64_t m = 0; m < tiles.count; ++m) {
    if (tiles.Masked(m)) continue;
    const EdgeKey key = tiles.KeyOf(m);
    const T* x = tiles.scores(0) + m * width;
    T* slopes = tiles.slopes(0) + m * width;
    for (int64_t p = 0; p < args.r; ++p) {
      Num theta[Edge::kParameters];
      const int64_t at = (tiles.key + m) * args.r + p;
      for (int c = 0; c < Edge::kParameters; ++c) {
        theta[c] = Num::Broadcast(tiles.theta, c * args.M * args.r + at);
      }
      const Edge edge(theta, key);
      const T* g = tiles.upstream(0) + p * width;
      V total[Edge::kParameters];
      for (int c = 0; c < Edge::kParameters; ++c) total[c] = hn::Zero(d);
      for (int64_t n = 0; n < tiles.rows; n += lanes) {
        const Num weight = Num::Load(g + n, tiles.UpstreamPart());
        Num dx, dtheta[Edge::kParameters];
        edge.Slope(Num::Load(x + n, part), dx, dtheta);
        MulAdd(weight, dx, Num::Load(slopes + n, part)).Store(slopes + n, part);
        // Lanes behind the rows have weight 0, but what it multiplies may be no number.
        const auto within = hn::FirstN(d, static_cast<size_t>(tiles.rows - n));
        for (int c = 0; c < Edge::kParameters; ++c) {
          total[c] = hn::Add(total[c], hn::IfThenElseZero(within, Top(weight * dtheta[c])));
        }
      }
      for (int c = 0; c < Edge::kParameters; ++c) {
        sums[c * args.M * args.r + at] +=
            static_cast<double>(hn::GetLane(hn::SumOfLanes(d, total[c])));
      }
    }
  }
}

template <typename T, class Num, class Edge>
void ForwardTasks(const KaratEdgesArgs<T>& args, const EdgeScratch& layout, int64_t begin,
                  int64_t end, T* scratch, double*) {
  EdgeTiles<T> tiles(args, layout, scratch);
  for (int64_t task = begin; task < end; ++task) {
    tiles.StartTask(task);
    std::fill(tiles.latent(), tiles.latent() + args.r * layout.width, T{0});
    for (int64_t key = 0; key < args.M; key += kEdgeKeys) {
      tiles.StartKeys(key);
      EdgesForward<T, Num, Edge>(tiles);
    }
    tiles.StoreLatent(tiles.latent());
  }
}

// A group is what shares d theta: the tasks of one tangent, set and head. A group inside the range
// is written; one that other threads share is left in slot 0 (begun by another) or 1. begin and end
// are multiples of `blocks`: a sample's head has its keys' gradient in one thread.
template <typename T, class Num, class Edge>
void BackwardTasks(const KaratEdgesArgs<T>& args, const EdgeScratch& layout, int64_t begin,
                   int64_t end, T* scratch, double* slots) {
  EdgeTiles<T> tiles(args, layout, scratch);
  const int64_t group = args.B / args.E * layout.blocks;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t first = task / group * group;
    double* sums = first < begin ? slots : slots + layout.sums;
    if (task == begin || task == first) std::fill(sums, sums + layout.sums, 0.0);
    tiles.StartTask(task);
    if (tiles.block == 0) {
      std::fill(tiles.dk(), tiles.dk() + args.M * layout.depth, T{0});
    }
    std::fill(tiles.dqT(), tiles.dqT() + args.D * layout.width, T{0});
    for (int i = 0; i < Num::kParts; ++i) tiles.LoadLatent(args.g[i], i, tiles.upstream(i));
    for (int64_t key = 0; key < args.M; key += kEdgeKeys) {
      tiles.StartKeys(key);
      EdgesBackward<T, Num, Edge>(tiles, sums);
      tiles.PullKeys();
    }
    tiles.StoreQueryGradient();
    if (tiles.block == layout.blocks - 1) tiles.StoreKeyGradient();
    if (task == first + group - 1 && first >= begin) {
      T* to = args.dtheta + task / group * layout.sums;
      for (int64_t i = 0; i < layout.sums; ++i) to[i] = static_cast<T>(sums[i]);
    }
  }
}

template <typename T, template <class> class Edge>
KaratEdgesLoops<T> KaratEdgesLoopsOf() {
  using R0 = Real<RowTag<T>>;
  using R1 = Dual<R0>;
  using R2 = Dual<R1>;
  return {{&ForwardTasks<T, R0, Edge<R0>>, &ForwardTasks<T, R1, Edge<R1>>,
           &ForwardTasks<T, R2, Edge<R2>>},
          {&BackwardTasks<T, R0, Edge<R0>>, &BackwardTasks<T, R1, Edge<R1>>}};
}

template <typename T>
KaratEdgesLoops<T> KaratEdgesLoopsFor(EdgeBasis basis) {
  switch (basis) {
    case EdgeBasis::kRational:
      return KaratEdgesLoopsOf<T, RationalEdge>();
    case EdgeBasis::kMexicanHat:
      return KaratEdgesLoopsOf<T, MexicanHatEdge>();
    case EdgeBasis::kMorlet:
      return KaratEdgesLoopsOf<T, MorletEdge>();
    case EdgeBasis::kDog:
      return KaratEdgesLoopsOf<T, DogEdge>();
    case EdgeBasis::kMeyer:
      return KaratEdgesLoopsOf<T, MeyerEdge>();
    default:
      return KaratEdgesLoopsOf<T, ShannonEdge>();
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
