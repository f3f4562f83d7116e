#include "native/cpu/onednn_convolution.h"

#include <omp.h>

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>
#include <string>

#include "native/runtime/error.h"

namespace losscape {
namespace {

using dnnl::memory;

constexpr int64_t kCacheElements = 65'536;  // half of 512 KiB
constexpr int64_t kVector = 8;              // channels

// Never destroyed: jobs may still run when the process exits.
const dnnl::engine& CpuEngine() {
  static const auto* const engine = new dnnl::engine(dnnl::engine::kind::cpu, 0);
  return *engine;
}

dnnl::stream& ThreadStream() {
  static thread_local dnnl::stream stream(CpuEngine());
  return stream;
}

// Calls body() and turns oneDNN's errors into ours.
template <class Body>
auto Guarded(Body&& body) {
  try {
    return body();
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_out_of_memory) {
      throw Error(Code::kOutOfMemory, "convolution: no memory for oneDNN's working copies.");
    }
    throw Error(Code::kNative, "convolution: oneDNN returned status ",
                static_cast<int>(error.status), " (", error.what(), ").");
  }
}

// Primitives are made for the threads that OpenMP grants at that time.
class ThreadsForMaking {
 public:
  explicit ThreadsForMaking(int threads) : before_(omp_get_max_threads()) {
    omp_set_num_threads(threads);
  }
  ~ThreadsForMaking() { omp_set_num_threads(before_); }
  ThreadsForMaking(const ThreadsForMaking&) = delete;
  ThreadsForMaking& operator=(const ThreadsForMaking&) = delete;

 private:
  int before_;
};

dnnl::primitive_attr Attributes(bool sum) {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (sum) {
    dnnl::post_ops ops;
    ops.append_sum(1.0f);
    attributes.set_post_ops(ops);
  }
  return attributes;
}

// Descriptors of the three tensors, in the layouts of the program and as oneDNN may choose them.
struct Descriptors {
  memory::desc x, w, y;

  Descriptors(const ConvolutionSize& size, bool chooseImages, bool chooseFilters) {
    const bool deep = size.input[0] != 1 || size.kernel[0] != 1 || size.output[0] != 1;
    const int from = deep ? 0 : 1;
    memory::dims xs = {size.batch, size.channels}, ys = {size.batch, size.filters};
    memory::dims ws = {size.filters / size.groups, size.channels / size.groups};
    if (size.groups > 1) ws.insert(ws.begin(), size.groups);
    for (int axis = from; axis < ConvolutionSize::kAxes; ++axis) {
      xs.push_back(size.input[axis]);
      ys.push_back(size.output[axis]);
      ws.push_back(size.kernel[axis]);
    }
    using Tag = memory::format_tag;
    const Tag last = deep ? Tag::ndhwc : Tag::nhwc, first = deep ? Tag::ncdhw : Tag::nchw;
    const Tag images = chooseImages ? Tag::any : size.channelsLast ? last : first;
    const Tag grouped = deep ? Tag::goidhw : Tag::goihw, single = deep ? Tag::oidhw : Tag::oihw;
    const Tag filters = chooseFilters ? Tag::any : size.groups > 1 ? grouped : single;
    x = memory::desc(xs, memory::data_type::f32, images);
    y = memory::desc(ys, memory::data_type::f32, images);
    w = memory::desc(ws, memory::data_type::f32, filters);
  }
};

struct Strides {
  memory::dims stride, dilation, before, after;

