// The kernel `fused`: a formula over an iteration space in one pass (program.h has its format).
//
// Moves the bytes of its operands and results once; a formula of a dozen cheap instructions on
// data beyond L2 runs at the speed of memory.
#include <algorithm>
#include <memory>
#include <utility>

#include "native/cpu/fused_plan.h"
#include "native/cpu/fused_vm.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

// Cheap instructions over elements that make up for starting a thread (about 2 us of work).
constexpr double kWorkPerThread = 24'000;

class FusedKernel final : public Kernel {
 public:
  explicit FusedKernel(const OpSpec& op)
      : plan_(PlanFused(op)), values_(op.inputs), blocks_(0), parts_(1) {
    if (plan_.count == 0) return;
    blocks_ = (plan_.count - 1) / plan_.block + 1;
    const double work = static_cast<double>(plan_.count) * plan_.cost / kWorkPerThread;
    parts_ = static_cast<int>(std::clamp(work, 1.0, 1e6));
  }

  size_t ScratchBytes(int threads) const override { return plan_.scratch * Parts(threads); }

  // The operand has to be read element by element in step with the output, and so has every other
  // operand that is the same value. A planner that puts several values in one place has to ask for
  // each of them.
  bool MayAlias(int in, int out) const override {
    const FusedOperand& operand = plan_.operands[in];
    if (!operand.dense || ByteSize(operand.dtype) != ByteSize(plan_.outputs[out])) return false;
    for (size_t i = 0; i < plan_.operands.size(); ++i) {
      const bool same = i < values_.size() && values_[i] == values_[in];
      if (same && !plan_.operands[i].dense) return false;
    }
    // A result that is the operand itself is copied from there, maybe after `out` was written.
    for (size_t k = 0; k < plan_.results.size(); ++k) {
      const size_t value = static_cast<size_t>(plan_.results[k]);
      if (static_cast<int>(k) == out || value >= plan_.operands.size()) continue;
      if (value == static_cast<size_t>(in) ||
          (value < values_.size() && values_[value] == values_[in])) {
        return false;
      }
    }
    return true;
  }

  void Run(const KernelArgs& args) const override {
    const int parts = Parts(args.threads);
    const int64_t grain = parts > 1 ? (blocks_ + parts - 1) / parts : blocks_;
    // All threads, though some may get nothing: see ParallelFor.
    const int threads = parts > 1 ? args.threads : 1;
    ParallelFor(threads, blocks_, grain, [&](int64_t begin, int64_t end, int thread) {
      char* scratch = static_cast<char*>(args.scratch) + thread * plan_.scratch;
      const auto run = plan_.wide ? RunFusedF64 : RunFusedF32;
      run(plan_, args, scratch, begin, end);
    });
  }

 private:
  int Parts(int threads) const { return std::max(1, std::min(parts_, threads)); }

  FusedPlan plan_;
  std::vector<int> values_;  // of the operands
  int64_t blocks_;
  int parts_;  // threads that the work is worth
};

LOSSCAPE_KERNEL(fused, [](const OpSpec& op) -> std::unique_ptr<Kernel> {
  return std::make_unique<FusedKernel>(op);
});

}  // namespace
}  // namespace losscape
