// The loops of karat_edges in f64: a file of their own because of what they take to compile.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/karat_edges_f64.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "native/cpu/karat_edges-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

KaratEdgesLoops<double> EdgesF64(EdgeBasis basis) { return KaratEdgesLoopsFor<double>(basis); }

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {

HWY_EXPORT(EdgesF64);

KaratEdgesLoops<double> KaratEdgesLoopsF64(EdgeBasis basis) {
  return HWY_DYNAMIC_DISPATCH(EdgesF64)(basis);
}

}  // namespace losscape
#endif  // HWY_ONCE
