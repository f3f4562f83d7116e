// The native side of LosscapeError (lib/errors.ts): the addon turns it into a JavaScript error with
// the same `code`.
#pragma once

#include <exception>
#include <sstream>
#include <string>

namespace losscape {

enum class Code {
  kShape,
  kDType,
  kArgument,
  kRange,
  kProgram,
  kDevice,
  kDisposed,
  kFormat,
  kIo,
  kNotFinite,
  kOperator,
  kNative,
  kCuda,
  kOutOfMemory,
  kAborted,
};

// "ERR_SHAPE" and so on: the strings of lib/errors.ts.
constexpr const char* CodeName(Code code) {
  switch (code) {
    case Code::kShape:
      return "ERR_SHAPE";
    case Code::kDType:
      return "ERR_DTYPE";
    case Code::kArgument:
      return "ERR_ARGUMENT";
    case Code::kRange:
      return "ERR_RANGE";
    case Code::kProgram:
      return "ERR_PROGRAM";
    case Code::kDevice:
      return "ERR_DEVICE";
    case Code::kDisposed:
      return "ERR_DISPOSED";
    case Code::kFormat:
      return "ERR_FORMAT";
    case Code::kIo:
      return "ERR_IO";
    case Code::kNotFinite:
      return "ERR_NOT_FINITE";
    case Code::kOperator:
      return "ERR_OPERATOR";
    case Code::kNative:
      return "ERR_NATIVE";
    case Code::kCuda:
      return "ERR_CUDA";
    case Code::kOutOfMemory:
      return "ERR_OUT_OF_MEMORY";
    case Code::kAborted:
      return "ERR_ABORTED";
  }
  return "ERR_NATIVE";
}

// Says what was expected, what came and how to mend it. The message is the parts one after another:
//   throw Error(Code::kShape, "matmul: expected inner size ", k, ", got ", rows, ".");
class Error : public std::exception {
 public:
  template <typename... Parts>
  explicit Error(Code code, const Parts&... parts) : code_(code) {
    std::ostringstream text;
    (text << ... << parts);
    message_ = text.str();
  }

  Code code() const { return code_; }
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  Code code_;
  std::string message_;
};

}  // namespace losscape
