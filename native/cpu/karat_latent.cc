// karat_latent and its derivative family: latent values of Kolmogorov-Arnold attention. With scores
// x = scale q k^T and features f_j, per sample and head (set e of the sample):
//
//   karat_latent          q, k, C [, mask]                       -> Z = sum_j f_j(x) C_j
//   karat_latent_vjp      .., dZ                                 -> dq, dk, dC
//   karat_latent_jvp      .., q', k', C' [R, ..]                 -> Z' [R, ..]
//   karat_latent_vjp_jvp  .., dZ, q', k', C', dZ' [R, ..]        -> dq', dk', dC' [R, ..]
//   karat_latent_jvp_jvp  .., q', k', C', q*, k*, C* [R, ..]     -> D^2 Z [', *] [R, ..]
//
//   q [B, H, N, D], k [B, H, M, D] (bnhd: [B, N, H, D], [B, M, H, D]), C [E, H, J, M, r],
//   mask [B, M] u8 or i32, Z [B, H, N, r]; primes stand for tangents.
//
// Per (row, key): 2 D + 2 J r FLOPs forward, 6 D + 4 J r + 2 J r backward and one sine with cosine.
// Nothing of size N x M exists: features of a tile of rows and keys live in L1. q, k and Z cross
// memory once; coefficients and their gradient, of one head at a time, stay in the cache.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/karat_latent.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "native/cpu/karat_latent-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

KaratLatentLoops<float> KaratLatentF32() { return KaratLatentLoopsFor<float>(); }
KaratLatentLoops<double> KaratLatentF64() { return KaratLatentLoopsFor<double>(); }

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE

#include "native/cpu/check.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

HWY_EXPORT(KaratLatentF32);
HWY_EXPORT(KaratLatentF64);

constexpr int64_t kWork = 100'000;  // multiply-adds that are worth a thread

KaratLatentLoops<float> LoopsFor(float) { return HWY_DYNAMIC_DISPATCH(KaratLatentF32)(); }
KaratLatentLoops<double> LoopsFor(double) { return HWY_DYNAMIC_DISPATCH(KaratLatentF64)(); }

using Shape = std::vector<int64_t>;

Shape Leading(int64_t size, Shape shape) {
  shape.insert(shape.begin(), size);
  return shape;
}

template <typename T>
class KaratLatent final : public Kernel {
 public:
  KaratLatent(const OpSpec& op, KaratForm form) : form_(form), features_(op) {
    const bool hasDz = IsBackward(form);
    const size_t directions = form == KaratForm::kJvp      ? 3
                              : form == KaratForm::kVjpJvp ? 4
                              : form == KaratForm::kJvpJvp ? 6
                                                           : 0;
    masked_ = op.Number("masked") != 0;
    ExpectOperands(op, 3 + masked_ + hasDz + directions, 3 + masked_ + hasDz + directions,
                   hasDz ? 3 : 1);
    ReadSizes(op);
    const Shape q = op.inTypes[0].shape, k = op.inTypes[1].shape, c = op.inTypes[2].shape;
    const Shape z = {a_.batch, a_.heads, a_.rows, a_.latent};
    size_t input = 3;
    if (masked_) {
      const TensorType& mask = op.inTypes[input++];
      ExpectShape(op, "the key mask", mask, {a_.batch, a_.keys});
      bytes_ = mask.dtype == DType::kU8;
      if (!bytes_) ExpectDType(op, "the key mask", mask, DType::kI32);
    }
    auto expect = [&](const char* what, const TensorType& type, const Shape& shape) {
      ExpectShape(op, what, type, shape);
      ExpectDType(op, what, type, op.inTypes[0].dtype);
    };
    expect("k", op.inTypes[1], k);
    expect("the coefficients", op.inTypes[2], c);
    if (hasDz) expect("dz", op.inTypes[input++], z);
    if (directions > 0) {
      const Shape& first = op.inTypes[input].shape;
      const int64_t r = first.empty() ? 0 : first[0];
      a_.tangents = r;
      const Shape all[] = {Leading(r, q), Leading(r, k), Leading(r, c), Leading(r, z)};
      for (size_t i = 0; i < directions; ++i) {
        const size_t part = form == KaratForm::kVjpJvp ? i : i % 3;
        expect("a tangent", op.inTypes[input++], all[part]);
      }
      expect("the result", op.outTypes[0], hasDz ? all[0] : all[3]);
      if (hasDz) {
        expect("the result", op.outTypes[1], all[1]);
        expect("the result", op.outTypes[2], all[2]);
      }
    } else {
      expect("the result", op.outTypes[0], hasDz ? q : z);
      if (hasDz) {
        expect("the result", op.outTypes[1], k);
        expect("the result", op.outTypes[2], c);
      }
    }
    a_.features = &features_;
    a_.scale = static_cast<T>(op.Number("scale"));
  }

