#include "native/cpu/fused_decode.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "native/runtime/error.h"

namespace losscape {
namespace {

// Above this a double does not hold every integer.
constexpr double kMaxInteger = 9007199254740992.0;

template <typename... Parts>
[[noreturn]] void Malformed(const Parts&... parts) {
  throw Error(Code::kProgram, "fused: ", parts...);
}

int64_t Integer(double number, const char* what) {
  if (!(std::fabs(number) <= kMaxInteger) || number != std::trunc(number)) {
    Malformed("expected an integer in '", what, "', got ", number, ".");
  }
  return static_cast<int64_t>(number);
}

class Decoder {
 public:
  explicit Decoder(const OpSpec& op) : op_(op) {}

  FusedCode Decode() {
    code_.inputs = static_cast<int>(op_.inTypes.size());
    Space();
    for (int i = 0; i < code_.inputs; ++i) code_.operands.push_back(Operand(i));
    Instructions();
    Results();
    ComputeType();
    return std::move(code_);
  }

 private:
  const std::vector<double>& NumbersOf(const char* key) const {
    static const std::vector<double> none;
    const auto found = op_.numbers.find(key);
    return found == op_.numbers.end() ? none : found->second;
  }

  const std::vector<double>& Expect(const char* key, size_t length) const {
    const std::vector<double>& numbers = NumbersOf(key);
    if (numbers.size() != length) {
      Malformed("expected ", length, " numbers in '", key, "', got ", numbers.size(), ".");
    }
    return numbers;
  }

  void Space() {
    const std::vector<double>& shape = NumbersOf("shape");
    if (shape.size() > kFusedMaxRank) {
      Malformed("expected a rank of at most ", kFusedMaxRank, ", got ", shape.size(), ".");
    }
    double product = 1;
    for (double size : shape) {
      const int64_t n = Integer(size, "shape");
      if (n < 0) Malformed("expected sizes >= 0 in 'shape', got ", n, ".");
      shape_.push_back(n);
      product *= static_cast<double>(n);
    }
    // An empty space may have axes of any size beside the empty one.
    if (product > kMaxInteger) Malformed("'shape' has more than 2^53 elements.");
    code_.count = static_cast<int64_t>(product);
    strides_ = &Expect("strides", shape.size() * code_.inputs);
    offsets_ = &Expect("offsets", code_.inputs);
  }

  FusedOperand Operand(int index) const {
    const int rank = static_cast<int>(shape_.size());
    FusedOperand operand;
    operand.dtype = op_.inTypes[index].dtype;
    operand.elements = op_.inTypes[index].Elements();
    operand.offset = Integer((*offsets_)[index], "offsets");
    if (operand.offset < 0) Malformed("expected offsets >= 0, got ", operand.offset, ".");
    double last = static_cast<double>(operand.offset);
    for (int axis = 0; axis < rank; ++axis) {
      const int64_t stride = Integer((*strides_)[index * rank + axis], "strides");
      if (stride < 0) Malformed("expected strides >= 0, got ", stride, ".");
      if (code_.count == 0 || shape_[axis] == 1) continue;
      last += static_cast<double>(stride) * static_cast<double>(shape_[axis] - 1);
      // Before its products of strides and sizes are formed: those may overflow.
      CheckLast(index, last, operand.elements);
      Append(operand, shape_[axis], stride);
    }
    if (code_.count > 0) CheckLast(index, last, operand.elements);
    operand.uniform = operand.rank == 0 || (operand.rank == 1 && operand.stride[0] == 0);
    operand.dense = operand.offset == 0 && operand.elements == code_.count &&
                    (operand.rank == 0 || (operand.rank == 1 && operand.stride[0] == 1));
    return operand;
  }

  static void CheckLast(int index, double last, int64_t elements) {
    if (last < static_cast<double>(elements)) return;
    Malformed("operand ", index, " is read up to element ", last, ", but has ", elements, ".");
  }

