#include "native/cpu/rotate_rows.h"

#include <algorithm>
#include <vector>

#include "native/cpu/combine.h"
#include "native/runtime/parallel.h"

namespace losscape {
namespace {

// Columns of a tile: 60 f32 rows of them fill half a megabyte, a second-level cache.
constexpr size_t kTile = 2048;

}  // namespace

template <typename T>
void RotateRows(T* const* basis, size_t rows, const double* coefficients, size_t count, size_t n,
                int threads) {
  const size_t tiles = (n + kTile - 1) / kTile;
  ParallelFor(threads, static_cast<int64_t>(tiles), 1, [&](int64_t begin, int64_t end, int) {
    std::vector<T> tile(count * kTile);  // [count, kTile]
    std::vector<const T*> columns(rows);
    for (size_t index = static_cast<size_t>(begin); index < static_cast<size_t>(end); ++index) {
      const size_t at = index * kTile;
      const size_t size = std::min(kTile, n - at);
      for (size_t j = 0; j < rows; ++j) columns[j] = basis[j] + at;
      CombineRows(columns.data(), rows, coefficients, count, tile.data(), kTile, size, 1);
      for (size_t k = 0; k < count; ++k) {
        std::copy_n(tile.data() + k * kTile, size, basis[k] + at);
      }
    }
  });
}

template void RotateRows(float* const*, size_t, const double*, size_t, size_t, int);
template void RotateRows(double* const*, size_t, const double*, size_t, size_t, int);

}  // namespace losscape
