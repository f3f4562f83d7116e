// The fused elementwise machine: runs a plan block by block, one instruction over the whole block
// at a time, with all intermediate values in L1.
//
// Every element goes through the same vector instructions wherever it stands: what does not fill
// a vector at the end of the space is padded, never computed by other code. So results depend on
// neither the blocks nor the threads.

#if defined(LOSSCAPE_CPU_FUSED_VM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef LOSSCAPE_CPU_FUSED_VM_INL
#undef LOSSCAPE_CPU_FUSED_VM_INL
#else
#define LOSSCAPE_CPU_FUSED_VM_INL
#endif

#include "native/cpu/fused_io-inl.h"
#include "native/cpu/fused_vm.h"

HWY_BEFORE_NAMESPACE();
namespace losscape {
namespace HWY_NAMESPACE {
namespace fused {

// Below this a last block is padded as a whole; above, its whole vectors run in place first.
constexpr int64_t kPadWhole = 128;

template <typename T>
class Machine {
 public:
  // The tables of values are at the start of the scratch.
  Machine(const FusedPlan& plan, const KernelArgs& args, char* scratch)
      : plan_(plan),
        args_(args),
        scratch_(scratch),
        lanes_(static_cast<int64_t>(hn::Lanes(Tag<T>()))),
        pointer_(reinterpret_cast<const T**>(scratch)),
        uniform_(reinterpret_cast<uint8_t*>(scratch + plan.UniformOffset())),
        direct_(reinterpret_cast<T**>(scratch + plan.DirectOffset())) {
    for (int value = 0; value < plan.values; ++value) {
      const bool immediate = plan.immediate[value];
      pointer_[value] = immediate ? reinterpret_cast<const T*>(&plan.immediates[plan.place[value]])
                                  : Place(value);
      uniform_[value] = immediate;
      direct_[value] = nullptr;
    }
    for (size_t k = 0; k < plan.steps.size(); ++k) {
      const FusedStep& step = plan.steps[k];
      if (step.output >= 0 && MayWriteAt(static_cast<int>(k), step.output)) {
        direct_[step.value] = static_cast<T*>(args.out[step.output]);
      }
    }
    for (const FusedStep& step : plan.prologue) {
      if (step.op == FusedOp::kLoad) {
        LoadUniform(step.value, plan.operands[step.value].offset);
      } else {
        Execute(step, 0, lanes_, false);
      }
    }
    for (size_t i = 0; i < plan.operands.size(); ++i) {
      if (plan.operands[i].period > 0) FillTile(static_cast<int>(i));
    }
  }

  void Run(int64_t block) {
    const int64_t begin = block * plan_.block;
    const int64_t n = std::min(plan_.block, plan_.count - begin);
    const int64_t rest = n % lanes_;
    if (rest == 0) {
      RunBlock(begin, n, false);
    } else if (n < kPadWhole) {
      RunBlock(begin, n, true);
    } else {
      RunBlock(begin, n - rest, false);
      RunBlock(begin + n - rest, rest, true);
    }
  }

 private:
  T* Place(int value) const { return reinterpret_cast<T*>(scratch_ + plan_.place[value]); }

  // Whether step k may write to the output itself: no operand that shares its memory is read later
  // in the block. A buffer in between is always right.
  bool MayWriteAt(int k, int output) const {
    const char* begin = static_cast<const char*>(args_.out[output]);
    const char* end = begin + plan_.count * static_cast<int64_t>(sizeof(T));
    for (size_t i = 0; i < plan_.operands.size(); ++i) {
      const FusedOperand& operand = plan_.operands[i];
      const char* first = static_cast<const char*>(args_.in[i]);
      const char* last = first + operand.elements * static_cast<int64_t>(ByteSize(operand.dtype));
      if (first < end && begin < last && operand.lastRead > k) return false;
    }
    return true;
  }

  // Element `at` of an operand's tensor as a uniform value.
  void LoadUniform(int value, int64_t at) {
    const Tag<T> d;
    T* place = Place(value);
    WithElement<T>(plan_.operands[value].dtype, [&](auto* type) HWY_ATTR {
      using S = std::remove_pointer_t<decltype(type)>;
      ImportAll(static_cast<const S*>(args_.in[value]) + at, place, 1);
    });
    hn::StoreU(hn::Set(d, place[0]), d, place);
    pointer_[value] = place;
    uniform_[value] = 1;
  }

  void FillTile(int value) {
    const FusedOperand& operand = plan_.operands[value];
    T* tile = reinterpret_cast<T*>(scratch_ + operand.tile);
    GatherTo(value, 0, operand.period, tile);
    const int64_t total = operand.period + plan_.block;
    for (int64_t filled = operand.period; filled < total;) {
      const int64_t n = std::min(filled, total - filled);
      std::memcpy(tile + filled, tile, n * sizeof(T));
      filled += n;
    }
  }

