// Accounting of everything that the library allocates in large pieces, by kind of owner
// (buffer, executable, arena, operator, lanczos, trainer), with an optional limit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace losscape {

struct MemoryUse {
  size_t count = 0;
  size_t bytes = 0;
};

struct MemoryReport {
  std::map<std::string, MemoryUse> live;
  size_t bytes = 0;
  size_t peakBytes = 0;
};

MemoryReport ReportMemory();
// Upper limit of all live bytes; 0: none.
void SetMemoryLimit(size_t bytes);

// A block of memory, aligned to 256 bytes, zero-filled, counted while it lives. Throws
// Error{ERR_OUT_OF_MEMORY} that says what was asked for, what is live and where the limit is.
class Allocation {
 public:
  static constexpr size_t kAlignment = 256;

  Allocation() = default;
  // `kind` must outlive the allocation: a string literal.
  Allocation(const char* kind, size_t bytes);
  Allocation(Allocation&& other) noexcept;
  Allocation& operator=(Allocation&& other) noexcept;
  ~Allocation();

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  void Free() noexcept;

  const char* kind_ = nullptr;
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
  size_t mapped_ = 0;  // bytes of the mapping; 0: from the heap
};

constexpr size_t AlignUp(size_t bytes, size_t alignment = Allocation::kAlignment) {
  return (bytes + alignment - 1) / alignment * alignment;
}

}  // namespace losscape
