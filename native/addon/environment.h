// One Environment per JavaScript environment (main thread or worker): the executor it holds, its
// promises in flight, and the way back to its thread.
#pragma once

#include <napi.h>

#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "native/runtime/executor.h"

namespace losscape {

// The latest progress of a job; older ones that JavaScript has not seen are dropped.
class Progress {
 public:
  using Report = std::function<void(Napi::Env, const Napi::Function&)>;

  // Any thread. True when a delivery has to be scheduled.
  bool Put(Report report);
  Report Take();

 private:
  std::mutex mutex_;
  Report latest_;
  bool scheduled_ = false;
};

class Environment {
 public:
  // Makes the environment's data and registers its cleanup; call once, from Init.
  static void Open(Napi::Env env);
  static Environment& Of(Napi::Env env);
  ~Environment();

  using Resolve = std::function<Napi::Value(Napi::Env)>;
  // Called with the job's outcome on the executor thread, before JavaScript hears of it: may turn
  // an error into success by returning null.
  using Settle = std::function<std::exception_ptr(std::exception_ptr)>;

  struct Call {
    JobOptions options;
    Resolve resolve;                     // on the JavaScript thread, after success
    Settle settle;                       // may be empty
    Napi::FunctionReference onProgress;  // may be empty
  };

  // `work` may call the reporter to send progress to the call's `onProgress`; empty without one.
  using Reporter = std::function<void(Progress::Report)>;
  Napi::Promise Submit(Call call, std::function<void(RunContext&, const Reporter&)> work);
  Napi::Promise SubmitSteps(Call call, std::function<bool(RunContext&, const Reporter&)> step);

  // Cancels the jobs of this environment and waits for the one that runs; later ones are refused.
  // For the exit of the process: it destroys what running kernels use.
  void Stop() { executor_->Close(owner_); }

  Executor& executor() { return *executor_; }
  std::unordered_map<std::string, Napi::FunctionReference>& constructors() { return constructors_; }

 private:
  struct Pending {
    Napi::Promise::Deferred deferred;
    Resolve resolve;
    Napi::FunctionReference onProgress;
  };

  explicit Environment(Napi::Env env);
  static void Cleanup(Environment* self);
  uint64_t Register(Call* call, Napi::Promise* promise);
  Reporter MakeReporter(uint64_t id, bool wanted);
  Executor::Done MakeDone(uint64_t id, Settle settle);
  using Task = std::function<void(Napi::Env)>;
  // Runs `task` on the JavaScript thread; dropped when the environment is closing.
  void Post(Task task);
  void RunTasks(Napi::Env env);
  static void OnBridge(Napi::Env env, Napi::Function, Environment* self, void*);
  using Bridge = Napi::TypedThreadSafeFunction<Environment, void, &Environment::OnBridge>;
  void Complete(Napi::Env env, uint64_t id, const std::exception_ptr& error);
  void Deliver(Napi::Env env, uint64_t id, Progress& progress);

  Napi::Env env_;
  std::shared_ptr<Executor> executor_;
  uint64_t owner_ = 0;
  // Wakes the JavaScript thread. It carries no data: what it had not delivered would leak with it.
  Bridge bridge_;
  std::mutex mutex_;
  std::deque<Task> tasks_;
  bool closed_ = false;
  uint64_t next_ = 1;
  std::unordered_map<uint64_t, Pending> pending_;  // JavaScript thread only
  std::unordered_map<std::string, Napi::FunctionReference> constructors_;
};

}  // namespace losscape
