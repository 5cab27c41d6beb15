/// What one reader's past reads say about its next ones.
///
/// A reader is *sequential* where its reads continue one another. The kernel's own read-ahead sends
/// up to two requests of 1 MiB at once and several threads may deliver them in either order, so
/// "continue" allows a slack on both sides of the frontier, and counts bytes read rather than
/// distance covered: a reader that hops forward inside the slack without reading what lies between
/// never looks sequential. What was passed over may also be read a little later than that.
///
/// The window ahead of a sequential reader is a multiple of what it has read, so what a reader that
/// stops leaves unread is bounded by a multiple of what it used; a reader that seeks has no window
/// at all. A few streams are followed at once because one handle may be read in several places in
/// turn (a Parquet reader's columns).
struct ReadAhead: Sendable {
  /// The smallest request for a reader that starts at the chunk's first byte: `head` costs this
  /// much.
  static let firstRequestInBytes = 1 << 20

  /// How far past what a stream has read it is fetched, for each byte read. 16 reaches the full
  /// window of a 100 MiB chunk within the first 4 MiB read, which is within two round trips.
  static let windowPerByteRead = 16

  /// A reader that starts elsewhere than at the first byte has come for something: only after this
  /// much read in a row is it taken to go on. It is more than a Parquet reader takes of one column
  /// in one row group.
  private static let seekerProofInBytes = 2 << 20

  private static let slackInBytes = 1 << 20
  private static let streamCount = 4
  /// So far behind the others a request of the kernel may come: it sends several at once, and four
  /// threads take them.
  private static let latestInBytes = 4 << 20
  /// A stream that so many reads passed by has no window until it is read again.
  private static let readsUntilPaused = 32

  struct Stream: Sendable {
    let startOffset: Int
    /// From the chunk's first byte, by a reader that has not looked for its contents before: mostly
    /// it reads all.
    let isOfEverything: Bool
    /// One past the furthest byte read.
    var frontier: Int
    /// Bytes read for the first time.
    var bytesRead: Int
    /// Bytes before the frontier that were passed over.
    var bytesSkipped = 0
    /// Bytes up to here should be present or on their way.
    var target: Int
    /// How much lies between the frontier and the target, at most.
    var windowInBytes: Int
    /// How many reads there had been when it was last read.
    var lastRead = 0

    /// More was read than passed over.
    var isDense: Bool { bytesRead >= bytesSkipped }

    /// Takes in a read that continues the stream: what lies past the frontier is new, what lies
    /// before it fills what was skipped, if anything was; what was read before does not count
    /// again.
    mutating func advance(by read: Range<Int>) {
      let late = min(bytesSkipped, max(0, min(read.upperBound, frontier) - read.lowerBound))
      let new = max(0, read.upperBound - max(read.lowerBound, frontier))
      bytesSkipped += max(0, read.lowerBound - frontier) - late
      bytesRead += late + new
      frontier = max(frontier, read.upperBound)
    }

    /// Whether this stream, from the chunk's first byte, has come to where `other` begins.
    /// Elsewhere the same would make a stream of a reader that goes backwards.
    func precedes(_ other: Stream) -> Bool {
      isOfEverything && frontier == other.startOffset
    }

    mutating func append(_ other: Stream) {
      frontier = other.frontier
      bytesRead += other.bytesRead
      bytesSkipped += other.bytesSkipped
      target = max(target, other.target)
    }
  }

  /// What the reader is believed to have read of the chunk before this one: its window goes on from
  /// there.
  let inheritedBytesRead: Int
  /// Most recently used first.
  private(set) var streams: [Stream] = []
  private var readCount = 0

  init(inheritedBytesRead: Int = 0) { self.inheritedBytesRead = inheritedBytesRead }

  /// Whether the reader was expected, as the next one of a walk.
  var isOfWalk: Bool { inheritedBytesRead > 0 }

  /// By the streams that are followed.
  var bytesRead: Int { streams.reduce(0) { $0 + $1.bytesRead } }

