#include "native/runtime/executable.h"

#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

#include "native/runtime/error.h"
#include "native/runtime/number.h"
#include "native/runtime/parallel.h"
#include "native/runtime/placement.h"

namespace losscape {

// Pointers are indices into the table, so that an operation costs one indirect call.
struct Executable::Operation {
  const Kernel* kernel;
  size_t in;
  size_t out;
  size_t scratch;
};

// What messages and profiles say of an operation; apart, to keep the loop's data small.
struct Executable::Info {
  int node;
  std::string name;
  std::vector<TensorType> outTypes;
};

struct Executable::Entry {
  Storage storage;
  size_t at;  // byte offset in the arena or the constants; else the program input or output
};

struct Executable::Copy {
  size_t from;  // table index
  int output;
  size_t bytes;
};

struct Executable::Arena {
  explicit Arena(const Executable& executable)
      : memory("arena", executable.arenaBytes_), table(executable.entries_.size()) {
    for (size_t i = 0; i < table.size(); ++i) {
      const Entry& entry = executable.entries_[i];
      if (entry.storage == Storage::kArena) table[i] = memory.data() + entry.at;
      if (entry.storage == Storage::kConstant) table[i] = executable.constants_.data() + entry.at;
    }
  }

  Allocation memory;
  std::vector<void*> table;
};

// An arena for one run; a run inside another run takes a second one.
class Executable::Lease {
 public:
  explicit Lease(const Executable& executable) : executable_(executable) {
    {
      std::lock_guard<std::mutex> lock(executable_.mutex_);
      if (!executable_.idle_.empty()) {
        arena_ = std::move(executable_.idle_.back());
        executable_.idle_.pop_back();
        return;
      }
    }
    arena_ = std::make_unique<Arena>(executable_);
  }
  ~Lease() {
    std::lock_guard<std::mutex> lock(executable_.mutex_);
    // More were needed for a run inside a run, and memory is dear.
    if (executable_.idle_.size() < executable_.kept_)
      executable_.idle_.push_back(std::move(arena_));
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  void** table() { return arena_->table.data(); }

 private:
  const Executable& executable_;
  std::unique_ptr<Arena> arena_;
};

namespace {

// oneDNN and OpenBLAS take their thread count from here.
class ThreadScope {
 public:
  explicit ThreadScope(int threads) : before_(omp_get_max_threads()) {
    if (threads != before_) omp_set_num_threads(threads);
    changed_ = threads != before_;
  }
  ~ThreadScope() {
    if (changed_) omp_set_num_threads(before_);
  }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
  bool changed_;
};

std::string TypeText(const TensorType& type) {
  std::string text = std::string(Name(type.dtype)) + "[";
  for (size_t i = 0; i < type.shape.size(); ++i) {
    text += (i ? "," : "") + std::to_string(type.shape[i]);
  }
  return text + "]";
}

std::string PlaceText(const Place& place) {
  switch (place.storage) {
    case Storage::kInput:
      return "input " + std::to_string(place.slot);
    case Storage::kOutput:
      return "output " + std::to_string(place.slot);
    case Storage::kConstant:
      return "constant";
    case Storage::kArena:
      return "arena+" + std::to_string(place.offset);
  }
  return "";
}

bool Overlaps(const View& a, size_t aBytes, const View& b, size_t bBytes) {
  return a.buffer == b.buffer && a.offset < b.offset + bBytes && b.offset < a.offset + aBytes;
}

}  // namespace

class Compiler {
 public:
  Compiler(Program program, const CompileOptions& options)
      : program_(std::move(program)), options_(options), result_(new Executable) {}

  std::shared_ptr<Executable> Compile() {
    result_->threads_ = std::max(1, options_.threads);
    result_->donate_ = options_.donate;
    for (int v : program_.inputs) result_->inputTypes_.push_back(program_.values[v]);
    for (int v : program_.outputs) result_->outputTypes_.push_back(program_.values[v]);
    MakeKernels();
    Place();
    FillConstants();
    for (size_t n = 0; n < program_.nodes.size(); ++n) AddOperation(n);
    for (const OutputCopy& copy : placement_.copies) {
      result_->copies_.push_back(
          {AddEntry(copy.value), copy.output, program_.values[copy.value].Bytes()});
    }
    return std::move(result_);
  }

 private:
  void MakeKernels() {
    for (const OpSpec& node : program_.nodes) {
      const bool builtIn = node.name == "constant" || node.name == "reshape";
      result_->kernels_.push_back(builtIn ? nullptr : MakeKernel(node));
    }
  }

