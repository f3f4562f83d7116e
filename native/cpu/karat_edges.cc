// karat_edges and its derivative family: every edge (latent p, key m) has its own function of the
// score x = scale q_n . k_m, with P parameters,
//
//   z[b, h, n, p] = sum_m phi(x; theta[e, h, :, m, p]),   set e = floor(b E / B)
//
//   karat_edges          q, k, theta [, mask]                  -> z
//   karat_edges_vjp      .., g                                 -> dq, dk, dtheta
//   karat_edges_jvp      .., dq, dk, dtheta [R, ..]            -> dz [R, ..]
//   karat_edges_vjp_jvp  .., g, dq, dk, dtheta, dg [R, ..]     -> tangents of dq, dk, dtheta
//   karat_edges_jvp_jvp  .., t (q, k, theta) [R, ..], u [R, ..] -> d2 z (t, u) [R, ..]
//
// Work: B H N M (r F + 2 D) forward, B H N M (r F' + 6 D) backward, F (15 to 60) and F' operations
// for a function and its slopes, twice to three times that with a tangent. Scores and edge values
// live in L1 and L2 by tiles of 24 keys and at most 256 rows; memory beyond operands and results
// is that and, backward, M D + 2 P M r numbers a thread. d theta adds up in float64, by threads in
// their order: deterministic for a given number of threads.
#include "native/cpu/karat_edges.h"

#include <algorithm>
#include <vector>

#include "native/cpu/check.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

KaratEdgesLoops<float> LoopsFor(EdgeBasis basis, float) { return KaratEdgesLoopsF32(basis); }
KaratEdgesLoops<double> LoopsFor(EdgeBasis basis, double) { return KaratEdgesLoopsF64(basis); }

enum class Form { kForward, kVjp, kJvp, kVjpJvp, kJvpJvp };

EdgeBasis BasisOf(const OpSpec& op) {
  const std::string& name = op.String("basis");
  if (name == "rational") return EdgeBasis::kRational;
  if (name == "mexican-hat") return EdgeBasis::kMexicanHat;
  if (name == "morlet") return EdgeBasis::kMorlet;
  if (name == "dog") return EdgeBasis::kDog;
  if (name == "meyer") return EdgeBasis::kMeyer;
  if (name == "shannon") return EdgeBasis::kShannon;
  throw Error(Code::kProgram, op.name,
              ": expected basis rational, mexican-hat, morlet, dog, meyer or shannon, got '", name,
              "'.");
}

template <typename T>
class KaratEdges final : public Kernel {
 public:
  KaratEdges(const OpSpec& op, Form form) : basis_(BasisOf(op)) {
    backward_ = form == Form::kVjp || form == Form::kVjpJvp;
    order_ = form == Form::kJvpJvp ? 2 : form == Form::kJvp || form == Form::kVjpJvp ? 1 : 0;
    const std::string& layout = op.String("layout");
    if (layout != "bhnd" && layout != "bnhd") {
      throw Error(Code::kProgram, op.name, ": expected layout bhnd or bnhd, got '", layout, "'.");
    }
    masked_ = op.Number("masked", 0) != 0;
    const size_t each = 3 + (form == Form::kVjpJvp);
    const size_t inputs = 3 + masked_ + backward_ + each * static_cast<size_t>(order_);
    ExpectOperands(op, inputs, inputs, backward_ ? 3 : 1);
    CheckShapes(op, layout == "bnhd");
    scratch_ = EdgeScratch(a_.N, a_.M, a_.D, a_.P, a_.r, order_, backward_);
    a_.scale = op.Number("scale");
    a_.omega = op.Number("omega", 5);
    a_.shannon = basis_ == EdgeBasis::kShannon;
  }

  size_t ScratchBytes(int threads) const override { return threads * ThreadBytes(); }

