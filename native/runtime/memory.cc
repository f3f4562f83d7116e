#include "native/runtime/memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "native/runtime/error.h"

namespace losscape {

namespace {

// Fresh pages of a mapping are zero already and cost nothing until they are touched.
constexpr size_t kMapFrom = size_t{1} << 20;
constexpr size_t kHugePage = size_t{2} << 20;

class Ledger {
 public:
  void Charge(const char* kind, size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (limit_ > 0 && (bytes > limit_ || report_.bytes > limit_ - bytes)) {
      throw Error(Code::kOutOfMemory, "Expected room for ", bytes, " bytes (", kind, "), but ",
                  report_.bytes, " bytes are live and the limit is ", limit_,
                  ". Dispose what is not needed, or raise the memory limit.");
    }
    MemoryUse& use = report_.live[kind];
    use.count += 1;
    use.bytes += bytes;
    report_.bytes += bytes;
    report_.peakBytes = std::max(report_.peakBytes, report_.bytes);
  }

  void Release(const char* kind, size_t bytes) noexcept {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto use = report_.live.find(kind);
    if (use == report_.live.end()) return;
    use->second.count -= 1;
    use->second.bytes -= bytes;
    report_.bytes -= bytes;
  }

  void SetLimit(size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    limit_ = bytes;
  }

  MemoryReport Report() {
    std::lock_guard<std::mutex> lock(mutex_);
    MemoryReport report = report_;
    for (auto it = report.live.begin(); it != report.live.end();) {
      it = it->second.count == 0 ? report.live.erase(it) : std::next(it);
    }
    return report;
  }

 private:
  std::mutex mutex_;
  MemoryReport report_;
  size_t limit_ = 0;
};

// Never destroyed: buffers of an environment may outlive static destruction.
Ledger& TheLedger() {
  static Ledger* ledger = new Ledger;
  return *ledger;
}

}  // namespace

MemoryReport ReportMemory() { return TheLedger().Report(); }
void SetMemoryLimit(size_t bytes) { TheLedger().SetLimit(bytes); }

Allocation::Allocation(const char* kind, size_t bytes) : kind_(kind), bytes_(bytes) {
  TheLedger().Charge(kind, bytes);
  // A pointer of its own even for no bytes, so that views of empty tensors stay valid.
  const size_t size = AlignUp(std::max<size_t>(bytes, 1));
  if (size < bytes) {
    // AlignUp wrapped around.
  } else if (size >= kMapFrom) {
    void* const pages =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages != MAP_FAILED) {
      data_ = static_cast<uint8_t*>(pages);
      mapped_ = size;
#ifdef MADV_HUGEPAGE
      // Fewer TLB misses in passes over long vectors; failure changes nothing but speed.
      if (size >= 2 * kHugePage) madvise(pages, size, MADV_HUGEPAGE);
#endif
    }
  } else if (void* block = std::aligned_alloc(kAlignment, size)) {
    std::memset(block, 0, size);
    data_ = static_cast<uint8_t*>(block);
  }
  if (!data_) {
    TheLedger().Release(kind, bytes);
    const size_t live = TheLedger().Report().bytes;
    throw Error(Code::kOutOfMemory, "Expected room for ", bytes, " bytes (", kind,
                "), but the system refused it; ", live,
                " bytes of ours are live. Use smaller batches or dispose what is not needed.");
  }
}

Allocation::Allocation(Allocation&& other) noexcept { *this = std::move(other); }

Allocation& Allocation::operator=(Allocation&& other) noexcept {
  if (this != &other) {
    Free();
    kind_ = std::exchange(other.kind_, nullptr);
    data_ = std::exchange(other.data_, nullptr);
    bytes_ = std::exchange(other.bytes_, 0);
    mapped_ = std::exchange(other.mapped_, 0);
  }
  return *this;
}

Allocation::~Allocation() { Free(); }

void Allocation::Free() noexcept {
  if (!data_) return;
  if (mapped_ > 0) {
    munmap(data_, mapped_);
  } else {
    std::free(data_);
  }
  data_ = nullptr;
  TheLedger().Release(kind_, bytes_);
}

}  // namespace losscape
