import InventoryManifest
import Logging
import ObjectStore

/// Finds the bucket and the prefix under which a manifest's chunks can be read, by asking the store
/// for a byte of the first chunk.
///
/// The chunks are where the manifest says, unless someone has copied the inventory. A copied
/// manifest still names the bucket of the original, which may be gone, or closed to whoever has the
/// copy.
struct ChunkPlaces {
  struct Place: Equatable {
    var bucket: String
    var keyPrefix: KeyPrefix
  }

  /// What the store says of the first chunk.
  typealias Answer = Result<ResponseHead, StoreError>

  /// The most places that are tried besides the one that the manifest or the flags name.
  static let mostCandidates = 64

  let store: any ChunkStore
  let retries: StoreRetries
  let timeout: Duration
  let maxRequests: Int
  let logger: Logger

  /// Starts the request for a chunk at a place: for its first byte, or by HEAD where there may be
  /// no byte.
  func ask(_ chunk: InventoryManifest.Chunk, at place: Place) -> PendingHead {
    let location = S3Location(bucket: place.bucket, key: place.keyPrefix.applied(to: chunk.key))
    return PendingHead(
      location, firstByte: (chunk.sizeInBytes ?? 0) > 0, from: store, retries, timeout: timeout)
  }

  /// Decides where the chunks are.
  ///
  /// - Parameters:
  ///   - chunks: a few chunks of the manifest, the first one first.
  ///   - named: where the manifest or the flags say that the chunks are.
  ///   - answer: the store's answer to the request for the first chunk there.
  ///   - manifest: where the manifest is; copied chunks are looked for near it. Nil if the flags
  ///     leave nothing to look for.
  /// - Throws: `.chunksUnreadable` if the store refuses all of these chunks at all places.
  func find(
    _ chunks: [InventoryManifest.Chunk], named: Place, _ answer: Answer, near manifest: S3Location?
  ) throws(InventoryLoadError) -> Place {
    guard case .failure(let error) = answer, let first = chunks.first else { return named }
    guard error.isRefusalOfObject else {
      logger.warning("\(error) The inventory is mounted all the same; reading it may fail.")
      return named
    }
    let others = chunks.dropFirst().map { ask($0, at: named) }
    // All are waited for, so that no request is left behind.
    let answers = others.map { $0.wait() }
    if answers.contains(where: { $0.mayBeThere }) {
      logger.warning("\(error) Other chunks can be read; opening this one will fail.")
      return named
    }
    guard let manifest else { throw .chunksUnreadable(error, alsoTried: nil) }
    let candidates = Self.candidates(first.key, besides: named, near: manifest)
    for start in stride(from: 0, to: candidates.count, by: max(1, maxRequests)) {
      let group = candidates[start..<min(candidates.count, start + max(1, maxRequests))]
      let found = group.map { ($0, ask(first, at: $0)) }.map { ($0, $1.wait()) }
      guard let (place, _) = found.first(where: { (try? $1.get()) != nil }) else { continue }
      logger.warning(
        "\(error) The chunks are read from \(Self.description(place, of: first)) instead, which has this one; set \(Self.flags(for: place, instead: named)) to confirm that and silence this warning."
      )
      return place
    }
    throw .chunksUnreadable(error, alsoTried: manifest)
  }

  /// The other places that may have a chunk: its key in the manifest's bucket, and the end of its
  /// key below the manifest's folder and the folders above, the longest end first.
  static func candidates(
    _ key: String, besides named: Place, near manifest: S3Location
  ) -> [Place] {
    var places = [Place(bucket: manifest.bucket, keyPrefix: .unchanged)]
    var keys: Set<String> = [key]
    for dropped in KeyPrefix.droppable(from: key) {
      for folder in KeyPrefix.folders(of: manifest.key) {
        let prefix = KeyPrefix(old: dropped, new: folder)
        // Several combinations may come to the same key.
        guard keys.insert(prefix.applied(to: key)).inserted else { continue }
        places.append(Place(bucket: manifest.bucket, keyPrefix: prefix))
      }
    }
    return Array(places.filter { $0 != named }.prefix(mostCandidates))
  }

  private static func description(
    _ place: Place, of chunk: InventoryManifest.Chunk
  ) -> String {
    let key = place.keyPrefix.applied(to: chunk.key)
    let folder = KeyPrefix.folders(of: key).first ?? ""
    return place.keyPrefix == .unchanged
      ? "the manifest's own bucket \(place.bucket)"
      : "\(S3Location(bucket: place.bucket, key: folder))"
  }

  private static func flags(for place: Place, instead named: Place) -> String {
    var flags: [String] = []
    if place.bucket != named.bucket { flags.append("--bucket \(place.bucket)") }
    if place.keyPrefix != named.keyPrefix {
      flags.append("--key-prefix \(ShellWord.quoted("\(place.keyPrefix)"))")
    }
    return flags.joined(separator: " and ")
  }
}

/// Text as one word of a shell's command line.
private enum ShellWord {
  static func quoted(_ text: String) -> String {
    let plain = text.utf8.allSatisfy { byte in
      byte.isASCIILetterOrDigit || "/=._-+:@,".utf8.contains(byte)
    }
    return plain
      ? text
      : "'"
        + text.split(separator: "'", omittingEmptySubsequences: false)
        .joined(separator: #"'\''"#) + "'"
  }
}

extension UInt8 {
  fileprivate var isASCIILetterOrDigit: Bool {
    let letter = self | 0x20
    return (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(letter)
      || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self)
  }
}

extension StoreError {
  /// Whether the store says that the object or its bucket does not exist or is closed to us.
  var isRefusalOfObject: Bool {
    switch kind {
    case .noSuchKey, .noSuchBucket, .accessDenied: true
    default: false
    }
  }
}

extension Result<ResponseHead, StoreError> {
  /// Whether asking again would not give another answer.
  var isFinal: Bool {
    if case .failure(let error) = self { return !error.isRetryable }
    return true
  }

  /// Whether the answer leaves it possible that the object can be read.
  fileprivate var mayBeThere: Bool {
    guard case .failure(let error) = self else { return true }
    return !error.isRefusalOfObject
  }
}
