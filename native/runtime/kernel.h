// What a kernel is to the runtime: made once per operation when a program is compiled, run many
// times from the executor thread. One file per family under native/cpu registers its factories.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "native/runtime/types.h"

namespace losscape {

// One operation of a decoded program, with everything that is known at compile time.
struct OpSpec {
  std::string name;
  std::vector<int> inputs;   // value ids
  std::vector<int> outputs;  // value ids
  std::vector<TensorType> inTypes;
  std::vector<TensorType> outTypes;
  std::map<std::string, std::vector<double>> numbers;
  std::map<std::string, std::vector<std::string>> strings;

  bool Has(const std::string& key) const { return numbers.count(key) || strings.count(key); }
  // Throw Error{ERR_PROGRAM} that names the operation and the attribute when it is missing.
  double Number(const std::string& key) const;
  double Number(const std::string& key, double fallback) const;
  const std::vector<double>& Numbers(const std::string& key) const;
  const std::string& String(const std::string& key) const;
};

struct KernelArgs {
  const void* const* in;  // one pointer per input, dense row-major, at least element-aligned
  void* const* out;       // one pointer per output
  void* scratch;          // ScratchBytes(threads) bytes, 256-byte aligned
  int threads;            // >= 1; OpenMP threads this run may use
};

class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual size_t ScratchBytes(int /*threads*/) const { return 0; }
  // Whether output `out` may be written to the storage of input `in` while the kernel runs.
  virtual bool MayAlias(int /*in*/, int /*out*/) const { return false; }
  virtual void Run(const KernelArgs& args) const = 0;
};

using KernelFactory = std::unique_ptr<Kernel> (*)(const OpSpec&);

// Registers at static initialisation; the kernels are linked as an object library so that no
// registration is dropped.
struct KernelRegistration {
  KernelRegistration(const char* name, KernelFactory factory);
};
#define LOSSCAPE_KERNEL(NAME, FACTORY) \
  static const ::losscape::KernelRegistration kRegister_##NAME(#NAME, FACTORY)

// Throws Error{ERR_PROGRAM} with the known names when `op.name` has no kernel.
std::unique_ptr<Kernel> MakeKernel(const OpSpec& op);
std::vector<std::string> KernelNames();

}  // namespace losscape
