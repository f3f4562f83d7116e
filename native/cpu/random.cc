// random: key [4] -> y, counter-based numbers (native/runtime/random.h): element i depends on the
// key, the stream and i alone. key[2] is the high word of the stream; key[3] is unused.
#include "native/runtime/random.h"

#include "native/cpu/check.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

enum class Kind { kUniform, kNormal, kRademacher };

// Elements; a multiple of the 128 that one block gives a Rademacher stream.
constexpr int64_t kGrain = 2'048;

template <typename T>
class Random final : public Kernel {
 public:
  explicit Random(const OpSpec& op)
      : count_(op.outTypes[0].Elements()), stream_(static_cast<uint32_t>(op.Number("stream"))) {
    ExpectDType(op, "the key", op.inTypes[0], DType::kI32);
    ExpectShape(op, "the key", op.inTypes[0], {4});
    const std::string& kind = op.String("kind");
    if (kind == "uniform") {
      kind_ = Kind::kUniform;
    } else if (kind == "normal") {
      kind_ = Kind::kNormal;
    } else if (kind == "rademacher") {
      kind_ = Kind::kRademacher;
    } else {
      throw Error(Code::kProgram, "random: expected uniform, normal or rademacher, got '", kind,
                  "'.");
    }
  }

  void Run(const KernelArgs& args) const override {
    const uint32_t* key = static_cast<const uint32_t*>(args.in[0]);
    const uint64_t seed = key[0] | uint64_t{key[1]} << 32;
    const uint64_t stream = stream_ | uint64_t{key[2]} << 32;
    T* y = static_cast<T*>(args.out[0]);
    ParallelFor(args.threads, count_, kGrain, [=](int64_t begin, int64_t end, int) {
      switch (kind_) {
        case Kind::kUniform:
          return FillUniforms(seed, stream, begin, end - begin, y + begin);
        case Kind::kNormal:
          return FillNormals(seed, stream, begin, end - begin, y + begin);
        case Kind::kRademacher:
          return FillRademacher(seed, stream, begin, end - begin, y + begin);
      }
    });
  }

 private:
  int64_t count_;
  uint32_t stream_;
  Kind kind_;
};

std::unique_ptr<Kernel> MakeRandom(const OpSpec& op) {
  ExpectOperands(op, 1, 1, 1);
  switch (op.outTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<Random<float>>(op);
    case DType::kF64:
      return std::make_unique<Random<double>>(op);
    default:
      ThrowDType(op, op.outTypes[0]);
  }
}
LOSSCAPE_KERNEL(random, MakeRandom);

}  // namespace
}  // namespace losscape
