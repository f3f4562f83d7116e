// One function per instruction and pattern of uniform operands, on whole vectors in L1.

#if defined(LOSSCAPE_CPU_FUSED_KERNELS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_FUSED_KERNELS_INL
#undef LOSSCAPE_CPU_FUSED_KERNELS_INL
#else
#define LOSSCAPE_CPU_FUSED_KERNELS_INL
#endif

#include "native/cpu/fused_plan.h"
#include "native/cpu/math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace fused {
namespace hn = hwy::HWY_NAMESPACE;

template <typename T>
using Tag = hn::CappedTag<T, kFusedSlot / sizeof(T)>;

// Instructions. `Do` takes the tag and one vector per operand.

struct Neg {
  template <class D, class V>
  static HWY_INLINE V Do(D, V a) {
    return hn::Neg(a);
  }
};

struct Abs {
  template <class D, class V>
  static HWY_INLINE V Do(D, V a) {
    return hn::Abs(a);
  }
};

struct Sign {
  template <class D, class V>
  static HWY_INLINE V Do(D d, V a) {
    const V one = hn::Set(d, 1);
    const V signedOne = hn::CopySign(one, a);
    // Comparisons keep zeros at 0 and let NaN through.
    const V nonzero = hn::IfThenElse(hn::IsNaN(a), a, signedOne);
    return hn::IfThenElse(hn::Eq(a, hn::Zero(d)), hn::Zero(d), nonzero);
  }
};

#define LOSSCAPE_FUSED_MATH(NAME)        \
  struct NAME {                          \
    static constexpr bool kHeavy = true; \
    template <class D, class V>          \
    static HWY_INLINE V Do(D d, V a) {   \
      return math::NAME(d, a);           \
    }                                    \
  };
LOSSCAPE_FUSED_MATH(Exp)
LOSSCAPE_FUSED_MATH(Expm1)
LOSSCAPE_FUSED_MATH(Log)
LOSSCAPE_FUSED_MATH(Log1p)
LOSSCAPE_FUSED_MATH(Sin)
LOSSCAPE_FUSED_MATH(Cos)
LOSSCAPE_FUSED_MATH(Tanh)
LOSSCAPE_FUSED_MATH(Erf)
LOSSCAPE_FUSED_MATH(Sigmoid)
LOSSCAPE_FUSED_MATH(Softplus)
#undef LOSSCAPE_FUSED_MATH

struct Sqrt {
  template <class D, class V>
  static HWY_INLINE V Do(D, V a) {
    return hn::Sqrt(a);
  }
};

struct Rsqrt {
  template <class D, class V>
  static HWY_INLINE V Do(D d, V a) {
    return hn::Div(hn::Set(d, 1), hn::Sqrt(a));
  }
};

struct Reciprocal {
  template <class D, class V>
  static HWY_INLINE V Do(D d, V a) {
    return hn::Div(hn::Set(d, 1), a);
  }
};

struct Cube {
  template <class D, class V>
  static HWY_INLINE V Do(D, V a) {
    return hn::Mul(a, hn::Mul(a, a));
  }
};

// x^(1/2), which differs from the square root at -infinity and -0.
struct PowHalf {
  template <class D, class V>
  static HWY_INLINE V Do(D d, V a) {
    using T = hn::TFromD<D>;
    const V infinity = hn::Set(d, std::numeric_limits<T>::infinity());
    const V root = hn::Sqrt(hn::Add(a, hn::Zero(d)));
    return hn::IfThenElse(hn::Eq(a, hn::Neg(infinity)), infinity, root);
  }
};

struct Floor {
  template <class D, class V>
  static HWY_INLINE V Do(D, V a) {
    return hn::Floor(a);
  }
};

struct Round {
  template <class D, class V>
  static HWY_INLINE V Do(D, V a) {
    return hn::Round(a);
  }
};

struct Not {
  template <class D, class V>
  static HWY_INLINE V Do(D d, V a) {
    return hn::IfThenElseZero(hn::Eq(a, hn::Zero(d)), hn::Set(d, 1));
  }
};

struct IsFinite {
  template <class D, class V>
  static HWY_INLINE V Do(D d, V a) {
    using T = hn::TFromD<D>;
    const V infinity = hn::Set(d, std::numeric_limits<T>::infinity());
    return hn::IfThenElseZero(hn::Lt(hn::Abs(a), infinity), hn::Set(d, 1));
  }
};

struct CastF32 {
  template <class D, class V>
  static HWY_INLINE V Do(D d, V a) {
    if constexpr (sizeof(hn::TFromD<D>) == 4) {
      return a;
    } else {
      return math::RoundToFormat<23, -126, 127>(d, a);
    }
  }
};

