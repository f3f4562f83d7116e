#include "native/runtime/program.h"

#include <cmath>
#include <utility>

#include "native/runtime/error.h"

namespace losscape {

namespace {

constexpr int kVersion = 1;
// Far beyond any real program, and small enough that sums of sizes cannot overflow.
constexpr int64_t kMaxValues = int64_t{1} << 20;
constexpr int64_t kMaxBytes = int64_t{1} << 42;

// Reads words one after another and checks every one: a word is a double, so it may be anything.
class Reader {
 public:
  Reader(const std::vector<std::string>& names, const double* words, size_t count)
      : names_(names), words_(words), count_(count) {}

  double Word(const char* what) {
    if (at_ >= count_) {
      throw Error(Code::kProgram, "Malformed program: expected ", what, " at word ", at_,
                  ", but there are only ", count_, " words.");
    }
    return words_[at_++];
  }

  // An integer in [0, limit).
  int64_t Index(int64_t limit, const char* what) {
    const double word = Word(what);
    // The comparison is false for NaN.
    if (!(word >= 0 && word < static_cast<double>(limit)) || word != std::floor(word)) {
      throw Error(Code::kProgram, "Malformed program: expected ", what, " as an integer in [0, ",
                  limit, ") at word ", at_ - 1, ", got ", word, ".");
    }
    return static_cast<int64_t>(word);
  }

  // A count of items that take at least one word each.
  int64_t Count(const char* what) { return Index(static_cast<int64_t>(count_ - at_) + 1, what); }

  const std::string& String(const char* what) {
    return names_[static_cast<size_t>(Index(static_cast<int64_t>(names_.size()), what))];
  }

  std::vector<int> Ids(int64_t values, const char* what) {
    std::vector<int> ids(static_cast<size_t>(Count(what)));
    for (int& id : ids) id = static_cast<int>(Index(values, what));
    return ids;
  }

  bool AtEnd() const { return at_ == count_; }
  size_t at() const { return at_; }

