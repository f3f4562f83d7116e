// How operands come into L1 and results leave it: conversions and gathers.

#if defined(LOSSCAPE_CPU_FUSED_IO_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_FUSED_IO_INL
#undef LOSSCAPE_CPU_FUSED_IO_INL
#else
#define LOSSCAPE_CPU_FUSED_IO_INL
#endif

#include <algorithm>
#include <cstring>

#include "native/cpu/fused_kernels-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace fused {

// Elements in memory that have no arithmetic type of their own.
struct BF16 {
  uint16_t bits;
};
struct F16 {
  uint16_t bits;
};

#if HWY_ARCH_X86 && (HWY_TARGET > HWY_AVX2 || defined(HWY_DISABLE_F16C))
constexpr bool kConvertsF16 = false;
#else
constexpr bool kConvertsF16 = true;
#endif

// The integer forms below serve targets without f16 instructions. 2^112 takes the exponent of f16
// to that of f32, and the multiplication makes denormals normal.
template <class D>
HWY_INLINE hn::Vec<D> FromF16(D d, const F16* from) {
  if constexpr (kConvertsF16) {
    const hn::Rebind<hwy::float16_t, D> d16;
    return hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(from)));
  } else {
    const hn::RebindToUnsigned<D> du;
    const hn::Rebind<uint16_t, D> d16;
    const auto bits = hn::PromoteTo(du, hn::LoadU(d16, &from->bits));
    const auto magnitude = hn::And(bits, hn::Set(du, 0x7fffu));
    const auto scaled = hn::Mul(hn::BitCast(d, hn::ShiftLeft<13>(magnitude)), hn::Set(d, 0x1p112f));
    const auto special =
        hn::BitCast(d, hn::Or(hn::ShiftLeft<13>(magnitude), hn::Set(du, 0x7f800000u)));
    const auto most = hn::BitCast(d, hn::Set(du, 0x47800000u));  // 65536
    const auto sign = hn::ShiftLeft<16>(hn::And(bits, hn::Set(du, 0x8000u)));
    const auto value = hn::IfThenElse(hn::Ge(scaled, most), special, scaled);
    return hn::Or(value, hn::BitCast(d, sign));
  }
}

template <class D, class V>
HWY_INLINE void ToF16(D d, V x, F16* to) {
  if constexpr (kConvertsF16) {
    const hn::Rebind<hwy::float16_t, D> d16;
    hn::StoreU(hn::DemoteTo(d16, x), d16, reinterpret_cast<hwy::float16_t*>(to));
  } else {
    const hn::RebindToUnsigned<D> du;
    const hn::RebindToSigned<D> di;
    const hn::Rebind<uint16_t, D> d16;
    const V rounded = math::RoundToFormat<10, -14, 15>(d, x);
    const V a = hn::Abs(rounded);
    const auto scaled = hn::BitCast(du, hn::Mul(a, hn::Set(d, 0x1p-112f)));
    const auto finite = hn::Lt(a, hn::Set(d, std::numeric_limits<float>::infinity()));
    const auto special = hn::IfThenElse(hn::IsNaN(a), hn::BitCast(d, hn::Set(du, 0x7e00u)),
                                        hn::BitCast(d, hn::Set(du, 0x7c00u)));
    const auto bits = hn::BitCast(
        du, hn::IfThenElse(finite, hn::BitCast(d, hn::ShiftRight<13>(scaled)), special));
    const auto sign = hn::And(hn::ShiftRight<16>(hn::BitCast(du, x)), hn::Set(du, 0x8000u));
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, hn::Or(bits, sign))), d16, &to->bits);
  }
}

// One vector of T from elements of type S.
template <class D, typename S, typename T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> Import(D d, const S* from) {
  if constexpr (std::is_same_v<S, T>) {
    return hn::LoadU(d, from);
  } else if constexpr (std::is_same_v<T, double> &&
                       (std::is_same_v<S, float> || std::is_same_v<S, int32_t>)) {
    return hn::PromoteTo(d, hn::LoadU(hn::Rebind<S, D>(), from));
  } else if constexpr (std::is_same_v<S, uint8_t>) {
    const hn::Rebind<int32_t, D> di;
    const auto wide = hn::PromoteTo(di, hn::LoadU(hn::Rebind<uint8_t, D>(), from));
    if constexpr (sizeof(T) == 8) {
      return hn::PromoteTo(d, wide);
    } else {
      return hn::ConvertTo(d, wide);
    }
  } else if constexpr (sizeof(T) == 8) {
    return hn::PromoteTo(d, Import(hn::Rebind<float, D>(), from));
  } else if constexpr (std::is_same_v<S, BF16>) {
    const hn::RebindToUnsigned<D> du;
    const hn::Rebind<uint16_t, D> d16;
    return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(d16, &from->bits))));
  } else {
    static_assert(std::is_same_v<S, F16>, "no other element type");
    return FromF16(d, from);
  }
}

