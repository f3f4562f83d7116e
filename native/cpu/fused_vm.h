// The machine's entry points, dispatched to the best SIMD target.
#pragma once

#include <cstdint>

#include "native/cpu/fused_plan.h"

namespace losscape {

// Runs blocks [begin, end) of a plan of that compute type; `scratch` is the thread's own.
void RunFusedF32(const FusedPlan& plan, const KernelArgs& args, char* scratch, int64_t begin,
                 int64_t end);
void RunFusedF64(const FusedPlan& plan, const KernelArgs& args, char* scratch, int64_t begin,
                 int64_t end);

}  // namespace losscape
