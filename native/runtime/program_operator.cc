// out = scale * sum over chunks of linear(kept(chunk), v).
//
// A step runs one chunk on all threads, or side by side as many chunks as there are threads, each
// on a thread of its own: no barrier between operations then, at the price of one vector per
// thread, which are added at the end.
#include <algorithm>
#include <atomic>
#include <climits>
#include <functional>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>

#include "native/runtime/error.h"
#include "native/runtime/memory.h"
#include "native/runtime/operator.h"
#include "native/runtime/operator_spec.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

constexpr const char* kKind = "operator";

// Where the tensors of a linear program lie in a vector, or in the staging area of R vectors, where
// they are [R, elements] each.
struct Layout {
  std::vector<size_t> offsets;   // elements
  std::vector<size_t> elements;  // of one vector's part
  size_t total = 0;

  void Stage(size_t part, size_t tangents) {
    offsets.push_back(total);
    elements.push_back(part);
    total += (part * tangents + 63) / 64 * 64;
  }
};

struct Group {
  size_t tangents;
  const Executable* executable;
  Layout in, out;
};

// Element ranges of the storage, ascending.
using Ranges = std::vector<std::pair<size_t, size_t>>;

template <typename T>
class ProgramOperator final : public NativeOperator {
 public:
  explicit ProgramOperator(OperatorSpec spec)
      : NativeOperator(spec.dtype, spec.storage), spec_(std::move(spec)) {
    CheckOperatorSpec(spec_);
    PlanKept();
    for (const LinearProgram& linear : spec_.linear) {
      groups_.emplace(linear.tangents, PlanGroup(linear));
    }
    PlanGaps();
  }

  void AddLinear(LinearProgram linear) override {
    CheckLinearProgram(spec_, linear);
    const std::lock_guard<std::mutex> lock(mutex_);
    further_.push_back(std::move(linear));
  }

  void Apply(const void* in, void* out, int count, RunContext& context,
             const OperatorProgress& progress) override {
    const T* x = static_cast<const T*>(in);
    T* y = static_cast<T*>(out);
    TakeFurther();
    std::vector<const Group*> groups;
    for (size_t left = static_cast<size_t>(count); left > 0; left -= groups.back()->tangents) {
      groups.push_back(&Largest(left));
    }
    size_t done = 0;
    const size_t total = groups.size() * spec_.chunkInputs.size();
    const std::function<void(size_t)> advance = [&](size_t chunks) {
      for (size_t i = 0; i < chunks && progress; ++i) progress(++done, total);
    };
    const Lease lease(*this);
    for (const Group* group : groups) {
      ApplyGroup(*lease, *group, x, y, context, advance);
      for (size_t r = 0; r < group->tangents; ++r) FillGaps(y + r * storage());
      x += group->tangents * storage();
      y += group->tangents * storage();
    }
  }

  void Invalidate() override {
    ++generation_;
    kept_.assign(kept_.size(), nullptr);
    keptBytes_ = 0;
  }

  // Any thread.
  size_t KeptBytes() const override { return keptBytes_; }

 private:
  // Memory of one Apply; a product that is served inside another has its own.
  struct Scratch {
    std::vector<Allocation> recomputed;  // kept tensors of chunks beyond the budget
    Allocation sums;                     // f64
    Allocation gathered;                 // T
    std::vector<Allocation> results;     // T, of one chunk each
  };

  class Lease {
   public:
    explicit Lease(ProgramOperator& owner) : owner_(owner), scratch_(std::move(owner.idle_)) {
      if (!scratch_) scratch_ = std::make_unique<Scratch>();
    }
    ~Lease() { owner_.idle_ = std::move(scratch_); }
    Scratch& operator*() const { return *scratch_; }

   private:
    ProgramOperator& owner_;
    std::unique_ptr<Scratch> scratch_;
  };

  // A chunk of a step: its kept tensors, and the pointers of its pass.
  struct Lane {
    size_t chunk = 0;
    const uint8_t* kept = nullptr;
    std::shared_ptr<Allocation> hold;  // keeps `kept` alive
    std::vector<const void*> in;
    std::vector<void*> out;
  };

