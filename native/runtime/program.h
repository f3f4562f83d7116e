// A program as it comes from lib/program/encode.ts: flat numbers and a table of names.
//
//   words: version (1)
//          values,  then per value: dtype, rank, dims...
//          inputs,  value ids...
//          outputs, value ids...
//          nodes,   then per node: name, inputs, ids..., outputs, ids..., attributes,
//                   then per attribute: name, kind (0 numbers, 1 strings), length, items...
//   Names and string items are indices into `names`.
//
// Operations, tensors dense and row-major (T: f32 or f64 unless said otherwise):
//
//   constant      () -> any      numbers data: one number per element, or one that fills
//   reshape       x -> y         same elements; never copies (the planner aliases)
//   fused         x.. -> y..     one pass over an iteration space: numbers shape (rank <= 8);
//                 strides (inputs x rank, in elements, 0 broadcasts), offsets (inputs, elements);
//                 strings ops; numbers code: per instruction (op, a, b, c), op indexing `ops`,
//                 unused operands -1. Registers: 0 .. inputs-1 are the inputs, input count + k is
//                 the result of instruction k. `const` takes its number from numbers consts[a].
//                 numbers results: the register stored to each output; outputs have the elements
//                 of the iteration space in order. Compute type f64 if any operand or result is
//                 f64 or i32, else f32. Comparisons and logic give 1 or 0. Stores to i32 and u8
//                 truncate toward zero and saturate; NaN stores 0.
//                 ops: const neg abs sign exp expm1 log log1p sqrt rsqrt sin cos tanh erf sigmoid
//                 softplus floor round add sub mul div pow max min eq ne lt le gt ge and or not
//                 where(cond, a, b) cast_f32 cast_bf16 cast_f16 cast_i32 cast_u8 isfinite
//                 max/min propagate NaN; sign(0) = 0; round is half to even.
//   matmul        a, b [, c] -> y   y = a b [+ c]; numbers transA, transB (0/1).
//                 a [.., M, K] ([.., K, M] when transA), b [.., K, N] ([.., N, K] when transB),
//                 leading axes broadcast, y [.., M, N]; c has y's shape and may alias it.
//   matmul_pair   a, b, a', b' [, c] -> y   y = a b + a' b' [+ c], each product as large as y;
//                 numbers transA, transB, transA2, transB2.
//   convolution          x, w [, c] -> y    y[n, o, q] = sum over c, t of x[n, c, p] w[o, c, t]
//   convolution_data     dy, w [, c] -> x   with p = q stride - before + t dilation; the others
//   convolution_weights  x, dy [, c] -> w   sum the same terms into x and w; each [+ c].
//                 x [.., N, C, in..], w [.., O, C / groups, kernel..], y [.., N, O, out..]; strings
//                 layout (nchw, or nhwc: channels last in x and y); numbers stride, before, after,
//                 dilation (1 to 3: one per axis of space), groups, size (the result's axes of
//                 space; read from its type). Leading axes broadcast; c may alias the result.
//   reduce        x -> y         strings kind (sum max min), numbers axes (ascending), removed;
//                 sums accumulate in float64 in a fixed order; max/min propagate NaN; i32 allowed
//   transpose     x -> y         numbers perm: y axis i is x axis perm[i]; any dtype
//   concat        x.. -> y       numbers axis; any dtype
//   pad           x -> y         numbers low, high (>= 0, per axis), value; any dtype
//   gather        x [V, ..], i32 index [I..] -> [I.., ..]; any dtype of x; index outside: ERR_RANGE
//   scatter_add   i32 index [I..], u [I.., ..] -> [size, ..]; numbers size; fixed order
//   argmax        x -> i32       numbers axis, removed; the first of equals; NaN wins
//   iota          () -> any      numbers axis
//   softmax       x -> y         last axis; numbers log (0/1)
//   logsumexp     x [.., C] -> [..]
//   simplex_project      x [.., C] -> y [.., C]   nearest point of {y >= 0, sum y = 1}
//   simplex_project_jvp  y [.., C], dx [R, .., C] -> [R, .., C]
//                 1_A (dx - mean_A dx) with A = {y > 0}; symmetric. NaN or +inf in a row: NaN.
//   max_pool          x [N, H, W, C] or [N, C, H, W] -> y, i32 index
//   max_pool_take     t like x (N a multiple), index -> like y
//   max_pool_scatter  g like y (N a multiple), index -> like x
//                 strings layout (nhwc nchw); numbers rows, columns: begin and end of every window
//                 per axis, step: distance of its elements. index: h W + w of the chosen element,
//                 the first of equals; the last NaN wins.
//   resample      x -> y         y[o, p] = sum_h sum_w R[o, h] C[p, w] x[h, w]
//                 layout, rows, columns as above; numbers rowWeights, columnWeights: those of all
//                 windows, in order
//   channel_norm          x.. -> y, moments [L.., N, 3, C] [, mean, variance [L.., C]]
//   channel_norm_vjp      x.., moments, dy -> dx [, dscale1, dshift1] [, dscale2, dshift2]
//                 [, dresidual]
//   channel_norm_jvp      x.., moments, x' [, scale1', ..] [, residual'] [R.., ..] -> y'
//   channel_norm_vjp_jvp  x.., moments, dy, x' [, scale1', ..], dy' [R.., ..] -> dx', ..
//                 x.. = x [L.., N, C, ..] (layout nchw) or [L.., N, .., C] (nhwc) [, mean, variance
//                 [L.., C]] [, rate [L..]] [, warm [L..]] [, scale1, shift1 [L.., C]] [, scale2,
//                 shift2 [L.., C or groups]] [, residual like x]. strings stage1 (none batch
//                 estimate frozen), affine2 (none channel group), order (before after), about (old
//                 batch), layout; numbers groups (0: no second stage), epsilon1, epsilon2, affine1,
//                 warm, through, relu, residual (0/1), lead (axes L). Derivatives have the residual
//                 with relu only. Given statistics that are not finite, or negative variances:
//                 ERR_RANGE.
//   weight_standardize         w_1 .. w_k [O, ..] -> factor r U, each
//   weight_standardize_jvp     w.., v.. [R, O, ..] -> J v, each
//   weight_standardize_vjp_jvp w.., p.. [O, ..], u.. [R, O, ..] [, v.. like u] -> D(J p)[u] + J v
//                 per row of I >= 2 weights: U = w - mean w (numbers center 1; else w) and
//                 r = 1 / sigma (numbers scale 1; else 1). strings form: in sqrt(q + epsilon),
//                 out sqrt(q) + epsilon, max sqrt(max(sum U^2, epsilon)); q: sum U^2 / (I - delta).
//                 numbers factors (one per bank), epsilon, delta, center, scale, straight (0/1: v
//                 is there). Equal weights: U = 0; r = 0 where sigma is 0.
//   random        i32 key [4] -> T   strings kind (uniform normal rademacher), numbers stream.
//                 Philox key (key[0], key[1]), counter (block low, block high, stream, key[2]);
//                 element i is word i % 4 of block i / 4 (rademacher: bit i % 32 of word i / 32).
//   cross_entropy         z [B.., C], t [, w [C]] -> loss [B..], lse [B..]
//   cross_entropy_vjp     z, t [, w], lse, g [B..] -> [B.., C]        g * d loss / d z
//   cross_entropy_jvp     z, t [, w], lse, dz [R, B.., C] -> [R, B..]
//   cross_entropy_vjp_jvp z, t [, w], lse, g, dz [R, B.., C] -> [R, B.., C]
//                 t: i32 [B..] labels, or T [B.., C] probabilities. numbers smoothing (q = (1-s) q
//                 + s/C), ignore (label without loss; NaN or absent: none), weighted (0/1: w is
//                 there). loss = W lse - sum_c w_c q_c z_c with W = sum_c w_c q_c; label outside
//                 [0, C) and not ignored: ERR_RANGE. Small 1 - p keeps relative accuracy: for a
//                 hard label p_y - 1 is computed as -sum of the others.
//   karat_latent          q, k, C [, mask] -> Z [B, H, N, r]
//   karat_latent_vjp      .., dZ -> dq, dk, dC
//   karat_latent_jvp      .., q', k', C' -> Z'
//   karat_latent_vjp_jvp  .., dZ, q', k', C', dZ' -> dq', dk', dC'
//   karat_latent_jvp_jvp  .., q', k', C', q*, k*, C* -> D^2 Z [', *], tangent by tangent
//                 q [B, H, N, D], k [B, H, M, D] (strings layout bnhd: [B, N, H, D], [B, M, H, D]),
//                 C [E, H, J, M, r], sample b of set floor(b E / B), mask u8 or i32 [B, M];
//                 tangents have a leading R. x = scale q.k, Z = sum over keys of nonzero mask and
//                 features j of f_j(x) C. strings basis, base (zero identity silu gelu), layout
//                 (bhnd bnhd); numbers basisNumbers, scale, masked (0/1: mask is there). Features
//                 of a basis with its numbers, then b(x) unless base is zero: fourier G: cos x ..
//                 cos Gx, sin x .. sin Gx; chebyshev n: T_1 .. T_n of tanh x; rbf J, low, high:
//                 e^(-((x - c_j) / h)^2), centers h apart from low to high; bspline k, G, range: G
//                 + k B-splines of degree k on knots 2 range / G apart.
//   karat_edges           q, k, theta [E, H, P, M, r] [, mask [B, M]] -> z [B, H, N, r]
//   karat_edges_vjp       .., g like z                           -> dq, dk, dtheta
//   karat_edges_jvp       .., tq, tk, ttheta [R, ..]             -> [R, B, H, N, r]
//   karat_edges_vjp_jvp   .., g, tq, tk, ttheta, tg [R, ..]      -> tangents of dq, dk, dtheta
//   karat_edges_jvp_jvp   .., tq, tk, ttheta, uq, uk, utheta [R, ..] -> d2 z (t, u) [R, ..]
//                 z_np = sum_m phi(scale q_n . k_m; theta_mp); strings layout (bhnd: q [B, H, N,
//                 D], k [B, H, M, D]; bnhd: [B, N, H, D], [B, M, H, D]), basis (rational
//                 mexican-hat morlet dog meyer shannon; lib/ops/karat-edges-functions.ts has phi
//                 and P); numbers scale, omega (of morlet), masked (0/1: mask is there, u8 or i32,
//                 0 drops a key). Sample b has parameter set floor(b E / B); E divides B.
//   attention         q, k, v [, bias] [, mask] -> o, lse [B.., H, N]
//   attention_vjp     .., o, lse, dO -> dQ, dK, dV [, dBias]
//   attention_jvp     .., o, lse, Q', K', V' [, bias'] -> o', lse'
//   attention_vjp_jvp .., o, lse, dO, Q', K', V' [, bias'], o', lse', dO' -> dQ', dK', dV' [,
//   dBias']
//                 q [B.., H, N, D], k [B.., H, M, D], v and o with E for D; strings layout (bhnd,
//                 or bnhd: [B.., N, H, D]). bias [B.., H, N, M] with axes before N of size 1 where
//                 it is shared; mask u8 or i32 [B.., M], 0: the key takes no part. numbers scale,
//                 causal (0/1: key j for queries i >= j only), bias, mask (0/1: operand is there),
//                 biasActive (0/1: bias' and dBias are there). Tangents may have leading axes
//                 [R..], all the same. o = P V, P = exp(S - lse), S = scale Q K^T + bias; a row
//                 without keys has o = lse = 0. Derivatives take o, lse and their tangents as
//                 given.
#pragma once

#include <string>
#include <vector>

#include "native/runtime/kernel.h"
#include "native/runtime/types.h"

namespace losscape {

struct Program {
  std::vector<TensorType> values;
  std::vector<int> inputs;
  std::vector<int> outputs;
  std::vector<OpSpec> nodes;  // topological order
};

// Checks every length, id, order and size; throws Error{ERR_PROGRAM} or Error{ERR_SHAPE}.
Program DecodeProgram(const std::vector<std::string>& names, const double* words, size_t count);

}  // namespace losscape