  explicit Strides(const ConvolutionSize& size, size_t axes) {
    for (size_t axis = ConvolutionSize::kAxes - axes; axis < ConvolutionSize::kAxes; ++axis) {
      const int64_t extent = size.dilation[axis] * (size.kernel[axis] - 1) + 1;
      stride.push_back(size.stride[axis]);
      dilation.push_back(size.dilation[axis] - 1);
      before.push_back(size.before[axis]);
      // Only what the results see: negative where the stride leaves some of the images out.
      after.push_back((size.output[axis] - 1) * size.stride[axis] + extent - size.input[axis] -
                      size.before[axis]);
    }
  }
};

// A primitive with the descriptors of its operands: a, b -> y.
struct Product {
  dnnl::primitive primitive;
  memory::desc a, b, y, scratchpad;
  int argA, argB, argY;
  std::string implementation;
};

bool Contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

Product MakeProduct(ConvolutionKind kind, const ConvolutionSize& size, bool sum) {
  const Descriptors any(size, !size.channelsLast, true);
  const Strides s(size, any.x.dims().size() - 2);
  const auto algorithm = dnnl::algorithm::convolution_direct;
  const dnnl::convolution_forward::primitive_desc forward(
      {dnnl::prop_kind::forward_training, algorithm, any.x, any.w, any.y, s.stride, s.dilation,
       s.before, s.after},
      Attributes(sum), CpuEngine());
  if (kind == ConvolutionKind::kForward) {
    return {dnnl::convolution_forward(forward),
            forward.src_desc(),
            forward.weights_desc(),
            forward.dst_desc(),
            forward.scratchpad_desc(),
            DNNL_ARG_SRC,
            DNNL_ARG_WEIGHTS,
            DNNL_ARG_DST,
            forward.impl_info_str()};
  }
  if (kind == ConvolutionKind::kData) {
    const dnnl::convolution_backward_data::primitive_desc data(
        {algorithm, any.x, any.w, any.y, s.stride, s.dilation, s.before, s.after},
        Attributes(false), CpuEngine(), forward);
    return {dnnl::convolution_backward_data(data),
            data.diff_dst_desc(),
            data.weights_desc(),
            data.diff_src_desc(),
            data.scratchpad_desc(),
            DNNL_ARG_DIFF_DST,
            DNNL_ARG_WEIGHTS,
            DNNL_ARG_DIFF_SRC,
            data.impl_info_str()};
  }
  const dnnl::convolution_backward_weights::primitive_desc weights(
      {algorithm, any.x, any.w, any.y, s.stride, s.dilation, s.before, s.after}, Attributes(false),
      CpuEngine(), forward);
  return {dnnl::convolution_backward_weights(weights),
          weights.src_desc(),
          weights.diff_dst_desc(),
          weights.diff_weights_desc(),
          weights.scratchpad_desc(),
          DNNL_ARG_SRC,
          DNNL_ARG_DIFF_DST,
          DNNL_ARG_DIFF_WEIGHTS,
          weights.impl_info_str()};
}

// A tensor that the product reads or writes in another layout than the program has it in.
struct Copy {
  bool needed = false;
  memory::desc outside, inside;
  dnnl::primitive reorder;
  size_t at = 0;  // in scratch
};

// How many equal parts of the images keep working copies of them in the cores' second cache, from
// which the next step reads them.
int64_t Parts(const ConvolutionSize& size, int threads) {
  const int64_t image = std::max(size.InputElements(), size.OutputElements()) / size.batch;
  const int64_t most = kCacheElements * threads / image;
  int64_t images = std::min(std::max<int64_t>(most, 1), size.batch);
  while (size.batch % images != 0) --images;
  // Many products of few images cost more than they save.
  return 4 * images < std::min(most, size.batch) ? 1 : size.batch / images;
}

class Convolution final : public OneDnnConvolution {
 public:
  // The product takes size.batch images, `parts` times, and `merged` groups of the program as one.
  // `sums`: it adds onto its result itself.
  Convolution(Product product, ConvolutionKind kind, const ConvolutionSize& size, int64_t parts,
              int64_t merged, bool accumulate, bool sums)
      : product_(std::move(product)), size_(size), parts_(parts), merged_(merged) {
    const bool data = kind == ConvolutionKind::kData;
    partA_ = data ? size.OutputElements() : size.InputElements();
    partY_ = data ? size.InputElements() : size.OutputElements();
    const Descriptors own(size, false, false);
    const memory::desc& a = kind == ConvolutionKind::kData ? own.y : own.x;
    const memory::desc& b = kind == ConvolutionKind::kWeights ? own.y : own.w;
    const memory::desc& y = kind == ConvolutionKind::kForward ? own.y
                            : kind == ConvolutionKind::kData  ? own.x
                                                              : own.w;
    const bool apart = accumulate && !sums;
    a_ = MakeCopy(a, product_.a, false, false);
    b_ = MakeCopy(b, product_.b, false, false);
    y_ = MakeCopy(y, product_.y, true, accumulate, apart);
    scratchpadAt_ = Take(product_.scratchpad.get_size());
    if (merged > 1) mergedAt_ = Take(size.WeightElements() * sizeof(float));
  }

  size_t scratchBytes() const override { return bytes_ + reorderBytes_; }

  void Run(const float* a, const float* b, float* y, void* scratch) const override {
    Guarded([&] {
      char* const memory = static_cast<char*>(scratch);
      const dnnl::memory by = Inside(b_, merged_ > 1 ? Merged(b, memory + mergedAt_) : b, memory);
      const dnnl::memory pad = At(product_.scratchpad, memory + scratchpadAt_);
      for (int64_t part = 0; part < parts_; ++part) {
        const dnnl::memory from = Inside(a_, a + part * partA_, memory);
        const dnnl::memory own = At(y_.outside, y + part * partY_);
        const dnnl::memory to = y_.needed ? At(y_.inside, memory + y_.at) : own;
        product_.primitive.execute(ThreadStream(), {{product_.argA, from},
                                                    {product_.argB, by},
                                                    {product_.argY, to},
                                                    {DNNL_ARG_SCRATCHPAD, pad}});
        if (y_.needed) Reorder(y_, to, own, memory);
      }
    });
  }

