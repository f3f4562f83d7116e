#include "native/runtime/operator.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <string>
#include <utility>

#include "native/runtime/error.h"
#include "native/runtime/memory.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

constexpr const char* kKind = "operator";

void ExpectBytes(const std::string& what, const View& view, const TensorType& type) {
  if (!view.buffer || view.bytes() < type.Bytes()) {
    throw Error(Code::kShape, "Operator: expected ", type.Bytes(), " bytes for ", what, ", got ",
                view.bytes(), ".");
  }
  if (view.offset % ByteSize(type.dtype) != 0) {
    throw Error(Code::kArgument, "Operator: expected the offset of ", what, " as a multiple of ",
                ByteSize(type.dtype), " bytes, got ", view.offset, ".");
  }
}

void ExpectCount(const char* what, size_t expected, size_t got) {
  if (expected != got) {
    throw Error(Code::kShape, "Operator: expected ", expected, " ", what, ", got ", got, ".");
  }
}

// Where the tensors of a group of R vectors lie when they are gathered: [R, elements] each.
struct Staging {
  std::vector<size_t> offsets;   // elements
  std::vector<size_t> elements;  // of one vector's part
  size_t total = 0;

  void Add(size_t part, int tangents) {
    offsets.push_back(total);
    elements.push_back(part);
    total += PadElements(part * static_cast<size_t>(tangents));
  }
  static size_t PadElements(size_t count) { return (count + 63) / 64 * 64; }
};

// Element ranges of the storage, ascending.
using Ranges = std::vector<std::pair<size_t, size_t>>;

template <typename T>
class ProgramOperator final : public NativeOperator {
 public:
  explicit ProgramOperator(OperatorSpec spec)
      : NativeOperator(spec.dtype, spec.storage), spec_(std::move(spec)) {
    Check();
    PlanKept();
    PlanStaging();
    PlanGaps();
  }