  template <typename U>
  static U* Reserve(Allocation& memory, size_t count) {
    if (memory.bytes() < count * sizeof(U)) {
      memory = Allocation();
      memory = Allocation(kKind, count * sizeof(U));
      // What no program writes is added up too, and must not be a NaN.
      std::fill_n(reinterpret_cast<U*>(memory.data()), count, U{0});
    }
    return reinterpret_cast<U*>(memory.data());
  }

  void PlanKept() {
    if (!spec_.primal) return;
    for (const TensorType& type : spec_.primal->outputTypes()) {
      keptOffsets_.push_back(chunkBytes_);
      chunkBytes_ += AlignUp(type.Bytes());
    }
    const size_t chunks = spec_.chunkInputs.size();
    kept_.resize(chunkBytes_ == 0 ? chunks : std::min(chunks, spec_.keepBytes / chunkBytes_));
  }

  Group PlanGroup(const LinearProgram& linear) const {
    Group group;
    group.tangents = static_cast<size_t>(linear.tangents);
    group.executable = linear.executable.get();
    const std::vector<TensorType>& inputs = linear.executable->inputTypes();
    const std::vector<TensorType>& outputs = linear.executable->outputTypes();
    for (size_t k = 0; k < inputs.size(); ++k) {
      const bool tangent = spec_.linearInputs[k].kind == LinearInput::Kind::kTangent;
      group.in.Stage(tangent ? static_cast<size_t>(inputs[k].Elements()) / group.tangents : 0,
                     group.tangents);
    }
    for (const TensorType& type : outputs) {
      group.out.Stage(static_cast<size_t>(type.Elements()) / group.tangents, group.tangents);
    }
    if (group.tangents == 1) {
      // The program reads and writes the vectors where they are.
      for (size_t k = 0; k < inputs.size(); ++k) group.in.offsets[k] = spec_.linearInputs[k].index;
      group.out.offsets = spec_.linearOutputs;
      group.in.total = group.out.total = storage();
    }
    return group;
  }

  // What no output writes: padding, and parameters that the map does not reach.
  void PlanGaps() {
    Ranges covered;
    for (size_t k = 0; k < spec_.linearOutputs.size(); ++k) {
      const size_t offset = spec_.linearOutputs[k];
      covered.emplace_back(offset, offset + groups_.at(1).out.elements[k]);
    }
    std::sort(covered.begin(), covered.end());
    size_t end = 0;
    for (const auto& range : covered) {
      if (range.first < end) {
        throw Error(Code::kShape,
                    "Operator: expected linear outputs that do not overlap, but one starts at "
                    "element ",
                    range.first, " and another ends at ", end, ".");
      }
      if (range.first > end) gaps_.emplace_back(end, range.first);
      end = range.second;
    }
    if (storage() > end) gaps_.emplace_back(end, storage());
  }

  void FillGaps(T* y) const {
    for (const auto& gap : gaps_) std::fill(y + gap.first, y + gap.second, T{0});
  }

  // Groups stay where they are: a product that is served inside another may bring further ones.
  void TakeFurther() {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (LinearProgram& linear : further_) {
      if (groups_.count(linear.tangents) > 0) continue;
      groups_.emplace(linear.tangents, PlanGroup(linear));
      added_.push_back(std::move(linear.executable));
    }
    further_.clear();
  }

  const Group& Largest(size_t vectors) const {
    return std::prev(groups_.upper_bound(static_cast<int>(std::min<size_t>(vectors, INT_MAX))))
        ->second;
  }

