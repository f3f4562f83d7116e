// The handle classes of the addon: lib/native.ts tells what each member does.
#pragma once

#include <mutex>

#include "native/addon/handle.h"
#include "native/runtime/buffer.h"
#include "native/runtime/executable.h"
#include "native/runtime/lanczos.h"
#include "native/runtime/operator.h"
#include "native/runtime/token.h"
#include "native/runtime/trainer.h"

namespace losscape {

class TokenHandle : public Handle<TokenHandle, Token> {
 public:
  static constexpr const char* kName = "Token";
  using Handle::Handle;
  static std::vector<Napi::ClassPropertyDescriptor<TokenHandle>> Members();
  Napi::Value Cancel(const Napi::CallbackInfo& info);
};

class BufferHandle : public Handle<BufferHandle, Buffer> {
 public:
  static constexpr const char* kName = "Buffer";
  using Handle::Handle;
  static std::vector<Napi::ClassPropertyDescriptor<BufferHandle>> Members();
  Napi::Value GetBytes(const Napi::CallbackInfo& info);
  Napi::Value Write(const Napi::CallbackInfo& info);
  Napi::Value Read(const Napi::CallbackInfo& info);
  Napi::Value Clear(const Napi::CallbackInfo& info);
};

class ExecutableHandle : public Handle<ExecutableHandle, Executable> {
 public:
  static constexpr const char* kName = "Executable";
  using Handle::Handle;
  static std::vector<Napi::ClassPropertyDescriptor<ExecutableHandle>> Members();
  Napi::Value GetInputBytes(const Napi::CallbackInfo& info);
  Napi::Value GetOutputBytes(const Napi::CallbackInfo& info);
  Napi::Value GetArenaBytes(const Napi::CallbackInfo& info);
  Napi::Value GetUnplannedBytes(const Napi::CallbackInfo& info);
  Napi::Value Describe(const Napi::CallbackInfo& info);
  Napi::Value Run(const Napi::CallbackInfo& info);
};

class OperatorHandle : public Handle<OperatorHandle, NativeOperator> {
 public:
  static constexpr const char* kName = "Operator";
  using Handle::Handle;
  static std::vector<Napi::ClassPropertyDescriptor<OperatorHandle>> Members();
  Napi::Value Apply(const Napi::CallbackInfo& info);
  Napi::Value AddLinear(const Napi::CallbackInfo& info);
  Napi::Value Invalidate(const Napi::CallbackInfo& info);
  Napi::Value GetKeptBytes(const Napi::CallbackInfo& info);
};

// The state machine belongs to the executor thread; JavaScript sees the copy after each step.
struct SharedLanczos {
  std::unique_ptr<NativeLanczos> lanczos;

  void Publish();
  LanczosState Snapshot() const;

 private:
  mutable std::mutex mutex_;
  LanczosState snapshot_;
};

class LanczosHandle : public Handle<LanczosHandle, SharedLanczos> {
 public:
  static constexpr const char* kName = "Lanczos";
  using Handle::Handle;
  static std::vector<Napi::ClassPropertyDescriptor<LanczosHandle>> Members();
  Napi::Value Start(const Napi::CallbackInfo& info);
  Napi::Value Run(const Napi::CallbackInfo& info);
  Napi::Value Current(const Napi::CallbackInfo& info);
  Napi::Value Feed(const Napi::CallbackInfo& info);
  Napi::Value State(const Napi::CallbackInfo& info);
  Napi::Value ReadBasis(const Napi::CallbackInfo& info);
  Napi::Value WriteBasis(const Napi::CallbackInfo& info);
  Napi::Value Restore(const Napi::CallbackInfo& info);
  Napi::Value Combine(const Napi::CallbackInfo& info);
  Napi::Value Restart(const Napi::CallbackInfo& info);
  Napi::Value Gram(const Napi::CallbackInfo& info);
  Napi::Value Orthogonality(const Napi::CallbackInfo& info);
  Napi::Value GetBasisBytes(const Napi::CallbackInfo& info);

 private:
  Napi::Value ReadRow(const Napi::CallbackInfo& info, bool current);
};

class TrainerHandle : public Handle<TrainerHandle, NativeTrainer> {
 public:
  static constexpr const char* kName = "Trainer";
  using Handle::Handle;
  static std::vector<Napi::ClassPropertyDescriptor<TrainerHandle>> Members();
  Napi::Value Run(const Napi::CallbackInfo& info);
};

}  // namespace losscape
