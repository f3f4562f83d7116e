// attention and its derivative family. With S = scale Q K^T + bias (-inf where a mask or the
// diagonal hides a key), lse = logsumexp(S), P = exp(S - lse), o = P V and D = rowsum(dO * O):
//
//   attention          q, k, v [, bias] [, mask] -> o, lse
//   attention_vjp      .., o, lse, dO            -> dQ, dK, dV [, dBias]
//   attention_jvp      .., o, lse, Q', K', V' [, bias']                 -> o', lse'       each [R,
//   ..] attention_vjp_jvp  .., o, lse, dO, Q', K', V' [, bias'], o', lse', dO' -> dQ', dK', dV' [,
//   dBias']
//
// Scores exist for one tile of queries and keys at a time. FLOPs per head: forward 2 N M (D + E),
// vjp 2 N M (3 D + 2 E), jvp 2 N M (D + R (2 D + 2 E)), vjp_jvp 2 N M (D + E + R (6 D + 4 E)).
// Scratch memory of a thread for M keys: none that grows with N; with the gradients, 1 or 2 times
// those of one head; with the gradient of a bias that heads share, that gradient once.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/attention.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "native/cpu/attention_backward-inl.h"
#include "native/cpu/attention_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

template <typename T, class F>
void ForEachAttentionHead(const AttentionArgs<T>& args, AttentionPart part, F&& f) {
  const int64_t tiles = AttentionTiles(args.queries, AttentionRowTile<T>());
  for (int64_t item = part.begin; item < part.end;) {
    const int64_t bh = item / tiles, from = item % tiles;
    const int64_t to = std::min(tiles, from + part.end - item);
    f(bh, from, to, from == 0 && to == tiles, item == part.begin);
    item += to - from;
  }
}

template <typename T, template <typename> class Loop>
void RunForward(const AttentionArgs<T>& args, AttentionForm form, AttentionPart part,
                char* scratch) {
  Loop<T> loop(args, form, false, scratch);
  ForEachAttentionHead(args, part, [&](int64_t bh, int64_t from, int64_t to, bool, bool) {
    loop.StartHead(bh);
    for (int64_t tile = from; tile < to; ++tile) loop.Rows(tile);
  });
}

template <typename T, template <typename> class Loop>
void RunBackward(const AttentionArgs<T>& args, AttentionForm form, AttentionPart part, bool shared,
                 char* scratch) {
  Loop<T> loop(args, form, shared, scratch);
  ForEachAttentionHead(args, part,
                       [&](int64_t bh, int64_t from, int64_t to, bool complete, bool first) {
                         loop.StartHead(bh, first);
                         for (int64_t tile = from; tile < to; ++tile) loop.Rows(tile);
                         loop.FinishHead(complete);
                       });
}

template <typename T>
void RunAttention(const AttentionArgs<T>& args, AttentionForm form, AttentionPart part, bool shared,
                  char* scratch) {
  switch (form) {
    case AttentionForm::kForward:
      return RunForward<T, AttentionForward>(args, form, part, scratch);
    case AttentionForm::kJvp:
      return RunForward<T, AttentionJvp>(args, form, part, scratch);
    case AttentionForm::kVjp:
      return RunBackward<T, AttentionVjp>(args, form, part, shared, scratch);
    case AttentionForm::kVjpJvp:
      return RunBackward<T, AttentionVjpJvp>(args, form, part, shared, scratch);
  }
}