  // Adds an inner axis; merges it with the one outside when both are walked as one.
  static void Append(FusedOperand& operand, int64_t size, int64_t stride) {
    if (operand.rank > 0 && operand.stride[operand.rank - 1] == stride * size) {
      operand.shape[operand.rank - 1] *= size;
      operand.stride[operand.rank - 1] = stride;
      return;
    }
    operand.shape[operand.rank] = size;
    operand.stride[operand.rank] = stride;
    ++operand.rank;
  }

  FusedOp Named(double index) const {
    const auto found = op_.strings.find("ops");
    const int64_t at = Integer(index, "code");
    const int64_t names =
        found == op_.strings.end() ? 0 : static_cast<int64_t>(found->second.size());
    if (at < 0 || at >= names) Malformed("instruction ", at, " is outside 'ops' (", names, ").");
    const std::string& name = found->second[at];
    if (name == "const") return FusedOp::kConst;
    for (int op = 0; op < kFusedOpCount && !name.empty(); ++op) {
      if (name == kFusedOps[op].wire) return static_cast<FusedOp>(op);
    }
    Malformed("unknown instruction '", name, "'.");
  }

  void Instructions() {
    const std::vector<double>& code = NumbersOf("code");
    if (code.size() % 4 != 0) {
      Malformed("expected four numbers per instruction in 'code', got ", code.size(), " in all.");
    }
    // Registers are kept in 32 bits.
    if (code.size() / 4 + op_.inTypes.size() > 1'000'000) Malformed("'code' is too long.");
    code_.numbers = NumbersOf("consts");
    for (size_t k = 0; k < code.size() / 4; ++k)
      code_.steps.push_back(Instruction(k, &code[4 * k]));
  }

  FusedStep Instruction(size_t k, const double* words) const {
    const int value = code_.inputs + static_cast<int>(k);
    FusedStep step{Named(words[0]), 0, {-1, -1, -1, -1}, value, -1};
    const bool constant = step.op == FusedOp::kConst;
    const int64_t limit = constant ? static_cast<int64_t>(code_.numbers.size()) : value;
    const int used = constant ? 1 : Info(step.op).arity;
    for (int i = 0; i < 3; ++i) {
      const int64_t source = Integer(words[1 + i], "code");
      if (i < used ? source < 0 || source >= limit : source != -1) {
        Malformed("instruction ", k, ": operand ", i, " is ", source, ", expected ",
                  i < used ? "0 .. " + std::to_string(limit - 1) : std::string("-1"), ".");
      }
      step.source[i] = static_cast<int32_t>(source);
    }
    step.arity = static_cast<int16_t>(constant ? 0 : used);
    if (step.op == FusedOp::kGt || step.op == FusedOp::kGe) {
      step.op = step.op == FusedOp::kGt ? FusedOp::kLt : FusedOp::kLe;
      std::swap(step.source[0], step.source[1]);
    }
    return step;
  }

  void Results() {
    const size_t outputs = op_.outTypes.size();
    for (double number : Expect("results", outputs)) {
      const int64_t value = Integer(number, "results");
      if (value < 0 || value >= code_.Values()) {
        Malformed("result register ", value, " is outside 0 .. ", code_.Values() - 1, ".");
      }
      code_.results.push_back(static_cast<int>(value));
    }
    for (const TensorType& type : op_.outTypes) {
      if (type.Elements() != code_.count) {
        Malformed("an output has ", type.Elements(), " elements, the iteration space ", code_.count,
                  ".");
      }
      code_.outputs.push_back(type.dtype);
    }
  }

  void ComputeType() {
    const auto wide = [](DType dtype) { return dtype == DType::kF64 || dtype == DType::kI32; };
    for (const TensorType& type : op_.inTypes) code_.wide |= wide(type.dtype);
    for (const TensorType& type : op_.outTypes) code_.wide |= wide(type.dtype);
  }

  const OpSpec& op_;
  FusedCode code_;
  std::vector<int64_t> shape_;
  const std::vector<double>* strides_ = nullptr;
  const std::vector<double>* offsets_ = nullptr;
};

}  // namespace

FusedCode DecodeFused(const OpSpec& op) { return Decoder(op).Decode(); }

}  // namespace losscape
