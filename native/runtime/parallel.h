// Parallel loops of the kernels, on the OpenMP team of the executor thread (the same team that
// oneDNN and OpenBLAS use: a second team would spin against the first on the same cores).
#pragma once

#include <cstdint>
#include <memory>
#include <type_traits>

namespace losscape {

// Calls body(context, thread) once for every thread in [0, threads), at the same time where the
// machine allows. An exception of a thread is rethrown here (of the lowest thread when several
// throw). Threads are always the whole team: libgomp ends threads that a smaller region leaves
// out, and making them anew costs tens of microseconds.
void RunTeam(int threads, void (*body)(void* context, int thread), void* context);

// Calls body(begin, end, thread) on contiguous ranges that cover [0, count). The ranges depend on
// (threads, count, grain) only, and begin is a multiple of grain, so results are deterministic
// for a given thread count. Runs inline, as body(0, count, 0), when threads == 1 or count <= grain.
// A region costs 1 to 2 microseconds: choose grain so that it holds several times that work.
template <class F>
void ParallelFor(int threads, int64_t count, int64_t grain, F&& body) {
  if (count <= 0) return;
  if (grain < 1) grain = 1;
  if (threads <= 1 || count <= grain) {
    body(int64_t{0}, count, 0);
    return;
  }
  struct Loop {
    std::remove_reference_t<F>* body;
    int64_t count, grain, chunks, parts;
  };
  const int64_t chunks = (count - 1) / grain + 1;
  Loop loop{std::addressof(body), count, grain, chunks, chunks < threads ? chunks : threads};
  RunTeam(
      threads,
      [](void* context, int thread) {
        const Loop& self = *static_cast<const Loop*>(context);
        if (thread >= self.parts) return;
        const int64_t begin = self.chunks * thread / self.parts * self.grain;
        const int64_t stop = self.chunks * (thread + 1) / self.parts * self.grain;
        (*self.body)(begin, stop < self.count ? stop : self.count, thread);
      },
      &loop);
}

}  // namespace losscape