AttentionLoops<float> AttentionLoopsF32() {
  return {AttentionRowTile<float>(), &RunAttention<float>};
}
AttentionLoops<double> AttentionLoopsF64() {
  return {AttentionRowTile<double>(), &RunAttention<double>};
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include <vector>

#include "native/cpu/check.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

HWY_EXPORT(AttentionLoopsF32);
HWY_EXPORT(AttentionLoopsF64);

AttentionLoops<float> LoopsFor(float) { return HWY_DYNAMIC_DISPATCH(AttentionLoopsF32)(); }
AttentionLoops<double> LoopsFor(double) { return HWY_DYNAMIC_DISPATCH(AttentionLoopsF64)(); }

constexpr int64_t kWork = 100'000;  // multiply-adds that are worth a thread

using Shape = std::vector<int64_t>;

template <typename T>
class Attention final : public Kernel {
 public:
  Attention(const OpSpec& op, AttentionForm form) : form_(form) {
    a_.causal = op.Number("causal", 0) != 0;
    a_.tokensFirst = op.String("layout") == "bnhd";
    a_.biasActive = op.Number("biasActive", 0) != 0;
    a_.scale = static_cast<T>(op.Number("scale"));
    const bool hasBias = op.Number("bias", 0) != 0;
    a_.masked = op.Number("mask", 0) != 0;
    const size_t head = 3 + hasBias + a_.masked;
    const size_t own = form == AttentionForm::kForward ? 0
                       : form == AttentionForm::kVjp   ? 3
                       : form == AttentionForm::kJvp   ? 5 + a_.biasActive
                                                       : 9 + a_.biasActive;
    ExpectOperands(op, head + own, head + own, IsBackward() ? 3 + a_.biasActive : 2);
    Sizes(op);
    if (hasBias) Bias(op);
    if (a_.masked) Mask(op, 3 + hasBias);
    Tangents(op, head);
  }

  size_t ScratchBytes(int threads) const override {
    const AttentionScratch<T> plan(a_, form_, kAttentionMaxRows<T>, threads > 1, nullptr);
    return plan.bytes * static_cast<size_t>(threads);
  }

  void Run(const KernelArgs& args) const override {
    AttentionArgs<T> a = Bound(args);
    const AttentionLoops<T> loops = LoopsFor(T{});
    const std::vector<int64_t> bounds = Parts(loops.rowTile, args.threads);
    const int64_t parts = static_cast<int64_t>(bounds.size()) - 1;
    if (parts <= 0) {
      if (a.dBias) std::fill_n(a.dBias, Copies() * a.biasBlocks * a.queries * a.keys, T{0});
      return;
    }
    const bool shared = args.threads > 1;
    const size_t each = AttentionScratch<T>(a, form_, kAttentionMaxRows<T>, shared, nullptr).bytes;
    char* scratch = static_cast<char*>(args.scratch);
    // One range a thread, so that its sums start from nothing.
    ParallelFor(args.threads, parts, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t p = begin; p < end; ++p) {
        loops.run(a, form_, {bounds[p], bounds[p + 1]}, shared, scratch + p * each);
      }
    });
    if (!IsBackward()) return;
    AddParts(a, loops.rowTile, bounds, scratch, each, args.threads);
    AddBias(a, loops.rowTile, parts, scratch, each, args.threads);
  }

 private:
  bool IsBackward() const {
    return form_ == AttentionForm::kVjp || form_ == AttentionForm::kVjpJvp;
  }
  int64_t Copies() const { return form_ == AttentionForm::kVjpJvp ? a_.tangents : 1; }

  Shape Tokens(int64_t tokens, int64_t size) const {
    Shape shape = lead_;
    if (a_.tokensFirst) {
      shape.insert(shape.end(), {tokens, a_.heads, size});
    } else {
      shape.insert(shape.end(), {a_.heads, tokens, size});
    }
    return shape;
  }
  Shape Line() const {
    Shape shape = lead_;
    shape.insert(shape.end(), {a_.heads, a_.queries});
    return shape;
  }

  void Expect(const OpSpec& op, const char* what, const TensorType& type,
              const Shape& shape) const {
    ExpectShape(op, what, type, shape);
    ExpectDType(op, what, type, op.inTypes[0].dtype);
  }

  void Sizes(const OpSpec& op) {
    const TensorType &q = op.inTypes[0], &k = op.inTypes[1], &v = op.inTypes[2];
    const size_t rank = q.shape.size();
    if (rank < 3 || k.shape.size() != rank || v.shape.size() != rank) {
      throw Error(Code::kShape, op.name, ": expected q, k and v of one rank >= 3, got ",
                  ShapeText(q.shape), ", ", ShapeText(k.shape), " and ", ShapeText(v.shape), ".");
    }
    lead_.assign(q.shape.begin(), q.shape.end() - 3);
    a_.batch = Volume(q.shape, 0, rank - 3);
    const size_t token = a_.tokensFirst ? rank - 3 : rank - 2;
    a_.heads = q.shape[a_.tokensFirst ? rank - 2 : rank - 3];
    a_.queries = q.shape[token];
    a_.keys = k.shape[token];
    a_.width = q.shape[rank - 1];
    a_.valueWidth = v.shape[rank - 1];
    Expect(op, "k", k, Tokens(a_.keys, a_.width));
    Expect(op, "v", v, Tokens(a_.keys, a_.valueWidth));
  }

  // Axes of size 1 are shared.
  void Bias(const OpSpec& op) {
    biasShape_ = op.inTypes[3].shape;
    const size_t rank = lead_.size() + 3;
    Shape full = lead_;
    full.push_back(a_.heads);
    bool fits = biasShape_.size() == rank && biasShape_[rank - 2] == a_.queries &&
                biasShape_[rank - 1] == a_.keys;
    for (size_t i = 0; fits && i < full.size(); ++i) {
      fits = biasShape_[i] == 1 || biasShape_[i] == full[i];
    }
    if (!fits) {
      throw Error(Code::kShape, op.name, ": expected a bias [.., H, N, M] with axes of size 1 ",
                  "where it is shared, got ", ShapeText(biasShape_), ".");
    }
    ExpectDType(op, "the bias", op.inTypes[3], op.inTypes[0].dtype);
    a_.biasBlocks = Volume(biasShape_, 0, rank - 2);
    const int64_t count = a_.batch * a_.heads;
    blocks_.assign(static_cast<size_t>(count), 0);
    for (int64_t bh = 0; bh < count; ++bh) {
      int64_t rest = bh, stride = 1;
      for (size_t i = full.size(); i-- > 0;) {
        if (biasShape_[i] != 1) {
          blocks_[bh] += rest % full[i] * stride;
          stride *= full[i];
        }
        rest /= full[i];
      }
    }
    a_.biasBlock = blocks_.data();
  }

  void Mask(const OpSpec& op, size_t input) {
    Shape shape = lead_;
    shape.push_back(a_.keys);
    const TensorType& type = op.inTypes[input];
    ExpectShape(op, "the mask", type, shape);
    if (type.dtype != DType::kU8 && type.dtype != DType::kI32) {
      throw Error(Code::kDType, op.name, ": expected a mask of u8 or i32, got ", Name(type.dtype),
                  ".");
    }
    wideMask_ = type.dtype == DType::kI32;
  }

  // The operands behind the head, and the results.
  void Tangents(const OpSpec& op, size_t input) {
    const Shape q = Tokens(a_.queries, a_.width), k = Tokens(a_.keys, a_.width);
    const Shape v = Tokens(a_.keys, a_.valueWidth), o = Tokens(a_.queries, a_.valueWidth);
    auto next = [&](const char* what, const Shape& shape) {
      Expect(op, what, op.inTypes[input++], shape);
    };
    if (form_ != AttentionForm::kForward) {
      next("o", o);
      next("lse", Line());
      if (IsBackward()) next("the cotangent", o);
    }
    Shape tangents;  // leading axes
    const bool hasTangents = form_ == AttentionForm::kJvp || form_ == AttentionForm::kVjpJvp;
    if (hasTangents) {
      const Shape& shape = op.inTypes[input].shape;
      if (shape.size() > q.size()) tangents.assign(shape.begin(), shape.end() - q.size());
      a_.tangents = Volume(tangents, 0, tangents.size());
    }
    const auto led = [&](const Shape& shape) {
      Shape all = tangents;
      all.insert(all.end(), shape.begin(), shape.end());
      return all;
    };
    if (hasTangents) {
      next("the tangent of q", led(q));
      next("the tangent of k", led(k));
      next("the tangent of v", led(v));
      if (a_.biasActive) next("the tangent of the bias", led(biasShape_));
    }
    if (form_ == AttentionForm::kVjpJvp) {
      next("the tangent of o", led(o));
      next("the tangent of lse", led(Line()));
      next("the tangent of the cotangent", led(o));
    }
    if (IsBackward()) {
      Expect(op, "the first result", op.outTypes[0], led(q));
      Expect(op, "the second result", op.outTypes[1], led(k));
      Expect(op, "the third result", op.outTypes[2], led(v));
      if (a_.biasActive) Expect(op, "the last result", op.outTypes[3], led(biasShape_));
    } else {
      Expect(op, "the first result", op.outTypes[0], led(o));
      Expect(op, "the second result", op.outTypes[1], led(Line()));
    }
  }

  AttentionArgs<T> Bound(const KernelArgs& args) const {
    AttentionArgs<T> a = a_;
    size_t input = 0;
    auto next = [&] { return static_cast<const T*>(args.in[input++]); };
    a.q = next();
    a.k = next();
    a.v = next();
    if (!biasShape_.empty()) a.bias = next();
    if (a.masked) {
      const void* mask = args.in[input++];
      if (wideMask_) {
        a.mask32 = static_cast<const int32_t*>(mask);
      } else {
        a.mask8 = static_cast<const uint8_t*>(mask);
      }
    }
    if (form_ != AttentionForm::kForward) {
      a.o = next();
      a.lse = next();
    }
    if (IsBackward()) a.dOut = next();
    if (form_ == AttentionForm::kJvp || form_ == AttentionForm::kVjpJvp) {
      a.qDot = next();
      a.kDot = next();
      a.vDot = next();
      if (a.biasActive) a.biasDot = next();
    }
    if (form_ == AttentionForm::kVjpJvp) {
      a.oDot = next();
      a.lseDot = next();
      a.dOutDot = next();
    }
    auto out = [&](size_t i) { return static_cast<T*>(args.out[i]); };
    if (IsBackward()) {
      a.dq = out(0);
      a.dk = out(1);
      a.dv = out(2);
      if (a.biasActive) a.dBias = out(3);
    } else {
      a.out = out(0);
      a.lseOut = out(1);
    }
    return a;
  }

  // Where the items of each thread begin. A tile costs as much as the keys that it sees.
  std::vector<int64_t> Parts(int64_t rowTile, int threads) const {
    const int64_t tiles = AttentionTiles(a_.queries, rowTile), heads = a_.batch * a_.heads;
    const int64_t items = heads * tiles;
    const int64_t work = heads * a_.queries * a_.keys * (a_.width + a_.valueWidth) *
                         std::max<int64_t>(1, a_.tangents);
    const int64_t parts = std::min({static_cast<int64_t>(threads), items, 1 + work / kWork});
    const auto costBefore = [&](int64_t item) {
      if (!a_.causal) return item;
      const int64_t tile = item % tiles;
      return item / tiles * (tiles * (tiles + 1) / 2) + tile * (tile + 1) / 2;
    };
    std::vector<int64_t> bounds{0};
    for (int64_t p = 1; p <= parts; ++p) {
      const int64_t share = costBefore(items) * p / parts;
      int64_t low = bounds.back(), high = items;
      while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (costBefore(middle) < share) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      if (low > bounds.back()) bounds.push_back(low);
    }
    return bounds;
  }

  // Heads that several parts have worked on: their sums in the order of the parts.
  void AddParts(const AttentionArgs<T>& a, int64_t rowTile, const std::vector<int64_t>& bounds,
                char* scratch, size_t each, int threads) const {
    const int64_t tiles = AttentionTiles(a.queries, rowTile);
    const size_t parts = bounds.size() - 1;
    for (size_t p = 0; p < parts;) {
      const int64_t bh = (bounds[p + 1] - 1) / tiles;  // the last head of part p
      if (bounds[p + 1] == (bh + 1) * tiles) {
        ++p;
        continue;
      }
      std::vector<const T*> sums;
      size_t q = p;
      for (; q < parts && bounds[q] < (bh + 1) * tiles; ++q) {
        const int slot = bounds[q] / tiles == bh ? 0 : 1;
        sums.push_back(AttentionScratch<T>(a, form_, rowTile, true, scratch + q * each).sums[slot]);
      }
      ParallelFor(threads, a.keys, 16, [&](int64_t begin, int64_t end, int) {
        WriteKeyGradients(a, Copies(), bh, sums.data(), sums.size(), begin, end);
      });
      // The last of these parts may share its own last head with further ones.
      p = q - 1;
    }
  }

  // The gradient of a bias that heads share, from the sums [R, blocks, M, N] of the parts.
  void AddBias(const AttentionArgs<T>& a, int64_t rowTile, int64_t parts, char* scratch,
               size_t each, int threads) const {
    if (!a.biasActive || a.biasBlocks == a.batch * a.heads) return;
    const int64_t ld = RoundUpTo(a.queries, kAttentionMaxRows<T>);
    const bool shared = threads > 1;
    std::vector<const T*> sums;
    for (int64_t p = 0; p < parts; ++p) {
      sums.push_back(AttentionScratch<T>(a, form_, rowTile, shared, scratch + p * each).biasSums);
    }
    ParallelFor(threads, Copies() * a.biasBlocks * a.queries, 16,
                [&](int64_t begin, int64_t end, int) {
                  for (int64_t row = begin; row < end; ++row) {
                    const int64_t block = row / a.queries, n = row % a.queries;
                    T* to = a.dBias + row * a.keys;
                    for (int64_t m = 0; m < a.keys; ++m) {
                      T sum = sums[0][(block * a.keys + m) * ld + n];
                      for (int64_t p = 1; p < parts; ++p) {
                        sum += sums[p][(block * a.keys + m) * ld + n];
                      }
                      to[m] = sum;
                    }
                  }
                });
  }

  AttentionForm form_;
  AttentionArgs<T> a_;
  Shape lead_, biasShape_;
  std::vector<int64_t> blocks_;
  bool wideMask_ = false;
};

