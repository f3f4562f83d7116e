#include "native/runtime/placement.h"

#include <algorithm>

#include "native/runtime/error.h"
#include "native/runtime/memory.h"
#include "native/runtime/planner.h"

namespace losscape {

namespace {

// Results that share storage one after another.
struct Group {
  size_t bytes = 0;
  int first = 0;
  int last = 0;
  int firstOutput = 0;  // which output of node `first` opened the group
  int slot = -1;        // program output that the group lives in; -1: the arena
};

class Placer {
 public:
  explicit Placer(const PlacementRequest& request)
      : request_(request),
        program_(*request.program),
        nodes_(static_cast<int>(program_.nodes.size())),
        root_(program_.values.size()),
        lastUse_(program_.values.size(), -1),
        inputSlot_(program_.values.size(), -1),
        constantNode_(program_.values.size(), -1),
        outputSlot_(program_.values.size(), -1),
        group_(program_.values.size(), -1),
        donor_(program_.outputs.size(), -1) {}

  Placement Place() {
    FindRootsAndUses();
    CheckDonations();
    for (int n = 0; n < nodes_; ++n) GroupOutputs(n);
    return Assign();
  }

 private:
  // Program outputs are used after the last operation.
  int End() const { return nodes_; }

  void FindRootsAndUses() {
    for (size_t v = 0; v < root_.size(); ++v) root_[v] = static_cast<int>(v);
    for (size_t i = 0; i < program_.inputs.size(); ++i) {
      inputSlot_[program_.inputs[i]] = static_cast<int>(i);
    }
    for (int n = 0; n < nodes_; ++n) {
      const OpSpec& node = program_.nodes[n];
      if (node.name == "reshape") {
        root_[node.outputs[0]] = root_[node.inputs[0]];
        continue;
      }
      if (node.name == "constant") constantNode_[node.outputs[0]] = n;
      for (int v : node.inputs) lastUse_[root_[v]] = n;
    }
    for (size_t o = 0; o < program_.outputs.size(); ++o) {
      const int r = root_[program_.outputs[o]];
      lastUse_[r] = End();
      if (outputSlot_[r] < 0) outputSlot_[r] = static_cast<int>(o);
    }
  }

  void CheckDonations() {
    std::vector<bool> donated(program_.inputs.size(), false);
    for (const auto& [input, output] : request_.donate) {
      if (input < 0 || static_cast<size_t>(input) >= program_.inputs.size() || output < 0 ||
          static_cast<size_t>(output) >= program_.outputs.size()) {
        throw Error(Code::kProgram, "Donation [", input, ", ", output,
                    "]: expected an input below ", program_.inputs.size(), " and an output below ",
                    program_.outputs.size(), ".");
      }
      const int value = program_.inputs[input];
      if (program_.values[value].Bytes() != program_.values[program_.outputs[output]].Bytes()) {
        throw Error(Code::kShape, "Donation [", input, ", ", output,
                    "]: expected input and output of the same size.");
      }
      if (donated[input] || donor_[output] >= 0) {
        throw Error(Code::kProgram, "Donation [", input, ", ", output,
                    "]: the input or output is donated twice.");
      }
      for (size_t o = 0; o < program_.outputs.size(); ++o) {
        if (static_cast<int>(o) != output && root_[program_.outputs[o]] == value) {
          throw Error(Code::kProgram, "Donation [", input, ", ", output, "]: output ", o,
                      " is that input itself, which a donation would overwrite.");
        }
      }
      donated[input] = true;
      donor_[output] = input;
    }
  }

  bool IsComputed(const OpSpec& node) const {
    return node.name != "reshape" && node.name != "constant";
  }

  // All inputs of the node that lie in the group allow output `out` to be written over them.
  template <class Matches>
  bool AliasAllowed(int n, int out, Matches&& matches) const {
    const OpSpec& node = program_.nodes[n];
    for (size_t k = 0; k < node.inputs.size(); ++k) {
      if (matches(root_[node.inputs[k]]) && !request_.mayAlias(n, static_cast<int>(k), out)) {
        return false;
      }
    }
    return true;
  }