  void ApplyGroup(Scratch& scratch, const Group& group, const T* x, T* y, RunContext& context,
                  const std::function<void(size_t)>& advance) {
    const size_t chunks = spec_.chunkInputs.size();
    const int threads = context.threads();
    const size_t side =
        spec_.sideBySide ? std::min(chunks, static_cast<size_t>(std::max(1, threads))) : 1;
    const T* operands = Operands(scratch, group, x, threads);
    const std::vector<T*> results = Results(scratch, group, y, side);
    double* sums = nullptr;
    if (chunks > side) {
      sums = Reserve<double>(scratch.sums, group.out.total);
      Zero(sums, group.out.total, threads);
      if (group.tangents == 1) FillGaps(y);
    }
    if (side > 1) {
      group.executable->KeepArenas(side);
      if (spec_.primal) spec_.primal->KeepArenas(side);
    }
    for (size_t first = 0; first < chunks; first += side) {
      const size_t count = std::min(side, chunks - first);
      Step(scratch, group, first, operands, {results.begin(), results.begin() + count}, context);
      if (sums) AccumulateAll<T>(results.data(), count, sums, group.out.total, threads);
      advance(count);
      context.Yield();
    }
    WriteResult(group, results, sums, y, threads);
  }

  // The vectors as the program takes them: one where it is, several gathered to [R, elements].
  const T* Operands(Scratch& scratch, const Group& group, const T* x, int threads) const {
    if (group.tangents == 1) return x;
    T* gathered = Reserve<T>(scratch.gathered, group.in.total);
    for (size_t k = 0; k < group.in.elements.size(); ++k) {
      const size_t part = group.in.elements[k];
      for (size_t r = 0; r < group.tangents && part > 0; ++r) {
        Copy(x + r * storage() + spec_.linearInputs[k].index,
             gathered + group.in.offsets[k] + r * part, part, threads);
      }
    }
    return gathered;
  }

  // One area per chunk of a step; for a single vector the first is the result itself.
  std::vector<T*> Results(Scratch& scratch, const Group& group, T* y, size_t count) const {
    std::vector<T*> results;
    if (group.tangents == 1) results.push_back(y);
    const size_t areas = count - results.size();
    if (scratch.results.size() < areas) scratch.results.resize(areas);
    for (size_t i = 0; i < areas; ++i) {
      results.push_back(Reserve<T>(scratch.results[i], group.out.total));
    }
    return results;
  }

  void WriteResult(const Group& group, const std::vector<T*>& results, const double* sums, T* y,
                   int threads) const {
    const auto write = [&](size_t from, T* target, size_t elements) {
      if (sums) return Round(spec_.scale, sums + from, target, elements, threads);
      std::vector<const T*> parts;
      for (const T* result : results) parts.push_back(result + from);
      const bool done = parts.size() == 1 && parts[0] == target && spec_.scale == 1;
      if (!done) SumAll<T>(spec_.scale, parts.data(), parts.size(), target, elements, threads);
    };
    if (group.tangents == 1) return write(0, y, storage());
    for (size_t k = 0; k < group.out.elements.size(); ++k) {
      const size_t part = group.out.elements[k];
      for (size_t r = 0; r < group.tangents; ++r) {
        write(group.out.offsets[k] + r * part, y + r * storage() + spec_.linearOutputs[k], part);
      }
    }
  }

  // Runs the linear program on chunks first, first + 1, ... side by side, one per result area.
  void Step(Scratch& scratch, const Group& group, size_t first, const T* operands,
            const std::vector<T*>& results, RunContext& context) {
    std::vector<Lane> lanes(results.size());
    for (size_t i = 0; i < lanes.size(); ++i) lanes[i].chunk = first + i;
    if (spec_.primal) FindKept(scratch, lanes, context);
    for (size_t i = 0; i < lanes.size(); ++i) {
      Lane& lane = lanes[i];
      lane.in.clear();
      lane.out.clear();
      for (size_t k = 0; k < spec_.linearInputs.size(); ++k) {
        const LinearInput& input = spec_.linearInputs[k];
        switch (input.kind) {
          case LinearInput::Kind::kKept:
            lane.in.push_back(lane.kept + keptOffsets_[input.index]);
            break;
          case LinearInput::Kind::kChunk:
            lane.in.push_back(spec_.chunkInputs[lane.chunk][input.index].data());
            break;
          case LinearInput::Kind::kTangent:
            lane.in.push_back(operands + group.in.offsets[k]);
            break;
        }
      }
      for (size_t offset : group.out.offsets) lane.out.push_back(results[i] + offset);
    }
    std::vector<Lane*> all;
    for (Lane& lane : lanes) all.push_back(&lane);
    Run(*group.executable, all, context);
  }