  void Place() {
    PlacementRequest request;
    request.program = &program_;
    request.donate = options_.donate;
    for (const auto& kernel : result_->kernels_) {
      request.scratchBytes.push_back(kernel ? kernel->ScratchBytes(result_->threads_) : 0);
    }
    request.mayAlias = [this](int node, int in, int out) {
      return result_->kernels_[node]->MayAlias(in, out);
    };
    placement_ = PlaceValues(request);
    result_->arenaBytes_ = placement_.arenaBytes;
    result_->unplannedBytes_ = placement_.unplannedBytes;
  }

  void FillConstants() {
    constantOffset_.assign(program_.nodes.size(), 0);
    size_t bytes = 0;
    for (size_t n = 0; n < program_.nodes.size(); ++n) {
      if (program_.nodes[n].name != "constant") continue;
      constantOffset_[n] = bytes;
      bytes += AlignUp(program_.nodes[n].outTypes[0].Bytes());
    }
    result_->constants_ = Allocation("executable", bytes);
    for (size_t n = 0; n < program_.nodes.size(); ++n) {
      const OpSpec& node = program_.nodes[n];
      if (node.name != "constant") continue;
      const std::vector<double>& data = node.Numbers("data");
      uint8_t* const target = result_->constants_.data() + constantOffset_[n];
      const size_t elements = static_cast<size_t>(node.outTypes[0].Elements());
      for (size_t i = 0; i < elements; ++i) {
        StoreNumber(node.outTypes[0].dtype, target, i, data[data.size() == 1 ? 0 : i]);
      }
    }
  }

  size_t AddEntry(int value) {
    const ::losscape::Place& place = placement_.values[value];
    size_t at = place.offset;
    if (place.storage == Storage::kConstant) at = constantOffset_[place.slot];
    const bool bound = place.storage == Storage::kInput || place.storage == Storage::kOutput;
    if (bound) {
      at = static_cast<size_t>(place.slot);
      result_->bound_.push_back(result_->entries_.size());
    }
    result_->entries_.push_back({place.storage, at});
    return result_->entries_.size() - 1;
  }

  void AddOperation(size_t n) {
    const OpSpec& node = program_.nodes[n];
    if (!result_->kernels_[n]) return;
    std::string line = std::to_string(n) + " " + node.name;
    for (int v : node.outputs) {
      line += " " + TypeText(program_.values[v]) + " " + PlaceText(placement_.values[v]) + " " +
              std::to_string(program_.values[v].Bytes()) + " bytes";
    }
    result_->descriptions_.push_back(line);
    const bool empty = std::all_of(node.outTypes.begin(), node.outTypes.end(),
                                   [](const TensorType& type) { return type.Elements() == 0; });
    if (empty) return;

    Executable::Operation operation;
    operation.kernel = result_->kernels_[n].get();
    operation.in = result_->entries_.size();
    for (int v : node.inputs) AddEntry(v);
    operation.out = result_->entries_.size();
    for (int v : node.outputs) AddEntry(v);
    operation.scratch = result_->entries_.size();
    result_->entries_.push_back({Storage::kArena, placement_.scratch[n]});
    result_->infos_.push_back({static_cast<int>(n), node.name, node.outTypes});
    result_->operations_.push_back(operation);
  }

  Program program_;
  const CompileOptions& options_;
  std::shared_ptr<Executable> result_;
  Placement placement_;
  std::vector<size_t> constantOffset_;
};

Executable::Executable() = default;
Executable::~Executable() = default;

std::shared_ptr<Executable> Executable::Compile(Program program, const CompileOptions& options) {
  return Compiler(std::move(program), options).Compile();
}

void Executable::CheckViews(const std::vector<View>& inputs,
                            const std::vector<View>& outputs) const {
  const auto check = [](const char* what, const std::vector<View>& views,
                        const std::vector<TensorType>& types) {
    if (views.size() != types.size()) {
      throw Error(Code::kArgument, "Expected ", types.size(), " ", what, "s, got ", views.size(),
                  ".");
    }
    for (size_t i = 0; i < views.size(); ++i) {
      const size_t bytes = types[i].Bytes();
      if (!views[i].buffer || views[i].offset > views[i].buffer->bytes() ||
          views[i].bytes() < bytes) {
        throw Error(Code::kShape, "Expected ", bytes, " bytes for ", what, " ", i, " (",
                    TypeText(types[i]), "), but its view has ", views[i].bytes(), ".");
      }
      if (views[i].offset % ByteSize(types[i].dtype) != 0) {
        throw Error(Code::kArgument, "Expected the offset of ", what, " ", i, " as a multiple of ",
                    ByteSize(types[i].dtype), " bytes, got ", views[i].offset, ".");
      }
    }
  };
  check("input", inputs, inputTypes_);
  check("output", outputs, outputTypes_);
  for (size_t o = 0; o < outputs.size(); ++o) {
    const size_t bytes = outputTypes_[o].Bytes();
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!Overlaps(outputs[o], bytes, inputs[i], inputTypes_[i].Bytes())) continue;
      const bool donated =
          std::find(donate_.begin(), donate_.end(),
                    std::make_pair(static_cast<int>(i), static_cast<int>(o))) != donate_.end();
      if (donated && outputs[o].offset == inputs[i].offset) continue;
      throw Error(Code::kArgument, "Output ", o, " overlaps input ", i,
                  ". Give it storage of its own, or compile with that pair donated.");
    }
    for (size_t other = 0; other < o; ++other) {
      if (Overlaps(outputs[o], bytes, outputs[other], outputTypes_[other].Bytes())) {
        throw Error(Code::kArgument, "Output ", o, " overlaps output ", other,
                    ". Give each storage of its own.");
      }
    }
  }
}