  void Run(const KernelArgs& args) const override {
    KaratEdgesArgs<T> a = a_;
    size_t input = 0;
    auto next = [&] { return static_cast<const T*>(args.in[input++]); };
    a.q[0] = next();
    a.k[0] = next();
    a.theta[0] = next();
    if (masked_) a.mask = args.in[input++];
    if (backward_) a.g[0] = next();
    for (int part = 1; part <= order_; ++part) {
      a.q[part] = next();
      a.k[part] = next();
      a.theta[part] = next();
      if (backward_) a.g[part] = next();
    }
    if (backward_) {
      a.dq = static_cast<T*>(args.out[0]);
      a.dk = static_cast<T*>(args.out[1]);
      a.dtheta = static_cast<T*>(args.out[2]);
    } else {
      a.z = static_cast<T*>(args.out[0]);
    }
    const KaratEdgesLoops<T> loops = LoopsFor(basis_, T{});
    const KaratEdgesLoop<T> loop = backward_ ? loops.backward[order_] : loops.forward[order_];
    char* scratch = static_cast<char*>(args.scratch);
    std::vector<Range> ranges(args.threads);
    const int64_t tasks = a.R * a.B * a.H * scratch_.blocks;
    // A head of a sample is not shared out backward: its keys' gradient is a sum over all rows.
    ParallelFor(args.threads, tasks, backward_ ? scratch_.blocks : 1,
                [&](int64_t begin, int64_t end, int thread) {
                  ranges[thread] = {begin, end};
                  char* own = scratch + thread * ThreadBytes();
                  loop(a, scratch_, begin, end, reinterpret_cast<T*>(own),
                       reinterpret_cast<double*>(own + SlotsAt()));
                });
    if (backward_) JoinGroups(a, ranges, scratch);
  }

 private:
  struct Range {
    int64_t begin, end;
  };

  void CheckShapes(const OpSpec& op, bool tokensFirst) {
    const TensorType& q = op.inTypes[0];
    const TensorType& k = op.inTypes[1];
    const TensorType& theta = op.inTypes[2];
    if (q.shape.size() != 4 || k.shape.size() != 4 || theta.shape.size() != 5) {
      throw Error(Code::kShape, op.name, ": expected q and k of rank 4 and theta of rank 5, got ",
                  ShapeText(q.shape), ", ", ShapeText(k.shape), " and ", ShapeText(theta.shape),
                  ".");
    }
    const int heads = tokensFirst ? 2 : 1, tokens = tokensFirst ? 1 : 2;
    a_.B = q.shape[0];
    a_.H = q.shape[heads];
    a_.N = q.shape[tokens];
    a_.M = k.shape[tokens];
    a_.D = q.shape[3];
    a_.E = theta.shape[0];
    a_.P = basis_ == EdgeBasis::kRational ? 10 : 3;
    a_.r = theta.shape[4];
    a_.qStrides = Strides(a_.N, tokensFirst);
    a_.kStrides = Strides(a_.M, tokensFirst);
    if (a_.E < 1 || a_.B % a_.E != 0) {
      throw Error(Code::kShape, op.name, ": expected parameter sets that divide ", a_.B,
                  " samples, got ", a_.E, ".");
    }
    size_t input = 0;
    auto expect = [&](const char* what, const TensorType& type, const std::vector<int64_t>& shape) {
      ExpectShape(op, what, type, shape);
      ExpectDType(op, what, type, q.dtype);
    };
    std::vector<int64_t> keys = k.shape;
    keys[0] = a_.B;
    keys[heads] = a_.H;
    keys[3] = a_.D;
    const std::vector<int64_t> sets = {a_.E, a_.H, a_.P, a_.M, a_.r};
    const std::vector<int64_t> latent = {a_.B, a_.H, a_.N, a_.r};
    expect("q", op.inTypes[input++], q.shape);
    expect("k", op.inTypes[input++], keys);
    expect("theta", op.inTypes[input++], sets);
    if (masked_) {
      const TensorType& mask = op.inTypes[input++];
      ExpectShape(op, "the key mask", mask, {a_.B, a_.M});
      if (mask.dtype != DType::kU8 && mask.dtype != DType::kI32) {
        throw Error(Code::kDType, op.name, ": expected u8 or i32 for the key mask, got ",
                    Name(mask.dtype), ".");
      }
      a_.maskBytes = mask.dtype == DType::kU8 ? 1 : 4;
    }
    if (backward_) expect("g", op.inTypes[input++], latent);
    a_.R = 1;
    if (order_ > 0) {
      const std::vector<int64_t>& first = op.inTypes[input].shape;
      a_.R = first.empty() ? 0 : first[0];
    }
    auto all = [&](std::vector<int64_t> shape) {
      if (order_ > 0) shape.insert(shape.begin(), a_.R);
      return shape;
    };
    for (int part = 1; part <= order_; ++part) {
      expect("the tangent of q", op.inTypes[input++], all(q.shape));
      expect("the tangent of k", op.inTypes[input++], all(keys));
      expect("the tangent of theta", op.inTypes[input++], all(sets));
      if (backward_) expect("the tangent of g", op.inTypes[input++], all(latent));
    }
    if (backward_) {
      expect("dq", op.outTypes[0], all(q.shape));
      expect("dk", op.outTypes[1], all(keys));
      expect("dtheta", op.outTypes[2], all(sets));
    } else {
      expect("the result", op.outTypes[0], all(latent));
    }
  }

