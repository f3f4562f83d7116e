// Rows of a Lanczos basis.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <vector>

#include "native/cpu/gram_schmidt.h"
#include "native/runtime/memory.h"

namespace losscape {

// Rows of `storage` elements, padded for Gram-Schmidt, in blocks that are allocated as needed and
// never move.
template <typename T>
class Basis {
 public:
  Basis(size_t storage, size_t maxRows) : stride_(PadToBasis(storage)), maxRows_(maxRows) {}

  void Reserve(size_t rows) {
    while (rows_.size() < rows) {
      const size_t bytes = stride_ * sizeof(T);
      const size_t most = std::max<size_t>(1, kBlockBytes / std::max<size_t>(1, bytes));
      const size_t count = std::min(most, std::max(maxRows_, rows) - rows_.size());
      blocks_.emplace_back("lanczos", count * bytes);
      bytes_ += blocks_.back().bytes();
      T* base = reinterpret_cast<T*>(blocks_.back().data());
      for (size_t k = 0; k < count; ++k) rows_.push_back(base + k * stride_);
    }
  }

  T* row(size_t index) const { return rows_[index]; }
  const T* const* rows() const { return rows_.data(); }
  T* const* mutableRows() const { return rows_.data(); }
  size_t count() const { return rows_.size(); }
  size_t stride() const { return stride_; }
  // Any thread.
  size_t Bytes() const { return bytes_; }

 private:
  static constexpr size_t kBlockBytes = size_t{64} << 20;

  size_t stride_;
  size_t maxRows_;
  std::vector<Allocation> blocks_;
  std::vector<T*> rows_;
  std::atomic<size_t> bytes_{0};
};

}  // namespace losscape
