// What a region costs (2 threads): 2 us while the team looks out for it, 8 to 15 us once it sleeps.
// lib/device/loader.ts sets how long it looks out.
#include "native/runtime/parallel.h"

#include <omp.h>

#include <algorithm>
#include <exception>

#include "native/runtime/threads.h"

namespace losscape {

namespace {

// Keeps the failure of the lowest thread, so that the error is the same in every run.
class FirstFailure {
 public:
  void Call(void (*body)(void*, int), void* context, int thread) noexcept {
    try {
      body(context, thread);
    } catch (...) {
#pragma omp critical(losscape_first_failure)
      if (!error_ || thread < thread_) {
        error_ = std::current_exception();
        thread_ = thread;
      }
    }
  }

  void Rethrow() {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::exception_ptr error_;
  int thread_ = 0;
};

}  // namespace

void RunTeam(int threads, void (*body)(void* context, int thread), void* context) {
  if (threads <= 1) {
    body(context, 0);
    return;
  }
  // More than that cannot help, and libgomp ends the process when it cannot start a thread.
  static const int most = 4 * DefaultThreads();
  const int team = std::min(threads, most);
  FirstFailure failure;
#pragma omp parallel num_threads(team)
  {
    // A region inside a region, or a thread limit, gives fewer threads than asked for.
    const int step = omp_get_num_threads();
    for (int t = omp_get_thread_num(); t < threads; t += step) failure.Call(body, context, t);
  }
  failure.Rethrow();
}

}  // namespace losscape
