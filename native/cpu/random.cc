// random: key [4] -> y, counter-based numbers (native/runtime/random.h): element i depends on the
// key, the stream and i alone. key[2] is the high word of the stream; key[3] is unused.
#include "native/runtime/random.h"

#include <algorithm>

#include "native/cpu/check.h"
#include "native/cpu/random_words.h"
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
          return Uniforms(seed, stream, begin, end, y);
        case Kind::kNormal:
          return Normals(seed, stream, begin, end, y);
        case Kind::kRademacher:
          return FillRademacher(seed, stream, begin, end - begin, y + begin);
      }
    });
  }

 private:
  // Elements [begin, end) with begin on a block, as ParallelFor cuts by kGrain.
  static void Uniforms(uint64_t seed, uint64_t stream, int64_t begin, int64_t end, T* y) {
    const int64_t whole = (end - begin) / 4;
    UniformBlocks(seed, stream, static_cast<uint64_t>(begin / 4), static_cast<size_t>(whole),
                  y + begin);
    const int64_t rest = begin + 4 * whole;
    FillUniforms(seed, stream, rest, static_cast<size_t>(end - rest), y + rest);
  }

  static void Normals(uint64_t seed, uint64_t stream, int64_t begin, int64_t end, T* y) {
    constexpr int64_t kBlocks = 256;
    uint32_t words[4 * kBlocks];
    for (int64_t at = begin; at < end; at += 4 * kBlocks) {
      const int64_t size = std::min(end - at, 4 * kBlocks);
      RandomWords(seed, stream, static_cast<uint64_t>(at / 4), static_cast<size_t>((size + 3) / 4),
                  words);
      for (int64_t k = 0; k < size; ++k) {
        y[at + k] = static_cast<T>(InverseNormal(UniformFromWord(words[k])));
      }
    }
  }

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
