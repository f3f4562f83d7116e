// Vectors in device storage: dot products, norms, scaling, updates, zero padding; f32 and f64.
//
// Arithmetic is f64 and rounds once; sums run over fixed blocks that are added in order, so that
// results do not depend on the thread count. All are bound by memory.
#pragma once

#include <cstddef>
#include <vector>

namespace losscape {

// Element ranges of a vector in device storage that hold numbers, ascending; the rest is padding
// and stays zero, so that dot products and norms need not know about it.
struct Segments {
  std::vector<size_t> offsets;
  std::vector<size_t> lengths;

  // n: elements that are numbers.
  size_t Logical() const;
  // Throws Error{ERR_SHAPE} unless ranges ascend, do not overlap and end within `storage`.
  void Check(size_t storage) const;
};

// sum_i a[i] b[i]
template <typename T>
double Dot(const T* a, const T* b, size_t n, int threads);

// sqrt(sum_i x[i]^2); not finite where an element is not.
template <typename T>
double Norm(const T* x, size_t n, int threads);

// y = factor x, the product rounded once from f64; y may be x.
template <typename T>
void Scale(double factor, const T* x, T* y, size_t n, int threads);

// y += factor x
template <typename T>
void Axpy(double factor, const T* x, T* y, size_t n, int threads);

template <typename T>
void Copy(const T* x, T* y, size_t n, int threads);

template <typename T>
void Zero(T* x, size_t n, int threads);

// sum += x[0] + ... + x[count - 1], in f64 and in that order.
template <typename T>
void AccumulateAll(const T* const* x, size_t count, double* sum, size_t n, int threads);

// y = factor (x[0] + ... + x[count - 1]), summed in f64 in that order; y may be one of them.
template <typename T>
void SumAll(double factor, const T* const* x, size_t count, T* y, size_t n, int threads);

// y = factor x, from f64.
template <typename T>
void Round(double factor, const double* x, T* y, size_t n, int threads);

// Sets every element outside the segments to zero.
template <typename T>
void ZeroPadding(const Segments& segments, T* x, size_t storage);

}  // namespace losscape
