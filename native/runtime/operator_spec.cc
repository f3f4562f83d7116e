#include "native/runtime/operator_spec.h"

#include <algorithm>
#include <string>
#include <utility>

#include "native/runtime/error.h"

namespace losscape {
namespace {

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

class SpecCheck {
 public:
  explicit SpecCheck(const OperatorSpec& spec) : spec_(spec) {}

  void Run() const {
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

  void Further(const LinearProgram& linear) const {
    if (linear.tangents < 2) {
      throw Error(Code::kArgument, "Operator: expected a linear program for 2 tangents or more, ",
                  "got one for ", linear.tangents, ".");
    }
    CheckLinear(linear, spec_.chunkInputs.size());
  }

 private:
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
    if (elements % count != 0 || offset > spec_.storage ||
        elements / count > spec_.storage - offset) {
      throw Error(Code::kShape, "Operator: expected ", what, " to be ", tangents,
                  " parts of vectors with ", spec_.storage, " elements, got ", elements,
                  " elements at offset ", offset, ".");
    }
  }

  const OperatorSpec& spec_;
};

}  // namespace

void CheckOperatorSpec(const OperatorSpec& spec) { SpecCheck(spec).Run(); }

void CheckLinearProgram(const OperatorSpec& spec, const LinearProgram& linear) {
  SpecCheck(spec).Further(linear);
}

}  // namespace losscape
