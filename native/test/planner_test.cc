#include "native/runtime/planner.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "native/runtime/executable.h"
#include "native/runtime/memory.h"
#include "native/test/test.h"

namespace losscape {
namespace {

TEST(planner_never_overlaps) {
  std::mt19937 random(11);
  for (int round = 0; round < 300; ++round) {
    std::vector<LiveRange> ranges(1 + random() % 60);
    size_t total = 0;
    for (LiveRange& range : ranges) {
      range.bytes = random() % 5 == 0 ? 0 : 1 + random() % 5000;
      range.first = static_cast<int>(random() % 40);
      range.last = range.first + static_cast<int>(random() % 10);
      total += AlignUp(range.bytes);
    }
    const ArenaPlan plan = PlanArena(ranges);
    CHECK(plan.bytes <= total);
    for (size_t a = 0; a < ranges.size(); ++a) {
      CHECK(plan.offsets[a] % Allocation::kAlignment == 0);
      CHECK(plan.offsets[a] + ranges[a].bytes <= plan.bytes || ranges[a].bytes == 0);
      for (size_t b = 0; b < a; ++b) {
        if (ranges[a].last < ranges[b].first || ranges[b].last < ranges[a].first) continue;
        if (ranges[a].bytes == 0 || ranges[b].bytes == 0) continue;
        CHECK(plan.offsets[a] + ranges[a].bytes <= plan.offsets[b] ||
              plan.offsets[b] + ranges[b].bytes <= plan.offsets[a]);
      }
    }
  }
}

TEST(planner_reuses_what_is_dead) {
  // A chain holds two neighbours at a time.
  std::vector<LiveRange> chain;
  for (int i = 0; i < 10; ++i) chain.push_back({1024, i, i + 1});
  CHECK(PlanArena(chain).bytes == 2048);
}

TEST(planner_takes_thousands_of_values) {
  // As a transformer's Hessian product: most die soon, one in ten is kept from the way forward to
  // the way back.
  constexpr int kOperations = 5000;
  std::mt19937 random(3);
  std::vector<LiveRange> ranges;
  for (int i = 0; i < kOperations; ++i) {
    const int last = i % 10 == 0 ? kOperations - i : i + 1 + static_cast<int>(random() % 8);
    ranges.push_back({1024 * (1 + random() % 64), std::min(i, last), std::max(i, last)});
  }
  size_t held = 0;  // at the fullest moment
  for (int t = 0; t <= kOperations; ++t) {
    size_t now = 0;
    for (const LiveRange& range : ranges)
      now += range.first <= t && t <= range.last ? range.bytes : 0;
    held = std::max(held, now);
  }
  const ArenaPlan plan = PlanArena(ranges);
  // 22 ms of CPU on a 2021 server core.
  CHECK(plan.bytes <= held + held / 10);
}

// out_o[e] = mix(salt, o, in_0[e], in_1[mirror ? n - 1 - e : e], ...): elementwise in its inputs
// but, when mirrored, for the second one. Fills its scratch first, so that an overlap shows.
class MixKernel : public Kernel {
 public:
  explicit MixKernel(const OpSpec& op)
      : salt_(static_cast<uint32_t>(op.Number("salt"))),
        mirror_(op.Number("mirror") != 0),
        inPlace_(op.Number("inPlace") != 0),
        scratch_(static_cast<size_t>(op.Number("scratch"))),
        inputs_(op.inputs.size()),
        outputs_(op.outputs.size()),
        elements_(static_cast<size_t>(op.outTypes[0].Elements())) {}

  size_t ScratchBytes(int) const override { return scratch_; }
  bool MayAlias(int in, int) const override { return inPlace_ && !(mirror_ && in == 1); }
  void Run(const KernelArgs& args) const override {
    for (size_t i = 0; i < scratch_; ++i) static_cast<uint8_t*>(args.scratch)[i] = 0xEE;
    std::vector<uint32_t> results(outputs_);
    for (size_t e = 0; e < elements_; ++e) {
      for (size_t o = 0; o < outputs_; ++o) {
        uint32_t mixed = salt_ + static_cast<uint32_t>(o) * 977u;
        for (size_t k = 0; k < inputs_; ++k) {
          const size_t from = mirror_ && k == 1 ? elements_ - 1 - e : e;
          mixed = (mixed ^ static_cast<const uint32_t*>(args.in[k])[from]) * 2654435761u + 1;
        }
        results[o] = mixed;
      }
      for (size_t o = 0; o < outputs_; ++o) static_cast<uint32_t*>(args.out[o])[e] = results[o];
    }
  }

