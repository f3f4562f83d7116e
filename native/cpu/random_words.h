// Words of the random streams in native/runtime/random.h, several blocks side by side.
//
//   out[k] = word 4 first + k of the stream, k < 4 blocks
//
// Bound by the ten rounds: two 32 x 32 bit products each per block.
#pragma once

#include <cstddef>
#include <cstdint>

namespace losscape {

// out: [blocks, 4].
void RandomWords(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, uint32_t* out);

// out[k] = uniform 4 first + k, as FillUniforms.
void UniformBlocks(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, float* out);
void UniformBlocks(uint64_t seed, uint64_t stream, uint64_t first, size_t blocks, double* out);

}  // namespace losscape