 private:
  const std::vector<std::string>& names_;
  const double* words_;
  size_t count_;
  size_t at_ = 0;
};

TensorType ReadType(Reader& reader) {
  TensorType type;
  type.dtype = static_cast<DType>(reader.Index(kDTypeCount, "a dtype"));
  type.shape.resize(static_cast<size_t>(reader.Count("a rank")));
  int64_t bytes = static_cast<int64_t>(ByteSize(type.dtype));
  for (int64_t& size : type.shape) {
    size = reader.Index(kMaxBytes, "a dimension");
    // An empty tensor's other dimensions are multiplied too: by kernels, axis by axis.
    if (size == 0) continue;
    if (bytes > kMaxBytes / size) {
      throw Error(Code::kShape, "A tensor of more than ", kMaxBytes,
                  " bytes cannot be compiled; the program asks for one near word ", reader.at(),
                  ".");
    }
    bytes *= size;
  }
  return type;
}

OpSpec ReadNode(Reader& reader, const std::vector<TensorType>& values) {
  const int64_t count = static_cast<int64_t>(values.size());
  OpSpec node;
  node.name = reader.String("an operation's name");
  node.inputs = reader.Ids(count, "an operation's inputs");
  node.outputs = reader.Ids(count, "an operation's outputs");
  for (int id : node.inputs) node.inTypes.push_back(values[static_cast<size_t>(id)]);
  for (int id : node.outputs) node.outTypes.push_back(values[static_cast<size_t>(id)]);
  const int64_t attributes = reader.Count("attributes");
  for (int64_t a = 0; a < attributes; ++a) {
    const std::string& key = reader.String("an attribute's name");
    const bool text = reader.Index(2, "an attribute's kind") == 1;
    const size_t length = static_cast<size_t>(reader.Count("an attribute's length"));
    if (node.Has(key)) {
      throw Error(Code::kProgram, "Operation ", node.name, " has the attribute ", key, " twice.");
    }
    if (text) {
      std::vector<std::string>& items = node.strings[key];
      for (size_t i = 0; i < length; ++i) items.push_back(reader.String("a string attribute"));
    } else {
      std::vector<double>& items = node.numbers[key];
      for (size_t i = 0; i < length; ++i) items.push_back(reader.Word("a number attribute"));
    }
  }
  return node;
}

void CheckArity(const OpSpec& node, size_t inputs) {
  if (node.inputs.size() != inputs || node.outputs.size() != 1) {
    throw Error(Code::kProgram, "Operation ", node.name, ": expected ", inputs,
                " inputs and 1 output, got ", node.inputs.size(), " and ", node.outputs.size(),
                ".");
  }
}

// The operations that the runtime itself carries out; kernels check their own.
void CheckBuiltIn(const OpSpec& node) {
  if (node.name == "constant") {
    CheckArity(node, 0);
    const int64_t length = static_cast<int64_t>(node.Numbers("data").size());
    const int64_t elements = node.outTypes[0].Elements();
    if (length != 1 && length != elements) {
      throw Error(Code::kShape, "Operation constant: expected 1 or ", elements, " numbers, got ",
                  length, ".");
    }
  } else if (node.name == "reshape") {
    CheckArity(node, 1);
    if (node.inTypes[0].dtype != node.outTypes[0].dtype ||
        node.inTypes[0].Elements() != node.outTypes[0].Elements()) {
      throw Error(Code::kShape, "Operation reshape: expected ", node.inTypes[0].Elements(), " ",
                  Name(node.inTypes[0].dtype), " elements, got ", node.outTypes[0].Elements(), " ",
                  Name(node.outTypes[0].dtype), ".");
    }
  }
}

}  // namespace

Program DecodeProgram(const std::vector<std::string>& names, const double* words, size_t count) {
  Reader reader(names, words, count);
  const double version = reader.Word("the version");
  if (version != kVersion) {
    throw Error(Code::kProgram, "Expected a program of version ", kVersion, ", got ", version, ".");
  }

  Program program;
  const int64_t values = reader.Count("the number of values");
  if (values > kMaxValues) {
    throw Error(Code::kProgram, "Expected at most ", kMaxValues, " values, got ", values, ".");
  }
  program.values.reserve(static_cast<size_t>(values));
  for (int64_t v = 0; v < values; ++v) program.values.push_back(ReadType(reader));
  program.inputs = reader.Ids(values, "the program's inputs");
  program.outputs = reader.Ids(values, "the program's outputs");

  std::vector<bool> defined(static_cast<size_t>(values), false);
  const auto define = [&](int id, const std::string& by) {
    if (defined[static_cast<size_t>(id)]) {
      throw Error(Code::kProgram, "Value ", id, " is defined again by ", by, ".");
    }
    defined[static_cast<size_t>(id)] = true;
  };
  const auto require = [&](int id, const std::string& by) {
    if (!defined[static_cast<size_t>(id)]) {
      throw Error(Code::kProgram, "Value ", id, " is used by ", by, " before it is defined.");
    }
  };

  for (int id : program.inputs) define(id, "the program's inputs");
  const int64_t nodes = reader.Count("the number of operations");
  for (int64_t n = 0; n < nodes; ++n) {
    OpSpec node = ReadNode(reader, program.values);
    const std::string by = "operation " + std::to_string(n) + " (" + node.name + ")";
    for (int id : node.inputs) require(id, by);
    for (int id : node.outputs) define(id, by);
    CheckBuiltIn(node);
    program.nodes.push_back(std::move(node));
  }
  for (int id : program.outputs) require(id, "the program's outputs");
  if (!reader.AtEnd()) {
    throw Error(Code::kProgram, "Malformed program: it ends at word ", reader.at(), " of ", count,
                ".");
  }
  return program;
}

}  // namespace losscape