  // The kept tensors of every lane's chunk, made when they are not there.
  void FindKept(Scratch& scratch, std::vector<Lane>& lanes, RunContext& context) {
    if (scratch.recomputed.size() < lanes.size()) scratch.recomputed.resize(lanes.size());
    std::vector<Lane*> missing;
    for (size_t i = 0; i < lanes.size(); ++i) {
      Lane& lane = lanes[i];
      const bool room = lane.chunk < kept_.size();
      if (room && kept_[lane.chunk]) {
        lane.hold = kept_[lane.chunk];
        lane.kept = lane.hold->data();
        continue;
      }
      if (room) lane.hold = std::make_shared<Allocation>(kKind, chunkBytes_);
      uint8_t* const made =
          room ? lane.hold->data() : Reserve<uint8_t>(scratch.recomputed[i], chunkBytes_);
      lane.kept = made;
      for (const View& view : spec_.primalInputs[lane.chunk]) lane.in.push_back(view.data());
      for (size_t offset : keptOffsets_) lane.out.push_back(made + offset);
      missing.push_back(&lane);
    }
    const uint64_t generation = generation_;
    Run(*spec_.primal, missing, context);
    // A job that was served meanwhile may have invalidated what this run read.
    if (generation != generation_) return;
    for (const Lane* lane : missing) {
      if (!lane->hold) continue;
      if (!kept_[lane->chunk]) keptBytes_ += chunkBytes_;
      kept_[lane->chunk] = lane->hold;
    }
  }

  // One pass per lane, together; they pause together for jobs of higher priority.
  static void Run(const Executable& executable, const std::vector<Lane*>& lanes,
                  RunContext& context) {
    if (lanes.empty()) return;
    std::vector<Executable::Pass> passes;
    passes.reserve(lanes.size());
    for (const Lane* lane : lanes) {
      passes.emplace_back(executable, lane->in.data(), lane->out.data());
    }
    std::vector<char> done(passes.size(), 0);
    const RunContext& shared = context;
    const int threads = passes.size() > 1 ? context.threads() : 1;
    while (true) {
      ParallelFor(threads, static_cast<int64_t>(passes.size()), 1,
                  [&](int64_t begin, int64_t end, int) {
                    for (int64_t i = begin; i < end; ++i) {
                      if (!done[i]) done[i] = passes[i].Continue(shared);
                    }
                  });
      if (std::find(done.begin(), done.end(), 0) == done.end()) return;
      context.Yield();
    }
  }

  OperatorSpec spec_;
  std::vector<size_t> keptOffsets_;  // bytes
  size_t chunkBytes_ = 0;
  std::vector<std::shared_ptr<Allocation>> kept_;  // the first chunks, as many as there is room for
  std::atomic<size_t> keptBytes_{0};
  uint64_t generation_ = 0;      // of what the kept tensors were made from
  std::map<int, Group> groups_;  // by tangents
  std::vector<std::shared_ptr<Executable>> added_;
  std::mutex mutex_;
  std::vector<LinearProgram> further_;  // not yet among the groups
  Ranges gaps_;
  std::unique_ptr<Scratch> idle_;
};

}  // namespace

void NativeOperator::AddLinear(LinearProgram) {
  throw Error(Code::kArgument, "Expected an operator of linear programs.");
}

std::unique_ptr<NativeOperator> MakeProgramOperator(OperatorSpec spec) {
  switch (spec.dtype) {
    case DType::kF32:
      return std::make_unique<ProgramOperator<float>>(std::move(spec));
    case DType::kF64:
      return std::make_unique<ProgramOperator<double>>(std::move(spec));
    default:
      throw Error(Code::kDType, "Operator: expected f32 or f64, got ", Name(spec.dtype), ".");
  }
}

}  // namespace losscape
