import InventoryManifest
import Logging
import ObjectStore

/// Asks the store for the sizes that a manifest does not give, a bounded number at a time and
/// within a bounded time.
struct ChunkSizes {
  struct Size {
    var sizeInBytes: UInt64?
    var eTag: String?
    /// Why the chunk cannot be opened; nil if its size is known.
    var failure: FileSystemError?
  }

  /// The most ETags that are kept. A chunk whose ETag is not kept, and that has no MD5, has the
  /// store asked again when it is opened.
  static let mostETags = 10_000
  /// The time between two lines that tell how far the asking has come.
  static let reportInterval = Duration.seconds(5)
  /// How many times `--read-timeout` the asking takes at most, even if the store keeps answering.
  static let mostTimeouts = 10

  let store: any ChunkStore
  let retries: StoreRetries
  let readTimeout: Duration
  let maxRequests: Int
  let logger: Logger

  /// Asks for the sizes of the chunks that `locations` gives for their indices.
  ///
  /// It ends when the store has given no size for `readTimeout`, or after ten times that; the
  /// chunks that are left cannot be opened.
  ///
  /// - Parameters:
  ///   - known: answers that have come before.
  ///   - give: gets the size of each chunk, or why there is none.
  func ask(
    _ indices: [Int], known: [Int: Result<ResponseHead, StoreError>],
    location: (Int) -> S3Location, take give: (Int, Size) -> Void
  ) {
    guard !indices.isEmpty else { return }
    logger.info(
      "asking the store for the sizes of \(indices.count) chunks, which the manifest does not give")
    var answered = 0
    var lines = SummedLines(logger, what: "chunks whose size the store does not give")
    let clock = retries.clock
    let lastEnd = clock.now + readTimeout * Self.mostTimeouts
    var end = min(lastEnd, clock.now + readTimeout)
    var nextReport = clock.now + Self.reportInterval
    var pending: [(index: Int, S3Location, PendingHead)] = []
    func take(_ answer: Result<ResponseHead, StoreError>, _ index: Int, _ location: S3Location) {
      answered += 1
      switch answer {
      case .success(let head):
        var size = Self.size(head)
        if answered > Self.mostETags { size.eTag = nil }
        give(index, size)
        end = min(lastEnd, clock.now + readTimeout)
        guard size.failure != nil else { return }
        let found = head.contentLength.map { "\($0)" } ?? "none"
        lines.error(
          "\(location): expected a Content-Length of at most \(InventoryManifest.Chunk.maximumSizeInBytes) in the response to HEAD, found \(found); the chunk cannot be opened"
        )
      case .failure(let error):
        lines.error("\(error)")
        // A refusal is an answer too: the store works.
        if !error.isRetryable { end = min(lastEnd, clock.now + readTimeout) }
        give(index, Size(failure: FetchFailure.store(error).fileSystemError))
      }
    }
    func takeFirst() {
      let (index, location, head) = pending.removeFirst()
      take(head.wait(), index, location)
      guard clock.now >= nextReport else { return }
      nextReport = clock.now + Self.reportInterval
      logger.info("the store has answered for \(answered) of \(indices.count) chunks")
    }
    var unasked = 0
    for index in indices {
      let location = location(index)
      if let answer = known[index] {
        take(answer, index, location)
        continue
      }
      if pending.count == max(1, maxRequests) { takeFirst() }
      let remaining = end - clock.now
      guard remaining > .zero else {
        unasked += 1
        give(index, Size(failure: .inputOutput))
        continue
      }
      let head = PendingHead(location, from: store, retries, timeout: remaining)
      pending.append((index, location, head))
    }
    while !pending.isEmpty { takeFirst() }
    lines.finish()
    if unasked > 0 {
      logger.error(
        "the store gave too few sizes within --read-timeout: \(unasked) chunks were not asked about and cannot be opened; mount again when the store works, or set a longer --read-timeout"
      )
    }
  }

  /// The size and ETag in a response to HEAD, or the reason why it has none of use.
  private static func size(_ head: ResponseHead) -> Size {
    let length = head.contentRange?.totalSizeInBytes ?? head.contentLength
    guard let length, length <= InventoryManifest.Chunk.maximumSizeInBytes
    else { return Size(failure: .inputOutput) }
    // Without an ETag the store is asked again when the chunk is opened, which then reports the
    // failure.
    return Size(sizeInBytes: length, eTag: try? head.version())
  }
}

/// Errors of many chunks in a few lines: the first ones in full, the others as a number.
struct SummedLines {
  static let mostLines = 5

  private let logger: Logger
  private let what: String
  private var count = 0

  /// - Parameter what: the plural that names what the lines are about.
  init(_ logger: Logger, what: String) {
    self.logger = logger
    self.what = what
  }

  mutating func error(_ line: @autoclosure () -> String) {
    count += 1
    if count <= Self.mostLines { logger.error("\(line())") }
  }

  /// Logs how many lines were left out.
  func finish() {
    guard count > Self.mostLines else { return }
    logger.error("and \(count - Self.mostLines) more \(what)")
  }
}
