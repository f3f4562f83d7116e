#include "native/cpu/fused_plan.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "native/cpu/fused_decode.h"

namespace losscape {
namespace {

constexpr size_t kAlign = 64;
// What a block's buffers and streams may take of L1 (32 KiB on most machines).
constexpr size_t kL1Budget = 24 * 1024;
constexpr int64_t kMinBlock = 256;
constexpr int64_t kMaxBlock = 2048;
// A repeated pattern of at most this many blocks is kept expanded.
constexpr int64_t kTileBlocks = 2;

size_t AlignUp(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// Joins pairs of instructions whose inner result nothing else needs, bottom up.
class Peephole {
 public:
  explicit Peephole(FusedCode& code) : code_(code), uses_(code.Values(), 0) {
    for (const FusedStep& step : code_.steps) {
      for (int i = 0; i < step.arity; ++i) ++uses_[step.source[i]];
    }
    // A result is needed as it is.
    for (int value : code_.results) uses_[value] += 2;
  }

  void Run() {
    for (FusedStep& step : code_.steps) {
      Powers(step);
      Products(step);
      Masks(step);
    }
  }

 private:
  // The instruction that makes `value`, when it may be taken into its only reader.
  FusedStep* Inner(int value) {
    if (value < code_.inputs || uses_[value] != 1) return nullptr;
    return &code_.steps[value - code_.inputs];
  }

  bool Constant(int value, double* number) const {
    if (value < code_.inputs) return false;
    const FusedStep& step = code_.steps[value - code_.inputs];
    if (step.op != FusedOp::kConst) return false;
    *number = code_.numbers[step.source[0]];
    return true;
  }

  void Become(FusedStep& step, FusedOp op, std::initializer_list<int> sources) {
    step.op = op;
    step.arity = static_cast<int16_t>(sources.size());
    std::copy(sources.begin(), sources.end(), step.source);
  }

  void Powers(FusedStep& step) {
    double exponent;
    if (step.op != FusedOp::kPow || !Constant(step.source[1], &exponent)) return;
    const int base = step.source[0];
    if (exponent == 2) {
      ++uses_[base];  // read twice now
      Become(step, FusedOp::kMul, {base, base});
    } else if (exponent == 3) {
      Become(step, FusedOp::kCube, {base});
    } else if (exponent == 0.5) {
      Become(step, FusedOp::kPowHalf, {base});
    } else if (exponent == -1) {
      Become(step, FusedOp::kReciprocal, {base});
    }
  }

  void Products(FusedStep& step) {
    if (step.op != FusedOp::kAdd && step.op != FusedOp::kSub) return;
    for (int side = 0; side < 2; ++side) {
      FusedStep* inner = Inner(step.source[side]);
      if (!inner || inner->op != FusedOp::kMul) continue;
      const FusedOp op = step.op == FusedOp::kAdd ? FusedOp::kMulAdd
                         : side == 0              ? FusedOp::kMulSub
                                                  : FusedOp::kNegMulAdd;
      Become(step, op, {inner->source[0], inner->source[1], step.source[1 - side]});
      return;
    }
  }

  void Masks(FusedStep& step) {
    if (step.op == FusedOp::kMul) {
      for (int side = 0; side < 2; ++side) {
        const FusedStep* inner = Inner(step.source[side]);
        const FusedOp op = inner ? MaskOf(inner->op, true) : FusedOp::kCount;
        if (op == FusedOp::kCount) continue;
        Become(step, op, {inner->source[0], inner->source[1], step.source[1 - side]});
        return;
      }
    } else if (step.op == FusedOp::kWhere) {
      const FusedStep* inner = Inner(step.source[0]);
      const FusedOp op = inner ? MaskOf(inner->op, false) : FusedOp::kCount;
      if (op == FusedOp::kCount) return;
      const bool negated = inner->op == FusedOp::kNe;
      const int yes = step.source[negated ? 2 : 1];
      const int no = step.source[negated ? 1 : 2];
      Become(step, op, {inner->source[0], inner->source[1], yes, no});
    }
  }

  static FusedOp MaskOf(FusedOp comparison, bool product) {
    switch (comparison) {
      case FusedOp::kEq:
        return product ? FusedOp::kEqMul : FusedOp::kEqSelect;
      case FusedOp::kNe:
        return product ? FusedOp::kNeMul : FusedOp::kEqSelect;
      case FusedOp::kLt:
        return product ? FusedOp::kLtMul : FusedOp::kLtSelect;
      case FusedOp::kLe:
        return product ? FusedOp::kLeMul : FusedOp::kLeSelect;
      default:
        return FusedOp::kCount;
    }
  }

  FusedCode& code_;
  std::vector<int> uses_;
};

class Planner {
 public:
  explicit Planner(const OpSpec& op) : code_(DecodeFused(op)) {}

  FusedPlan Plan() {
    plan_.wide = code_.wide;
    plan_.count = code_.count;
    plan_.operands = code_.operands;
    plan_.outputs = code_.outputs;
    Peephole(code_).Run();
    plan_.results = code_.results;
    plan_.values = code_.Values();
    plan_.place.assign(plan_.values, 0);
    plan_.immediate.assign(plan_.values, false);
    scratch_ = AlignUp(plan_.DirectOffset() + plan_.values * sizeof(void*), kAlign);
    MarkLive();
    Schedule();
    SizeBlock();
    Allocate();
    Tiles();
    plan_.scratch = AlignUp(scratch_, 256);
    return std::move(plan_);
  }

 private:
  void MarkLive() {
    live_.assign(plan_.values, false);
    for (int value : plan_.results) live_[value] = true;
    for (int k = static_cast<int>(code_.steps.size()) - 1; k >= 0; --k) {
      const FusedStep& step = code_.steps[k];
      if (!live_[code_.inputs + k]) continue;
      for (int i = 0; i < step.arity; ++i) live_[step.source[i]] = true;
    }
  }

  size_t Slot() {
    const size_t place = scratch_;
    scratch_ += kFusedSlot;
    return place;
  }

  template <typename T>
  void AddImmediate(int value, double number) {
    plan_.immediate[value] = true;
    plan_.place[value] = plan_.immediates.size();
    plan_.immediates.resize(plan_.immediates.size() + kFusedSlot);
    for (size_t i = 0; i < kFusedSlot; i += sizeof(T)) {
      const T item = static_cast<T>(number);
      std::memcpy(&plan_.immediates[plan_.place[value] + i], &item, sizeof(T));
    }
  }

  // Splits what is the same for the whole space from what runs per block, and puts the loading of
  // an operand right before its first reader.
  void Schedule() {
    uniform_.assign(plan_.values, false);
    loaded_.assign(plan_.values, false);
    for (int i = 0; i < code_.inputs; ++i) {
      if (!live_[i] || !plan_.operands[i].uniform) continue;
      uniform_[i] = true;
      plan_.place[i] = Slot();
      plan_.prologue.push_back({FusedOp::kLoad, 0, {i, -1, -1, -1}, i, -1});
    }
    for (size_t k = 0; k < code_.steps.size(); ++k) {
      const int value = code_.inputs + static_cast<int>(k);
      if (!live_[value]) continue;
      const FusedStep& step = code_.steps[k];
      if (step.op == FusedOp::kConst) {
        const double number = code_.numbers[step.source[0]];
        uniform_[value] = true;
        plan_.wide ? AddImmediate<double>(value, number) : AddImmediate<float>(value, number);
        continue;
      }
      bool uniform = true;
      for (int i = 0; i < step.arity; ++i) uniform &= uniform_[step.source[i]];
      if (uniform) {
        uniform_[value] = true;
        plan_.place[value] = Slot();
        plan_.prologue.push_back(step);
        continue;
      }
      for (int i = 0; i < step.arity; ++i) Load(step.source[i]);
      plan_.steps.push_back(step);
      plan_.cost += Info(step.op).cost;
    }
    for (int value : plan_.results) Load(value);
    plan_.cost += static_cast<double>(plan_.results.size());
  }

  void Load(int value) {
    if (value >= code_.inputs || uniform_[value] || loaded_[value]) return;
    loaded_[value] = true;
    plan_.steps.push_back({FusedOp::kLoad, 0, {value, -1, -1, -1}, value, -1});
    plan_.cost += 1;
  }

  // The last step that reads each value; steps.size() for results, which are read at the end.
  std::vector<int> LastReads() const {
    std::vector<int> last(plan_.values, -1);
    for (size_t k = 0; k < plan_.steps.size(); ++k) {
      const FusedStep& step = plan_.steps[k];
      for (int i = 0; i < step.arity; ++i) last[step.source[i]] = static_cast<int>(k);
    }
    for (int value : plan_.results) last[value] = static_cast<int>(plan_.steps.size());
    return last;
  }

  // Buffers by linear scan; returns how many. `assign` sees (value, buffer).
  template <class F>
  int Scan(const std::vector<int>& last, F&& assign) const {
    std::vector<int> free;
    std::vector<int> buffer(plan_.values, -1);
    int buffers = 0;
    for (size_t k = 0; k < plan_.steps.size(); ++k) {
      const FusedStep& step = plan_.steps[k];
      // Operands that end here may give their buffer to the result: a step reads each vector
      // before it writes the same one.
      for (int i = 0; i < step.arity; ++i) {
        const int source = step.source[i];
        if (last[source] != static_cast<int>(k) || buffer[source] < 0) continue;
        free.push_back(buffer[source]);
        buffer[source] = -1;
      }
      if (free.empty()) free.push_back(buffers++);
      buffer[step.value] = free.back();
      free.pop_back();
      assign(step.value, buffer[step.value]);
    }
    return buffers;
  }

  void SizeBlock() {
    const std::vector<int> last = LastReads();
    const int buffers = Scan(last, [](int, int) {});
    const size_t streams = std::max<size_t>(1, buffers + plan_.results.size());
    const size_t size = plan_.wide ? sizeof(double) : sizeof(float);
    plan_.block = kMaxBlock;
    while (plan_.block > kMinBlock && plan_.block * size * streams > kL1Budget) plan_.block /= 2;
    // Small spaces: no more than whole vectors of what there is.
    const int64_t whole = static_cast<int64_t>(kFusedSlot / size);
    const int64_t needed = (std::max<int64_t>(plan_.count, 1) + whole - 1) / whole * whole;
    plan_.block = std::min(plan_.block, needed);
  }

  void Allocate() {
    const size_t size = plan_.wide ? sizeof(double) : sizeof(float);
    const size_t pitch = AlignUp(plan_.block * size + kFusedPadding, kAlign);
    const std::vector<int> last = LastReads();
    const size_t base = scratch_;
    const int buffers =
        Scan(last, [&](int value, int buffer) { plan_.place[value] = base + buffer * pitch; });
    scratch_ += buffers * pitch;
    const DType compute = plan_.wide ? DType::kF64 : DType::kF32;
    for (int i = 0; i < code_.inputs; ++i) plan_.operands[i].lastRead = last[i];
    for (FusedStep& step : plan_.steps) {
      if (step.op == FusedOp::kLoad) continue;
      for (size_t o = 0; o < plan_.results.size() && step.output < 0; ++o) {
        const bool same = plan_.outputs[o] == compute;
        if (plan_.results[o] == step.value && same) step.output = static_cast<int>(o);
      }
    }
  }

  void Tiles() {
    const size_t size = plan_.wide ? sizeof(double) : sizeof(float);
    for (int i = 0; i < code_.inputs; ++i) {
      FusedOperand& operand = plan_.operands[i];
      if (!loaded_[i] || operand.rank < 2 || operand.stride[0] != 0) continue;
      const int64_t period = plan_.count / operand.shape[0];
      if (period > kTileBlocks * plan_.block || plan_.count <= plan_.block) continue;
      operand.period = period;
      operand.tile = scratch_;
      scratch_ += AlignUp((period + plan_.block) * size + kFusedPadding, kAlign);
    }
  }

  FusedCode code_;
  FusedPlan plan_;
  std::vector<bool> live_;
  std::vector<bool> uniform_;
  std::vector<bool> loaded_;
  size_t scratch_ = 0;
};

}  // namespace

FusedPlan PlanFused(const OpSpec& op) { return Planner(op).Plan(); }

}  // namespace losscape
