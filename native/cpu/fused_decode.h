// The attributes of a `fused` operation, checked.
#pragma once

#include <vector>

#include "native/cpu/fused_plan.h"

namespace losscape {

struct FusedCode {
  int inputs = 0;
  bool wide = false;
  int64_t count = 0;
  std::vector<FusedOperand> operands;
  std::vector<FusedStep> steps;  // step k makes value inputs + k; gt and ge are turned around
  std::vector<double> numbers;   // of kConst
  std::vector<int> results;
  std::vector<DType> outputs;

  int Values() const { return inputs + static_cast<int>(steps.size()); }
};

// Throws Error{ERR_PROGRAM} that names what is wrong.
FusedCode DecodeFused(const OpSpec& op);

}  // namespace losscape
