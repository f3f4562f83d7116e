#include "native/runtime/trainer.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "native/runtime/error.h"
#include "native/runtime/random.h"
#include "native/test/program_builder.h"
#include "native/test/test.h"

namespace losscape::test {
namespace {

constexpr int64_t kN = 6, kNoise = 9, kBatch = 4, kRows = 10;
constexpr size_t kOffset = 64, kStorage = 128;
constexpr uint64_t kSeed = 5 + (uint64_t{2} << 32);

// theta = (x [6], u [9]). Loss x^T A x with gradient A x for x, and normal numbers of the step's
// key as the gradient of u; "correct" is sum over the batch of weight * table[row].
class Setup {
 public:
  explicit Setup(OptimizerKind kind = OptimizerKind::kSgd, DType weights = DType::kF32) {
    ProgramBuilder program;
    const int x = program.Input(DType::kF32, {kN, 1}), a = program.Input(DType::kF32, {kN, kN});
    const int table = program.Input(weights, {kRows, 1}),
              rows = program.Input(DType::kI32, {kBatch});
    const int w = program.Input(weights, {kBatch, 1}), key = program.Input(DType::kI32, {4});
    const int gradient = program.MatMul(a, x, DType::kF32, {kN, 1});
    const int loss = program.MatMul(x, gradient, DType::kF32, {1, 1}, true);
    const int picked = program.Node("gather", {table, rows}, weights, {kBatch, 1});
    const int correct = program.MatMul(picked, w, weights, {1, 1}, true);
    const int noise = program.Node("random", {key}, DType::kF32, {kNoise}, {{"stream", {3}}},
                                   {{"kind", {"normal"}}});
    spec_.executable = program.Compile({loss, correct, gradient, noise});

    std::vector<float> matrix(kN * kN, 0.0f), theta(kStorage, 0.0f);
    for (size_t i = 0; i < kN; ++i) matrix[i * kN + i] = 1 + static_cast<float>(i);
    for (size_t i = 0; i < kN; ++i) theta[i] = 1;
    spec_.storage = kStorage;
    spec_.segments.offsets = {0, kOffset};
    spec_.segments.lengths = {kN, kNoise};
    spec_.segments.learningRateFactor = {1, 1};
    spec_.segments.decay = {0, 0};
    spec_.segments.frozen = {0, 0};
    spec_.optimizer.kind = kind;
    spec_.optimizer.momentum = kind == OptimizerKind::kSgd ? 0.5 : 0;
    spec_.optimizer.clipNorm = std::numeric_limits<double>::infinity();
    spec_.theta = MakeBuffer(theta);
    for (int k = 0; k < spec_.optimizer.Moments(); ++k) {
      spec_.moments.push_back(std::make_shared<Buffer>(kStorage * sizeof(float)));
    }
    using Kind = TrainerInput::Kind;
    spec_.inputs = {{Kind::kTheta, 0}, {Kind::kFixed, 0},   {Kind::kFixed, 1},
                    {Kind::kRows, 0},  {Kind::kWeights, 0}, {Kind::kKey, 0}};
    std::vector<double> numbers(kRows);
    for (size_t i = 0; i < kRows; ++i) numbers[i] = static_cast<double>(1 << i);
    const View second{weights == DType::kF64
                          ? MakeBuffer(numbers)
                          : MakeBuffer(std::vector<float>(numbers.begin(), numbers.end())),
                      0};
    spec_.fixed = {{MakeBuffer(matrix), 0}, second};
    spec_.batch = kBatch;
    spec_.seed = kSeed;
    spec_.gradientOffsets = {0, kOffset};
  }

  TrainerSpec& spec() { return spec_; }
  float* theta() { return reinterpret_cast<float*>(spec_.theta->data()); }
  std::vector<float> Theta() { return std::vector<float>(theta(), theta() + kStorage); }