  void GroupOutputs(int n) {
    const OpSpec& node = program_.nodes[n];
    if (!IsComputed(node)) return;
    std::vector<int> taken;
    for (size_t o = 0; o < node.outputs.size(); ++o) {
      const int value = node.outputs[o];
      const size_t bytes = program_.values[value].Bytes();
      int joined = -1;
      for (int v : node.inputs) {
        const int g = group_[root_[v]];
        if (g < 0 || lastUse_[root_[v]] != n || groups_[g].bytes != bytes) continue;
        if (std::find(taken.begin(), taken.end(), g) != taken.end()) continue;
        if (!AliasAllowed(n, static_cast<int>(o), [&](int r) { return group_[r] == g; })) continue;
        joined = g;
        break;
      }
      if (joined < 0) {
        joined = static_cast<int>(groups_.size());
        Group group;
        group.bytes = bytes;
        group.first = n;
        group.firstOutput = static_cast<int>(o);
        groups_.push_back(group);
      } else {
        taken.push_back(joined);
      }
      Group& group = groups_[joined];
      group.last = std::max(n, lastUse_[value]);
      group_[value] = joined;
      if (outputSlot_[value] >= 0 && MayLiveInOutput(group, outputSlot_[value])) {
        group.slot = outputSlot_[value];
      }
    }
  }

  // The storage of a donated input must not be written before its last use.
  bool MayLiveInOutput(const Group& group, int slot) const {
    if (donor_[slot] < 0) return true;
    const int value = program_.inputs[donor_[slot]];
    if (lastUse_[value] < group.first) return true;
    // Other outputs of the opening operation read the input while this one is written.
    return lastUse_[value] == group.first &&
           AliasAllowed(group.first, group.firstOutput, [&](int r) { return r == value; });
  }

  Placement Assign() {
    Placement placement;
    std::vector<LiveRange> ranges;
    std::vector<int> rangeOf(groups_.size(), -1);
    for (size_t g = 0; g < groups_.size(); ++g) {
      if (groups_[g].slot >= 0) continue;
      rangeOf[g] = static_cast<int>(ranges.size());
      ranges.push_back({groups_[g].bytes, groups_[g].first, groups_[g].last});
    }
    std::vector<int> scratchRange(static_cast<size_t>(nodes_), -1);
    for (int n = 0; n < nodes_; ++n) {
      if (request_.scratchBytes[n] == 0) continue;
      scratchRange[n] = static_cast<int>(ranges.size());
      ranges.push_back({request_.scratchBytes[n], n, n});
      placement.unplannedBytes += AlignUp(request_.scratchBytes[n]);
    }
    const ArenaPlan plan = PlanArena(ranges);
    placement.arenaBytes = plan.bytes;
    placement.scratch.assign(static_cast<size_t>(nodes_), 0);
    for (int n = 0; n < nodes_; ++n) {
      if (scratchRange[n] >= 0) placement.scratch[n] = plan.offsets[scratchRange[n]];
    }

    placement.values.resize(program_.values.size());
    for (size_t v = 0; v < root_.size(); ++v) {
      const int r = root_[v];
      ::losscape::Place& place = placement.values[v];
      if (inputSlot_[r] >= 0) {
        place.storage = Storage::kInput;
        place.slot = inputSlot_[r];
      } else if (constantNode_[r] >= 0) {
        place.storage = Storage::kConstant;
        place.slot = constantNode_[r];
      } else if (group_[r] >= 0) {
        const int g = group_[r];
        if (groups_[g].slot >= 0) {
          place.storage = Storage::kOutput;
          place.slot = groups_[g].slot;
        } else {
          place.offset = plan.offsets[rangeOf[g]];
        }
        if (r == static_cast<int>(v) && outputSlot_[r] < 0) {
          placement.unplannedBytes += AlignUp(program_.values[v].Bytes());
        }
      }
    }
    for (size_t o = 0; o < program_.outputs.size(); ++o) {
      const int value = program_.outputs[o];
      const ::losscape::Place& place = placement.values[value];
      if (place.storage != Storage::kOutput || place.slot != static_cast<int>(o)) {
        placement.copies.push_back({static_cast<int>(o), value});
      }
    }
    return placement;
  }

  const PlacementRequest& request_;
  const Program& program_;
  const int nodes_;
  std::vector<int> root_;  // the value whose storage a reshape shares
  std::vector<int> lastUse_;
  std::vector<int> inputSlot_;
  std::vector<int> constantNode_;
  std::vector<int> outputSlot_;
  std::vector<int> group_;
  std::vector<int> donor_;  // per output: the input donated to it
  std::vector<Group> groups_;
};

}  // namespace

Placement PlaceValues(const PlacementRequest& request) { return Placer(request).Place(); }

}  // namespace losscape
