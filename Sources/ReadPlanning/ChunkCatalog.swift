/// The chunks of a manifest as far as planning needs them: how long they are, and in which orders
/// readers walk them.
///
/// Shells and most parsers take a directory's files in the order of their names; a program that
/// reads the manifest itself takes the manifest's.
public struct ChunkCatalog: Sendable {
  let sizesInBytes: [Int]
  /// Whether readers take columns rather than bytes in a row.
  let isParquet: Bool
  /// Chunk indices in the order of their names.
  private let byName: [Int32]
  /// The inverse: a chunk's place in that order.
  private let nameRank: [Int32]

  public init(names: [String], sizesInBytes: [Int], isParquet: Bool = false) {
    self.init(
      byName: names.indices.sorted { names[$0] < names[$1] }.map { Int32($0) },
      sizesInBytes: sizesInBytes, isParquet: isParquet)
  }

  /// - Parameter byName: the indices of all chunks, in the order of their names.
  public init(byName: [Int32], sizesInBytes: [Int], isParquet: Bool) {
    self.sizesInBytes = sizesInBytes
    self.isParquet = isParquet
    self.byName = byName
    var rank = [Int32](repeating: 0, count: byName.count)
    for (place, index) in byName.enumerated() { rank[Int(index)] = Int32(place) }
    nameRank = rank
  }

  public static let empty = ChunkCatalog(names: [], sizesInBytes: [])

  enum Order: CaseIterable { case name, manifest }

  /// The second chunk by name, after the first.
  func second(after chunk: ChunkID) -> ChunkID? {
    byName.first.map(Int.init) == chunk.index ? successor(of: chunk, in: .name) : nil
  }

  func successor(of chunk: ChunkID, in order: Order) -> ChunkID? {
    guard sizesInBytes.indices.contains(chunk.index) else { return nil }
    switch order {
    case .manifest:
      return chunk.index + 1 < sizesInBytes.count ? ChunkID(index: chunk.index + 1) : nil
    case .name:
      let next = Int(nameRank[chunk.index]) + 1
      return next < byName.count ? ChunkID(index: Int(byName[next])) : nil
    }
  }
}

/// Learns from the chunks that are opened in which order a reader walks them.
///
/// An order is believed when a chunk is opened that follows one of the last few opened in it
/// (several workers share one walk), and given up when something else is opened.
///
/// Whether the chunks are read through is another question, and what is read of those that are lent
/// to the kernel is not heard of. They count as read through after one of the last few was, as far
/// as that was heard, until so many bytes have been lent; then one is not lent, to hear.
struct ChunkWalk: Sendable {
  private static let rememberedCount = 8
  static let mostUnheardInBytes = 128 << 20

  private var recent: [ChunkID] = []
  private(set) var order: ChunkCatalog.Order?
  /// Of chunks that were lent since one was read through, as far as was heard.
  private var unheardInBytes = Self.mostUnheardInBytes
  /// A chunk whose readers are listened to, until one has read it through.
  private var listenedTo: ChunkID?

  /// Whether a chunk that is lent will be read through, too.
  var isBelieved: Bool { unheardInBytes < Self.mostUnheardInBytes }

  func listens(to chunk: ChunkID) -> Bool { chunk == listenedTo }

  mutating func listen(to chunk: ChunkID) { listenedTo = chunk }

  /// Says nothing of the walk if the chunk is not one of the last few.
  mutating func heardReadingThrough(_ chunk: ChunkID) {
    guard recent.contains(chunk) else { return }
    unheardInBytes = 0
    listenedTo = nil
  }

  mutating func lent(_ sizeInBytes: Int) { unheardInBytes += sizeInBytes }

  /// Whether no chunk but this one was ever opened.
  func hasSeenOnly(_ chunk: ChunkID) -> Bool { recent == [chunk] }

  /// - Returns: false for a chunk that is neither one of the last few nor follows one of them.
  mutating func opened(_ chunk: ChunkID, in catalog: ChunkCatalog) -> Bool {
    if recent.last == chunk { return true }
    let followed = ChunkCatalog.Order.allCases.filter { order in
      recent.contains { catalog.successor(of: $0, in: order) == chunk }
    }
    if followed.isEmpty {
      // Opened again: says nothing.
      if recent.contains(chunk) { return true }
      order = nil
    } else if order.map({ !followed.contains($0) }) ?? true {
      order = followed.first
    }
    recent.append(chunk)
    if recent.count > Self.rememberedCount { recent.removeFirst() }
    return !followed.isEmpty
  }
}