  void Apply(const void* in, void* out, int count, RunContext& context,
             const OperatorProgress& progress) override {
    const T* x = static_cast<const T*>(in);
    T* y = static_cast<T*>(out);
    const size_t chunks = spec_.chunkInputs.size();
    std::vector<size_t> groups;  // index of the program that each group of vectors takes
    for (int left = count; left > 0; left -= spec_.linear[groups.back()].tangents) {
      size_t best = 0;
      while (best + 1 < spec_.linear.size() && spec_.linear[best + 1].tangents <= left) ++best;
      groups.push_back(best);
    }
    size_t done = 0;
    const std::function<void()> advance = [&] {
      if (progress) progress(++done, groups.size() * chunks);
    };
    const Lease lease(*this);
    for (size_t group : groups) {
      const int tangents = spec_.linear[group].tangents;
      if (tangents == 1) {
        ApplyOne(*lease, x, y, context, advance);
      } else {
        ApplyMany(*lease, group, x, y, context, advance);
      }
      for (int r = 0; r < tangents; ++r) FillGaps(y + static_cast<size_t>(r) * storage());
      x += static_cast<size_t>(tangents) * storage();
      y += static_cast<size_t>(tangents) * storage();
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
    Allocation recomputed;           // kept tensors of a chunk beyond the budget
    Allocation sums;                 // f64
    Allocation gathered, scattered;  // T
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

  static T* Elements(Allocation& memory, size_t count) { return Reserve<T>(memory, count); }

  template <typename U>
  static U* Reserve(Allocation& memory, size_t count) {
    if (memory.bytes() < count * sizeof(U)) {
      memory = Allocation();
      memory = Allocation(kKind, count * sizeof(U));
    }
    return reinterpret_cast<U*>(memory.data());
  }

  void Check() const {
    spec_.segments.Check(spec_.storage);
    const size_t chunks = spec_.chunkInputs.size();
    if (chunks == 0) throw Error(Code::kArgument, "Operator: expected at least one chunk, got 0.");
    if (spec_.linear.empty() || spec_.linear.front().tangents != 1) {
      throw Error(Code::kArgument,
                  "Operator: expected linear programs in ascending order of their tangents, the "
                  "first for 1.");
    }
    CheckPrimal(chunks);
    int last = 0;
    for (const LinearProgram& linear : spec_.linear) {
      if (linear.tangents <= last) {
        throw Error(Code::kArgument, "Operator: expected more than ", last,
                    " tangents for the next linear program, got ", linear.tangents, ".");
      }
      last = linear.tangents;
      CheckLinear(linear, chunks);
    }
  }

  void CheckPrimal(size_t chunks) const {
    if (!spec_.primal) return;
    ExpectCount("lists of primal inputs, one per chunk", chunks, spec_.primalInputs.size());
    const std::vector<TensorType>& types = spec_.primal->inputTypes();
    for (const std::vector<View>& views : spec_.primalInputs) {
      ExpectCount("primal inputs", types.size(), views.size());
      for (size_t k = 0; k < types.size(); ++k) {
        ExpectBytes("primal input " + std::to_string(k), views[k], types[k]);
      }
    }
  }

  void CheckLinear(const LinearProgram& linear, size_t chunks) const {
    const std::vector<TensorType>& types = linear.executable->inputTypes();
    ExpectCount("descriptions of linear inputs", types.size(), spec_.linearInputs.size());
    for (size_t k = 0; k < types.size(); ++k) {
      const LinearInput& input = spec_.linearInputs[k];
      const std::string what = "linear input " + std::to_string(k);
      switch (input.kind) {
        case LinearInput::Kind::kTangent:
          CheckPart(what, types[k], linear.tangents, input.index);
          break;
        case LinearInput::Kind::kKept:
          if (!spec_.primal || input.index >= spec_.primal->outputTypes().size() ||
              spec_.primal->outputTypes()[input.index].Bytes() != types[k].Bytes()) {
            throw Error(Code::kShape, "Operator: expected ", what, " to be like output ",
                        input.index, " of the primal program.");
          }
          break;
        case LinearInput::Kind::kChunk:
          for (size_t c = 0; c < chunks; ++c) {
            if (input.index >= spec_.chunkInputs[c].size()) {
              throw Error(Code::kShape, "Operator: expected more than ", input.index,
                          " views of chunk ", c, ", got ", spec_.chunkInputs[c].size(), ".");
            }
            ExpectBytes(what, spec_.chunkInputs[c][input.index], types[k]);
          }
          break;
      }
    }
    const std::vector<TensorType>& outputs = linear.executable->outputTypes();
    ExpectCount("offsets of linear outputs", outputs.size(), spec_.linearOutputs.size());
    for (size_t k = 0; k < outputs.size(); ++k) {
      CheckPart("linear output " + std::to_string(k), outputs[k], linear.tangents,
                spec_.linearOutputs[k]);
    }
  }

  void CheckPart(const std::string& what, const TensorType& type, int tangents,
                 size_t offset) const {
    if (type.dtype != spec_.dtype) {
      throw Error(Code::kDType, "Operator: expected ", Name(spec_.dtype), " for ", what, ", got ",
                  Name(type.dtype), ".");
    }
    const size_t elements = static_cast<size_t>(type.Elements());
    const size_t count = static_cast<size_t>(tangents);
    if (elements % count != 0 || offset > storage() || elements / count > storage() - offset) {
      throw Error(Code::kShape, "Operator: expected ", what, " to be ", tangents,
                  " parts of vectors with ", storage(), " elements, got ", elements,
                  " elements at offset ", offset, ".");
    }
  }

  void PlanKept() {
    if (!spec_.primal) return;
    size_t bytes = 0;
    for (const TensorType& type : spec_.primal->outputTypes()) {
      keptOffsets_.push_back(bytes);
      bytes += AlignUp(type.Bytes());
    }
    chunkBytes_ = bytes;
    const size_t chunks = spec_.chunkInputs.size();
    const size_t room = bytes == 0 ? chunks : spec_.keepBytes / bytes;
    kept_.resize(std::min(chunks, room));
  }

  void PlanStaging() {
    for (const LinearProgram& linear : spec_.linear) {
      const size_t count = static_cast<size_t>(linear.tangents);
      Staging in, out;
      const std::vector<TensorType>& types = linear.executable->inputTypes();
      for (size_t k = 0; k < types.size(); ++k) {
        const bool tangent = spec_.linearInputs[k].kind == LinearInput::Kind::kTangent;
        in.Add(tangent ? static_cast<size_t>(types[k].Elements()) / count : 0, linear.tangents);
      }
      for (const TensorType& type : linear.executable->outputTypes()) {
        out.Add(static_cast<size_t>(type.Elements()) / count, linear.tangents);
      }
      inputs_.push_back(std::move(in));
      outputs_.push_back(std::move(out));
    }
  }

  // What no output writes: padding, and parameters that the map does not reach.
  void PlanGaps() {
    Ranges covered;
    for (size_t k = 0; k < spec_.linearOutputs.size(); ++k) {
      const size_t offset = spec_.linearOutputs[k];
      covered.emplace_back(offset, offset + outputs_[0].elements[k]);
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

  // The kept tensors of a chunk, made when they are not there. `hold` keeps them alive.
  const uint8_t* Kept(size_t chunk, Scratch& scratch, std::shared_ptr<Allocation>* hold,
                      RunContext& context) {
    if (!spec_.primal) return nullptr;
    uint8_t* data = nullptr;
    std::shared_ptr<Allocation> made;
    if (chunk < kept_.size()) {
      *hold = kept_[chunk];
      if (*hold) return (*hold)->data();
      made = std::make_shared<Allocation>(kKind, chunkBytes_);
      data = made->data();
    } else {
      data = Reserve<uint8_t>(scratch.recomputed, chunkBytes_);
    }
    std::vector<const void*> in;
    for (const View& view : spec_.primalInputs[chunk]) in.push_back(view.data());
    std::vector<void*> out;
    for (size_t offset : keptOffsets_) out.push_back(data + offset);
    const uint64_t generation = generation_;
    spec_.primal->Run(in.data(), out.data(), context);
    if (made) {
      *hold = made;
      // A job that was served meanwhile may have invalidated what this run read.
      if (generation == generation_) {
        if (!kept_[chunk]) keptBytes_ += chunkBytes_;
        kept_[chunk] = std::move(made);
      }
    }
    return data;
  }

  // Runs a linear program on a chunk. tangent(k): where input k is; out[k]: where output k goes.
  template <typename Tangent>
  void RunLinear(Scratch& scratch, size_t group, size_t chunk, const Tangent& tangent,
                 void* const* out, RunContext& context) {
    std::shared_ptr<Allocation> hold;
    const uint8_t* kept = Kept(chunk, scratch, &hold, context);
    std::vector<const void*> in(spec_.linearInputs.size());
    for (size_t k = 0; k < in.size(); ++k) {
      const LinearInput& input = spec_.linearInputs[k];
      switch (input.kind) {
        case LinearInput::Kind::kKept:
          in[k] = kept + keptOffsets_[input.index];
          break;
        case LinearInput::Kind::kChunk:
          in[k] = spec_.chunkInputs[chunk][input.index].data();
          break;
        case LinearInput::Kind::kTangent:
          in[k] = tangent(k);
          break;
      }
    }
    spec_.linear[group].executable->Run(in.data(), out, context);
  }

  // One vector: the program reads it and writes the result where they are.
  void ApplyOne(Scratch& scratch, const T* x, T* y, RunContext& context,
                const std::function<void()>& advance) {
    const size_t chunks = spec_.chunkInputs.size();
    const int threads = context.threads();
    std::vector<void*> out;
    for (size_t offset : spec_.linearOutputs) out.push_back(y + offset);
    double* sums = nullptr;
    if (chunks > 1) {
      sums = Reserve<double>(scratch.sums, storage());
      Zero(sums, storage(), threads);
      FillGaps(y);
    }
    for (size_t chunk = 0; chunk < chunks; ++chunk) {
      const auto tangent = [&](size_t k) { return x + spec_.linearInputs[k].index; };
      RunLinear(scratch, 0, chunk, tangent, out.data(), context);
      if (sums) Accumulate(y, sums, storage(), threads);
      advance();
      context.Yield();
    }
    if (sums) {
      Round(spec_.scale, sums, y, storage(), threads);
    } else if (spec_.scale != 1) {
      for (size_t k = 0; k < out.size(); ++k) {
        T* part = static_cast<T*>(out[k]);
        Scale(spec_.scale, part, part, outputs_[0].elements[k], threads);
      }
    }
  }

  // R vectors: tangents are gathered to [R, elements] and results scattered from there.
  void ApplyMany(Scratch& scratch, size_t group, const T* x, T* y, RunContext& context,
                 const std::function<void()>& advance) {
    const size_t chunks = spec_.chunkInputs.size();
    const int threads = context.threads();
    const size_t tangents = static_cast<size_t>(spec_.linear[group].tangents);
    const Staging& in = inputs_[group];
    const Staging& to = outputs_[group];
    T* gathered = Elements(scratch.gathered, in.total);
    T* scattered = Elements(scratch.scattered, to.total);
    for (size_t k = 0; k < in.elements.size(); ++k) {
      for (size_t r = 0; r < tangents && in.elements[k] > 0; ++r) {
        Copy(x + r * storage() + spec_.linearInputs[k].index,
             gathered + in.offsets[k] + r * in.elements[k], in.elements[k], threads);
      }
    }
    std::vector<void*> out;
    for (size_t offset : to.offsets) out.push_back(scattered + offset);
    double* sums = nullptr;
    if (chunks > 1) {
      sums = Reserve<double>(scratch.sums, to.total);
      Zero(sums, to.total, threads);
    }
    for (size_t chunk = 0; chunk < chunks; ++chunk) {
      const auto tangent = [&](size_t k) { return gathered + in.offsets[k]; };
      RunLinear(scratch, group, chunk, tangent, out.data(), context);
      if (sums) Accumulate(scattered, sums, to.total, threads);
      advance();
      context.Yield();
    }
    for (size_t k = 0; k < to.elements.size(); ++k) {
      for (size_t r = 0; r < tangents; ++r) {
        T* target = y + r * storage() + spec_.linearOutputs[k];
        const size_t from = to.offsets[k] + r * to.elements[k];
        if (sums) {
          Round(spec_.scale, sums + from, target, to.elements[k], threads);
        } else {
          Scale(spec_.scale, scattered + from, target, to.elements[k], threads);
        }
      }
    }
  }

  OperatorSpec spec_;
  std::vector<size_t> keptOffsets_;  // bytes
  size_t chunkBytes_ = 0;
  std::vector<std::shared_ptr<Allocation>> kept_;  // the first chunks, as many as there is room for
  std::atomic<size_t> keptBytes_{0};
  uint64_t generation_ = 0;                // of what the kept tensors were made from
  std::vector<Staging> inputs_, outputs_;  // per linear program
  Ranges gaps_;
  std::unique_ptr<Scratch> idle_;
};

template <typename T>
class DenseOperator final : public NativeOperator {
 public:
  DenseOperator(const double* matrix, size_t size, DType dtype)
      : NativeOperator(dtype, size), memory_(kKind, size * size * sizeof(T)) {
    T* a = reinterpret_cast<T*>(memory_.data());
    for (size_t i = 0; i < size * size; ++i) a[i] = static_cast<T>(matrix[i]);
  }

  void Apply(const void* in, void* out, int count, RunContext& context,
             const OperatorProgress& progress) override {
    const size_t n = storage();
    const T* a = reinterpret_cast<const T*>(memory_.data());
    const int64_t grain = static_cast<int64_t>(kGrain / (n + 1) + 1);
    for (int r = 0; r < count; ++r) {
      const T* x = static_cast<const T*>(in) + static_cast<size_t>(r) * n;
      T* y = static_cast<T*>(out) + static_cast<size_t>(r) * n;
      ParallelFor(context.threads(), static_cast<int64_t>(n), grain,
                  [&](int64_t begin, int64_t end, int) {
                    for (size_t i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
                      y[i] = static_cast<T>(Dot(a + i * n, x, n, 1));
                    }
                  });
      if (progress) progress(static_cast<size_t>(r) + 1, static_cast<size_t>(count));
      context.Yield();
    }
  }

 private:
  static constexpr size_t kGrain = 32768;  // elements of the matrix for one thread at least

  Allocation memory_;
};

}  // namespace

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

std::unique_ptr<NativeOperator> MakeDenseOperator(const double* matrix, size_t size, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return std::make_unique<DenseOperator<float>>(matrix, size, dtype);
    case DType::kF64:
      return std::make_unique<DenseOperator<double>>(matrix, size, dtype);
    default:
      throw Error(Code::kDType, "Operator: expected f32 or f64, got ", Name(dtype), ".");
  }
}

}  // namespace losscape
