import { crc32, deflateRawSync } from 'node:zlib'

/** What a test may make a zip entry say that is not so. */
export interface ZipEntry {
  name: string
  data: Uint8Array
  stored?: boolean
  /** Overrides of the directory's fields. */
  size?: number
  packed?: number
  crc?: number
  offset?: number
  method?: number
  flags?: number
  localName?: string
}

/** A zip file with the entries given, truthful unless told otherwise. */
export function zipFile(entries: readonly ZipEntry[], comment = ''): Uint8Array {
  const parts: Buffer[] = []
  const records: Buffer[] = []
  let offset = 0
  for (const entry of entries) {
    const body = entry.stored ? Buffer.from(entry.data) : deflateRawSync(entry.data)
    const name = Buffer.from(entry.name)
    const localName = Buffer.from(entry.localName ?? entry.name)
    const local = Buffer.alloc(30)
    local.writeUInt32LE(0x04034b50, 0)
    local.writeUInt16LE(localName.length, 26)
    const record = Buffer.alloc(46)
    record.writeUInt32LE(0x02014b50, 0)
    record.writeUInt16LE(entry.flags ?? 0, 8)
    record.writeUInt16LE(entry.method ?? (entry.stored ? 0 : 8), 10)
    record.writeUInt32LE(entry.crc ?? crc32(entry.data), 16)
    record.writeUInt32LE(entry.packed ?? body.length, 20)
    record.writeUInt32LE(entry.size ?? entry.data.length, 24)
    record.writeUInt16LE(name.length, 28)
    record.writeUInt32LE(entry.offset ?? offset, 42)
    parts.push(local, localName, body)
    records.push(record, name)
    offset += local.length + localName.length + body.length
  }
  const directory = Buffer.concat(records)
  const end = Buffer.alloc(22)
  end.writeUInt32LE(0x06054b50, 0)
  end.writeUInt16LE(entries.length, 8)
  end.writeUInt16LE(entries.length, 10)
  end.writeUInt32LE(directory.length, 12)
  end.writeUInt32LE(offset, 16)
  end.writeUInt16LE(comment.length, 20)
  return Uint8Array.from(Buffer.concat([...parts, directory, end, Buffer.from(comment)]))
}
