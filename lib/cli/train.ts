import { Command } from 'commander'
import { kinds } from '../data/index.js'
import { EXIT } from './exit.js'
import { openDevice, withDryRun } from './options.js'
import { runSession, type Session, withOutputOptions } from './session.js'
import { estimateTraining, sizeWarning } from './train-estimate.js'
import { type TrainFlags, withTrainOptions } from './train-options.js'
import { prepareTraining, summary, trainPrepared } from './train-run.js'

/** `losscape train` */
export function command(): Command {
  return withOutputOptions(withDryRun(withTrainOptions(new Command())))
    .description(
      'Trains a network into a run folder: config.json, model.safetensors, metrics.jsonl. An ' +
        'interrupt (Ctrl-C) saves a checkpoint; the same command with --resume goes on from it, ' +
        'bit for bit. Exit status 1 when the training diverges.',
    )
    .addHelpText(
      'after',
      `
Data sets:
${kinds()
  .map((usage) => `  ${usage}`)
  .join('\n')}

Examples:
  losscape train --model mlp:784-256-256-10 --data mnist:DIR --epochs 2 --seed 1 --out runs/a
  losscape train --model mlp:256-64-10 --data glyphs --activation tanh --out runs/tanh
  losscape train --model mlp:2-32-32-2 --data moons --optimizer adam --epochs 50 --out runs/moons
  losscape train --model vit:patch4,width48,depth3,heads3 --attention karat:G3B --data glyphs \\
    --optimizer adamw --epochs 10 --out runs/karat
  losscape train --resume --out runs/a`,
    )
    .action((flags: TrainFlags, self: Command) =>
      runSession(flags, (session) => train(flags, explicitFlags(self), session)),
    )
}

/** Names of the options that the command line gave. */
function explicitFlags(command: Command): Set<string> {
  const names = Object.keys(command.opts())
  return new Set(names.filter((name) => command.getOptionValueSource(name) === 'cli'))
}

async function train(
  flags: TrainFlags,
  explicit: ReadonlySet<string>,
  session: Session,
): Promise<number> {
  const prepared = await prepareTraining(flags, explicit, session)
  const warning = sizeWarning(prepared)
  if (warning !== null) session.note(warning)
  const device = await openDevice({ ...flags, threads: prepared.threads })
  try {
    if (flags.dryRun) {
      const estimate = await estimateTraining(device, prepared, session.signal)
      session.result(estimate.value, () => estimate.text)
      return EXIT.ok
    }
    const outcome = await trainPrepared(device, prepared, flags, session)
    session.result(outcome, () => `${flags.out}: ${summary(outcome)}`)
    return outcome.status === 'diverged' ? EXIT.failure : EXIT.ok
  } finally {
    device.dispose()
  }
}
