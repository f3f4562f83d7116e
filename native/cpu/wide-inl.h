// f32 or f64 storage in f64 arithmetic, compiled once per SIMD target.

#if defined(LOSSCAPE_CPU_WIDE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_WIDE_INL
#undef LOSSCAPE_CPU_WIDE_INL
#else
#define LOSSCAPE_CPU_WIDE_INL
#endif

#include <hwy/highway.h>

#include "native/cpu/narrow-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Wide = hn::ScalableTag<double>;

HWY_INLINE auto LoadWide(Wide d, const double* p) { return hn::LoadU(d, p); }
HWY_INLINE auto LoadWide(Wide d, const float* p) {
  return hn::PromoteTo(d, hn::LoadU(hn::Rebind<float, Wide>(), p));
}

template <class V>
HWY_INLINE void StoreWide(Wide d, V v, double* p) {
  hn::StoreU(v, d, p);
}
template <class V>
HWY_INLINE void StoreWide(Wide, V v, float* p) {
  const hn::Rebind<float, Wide> narrow;
  hn::StoreU(math::ToFloat(narrow, v), narrow, p);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
