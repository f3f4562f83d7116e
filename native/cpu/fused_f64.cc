// The fused elementwise machine in double; a file of its own, because it compiles long.
#include "native/cpu/fused_vm.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "native/cpu/fused_f64.cc"
#include <hwy/foreach_target.h>
// After foreach_target.h.
#include "native/cpu/fused_vm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {

void FusedBlocksF64(const FusedPlan& plan, const KernelArgs& args, char* scratch, int64_t begin,
                    int64_t end) {
  fused::RunBlocks<double>(plan, args, scratch, begin, end);
}

}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace losscape {

HWY_EXPORT(FusedBlocksF64);

void RunFusedF64(const FusedPlan& plan, const KernelArgs& args, char* scratch, int64_t begin,
                 int64_t end) {
  HWY_DYNAMIC_DISPATCH(FusedBlocksF64)(plan, args, scratch, begin, end);
}

}  // namespace losscape
#endif  // HWY_ONCE
