// Builds small programs for native tests, where no TypeScript traces them.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "native/runtime/executable.h"
#include "native/runtime/program.h"

namespace losscape::test {

class ProgramBuilder {
 public:
  int Input(DType dtype, std::vector<int64_t> shape) {
    program_.inputs.push_back(Value(dtype, std::move(shape)));
    return program_.inputs.back();
  }

  int Node(const std::string& name, const std::vector<int>& inputs, DType dtype,
           std::vector<int64_t> shape, std::map<std::string, std::vector<double>> numbers = {},
           std::map<std::string, std::vector<std::string>> strings = {}) {
    const int result = Value(dtype, std::move(shape));
    OpSpec op;
    op.name = name;
    op.inputs = inputs;
    op.outputs = {result};
    for (int id : inputs) op.inTypes.push_back(program_.values[static_cast<size_t>(id)]);
    op.outTypes = {program_.values[static_cast<size_t>(result)]};
    op.numbers = std::move(numbers);
    op.strings = std::move(strings);
    program_.nodes.push_back(std::move(op));
    return result;
  }

  // a b [+ c]; a [m, k] or its transpose.
  int MatMul(int a, int b, DType dtype, std::vector<int64_t> shape, bool transA = false,
             bool transB = false, int c = -1) {
    std::vector<int> inputs{a, b};
    if (c >= 0) inputs.push_back(c);
    return Node("matmul", inputs, dtype, std::move(shape),
                {{"transA", {transA ? 1.0 : 0.0}}, {"transB", {transB ? 1.0 : 0.0}}});
  }

  std::shared_ptr<Executable> Compile(const std::vector<int>& outputs, int threads = 2) {
    program_.outputs = outputs;
    CompileOptions options;
    options.threads = threads;
    return Executable::Compile(program_, options);
  }

 private:
  int Value(DType dtype, std::vector<int64_t> shape) {
    TensorType type;
    type.dtype = dtype;
    type.shape = std::move(shape);
    program_.values.push_back(std::move(type));
    return static_cast<int>(program_.values.size()) - 1;
  }

  Program program_;
};

// A buffer that holds `values`.
template <typename T>
std::shared_ptr<Buffer> MakeBuffer(const std::vector<T>& values) {
  auto buffer = std::make_shared<Buffer>(values.size() * sizeof(T));
  std::copy(values.begin(), values.end(), reinterpret_cast<T*>(buffer->data()));
  return buffer;
}

}  // namespace losscape::test