template <class D, class V, typename S, typename T = hn::TFromD<D>>
HWY_INLINE void Export(D d, V x, S* to) {
  if constexpr (std::is_same_v<S, T>) {
    hn::StoreU(x, d, to);
  } else if constexpr (std::is_same_v<S, float>) {
    const hn::Rebind<float, D> d32;
    hn::StoreU(math::ToFloat(d32, x), d32, to);
  } else if constexpr (std::is_same_v<S, int32_t>) {
    const hn::Rebind<int32_t, D> di;
    hn::StoreU(hn::DemoteTo(di, CastI32::Do(d, x)), di, to);
  } else if constexpr (std::is_same_v<S, uint8_t>) {
    const hn::Rebind<int32_t, D> di;
    const hn::Rebind<uint8_t, D> d8;
    const V number = CastU8::Do(d, x);
    if constexpr (sizeof(T) == 8) {
      hn::StoreU(hn::DemoteTo(d8, hn::DemoteTo(di, number)), d8, to);
    } else {
      hn::StoreU(hn::DemoteTo(d8, hn::ConvertTo(di, number)), d8, to);
    }
  } else if constexpr (sizeof(T) == 8) {
    // Rounded here, so that the way through f32 does not round twice.
    const hn::Rebind<float, D> d32;
    using Cast = std::conditional_t<std::is_same_v<S, BF16>, CastBF16, CastF16>;
    Export(d32, math::ToFloat(d32, Cast::Do(d, x)), to);
  } else if constexpr (std::is_same_v<S, BF16>) {
    const hn::RebindToSigned<D> di;
    const hn::RebindToUnsigned<D> du;
    const hn::Rebind<uint16_t, D> d16;
    const auto bits = hn::ShiftRight<16>(hn::BitCast(du, CastBF16::Do(d, x)));
    hn::StoreU(hn::DemoteTo(d16, hn::BitCast(di, bits)), d16, &to->bits);
  } else {
    static_assert(std::is_same_v<S, F16>, "no other element type");
    ToF16(d, x, to);
  }
}

// to[0 .. n) from n elements; writes whole vectors, reads no more than n elements.
template <typename T, typename S>
void ImportAll(const S* from, T* to, size_t n) {
  const Tag<T> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) hn::StoreU(Import(d, from + i), d, to + i);
  if (i == n) return;
  S rest[kFusedSlot / sizeof(T)] = {};
  std::memcpy(rest, from + i, (n - i) * sizeof(S));
  hn::StoreU(Import(d, rest), d, to + i);
}

// n elements from a vector value (step 1) or a uniform one (step 0).
template <typename T, typename S>
void ExportAll(const T* from, size_t step, S* to, size_t n) {
  const Tag<T> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) Export(d, hn::LoadU(d, from + i * step), to + i);
  if (i == n) return;
  S rest[kFusedSlot / sizeof(T)];
  Export(d, hn::LoadU(d, from + i * step), rest);
  std::memcpy(to + i, rest, (n - i) * sizeof(S));
}

// Copies a run of n elements of the size of U, `stride` apart. May write kFusedSlot bytes more than
// n elements; reads `readable` elements from `from` at most.
template <typename U>
HWY_INLINE void CopyRun(const U* from, int64_t stride, int64_t n, int64_t readable, U* to) {
  const Tag<U> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  if (stride == 0) {
    const auto value = hn::Set(d, *from);
    for (int64_t i = 0; i < n; i += lanes) hn::StoreU(value, d, to + i);
  } else if (stride != 1) {
    for (int64_t i = 0; i < n; ++i) to[i] = from[i * stride];
  } else if (n + lanes <= readable) {
    for (int64_t i = 0; i < n; i += lanes) hn::StoreU(hn::LoadU(d, from + i), d, to + i);
  } else {
    std::memcpy(to, from, n * sizeof(U));
  }
}

