import { LosscapeError } from '../errors.js'
import { formatError } from '../files/errors.js'
import { fromInterleaved, type Image } from './augment/image.js'

/** A decoded picture: rows of interleaved channels. */
export interface DecodedImage {
  readonly width: number
  readonly height: number
  readonly channels: number
  /** [height, width, channels] */
  readonly data: Uint8Array
}

/** Decodes a file's bytes to `channels` channels (1: grey, 3: red, green, blue). */
export type ImageDecoder = (bytes: Uint8Array, channels: 1 | 3) => Promise<DecodedImage>

/**
 * The decoder of the optional package `sharp`: PNG, JPEG, WebP, TIFF, GIF, ..; transparency is
 * dropped, and the orientation of photographs applied.
 *
 * @throws ERR_IO telling the install line when the package is not there
 */
export async function sharpDecoder(
  load: () => Promise<unknown> = () => import('sharp'),
): Promise<ImageDecoder> {
  let sharp: typeof import('sharp')['default']
  try {
    sharp = ((await load()) as typeof import('sharp')).default
  } catch (cause) {
    throw new LosscapeError(
      'ERR_IO',
      'Image files are decoded by the optional package sharp, which could not be loaded: ' +
        'install it with `npm install sharp`, or pass a `decoder` of your own.',
      { cause },
    )
  }
  return async (bytes, channels) => {
    const picture = sharp(bytes).rotate().removeAlpha()
    const wanted = channels === 1 ? picture.grayscale() : picture.toColourspace('srgb')
    const { data, info } = await wanted
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true })
    const { width, height, channels: found } = info
    return { width, height, channels: found, data }
  }
}

/**
 * Decodes one file's bytes to planes.
 * @throws ERR_FORMAT naming the file, when the decoder fails or gives other channels than asked for
 */
export async function decodeImage(
  path: string,
  bytes: Uint8Array,
  channels: 1 | 3,
  decode: ImageDecoder,
): Promise<Image> {
  let decoded: DecodedImage
  try {
    decoded = await decode(bytes, channels)
  } catch (cause) {
    throw formatError(path, {
      expected: 'an image',
      got: cause instanceof Error ? cause.message.trim().replace(/\.$/, '') : String(cause),
      cause,
    })
  }
  const { width, height, data } = decoded
  if (decoded.channels !== channels || data.length !== width * height * channels) {
    throw formatError(path, {
      expected: `${channels} channels of bytes`,
      got: `${decoded.channels} channels, ${data.length} bytes for ${width} x ${height} pixels`,
    })
  }
  return fromInterleaved(data, channels, height, width)
}
