// Device memory of the CPU, shared by handles and by the jobs in flight that use it.
#pragma once

#include <cstdint>
#include <memory>

#include "native/runtime/memory.h"

namespace losscape {

class Buffer {
 public:
  // 256-byte aligned and zero-filled; throws Error{ERR_OUT_OF_MEMORY}.
  explicit Buffer(size_t bytes, const char* kind = "buffer") : memory_(kind, bytes) {}

  uint8_t* data() const { return memory_.data(); }
  size_t bytes() const { return memory_.bytes(); }

 private:
  Allocation memory_;
};

// A tensor's place in device memory; `offset` in bytes. Keeps the buffer alive.
struct View {
  std::shared_ptr<Buffer> buffer;
  size_t offset = 0;

  template <class T = void>
  T* data() const {
    return reinterpret_cast<T*>(buffer->data() + offset);
  }
  // Bytes from `offset` to the end of the buffer; 0 when the offset lies outside.
  size_t bytes() const {
    return buffer && offset <= buffer->bytes() ? buffer->bytes() - offset : 0;
  }
};

}  // namespace losscape
