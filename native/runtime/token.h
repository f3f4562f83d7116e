// Cancels the jobs that were started with it.
#pragma once

#include <atomic>

namespace losscape {

class Token {
 public:
  void Cancel() { cancelled_.store(true, std::memory_order_release); }
  bool Cancelled() const { return cancelled_.load(std::memory_order_acquire); }

 private:
  std::atomic<bool> cancelled_{false};
};

}  // namespace losscape
