import { attentionStudent, attentionTransferSet } from '../../train/attention-transfer.js'
import { evaluate } from '../../train/evaluate.js'
import type { Experiment } from '../paper.js'
import {
  type Context,
  imageSets,
  network,
  remember,
  remembered,
  short,
  sizesFor,
  trainNetwork,
} from './network.js'
import { type KaratSettings, trainingPart } from './settings.js'

/** A student that only learns what to do with the attention of a trained network. */
export interface TransferResult {
  /** Test accuracies. */
  readonly teacher: number
  readonly student: number
  /** Of the student. */
  readonly parameters: number
}

/** Attention of a trained G3B as constants of a student without queries and keys. */
export const transferExperiment: Experiment<KaratSettings, TransferResult> = {
  title: 'attention transfer',
  weight: 10,
  dependsOn: trainingPart,
  async run(context) {
    const { device, settings, signal } = context
    const sets = await imageSets(context)
    const teacher = network(sets.set, 'g3b', settings)
    const params = remembered(context, 'g3b') ?? (await trainTeacher(context, teacher, sets))
    remember(context, 'g3b', params)
    const teach = (set: typeof sets.set) =>
      attentionTransferSet(device, teacher, params, set, { signal })
    const taught = { set: await teach(sets.set), test: await teach(sets.test) }
    const student = attentionStudent(teacher, sizesFor(sets.set, settings))
    const run = await trainNetwork(context, student, taught, { share: 1 })
    const own = await evaluate(device, teacher, params, sets.test, { signal })
    const last = run.metrics.findLast(({ split }) => split === 'test')
    return {
      teacher: short(own.accuracy ?? 0),
      student: short(last?.accuracy ?? 0),
      parameters: student.size,
    }
  },
}

async function trainTeacher(
  context: Context,
  teacher: ReturnType<typeof network>,
  sets: Awaited<ReturnType<typeof imageSets>>,
) {
  return (await trainNetwork(context, teacher, sets, { share: 0.5 })).params
}
