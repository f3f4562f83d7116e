// convolution: x, w [, c] -> y;  convolution_data: dy, w [, c] -> x;  convolution_weights: x, dy
// [, c] -> w, each [+ c]. Leading axes of the operands broadcast.
//
// 2 N |out| O (C / groups) |kernel| FLOP. f32 by oneDNN, the filters' gradient by a kernel of ours
// where that is faster; f64 by products over gathered patches.
// Repetitions over leading axes that are too small to share run one per thread.
#include "native/cpu/convolution.h"

#include <omp.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "native/cpu/check.h"
#include "native/cpu/convolution_gather.h"
#include "native/cpu/convolution_weights.h"
#include "native/cpu/onednn_convolution.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

constexpr int64_t kRepeatWork = 2'000'000;  // multiply-adds; repetitions below run one per thread
constexpr int64_t kCopyGrain = 16'384;      // elements

size_t Aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

using Shape = std::vector<int64_t>;

// How to compute one repetition on `threads` threads.
template <typename T>
class Method {
 public:
  Method(ConvolutionKind kind, const ConvolutionSize& size, bool accumulate, int threads)
      : size_(size), accumulate_(accumulate), threads_(threads) {
    if constexpr (std::is_same_v<T, float>) {
      weights_ = kind == ConvolutionKind::kWeights && SuitsConvolutionWeights(size);
      if (weights_) return;
      oneDnn_ = OneDnnConvolution::Make(kind, size, accumulate, threads);
    }
    if (!oneDnn_) gather_ = std::make_unique<GatherConvolution<T>>(kind, size);
  }

  size_t ScratchBytes() const {
    if (weights_) return Aligned(ConvolutionWeightsScratch(size_));
    return Aligned(oneDnn_ ? oneDnn_->scratchBytes() : gather_->ScratchBytes(threads_));
  }

  void Run(const T* a, const T* b, T* y, void* scratch) const {
    if constexpr (std::is_same_v<T, float>) {
      if (weights_) return ConvolutionWeights(size_, a, b, y, accumulate_, scratch, threads_);
      if (oneDnn_) return oneDnn_->Run(a, b, y, scratch);
    }
    gather_->Run(a, b, y, accumulate_, scratch, threads_);
  }

 private:
  ConvolutionSize size_;
  bool accumulate_;
  int threads_;
  bool weights_ = false;  // by ConvolutionWeights
  std::unique_ptr<OneDnnConvolution> oneDnn_;
  std::unique_ptr<GatherConvolution<T>> gather_;
};

// Where repetition i finds its operands: odometer over the leading axes.
struct Repeats {
  Shape sizes, strideA, strideB;  // strides in whole operands; 0 broadcasts
  int64_t count = 1;

  void Find(int64_t i, int64_t& a, int64_t& b) const {
    a = b = 0;
    for (size_t axis = sizes.size(); axis-- > 0; i /= sizes[axis]) {
      a += i % sizes[axis] * strideA[axis];
      b += i % sizes[axis] * strideB[axis];
    }
  }
};

struct Parsed {
  ConvolutionKind kind;
  ConvolutionSize size;
  Repeats repeats;
  bool accumulate;
  int64_t elementsA, elementsB, elementsY;  // of one repetition
};

template <typename T>
class Convolution final : public Kernel {
 public:
  explicit Convolution(Parsed parsed) : parsed_(std::move(parsed)) {}

  size_t ScratchBytes(int threads) const override {
    if (Empty()) return 0;
    const int each = ThreadsOfOne(threads);
    return MethodFor(each).ScratchBytes() * (each < threads ? threads : 1);
  }

  bool MayAlias(int in, int out) const override {
    return in == 2 && out == 0 && parsed_.accumulate;
  }

  void Run(const KernelArgs& args) const override {
    const int threads = args.threads;
    // Only the executor's own setting: libraries read how many threads they may use from it.
    if (omp_get_max_threads() != threads) omp_set_num_threads(threads);
    const Repeats& repeats = parsed_.repeats;
    const T* const a = static_cast<const T*>(args.in[0]);
    const T* const b = static_cast<const T*>(args.in[1]);
    T* const y = static_cast<T*>(args.out[0]);
    const int64_t elements = repeats.count * parsed_.elementsY;
    if (parsed_.accumulate && args.in[2] != args.out[0]) {
      const T* const c = static_cast<const T*>(args.in[2]);
      ParallelFor(threads, elements, kCopyGrain, [=](int64_t begin, int64_t end, int) {
        std::memcpy(y + begin, c + begin, (end - begin) * sizeof(T));
      });
    }
    if (Empty()) {
      if (!parsed_.accumulate) std::fill(y, y + elements, T{0});
      return;
    }
    const int each = ThreadsOfOne(threads);
    const Method<T>& method = MethodFor(each);
    const auto one = [&](int64_t i, void* scratch) {
      int64_t fromA, fromB;
      repeats.Find(i, fromA, fromB);
      method.Run(a + fromA * parsed_.elementsA, b + fromB * parsed_.elementsB,
                 y + i * parsed_.elementsY, scratch);
    };
    char* const scratch = static_cast<char*>(args.scratch);
    if (each == threads) {
      for (int64_t i = 0; i < repeats.count; ++i) one(i, scratch);
      return;
    }
    const size_t bytes = method.ScratchBytes();
    ParallelFor(threads, repeats.count, 1, [&](int64_t begin, int64_t end, int thread) {
      for (int64_t i = begin; i < end; ++i) one(i, scratch + thread * bytes);
    });
  }

