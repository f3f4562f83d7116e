#include "native/runtime/executor.h"

#ifdef __linux__
#include <pthread.h>
#endif

#include <utility>

#include "native/runtime/error.h"
#include "native/runtime/threads.h"

namespace losscape {

namespace {

std::exception_ptr Aborted() {
  return std::make_exception_ptr(Error(Code::kAborted, "The operation was aborted."));
}

}  // namespace

void RunContext::ThrowAborted() { throw Error(Code::kAborted, "The operation was aborted."); }

void RunContext::ServeUrgent() {
  std::unique_ptr<Executor::Job> job;
  while (!Cancelled() && executor_->Next(1, &job)) executor_->Execute(std::move(job));
  if (Cancelled()) ThrowAborted();
}

std::shared_ptr<Executor> Executor::Acquire() {
  static std::mutex mutex;
  static std::weak_ptr<Executor> current;
  std::lock_guard<std::mutex> lock(mutex);
  std::shared_ptr<Executor> executor = current.lock();
  if (!executor) {
    executor.reset(new Executor);
    current = executor;
  }
  return executor;
}

Executor::Executor() : threads_(DefaultThreads()), thread_([this] { Loop(); }) {}

Executor::~Executor() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
  for (auto& queue : queues_) {
    while (!queue.empty()) {
      std::unique_ptr<Job> job = std::move(queue.front());
      queue.pop_front();
      Finish(std::move(job), Aborted());
    }
  }
}

void Executor::Submit(JobOptions options, Work work, Done done) {
  SubmitSteps(
      std::move(options),
      [work = std::move(work)](RunContext& context) {
        work(context);
        return false;
      },
      std::move(done));
}

void Executor::SubmitSteps(JobOptions options, Step step, Done done) {
  auto job = std::make_unique<Job>();
  job->options = std::move(options);
  job->step = std::move(step);
  job->done = std::move(done);
  bool refused = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (job->options.owner != 0) {
      const auto owner = owners_.find(job->options.owner);
      if (owner == owners_.end() || owner->second->closing.Cancelled()) {
        refused = true;
      } else {
        job->owner = owner->second;
      }
    }
    if (!refused) {
      const int lane = job->options.priority > 0 ? 1 : 0;
      queues_[lane].emplace_back();
      if (job->owner) ++job->owner->inFlight;
      queues_[lane].back() = std::move(job);
      if (lane == 1) urgent_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  if (refused) {
    Finish(std::move(job), Aborted());
  } else {
    wake_.notify_one();
  }
}

uint64_t Executor::OpenOwner() {
  std::lock_guard<std::mutex> lock(mutex_);
  const uint64_t id = nextOwner_++;
  owners_[id] = std::make_shared<Owner>();
  return id;
}

void Executor::Close(uint64_t id) {
  std::shared_ptr<Owner> owner;
  std::deque<std::unique_ptr<Job>> waiting;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = owners_.find(id);
    if (found == owners_.end()) return;
    owner = found->second;
    owner->closing.Cancel();
    for (int lane = 0; lane < 2; ++lane) {
      std::deque<std::unique_ptr<Job>> others;
      for (auto& job : queues_[lane]) {
        (job->owner == owner ? waiting : others).push_back(std::move(job));
      }
      if (lane == 1) urgent_.store(static_cast<int>(others.size()), std::memory_order_relaxed);
      queues_[lane].swap(others);
    }
  }
  for (auto& job : waiting) Finish(std::move(job), Aborted());
  std::unique_lock<std::mutex> lock(mutex_);
  idle_.wait(lock, [&] { return owner->inFlight == 0; });
  owners_.erase(id);
}

void Executor::Loop() {
#ifdef __linux__
  pthread_setname_np(pthread_self(), "losscape");
#endif
  for (;;) {
    std::unique_ptr<Job> job;
    {
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [this] { return stopping_ || !queues_[0].empty() || !queues_[1].empty(); });
      if (stopping_) return;
    }
    if (Next(0, &job)) Execute(std::move(job));
  }
}

// Takes the next job of priority >= lowest.
bool Executor::Next(int lowest, std::unique_ptr<Job>* job) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (int lane = 1; lane >= lowest; --lane) {
    if (queues_[lane].empty()) continue;
    *job = std::move(queues_[lane].front());
    queues_[lane].pop_front();
    if (lane == 1) urgent_.fetch_sub(1, std::memory_order_relaxed);
    return true;
  }
  return false;
}

void Executor::Execute(std::unique_ptr<Job> job) {
  RunContext context(threads(), job->options.token.get());
  context.executor_ = this;
  context.closing_ = job->owner ? &job->owner->closing : nullptr;
  context.urgent_ = job->options.priority > 0 ? nullptr : &urgent_;
  std::exception_ptr error;
  try {
    if (context.Cancelled()) RunContext::ThrowAborted();
    if (job->step(context)) {
      std::lock_guard<std::mutex> lock(mutex_);
      // Close takes its jobs out of the queues before it waits: none may come back after that.
      if (!context.Cancelled()) {
        const int lane = job->options.priority > 0 ? 1 : 0;
        queues_[lane].emplace_back();
        queues_[lane].back() = std::move(job);
        if (lane == 1) urgent_.fetch_add(1, std::memory_order_relaxed);
        return;
      }
      error = Aborted();
    }
  } catch (...) {
    error = std::current_exception();
  }
  Finish(std::move(job), error);
}

void Executor::Finish(std::unique_ptr<Job> job, std::exception_ptr error) {
  try {
    job->done(error);
  } catch (...) {
    // Done must not throw; a job that breaks this must not end the process.
  }
  const std::shared_ptr<Owner> owner = std::move(job->owner);
  // What the job holds goes before its owner is told, so that Close means all is released.
  job.reset();
  if (!owner) return;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    --owner->inFlight;
  }
  idle_.notify_all();
}

}  // namespace losscape