  static TrainSteps Steps(int64_t from, int64_t to) {
    TrainSteps steps;
    steps.from = from;
    steps.to = to;
    for (int64_t step = from; step < to; ++step) {
      steps.learningRates.push_back(0.1 / static_cast<double>(step + 1));
      for (int64_t k = 0; k < kBatch; ++k) {
        steps.rows.push_back(static_cast<int32_t>((step * kBatch + k) % kRows));
        steps.weights.push_back(k == 3 ? 0.0f : 1.0f);
      }
    }
    return steps;
  }

 private:
  TrainerSpec spec_;
};

TrainResult RunTo(NativeTrainer& trainer, int64_t from, int64_t to, double seconds = 0) {
  RunContext context(2);
  const auto run = trainer.Begin(Setup::Steps(from, to));
  while (!run->Finished()) run->Step(context, seconds);
  return run->result();
}

TEST(TrainerFollowsTheScalarLoop) {
  for (DType weights : {DType::kF32, DType::kF64}) {
    Setup setup(OptimizerKind::kSgd, weights);
    const auto trainer = MakeTrainer(setup.spec());
    const TrainResult result = RunTo(*trainer, 0, 7);
    CHECK(result.done == 7 && !result.diverged);
    std::vector<double> x(kN, 1.0), m(kN, 0.0), u(kNoise, 0.0), mu(kNoise, 0.0);
    for (int64_t step = 0; step < 7; ++step) {
      const double lr = 0.1 / static_cast<double>(step + 1);
      double loss = 0, square = 0, correct = 0;
      for (size_t i = 0; i < kN; ++i) {
        const double g = (1 + static_cast<double>(i)) * x[i];
        loss += x[i] * g;
        square += g * g;
        m[i] = step == 0 ? g : 0.5 * m[i] + g;
        x[i] -= lr * m[i];
      }
      std::vector<double> noise(kNoise);
      FillNormals(kSeed, 3 | (static_cast<uint64_t>(step) << 32), 0, kNoise, noise.data());
      for (size_t i = 0; i < kNoise; ++i) {
        square += noise[i] * noise[i];
        mu[i] = step == 0 ? noise[i] : 0.5 * mu[i] + noise[i];
        u[i] -= lr * mu[i];
      }
      for (int64_t k = 0; k < 3; ++k) correct += 1 << ((step * kBatch + k) % kRows);
      const size_t at = static_cast<size_t>(step);
      CHECK_NEAR(result.losses[at], loss, 1e-5 * loss);
      CHECK_NEAR(result.gradientNorms[at], std::sqrt(square), 1e-5 * std::sqrt(square));
      CHECK(result.correct[at] == correct);
    }
    for (size_t i = 0; i < kN; ++i) CHECK_NEAR(setup.theta()[i], x[i], 1e-6);
    for (size_t i = 0; i < kNoise; ++i) CHECK_NEAR(setup.theta()[kOffset + i], u[i], 1e-6);
    CHECK(setup.theta()[kN] == 0 && setup.theta()[kStorage - 1] == 0);
  }
}

TEST(TrainerResumesBitForBit) {
  for (OptimizerKind kind : {OptimizerKind::kSgd, OptimizerKind::kAdam, OptimizerKind::kAdamW}) {
    Setup whole(kind), parts(kind);
    const auto one = MakeTrainer(whole.spec());
    const TrainResult all = RunTo(*one, 0, 9, 1);
    const auto two = MakeTrainer(parts.spec());
    RunTo(*two, 0, 1);
    RunTo(*two, 1, 5);
    // A trainer of its own on the same buffers, as after loading a checkpoint.
    const auto three = MakeTrainer(parts.spec());
    const TrainResult rest = RunTo(*three, 5, 9);
    CHECK(whole.Theta() == parts.Theta());
    CHECK(rest.losses.size() == 4 && rest.losses.back() == all.losses.back());
  }
}

TEST(TrainerAveragesTheta) {
  for (bool warmup : {false, true}) {
    Setup setup;
    const auto average = std::make_shared<Buffer>(kStorage * sizeof(float));
    setup.spec().average = {average, 0.9, warmup};
    const auto trainer = MakeTrainer(setup.spec());
    std::vector<double> expected(kStorage, 0.0);
    for (int64_t step = 0; step < 5; ++step) {
      RunTo(*trainer, step, step + 1);
      const double t = static_cast<double>(step);
      const double decay = warmup ? std::min(0.9, (1 + t) / (10 + t)) : 0.9;
      const std::vector<float> theta = setup.Theta();
      for (size_t i = 0; i < kStorage; ++i) expected[i] += (1 - decay) * (theta[i] - expected[i]);
    }
    const auto* found = reinterpret_cast<const float*>(average->data());
    for (size_t i = 0; i < kStorage; ++i) CHECK_NEAR(found[i], expected[i], 1e-6);
    CHECK(found[0] != 0);
  }
  Setup setup;
  setup.spec().average = {std::make_shared<Buffer>(kStorage), 0.9, false};
  CHECK_THROWS(MakeTrainer(setup.spec()), Code::kShape);
  setup.spec().average = {std::make_shared<Buffer>(kStorage * sizeof(float)), 1.5, false};
  CHECK_THROWS(MakeTrainer(setup.spec()), Code::kArgument);
}

// theta = (x [1]) with gradient sum over the batch of weight * table[row]; the loss is the learning
// rate, and the state (s [2], k [1]) becomes (D s, k).
class StateSetup {
 public:
  explicit StateSetup(size_t accumulate) {
    ProgramBuilder program;
    const int table = program.Input(DType::kF32, {kRows, 1});
    const int rows = program.Input(DType::kI32, {kBatch});
    const int w = program.Input(DType::kF32, {kBatch, 1});
    const int s = program.Input(DType::kF32, {2, 1}), kept = program.Input(DType::kF32, {1});
    const int d = program.Input(DType::kF32, {2, 2}), rate = program.Input(DType::kF32, {});
    const int picked = program.Node("gather", {table, rows}, DType::kF32, {kBatch, 1});
    const int correct = program.MatMul(picked, w, DType::kF32, {1, 1}, true);
    const int gradient = program.MatMul(w, picked, DType::kF32, {1, 1}, true);
    const int next = program.MatMul(d, s, DType::kF32, {2, 1});
    spec.executable = program.Compile({rate, correct, next, kept, gradient});
    spec.storage = 64;
    spec.segments = {{{0}, {1}}, {1}, {0}, {0}};
    spec.optimizer.clipNorm = std::numeric_limits<double>::infinity();
    spec.theta = MakeBuffer(std::vector<float>(64, 0.0f));
    std::vector<float> state(128, 0.0f);
    state[0] = 1, state[1] = 3, state[64] = 7;
    spec.state = {MakeBuffer(state), 128, {0, 64}};
    using Kind = TrainerInput::Kind;
    spec.inputs = {{Kind::kFixed, 0},  {Kind::kRows, 0},  {Kind::kWeights, 0}, {Kind::kState, 0},
                   {Kind::kState, 64}, {Kind::kFixed, 1}, {Kind::kRate, 0}};
    std::vector<float> numbers(kRows);
    for (size_t i = 0; i < kRows; ++i) numbers[i] = static_cast<float>(1 << i);
    spec.fixed = {{MakeBuffer(numbers), 0}, {MakeBuffer<float>({2, 0, 0, 0.5f}), 0}};
    spec.batch = kBatch;
    spec.accumulate = accumulate;
    spec.gradientOffsets = {0};
  }

