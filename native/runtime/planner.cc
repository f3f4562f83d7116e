#include "native/runtime/planner.h"

#include <algorithm>
#include <numeric>

#include "native/runtime/memory.h"

namespace losscape {

ArenaPlan PlanArena(const std::vector<LiveRange>& ranges) {
  std::vector<size_t> order(ranges.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return ranges[a].bytes > ranges[b].bytes; });

  ArenaPlan plan;
  plan.offsets.assign(ranges.size(), 0);
  std::vector<size_t> placed;  // by ascending offset
  for (size_t index : order) {
    const LiveRange& range = ranges[index];
    const size_t bytes = AlignUp(range.bytes);
    if (bytes == 0) continue;
    size_t best = 0;
    size_t bestGap = 0;
    bool found = false;
    size_t end = 0;  // of the live ranges placed so far
    for (size_t other : placed) {
      const LiveRange& neighbour = ranges[other];
      if (neighbour.last < range.first || range.last < neighbour.first) continue;
      if (plan.offsets[other] > end) {
        const size_t gap = plan.offsets[other] - end;
        if (gap >= bytes && (!found || gap < bestGap)) {
          found = true;
          best = end;
          bestGap = gap;
        }
      }
      end = std::max(end, plan.offsets[other] + AlignUp(neighbour.bytes));
    }
    plan.offsets[index] = found ? best : end;
    plan.bytes = std::max(plan.bytes, plan.offsets[index] + bytes);
    const auto position =
        std::upper_bound(placed.begin(), placed.end(), plan.offsets[index],
                         [&](size_t offset, size_t other) { return offset < plan.offsets[other]; });
    placed.insert(position, index);
  }
  return plan;
}

}  // namespace losscape
