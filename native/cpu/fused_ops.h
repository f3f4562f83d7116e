// The instructions of the fused elementwise machine: those of the program format and those that
// the planner makes of pairs.
#pragma once

#include <cstdint>

namespace losscape {

// X(NAME, WIRE, ARITY, COST): WIRE is the name in a program, "" for what only the planner makes.
// COST is in units of one pass of a cheap instruction over an element in L1.
#define LOSSCAPE_FUSED_OPS(X)                                                               \
  X(Neg, "neg", 1, 1)                                                                       \
  X(Abs, "abs", 1, 1)                                                                       \
  X(Sign, "sign", 1, 1)                                                                     \
  X(Exp, "exp", 1, 8)                                                                       \
  X(Expm1, "expm1", 1, 8)                                                                   \
  X(Log, "log", 1, 10)                                                                      \
  X(Log1p, "log1p", 1, 12)                                                                  \
  X(Sqrt, "sqrt", 1, 4)                                                                     \
  X(Rsqrt, "rsqrt", 1, 6)                                                                   \
  X(Sin, "sin", 1, 14)                                                                      \
  X(Cos, "cos", 1, 14)                                                                      \
  X(Tanh, "tanh", 1, 10)                                                                    \
  X(Erf, "erf", 1, 14)                                                                      \
  X(Sigmoid, "sigmoid", 1, 10)                                                              \
  X(Softplus, "softplus", 1, 18)                                                            \
  X(Floor, "floor", 1, 1)                                                                   \
  X(Round, "round", 1, 1)                                                                   \
  X(Not, "not", 1, 1)                                                                       \
  X(CastF32, "cast_f32", 1, 1)                                                              \
  X(CastBF16, "cast_bf16", 1, 2)                                                            \
  X(CastF16, "cast_f16", 1, 4)                                                              \
  X(CastI32, "cast_i32", 1, 2)                                                              \
  X(CastU8, "cast_u8", 1, 2)                                                                \
  X(IsFinite, "isfinite", 1, 1)                                                             \
  X(Cube, "", 1, 1)                                                                         \
  X(PowHalf, "", 1, 4)                                                                      \
  X(Reciprocal, "", 1, 3)                                                                   \
  X(Add, "add", 2, 1)                                                                       \
  X(Sub, "sub", 2, 1)                                                                       \
  X(Mul, "mul", 2, 1)                                                                       \
  X(Div, "div", 2, 3)                                                                       \
  X(Pow, "pow", 2, 40)                                                                      \
  X(Max, "max", 2, 1)                                                                       \
  X(Min, "min", 2, 1)                                                                       \
  X(Eq, "eq", 2, 1)                                                                         \
  X(Ne, "ne", 2, 1)                                                                         \
  X(Lt, "lt", 2, 1)                                                                         \
  X(Le, "le", 2, 1)                                                                         \
  X(Gt, "gt", 2, 1)                                                                         \
  X(Ge, "ge", 2, 1)                                                                         \
  X(And, "and", 2, 1)                                                                       \
  X(Or, "or", 2, 1)                                                                         \
  X(Where, "where", 3, 1)                                                                   \
  X(MulAdd, "", 3, 1)    /* a b + c */                                                      \
  X(MulSub, "", 3, 1)    /* a b - c */                                                      \
  X(NegMulAdd, "", 3, 1) /* c - a b */                                                      \
  X(EqMul, "", 3, 1)     /* (a == b) c, a product: infinities in c give NaN as they must */ \
  X(NeMul, "", 3, 1)                                                                        \
  X(LtMul, "", 3, 1)                                                                        \
  X(LeMul, "", 3, 1)                                                                        \
  X(EqSelect, "", 4, 1) /* a == b ? c : d */                                                \
  X(LtSelect, "", 4, 1)                                                                     \
  X(LeSelect, "", 4, 1)

enum class FusedOp : uint8_t {
#define LOSSCAPE_FUSED_ENUM(NAME, WIRE, ARITY, COST) k##NAME,
  LOSSCAPE_FUSED_OPS(LOSSCAPE_FUSED_ENUM)
#undef LOSSCAPE_FUSED_ENUM
      kCount,
  kConst,  // a register that holds an immediate
  kLoad,   // brings an operand's block into reach: in place, or converted or gathered
};

struct FusedOpInfo {
  const char* wire;
  int arity;
  int cost;
};

constexpr FusedOpInfo kFusedOps[] = {
#define LOSSCAPE_FUSED_INFO(NAME, WIRE, ARITY, COST) {WIRE, ARITY, COST},
    LOSSCAPE_FUSED_OPS(LOSSCAPE_FUSED_INFO)
#undef LOSSCAPE_FUSED_INFO
};
constexpr int kFusedOpCount = static_cast<int>(FusedOp::kCount);

constexpr const FusedOpInfo& Info(FusedOp op) { return kFusedOps[static_cast<int>(op)]; }

}  // namespace losscape