  EdgeStrides Strides(int64_t tokens, bool tokensFirst) const {
    return tokensFirst ? EdgeStrides{tokens * a_.H * a_.D, a_.D, a_.H * a_.D}
                       : EdgeStrides{a_.H * tokens * a_.D, tokens * a_.D, a_.D};
  }

  // Of a thread: T numbers, then the two slots of sums.
  size_t SlotsAt() const {
    return (static_cast<size_t>(scratch_.elements) * sizeof(T) + 63) / 64 * 64;
  }
  size_t ThreadBytes() const {
    return (SlotsAt() + 2 * static_cast<size_t>(scratch_.sums) * sizeof(double) + 255) / 256 * 256;
  }

  // d theta of the groups that several threads worked on, added in the order of the threads.
  void JoinGroups(const KaratEdgesArgs<T>& a, const std::vector<Range>& ranges,
                  char* scratch) const {
    const int64_t sums = scratch_.sums;
    const int64_t group = a.B / a.E * scratch_.blocks;
    if (group == 0) {
      std::fill(a.dtheta, a.dtheta + a.R * a.E * a.H * sums, T{0});
      return;
    }
    double* total = nullptr;
    for (size_t thread = 0; thread < ranges.size(); ++thread) {
      const auto [begin, end] = ranges[thread];
      if (begin == end) continue;
      double* slots = reinterpret_cast<double*>(scratch + thread * ThreadBytes() + SlotsAt());
      const int64_t last = (end - 1) / group * group;
      if (begin % group != 0) {
        for (int64_t i = 0; i < sums; ++i) total[i] += slots[i];
        const int64_t first = begin / group * group;
        if (first + group <= end) Store(a, first / group, total);
      }
      if (last >= begin && last + group > end) total = slots + sums;
    }
  }

  void Store(const KaratEdgesArgs<T>& a, int64_t group, const double* total) const {
    T* to = a.dtheta + group * scratch_.sums;
    for (int64_t i = 0; i < scratch_.sums; ++i) to[i] = static_cast<T>(total[i]);
  }

  EdgeBasis basis_;
  bool masked_ = false, backward_ = false;
  int order_ = 0;
  KaratEdgesArgs<T> a_{};
  EdgeScratch scratch_;
};

std::unique_ptr<Kernel> MakeForm(const OpSpec& op, Form form) {
  if (op.inTypes.size() < 3) ExpectOperands(op, 3, 10, form == Form::kForward ? 1 : 3);
  switch (op.inTypes[0].dtype) {
    case DType::kF32:
      return std::make_unique<KaratEdges<float>>(op, form);
    case DType::kF64:
      return std::make_unique<KaratEdges<double>>(op, form);
    default:
      ThrowDType(op, op.inTypes[0]);
  }
}

std::unique_ptr<Kernel> MakeForward(const OpSpec& op) { return MakeForm(op, Form::kForward); }
std::unique_ptr<Kernel> MakeVjp(const OpSpec& op) { return MakeForm(op, Form::kVjp); }
std::unique_ptr<Kernel> MakeJvp(const OpSpec& op) { return MakeForm(op, Form::kJvp); }
std::unique_ptr<Kernel> MakeVjpJvp(const OpSpec& op) { return MakeForm(op, Form::kVjpJvp); }
std::unique_ptr<Kernel> MakeJvpJvp(const OpSpec& op) { return MakeForm(op, Form::kJvpJvp); }
LOSSCAPE_KERNEL(karat_edges, MakeForward);
LOSSCAPE_KERNEL(karat_edges_vjp, MakeVjp);
LOSSCAPE_KERNEL(karat_edges_jvp, MakeJvp);
LOSSCAPE_KERNEL(karat_edges_vjp_jvp, MakeVjpJvp);
LOSSCAPE_KERNEL(karat_edges_jvp_jvp, MakeJvpJvp);

}  // namespace
}  // namespace losscape