struct CastBF16 {
  template <class D, class V>
  static HWY_INLINE V Do(D d, V a) {
    using T = hn::TFromD<D>;
    if constexpr (sizeof(T) == 8) {
      return math::RoundToFormat<7, -126, 127>(d, a);
    } else {
      // Has the exponents of float: rounding the bits is right for denormals and overflow too.
      const hn::RebindToUnsigned<D> du;
      const auto bits = hn::BitCast(du, a);
      const auto even = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1u));
      const auto rounded = hn::Add(bits, hn::Add(even, hn::Set(du, 0x7fffu)));
      const V y = hn::BitCast(d, hn::And(rounded, hn::Set(du, 0xffff0000u)));
      return hn::IfThenElse(hn::IsNaN(a), hn::Set(d, std::numeric_limits<T>::quiet_NaN()), y);
    }
  }
};

struct CastF16 {
  template <class D, class V>
  static HWY_INLINE V Do(D d, V a) {
    return math::RoundToFormat<10, -14, 15>(d, a);
  }
};

// Toward zero, saturated, NaN to 0.
template <class D, class V>
HWY_INLINE V Truncate(D d, V a, double low, double high) {
  using T = hn::TFromD<D>;
  const V number = hn::IfThenElseZero(hn::Eq(a, a), a);
  const V lo = hn::Set(d, static_cast<T>(low)), hi = hn::Set(d, static_cast<T>(high));
  // Adding zero turns -0, which integers do not have, into 0.
  return hn::Add(hn::Trunc(hn::Min(hn::Max(number, lo), hi)), hn::Zero(d));
}

struct CastI32 {
  template <class D, class V>
  static HWY_INLINE V Do(D d, V a) {
    return Truncate(d, a, -2147483648.0, 2147483647.0);
  }
};

struct CastU8 {
  template <class D, class V>
  static HWY_INLINE V Do(D d, V a) {
    return Truncate(d, a, 0.0, 255.0);
  }
};

#define LOSSCAPE_FUSED_BINARY(NAME, ...)    \
  struct NAME {                             \
    template <class D, class V>             \
    static HWY_INLINE V Do(D d, V a, V b) { \
      (void)d;                              \
      return __VA_ARGS__;                   \
    }                                       \
  };
LOSSCAPE_FUSED_BINARY(Add, hn::Add(a, b))
LOSSCAPE_FUSED_BINARY(Sub, hn::Sub(a, b))
LOSSCAPE_FUSED_BINARY(Mul, hn::Mul(a, b))
LOSSCAPE_FUSED_BINARY(Div, hn::Div(a, b))
LOSSCAPE_FUSED_BINARY(Pow, math::Pow(d, a, b))
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128 && HWY_TARGET != HWY_SCALAR
// These instructions return b when one of the two is NaN.
LOSSCAPE_FUSED_BINARY(Max, hn::IfThenElse(hn::IsNaN(a), a, hn::Max(a, b)))
LOSSCAPE_FUSED_BINARY(Min, hn::IfThenElse(hn::IsNaN(a), a, hn::Min(a, b)))
#else
LOSSCAPE_FUSED_BINARY(Max, hn::IfThenElse(hn::Or(hn::IsNaN(a), hn::IsNaN(b)), hn::Add(a, b),
                                          hn::Max(a, b)))
LOSSCAPE_FUSED_BINARY(Min, hn::IfThenElse(hn::Or(hn::IsNaN(a), hn::IsNaN(b)), hn::Add(a, b),
                                          hn::Min(a, b)))
#endif
#define LOSSCAPE_FUSED_TRUTH(MASK) hn::IfThenElseZero(MASK, hn::Set(d, 1))
// hn::Ne is false for NaN on some targets; what differs is not equal.
#define LOSSCAPE_FUSED_UNLESS(MASK) hn::IfThenZeroElse(MASK, hn::Set(d, 1))
LOSSCAPE_FUSED_BINARY(Eq, LOSSCAPE_FUSED_TRUTH(hn::Eq(a, b)))
LOSSCAPE_FUSED_BINARY(Ne, LOSSCAPE_FUSED_UNLESS(hn::Eq(a, b)))
LOSSCAPE_FUSED_BINARY(Lt, LOSSCAPE_FUSED_TRUTH(hn::Lt(a, b)))
LOSSCAPE_FUSED_BINARY(Le, LOSSCAPE_FUSED_TRUTH(hn::Le(a, b)))
LOSSCAPE_FUSED_BINARY(And,
                      LOSSCAPE_FUSED_UNLESS(hn::Or(hn::Eq(a, hn::Zero(d)), hn::Eq(b, hn::Zero(d)))))