 private:
  // Nothing to sum: no images.
  bool Empty() const { return parsed_.size.batch == 0 || parsed_.repeats.count == 0; }

  int ThreadsOfOne(int threads) const {
    const bool small = parsed_.size.MultiplyAdds() < kRepeatWork;
    return small && parsed_.repeats.count >= threads ? 1 : threads;
  }

  const Method<T>& MethodFor(int threads) const {
    std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<Method<T>>& method = methods_[threads];
    if (!method) {
      method = std::make_unique<Method<T>>(parsed_.kind, parsed_.size, parsed_.accumulate, threads);
    }
    return *method;
  }

  Parsed parsed_;
  mutable std::mutex mutex_;
  mutable std::map<int, std::unique_ptr<Method<T>>> methods_;
};

class Parser {
 public:
  explicit Parser(const OpSpec& op, ConvolutionKind kind) : op_(op) {
    ExpectOperands(op, 2, 3, 1);
    parsed_.kind = kind;
    parsed_.accumulate = op.inTypes.size() == 3;
    for (const TensorType& type : op.inTypes) ExpectDType(op, "an operand", type, Type());
    ExpectDType(op, "the result", op.outTypes[0], Type());
    if (Type() != DType::kF32 && Type() != DType::kF64) ThrowDType(op, op.inTypes[0]);
    axes_ = op.Numbers("stride").size();
    if (axes_ < 1 || axes_ > ConvolutionSize::kAxes) {
      throw Error(Code::kProgram, op.name, ": expected 1 to 3 axes of space, got ", axes_, ".");
    }
  }

  Parsed Parse() {
    ConvolutionSize& size = parsed_.size;
    const std::string& layout = op_.String("layout");
    if (layout != "nchw" && layout != "nhwc") {
      throw Error(Code::kProgram, op_.name, ": expected layout nchw or nhwc, got ", layout, ".");
    }
    size.channelsLast = layout == "nhwc";
    size.groups = Integer(op_.Number("groups"), 1);
    size.stride = Axes("stride", 1, 1);
    size.before = Axes("before", 0, 0);
    size.dilation = Axes("dilation", 1, 1);
    Axes("after", 0, 0);
    const TensorType &a = op_.inTypes[0], &b = op_.inTypes[1], &result = op_.outTypes[0];
    switch (parsed_.kind) {
      case ConvolutionKind::kForward:
        ReadInput(a), ReadFilters(b), ReadOutput(result);
        break;
      case ConvolutionKind::kData:
        ReadOutput(a), ReadFilters(b), ReadInput(result);
        break;
      case ConvolutionKind::kWeights:
        ReadInput(a), ReadOutput(b), ReadFilters(result);
        break;
    }
    Check();
    SetRepeats();
    return std::move(parsed_);
  }

 private:
  DType Type() const { return op_.inTypes[0].dtype; }

  int64_t Integer(double number, int64_t least) const {
    if (!(number >= static_cast<double>(least) && number <= 1e9) ||
        number != static_cast<double>(static_cast<int64_t>(number))) {
      throw Error(Code::kProgram, op_.name, ": expected an integer of at least ", least, ", got ",
                  number, ".");
    }
    return static_cast<int64_t>(number);
  }

  ConvolutionSize::Axes Axes(const char* key, int64_t least, int64_t missing) const {
    const std::vector<double>& numbers = op_.Numbers(key);
    if (numbers.size() != axes_) {
      throw Error(Code::kProgram, op_.name, ": expected ", axes_, " numbers in ", key, ", got ",
                  numbers.size(), ".");
    }
    ConvolutionSize::Axes axes;
    axes.fill(missing);
    for (size_t i = 0; i < axes_; ++i) {
      axes[ConvolutionSize::kAxes - axes_ + i] = Integer(numbers[i], least);
    }
    return axes;
  }

  // The axes behind the leading ones.
  Shape Own(const TensorType& type) const {
    if (type.shape.size() < axes_ + 2) {
      throw Error(Code::kShape, op_.name, ": expected at least ", axes_ + 2, " axes, got ",
                  ShapeText(type.shape), ".");
    }
    return Shape(type.shape.end() - static_cast<int64_t>(axes_) - 2, type.shape.end());
  }

  ConvolutionSize::Axes Space(Shape::const_iterator from) const {
    ConvolutionSize::Axes axes;
    axes.fill(1);
    std::copy(from, from + static_cast<int64_t>(axes_), axes.end() - static_cast<int64_t>(axes_));
    return axes;
  }

