import * as ops from '../../lib/ops/index.js'
import type { TensorType } from '../../lib/program/types.js'
import type { OperationCase } from './cases.js'

const f32 = (...shape: number[]): TensorType => ({ dtype: 'f32', shape })

/** Entries of the table of operations for convolutions. */
export const CONVOLUTION_CASES: readonly OperationCase[] = [
  {
    name: 'convolution',
    inputs: [f32(2, 3, 4, 5), f32(2, 3, 3, 2)],
    f: (x, w) => ops.tanh(ops.convolution(x, w, { stride: [2, 1], padding: [1, 0] })),
  },
  {
    name: 'convolution-nhwc',
    inputs: [f32(2, 4, 3, 2), f32(3, 2, 3, 3)],
    f: (x, w) => ops.sin(ops.convolution(x, w, { padding: 1, layout: 'nhwc' })),
  },
  {
    name: 'convolution-1x1',
    inputs: [f32(2, 3, 3, 4), f32(2, 4, 1, 1)],
    f: (x, w) => ops.sin(ops.convolution(x, w, { layout: 'nhwc' })),
  },
  {
    name: 'convolution-groups-dilated',
    inputs: [f32(1, 6, 5, 4), f32(4, 3, 2, 2)],
    f: (x, w) =>
      ops.convolution(x, w, {
        groups: 2,
        dilation: [2, 1],
        padding: [
          [1, 0],
          [0, 2],
        ],
      }),
  },
  {
    name: 'convolution-depthwise-1d',
    inputs: [f32(2, 6, 3), f32(3, 1, 3)],
    f: (x, w) =>
      ops.tanh(ops.convolution(x, w, { groups: 3, stride: 2, padding: 1, layout: 'nhwc' })),
  },
  {
    name: 'convolution-3d',
    inputs: [f32(1, 2, 2, 3, 3), f32(2, 2, 1, 2, 2)],
    f: (x, w) => ops.convolution(x, w, { padding: [0, 1, 0] }),
  },
  {
    name: 'convolution-transpose',
    inputs: [f32(2, 3, 2, 2), f32(2, 2, 3, 2)],
    f: (x, w) =>
      ops.tanh(
        ops.convolutionTranspose(x, w, {
          stride: 2,
          padding: [1, 0],
          outputPadding: [1, 0],
          layout: 'nhwc',
        }),
      ),
  },
]
