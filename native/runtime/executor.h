// The one thread that runs all CPU jobs of the process: libgomp keeps a team per thread that opens
// parallel regions, so several executors would oversubscribe the machine.
//
// Two priorities, first in first out within each. Jobs of priority 1 are also served between the
// operations of a running job of priority 0 (RunContext::Yield), on top of its stack. Long
// algorithms are step jobs: they go back to the end of their queue after every step.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "native/runtime/token.h"

namespace losscape {

class Executor;

// What a job sees of the executor while it runs. Without an executor (tests, tools) it has
// threads and a token only.
class RunContext {
 public:
  explicit RunContext(int threads, const Token* token = nullptr)
      : threads_(threads), token_(token) {}

  // The executor's thread count when the job started.
  int threads() const { return threads_; }
  bool Cancelled() const {
    return (token_ && token_->Cancelled()) || (closing_ && closing_->Cancelled());
  }
  // Cancelled, or a job of priority 1 waits: time for Yield.
  bool Interrupted() const {
    return Cancelled() || (urgent_ && urgent_->load(std::memory_order_relaxed) > 0);
  }

  // Called between operations. Throws Error{ERR_ABORTED} when the job was cancelled; serves waiting
  // jobs of priority 1 when this job has priority 0. Costs nanoseconds when nothing is waiting.
  void Yield() {
    if (Cancelled()) ThrowAborted();
    if (urgent_ && urgent_->load(std::memory_order_relaxed) > 0) ServeUrgent();
  }

 private:
  friend class Executor;
  [[noreturn]] static void ThrowAborted();
  void ServeUrgent();

  int threads_;
  const Token* token_ = nullptr;
  const Token* closing_ = nullptr;            // set when the job's owner is closed
  const std::atomic<int>* urgent_ = nullptr;  // waiting jobs of priority 1; null at priority 1
  Executor* executor_ = nullptr;
};

struct JobOptions {
  std::shared_ptr<Token> token;
  int priority = 0;
  uint64_t owner = 0;
};

class Executor {
 public:
  // The process's executor; started by the first holder, joined by the last. Do not let a job hold
  // it: the thread cannot join itself.
  static std::shared_ptr<Executor> Acquire();
  ~Executor();

  using Work = std::function<void(RunContext&)>;
  using Step = std::function<bool(RunContext&)>;
  // Called exactly once per job on the executor's thread (or inside Close, for jobs that never
  // started): null after success, Error{ERR_ABORTED} when cancelled, else what the work threw.
  // Must not throw.
  using Done = std::function<void(std::exception_ptr)>;

  void Submit(JobOptions options, Work work, Done done);
  // Calls `step` as a queue job of its own again and again until it returns false.
  void SubmitSteps(JobOptions options, Step step, Done done);

  // An owner groups the jobs of one environment.
  uint64_t OpenOwner();
  // Cancels the owner's jobs and waits until none is in flight; later Submits fail with
  // ERR_ABORTED at once. Must not be called from a job.
  void Close(uint64_t owner);

  // Takes effect between jobs.
  void SetThreads(int threads) { threads_.store(threads, std::memory_order_relaxed); }
  int threads() const { return threads_.load(std::memory_order_relaxed); }

 private:
  friend class RunContext;
  struct Owner {
    Token closing;
    int inFlight = 0;
  };
  struct Job {
    JobOptions options;
    Step step;
    Done done;
    std::shared_ptr<Owner> owner;
  };

  Executor();
  void Loop();
  bool Next(int lowest, std::unique_ptr<Job>* job);
  void Execute(std::unique_ptr<Job> job);
  void Finish(std::unique_ptr<Job> job, std::exception_ptr error);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::deque<std::unique_ptr<Job>> queues_[2];
  std::unordered_map<uint64_t, std::shared_ptr<Owner>> owners_;
  uint64_t nextOwner_ = 1;
  bool stopping_ = false;
  std::atomic<int> urgent_{0};
  std::atomic<int> threads_;
  std::thread thread_;
};

}  // namespace losscape