  size_t ScratchBytes(int threads) const override { return threads * ThreadBytes(); }

  void Run(const KernelArgs& args) const override {
    KaratLatentArgs<T> a = a_;
    size_t input = 0;
    auto next = [&] { return static_cast<const T*>(args.in[input++]); };
    a.q = next();
    a.k = next();
    a.coefficients = next();
    if (masked_) {
      const void* mask = args.in[input++];
      a.maskBytes = bytes_ ? static_cast<const uint8_t*>(mask) : nullptr;
      a.maskIntegers = bytes_ ? nullptr : static_cast<const int32_t*>(mask);
    }
    const bool backward = IsBackward(form_);
    if (backward) a.dz = next();
    auto direction = [&] {
      const T *q = next(), *k = next(), *c = next();
      return KaratDirection<T>{q, k, c, form_ == KaratForm::kVjpJvp ? next() : nullptr};
    };
    if (HasTangents(form_)) a.first = direction();
    if (form_ == KaratForm::kJvpJvp) a.second = direction();
    if (HasTangents(form_) && a.tangents == 0) return;
    if (backward) {
      a.dq = static_cast<T*>(args.out[0]);
      a.dk = static_cast<T*>(args.out[1]);
      a.dc = static_cast<T*>(args.out[2]);
    } else {
      a.z = static_cast<T*>(args.out[0]);
    }
    RunUnits(a, backward, args);
  }

 private:
  void ReadSizes(const OpSpec& op) {
    const Shape &q = op.inTypes[0].shape, &k = op.inTypes[1].shape, &c = op.inTypes[2].shape;
    if (q.size() != 4 || k.size() != 4 || c.size() != 5) {
      throw Error(Code::kShape, op.name,
                  ": expected q and k of rank 4 and coefficients of rank 5, ", "got ", ShapeText(q),
                  ", ", ShapeText(k), " and ", ShapeText(c), ".");
    }
    const bool tokensFirst = op.String("layout") == "bnhd";
    const size_t head = tokensFirst ? 2 : 1, token = tokensFirst ? 1 : 2;
    a_.batch = q[0];
    a_.heads = q[head];
    a_.rows = q[token];
    a_.width = q[3];
    a_.keys = k[token];
    a_.sets = c[0];
    a_.latent = c[4];
    auto strides = [&](int64_t tokens) {
      const int64_t all = a_.heads * tokens * a_.width;
      return tokensFirst ? KaratStrides{all, a_.width, a_.heads * a_.width}
                         : KaratStrides{all, tokens * a_.width, a_.width};
    };
    a_.qStrides = strides(a_.rows);
    a_.kStrides = strides(a_.keys);
    const bool fits = k[0] == q[0] && k[head] == q[head] && k[3] == q[3] && c[1] == q[head] &&
                      c[2] == features_.Count() && c[3] == k[token] && a_.sets >= 1 &&
                      a_.batch % a_.sets == 0;
    if (!fits) {
      throw Error(Code::kShape, op.name, ": q ", ShapeText(q), ", k ", ShapeText(k),
                  " and coefficients ", ShapeText(c), " of ", features_.Count(),
                  " features do not fit one another.");
    }
  }

  size_t ThreadBytes() const {
    const size_t bytes = PlanBuffers(a_, form_, nullptr).end;
    return (bytes + 255) / 256 * 256;
  }