 private:
  // Filters of several groups as those of one, with zeros where they do not see each other.
  const float* Merged(const float* w, char* scratch) const {
    float* const to = reinterpret_cast<float*>(scratch);
    const int64_t row = size_.WeightElements() / size_.filters;
    const int64_t own = row / merged_;
    const int64_t width = size_.filters / (size_.groups * merged_);
    std::fill(to, to + size_.WeightElements(), 0.0f);
    for (int64_t o = 0; o < size_.filters; ++o) {
      std::copy(w + o * own, w + (o + 1) * own, to + o * row + o / width % merged_ * own);
    }
    return to;
  }

  size_t Take(size_t bytes) {
    const size_t at = bytes_;
    bytes_ += (bytes + 255) / 256 * 256;
    return at;
  }

  Copy MakeCopy(const memory::desc& outside, const memory::desc& inside, bool back, bool sum,
                bool apart = false) {
    Copy copy;
    copy.outside = outside;
    copy.inside = inside;
    copy.needed = apart || outside != inside;
    if (!copy.needed) return copy;
    const memory::desc& from = back ? inside : outside;
    const memory::desc& to = back ? outside : inside;
    const dnnl::reorder::primitive_desc descriptor(CpuEngine(), from, CpuEngine(), to,
                                                   Attributes(sum));
    copy.reorder = dnnl::reorder(descriptor);
    copy.at = Take(inside.get_size());
    reorderBytes_ = std::max(reorderBytes_, descriptor.scratchpad_desc().get_size());
    return copy;
  }

  static dnnl::memory At(const memory::desc& descriptor, void* data) {
    return dnnl::memory(descriptor, CpuEngine(), data);
  }

  void Reorder(const Copy& copy, const dnnl::memory& from, const dnnl::memory& to,
               char* scratch) const {
    const memory::desc bytes({static_cast<int64_t>(reorderBytes_)}, memory::data_type::u8,
                             memory::format_tag::x);
    copy.reorder.execute(ThreadStream(), {{DNNL_ARG_FROM, from},
                                          {DNNL_ARG_TO, to},
                                          {DNNL_ARG_SCRATCHPAD, At(bytes, scratch + bytes_)}});
  }

  dnnl::memory Inside(const Copy& copy, const float* data, char* scratch) const {
    const dnnl::memory own = At(copy.outside, const_cast<float*>(data));
    if (!copy.needed) return own;
    const dnnl::memory inside = At(copy.inside, scratch + copy.at);
    Reorder(copy, own, inside, scratch);
    return inside;
  }

  Product product_;
  ConvolutionSize size_;
  int64_t parts_, merged_;
  int64_t partA_, partY_;  // elements of a and y from part to part
  Copy a_, b_, y_;
  size_t scratchpadAt_ = 0, mergedAt_ = 0;
  size_t bytes_ = 0, reorderBytes_ = 0;
};

}  // namespace

std::unique_ptr<OneDnnConvolution> OneDnnConvolution::Make(ConvolutionKind kind,
                                                           const ConvolutionSize& size,
                                                           bool accumulate, int threads) {
#if defined(__x86_64__) || defined(_M_X64)
  return Guarded([&]() -> std::unique_ptr<OneDnnConvolution> {
    const ThreadsForMaking scope(threads);
    // Backward products do not add.
    bool sums = accumulate && kind == ConvolutionKind::kForward;
    const bool copies = !size.channelsLast || (accumulate && !sums);
    const int64_t parts = copies && kind != ConvolutionKind::kWeights ? Parts(size, threads) : 1;
    ConvolutionSize part = size;
    part.batch /= parts;
    Product product = MakeProduct(kind, part, sums);
    int64_t merged = 1;
    if (kind != ConvolutionKind::kWeights && size.groups > 1 &&
        Contains(product.implementation, "gemm")) {
      // Products of a few channels: twice to four times the work in vectors is done sooner.
      while (merged < kVector && size.groups % (2 * merged) == 0 &&
             merged * std::min(size.channels, size.filters) < kVector * size.groups) {
        merged *= 2;
      }
      ConvolutionSize wide = part;
      wide.groups /= merged;
      Product other = MakeProduct(kind, wide, sums);
      if (Contains(other.implementation, "jit:")) {
        product = std::move(other);
        part = wide;
      } else {
        merged = 1;
      }
    }
    if (Contains(product.implementation, "ref")) return nullptr;
    // Its aligned loads fault where channels last are no multiple of four (oneDNN 2.6).
    if (Contains(product.implementation, "jit_dw:sse41")) return nullptr;
    // A result that is brought into place must be added there.
    if (sums && product.y != Descriptors(part, false, false).y) {
      sums = false;
      product = MakeProduct(kind, part, sums);
    }
    return std::make_unique<Convolution>(std::move(product), kind, part, parts, merged, accumulate,
                                         sums);
  });
#else
  // oneDNN generates no code elsewhere.
  static_cast<void>(kind), static_cast<void>(size);
  static_cast<void>(accumulate), static_cast<void>(threads);
  return nullptr;
#endif
}

}  // namespace losscape
