import { z } from 'zod'

/** Any JSON value. */
const extra = z.looseObject

const normalization = z.object({
  mean: z.array(z.number()).min(1),
  std: z.array(z.number().positive()).min(1),
})

/** `config.json` of a run folder; unknown fields are kept. */
export const runConfigSchema = extra({
  /** How to build the model again: its string, and the options of its family. */
  model: extra({
    model: z.string().min(1),
    input: z.array(z.number().int().positive()).optional(),
    activation: z.string().optional(),
  }),
  /** What it was trained on; mean and std in units of pixel / 255 for pixels. */
  data: extra({
    spec: z.string().optional(),
    samples: z.number().int().positive().optional(),
    normalization,
  }),
  /** The options of train(). */
  training: extra({}),
  seed: z.number().int().nonnegative(),
  /** Of losscape, Node and whatever else made the run. */
  versions: z.record(z.string(), z.string()),
})
