import * as ops from '../../ops/index.js'
import type { Model } from '../model.js'
import { type BackboneSpec, backbone } from './backbone.js'
import { Builder } from './builder.js'
import { type ConvnetConfig, dropped } from './options.js'
import type { Structure } from './structure.js'

/** Backbone → mean over the image → linear `fc`. */
export function classifier(
  name: string,
  config: ConvnetConfig,
  recorded: Readonly<Record<string, unknown>>,
  spec: Omit<BackboneSpec, 'prefix' | 'channels'>,
  rebuild: Structure['rebuild'],
): Model {
  const { input, classes, dropout } = config
  const b = new Builder(config.norm, config.ws)
  const { features, channels } = backbone(b, { ...spec, prefix: '', channels: input[0] })
  const fc = b.linear('fc', classes, channels[channels.length - 1])
  return b.model({
    name,
    input,
    output: [classes],
    random: dropout > 0,
    config: recorded,
    rebuild,
    forward(x, pass) {
      const outputs = features(x, pass)
      const pooled = ops.mean(outputs[outputs.length - 1], [1, 2])
      return fc(dropped(pooled, pass, dropout), pass)
    },
  })
}
