#include "native/runtime/planner.h"

#include <algorithm>
#include <numeric>

#include "native/runtime/memory.h"

namespace losscape {

namespace {

// All that the search for a gap reads, in one line of memory after another.
struct Placed {
  size_t offset, end;
  int first, last;
};

}  // namespace

ArenaPlan PlanArena(const std::vector<LiveRange>& ranges) {
  std::vector<size_t> order(ranges.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return ranges[a].bytes > ranges[b].bytes; });

  ArenaPlan plan;
  plan.offsets.assign(ranges.size(), 0);
  std::vector<Placed> placed;  // by ascending offset
  placed.reserve(ranges.size());
  for (size_t index : order) {
    const LiveRange& range = ranges[index];
    const size_t bytes = AlignUp(range.bytes);
    if (bytes == 0) continue;
    size_t best = 0;
    size_t bestGap = 0;
    bool found = false;
    size_t end = 0;  // of the live ranges placed so far
    for (const Placed& other : placed) {
      if (other.last < range.first || range.last < other.first) continue;
      if (other.offset > end) {
        const size_t gap = other.offset - end;
        if (gap >= bytes && (!found || gap < bestGap)) {
          found = true;
          best = end;
          bestGap = gap;
        }
      }
      end = std::max(end, other.end);
    }
    plan.offsets[index] = found ? best : end;
    plan.bytes = std::max(plan.bytes, plan.offsets[index] + bytes);
    const size_t offset = plan.offsets[index];
    const auto position =
        std::upper_bound(placed.begin(), placed.end(), offset,
                         [](size_t at, const Placed& other) { return at < other.offset; });
    placed.insert(position, {offset, offset + bytes, range.first, range.last});
  }
  return plan;
}

}  // namespace losscape
