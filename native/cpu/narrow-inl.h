// From float64 to float, compiled once per SIMD target.

#if defined(LOSSCAPE_CPU_NARROW_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_NARROW_INL
#undef LOSSCAPE_CPU_NARROW_INL
#else
#define LOSSCAPE_CPU_NARROW_INL
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace math {
namespace hn = hwy::HWY_NAMESPACE;

// Rounds float64 to float, to infinity where it is out of range. DemoteTo of the targets without
// SIMD saturates there, so that an overflow would pass for a finite result.
template <class D, class V>
HWY_INLINE hn::Vec<D> ToFloat(D d, V x) {
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(d, static_cast<float>(hn::GetLane(x)));
#elif HWY_TARGET == HWY_EMU128
  const hn::Rebind<double, D> wide;
  HWY_ALIGN double from[HWY_MAX_LANES_D(D)];
  HWY_ALIGN float to[HWY_MAX_LANES_D(D)];
  hn::Store(x, wide, from);
  for (size_t i = 0; i < hn::Lanes(d); ++i) to[i] = static_cast<float>(from[i]);
  return hn::Load(d, to);
#else
  return hn::DemoteTo(d, x);
#endif
}

}  // namespace math
}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