 private:
  uint32_t salt_;
  bool mirror_, inPlace_;
  size_t scratch_, inputs_, outputs_, elements_;
};

const KernelRegistration kMix("test_mix", [](const OpSpec& op) -> std::unique_ptr<Kernel> {
  return std::make_unique<MixKernel>(op);
});

constexpr int64_t kElements = 200;

// A program of mixes, reshapes and constants, with outputs that may be anything, twice too.
Program RandomProgram(std::mt19937& random) {
  Program program;
  const auto value = [&] {
    TensorType type;
    type.dtype = DType::kI32;
    type.shape = {kElements};
    program.values.push_back(type);
    return static_cast<int>(program.values.size()) - 1;
  };
  for (size_t i = 1 + random() % 3; i > 0; --i) program.inputs.push_back(value());
  const auto any = [&] { return static_cast<int>(random() % program.values.size()); };
  for (size_t n = 1 + random() % 14; n > 0; --n) {
    OpSpec node;
    const uint32_t kind = random() % 8;
    if (kind == 0) {
      node.name = "constant";
      node.numbers["data"] = {static_cast<double>(random() % 1000)};
    } else if (kind == 1) {
      node.name = "reshape";
      node.inputs = {any()};
    } else {
      node.name = "test_mix";
      node.numbers["salt"] = {static_cast<double>(random() % 100000)};
      node.numbers["mirror"] = {static_cast<double>(random() % 2)};
      node.numbers["inPlace"] = {static_cast<double>(random() % 4 != 0)};
      node.numbers["scratch"] = {static_cast<double>(random() % 3 == 0 ? random() % 2000 : 0)};
      for (size_t k = random() % 4; k > 0; --k) node.inputs.push_back(any());
    }
    const size_t outputs = node.name == "test_mix" ? 1 + random() % 2 : 1;
    for (size_t o = 0; o < outputs; ++o) node.outputs.push_back(value());
    for (int v : node.inputs) node.inTypes.push_back(program.values[v]);
    for (int v : node.outputs) node.outTypes.push_back(program.values[v]);
    program.nodes.push_back(node);
  }
  for (size_t o = 1 + random() % 4; o > 0; --o) program.outputs.push_back(any());
  return program;
}

using Values = std::vector<std::vector<uint32_t>>;

// Every value at a place of its own.
Values Interpret(const Program& program, const Values& inputs) {
  Values values(program.values.size(), std::vector<uint32_t>(kElements));
  for (size_t i = 0; i < inputs.size(); ++i) values[program.inputs[i]] = inputs[i];
  std::vector<uint8_t> scratch(4096);
  for (const OpSpec& node : program.nodes) {
    if (node.name == "constant") {
      values[node.outputs[0]].assign(kElements, static_cast<uint32_t>(node.Number("data")));
    } else if (node.name == "reshape") {
      values[node.outputs[0]] = values[node.inputs[0]];
    } else {
      std::vector<const void*> in;
      std::vector<void*> out;
      for (int v : node.inputs) in.push_back(values[v].data());
      for (int v : node.outputs) out.push_back(values[v].data());
      MixKernel(node).Run({in.data(), out.data(), scratch.data(), 1});
    }
  }
  return values;
}

TEST(placement_computes_what_separate_storage_computes) {
  std::mt19937 random(3);
  size_t planned = 0;
  size_t unplanned = 0;
  int donations = 0;
  for (int round = 0; round < 3000; ++round) {
    const Program program = RandomProgram(random);
    CompileOptions options;
    std::set<int> usedOutputs;
    for (size_t i = 0; i < program.inputs.size(); ++i) {
      const int output = static_cast<int>(random() % program.outputs.size());
      if (random() % 2 == 0 && usedOutputs.insert(output).second) {
        options.donate.push_back({static_cast<int>(i), output});
      }
    }
    std::shared_ptr<Executable> executable;
    try {
      executable = Executable::Compile(program, options);
    } catch (const Error&) {
      // The donated input is another output.
      options.donate.clear();
      executable = Executable::Compile(program, options);
    }
    planned += executable->arenaBytes();
    unplanned += executable->unplannedBytes();

    Values inputs(program.inputs.size(), std::vector<uint32_t>(kElements));
    for (auto& input : inputs) {
      for (uint32_t& x : input) x = random();
    }
    const Values expected = Interpret(program, inputs);
    const size_t bytes = kElements * sizeof(uint32_t);
    std::vector<View> in;
    std::vector<View> out(program.outputs.size());
    for (const auto& input : inputs) {
      in.push_back({std::make_shared<Buffer>(bytes), 0});
      std::copy(input.begin(), input.end(), in.back().data<uint32_t>());
    }
    for (const auto& [input, output] : options.donate) {
      out[output] = in[input];
      ++donations;
    }
    for (View& view : out) {
      if (!view.buffer) view = {std::make_shared<Buffer>(bytes + 256), 256};
    }
    RunContext context(1);
    executable->Run(in, out, context);
    for (size_t o = 0; o < out.size(); ++o) {
      const std::vector<uint32_t> got(out[o].data<uint32_t>(), out[o].data<uint32_t>() + kElements);
      CHECK(got == expected[program.outputs[o]]);
    }
  }
  CHECK(donations > 500);
  CHECK(planned < unplanned / 2);
}

TEST(executable_checks_views) {
  Program program;
  TensorType type;
  type.shape = {64};
  program.values = {type, type};
  program.inputs = {0};
  OpSpec node;
  node.name = "test_mix";
  for (const char* key : {"salt", "mirror", "scratch"}) node.numbers[key] = {0};
  node.numbers["inPlace"] = {1};
  node.inputs = {0};
  node.outputs = {1};
  node.inTypes = node.outTypes = {type};
  program.nodes = {node};
  program.outputs = {1};
  const auto executable = Executable::Compile(program, {});
  const auto donating = Executable::Compile(program, {1, {{0, 0}}});
  const View a{std::make_shared<Buffer>(256), 0};
  const View b{std::make_shared<Buffer>(256), 0};
  RunContext context(1);
  executable->Run({a}, {b}, context);
  donating->Run({a}, {a}, context);
  CHECK_THROWS(executable->Run({a}, {a}, context), Code::kArgument);
  CHECK_THROWS(executable->Run({a}, {}, context), Code::kArgument);
  CHECK_THROWS(executable->Run({a}, {{b.buffer, 4}}, context), Code::kShape);
  CHECK_THROWS(executable->Run({a}, {{b.buffer, 1000}}, context), Code::kShape);
  CHECK_THROWS(executable->Run({a}, {{nullptr, 0}}, context), Code::kShape);
  const View wide{std::make_shared<Buffer>(1024), 2};
  CHECK_THROWS(executable->Run({a}, {wide}, context), Code::kArgument);
  CHECK_THROWS(executable->Run({{wide.buffer, 0}}, {{wide.buffer, 128}}, context), Code::kArgument);
  CHECK_THROWS(Executable::Compile(program, {1, {{0, 1}}}), Code::kProgram);
  CHECK_THROWS(Executable::Compile(program, {1, {{0, 0}, {0, 0}}}), Code::kProgram);
}

TEST(memory_is_counted_and_limited) {
  const MemoryReport before = ReportMemory();
  {
    Buffer buffer(1000);
    Buffer large(5 << 20);
    CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % 256 == 0);
    CHECK(reinterpret_cast<uintptr_t>(large.data()) % 256 == 0);
    for (size_t i = 0; i < large.bytes(); i += 4096) CHECK(large.data()[i] == 0);
    const MemoryReport during = ReportMemory();
    CHECK(during.bytes == before.bytes + 1000 + (5 << 20));
    CHECK(during.live.at("buffer").count >= 2);
    SetMemoryLimit(during.bytes + 100);
    CHECK_THROWS(Buffer(101), Code::kOutOfMemory);
    Buffer fits(100);
    SetMemoryLimit(0);
    CHECK_THROWS(Buffer(size_t{1} << 60), Code::kOutOfMemory);
    CHECK_THROWS(Buffer(~size_t{0} - 100), Code::kOutOfMemory);
  }
  CHECK(ReportMemory().bytes == before.bytes);
}

}  // namespace
}  // namespace losscape