LOSSCAPE_FUSED_BINARY(Or, LOSSCAPE_FUSED_UNLESS(hn::And(hn::Eq(a, hn::Zero(d)),
                                                        hn::Eq(b, hn::Zero(d)))))
// The decoder turns these around.
LOSSCAPE_FUSED_BINARY(Gt, LOSSCAPE_FUSED_TRUTH(hn::Lt(b, a)))
LOSSCAPE_FUSED_BINARY(Ge, LOSSCAPE_FUSED_TRUTH(hn::Le(b, a)))
#undef LOSSCAPE_FUSED_BINARY

#define LOSSCAPE_FUSED_TERNARY(NAME, ...)        \
  struct NAME {                                  \
    template <class D, class V>                  \
    static HWY_INLINE V Do(D d, V a, V b, V c) { \
      (void)d;                                   \
      return __VA_ARGS__;                        \
    }                                            \
  };
LOSSCAPE_FUSED_TERNARY(Where, hn::IfThenElse(hn::Eq(a, hn::Zero(d)), c, b))
LOSSCAPE_FUSED_TERNARY(MulAdd, hn::MulAdd(a, b, c))
LOSSCAPE_FUSED_TERNARY(MulSub, hn::MulSub(a, b, c))
LOSSCAPE_FUSED_TERNARY(NegMulAdd, hn::NegMulAdd(a, b, c))
LOSSCAPE_FUSED_TERNARY(EqMul, hn::Mul(LOSSCAPE_FUSED_TRUTH(hn::Eq(a, b)), c))
LOSSCAPE_FUSED_TERNARY(NeMul, hn::Mul(LOSSCAPE_FUSED_UNLESS(hn::Eq(a, b)), c))
LOSSCAPE_FUSED_TERNARY(LtMul, hn::Mul(LOSSCAPE_FUSED_TRUTH(hn::Lt(a, b)), c))
LOSSCAPE_FUSED_TERNARY(LeMul, hn::Mul(LOSSCAPE_FUSED_TRUTH(hn::Le(a, b)), c))
#undef LOSSCAPE_FUSED_TERNARY
#undef LOSSCAPE_FUSED_TRUTH
#undef LOSSCAPE_FUSED_UNLESS

#define LOSSCAPE_FUSED_SELECT(NAME, TEST)           \
  struct NAME {                                     \
    template <class D, class V>                     \
    static HWY_INLINE V Do(D, V a, V b, V c, V e) { \
      return hn::IfThenElse(hn::TEST(a, b), c, e);  \
    }                                               \
  };
LOSSCAPE_FUSED_SELECT(EqSelect, Eq)
LOSSCAPE_FUSED_SELECT(LtSelect, Lt)
LOSSCAPE_FUSED_SELECT(LeSelect, Le)
#undef LOSSCAPE_FUSED_SELECT

// target[i] = op(source[0][i], ...) for i < n, n a multiple of the lanes; operands in the set
// kUniform (bit per operand) are one vector for all i. The target may be one of the sources that
// are not uniform. Sources need no alignment.
template <typename T>
using Kernel = void (*)(T* target, const T* const* source, size_t n);

template <typename Op, typename = void>
struct Unroll {
  static constexpr size_t kValue = 4;
};
// Long enough for the CPU to overlap two, too long for the registers to hold four.
template <typename Op>
struct Unroll<Op, std::enable_if_t<Op::kHeavy>> {
  static constexpr size_t kValue = 2;
};

// The vector of one operand: loaded before the loop when uniform.
template <bool kUniform, typename T>
struct Reader {
  using V = hn::Vec<Tag<T>>;
  explicit HWY_INLINE Reader(const T* from) : value(hn::LoadU(Tag<T>(), from)) {}
  HWY_INLINE V At(size_t) const { return value; }
  V value;
};

template <typename T>
struct Reader<false, T> {
  using V = hn::Vec<Tag<T>>;
  explicit HWY_INLINE Reader(const T* from) : from(from) {}
  HWY_INLINE V At(size_t i) const { return hn::LoadU(Tag<T>(), from + i); }
  const T* from;
};