  void ReadImages(const TensorType& type, int64_t& channels, ConvolutionSize::Axes& space) {
    const Shape own = Own(type);
    const bool last = parsed_.size.channelsLast;
    channels = last ? own.back() : own[1];
    space = Space(own.begin() + (last ? 1 : 2));
    if (batch_ >= 0 && own[0] != batch_) {
      throw Error(Code::kShape, op_.name, ": expected ", batch_, " images, got ",
                  ShapeText(type.shape), ".");
    }
    parsed_.size.batch = batch_ = own[0];
  }
  void ReadInput(const TensorType& type) {
    ReadImages(type, parsed_.size.channels, parsed_.size.input);
  }
  void ReadOutput(const TensorType& type) {
    ReadImages(type, parsed_.size.filters, parsed_.size.output);
  }
  void ReadFilters(const TensorType& type) {
    const Shape own = Own(type);
    filters_ = own[0];
    depth_ = own[1];
    parsed_.size.kernel = Space(own.begin() + 2);
  }

  void Check() const {
    const ConvolutionSize& size = parsed_.size;
    if (size.channels < 1 || size.filters < 1 || size.channels % size.groups != 0 ||
        size.filters % size.groups != 0 || filters_ != size.filters ||
        depth_ * size.groups != size.channels) {
      throw Error(Code::kShape, op_.name, ": expected filters [", size.filters, ", ", size.channels,
                  " / ", size.groups, ", ..], got [", filters_, ", ", depth_, ", ..].");
    }
    const ConvolutionSize::Axes after = Axes("after", 0, 0);
    for (int axis = 0; axis < ConvolutionSize::kAxes; ++axis) {
      const int64_t padded = size.input[axis] + size.before[axis] + after[axis];
      const int64_t extent = size.dilation[axis] * (size.kernel[axis] - 1) + 1;
      if (size.kernel[axis] < 1 || size.input[axis] < 1 || extent > padded ||
          size.output[axis] != (padded - extent) / size.stride[axis] + 1) {
        throw Error(Code::kShape, op_.name, ": a kernel of ", size.kernel[axis], " over images of ",
                    size.input[axis], " does not give results of ", size.output[axis], ".");
      }
    }
  }

  void SetRepeats() {
    const ConvolutionSize& size = parsed_.size;
    const int64_t elements[] = {size.InputElements(), size.WeightElements(), size.OutputElements()};
    const int order[3][3] = {{0, 1, 2}, {2, 1, 0}, {0, 2, 1}};
    const int* const own = order[static_cast<int>(parsed_.kind)];
    parsed_.elementsA = elements[own[0]];
    parsed_.elementsB = elements[own[1]];
    parsed_.elementsY = elements[own[2]];
    const Shape &a = op_.inTypes[0].shape, &b = op_.inTypes[1].shape;
    const Shape& y = op_.outTypes[0].shape;
    const size_t tail = axes_ + 2;
    const size_t rank = std::max(a.size(), b.size());
    Repeats& repeats = parsed_.repeats;
    Shape shape(y.end() - static_cast<int64_t>(tail), y.end());
    int64_t strideA = 1, strideB = 1;
    for (size_t back = tail + 1; back <= rank; ++back) {
      const int64_t sizeA = back <= a.size() ? a[a.size() - back] : 1;
      const int64_t sizeB = back <= b.size() ? b[b.size() - back] : 1;
      if (sizeA != sizeB && sizeA != 1 && sizeB != 1) {
        throw Error(Code::kShape, op_.name, ": expected leading axes that broadcast, got ",
                    ShapeText(a), " and ", ShapeText(b), ".");
      }
      const int64_t count = sizeA == 1 ? sizeB : sizeA;
      shape.insert(shape.begin(), count);
      repeats.sizes.insert(repeats.sizes.begin(), count);
      repeats.strideA.insert(repeats.strideA.begin(), sizeA == 1 ? 0 : strideA);
      repeats.strideB.insert(repeats.strideB.begin(), sizeB == 1 ? 0 : strideB);
      repeats.count *= count;
      strideA *= sizeA;
      strideB *= sizeB;
    }
    ExpectShape(op_, "the result", op_.outTypes[0], shape);
    if (parsed_.accumulate) ExpectShape(op_, "c", op_.inTypes[2], shape);
  }

  const OpSpec& op_;
  Parsed parsed_{};
  size_t axes_ = 0;
  int64_t batch_ = -1, filters_ = 0, depth_ = 0;
};

template <ConvolutionKind kKind>
std::unique_ptr<Kernel> Make(const OpSpec& op) {
  Parsed parsed = Parser(op, kKind).Parse();
  if (op.outTypes[0].dtype == DType::kF64) {
    return std::make_unique<Convolution<double>>(std::move(parsed));
  }
  return std::make_unique<Convolution<float>>(std::move(parsed));
}

LOSSCAPE_KERNEL(convolution, Make<ConvolutionKind::kForward>);
LOSSCAPE_KERNEL(convolution_data, Make<ConvolutionKind::kData>);
LOSSCAPE_KERNEL(convolution_weights, Make<ConvolutionKind::kWeights>);

}  // namespace
}  // namespace losscape
