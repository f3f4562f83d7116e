// Where every value of a program lives while it runs.
//
// Reshapes share their input's storage. A result is written straight into the view bound to the
// program's output where that is safe; other results go to one arena planned by liveness. An
// operation may write over an input that dies with it when its kernel allows that.
#pragma once

#include <cstddef>
#include <functional>
#include <utility>
#include <vector>

#include "native/runtime/program.h"

namespace losscape {

enum class Storage { kInput, kOutput, kConstant, kArena };

struct Place {
  Storage storage = Storage::kArena;
  // Program input or output; for a constant the index of its node.
  int slot = 0;
  size_t offset = 0;  // in the arena
};

// An output that is not written in place: copied from where its value lives after the last
// operation.
struct OutputCopy {
  int output;
  int value;
};

struct Placement {
  std::vector<Place> values;
  std::vector<size_t> scratch;  // arena offset per node
  std::vector<OutputCopy> copies;
  size_t arenaBytes = 0;
  size_t unplannedBytes = 0;  // every intermediate result and scratch at a place of its own
};

struct PlacementRequest {
  const Program* program = nullptr;
  std::vector<size_t> scratchBytes;  // per node
  // Whether node `node` may write its output `out` over its input `in`.
  std::function<bool(int node, int in, int out)> mayAlias;
  std::vector<std::pair<int, int>> donate;  // [input, output]
};

// Throws Error{ERR_PROGRAM, ERR_SHAPE} for donations that cannot work.
Placement PlaceValues(const PlacementRequest& request);

}  // namespace losscape
