// Whether the parts of an OperatorSpec fit together.
#pragma once

#include "native/runtime/operator.h"

namespace losscape {

// Throws Error{ERR_SHAPE, ERR_DTYPE, ERR_ARGUMENT}.
void CheckOperatorSpec(const OperatorSpec& spec);
// Whether a further linear program fits to the others.
void CheckLinearProgram(const OperatorSpec& spec, const LinearProgram& linear);

}  // namespace losscape
