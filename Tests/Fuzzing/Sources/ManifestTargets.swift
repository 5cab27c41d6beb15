import InventoryManifest

@Sendable func fuzzManifest(_ bytes: [UInt8]) {
  do {
    let manifest = try InventoryManifest(decoding: bytes, from: "fuzz")
    let names = ChunkNames.names(forKeys: manifest.chunks.map(\.key))
    check(names.count == manifest.chunks.count, "\(names.count) names")
    check(Set(names).count == names.count, "a name given twice")
    for name in names {
      check(1...255 ~= name.utf8.count, "a name of \(name.utf8.count) bytes")
      check(!name.utf8.contains(UInt8(ascii: "/")) && !name.utf8.contains(0), "'\(name)'")
      check(name != "." && name != "..", "'\(name)'")
    }
    for chunk in manifest.chunks {
      let size = chunk.sizeInBytes ?? 0
      check(size <= InventoryManifest.Chunk.maximumSizeInBytes, "\(size) bytes")
    }
  } catch {
    checkMessage(error)
  }
}

@Sendable func fuzzManifestChecksum(_ bytes: [UInt8]) {
  do {
    let digest = try ManifestChecksum.digest(fromChecksumFile: bytes, at: "fuzz")
    try ManifestChecksum.verify(bytes, is: digest, at: "fuzz")
  } catch {
    checkMessage(error)
  }
}