  /// Takes note of a read and moves the target of the stream it belongs to.
  ///
  /// - Parameters:
  ///   - maximumWindowInBytes: what the cache and the connections allow this reader.
  ///   - sizeInBytes: the chunk's length.
  ///   - hasContents: the reader has looked at the chunk's table of contents, and comes for
  ///     something even where it begins at the first byte.
  ///   - endOfUse: where a reader that did not begin at the first byte has what it came for; nil
  ///     where that is not known.
  mutating func note(
    _ read: Range<Int>, maximumWindowInBytes: Int, sizeInBytes: Int, hasContents: Bool = false,
    endOfUse: Int? = nil
  ) {
    guard !read.isEmpty else { return }
    readCount += 1
    var stream: Stream
    if let known = streams.firstIndex(where: { Self.continues($0, read) })
      ?? streams.firstIndex(where: { Self.isLate(read, in: $0) })
    {
      stream = streams.remove(at: known)
      stream.advance(by: read)
    } else {
      stream = Stream(
        startOffset: read.lowerBound, isOfEverything: read.lowerBound == 0 && !hasContents,
        frontier: read.upperBound, bytesRead: read.count, target: read.upperBound, windowInBytes: 0)
      if streams.count == Self.streamCount { streams.removeLast() }
    }
    // The kernel's first two requests of a stream may come in either order.
    if let next = streams.firstIndex(where: { stream.precedes($0) }) {
      stream.append(streams.remove(at: next))
    }
    let isOfEverything = stream.isOfEverything
    if isOfEverything || stream.bytesRead >= Self.seekerProofInBytes, stream.isDense {
      let factor = isOfEverything ? Self.windowPerByteRead : 1
      let grown = max(
        Self.firstRequestInBytes,
        (stream.bytesRead + (isOfEverything ? inheritedBytesRead : 0)) * factor)
      stream.windowInBytes = min(maximumWindowInBytes, grown)
      // As it grows the window of a reader of everything so far begins at the first byte: the same
      // whichever of the kernel's first two requests comes first.
      let end =
        isOfEverything && stream.bytesRead == stream.frontier
        ? min(grown, stream.frontier + maximumWindowInBytes)
        : stream.frontier + stream.windowInBytes
      let limit = isOfEverything ? sizeInBytes : min(sizeInBytes, endOfUse ?? sizeInBytes)
      stream.target = min(limit, max(stream.target, end))
    } else {
      stream.target = max(stream.target, stream.frontier)
    }
    stream.lastRead = readCount
    streams.insert(stream, at: 0)
    for index in streams.indices where readCount - streams[index].lastRead > Self.readsUntilPaused {
      streams[index].target = streams[index].frontier
    }
  }

  /// The stream that read last, if it is being fetched ahead.
  var current: Stream? { streams.first.flatMap { $0.windowInBytes > 0 ? $0 : nil } }

  /// The stream whose window `offset` lies in.
  func stream(at offset: Int) -> Stream? {
    streams.first { $0.startOffset <= offset && offset < $0.target && $0.windowInBytes > 0 }
  }

  /// What is to be fetched ahead of a stream.
  struct Window {
    let bytes: Range<Int>
    /// The same with what lies a little before it, where something was passed over that may be read
    /// yet.
    let bytesToSpare: Range<Int>
    /// What it is cut in parts by.
    let sizeInBytes: Int
  }

  /// The windows that are not empty. Together they have at most `limitInBytes`, which may be less
  /// than when they were opened: the cache is shared with more readers by then.
  func windows(limitInBytes: Int) -> [Window] {
    // Where there is not enough for all, the latest used ones get it: a window of less than a part
    // is none.
    let open = streams.lazy.filter { $0.windowInBytes > 0 && $0.target > $0.frontier }
      .prefix(max(1, limitInBytes / (2 * PartSizing.smallestInBytes)))
    let limit = max(0, limitInBytes) / max(1, open.count)
    return open.map { stream in
      let late =
        stream.bytesSkipped == 0
        ? 0 : min(stream.frontier - stream.startOffset, Self.latestInBytes, limit / 4)
      let end = min(stream.target, stream.frontier + limit - late)
      return Window(
        bytes: stream.frontier..<end, bytesToSpare: stream.frontier - late..<end,
        sizeInBytes: min(stream.windowInBytes, limit))
    }
  }

  /// Stops fetching ahead until the reader reads again: what it waited for failed.
  mutating func pause() {
    for index in streams.indices { streams[index].target = streams[index].frontier }
  }

  /// Whether the read is of something that the stream has passed over a moment ago.
  private static func isLate(_ read: Range<Int>, in stream: Stream) -> Bool {
    stream.bytesSkipped > 0 && read.lowerBound >= stream.startOffset
      && read.upperBound <= stream.frontier
      && read.lowerBound >= stream.frontier - latestInBytes
  }

  private static func continues(_ stream: Stream, _ read: Range<Int>) -> Bool {
    read.lowerBound >= stream.startOffset
      && abs(read.lowerBound - stream.frontier) <= slackInBytes
  }
}