constexpr int64_t kManyLines = 128;

// Rows whose elements are far apart in memory, but neighbours to those of the next row: column by
// column, so that a cache line is fetched once for all rows.
template <typename U>
void CopyAcross(const U* from, int64_t stride, int64_t length, int64_t rowStride, int64_t rows,
                U* to) {
  for (int64_t j = 0; j < length; ++j) {
    const U* column = from + j * stride;
    for (int64_t i = 0; i < rows; ++i) to[i * length + j] = column[i * rowStride];
  }
}

// The elements [begin, begin + n) of the space, as they are in memory.
template <typename U>
void Collect(const FusedOperand& operand, const U* from, int64_t begin, int64_t n, U* to) {
  const int inner = operand.rank - 1;
  int64_t index[kFusedMaxRank];
  int64_t at = operand.offset;
  for (int axis = inner; axis >= 0; --axis) {
    index[axis] = begin % operand.shape[axis];
    begin /= operand.shape[axis];
    at += index[axis] * operand.stride[axis];
  }
  const int64_t length = operand.shape[inner], stride = operand.stride[inner];
  // Short rows stay in L1 until the next one anyway.
  const bool across =
      length >= kManyLines && stride > 1 && inner > 0 && operand.stride[inner - 1] < stride;
  while (true) {
    int64_t rows = 1;
    if (across && index[inner] == 0) {
      rows = std::min(n / length, operand.shape[inner - 1] - index[inner - 1]);
    }
    if (rows > 1) {
      const int64_t step = operand.stride[inner - 1];
      CopyAcross(from + at, stride, length, step, rows, to);
      n -= rows * length;
      to += rows * length;
      index[inner - 1] += rows - 1;
      at += (rows - 1) * step;
    } else {
      const int64_t run = std::min(length - index[inner], n);
      CopyRun(from + at, stride, run, operand.elements - at, to);
      n -= run;
      to += run;
      at -= index[inner] * stride;
      index[inner] = 0;
    }
    if (n == 0) return;
    // To the start of the next row.
    int axis = inner - 1;
    while (true) {
      at += operand.stride[axis];
      if (++index[axis] < operand.shape[axis]) break;
      at -= operand.shape[axis] * operand.stride[axis];
      index[axis] = 0;
      --axis;
    }
  }
}

template <size_t kSize>
struct UnsignedOf;
template <>
struct UnsignedOf<1> {
  using Type = uint8_t;
};
template <>
struct UnsignedOf<2> {
  using Type = uint16_t;
};
template <>
struct UnsignedOf<4> {
  using Type = uint32_t;
};
template <>
struct UnsignedOf<8> {
  using Type = uint64_t;
};

// Collects and converts; writes whole vectors and up to kFusedPadding bytes more.
template <typename T, typename S>
void Gather(const FusedOperand& operand, const S* from, int64_t begin, int64_t n, T* to) {
  using U = typename UnsignedOf<sizeof(S)>::Type;
  // A narrower type is collected at the end of the buffer and converted forward, in place: the
  // vector written never reaches the elements still to be read.
  const size_t lanes = hn::Lanes(Tag<T>());
  const size_t whole = (static_cast<size_t>(n) + lanes - 1) / lanes * lanes;
  char* raw = reinterpret_cast<char*>(to) + whole * (sizeof(T) - sizeof(S));
  Collect(operand, reinterpret_cast<const U*>(from), begin, n, reinterpret_cast<U*>(raw));
  if constexpr (!std::is_same_v<S, T>) {
    ImportAll(reinterpret_cast<const S*>(raw), to, static_cast<size_t>(n));
  }
}

// Calls f with a pointer of the element type to choose the instance.
template <typename T, class F>
HWY_INLINE void WithElement(DType dtype, F f) {
  switch (dtype) {
    case DType::kF32:
      return f(static_cast<float*>(nullptr));
    case DType::kBF16:
      return f(static_cast<BF16*>(nullptr));
    case DType::kF16:
      return f(static_cast<F16*>(nullptr));
    case DType::kU8:
      return f(static_cast<uint8_t*>(nullptr));
    case DType::kF64:
      if constexpr (sizeof(T) == 8) f(static_cast<double*>(nullptr));
      return;
    case DType::kI32:
      if constexpr (sizeof(T) == 8) f(static_cast<int32_t*>(nullptr));
      return;
  }
}

}  // namespace fused
}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // include guard