  void RunUnits(const KaratLatentArgs<T>& a, bool backward, const KernelArgs& args) const {
    const KaratLatentLoops<T> loops = LoopsFor(T{});
    auto roundUp = [&](int64_t n) { return (n + loops.lanes - 1) / loops.lanes * loops.lanes; };
    const KaratTiles tiles{loops.lanes, roundUp(a.width), roundUp(a.latent)};
    const int64_t rowTiles = (a.rows + tiles.Rows() - 1) / tiles.Rows();
    const int64_t units = a.heads * a.batch * rowTiles;
    if (units == 0) {
      // No row gives no gradient.
      const int64_t r = std::max<int64_t>(1, a.tangents);
      if (backward) std::fill_n(a.dk, r * a.KeyElements(), T{0});
      if (backward) std::fill_n(a.dc, r * a.AllCoefficients(), T{0});
      return;
    }
    const int64_t unitWork = a.keys * tiles.Rows() * (a.width + features_.Count() * a.latent);
    const int64_t worth = std::max<int64_t>(1, units * unitWork / kWork);
    const int parts = static_cast<int>(std::min<int64_t>({args.threads, units, worth}));
    const size_t bytes = ThreadBytes();
    char* scratch = static_cast<char*>(args.scratch);
    auto part = [&](int64_t begin, int64_t end, int) {
      for (int64_t p = begin; p < end; ++p) {
        loops.run(a, form_, UnitsOf(units, parts, static_cast<int>(p)), scratch + p * bytes);
      }
    };
    if (parts == 1) {
      part(0, 1, 0);
    } else {
      ParallelFor(args.threads, parts, 1, part);
    }
    if (backward) AddSharedSums(a, tiles, rowTiles, units, parts, scratch);
  }

  // Groups that more than one part has worked on: their slots, in the order of the parts.
  void AddSharedSums(const KaratLatentArgs<T>& a, const KaratTiles& tiles, int64_t rowTiles,
                     int64_t units, int parts, char* scratch) const {
    const size_t bytes = ThreadBytes();
    int64_t lastKeys = -1, lastSet = -1;
    for (int p = 1; p < parts; ++p) {
      const int64_t unit = UnitsOf(units, parts, p).begin;
      auto sources = [&](const KaratGroup& group, auto slots) {
        std::vector<const T*> found;
        for (int s = 0; s < parts; ++s) {
          const KaratRange range = UnitsOf(units, parts, s);
          if (range.end <= group.begin || range.begin >= group.end) continue;
          const KaratBuffers<T> buffers = PlanBuffers(a, form_, scratch + s * bytes);
          found.push_back((buffers.*slots)[group.begin >= range.begin]);
        }
        return found;
      };
      const KaratGroup keys = KeyGroup(a, rowTiles, unit), set = SetGroup(a, rowTiles, unit);
      if (keys.begin < unit && keys.index != lastKeys) {
        lastKeys = keys.index;
        StoreKeySums(a, tiles, keys.index, sources(keys, &KaratBuffers<T>::dk));
      }
      if (set.begin < unit && set.index != lastSet) {
        lastSet = set.index;
        StoreSetSums(a, tiles, set.index, sources(set, &KaratBuffers<T>::dc));
      }
    }
  }

  KaratForm form_;
  KaratFeatures features_;
  KaratLatentArgs<T> a_{};
  bool masked_, bytes_ = false;
};

std::unique_ptr<Kernel> MakeForm(const OpSpec& op, KaratForm form) {
  if (op.inTypes.size() < 3) ExpectOperands(op, 3, 11, 1);
  switch (op.inTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<KaratLatent<float>>(op, form);
    case DType::kF64:
      return std::make_unique<KaratLatent<double>>(op, form);
    default:
      ThrowDType(op, op.inTypes[0]);
  }
}

std::unique_ptr<Kernel> MakeForward(const OpSpec& op) { return MakeForm(op, KaratForm::kForward); }
std::unique_ptr<Kernel> MakeVjp(const OpSpec& op) { return MakeForm(op, KaratForm::kVjp); }
std::unique_ptr<Kernel> MakeJvp(const OpSpec& op) { return MakeForm(op, KaratForm::kJvp); }
std::unique_ptr<Kernel> MakeVjpJvp(const OpSpec& op) { return MakeForm(op, KaratForm::kVjpJvp); }
std::unique_ptr<Kernel> MakeJvpJvp(const OpSpec& op) { return MakeForm(op, KaratForm::kJvpJvp); }
LOSSCAPE_KERNEL(karat_latent, MakeForward);
LOSSCAPE_KERNEL(karat_latent_vjp, MakeVjp);
LOSSCAPE_KERNEL(karat_latent_jvp, MakeJvp);
LOSSCAPE_KERNEL(karat_latent_vjp_jvp, MakeVjpJvp);
LOSSCAPE_KERNEL(karat_latent_jvp_jvp, MakeJvpJvp);

}  // namespace
}  // namespace losscape
#endif  // HWY_ONCE
