// A program compiled for the CPU: kernels, constants and one arena planned by liveness.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "native/runtime/buffer.h"
#include "native/runtime/executor.h"
#include "native/runtime/program.h"

namespace losscape {

struct CompileOptions {
  int threads = 1;
  // Pairs [input, output] that may share storage: the input is dead after the run.
  std::vector<std::pair<int, int>> donate;
};

struct OperationProfile {
  std::string name;
  double milliseconds = 0;
  int64_t calls = 0;
};

struct RunOptions {
  // Check every result; Error{ERR_NOT_FINITE} names the first operation that makes a NaN.
  bool anomaly = false;
  // Adds to one entry per operation (resized when empty).
  std::vector<OperationProfile>* profile = nullptr;
};

class Executable {
  class Lease;

 public:
  // Throws Error{ERR_PROGRAM, ERR_SHAPE, ...} of the kernels' factories.
  static std::shared_ptr<Executable> Compile(Program program, const CompileOptions& options);
  ~Executable();

  int threads() const { return threads_; }
  const std::vector<TensorType>& inputTypes() const { return inputTypes_; }
  const std::vector<TensorType>& outputTypes() const { return outputTypes_; }
  // Bytes of the planned arena, and what it would be without any reuse.
  size_t arenaBytes() const { return arenaBytes_; }
  size_t unplannedBytes() const { return unplannedBytes_; }
  // One line per operation: index, name, place and bytes of its outputs.
  const std::vector<std::string>& Describe() const { return descriptions_; }

  // Checks that `views` (one per input or output) are large enough, aligned to the element, and
  // that no output overlaps an input (other than its donated one) or another output.
  // Throws Error{ERR_ARGUMENT, ERR_SHAPE}.
  void CheckViews(const std::vector<View>& inputs, const std::vector<View>& outputs) const;

  // Runs on checked storage: one pointer per input and output, in order. Yields between operations.
  // Re-entrant: a run that starts inside another gets an arena of its own.
  void Run(const void* const* inputs, void* const* outputs, RunContext& context,
           const RunOptions& options = {}) const;
  // A run that can pause between operations. Runs on several threads pause together for a job of
  // priority 1, so that it gets the whole team, and then go on where they were.
  class Pass {
   public:
    Pass(const Executable& executable, const void* const* inputs, void* const* outputs);
    ~Pass();
    Pass(Pass&&) noexcept;
    Pass& operator=(Pass&&) = delete;

    // Runs to the end (true) or until the context is interrupted (false). One thread at a time.
    bool Continue(const RunContext& context);

   private:
    const Executable* executable_;
    std::unique_ptr<Lease> lease_;
    void* const* outputs_;
    size_t next_ = 0;
  };

  // How many arenas stay between runs (default 1): as many as there are passes at the same time.
  void KeepArenas(size_t count) const;

  // CheckViews, then Run.
  void Run(const std::vector<View>& inputs, const std::vector<View>& outputs, RunContext& context,
           const RunOptions& options = {}) const;

 private:
  struct Operation;
  struct Info;
  struct Entry;
  struct Copy;
  struct Arena;
  friend class Compiler;

  Executable();
  void Bind(void** table, const void* const* inputs, void* const* outputs) const;
  void CopyOutputs(void* const* table, void* const* outputs) const;
  void RunChecked(void* const* table, RunContext& context, const RunOptions& options) const;

  int threads_ = 1;
  std::vector<TensorType> inputTypes_;
  std::vector<TensorType> outputTypes_;
  std::vector<std::pair<int, int>> donate_;
  size_t arenaBytes_ = 0;
  size_t unplannedBytes_ = 0;
  Allocation constants_;
  std::vector<std::unique_ptr<Kernel>> kernels_;
  std::vector<Operation> operations_;
  std::vector<Info> infos_;
  std::vector<std::string> descriptions_;
  // The pointers of all operations, one after another: where each points to, and which of them
  // change from run to run.
  std::vector<Entry> entries_;
  std::vector<size_t> bound_;
  std::vector<Copy> copies_;

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Arena>> idle_;
  mutable size_t kept_ = 1;  // arenas
};

}  // namespace losscape