  const float* state() { return reinterpret_cast<const float*>(spec.state.buffer->data()); }
  float theta() { return *reinterpret_cast<const float*>(spec.theta->data()); }

  TrainerSpec spec;
};

TEST(TrainerCarriesStateFromBatchToBatch) {
  for (size_t accumulate : {1, 2, 3}) {
    StateSetup setup(accumulate);
    const auto trainer = MakeTrainer(setup.spec);
    const double factor = std::pow(2.0, 2.0 * static_cast<double>(accumulate));
    TrainSteps steps;
    steps.to = 2;
    steps.learningRates = {0.25, 0.5};
    steps.rows.assign(2 * accumulate * kBatch, 1);
    steps.weights.assign(2 * accumulate * kBatch, 1.0f);
    const auto run = trainer->Begin(steps);
    RunContext context(1);
    run->Step(context, 10);
    CHECK(run->result().done == 2);
    CHECK(setup.state()[0] == factor && setup.state()[1] == 3 / factor);
    CHECK(setup.state()[64] == 7);
    CHECK(run->result().losses[0] == 0.25 && run->result().losses[1] == 0.5);
    CHECK(run->result().correct[1] == 2.0 * kBatch * static_cast<double>(accumulate));
  }
}

TEST(TrainerAveragesGradientsOfBatches) {
  StateSetup setup(3);
  const auto trainer = MakeTrainer(setup.spec);
  TrainSteps steps;
  steps.to = 1;
  steps.learningRates = {0.5};
  // Sums 1 + 2 + 4 + 8 of weight 4, none of weight 0, and 16 of weight 1.
  steps.rows = {0, 1, 2, 3, 5, 5, 5, 5, 4, 5, 5, 5};
  steps.weights = {1, 1, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0};
  const auto run = trainer->Begin(steps);
  RunContext context(1);
  run->Step(context, 10);
  const double mean = (4 * 15.0 + 1 * 16.0) / 5;
  CHECK_NEAR(setup.theta(), -0.5 * mean, 1e-5);
  CHECK_NEAR(run->result().gradientNorms[0], mean, 1e-5);
  CHECK(run->result().correct[0] == 31);
  // The batch of no weight left the state alone.
  CHECK(setup.state()[0] == 4);
}

TEST(TrainerKeepsTheStateOfTheLastGoodStep) {
  StateSetup setup(2);
  setup.spec.fixed[1] = {MakeBuffer<float>({1e30f, 0, 0, 1}), 0};
  const auto trainer = MakeTrainer(setup.spec);
  TrainSteps steps;
  steps.to = 3;
  steps.learningRates = {0.5, 0.5, 0.5};
  steps.rows.assign(3 * 2 * kBatch, 0);
  steps.weights.assign(3 * 2 * kBatch, 1.0f);
  const auto run = trainer->Begin(steps);
  RunContext context(1);
  while (!run->Finished()) run->Step(context, 10);
  CHECK(run->result().diverged && run->result().done == 0);
  CHECK(setup.state()[0] == 1 && setup.state()[1] == 3 && setup.theta() == 0);
}

TEST(TrainerChecksItsState) {
  const auto refuses = [](auto&& change, Code code) {
    StateSetup setup(2);
    change(setup.spec);
    CHECK_THROWS(MakeTrainer(setup.spec), code);
  };
  refuses([](TrainerSpec& spec) { spec.state.buffer = nullptr; }, Code::kShape);
  refuses([](TrainerSpec& spec) { spec.state.storage = 1024; }, Code::kShape);
  refuses([](TrainerSpec& spec) { spec.state.offsets = {0}; }, Code::kShape);
  refuses([](TrainerSpec& spec) { spec.state.offsets = {127, 64}; }, Code::kShape);
  refuses([](TrainerSpec& spec) { spec.inputs[3].index = 128; }, Code::kShape);
  refuses([](TrainerSpec& spec) { spec.inputs[5].kind = TrainerInput::Kind::kRate; }, Code::kShape);
  refuses([](TrainerSpec& spec) { spec.accumulate = 0; }, Code::kArgument);
}

TEST(TrainerHaltsAfterDivergence) {
  Setup setup;
  const auto trainer = MakeTrainer(setup.spec());
  RunTo(*trainer, 0, 2);
  const std::vector<float> before = setup.Theta();
  setup.theta()[0] = std::numeric_limits<float>::infinity();
  CHECK(RunTo(*trainer, 2, 3).diverged);
  setup.theta()[0] = before[0];
  // Was queued before the divergence was known.
  const TrainResult queued = RunTo(*trainer, 3, 4);
  CHECK(queued.diverged && queued.done == 0 && setup.Theta() == before);
  const TrainResult again = RunTo(*trainer, 2, 4);
  CHECK(!again.diverged && again.done == 2);
}

TEST(TrainerStepsForAsLongAsAsked) {
  Setup setup;
  const auto trainer = MakeTrainer(setup.spec());
  RunContext context(1);
  const auto run = trainer->Begin(Setup::Steps(0, 50));
  run->Step(context, 0);
  CHECK(run->result().done == 1);
  run->Step(context, 10);
  CHECK(run->result().done == 50);
  CHECK(run->Finished());
}

TEST(TrainerStopsBeforeADivergedUpdate) {
  Setup setup;
  const auto trainer = MakeTrainer(setup.spec());
  TrainSteps steps = Setup::Steps(0, 40);
  std::fill(steps.learningRates.begin(), steps.learningRates.end(), 1e6);
  const auto run = trainer->Begin(steps);
  RunContext context(2);
  while (!run->Finished()) run->Step(context, 0);
  const TrainResult& result = run->result();
  CHECK(result.diverged);
  CHECK(result.done > 1 && result.done < 40);
  CHECK(result.losses.size() == static_cast<size_t>(result.done));
  CHECK(std::isfinite(result.losses.back()));
  for (float x : setup.Theta()) CHECK(std::isfinite(x));
}

TEST(TrainerStopsOnAStepBoundary) {
  Setup setup, reference;
  const auto trainer = MakeTrainer(setup.spec());
  Token token;
  RunContext context(1, &token);
  const auto run = trainer->Begin(Setup::Steps(0, 10));
  for (int k = 0; k < 4; ++k) run->Step(context, 0);
  token.Cancel();
  CHECK_THROWS(run->Step(context, 0), Code::kAborted);
  CHECK(run->result().done == 4);
  RunTo(*MakeTrainer(reference.spec()), 0, 4);
  CHECK(setup.Theta() == reference.Theta());
}

TEST(TrainerRefusesWhatDoesNotFit) {
  const auto make = [](void (*change)(TrainerSpec&)) {
    Setup setup;
    change(setup.spec());
    return MakeTrainer(setup.spec());
  };
  make([](TrainerSpec&) {});
  CHECK_THROWS(make([](TrainerSpec& s) { s.theta = std::make_shared<Buffer>(8); }), Code::kShape);
  CHECK_THROWS(make([](TrainerSpec& s) { s.moments.clear(); }), Code::kShape);
  CHECK_THROWS(make([](TrainerSpec& s) { s.batch = 0; }), Code::kArgument);
  CHECK_THROWS(make([](TrainerSpec& s) { s.batch = 3; }), Code::kShape);
  CHECK_THROWS(make([](TrainerSpec& s) { s.optimizer.clipNorm = 0; }), Code::kArgument);
  CHECK_THROWS(make([](TrainerSpec& s) { s.optimizer.clipNorm = NAN; }), Code::kArgument);
  CHECK_THROWS(make([](TrainerSpec& s) { s.inputs.pop_back(); }), Code::kShape);
  CHECK_THROWS(make([](TrainerSpec& s) { s.inputs[0].index = 125; }), Code::kShape);
  CHECK_THROWS(make([](TrainerSpec& s) { s.inputs[1].index = 2; }), Code::kShape);
  CHECK_THROWS(make([](TrainerSpec& s) { s.fixed[0].offset = 4; }), Code::kShape);
  CHECK_THROWS(make([](TrainerSpec& s) { s.gradientOffsets[1] = 124; }), Code::kShape);
  CHECK_THROWS(make([](TrainerSpec& s) { s.gradientOffsets.pop_back(); }), Code::kShape);
  CHECK_THROWS(make([](TrainerSpec& s) { s.dtype = DType::kF64; }), Code::kShape);
  CHECK_THROWS(make([](TrainerSpec& s) { s.dtype = DType::kBF16; }), Code::kDType);
  CHECK_THROWS(make([](TrainerSpec& s) { s.segments.frozen.pop_back(); }), Code::kShape);
  const auto trainer = make([](TrainerSpec&) {});
  TrainSteps steps = Setup::Steps(0, 2);
  steps.rows.pop_back();
  CHECK_THROWS(trainer->Begin(steps), Code::kShape);
  steps = Setup::Steps(0, 2);
  steps.from = 3;
  CHECK_THROWS(trainer->Begin(steps), Code::kShape);
}

}  // namespace
}  // namespace losscape::test