  void GatherTo(int value, int64_t begin, int64_t n, T* to) {
    const FusedOperand& operand = plan_.operands[value];
    WithElement<T>(operand.dtype, [&](auto* type) HWY_ATTR {
      using S = std::remove_pointer_t<decltype(type)>;
      Gather(operand, static_cast<const S*>(args_.in[value]), begin, n, to);
    });
  }

  // Elements that stand one after another in memory, from `at` on.
  void LoadDense(int value, int64_t at, int64_t n, bool padded) {
    const FusedOperand& operand = plan_.operands[value];
    T* place = Place(value);
    WithElement<T>(operand.dtype, [&](auto* type) HWY_ATTR {
      using S = std::remove_pointer_t<decltype(type)>;
      const S* from = static_cast<const S*>(args_.in[value]) + at;
      if constexpr (std::is_same_v<S, T>) {
        if (!padded) {
          pointer_[value] = from;
          return;
        }
      }
      ImportAll(from, place, static_cast<size_t>(n));
      pointer_[value] = place;
    });
  }

  // Brings [begin, begin + n) of an operand into reach, the cheapest way for this block.
  void Load(int value, int64_t begin, int64_t n, bool padded) {
    const FusedOperand& operand = plan_.operands[value];
    uniform_[value] = 0;
    if (operand.period > 0) {
      pointer_[value] =
          reinterpret_cast<const T*>(scratch_ + operand.tile) + begin % operand.period;
      return;
    }
    const int inner = operand.rank - 1;
    const int64_t length = operand.shape[inner], stride = operand.stride[inner];
    int64_t row = begin / length;
    const int64_t column = begin - row * length;
    if (stride <= 1 && column + n <= length) {
      int64_t at = operand.offset + column * stride;
      for (int axis = inner - 1; axis >= 0; --axis) {
        at += row % operand.shape[axis] * operand.stride[axis];
        row /= operand.shape[axis];
      }
      stride == 0 ? LoadUniform(value, at) : LoadDense(value, at, n, padded);
      return;
    }
    T* place = Place(value);
    GatherTo(value, begin, n, place);
    pointer_[value] = place;
  }

  void Execute(const FusedStep& step, int64_t begin, int64_t n, bool padded) {
    const T* source[4];
    unsigned uniform = 0;
    for (int i = 0; i < step.arity; ++i) {
      source[i] = pointer_[step.source[i]];
      uniform |= static_cast<unsigned>(uniform_[step.source[i]]) << i;
    }
    const bool all = uniform == (1u << step.arity) - 1;
    T* target = Place(step.value);
    if (all) {
      n = lanes_;
    } else if (!padded && direct_[step.value]) {
      target = direct_[step.value] + begin;
    }
    KernelsOf<T>(step.op).by[uniform](target, source, static_cast<size_t>(n));
    pointer_[step.value] = target;
    uniform_[step.value] = all;
  }

  void RunBlock(int64_t begin, int64_t n, bool padded) {
    const int64_t whole = (n + lanes_ - 1) / lanes_ * lanes_;
    for (const FusedStep& step : plan_.steps) {
      if (step.op == FusedOp::kLoad) {
        Load(step.value, begin, n, padded);
      } else {
        Execute(step, begin, whole, padded);
      }
    }
    for (size_t o = 0; o < plan_.results.size(); ++o) Store(o, begin, n);
  }

  void Store(size_t output, int64_t begin, int64_t n) {
    const int value = plan_.results[output];
    const T* from = pointer_[value];
    WithElement<T>(plan_.outputs[output], [&](auto* type) HWY_ATTR {
      using S = std::remove_pointer_t<decltype(type)>;
      S* to = static_cast<S*>(args_.out[output]) + begin;
      if constexpr (std::is_same_v<S, T>) {
        if (from == to) return;  // written there, or an operand whose memory this is
      }
      ExportAll(from, uniform_[value] ? 0 : 1, to, static_cast<size_t>(n));
    });
  }

  const FusedPlan& plan_;
  const KernelArgs& args_;
  char* const scratch_;
  const int64_t lanes_;
  const T** const pointer_;  // per value, for the current block
  uint8_t* const uniform_;
  T** const direct_;  // the output that the value is written to, or null
};

template <typename T>
void RunBlocks(const FusedPlan& plan, const KernelArgs& args, char* scratch, int64_t begin,
               int64_t end) {
  Machine<T> machine(plan, args, scratch);
  for (int64_t block = begin; block < end; ++block) machine.Run(block);
}

}  // namespace fused
}  // namespace HWY_NAMESPACE
}  // namespace losscape
HWY_AFTER_NAMESPACE();

#endif  // include guard