void Executable::Run(const std::vector<View>& inputs, const std::vector<View>& outputs,
                     RunContext& context, const RunOptions& options) const {
  CheckViews(inputs, outputs);
  std::vector<const void*> in;
  std::vector<void*> out;
  for (const View& view : inputs) in.push_back(view.data());
  for (const View& view : outputs) out.push_back(view.data());
  Run(in.data(), out.data(), context, options);
}

void Executable::Bind(void** table, const void* const* inputs, void* const* outputs) const {
  for (size_t index : bound_) {
    const Entry& entry = entries_[index];
    table[index] =
        entry.storage == Storage::kInput ? const_cast<void*>(inputs[entry.at]) : outputs[entry.at];
  }
}

void Executable::CopyOutputs(void* const* table, void* const* outputs) const {
  for (const Copy& copy : copies_) {
    auto* const to = static_cast<uint8_t*>(outputs[copy.output]);
    const auto* const from = static_cast<const uint8_t*>(table[copy.from]);
    if (to == from) continue;
    ParallelFor(threads_, static_cast<int64_t>(copy.bytes), int64_t{1} << 18,
                [&](int64_t begin, int64_t end, int) {
                  std::memcpy(to + begin, from + begin, static_cast<size_t>(end - begin));
                });
  }
}

Executable::Pass::Pass(const Executable& executable, const void* const* inputs,
                       void* const* outputs)
    : executable_(&executable), lease_(std::make_unique<Lease>(executable)), outputs_(outputs) {
  executable.Bind(lease_->table(), inputs, outputs);
}

Executable::Pass::~Pass() = default;
Executable::Pass::Pass(Pass&&) noexcept = default;

bool Executable::Pass::Continue(const RunContext& context) {
  const ThreadScope threads(executable_->threads_);
  void* const* const table = lease_->table();
  for (; next_ < executable_->operations_.size(); ++next_) {
    if (context.Interrupted()) return false;
    const Operation& operation = executable_->operations_[next_];
    operation.kernel->Run({table + operation.in, table + operation.out, table[operation.scratch],
                           executable_->threads_});
  }
  executable_->CopyOutputs(table, outputs_);
  return true;
}

void Executable::KeepArenas(size_t count) const {
  std::lock_guard<std::mutex> lock(mutex_);
  kept_ = std::max(kept_, count);
}

void Executable::Run(const void* const* inputs, void* const* outputs, RunContext& context,
                     const RunOptions& options) const {
  if (!options.anomaly && !options.profile) {
    Pass pass(*this, inputs, outputs);
    while (!pass.Continue(context)) context.Yield();
    return;
  }
  Lease lease(*this);
  const ThreadScope threads(threads_);
  Bind(lease.table(), inputs, outputs);
  RunChecked(lease.table(), context, options);
  CopyOutputs(lease.table(), outputs);
}

void Executable::RunChecked(void* const* table, RunContext& context,
                            const RunOptions& options) const {
  using Clock = std::chrono::steady_clock;
  if (options.profile && options.profile->empty()) {
    for (const Info& info : infos_) options.profile->push_back({info.name, 0, 0});
  }
  for (size_t i = 0; i < operations_.size(); ++i) {
    const Operation& operation = operations_[i];
    context.Yield();
    const Clock::time_point start = Clock::now();
    operation.kernel->Run(
        {table + operation.in, table + operation.out, table[operation.scratch], threads_});
    if (options.profile) {
      OperationProfile& entry = (*options.profile)[i];
      entry.milliseconds += std::chrono::duration<double, std::milli>(Clock::now() - start).count();
      entry.calls += 1;
    }
    if (!options.anomaly) continue;
    for (size_t o = 0; o < infos_[i].outTypes.size(); ++o) {
      const TensorType& type = infos_[i].outTypes[o];
      if (!HasNaN(type.dtype, table[operation.out + o], static_cast<size_t>(type.Elements()))) {
        continue;
      }
      throw Error(Code::kNotFinite, "Operation ", infos_[i].node, " (", infos_[i].name,
                  ") is the first with a NaN, in its output ", o, " (", TypeText(type),
                  "). Look at its inputs, and at the program's.");
    }
  }
}

}  // namespace losscape