template <class F, typename T>
HWY_INLINE void ForVectors(size_t n, size_t unroll, T* target, F f) {
  const Tag<T> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  if (unroll == 4) {
    for (; i + 4 * lanes <= n; i += 4 * lanes) {
      // All loads before all stores: the compiler may not move them across by itself.
      const auto v0 = f(i), v1 = f(i + lanes), v2 = f(i + 2 * lanes), v3 = f(i + 3 * lanes);
      hn::StoreU(v0, d, target + i);
      hn::StoreU(v1, d, target + i + lanes);
      hn::StoreU(v2, d, target + i + 2 * lanes);
      hn::StoreU(v3, d, target + i + 3 * lanes);
    }
  } else {
    for (; i + 2 * lanes <= n; i += 2 * lanes) {
      const auto v0 = f(i), v1 = f(i + lanes);
      hn::StoreU(v0, d, target + i);
      hn::StoreU(v1, d, target + i + lanes);
    }
  }
  for (; i < n; i += lanes) hn::StoreU(f(i), d, target + i);
}

template <typename T, class Op, int kUniform>
void Run1(T* target, const T* const* source, size_t n) {
  const Reader<kUniform & 1, T> a(source[0]);
  ForVectors(n, Unroll<Op>::kValue, target,
             [&](size_t i) HWY_ATTR { return Op::Do(Tag<T>(), a.At(i)); });
}

template <typename T, class Op, int kUniform>
void Run2(T* target, const T* const* source, size_t n) {
  const Reader<(kUniform & 1) != 0, T> a(source[0]);
  const Reader<(kUniform & 2) != 0, T> b(source[1]);
  ForVectors(n, Unroll<Op>::kValue, target,
             [&](size_t i) HWY_ATTR { return Op::Do(Tag<T>(), a.At(i), b.At(i)); });
}

template <typename T, class Op, int kUniform>
void Run3(T* target, const T* const* source, size_t n) {
  const Reader<(kUniform & 1) != 0, T> a(source[0]);
  const Reader<(kUniform & 2) != 0, T> b(source[1]);
  const Reader<(kUniform & 4) != 0, T> c(source[2]);
  ForVectors(n, Unroll<Op>::kValue, target,
             [&](size_t i) HWY_ATTR { return Op::Do(Tag<T>(), a.At(i), b.At(i), c.At(i)); });
}

template <typename T, class Op, int kUniform>
void Run4(T* target, const T* const* source, size_t n) {
  const Reader<(kUniform & 1) != 0, T> a(source[0]);
  const Reader<(kUniform & 2) != 0, T> b(source[1]);
  const Reader<(kUniform & 4) != 0, T> c(source[2]);
  const Reader<(kUniform & 8) != 0, T> e(source[3]);
  ForVectors(n, Unroll<Op>::kValue, target, [&](size_t i) HWY_ATTR {
    return Op::Do(Tag<T>(), a.At(i), b.At(i), c.At(i), e.At(i));
  });
}

// By the set of uniform operands. With all of them uniform n is one vector, and the first serves.
template <typename T>
struct Kernels {
  Kernel<T> by[16];
};

template <typename T, class Op, int kArity>
constexpr Kernels<T> MakeKernels() {
  if constexpr (kArity == 1) {
    return {{Run1<T, Op, 0>, Run1<T, Op, 0>}};
  } else if constexpr (kArity == 2) {
    return {{Run2<T, Op, 0>, Run2<T, Op, 1>, Run2<T, Op, 2>, Run2<T, Op, 0>}};
  } else if constexpr (kArity == 3) {
    return {{Run3<T, Op, 0>, Run3<T, Op, 1>, Run3<T, Op, 2>, Run3<T, Op, 3>, Run3<T, Op, 4>,
             Run3<T, Op, 5>, Run3<T, Op, 6>, Run3<T, Op, 0>}};
  } else {
    return {{Run4<T, Op, 0>, Run4<T, Op, 1>, Run4<T, Op, 2>, Run4<T, Op, 3>, Run4<T, Op, 4>,
             Run4<T, Op, 5>, Run4<T, Op, 6>, Run4<T, Op, 7>, Run4<T, Op, 8>, Run4<T, Op, 9>,
             Run4<T, Op, 10>, Run4<T, Op, 11>, Run4<T, Op, 12>, Run4<T, Op, 13>, Run4<T, Op, 14>,
             Run4<T, Op, 0>}};
  }
}

template <typename T>
inline const Kernels<T>& KernelsOf(FusedOp op) {
  static constexpr Kernels<T> kTable[] = {
#define LOSSCAPE_FUSED_KERNEL(NAME, WIRE, ARITY, COST) MakeKernels<T, NAME, ARITY>(),
      LOSSCAPE_FUSED_OPS(LOSSCAPE_FUSED_KERNEL)
#undef LOSSCAPE_FUSED_KERNEL
  };
  return kTable[static_cast<int>(op)];
}

}  // namespace fused
}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // include guard
