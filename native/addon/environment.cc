#include "native/addon/environment.h"

#include <utility>

#include "native/addon/errors.h"

namespace losscape {

bool Progress::Put(Report report) {
  std::lock_guard<std::mutex> lock(mutex_);
  latest_ = std::move(report);
  return !std::exchange(scheduled_, true);
}

Progress::Report Progress::Take() {
  std::lock_guard<std::mutex> lock(mutex_);
  scheduled_ = false;
  return std::move(latest_);
}

namespace {

Napi::Error ToJsError(Napi::Env env, const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const Error& e) {
    return losscape::ToJsError(env, CodeName(e.code()), e.what());
  } catch (const std::bad_alloc&) {
    return losscape::ToJsError(env, CodeName(Code::kOutOfMemory),
                               "The native library is out of memory.");
  } catch (const std::exception& e) {
    return losscape::ToJsError(env, CodeName(Code::kNative), e.what());
  } catch (...) {
    return losscape::ToJsError(env, CodeName(Code::kNative),
                               "An unknown native exception was thrown.");
  }
}

// Nobody waits for the outcome: an uncaught exception of the process.
void Uncaught(Napi::Env env, const std::exception_ptr& error) {
  try {
    napi_fatal_exception(env, ToJsError(env, error).Value());
  } catch (const Napi::Error&) {
    // No JavaScript runs any more.
  }
}

}  // namespace

// The class that lib/ registered, so that errors are instances of it wherever they come from.
Napi::Error ToJsError(Napi::Env env, const char* code, const char* message) {
  const Napi::String jsCode = Napi::String::New(env, code);
  const Napi::String jsMessage = Napi::String::New(env, message);
  if (Environment* environment = env.GetInstanceData<Environment>()) {
    const auto found = environment->constructors().find(kErrorClass);
    if (found != environment->constructors().end()) {
      return Napi::Error(env, found->second.Value().New({jsCode, jsMessage}));
    }
  }
  Napi::Error error = Napi::Error::New(env, message);
  error.Set("code", jsCode);
  return error;
}

Environment::Environment(Napi::Env env)
    : env_(env), executor_(Executor::Acquire()), owner_(executor_->OpenOwner()) {
  bridge_ = Bridge::New(env, "losscape", 0, 1, this);
  // An idle bridge must not keep the process alive; jobs in flight do.
  bridge_.Unref(env);
}

Environment::~Environment() = default;

void Environment::Open(Napi::Env env) {
  auto* self = new Environment(env);
  env.SetInstanceData<Environment>(self);
  env.AddCleanupHook(&Environment::Cleanup, self);
}

Environment& Environment::Of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

// The worker is terminated or the process exits: nothing may call back from here on.
void Environment::Cleanup(Environment* self) {
  if (self->closed_) return;
  self->closed_ = true;
  self->executor_->Close(self->owner_);
  self->bridge_.Abort();
  {
    std::lock_guard<std::mutex> lock(self->mutex_);
    self->tasks_.clear();
  }
  self->pending_.clear();
  self->constructors_.clear();
  self->executor_.reset();
}

void Environment::Post(Task task) {
  bool first;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    first = tasks_.empty();
    tasks_.push_back(std::move(task));
  }
  if (first) bridge_.NonBlockingCall();
}

void Environment::OnBridge(Napi::Env env, Napi::Function, Environment* self, void*) {
  // Without an environment the bridge is being torn down.
  if (static_cast<napi_env>(env) != nullptr && !self->closed_) self->RunTasks(env);
}

void Environment::RunTasks(Napi::Env env) {
  std::deque<Task> tasks;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    tasks.swap(tasks_);
  }
  for (const Task& task : tasks) {
    try {
      const Napi::HandleScope scope(env);
      task(env);
    } catch (const Napi::Error&) {
      // A worker that is being terminated runs no more JavaScript: nobody is left to tell.
    } catch (const std::exception&) {
      Uncaught(env, std::current_exception());
    }
  }
}

uint64_t Environment::Register(Call* call, Napi::Promise* promise) {
  if (closed_) throw Error(Code::kAborted, "The environment is closing.");
  const uint64_t id = next_++;
  Napi::Promise::Deferred deferred = Napi::Promise::Deferred::New(env_);
  *promise = deferred.Promise();
  if (pending_.empty()) bridge_.Ref(env_);
  pending_.emplace(id, Pending{deferred, std::move(call->resolve), std::move(call->onProgress)});
  call->options.owner = owner_;
  return id;
}

Environment::Reporter Environment::MakeReporter(uint64_t id, bool wanted) {
  if (!wanted) return nullptr;
  auto progress = std::make_shared<Progress>();
  return [this, id, progress](Progress::Report report) {
    if (!progress->Put(std::move(report))) return;
    Post([this, id, progress](Napi::Env env) { Deliver(env, id, *progress); });
  };
}

Executor::Done Environment::MakeDone(uint64_t id, Settle settle) {
  return [this, id, settle = std::move(settle)](std::exception_ptr error) {
    if (settle) error = settle(error);
    Post([this, id, error](Napi::Env env) { Complete(env, id, error); });
  };
}

Napi::Promise Environment::Submit(Call call,
                                  std::function<void(RunContext&, const Reporter&)> work) {
  const bool wanted = !call.onProgress.IsEmpty();
  Napi::Promise promise;
  const uint64_t id = Register(&call, &promise);
  executor_->Submit(
      call.options,
      [work = std::move(work), reporter = MakeReporter(id, wanted)](RunContext& context) {
        work(context, reporter);
      },
      MakeDone(id, std::move(call.settle)));
  return promise;
}

Napi::Promise Environment::SubmitSteps(Call call,
                                       std::function<bool(RunContext&, const Reporter&)> step) {
  const bool wanted = !call.onProgress.IsEmpty();
  Napi::Promise promise;
  const uint64_t id = Register(&call, &promise);
  executor_->SubmitSteps(
      call.options,
      [step = std::move(step), reporter = MakeReporter(id, wanted)](RunContext& context) {
        return step(context, reporter);
      },
      MakeDone(id, std::move(call.settle)));
  return promise;
}

void Environment::Complete(Napi::Env env, uint64_t id, const std::exception_ptr& error) {
  auto found = pending_.find(id);
  if (found == pending_.end()) return;
  Pending pending = std::move(found->second);
  pending_.erase(found);
  if (pending_.empty()) bridge_.Unref(env);
  if (error) {
    pending.deferred.Reject(ToJsError(env, error).Value());
    return;
  }
  try {
    pending.deferred.Resolve(pending.resolve ? pending.resolve(env) : env.Undefined());
  } catch (const Napi::Error& failure) {
    pending.deferred.Reject(failure.Value());
  } catch (const std::exception&) {
    pending.deferred.Reject(ToJsError(env, std::current_exception()).Value());
  }
}

void Environment::Deliver(Napi::Env env, uint64_t id, Progress& progress) {
  const Progress::Report report = progress.Take();
  auto found = pending_.find(id);
  if (!report || found == pending_.end()) return;
  try {
    report(env, found->second.onProgress.Value());
  } catch (const Napi::Error& failure) {
    // Like any exception in a callback: an uncaught exception of the process.
    napi_fatal_exception(env, failure.Value());
  } catch (const std::exception&) {
    Uncaught(env, std::current_exception());
  }
}

}  // namespace losscape
