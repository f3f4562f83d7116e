// The loops of karat_edges in f32: a file of their own because of what they take to compile.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/karat_edges_f32.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "native/cpu/karat_edges-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

KaratEdgesLoops<float> EdgesF32(EdgeBasis basis) { return KaratEdgesLoopsFor<float>(basis); }

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {

HWY_EXPORT(EdgesF32);

KaratEdgesLoops<float> KaratEdgesLoopsF32(EdgeBasis basis) {
  return HWY_DYNAMIC_DISPATCH(EdgesF32)(basis);
}

}  // namespace losscape
#endif  // HWY_ONCE