std::unique_ptr<Kernel> MakeForm(const OpSpec& op, AttentionForm form) {
  if (op.inTypes.empty()) ExpectOperands(op, 3, 14, 2);
  switch (op.inTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<Attention<float>>(op, form);
    case DType::kF64:
      return std::make_unique<Attention<double>>(op, form);
    default:
      ThrowDType(op, op.inTypes[0]);
  }
}

std::unique_ptr<Kernel> MakeForward(const OpSpec& op) {
  return MakeForm(op, AttentionForm::kForward);
}
std::unique_ptr<Kernel> MakeVjp(const OpSpec& op) { return MakeForm(op, AttentionForm::kVjp); }
std::unique_ptr<Kernel> MakeJvp(const OpSpec& op) { return MakeForm(op, AttentionForm::kJvp); }
std::unique_ptr<Kernel> MakeVjpJvp(const OpSpec& op) {
  return MakeForm(op, AttentionForm::kVjpJvp);
}
LOSSCAPE_KERNEL(attention, MakeForward);
LOSSCAPE_KERNEL(attention_vjp, MakeVjp);
LOSSCAPE_KERNEL(attention_jvp, MakeJvp);
LOSSCAPE_KERNEL(attention_vjp_jvp, MakeVjpJvp);

}  // namespace
}  // namespace losscape
#endif  // HWY_ONCE
